@% include "lib.sh" %@
# Prepares the stack's folder on this machine: key pair, list of nodes, ssh configuration.
# Inputs: WORK, STACK, NETWORK (CIDR), NODES (lines: name address role), MEMORY_WANTED (MB in all), SSH_CONFIG and CONNECT (texts).

integer() {
  local a b c d
  IFS=. read -r a b c d <<<"$1"
  echo $(((a << 24) + (b << 16) + (c << 8) + d))
}

# overlap CIDR CIDR
overlap() {
  local shortest=$((${1#*/} < ${2#*/} ? ${1#*/} : ${2#*/}))
  (($(integer "${1%/*}") >> (32 - shortest) == $(integer "${2%/*}") >> (32 - shortest)))
}

# The stack's network is its own, and not one of Vagrant's: Vagrant takes away any of those that it finds unused.
make_network() {
  local own=swarm-site-$STACK present route device advice
  advice="give this stack another one: pulumi config set network 192.168.57.0/24"
  if present=$(docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' "$own" 2>/dev/null); then
    [[ $present == "$NETWORK" ]] || fail "the machines of this stack stand in $present, and a network can't be changed under them; take them down first: make down"
    return 0
  fi
  while read -r route device; do
    [[ $route == */* ]] || continue
    ! overlap "$NETWORK" "$route" || fail "the network $NETWORK overlaps $route on $device of this machine; $advice"
  done < <(ip -4 route | awk '{ for (i = 2; i < NF; i++) if ($i == "dev") print $1, $(i + 1) }')
  words=$(docker network create --subnet "$NETWORK" --label "swarm-site.stack=$STACK" "$own" 2>&1) ||
    fail "the network $NETWORK can't be made: $words; $advice"
}

check_room() {
  local memory disk root
  memory=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
  ((memory >= MEMORY_WANTED)) || fail "the machines need $MEMORY_WANTED MB of memory and $memory MB are free; lower machines.memory or machines.count, or stop something"
  root=$(docker info -f '{{.DockerRootDir}}')
  disk=$(df -Pm "$root" 2>/dev/null | awk 'NR == 2 { print $4 }')
  ((${disk:-4096} >= 2048)) || fail "the machines need 2048 MB of disk below $root and $disk MB are free; make room"
}

for tool in docker vagrant ssh ssh-keygen ip flock; do
  command -v "$tool" >/dev/null || fail "$tool is not installed; run: tools/setup up"
done
docker info >/dev/null || fail "the Docker daemon of this machine does not answer; run: tools/setup up"

mkdir -p "$WORK/machines" "$WORK/locks"
chmod 700 "$WORK"
make_network
[[ -n $(ls -A "$WORK/machines") ]] || check_room

[[ -e $WORK/key.pub ]] || {
  rm -f "$WORK/key"
  ssh-keygen -q -t ed25519 -N '' -C "swarm-site $STACK" -f "$WORK/key" </dev/null
}
mkdir -p "$WORK/authorized_keys"
install -m 644 "$WORK/key.pub" "$WORK/authorized_keys/vagrant"
printf '%s' "$SSH_CONFIG" >"$WORK/ssh_config"
printf '%s' "$CONNECT" >"$WORK/connect"
printf '%s\n' "$NODES" >"$WORK/nodes.new"
mv "$WORK/nodes.new" "$WORK/nodes"

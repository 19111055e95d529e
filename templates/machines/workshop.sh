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

check_network() {
  local own bridge="" route device other
  own=vagrant_network_$NETWORK
  if docker network inspect "$own" >/dev/null 2>&1; then
    bridge=br-$(docker network inspect -f '{{.Id}}' "$own" | cut -c1-12)
    other=$(docker ps -a --filter "network=$own" --format '{{.Names}}' | grep -v "^swarm-site-$STACK-" || true)
    [[ -z $other ]] || fail "the network $NETWORK belongs to ${other//$'\n'/, }; give this stack another one: pulumi config set network 192.168.57.0/24"
  fi
  while read -r route device; do
    [[ $route == */* && $device != "$bridge" ]] || continue
    ! overlap "$NETWORK" "$route" || fail "the network $NETWORK overlaps $route on $device of this machine; give this stack another one: pulumi config set network 192.168.57.0/24"
  done < <(ip -4 route | awk '{ for (i = 2; i < NF; i++) if ($i == "dev") print $1, $(i + 1) }')
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
check_network
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

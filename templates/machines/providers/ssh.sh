# shellcheck shell=bash
# Hosts that exist, reached by the user's own ssh: one is adopted, and given back as it was found.
# Inputs: WORK, STACK; for an adoption also NODE, HOST (words: address user port jump) and PORTS (of the services).

check_host() {
  need docker ssh ssh-keygen flock
  docker info >/dev/null || fail "the Docker daemon of this machine, which makes the images, does not answer; run: tools/setup up"
}

# The hosts have room and a network of their own, and none of them is here.
check_room() { return 0; }
create_network() { return 0; }
remove_network() { return 0; }
leftovers() { return 0; }

# An adoption that was cut off is gone on with.
is_current() { return 0; }

# enter NAME: sets BECOME for its host, or `words` to what ssh said where it does not get in. A connection that is shared
# would keep the words of a jump host to itself.
enter() {
  words=$(timeout --foreground 15 ssh -F "$MACHINES/$1/$MACHINE_SSH_CONFIG" -o ControlPath=none -o ConnectTimeout=14 "$1" id -u </dev/null 2>&1 9>&-) || return 1
  # shellcheck disable=SC2034 # on_node reads it
  if [[ $words == 0 ]]; then BECOME=""; else BECOME=sudo; fi
}

# advice WORDS: what to do about what ssh said, which may be of a jump host.
advice() {
  local address user port jump here key="(host key is known for|Host key for) ([^ ]+) "
  read -r address user port jump <<<"$HOST"
  here="ssh -p $port${jump:+ -J $jump} $user@$address true"
  if [[ $1 == *"IDENTIFICATION HAS CHANGED"* && $1 =~ $key ]]; then
    echo "the host key of ${BASH_REMATCH[2]} is another one than this user's ssh knows: it was made anew, or something stands between. Find out which; if the new key is right, forget the old one: ssh-keygen -R '${BASH_REMATCH[2]}', and add the new one: $here"
  elif [[ $1 =~ $key ]]; then
    echo "the host key of ${BASH_REMATCH[2]} is not known to this user's ssh; look at the fingerprint and add it: $here"
  elif [[ $1 =~ ([^ ]+@[^ ]+):\ Permission\ denied && ${BASH_REMATCH[1]} != "$user@$address" ]]; then
    echo "its jump host ${BASH_REMATCH[1]} takes none of this user's ssh keys; add one there until this gets in: $here"
  elif [[ $1 == *"Permission denied"* ]]; then
    echo "it takes none of this user's ssh keys; add one: ssh-copy-id -p $port${jump:+ -o ProxyJump=$jump} $user@$address"
  else
    echo "it does not answer; see why: $here"
  fi
}

# --- on the host, as root ---------------------------------------------------------------------------------------------

# packages_wanted, on the host: Debian packages of the programs that are not there.
packages_wanted() {
  local program package
  while read -r program package; do
    command -v "$program" >/dev/null || echo "$package"
  done <<<"docker docker.io
curl curl
keepalived keepalived
rsync rsync
sudo sudo"
}

# listens PORT, on the host: some program does.
listens() {
  cat /proc/net/tcp* | awk -v port=":$(printf %04X "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }'
}

# faults NODE PORT…, on the host: what speaks against adopting it, a line each.
faults() {
  local name system port wanted
  name=$(uname -n)
  [[ $name == "$1" ]] || echo "it calls itself $name: a host has its own name in machines.hosts too"
  shift
  if [[ -e $FOLDER_SITE && ! -e $FOLDER_SITE/noting ]]; then echo "it has a $FOLDER_SITE that is of no stack: move that away"; fi
  # shellcheck disable=SC1091
  system=$(. /etc/os-release && echo "$ID")
  wanted=$(packages_wanted)
  if [[ -n $wanted && $system != debian && $system != ubuntu ]]; then
    echo "it is $system, and packages are installed on Debian and Ubuntu alone; install there: ${wanted//$'\n'/ }"
  fi
  if command -v docker >/dev/null; then
    if ! docker info >/dev/null 2>&1; then
      echo "its Docker does not answer; start it there: systemctl start docker"
    else
      [[ $(docker info -f '{{.Swarm.LocalNodeState}}') == inactive ]] || echo "it is in a swarm that is not this stack's"
      [[ $(docker info -f '{{.LiveRestoreEnabled}}') == false ]] || echo "its Docker keeps containers alive over restarts (live-restore), which no swarm allows; switch that off there"
    fi
  elif [[ -n $(find /var/lib/docker /var/lib/containerd -mindepth 1 -print -quit 2>/dev/null) ]]; then
    echo "it has data of a Docker that is not installed, in /var/lib/docker or /var/lib/containerd: move them away"
  fi
  for port in 2377 7946; do
    if listens "$port"; then echo "something listens on its port $port; a Docker that has left a swarm now and then keeps it: systemctl restart docker"; fi
  done
  for port; do
    if listens "$port"; then echo "something listens on its port $port"; fi
  done
}

# debian COMMAND…, on the host: apt-get that asks nothing, and its words only if it fails.
debian() {
  local output
  output=$(DEBIAN_FRONTEND=noninteractive SUDO_FORCE_REMOVE=yes timeout 600 apt-get -q -y -o DPkg::Lock::Timeout=120 \
    -o Acquire::Retries=3 -o APT::Keep-Downloaded-Packages=false -o Dpkg::Options::=--force-confold "$@" </dev/null 2>&1) || {
    echo "apt-get $1 failed: $(tail -n 8 <<<"$output")" >&2
    return 1
  }
  printf '%s\n' "$output"
}

in_group() { [[ " $(id -nG "$1") " == *" docker "* ]]; }

# changes USER, on the host: what an adoption is going to put there, a line each: KIND NAME. It is taken back from this list.
changes() {
  local wanted path
  mapfile -t wanted < <(packages_wanted)
  if ((${#wanted[@]} > 0)); then
    apt-get -s install --no-install-recommends "${wanted[@]}" | awk '$1 == "Inst" && $3 !~ /^\[/ { print "package", $2 }'
  fi
  [[ $1 == root ]] || in_group "$1" || echo "member $1"
  if command -v docker >/dev/null; then
    docker network inspect docker_gwbridge >/dev/null 2>&1 || echo "network docker_gwbridge"
    return 0
  fi
  getent group docker >/dev/null || echo "group docker"
  for path in /etc/docker/daemon.json /etc/docker/key.json; do
    [[ -e $path ]] || echo "file $path"
  done
  for path in /etc/docker /etc/cni /var/lib/docker /var/lib/containerd; do
    [[ -e $path ]] || echo "folder $path"
  done
  for path in /var/lib/docker /var/lib/containerd; do
    [[ ! -e $path ]] || stat -c 'data %n %a' "$path"
  done
  echo "forwarding $(cat /proc/sys/net/ipv4/ip_forward)"
  if command -v iptables >/dev/null; then iptables -S FORWARD | awk '$1 == "-P" { print "policy", $3 }'; else echo "policy ACCEPT"; fi
}

# docker_is_new, on the host: it was not there before.
docker_is_new() { [[ -n $(noted forwarding) ]]; }

# adopt NODE OWNER WHOSE USER RELEASE DAEMON PORT…, on the host: makes a node of it. OWNER tells whose it is, WHOSE says that in words,
# RELEASE is the script that gives the host back, DAEMON the settings of a Docker that the adoption installs.
adopt() {
  local notes=$FOLDER_HOST name=$1 owner=$2 whose=$3 user=$4 release=$5 daemon=$6 against packages
  shift 6
  umask 022
  if [[ -e $notes/owner && $(cat "$notes/owner") != "$owner" ]]; then
    echo "it belongs to $(cat "$notes/whose"); take it down there, or, if that is gone for good, run on the host: sudo bash $notes/release" >&2
    exit 1
  fi
  if [[ ! -e $notes ]]; then
    against=$(faults "$name" "$@")
    if [[ -n $against ]]; then
      printf '%s\n' "$against" >&2
      exit 1
    fi
    if [[ -n $(packages_wanted) ]]; then debian update; fi
    # Written whole or not at all, before the first change.
    rm -rf "$FOLDER_SITE/noting"
    mkdir -p "$FOLDER_SITE/noting"
    changes "$user" >"$FOLDER_SITE/noting/changes"
    echo "$owner" >"$FOLDER_SITE/noting/owner"
    echo "$whose" >"$FOLDER_SITE/noting/whose"
    printf '%s\n' "$release" >"$FOLDER_SITE/noting/release"
    mv -T "$FOLDER_SITE/noting" "$notes"
  fi
  if [[ $(noted file) == */etc/docker/daemon.json* ]]; then
    mkdir -p /etc/docker
    printf '%s\n' "$daemon" >/etc/docker/daemon.json
  fi
  mapfile -t packages < <(noted package)
  if [[ -n ${packages[*]} ]] && ! installed "${packages[@]}"; then
    dpkg --configure -a
    debian install --no-install-recommends --no-upgrade "${packages[@]}"
  fi
  if docker_is_new; then systemctl -q enable --now docker.service 2>&1; fi
  if [[ -n $(noted member) ]]; then usermod -aG docker "$user"; fi
}

# installed NAME…, on the host: all of these packages are, to the end.
installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}\n' "$@" 2>/dev/null | grep -c '^ii') == "$#" ]]; }

versions() {
  # shellcheck disable=SC1091
  (. /etc/os-release && echo "$PRETTY_NAME, Docker $(docker version -f '{{.Server.Version}}')")
}

noted() { awk -v kind="$1" '$1 == kind { print $2 }' "$FOLDER_HOST/changes"; }

# give_back, on the host: undoes what `changes` names, and removes what the services left in a Docker that was there before.
give_back() {
  local packages others member name
  if docker_answers_here; then
    leave_swarm
    remove_containers
    docker image ls --filter reference='localhost/site/*' --filter reference='localhost:1/site-*' --format '{{.Repository}}:{{.Tag}}' | xargs -r docker image rm -f
    noted network | while read -r name; do
      if docker network inspect "$name" >/dev/null 2>&1; then docker network rm "$name"; fi
    done
  elif ! docker_is_new; then
    echo "its Docker does not answer, so nothing can be taken out of it; start it there: systemctl start docker" >&2
    exit 1
  fi
  for member in $(noted member); do
    if in_group "$member"; then gpasswd -d "$member" docker; fi
  done
  mapfile -t packages < <(noted package | while read -r name; do if dpkg-query -s "$name" >/dev/null 2>&1; then echo "$name"; fi; done)
  others=""
  if ((${#packages[@]} > 0)); then others=$(needing "${packages[@]}"); fi
  if [[ -n $others ]]; then
    echo "these packages stay, because ${others//$'\n'/, } would go with them: ${packages[*]}" >&2
  else
    remove_packages "${packages[@]}"
  fi
  # The notes go last: whoever is cut off here begins again.
  find "$FOLDER_SITE" -mindepth 1 -maxdepth 1 ! -name host -exec rm -rf {} +
  rm -rf "$FOLDER_SITE"
}

# docker_answers_here, on the host. Of a swarm without a quorum `docker info` would say nothing for 20 s.
docker_answers_here() { command -v docker >/dev/null && docker version >/dev/null 2>&1; }

# leave_swarm, on the host: with the ports, which whoever adopts it next will need.
leave_swarm() {
  local words try
  if ! words=$(docker swarm leave --force 2>&1); then
    if [[ $words == *"not part of a swarm"* ]]; then return 0; fi
    echo "$words" >&2
    exit 1
  fi
  for ((try = 0; try < 20; try++)); do
    if ! listens 2377 && ! listens 7946; then return 0; fi
    sleep 0.5
  done
  echo "its Docker has left the swarm, and still listens on port 2377 or 7946; it ends when Docker is restarted there: systemctl restart docker" >&2
}

# remove_containers, on the host: the services' own. Docker takes some of them away itself once it has left the swarm.
remove_containers() {
  local try left words
  for ((try = 0; try < 60; try++)); do
    left=$(docker ps -aq --filter "label=$LABEL_PART")
    [[ -n $left ]] || return 0
    words=$(xargs docker rm -fv <<<"$left" 2>&1) || true
    sleep 0.5
  done
  echo "containers of the stack stay: $words" >&2
  return 1
}

# needing NAME…, on the host: other packages that would go with these.
needing() {
  apt-get -s purge "$@" | awk -v names=" $* " '($1 == "Purg" || $1 == "Remv") && !index(names, " " $2 " ") { print $2 }' | sort -u
}

# remove_packages NAME…, on the host: with their data. Docker's own way to purge fails where its folder is a mount.
remove_packages() {
  local name mode
  if docker_is_new; then
    if systemctl cat docker.service >/dev/null 2>&1; then systemctl stop docker.socket docker.service containerd.service; fi
    remove_traces
  fi
  if (($# > 0)); then debian remove "$@"; fi
  while read -r _ name mode; do
    find "$name" -mindepth 1 -delete
    chmod "$mode" "$name"
  done < <(grep '^data ' "$FOLDER_HOST/changes")
  if (($# > 0)); then debian purge "$@"; fi
  for name in $(noted file); do rm -f "$name"; done
  for name in $(noted folder); do rm -rf "$name"; done
  for name in $(noted group); do
    if getent group "$name" >/dev/null; then groupdel "$name"; fi
  done
}

# remove_traces, on the host: what a stopped Docker leaves in the kernel.
remove_traces() {
  local link
  for link in docker0 docker_gwbridge; do
    if [[ -e /sys/class/net/$link ]]; then ip link delete "$link"; fi
  done
  if command -v iptables-save >/dev/null; then
    # Its own chains and bridges, and no others that happen to bear its name.
    iptables-save | grep -v -E '(^:| )DOCKER(-[A-Z0-9-]+)? | DOCKER(-[A-Z0-9-]+)?$|docker0|docker_gwbridge' | sed "s/^:FORWARD DROP /:FORWARD $(noted policy) /" | iptables-restore
  fi
  if [[ $(noted forwarding) == 0 ]]; then echo 0 >/proc/sys/net/ipv4/ip_forward; fi
}

# belongs_to OWNER, on the host: it was adopted, and by this stack.
belongs_to() { [[ -e $FOLDER_HOST/owner && $(cat "$FOLDER_HOST/owner") == "$1" ]]; }

# leave_first OWNER, on the host.
leave_first() {
  if belongs_to "$1" && docker_answers_here; then leave_swarm; fi
}

# release OWNER, on the host: gives it back to its owner.
release() {
  if belongs_to "$1"; then bash "$FOLDER_HOST/release"; fi
}

# --- on this machine --------------------------------------------------------------------------------------------------

# release_script: gives a host back by what stands on the host alone.
release_script() {
  echo "# Gives this host back as the stack found it; run it as root."
  echo "set -euo pipefail"
  declare -p "${!LABEL_@}" "${!FOLDER_@}"
  declare -f noted docker_is_new debian in_group listens docker_answers_here leave_swarm remove_containers needing remove_traces remove_packages give_back
  echo give_back
}

# owner NAME: the stack, as no other one is, and the node that the host is.
owner() { echo "$(cut -d' ' -f2 "$KEY_FILE.pub") $1"; }

create_machine() {
  local log=$MACHINES/$NODE/$MACHINE_LOG user words services
  say "adopting it (log: $log)"
  enter "$NODE" || fail "can't be adopted: $(advice "$words") ($words)"
  on_node "$NODE" true </dev/null >/dev/null 2>&1 ||
    fail "can't be adopted: its user needs sudo without a password; let it, there: echo '$(cut -d' ' -f2 <<<"$HOST") ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/swarm-site"
  read -r _ user _ <<<"$HOST"
  read -ra services <<<"$PORTS"
  # From now on there may be something to take back.
  touch "$MACHINES/$NODE/$MACHINE_ADOPTED"
  words=$(LIMIT=800 on_node "$NODE" adopt "$NODE" "$(owner "$NODE")" "stack $STACK of $(id -un)@$(uname -n)" "$user" \
    "$(release_script)" "$(cat templates/images/node/files/etc/docker/daemon.json)" "${services[@]}" </dev/null 2>&1 >>"$log") ||
    fail "can't be adopted: ${words//$'\n'/; } (log: $log); put it right and run again: make up"
  say "$(on_node "$NODE" versions </dev/null)"
}

# ask NAME FUNCTION: lets the host do it for this stack; shows what it says.
ask() {
  local log=$MACHINES/$1/$MACHINE_LOG words
  words=$(LIMIT=800 on_node "$1" "$2" "$(owner "$1")" </dev/null 2>&1 >>"$log" 8>&-) ||
    fail "can't be given back: $words (log: $log); put it right and run again: make down"
  [[ -z $words ]] || say "$words"
}

remove_machine() {
  local folder=$MACHINES/$1 words
  if [[ -e $folder/$MACHINE_ADOPTED ]]; then
    if enter "$1"; then
      # One after another: Docker keeps a port for good if the others vanish while it tells them that it leaves.
      exec 8>"$LOCKS/hosts"
      flock -w 600 8 || fail "can't be given back: others have not left the swarm within 600 s; run again: make down"
      ask "$1" leave_first
      exec 8>&-
      ask "$1" release
    elif [[ $words == *"Permission denied"* || $words == *"verification failed"* ]]; then
      fail "can't be given back: it answers, and does not let this user in ($words); make ssh get in, and run again: make down"
    else
      say "does not answer (${words##*$'\n'}); what the stack put on it stays, until this runs there: sudo bash $FOLDER_HOST/release"
    fi
    ssh -F "$folder/$MACHINE_SSH_CONFIG" -O exit "$1" >/dev/null 2>&1 || true
  fi
  rm -rf "$folder"
}

# A machine that is not this program's to make is not its to switch.
power() {
  if [[ $2 == state ]]; then echo unknown; fi
}

# shellcheck shell=bash
# Vagrant's docker provider: a machine is a container of this machine's Docker.
# Inputs: WORK, STACK; for the network NETWORK (CIDR), for the room that all machines need MEMORY_WANTED (MB).
. templates/machines/providers/vagrant.sh

refuse_no_daemon() { docker info >/dev/null || fail "the Docker daemon of this machine does not answer; run: tools/setup up"; }

check_host() {
  need docker vagrant ssh ssh-keygen ip flock
  refuse_no_daemon
}

check_room() {
  local disk root
  refuse_little_memory "$MEMORY_WANTED"
  root=$(docker info -f '{{.DockerRootDir}}')
  disk=$(df -Pm "$root" 2>/dev/null | awk 'NR == 2 { print $4 }')
  ((${disk:-4096} >= 2048)) || fail "the machines need 2048 MB of disk below $root and $disk MB are free; make room"
}

# The stack's network is its own, and not one of Vagrant's: Vagrant takes away any of those that it finds unused.
create_network() {
  local own=swarm-site-$STACK present words
  if present=$(docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' "$own" 2>/dev/null); then
    [[ $present == "$NETWORK" ]] || fail "this stack uses network $present, which can't change while its machines exist; first run: make down"
    return 0
  fi
  refuse_overlap "$NETWORK"
  words=$(docker network create --subnet "$NETWORK" --label "$LABEL_STACK=$STACK" "$own" 2>&1) ||
    fail "can't create the network $NETWORK: $words; give this stack another one: pulumi config set network 192.168.57.0/24"
}

remove_network() {
  if docker network inspect "swarm-site-$STACK" >/dev/null 2>&1; then docker network rm "swarm-site-$STACK" >/dev/null; fi
}

# Before it makes a container, Vagrant looks at all that are on this machine, and gives up when one of them, anybody's, goes
# away meanwhile.
overtaken() {
  tail -n 10 "$MACHINES/$NODE/$MACHINE_LOG" | grep -q 'No such object' &&
    ! docker container inspect "swarm-site-$STACK-$NODE" >/dev/null 2>&1
}

create_machine() {
  local log=$MACHINES/$NODE/$MACHINE_LOG try
  say "vagrant up (log: $log)"
  for try in 1 2 3 4 5; do
    if vagrant_up 300; then return 0; fi
    if ((try == 5)) || ! overtaken; then
      fail "vagrant up failed: $(tail -n 15 "$log")
log: $log; run again: make up"
    fi
  done
}

remove_machine() {
  local folder=$MACHINES/$1 container=swarm-site-$STACK-$1
  refuse_no_daemon
  if [[ -e $folder/$MACHINE_SSH_CONFIG ]]; then ssh -F "$folder/$MACHINE_SSH_CONFIG" -O exit "$1" >/dev/null 2>&1 || true; fi
  vagrant_destroy "$1" || say "vagrant destroy failed ($(tail -n 1 "$folder/$MACHINE_LOG")); its container is removed directly"
  if docker container inspect "$container" >/dev/null 2>&1; then docker rm -fv "$container" >/dev/null; fi
  if docker volume inspect "$container" >/dev/null 2>&1; then docker volume rm "$container" >/dev/null; fi
  rm -rf "$folder"
}

leftovers() { docker ps -a --filter "label=$LABEL_STACK=$STACK" --format "{{.Label \"$LABEL_NODE\"}}"; }

power() {
  local container=swarm-site-$STACK-$1
  case $2 in
    state) docker container inspect -f '{{if .State.Running}}on{{else}}off{{end}}' "$container" 2>/dev/null || echo none ;;
    start) docker start "$container" >/dev/null ;;
    off) docker kill "$container" >/dev/null ;;
  esac
}

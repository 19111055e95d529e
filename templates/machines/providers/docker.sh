# shellcheck shell=bash
# Vagrant's docker provider: a machine is a container in the local Docker.
# Inputs: WORK, STACK; for the network NETWORK (CIDR); for the room check MEMORY_WANTED (MB for all machines).
. templates/machines/providers/vagrant.sh
. templates/machines/providers/remove/docker.sh

check_host() {
  need docker vagrant ssh ssh-keygen ip flock
  require_daemon
  require_inotify
}

# require_inotify: a node needs five inotify instances, all owned by root, and most kernels allow 128.
require_inotify() {
  local limit needed=8 name folder is_new=""
  while read -r name _; do
    needed=$((needed + 5))
    is_created "$name" || is_new=yes
  done <<<"$NODES"
  for folder in "${WORK%/*}"/*; do
    if [[ $folder != "$WORK" && $(cat "$folder/provider" 2>/dev/null) == docker ]]; then
      needed=$((needed + 5 * $(find "$folder" -path "*/machines/*/$MACHINE_COMPLETE" | wc -l)))
    fi
  done
  limit=$(cat /proc/sys/fs/inotify/max_user_instances 2>/dev/null || echo "$needed")
  [[ -z $is_new ]] || ((limit >= needed)) ||
    fail "the nodes on this machine need $needed inotify instances, and it allows $limit; to allow more, run as root: sysctl -w fs.inotify.max_user_instances=1024 (/etc/sysctl.d keeps it over a reboot)"
}

check_room() {
  require_memory "$MEMORY_WANTED"
  require_disk "$(docker info -f '{{.DockerRootDir}}')" 2048
}

# create_network: not a Vagrant network: Vagrant removes its own networks when it finds them unused.
create_network() {
  local own=swarm-site-$STACK present output
  if present=$(docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' "$own" 2>/dev/null); then
    [[ $present == "$NETWORK" ]] || fail "this stack uses network $present, which can't change while its machines exist; first run: make down"
    return 0
  fi
  require_free_network
  output=$(docker network create --subnet "$NETWORK" --label "$LABEL_STACK=$STACK" "$own" 2>&1) ||
    fail "can't create the network $NETWORK: $output; give this stack another one: pulumi config set network 192.168.57.0/24"
}

# lost_a_race: before creating a container, Vagrant inspects all on this machine, and fails if any one disappears.
lost_a_race() {
  tail -n 10 "$MACHINES/$NODE/$MACHINE_LOG" | grep -q 'No such object' &&
    ! docker container inspect "swarm-site-$STACK-$NODE" >/dev/null 2>&1
}

create_machine() {
  local log=$MACHINES/$NODE/$MACHINE_LOG try
  say "vagrant up (log: $log)"
  for ((try = 1; try < 5; try++)); do
    if vagrant_up 300; then return 0; fi
    lost_a_race || fail_up "$log"
  done
  vagrant_up 300 || fail_up "$log"
}

power() {
  local container=swarm-site-$STACK-$1
  case $2 in
    state) docker container inspect -f '{{if .State.Running}}on{{else}}off{{end}}' "$container" 2>/dev/null || echo none ;;
    start) docker start "$container" >/dev/null ;;
    off) docker kill "$container" >/dev/null ;;
  esac
}

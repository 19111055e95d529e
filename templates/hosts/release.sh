#!/usr/bin/env bash
# Restores this host to its state before the adoption. Runs on the host as root, where the adoption put it, without
# other files. Argument: `leave` only leaves the swarm.
set -euo pipefail
. templates/hosts/lib.sh

# leave_swarm: returns once its ports are free; the next adoption needs them.
leave_swarm() {
  local output try
  if ! output=$(docker swarm leave --force 2>&1); then
    if [[ $output == *"not part of a swarm"* ]]; then return 0; fi
    echo "$output" >&2
    exit 1
  fi
  for ((try = 0; try < 20; try++)); do
    if ! listens 2377 && ! listens 7946; then return 0; fi
    sleep 0.5
  done
  echo "its Docker left the swarm but still listens on port 2377 or 7946; restart it there: systemctl restart docker" >&2
}

# remove_containers: removes the services' containers. Docker itself removes some after leaving the swarm.
remove_containers() {
  local try left output
  for ((try = 0; try < 60; try++)); do
    left=$(docker ps -aq --filter "label=$LABEL_PART")
    [[ -n $left ]] || return 0
    output=$(xargs docker rm -fv <<<"$left" 2>&1) || true
    sleep 0.5
  done
  echo "can't remove the stack's containers: $output" >&2
  return 1
}

# empty_docker: removes the stack's leftovers from a Docker that stays.
empty_docker() {
  local name
  leave_swarm
  remove_containers
  docker image ls --filter reference='localhost/site/*' --filter reference='localhost:1/site-*' --format '{{.Repository}}:{{.Tag}}' |
    xargs -r docker image rm -f
  for name in $(recorded network); do
    if docker network inspect "$name" >/dev/null 2>&1; then docker network rm "$name"; fi
  done
}

# dependents NAME…: prints other packages that would be removed with these.
dependents() {
  apt-get -s purge "$@" | awk -v names=" $* " '($1 == "Purg" || $1 == "Remv") && !index(names, " " $2 " ") { print $2 }' | sort -u
}

# remove_packages: removes the packages the adoption added, unless others now depend on them.
remove_packages() {
  local name others="" packages=()
  for name in $(recorded package); do
    if dpkg-query -s "$name" >/dev/null 2>&1; then packages+=("$name"); fi
  done
  if ((${#packages[@]} > 0)); then others=$(dependents "${packages[@]}"); fi
  if [[ -n $others ]]; then
    echo "keeping these packages: removing them would also remove ${others//$'\n'/, }: ${packages[*]}" >&2
  else
    purge "${packages[@]}"
  fi
}

# purge NAME…: purges packages with their data. Docker's own purge fails if its folder is a mount.
purge() {
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
  for name in $(recorded file); do rm -f "$name"; done
  for name in $(recorded folder); do rm -rf "$name"; done
  for name in $(recorded group); do
    if getent group "$name" >/dev/null; then groupdel "$name"; fi
  done
}

# remove_firewall: removes our own chains and the unit that restores them.
remove_firewall() {
  local unit
  if [[ -e $FOLDER_FIREWALL/apply ]]; then bash "$FOLDER_FIREWALL/apply" off; fi
  for unit in $(recorded unit); do
    if [[ ! -e /etc/systemd/system/$unit ]]; then continue; fi
    systemctl -q disable --now "$unit"
    rm "/etc/systemd/system/$unit"
    systemctl daemon-reload
  done
}

# remove_traces: removes what a stopped Docker leaves in the kernel.
remove_traces() {
  local link
  for link in docker0 docker_gwbridge; do
    if [[ -e /sys/class/net/$link ]]; then ip link delete "$link"; fi
  done
  if command -v iptables-save >/dev/null; then
    # Only Docker's own chains and bridges, not others whose names merely contain such a word.
    iptables-save | grep -v -E '(^:| )DOCKER(-[A-Z0-9-]+)? | DOCKER(-[A-Z0-9-]+)?$|docker0|docker_gwbridge' |
      sed "s/^:FORWARD DROP /:FORWARD $(recorded policy) /" | iptables-restore
  fi
  if [[ $(recorded forwarding) == 0 ]]; then echo 0 >/proc/sys/net/ipv4/ip_forward; fi
}

if [[ ${1-} == leave ]]; then
  if docker_answers; then leave_swarm; fi
  exit 0
fi

if docker_answers; then
  empty_docker
elif ! docker_is_new; then
  echo "its Docker does not answer, so the stack can't be removed from it; start it there: systemctl start docker" >&2
  exit 1
fi
remove_firewall
for member in $(recorded member); do
  if in_group "$member"; then gpasswd -d "$member" docker; fi
done
remove_packages
# Remove the record last: until then, an interrupted release can be rerun.
find "$FOLDER_SITE" -mindepth 1 -maxdepth 1 ! -path "$FOLDER_HOST" -exec rm -rf {} +
mv -T "$FOLDER_HOST" "$FOLDER_DRAFT"
rm -rf "$FOLDER_SITE"

#!/usr/bin/env bash
# Adopts this host as a node. Runs on the host as root, and resumes an interrupted adoption. Exits with status 3 if it
# refuses the host, which is then unchanged. The last line of its output describes the host.
# Arguments: NODE (name in the settings), OWNER (the stack's identity and the node), WHOSE (the same in readable form), USER
# (login user), RELEASE (text of the release script), DAEMON (settings of a Docker installed by the adoption), PORT…
# (ports of the services).
set -euo pipefail
. templates/hosts/lib.sh

node=$1 owner=$2 whose=$3 user=$4 release=$5 daemon=$6
ports=("${@:7}")

# missing_packages: prints the Debian packages of programs that a node needs and this host lacks.
missing_packages() {
  local program package
  while read -r program package; do
    command -v "$program" >/dev/null || echo "$package"
  done <<<"docker docker.io
curl curl
iptables iptables
rsync rsync
sudo sudo"
}

# refuse LINES
refuse() {
  printf '%s\n' "$1" >&2
  exit 3
}

# obstacles: prints why this host can't be adopted, one reason per line.
obstacles() {
  local name port
  name=$(uname -n)
  [[ $name == "$node" ]] || echo "its host name is $name; use that name in machines.hosts"
  if [[ -e $FOLDER_SITE && ! -e $FOLDER_DRAFT ]]; then echo "$FOLDER_SITE exists but belongs to no stack; move it away"; fi
  package_obstacles
  docker_obstacles
  for port in 2377 7946; do
    if listens "$port"; then echo "its port $port is already in use; a Docker that left a swarm may keep it: systemctl restart docker"; fi
  done
  for port in "${ports[@]}"; do
    if listens "$port"; then echo "its port $port is already in use"; fi
  done
}

package_obstacles() {
  local system packages
  # shellcheck source=/dev/null
  system=$(. /etc/os-release && echo "$ID")
  packages=$(missing_packages)
  if [[ -n $packages && $system != debian && $system != ubuntu ]]; then
    echo "it runs $system, and packages are installed on Debian and Ubuntu only; install them there: ${packages//$'\n'/ }"
  fi
}

docker_obstacles() {
  if ! command -v docker >/dev/null; then
    [[ -z $(find /var/lib/docker /var/lib/containerd -mindepth 1 -print -quit 2>/dev/null) ]] ||
      echo "/var/lib/docker or /var/lib/containerd holds data of a Docker that is no longer installed; move it away"
  elif ! docker info >/dev/null 2>&1; then
    echo "its Docker does not answer; start it there: systemctl start docker"
  else
    [[ $(docker info -f '{{.Swarm.LocalNodeState}}') == inactive ]] || echo "it is a member of another swarm"
    [[ $(docker info -f '{{.LiveRestoreEnabled}}') == false ]] ||
      echo "its Docker keeps containers running across restarts (live-restore), which a swarm does not allow; disable that there"
  fi
}

# changes: prints what the adoption adds, one item per line.
changes() {
  local packages path
  mapfile -t packages < <(missing_packages)
  if ((${#packages[@]} > 0)); then
    apt-get -s install --no-install-recommends "${packages[@]}" | awk '$1 == "Inst" && $3 !~ /^\[/ { print "package", $2 }'
  fi
  echo "unit $UNIT_FIREWALL"
  [[ $user == root ]] || in_group "$user" || echo "member $user"
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

# record: writes the owner first, to tell drafts apart.
record() {
  rm -rf "$FOLDER_DRAFT"
  mkdir -p "$FOLDER_DRAFT"
  echo "$owner" >"$FOLDER_DRAFT/owner"
  echo "$whose" >"$FOLDER_DRAFT/whose"
  printf '%s\n' "$release" >"$FOLDER_DRAFT/release"
  changes >"$FOLDER_DRAFT/changes"
  mv -T "$FOLDER_DRAFT" "$FOLDER_HOST"
}

# add LINES: adds them to the record.
add() {
  { cat "$FOLDER_HOST/changes" && printf '%s\n' "$1"; } >"$FOLDER_HOST/changes.new"
  mv "$FOLDER_HOST/changes.new" "$FOLDER_HOST/changes"
}

# amend: records what the adoption by an earlier version did not need.
amend() {
  local unrecorded found
  unrecorded=$(missing_packages | grep -vxF -f <(recorded package) || true)
  if [[ -n $unrecorded ]]; then
    found=$(package_obstacles)
    [[ -z $found ]] || refuse "$found"
    debian update
    add "$(changes | grep '^package ' | grep -vxF -f "$FOLDER_HOST/changes")"
  fi
  if [[ -z $(recorded unit) ]]; then add "unit $UNIT_FIREWALL"; fi
}

# configure_docker: does not restart a running Docker, which would stop the node's tasks.
configure_docker() {
  local file=/etc/docker/daemon.json
  if [[ $(recorded file) != *"$file"* ]]; then return 0; fi
  if [[ -e $file && $(cat "$file") != "$daemon" ]] && docker_answers; then
    echo "Docker's settings have changed and apply from its next start: systemctl restart docker" >&2
  fi
  mkdir -p "${file%/*}"
  printf '%s\n' "$daemon" >"$file"
}

# are_installed NAME…: all of these packages are completely installed.
are_installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}\n' "$@" 2>/dev/null | grep -c '^ii') == "$#" ]]; }

umask 022
if [[ -e $FOLDER_HOST/owner && $(cat "$FOLDER_HOST/owner") != "$owner" ]]; then
  refuse "it belongs to $(cat "$FOLDER_HOST/whose"); run make down there or, if that stack no longer exists, on the host: sudo bash $FOLDER_HOST/release"
fi
if [[ -e $FOLDER_HOST ]]; then
  printf '%s\n' "$release" >"$FOLDER_HOST/release.new"
  mv "$FOLDER_HOST/release.new" "$FOLDER_HOST/release"
  amend
else
  found=$(obstacles)
  [[ -z $found ]] || refuse "$found"
  if [[ -n $(missing_packages) ]]; then debian update; fi
  record
fi
configure_docker
mapfile -t packages < <(recorded package)
if ((${#packages[@]} > 0)) && ! are_installed "${packages[@]}"; then
  dpkg --configure -a
  debian install --no-install-recommends --no-upgrade "${packages[@]}"
fi
if docker_is_new; then systemctl -q enable --now docker.service 2>&1; fi
if [[ -n $(recorded member) ]]; then usermod -aG docker "$user"; fi
# shellcheck source=/dev/null
(. /etc/os-release && echo "$PRETTY_NAME, Docker $(docker version -f '{{.Server.Version}}')")

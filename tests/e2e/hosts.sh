#!/usr/bin/env bash
# Existing hosts for the tests of provider ssh: containers with systemd, sshd and a user with sudo, on a separate Docker
# network.
#
# usage: hosts.sh make FOLDER CIDR NAME ADDRESS bare|docker [NAME ADDRESS bare|docker…]
#                             returns when the hosts are ready; FOLDER holds the public key, key.pub, and gets the logs
#        hosts.sh remove CIDR removes all hosts of that network, and the network
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)

main() {
  case ${1-} in
    make) make "${@:2}" ;;
    remove) remove "$2" ;;
    *) sed -n 's/^# usage: //p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
  esac
}

label() { echo "swarm-site.test-hosts=$1"; }

network() { echo "test-hosts-${1//[.\/]/-}"; }

make() {
  local folder cidr=$2 image job
  local -a jobs=()
  folder=$(realpath -- "$1")
  shift 2
  image=localhost/site/test-host:$(cat "$ROOT"/tests/e2e/host/* | sha256sum | cut -c 1-12)
  (cd "$ROOT" && IMAGE=$image RECIPE=tests/e2e/host LOG=$folder/image.log .venv/bin/python -m tools.images)
  docker network create --subnet "$cidr" --label "$(label "$cidr")" "$(network "$cidr")" >/dev/null
  while (($# > 0)); do
    (make_one "$folder" "$cidr" "$image" "$1" "$2" "$3") >"$folder/$1.log" 2>&1 &
    jobs+=($!)
    shift 3
  done
  for job in "${jobs[@]}"; do
    wait "$job" || { cat "$folder"/*.log >&2 && exit 1; }
  done
}

make_one() {
  local folder=$1 cidr=$2 image=$3 name=$4 address=$5 kind=$6 container
  container=$(network "$cidr")-$name
  # The same isolation from the kernel as a node created by Vagrant: templates/machines/docker.rb.
  docker run --detach --name "$container" --hostname "$name" --network "$(network "$cidr")" --ip "$address" \
    --label "$(label "$cidr")" --volume "$container:/var/lib/docker" --volume /sys/fs/cgroup:/sys/fs/cgroup:rw \
    --sysctl=net.ipv4.tcp_retries2=4 --memory=1g --cgroupns=host --cap-add=ALL --cap-drop=SYS_RESOURCE \
    --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined --security-opt=systempaths=unconfined \
    --device-cgroup-rule='a *:* rwm' --tmpfs=/run --tmpfs=/run/lock "$image" >/dev/null
  on "$container" 'timeout 60 sh -c "until systemctl is-system-running --wait 2>/dev/null; do sleep 0.2; done"'
  on "$container" 'cat >/home/admin/.ssh/authorized_keys' <"$folder/key.pub"
  apt-config dump | grep '^Acquire::' | on "$container" 'cat >/etc/apt/apt.conf.d/90machine'
  if [[ $kind == docker ]]; then
    on "$container" 'apt-get -q update
      DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends docker.io
      timeout 60 sh -c "until docker info; do sleep 0.2; done"
      tar -c -C / bin/busybox | docker import - owner/thing:1
      docker run --detach --restart always --network none --name owner owner/thing:1 /bin/busybox tail -f /dev/null'
  fi
}

# on CONTAINER COMMANDS: runs commands on a host, as its owner does.
on() { docker exec --interactive "$1" sh -euc "$2"; }

remove() {
  local containers
  mapfile -t containers < <(docker ps -aq --filter "label=$(label "$1")")
  ((${#containers[@]} == 0)) || docker rm -f "${containers[@]}" >/dev/null
  docker volume ls -q --filter "name=$(network "$1")" | xargs -r docker volume rm >/dev/null
  docker network ls -q --filter "label=$(label "$1")" | xargs -r docker network rm >/dev/null
}

main "$@"

# shellcheck shell=bash
# Removes container machines. Inputs: WORK, STACK.
. templates/machines/providers/remove/vagrant.sh

require_daemon() { docker info >/dev/null || fail "the Docker daemon of this machine does not answer; run: tools/setup up"; }

remove_machine() {
  local container=swarm-site-$STACK-$1
  require_daemon
  vagrant_destroy "$1"
  if docker container inspect "$container" >/dev/null 2>&1; then docker rm -fv "$container" >/dev/null; fi
  if docker volume inspect "$container" >/dev/null 2>&1; then docker volume rm "$container" >/dev/null; fi
  rm -rf "${MACHINES:?}/$1"
}

leftovers() { docker ps -a --filter "label=$LABEL_STACK=$STACK" --format "{{.Label \"$LABEL_NODE\"}}"; }

remove_network() {
  if docker network inspect "swarm-site-$STACK" >/dev/null 2>&1; then docker network rm "swarm-site-$STACK" >/dev/null; fi
}

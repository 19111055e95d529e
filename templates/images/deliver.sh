#!/usr/bin/env bash
# Loads the image into this node's Docker if it is missing there, starts a container of it, and loads the images that services
# still run: without those a new node would reject their tasks until they are updated. Inputs: WORK, NODE, IMAGE.
set -euo pipefail
. templates/lib.sh
. templates/swarm/manager.sh

is_present() { on_node "$NODE" docker image inspect "$1" </dev/null >/dev/null 2>&1; }

# archive_of IMAGE: the file on this machine that holds it.
archive_of() {
  local file=${1##*/}
  echo "${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site/images/${file/:/-}.tar"
}

# load_image IMAGE, on the node: loads it from the archive on stdin if it is missing, and starts a container of it that exits
# at once. After a load, older images of that name without a container are removed.
load_image() {
  local output loaded=""
  if ! docker image inspect "$1" >/dev/null 2>&1; then
    output=$(docker load 2>&1) || { echo "docker load of $1 failed: $output" && exit 1; }
    docker image ls "${1%:*}" --format '{{.Repository}}:{{.Tag}}' | grep -vx "$1" | xargs -r -n 1 docker image rm >/dev/null 2>&1 || true
    loaded="loaded $1"
  fi
  output=$(docker run --rm --network none "$1" true 2>&1) || { echo "can't start a container of $1: $output" && exit 1; }
  echo "${loaded:-has $1}"
}

running_images() { docker service ls --format '{{.Image}}' | sort -u; }

archive=$(archive_of "$IMAGE")
if [[ ! -e $archive ]]; then
  # Another machine created it.
  if is_present "$IMAGE"; then archive=/dev/null; else .venv/bin/python -m tools.provide "$IMAGE"; fi
fi
output=$(on_node "$NODE" load_image "$IMAGE" <"$archive" 2>&1) || fail "$output; run again: make up"
say "$output after $SECONDS s"

if [[ -e $CLUSTER_COMPLETE ]] && manager_among_peers; then
  for running in $(on_node "$manager" running_images </dev/null); do
    if ! is_present "$running" && [[ -e $(archive_of "$running") ]]; then
      on_node "$NODE" docker load <"$(archive_of "$running")" >/dev/null
      say "loaded $running, which services still run"
    fi
  done
fi

@% include "lib.sh" %@
@% include "swarm/manager.sh" %@
# Loads the image into this node's Docker where it is missing, starts a container of it, and loads the images that services still run: until they are
# updated, a node without those would refuse their tasks.
# Inputs: WORK, NODE, IMAGE.

present() { on_node "$NODE" docker image inspect "$1" </dev/null >/dev/null 2>&1; }

# archive_of IMAGE: the file that holds it on this machine.
archive_of() {
  local file=${1##*/}
  echo "${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site/images/${file/:/-}.tar"
}

# remove_unused IMAGE, on the node: earlier images of the same name that no container has.
remove_unused() {
  docker image ls "${1%:*}" --format '{{.Repository}}:{{.Tag}}' | grep -vx "$1" | xargs -r -n 1 docker image rm >/dev/null 2>&1 || true
}

running_images() { docker service ls --format '{{.Image}}' | sort -u; }

if ! present "$IMAGE"; then
  archive=$(archive_of "$IMAGE")
  [[ -e $archive ]] || fail "the archive $archive of $IMAGE is gone; make it again: make repair"
  words=$(on_node "$NODE" docker load <"$archive" 2>&1) || fail "docker load of $IMAGE failed: $words"
  on_node "$NODE" remove_unused "$IMAGE" </dev/null
  say "loaded $IMAGE after $SECONDS s"
fi

words=$(on_node "$NODE" docker run --rm --network none "$IMAGE" true </dev/null 2>&1) ||
  fail "can't start a container of $IMAGE: $words"

if [[ -e $WORK/complete ]] && manager_among_peers; then
  for running in $(on_node "$manager" running_images </dev/null); do
    if ! present "$running" && [[ -e $(archive_of "$running") ]]; then
      on_node "$NODE" docker load <"$(archive_of "$running")" >/dev/null
      say "loaded $running, which services still run"
    fi
  done
fi

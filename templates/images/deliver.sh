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

# start IMAGE, on the node: a container that ends at once.
start() {
  local words
  words=$(docker run --rm --network none "$1" true 2>&1) || { echo "can't start a container of $1: $words" && exit 1; }
}

# start_if_present IMAGE, on the node: exit status 2 where the image is missing.
start_if_present() {
  docker image inspect "$1" >/dev/null 2>&1 || exit 2
  start "$1"
}

# load_and_start IMAGE, on the node: from the archive on stdin; earlier images of that name which no container has go.
load_and_start() {
  local words
  words=$(docker load 2>&1) || { echo "docker load of $1 failed: $words" && exit 1; }
  docker image ls "${1%:*}" --format '{{.Repository}}:{{.Tag}}' | grep -vx "$1" | xargs -r -n 1 docker image rm >/dev/null 2>&1 || true
  start "$1"
}

running_images() { docker service ls --format '{{.Image}}' | sort -u; }

status=0
words=$(on_node "$NODE" start_if_present "$IMAGE" </dev/null 2>&1) || status=$?
if ((status == 2)); then
  archive=$(archive_of "$IMAGE")
  [[ -e $archive ]] || fail "the archive $archive of $IMAGE is gone; make it again: make repair"
  words=$(on_node "$NODE" load_and_start "$IMAGE" <"$archive" 2>&1) || fail "$words"
  say "loaded $IMAGE after $SECONDS s"
elif ((status != 0)); then
  fail "$words"
fi

if [[ -e $WORK/complete ]] && manager_among_peers; then
  for running in $(on_node "$manager" running_images </dev/null); do
    if ! present "$running" && [[ -e $(archive_of "$running") ]]; then
      on_node "$NODE" docker load <"$(archive_of "$running")" >/dev/null
      say "loaded $running, which services still run"
    fi
  done
fi

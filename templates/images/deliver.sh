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

# bring IMAGE, on the node: loads it from the archive on stdin where it is missing, and starts a container of it that ends at
# once. What is new there makes earlier images of that name go which no container has.
bring() {
  local words loaded=""
  if ! docker image inspect "$1" >/dev/null 2>&1; then
    words=$(docker load 2>&1) || { echo "docker load of $1 failed: $words" && exit 1; }
    docker image ls "${1%:*}" --format '{{.Repository}}:{{.Tag}}' | grep -vx "$1" | xargs -r -n 1 docker image rm >/dev/null 2>&1 || true
    loaded="loaded $1"
  fi
  words=$(docker run --rm --network none "$1" true 2>&1) || { echo "can't start a container of $1: $words" && exit 1; }
  echo "${loaded:-has $1}"
}

running_images() { docker service ls --format '{{.Image}}' | sort -u; }

archive=$(archive_of "$IMAGE")
if [[ ! -e $archive ]]; then
  present "$IMAGE" || fail "the archive $archive of $IMAGE is gone; make it again: make repair"
  archive=/dev/null
fi
words=$(on_node "$NODE" bring "$IMAGE" <"$archive" 2>&1) || fail "$words"
say "$words after $SECONDS s"

if [[ -e $WORK/complete ]] && manager_among_peers; then
  for running in $(on_node "$manager" running_images </dev/null); do
    if ! present "$running" && [[ -e $(archive_of "$running") ]]; then
      on_node "$NODE" docker load <"$(archive_of "$running")" >/dev/null
      say "loaded $running, which services still run"
    fi
  done
fi

@% include "lib.sh" %@
# Loads the image into this node's Docker where it is missing. Inputs: WORK, NODE, IMAGE.

if on_node "$NODE" docker image inspect "$IMAGE" </dev/null >/dev/null 2>&1; then exit 0; fi
archive=${IMAGE##*/}
archive=${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site/images/${archive/:/-}.tar
[[ -e $archive ]] || fail "the archive $archive of $IMAGE is gone; run: make repair"
words=$(on_node "$NODE" docker load <"$archive" 2>&1) || fail "docker load of $IMAGE failed: $words"
say "loaded $IMAGE after $SECONDS s"

@% include "lib.sh" %@
# Takes the image off this node. Inputs: WORK, NODE, IMAGE.

if made "$NODE"; then
  LIMIT=20 on_node "$NODE" docker image rm --force "$IMAGE" </dev/null >/dev/null 2>&1 ||
    say "$IMAGE stays: the node does not answer, or a container uses it"
fi

@% include "lib.sh" %@
@% include "swarm/manager.sh" %@
# Opens this node to tasks, after a container of the image, with the content mounted, has run on it.
# Inputs: WORK, NODE, IMAGE, MOUNT (the content folder on the node), PROXY (true or false).

words=$(on_node "$NODE" docker run --rm --network none \
  --mount "type=bind,source=$MOUNT,target=$MOUNT,readonly" "$IMAGE" true </dev/null 2>&1) ||
  fail "can't start a container of $IMAGE: $words"

manager=$(living_manager "$NODE") || manager_among_peers || fail "no manager answers to open this node; run: make status"
on_node "$manager" docker node update --availability active --label-add "swarm-site.proxy=$PROXY" "$NODE" </dev/null >/dev/null
say "ready after $SECONDS s"

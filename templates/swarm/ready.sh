@% include "lib.sh" %@
@% include "swarm/manager.sh" %@
# Opens this node to tasks. Inputs: WORK, NODE, PROXY (true or false: whether a proxy has to run on it).

manager=$(living_manager "$NODE") || manager_among_peers || fail "no manager answers to open this node; run: make status"
on_node "$manager" docker node update --availability active --label-add "swarm-site.proxy=$PROXY" "$NODE" </dev/null >/dev/null
rm -f "$WORK/locks/leaving-$NODE"
say "ready after $SECONDS s"

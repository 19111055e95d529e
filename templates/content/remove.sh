@% include "lib.sh" %@
# Takes all releases off this node. Inputs: WORK, NODE.

if made "$NODE"; then
  LIMIT=20 on_node "$NODE" rm -rf /srv/swarm-site/content </dev/null || say "content stays: the node does not answer"
fi

@% include "lib.sh" %@
# Takes the proxy configurations off this node. Inputs: WORK, NODE.

if made "$NODE"; then
  LIMIT=20 on_node "$NODE" rm -rf /srv/swarm-site/proxy </dev/null || say "proxy configurations stay: the node does not answer"
fi

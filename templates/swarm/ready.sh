@% include "lib.sh" %@
# Opens this node to tasks. Inputs: WORK, NODE, PROXY (true or false: whether a proxy has to run on it).

# open_through NAME: as that node, if it manages a swarm with a quorum.
open_through() {
  LIMIT=10 on_node "$1" update_node "$NODE" --availability active --label-add "swarm-site.proxy=$PROXY" </dev/null 2>&1
}

words="no machine is there"
opened() {
  local name
  for name in "$NODE" $(peers); do
    if made "$name" && words=$(open_through "$name"); then return 0; fi
  done
  return 1
}

# A manager that has just come back may make the others elect a leader.
wait_for 30 "a manager that opens it" opened || fail "no manager opens this node ($words); run: make status"
rm -f "$WORK/locks/leaving-$NODE"
say "ready after $SECONDS s"

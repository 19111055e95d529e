#!/usr/bin/env bash
# Activates this node, so that it takes tasks. Inputs: WORK, NODE, PROXY (true or false: whether it runs a proxy).
set -euo pipefail
. templates/lib.sh

# activate_through NAME: activates it through node NAME, if that manages a swarm with a quorum.
activate_through() {
  LIMIT=10 on_node "$1" update_node "$NODE" --availability active --label-add "$LABEL_PROXY=$PROXY" --label-add "$LABEL_DRAINED=" </dev/null 2>&1
}

output="no machine exists"
activate() {
  local name
  for name in "$NODE" $(peers); do
    if is_created "$name" && output=$(activate_through "$name"); then return 0; fi
  done
  return 1
}

# A manager that has just returned may trigger a leader election.
wait_for 30 "a manager to activate it" activate || fail "no manager could activate this node ($output); run: make status"
say "active after $SECONDS s"

#!/usr/bin/env bash
# Removes the whole cluster: tells this run's leaves to skip, and removes the stack's services if a manager answers.
# Inputs: WORK; PPID is the plugin's process, the same for all Commands of a run.
set -euo pipefail
. templates/lib.sh
. templates/swarm/manager.sh

remove_services() {
  docker service ls -q --filter "label=$LABEL_SERVICE" | xargs -r docker service rm
  docker config ls -q --filter "label=$LABEL_SERVICE" | xargs -r docker config rm
}

mkdir -p "$WORK"
echo "$PPID" >"$DISSOLVING"
mapfile -t nodes < <(peers)
if manager=$(living_manager "${nodes[@]}"); then
  LIMIT=20 on_node "$manager" remove_services </dev/null >/dev/null ||
    say "$manager did not remove all services; they go with their nodes"
else
  say "no manager answers; services go with their nodes"
fi
rm -f "$SWARM_STARTED" "$CLUSTER_COMPLETE"

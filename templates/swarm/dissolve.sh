@% include "lib.sh" %@
@% include "swarm/manager.sh" %@
# The whole cluster goes: tells the leaves of this run to skip, and takes this stack's services away where a manager answers.
# Inputs: WORK; PPID is the plugin's process, the same for all Commands of a run.

remove_services() {
  docker service ls -q --filter label=swarm-site | xargs -r docker service rm
  docker config ls -q --filter name=backend-nginx | xargs -r docker config rm
}

mkdir -p "$WORK"
echo "$PPID" >"$WORK/leaving"
mapfile -t nodes < <(peers)
if manager=$(living_manager "${nodes[@]}"); then
  LIMIT=20 on_node "$manager" remove_services </dev/null >/dev/null ||
    say "$manager did not take all services away; they go with their nodes"
else
  say "no manager answers; services go with their nodes"
fi
rm -f "$WORK/swarm" "$WORK/complete"

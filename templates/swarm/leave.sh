@% include "lib.sh" %@
@% include "swarm/manager.sh" %@
# Takes this node out of the swarm in turn: no other node leaves before all that stay are whole again.
# Inputs: WORK, NODE; PPID is the plugin's process, the same for all Commands of a run.

# missing NAME…, on a manager: what is not whole, a line each: a node that stays, or a service with too few tasks. Of a
# service on every proxy node the swarm itself counts only the tasks that it has already made.
missing() {
  local name nodes proxies running
  nodes=$(docker node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}')
  for name; do
    grep -Eq "^$name Ready Active ?(Leader|Reachable)?$" <<<"$nodes" || echo "node $name"
  done
  proxies=$(docker node ls -q | xargs docker node inspect -f '{{.Status.State}} {{.Spec.Availability}} {{index .Spec.Labels "swarm-site.proxy"}}' |
    grep -c '^ready active true$' || true)
  for name in $(docker service ls --filter mode=global --format '{{.Name}}'); do
    running=$(docker service ps "$name" --filter desired-state=running --format '{{.CurrentState}}' | grep -c '^Running' || true)
    ((running >= proxies)) || echo "service $name ($running/$proxies)"
  done
  docker service ls --filter mode=replicated --format '{{.Name}} {{.Replicas}}' |
    awk '{ split($2, tasks, "/"); if (tasks[1] < tasks[2]) print "service " $1 " (" $2 ")" }'
}

whole() { lacking=$(on_node "$manager" missing "${staying[@]}" </dev/null) && [[ -z $lacking ]]; }

# drain NAME, on a manager: no new task there, and the ones there have ended, or 30 s have gone.
drain() {
  local try
  update_node "$1" --availability drain
  for ((try = 0; try < 60; try++)); do
    docker node ps "$1" --format '{{.CurrentState}}' | grep -q '^Running' || return 0
    sleep 0.5
  done
}

# leave_swarm, on the node that leaves.
leave_swarm() {
  [[ $(docker info -f '{{.Swarm.LocalNodeState}}') == inactive ]] || docker swarm leave --force >/dev/null
}

mkdir -p "$WORK/locks"
if [[ -e $WORK/leaving && $(cat "$WORK/leaving") == "$PPID" ]]; then
  say "the whole swarm goes; nothing to hand over"
  exit 0
fi
take_lock "$WORK/locks/leave" 1800
mapfile -t others < <(peers)
# A node whose leave was cut off stays drained until it goes on with it, or is opened again: nobody waits for it.
mapfile -t staying < <(peers | while read -r name; do [[ -e $WORK/locks/leaving-$name ]] || echo "$name"; done)

if ! manager_among_peers; then
  if [[ -e $WORK/complete ]] && living_manager "$NODE" >/dev/null; then
    fail "is the last manager, and without it the swarm is lost; first have three managers (swarm.managers), or take the whole stack down: make down"
  fi
  say "no other manager answers; nobody to tell that this node leaves"
  # Others that merely sleep still have the swarm.
  if [[ ! -e $WORK/complete ]] || ((${#others[@]} == 0)); then rm -f "$WORK/swarm"; fi
  exit 0
fi

alive=""
if answers "$NODE"; then alive=yes; else say "does not answer; its entry is taken out"; fi
# A leave that was cut off may have taken the entry out already.
listed=$(on_node "$manager" entries "$NODE" </dev/null)
# Before the cluster was complete, and after it was dissolved, there is nothing to hand over.
if [[ $alive && $listed && -e $WORK/complete ]]; then
  wait_for 300 "all others to be whole" whole ||
    fail "can't leave: after $(patience 300) s these are not whole: ${lacking//$'\n'/, }; run: make status"
  touch "$WORK/locks/leaving-$NODE"
  on_node "$manager" drain "$NODE" </dev/null
fi
if [[ $alive ]]; then
  if [[ $listed ]]; then on_node "$manager" docker node demote "$NODE" </dev/null >/dev/null; fi
  on_node "$NODE" leave_swarm </dev/null
fi
on_node "$manager" remove_entries "$NODE" </dev/null ||
  fail "left, but its entry is still in the swarm; look: make ssh NODE=$manager, then docker node ls"
rm -f "$WORK/locks/leaving-$NODE"
say "left after $SECONDS s"

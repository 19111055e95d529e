#!/usr/bin/env bash
# Removes this node from the swarm, one at a time: no other node leaves before all remaining ones are healthy again.
# Inputs: WORK, NODE; PPID is the plugin's process, the same for all Commands of a run.
set -euo pipefail
. templates/lib.sh
. templates/swarm/manager.sh

LEAVING="leaving the swarm"

# unhealthy REASON NAME…, on a manager: prints what is missing, one per line: a remaining node, or a service with too few
# tasks. For a global service, the swarm counts only tasks it has already created. After an interrupted leave, a node
# stays drained for that REASON until the leave is rerun or it is activated: nobody waits for it.
unhealthy() {
  local name nodes details proxies running
  nodes=$(docker node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}')
  details=$(docker node ls -q |
    xargs docker node inspect -f "{{.Description.Hostname}} {{.Status.State}} {{.Spec.Availability}} {{index .Spec.Labels \"$LABEL_PROXY\"}} {{index .Spec.Labels \"$LABEL_DRAINED\"}}")
  for name in "${@:2}"; do
    grep -Eq "^$name Ready Active ?(Leader|Reachable)?$" <<<"$nodes" || grep -q "^$name [a-z]* drain [a-z]* $1$" <<<"$details" || echo "node $name"
  done
  proxies=$(grep -c '^[^ ]* ready active true ' <<<"$details" || true)
  for name in $(docker service ls --filter mode=global --format '{{.Name}}'); do
    running=$(docker service ps "$name" --filter desired-state=running --format '{{.CurrentState}}' | grep -c '^Running' || true)
    ((running >= proxies)) || echo "service $name ($running/$proxies)"
  done
  docker service ls --filter mode=replicated --format '{{.Name}} {{.Replicas}}' |
    awk '{ split($2, tasks, "/"); if (tasks[1] < tasks[2]) print "service " $1 " (" $2 ")" }'
}

all_healthy() { missing=$(on_node "$manager" unhealthy "$LEAVING" "${others[@]}" </dev/null) && [[ -z $missing ]]; }

# drain NAME REASON, on a manager: drains it; returns when its tasks have ended, or after 30 s.
drain() {
  local try
  update_node "$1" --availability drain --label-add "$LABEL_DRAINED=$2"
  for ((try = 0; try < 60; try++)); do
    docker node ps "$1" --format '{{.CurrentState}}' | grep -q '^Running' || return 0
    sleep 0.5
  done
}

# leave_swarm, on the leaving node.
leave_swarm() {
  [[ $(docker info -f '{{.Swarm.LocalNodeState}}') == inactive ]] || docker swarm leave --force >/dev/null
}

# survey: finds another manager, whether this node is alive, and its entries, which an interrupted leave may already have
# removed. A node is as good as its Docker: without one it could be demoted and then not leave.
survey() {
  alive=""
  manager_among_peers || return 1
  if is_created "$NODE" && LIMIT=15 on_node "$NODE" docker info </dev/null >/dev/null 2>&1; then alive=yes; fi
  listed=$(on_node "$manager" entries "$NODE" </dev/null) || fail "$manager no longer answers; run this again"
}

mkdir -p "$LOCKS"
if [[ -e $DISSOLVING && $(cat "$DISSOLVING") == "$PPID" ]]; then
  say "the whole swarm is being removed; nothing to hand over"
  exit 0
fi
# Without the list of nodes, nothing proves that no other one is there.
[[ -e $NODES_FILE ]] || fail "the stack's folder $WORK was removed or emptied, and nothing is known of the swarm; write it again: make up"
mapfile -t others < <(peers)

# A node that is dead, or has already left, hands nothing over and takes no turn: the one whose turn it is may be waiting
# for it to come back.
if ! survey || [[ $alive && $listed ]]; then
  take_lock "$LOCKS/leave" 1800
  if ! survey; then
    if [[ -e $CLUSTER_COMPLETE ]] && living_manager "$NODE" >/dev/null; then
      fail "is the only manager; removing it would destroy the swarm. Set swarm.managers to 3 first, or remove the whole stack: make down"
    fi
    say "skipping deregistration: no other manager answers"
    # Other nodes that are merely off still have the swarm.
    if [[ ! -e $CLUSTER_COMPLETE ]] || ((${#others[@]} == 0)); then rm -f "$SWARM_STARTED"; fi
    exit 0
  fi
fi

[[ $alive ]] || say "does not answer, or its Docker does not; removing its entry"
# Before the cluster is complete, and after it was dissolved, there is nothing to hand over.
if [[ $alive && $listed && -e $CLUSTER_COMPLETE ]]; then
  wait_for 300 "all other nodes and services to be healthy" all_healthy ||
    fail "can't leave: still unhealthy after $(scaled 300) s: ${missing//$'\n'/, }; run: make status"
  on_node "$manager" drain "$NODE" "$LEAVING" </dev/null
fi
if [[ $alive ]]; then
  if [[ $listed ]]; then on_node "$manager" docker node demote "$NODE" </dev/null >/dev/null; fi
  on_node "$NODE" leave_swarm </dev/null
fi
on_node "$manager" remove_entries "$NODE" </dev/null ||
  fail "left, but its entry is still in the swarm; look: make ssh NODE=$manager, then docker node ls"
say "left in $SECONDS s"

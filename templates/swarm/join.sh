#!/usr/bin/env bash
# Joins this node to the stack's swarm in its role, drained; does nothing if it is already a member.
# Inputs: WORK, NODE, NODE_ADDRESS, ROLE (manager or worker).
set -euo pipefail
. templates/lib.sh
. templates/swarm/manager.sh

is_member() { [[ $(on_node "$NODE" docker info -f '{{.Swarm.LocalNodeState}}' </dev/null) == active ]]; }

# swarm_request PATH BODY: POST to this node's Docker socket. The body may contain a token, so it uses stdin only.
swarm_request() {
  local answer
  # Docker answers a join within 20 s and continues it in the background.
  answer=$(on_node "$NODE" curl -sS --fail-with-body --unix-socket /var/run/docker.sock \
    -H 'Content-Type: application/json' --data @- "http://docker/swarm/$1" <<<"$2" 2>&1) ||
    { [[ $answer == *"continue in the background"* ]] && wait_for 60 "the join to finish" is_member; } ||
    fail "swarm $1 failed: $answer; run again: make up"
}

# join_token NAME ROLE, on a manager: prints the role's token. Entries of the same name are stale.
join_token() {
  remove_entries "$1"
  docker swarm join-token -q "$2"
}

# change_role COMMAND: promote or demote. A demoted node needs up to 30 s to notice its promotion.
change_role() {
  local seconds=90 output
  manager_among_peers || fail "no other manager answers, so this node can't become a $ROLE; run: make status"
  output=$(on_node "$manager" docker node "$1" "$NODE" </dev/null 2>&1) ||
    fail "$manager could not $1 this node: $output; run again: make up"
  wait_for "$seconds" "the swarm to $1 it" has_role ||
    fail "the swarm did not make this node a $ROLE within $(scaled "$seconds") s; run: make repair"
  say "${1}d to $ROLE in $SECONDS s"
}

has_role() { [[ $ROLE:$(on_node "$NODE" docker info -f '{{.Swarm.ControlAvailable}}' </dev/null) == @(manager:true|worker:false) ]]; }

# is_forgotten ID: this node believes it is a member, but the peers' swarm does not know it.
is_forgotten() {
  local ids
  manager_among_peers && ids=$(on_node "$manager" docker node ls -q </dev/null) && ! grep -qx "$1" <<<"$ids"
}

read -r state manages id < <(on_node "$NODE" docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.NodeID}}' </dev/null)
if [[ $state == active ]] && is_forgotten "$id"; then state=forgotten; fi
if [[ $state:$manages == active:true ]]; then touch "$SWARM_STARTED"; fi
if [[ $state == locked ]] && ! manager_among_peers; then
  # It may hold the last copy of the swarm, which leaving would delete.
  fail "is locked, and no other manager answers; unlock it: make ssh NODE=$NODE, then: sudo docker swarm unlock"
fi
case $state:$ROLE:$manages in
  active:manager:false) change_role promote ;;
  active:worker:true) change_role demote ;;
  active:* | inactive:*) ;;
  *) on_node "$NODE" docker swarm leave --force </dev/null >/dev/null ;;
esac
if [[ $state == active ]]; then exit 0; fi

node="\"ListenAddr\":\"$NODE_ADDRESS:2377\",\"AdvertiseAddr\":\"$NODE_ADDRESS\",\"DataPathAddr\":\"$NODE_ADDRESS\",\"Availability\":\"drain\""
if [[ ! -e $SWARM_STARTED && $ROLE == manager ]]; then
  # The first manager up starts the swarm; the others check again afterwards.
  take_lock "$LOCKS/swarm" "$(scaled 180)"
  if [[ ! -e $SWARM_STARTED ]] && ! manager_among_peers; then
    swarm_request init "{$node}"
    touch "$SWARM_STARTED"
    say "started the swarm"
    exit 0
  fi
  exec 9>&-
elif [[ ! -e $SWARM_STARTED ]]; then
  wait_for 180 "a manager to start the swarm" test -e "$SWARM_STARTED" ||
    fail "no manager started the swarm within $(scaled 180) s; run again: make up"
fi
wait_for 30 "a swarm manager" manager_among_peers ||
  fail "no swarm manager answers, so this node can't join; run: make repair"

token=$(on_node "$manager" join_token "$NODE" "$ROLE" </dev/null) ||
  fail "$manager rejected the join (see above); run again: make up"
swarm_request join "{$node,\"RemoteAddrs\":[\"$(address_of "$manager"):2377\"],\"JoinToken\":\"$token\"}"
say "joined through $manager in $SECONDS s"

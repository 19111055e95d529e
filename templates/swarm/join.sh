@% include "lib.sh" %@
@% include "swarm/manager.sh" %@
# Makes this node a member of the stack's swarm, drained, in its role; does nothing where it is one already.
# Inputs: WORK, NODE, NODE_ADDRESS, ROLE (manager or worker). $WORK/swarm says that the swarm was started.

is_member() { [[ $(on_node "$NODE" docker info -f '{{.Swarm.LocalNodeState}}' </dev/null) == active ]]; }

# swarm_request PATH BODY: POST to this node's Docker socket; the body, which may hold a token, goes through stdin alone.
swarm_request() {
  local answer
  # Docker gives a join 20 s, and goes on with it afterwards.
  answer=$(on_node "$NODE" curl -sS --fail-with-body --unix-socket /var/run/docker.sock \
    -H 'Content-Type: application/json' --data @- "http://docker/swarm/$1" <<<"$2" 2>&1) ||
    { [[ $answer == *"continue in the background"* ]] && wait_for 60 "the join to end" is_member; } ||
    fail "swarm $1 failed: $answer; run again: make up"
}

# admit NAME ROLE, on a manager: prints the token for the role; entries of the same name are stale.
admit() {
  remove_entries "$1"
  docker swarm join-token -q "$2"
}

# change_role ORDER: a node that was demoted takes up to half a minute to see that it was promoted again.
change_role() {
  local seconds=90 words
  manager_among_peers || fail "no other manager answers, so this node can't become a $ROLE; run: make status"
  words=$(on_node "$manager" docker node "$1" "$NODE" </dev/null 2>&1) ||
    fail "$manager can't make this node a $ROLE: $words; run again: make up"
  wait_for "$seconds" "the swarm to make it a $ROLE" has_role ||
    fail "the swarm has not made this node a $ROLE within $(patience "$seconds") s; run again: make repair"
  say "is a $ROLE now, after $SECONDS s"
}

has_role() { [[ $ROLE:$(on_node "$NODE" docker info -f '{{.Swarm.ControlAvailable}}' </dev/null) == @(manager:true|worker:false) ]]; }

# forgotten ID: the swarm of the peers does not know this node, which still believes in a swarm.
forgotten() {
  local ids
  manager_among_peers && ids=$(on_node "$manager" docker node ls -q </dev/null) && ! grep -qx "$1" <<<"$ids"
}

read -r state manages id < <(on_node "$NODE" docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.NodeID}}' </dev/null)
if [[ $state == active ]] && forgotten "$id"; then state=forgotten; fi
if [[ $state:$manages == active:true ]]; then touch "$WORK/swarm"; fi
case $state:$ROLE:$manages in
  active:manager:false) change_role promote ;;
  active:worker:true) change_role demote ;;
  active:* | inactive:*) ;;
  *) on_node "$NODE" docker swarm leave --force </dev/null >/dev/null ;;
esac
if [[ $state == active ]]; then exit 0; fi

own="\"ListenAddr\":\"$NODE_ADDRESS:2377\",\"AdvertiseAddr\":\"$NODE_ADDRESS\",\"DataPathAddr\":\"$NODE_ADDRESS\",\"Availability\":\"drain\""
if [[ ! -e $WORK/swarm && $ROLE == manager ]]; then
  # The first manager that is up starts the swarm, and the others look again when it has.
  take_lock "$WORK/locks/swarm" "$(patience 180)"
  if [[ ! -e $WORK/swarm ]] && ! manager_among_peers; then
    swarm_request init "{$own}"
    touch "$WORK/swarm"
    say "started the swarm"
    exit 0
  fi
  exec 9>&-
elif [[ ! -e $WORK/swarm ]]; then
  wait_for 180 "a manager to start the swarm" test -e "$WORK/swarm" ||
    fail "no manager has started the swarm within $(patience 180) s; run again: make up"
fi
wait_for 30 "a manager of the swarm" manager_among_peers ||
  fail "none of the swarm's managers answers, so nobody can let this node in; run: make repair"

token=$(on_node "$manager" admit "$NODE" "$ROLE" </dev/null) ||
  fail "$manager does not let this node in, for the cause that is said above; run again: make up"
remote=$(awk -v name="$manager" '$1 == name { print $2 }' "$WORK/nodes")
swarm_request join "{$own,\"RemoteAddrs\":[\"$remote:2377\"],\"JoinToken\":\"$token\"}"
say "joined through $manager after $SECONDS s"

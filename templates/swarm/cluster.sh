@% include "lib.sh" %@
# The cluster is complete once its members are: from now on a node that leaves hands over. Inputs: WORK.
[[ -e $WORK/swarm ]] || fail "the swarm was not started; run again: make up"
rm -f "$WORK/leaving"
touch "$WORK/complete"

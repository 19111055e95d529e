@% include "lib.sh" %@
# The cluster is there once its members are. Inputs: WORK.
[[ -e $WORK/swarm ]] || fail "the swarm was not started; run again: make up"
rm -f "$WORK/leaving"

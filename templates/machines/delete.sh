@% include "lib.sh" %@
@% include "machines/" ~ provider ~ ".sh" %@
# Takes one machine away. Inputs: WORK, STACK, NODE.

mkdir -p "$WORK/locks"
take_lock "$WORK/locks/$NODE" 300
# Half gone is not made any more: the next run makes it anew, and does not take it for dead.
rm -f "$WORK/machines/$NODE/complete"
remove_machine "$NODE"
say "gone after $SECONDS s"

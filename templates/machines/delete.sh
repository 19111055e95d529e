@% include "lib.sh" %@
@% include "machines/" ~ provider ~ ".sh" %@
# Takes one machine away. Inputs: WORK, STACK, NODE.

mkdir -p "$WORK/locks"
take_lock "$WORK/locks/$NODE" 300
remove_machine "$NODE"
say "gone after $SECONDS s"

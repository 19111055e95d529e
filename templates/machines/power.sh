@% include "lib.sh" %@
@% include "machines/" ~ provider ~ ".sh" %@
# What `make up` asks of a machine that gives no sign. Inputs: WORK, STACK, NODE, WISH (see `power`).

power "$NODE" "$WISH"

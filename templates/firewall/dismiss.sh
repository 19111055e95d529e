#!/usr/bin/env bash
# Has the firewalls of the other nodes keep out this node, which has left. Inputs: WORK, NODE, NODE_ADDRESS.
set -euo pipefail
. templates/lib.sh
. templates/firewall/peers.sh

# keep_out ADDRESS RECORD: prints the record without the address.
keep_out() { sed "/^${1//./\\.}$/d" "$2"; }

# It is only being rebuilt, or the whole stack is being removed.
if [[ ! -e $NODES_FILE ]] || awk '{ print $2 }' "$NODES_FILE" | grep -xF "$NODE_ADDRESS" >/dev/null; then exit 0; fi
mkdir -p "$LOCKS"
change_peers keep_out "$NODE_ADDRESS"

#!/usr/bin/env bash
# Installs this node's firewall, and has those of the other nodes let this node in.
# Inputs: WORK, NODE, NODE_ADDRESS, NODES_HASH (of all nodes' addresses: others run it again), PORTS (of the applications),
# TRUSTED (addresses of this machine, as a created node sees them; none on hosts, whose ssh is their owner's).
set -euo pipefail
. templates/lib.sh
. templates/firewall/peers.sh

# wanted: prints the addresses of today's nodes, and of all machines that exist: some may be leaving.
wanted() {
  local file
  {
    awk '{ print $2 }' "$NODES_FILE"
    for file in "$MACHINES"/*/"$MACHINE_SSH_CONFIG"; do
      # Another machine may be removed meanwhile.
      awk '$1 == "HostName" { print $2 }' "$file" 2>/dev/null || true
    done
  } | sort -u
}

# let_in ADDRESS RECORD: prints the record with the address.
let_in() { sort -u "$2" - <<<"$1"; }

# install_firewall NODES PORTS TRUSTED APPLY UNIT, on the node: the first three are lists separated by blanks.
install_firewall() {
  local unit=/etc/systemd/system/$UNIT_FIREWALL
  mkdir -p "$FOLDER_FIREWALL"
  xargs -rn1 <<<"$1" >"$FOLDER_FIREWALL/nodes"
  xargs -rn1 <<<"$2" >"$FOLDER_FIREWALL/ports"
  xargs -rn1 <<<"$3" >"$FOLDER_FIREWALL/trusted"
  printf '%s\n' "$4" >"$FOLDER_FIREWALL/apply"
  bash "$FOLDER_FIREWALL/apply"
  if [[ ! -e $unit || $(<"$unit") != "$5" ]]; then
    printf '%s\n' "$5" >"$unit"
    systemctl daemon-reload
  fi
  systemctl -q enable --now "$UNIT_FIREWALL"
}

(
  take_lock "$LOCKS/firewall-$NODE" 60
  nodes=$(wanted)
  LIMIT=60 on_node "$NODE" install_firewall "$nodes" "$PORTS" "$TRUSTED" \
    "$(<templates/firewall/apply.sh)" "$(<templates/firewall/swarm-site-firewall.service)" </dev/null ||
    fail "can't install its firewall (see above); run again: make up"
  record "$NODE" "$nodes"
)
change_peers let_in "$NODE_ADDRESS"

# shellcheck shell=bash
# The firewalls of other nodes. Each machine's folder records the addresses that its node lets in.

# replace_nodes NODES, on a node.
replace_nodes() {
  printf '%s\n' "$1" >"$FOLDER_FIREWALL/nodes"
  bash "$FOLDER_FIREWALL/apply"
}

# record NAME NODES
record() {
  echo "$2" >"$MACHINES/$1/$MACHINE_FIREWALL.new"
  mv "$MACHINES/$1/$MACHINE_FIREWALL.new" "$MACHINES/$1/$MACHINE_FIREWALL"
}

# change_peers let_in|keep_out ADDRESS: changes the firewall of every other node that has one.
change_peers() {
  local name record nodes
  for name in $(peers); do
    record=$MACHINES/$name/$MACHINE_FIREWALL
    if [[ ! -e $record || $("$1" "$2" "$record") == "$(<"$record")" ]]; then continue; fi
    (
      take_lock "$LOCKS/firewall-$name" 60
      nodes=$("$1" "$2" "$record")
      if LIMIT=10 on_node "$name" replace_nodes "$nodes" </dev/null; then
        record "$name" "$nodes"
      else
        say "$name did not change its firewall ($1 $2, see above); the next make up that reaches it does"
      fi
    )
  done
}

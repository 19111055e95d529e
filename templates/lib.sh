# shellcheck shell=bash
# What the scripts of a stack share, nodes included. Inputs: see base.sh.
. templates/base.sh
# The user's environment must steer nothing here.
LIMIT=0 BECOME=sudo

# quote TEXT: TEXT as one word of any POSIX shell.
quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# on_node NAME COMMAND…: runs a command, or a function of this script, as root on node NAME; stdin is the caller's.
# LIMIT=SECONDS before it bounds it (scaled); BECOME is empty where the user of NODE is root and has no sudo. As root,
# bash would take the connection for a login and source the node's bashrc, which `-u` ends: hence --norc.
on_node() {
  local node=$1 text="" name word limit options=()
  shift
  limit=$(scaled "$LIMIT")
  # An ssh that gives up by itself, before it is killed, also ends its jump hosts' processes.
  if ((limit > 1)); then options=(-o "ConnectTimeout=$((limit - 1))"); fi
  if declare -F "$1" >/dev/null; then
    for name in "${!LABEL_@}" "${!FOLDER_@}"; do text+="$name=$(quote "${!name}");"; done
    text+="$(declare -f);"
  fi
  for word; do text+=" $(quote "$word")"; done
  timeout --foreground "$limit" \
    ssh -F "$MACHINES/$node/$MACHINE_SSH_CONFIG" "${options[@]}" "$node" "$BECOME bash --norc -euo pipefail -c $(quote "$text")" 9>&-
}

# is_created NAME: the machine of node NAME was created to the end.
is_created() { [[ -e $MACHINES/$1/$MACHINE_COMPLETE ]]; }

# answers NAME: node NAME answers within 5 s.
answers() { is_created "$1" && LIMIT=5 on_node "$1" true </dev/null >/dev/null 2>&1; }

# peers: the other nodes of today's settings, a name a line.
peers() {
  if [[ -e $NODES_FILE ]]; then awk -v self="${NODE:-}" '$1 != self { print $1 }' "$NODES_FILE"; fi
}

# address_of NAME: the address of a node of today's settings.
address_of() { awk -v name="$1" '$1 == name { print $2 }' "$NODES_FILE"; }

# update_node NAME OPTION…, on a manager: retries for 10 s while the swarm itself changes the node's entry.
update_node() {
  local output begin=$SECONDS
  until output=$(docker node update "${@:2}" "$1" 2>&1); do
    if [[ $output != *"update out of sequence"* ]] || ((SECONDS - begin >= 10)); then
      echo "$output" >&2
      return 1
    fi
  done
}

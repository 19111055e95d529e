# shellcheck shell=bash
# Shared by a stack's scripts that also work on nodes. Inputs: see base.sh.
. templates/base.sh
# Isolate from the user's environment.
LIMIT=0 BECOME=sudo

# quote TEXT: prints TEXT as one word for any POSIX shell.
quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# on_node NAME COMMAND…: runs a command, or a function of this script, as root on node NAME, with the caller's stdin.
# LIMIT=SECONDS before it sets a time limit (scaled); BECOME is empty if NODE's user is root and has no sudo. As root,
# bash would treat the connection as a login and source the node's bashrc, which `-u` aborts: hence --norc.
on_node() {
  local node=$1 text="" name word limit options=()
  shift
  limit=$(scaled "$LIMIT")
  # An ssh that times out by itself, before it is killed, also ends its jump hosts' processes.
  if ((limit > 1)); then options=(-o "ConnectTimeout=$((limit - 1))"); fi
  if declare -F "$1" >/dev/null; then
    for name in "${!LABEL_@}" "${!FOLDER_@}" "${!UNIT_@}"; do text+="$name=$(quote "${!name}");"; done
    text+="$(declare -f);"
  fi
  for word; do text+=" $(quote "$word")"; done
  timeout --foreground "$limit" \
    ssh -F "$MACHINES/$node/$MACHINE_SSH_CONFIG" "${options[@]}" "$node" "$BECOME bash --norc -euo pipefail -c $(quote "$text")" 9>&-
}

# is_created NAME: node NAME's machine is completely created.
is_created() { [[ -e $MACHINES/$1/$MACHINE_COMPLETE ]]; }

# answers NAME: node NAME answers within 5 s.
answers() { is_created "$1" && LIMIT=5 on_node "$1" true </dev/null >/dev/null 2>&1; }

# peers: prints the other nodes of the current settings, one name per line.
peers() {
  if [[ -e $NODES_FILE ]]; then awk -v self="${NODE:-}" '$1 != self { print $1 }' "$NODES_FILE"; fi
}

# address_of NAME: prints the address of a node in the current settings.
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

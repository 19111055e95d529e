# shellcheck shell=bash
# Shared by the scripts of one stack. Inputs: WORK (the stack's folder); NODE where a script works on one node.
. templates/contract.sh

say() { printf '%s: %s\n' "${NODE:-this machine}" "$*"; }

fail() {
  printf '%s: %s\n' "${NODE:-this machine}" "$*" >&2
  exit 1
}

# need TOOL…: each of them is installed on this machine.
need() {
  local tool
  for tool; do
    command -v "$tool" >/dev/null || fail "$tool is not installed; run: tools/setup up"
  done
}

# quote TEXT: TEXT as one word of any POSIX shell.
quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# scaled SECONDS: a time limit, five times as long where the stack's machines are emulated.
scaled() { if [[ -e $EMULATED ]]; then echo "$(($1 * 5))"; else echo "$1"; fi; }

# on_node NAME COMMAND…: runs a command, or a function of this script, as root on node NAME; stdin is the caller's.
# LIMIT=SECONDS before it bounds it (scaled); BECOME is empty where the user of NODE is root and has no sudo.
on_node() {
  local node=$1 text="" word limit options=()
  shift
  limit=$(scaled "${LIMIT:-0}")
  # An ssh that gives up by itself, before it is killed, also ends its jump hosts' processes.
  if ((limit > 1)); then options=(-o "ConnectTimeout=$((limit - 1))"); fi
  if declare -F "$1" >/dev/null; then text="$(declare -p "${!LABEL_@}" "${!FOLDER_@}");$(declare -f);"; fi
  for word; do text+=" $(quote "$word")"; done
  timeout --foreground "$limit" \
    ssh -F "$MACHINES/$node/$MACHINE_SSH_CONFIG" "${options[@]}" "$node" "${BECOME-sudo} bash -euo pipefail -c $(quote "$text")" 9>&-
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

# wait_for SECONDS WHAT COMMAND…: until COMMAND succeeds; reports every 10 s; fails after SECONDS (scaled).
wait_for() {
  local limit what=$2 begin=$SECONDS reported=0
  limit=$(scaled "$1")
  shift 2
  until "$@"; do
    ((SECONDS - begin < limit)) || return 1
    if ((SECONDS - begin >= reported + 10)); then
      reported=$((SECONDS - begin))
      say "waiting for $what, $reported s"
    fi
    sleep 0.2
  done
}

# take_lock FILE SECONDS: holds FILE's lock on descriptor 9 until this script ends, however it ends.
take_lock() {
  exec 9>"$1"
  if flock -n 9; then return 0; fi
  say "waiting for the lock $1"
  flock -w "$2" 9 || fail "the lock $1 was not released within $2 s; find its holder: fuser -v $1"
}

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

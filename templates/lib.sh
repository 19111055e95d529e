set -euo pipefail
# What the scripts of one stack share. Inputs: WORK (the stack's folder); NODE where a script works on one node.

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

# patience SECONDS: that, or five times as much where the stack's machines are emulated.
patience() { if [[ -e $WORK/emulated ]]; then echo "$(($1 * 5))"; else echo "$1"; fi; }

# on_node NAME COMMAND…: runs a command, or a function of this script, as root on node NAME; stdin is the caller's.
# LIMIT=SECONDS before it bounds it, with `patience`; BECOME is empty where the user of NODE is root and has no sudo.
on_node() {
  local node=$1 text="" word limit options=()
  shift
  limit=$(patience "${LIMIT:-0}")
  # An ssh that gives up by itself, before it is killed, also ends its way through jump hosts.
  if ((limit > 1)); then options=(-o "ConnectTimeout=$((limit - 1))"); fi
  if declare -F "$1" >/dev/null; then text="$(declare -f);"; fi
  for word; do text+=" $(quote "$word")"; done
  timeout --foreground "$limit" \
    ssh -F "$WORK/machines/$node/ssh_config" "${options[@]}" "$node" "${BECOME-sudo} bash -euo pipefail -c $(quote "$text")" 9>&-
}

# made NAME: the machine of node NAME was made to the end.
made() { [[ -e $WORK/machines/$1/complete ]]; }

# answers NAME: node NAME answers within 5 s.
answers() { made "$1" && LIMIT=5 on_node "$1" true </dev/null >/dev/null 2>&1; }

# peers: the other nodes of today's settings, a name a line.
peers() {
  if [[ -e $WORK/nodes ]]; then awk -v self="${NODE:-}" '$1 != self { print $1 }' "$WORK/nodes"; fi
}

# wait_for SECONDS WHAT COMMAND…: until COMMAND succeeds; says every 10 s what it waits for; fails after `patience SECONDS`.
wait_for() {
  local limit what=$2 begin=$SECONDS told=0
  limit=$(patience "$1")
  shift 2
  until "$@"; do
    ((SECONDS - begin < limit)) || return 1
    if ((SECONDS - begin >= told + 10)); then
      told=$((SECONDS - begin))
      say "waiting for $what, $told s"
    fi
    sleep 0.2
  done
}

# take_lock FILE SECONDS: holds FILE's lock on descriptor 9 until this script ends, however it ends.
take_lock() {
  exec 9>"$1"
  if flock -n 9; then return 0; fi
  say "waiting for the lock $1"
  flock -w "$2" 9 || fail "the lock $1 was not free within $2 s; see who holds it: fuser -v $1"
}

# update_node NAME OPTION…, on a manager: again for 10 s where the swarm changed the node's entry in the same moment.
update_node() {
  local words begin=$SECONDS
  until words=$(docker node update "${@:2}" "$1" 2>&1); do
    if [[ $words != *"update out of sequence"* ]] || ((SECONDS - begin >= 10)); then
      echo "$words" >&2
      return 1
    fi
  done
}

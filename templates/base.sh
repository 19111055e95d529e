# shellcheck shell=bash
# Base of scripts that work on this machine only. Inputs: WORK (the stack's folder); NODE if a script works on one node.
. templates/contract.sh
# Isolate from the user's environment. With CDPATH, `cd` would go elsewhere and print where.
unset CDPATH

say() { printf '%s: %s\n' "${NODE:-this machine}" "$*"; }

fail() {
  printf '%s: %s\n' "${NODE:-this machine}" "$*" >&2
  exit 1
}

# scaled SECONDS: a time limit, five times as long if the stack's machines are emulated.
scaled() { if [[ -e $EMULATED ]]; then echo "$(($1 * 5))"; else echo "$1"; fi; }

# wait_for SECONDS WHAT COMMAND…: waits until COMMAND succeeds; reports every 10 s; fails after SECONDS (scaled).
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

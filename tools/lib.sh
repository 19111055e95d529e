# shellcheck shell=bash
# What the bash tools share: where things live, how they speak, how a long step is shown. Sourced, never run.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/swarm-site
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site
export ROOT STATE CACHE

STEP_PID=
STEP_STATUS=0
# A step shorter than this is not worth a line.
STEP_QUIET_SECONDS=2

# Everything said goes to stderr: stdout belongs to what a command prints (`make env` is read by eval).
say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename -- "$0"): $*"
  exit 1
}

make_folders() {
  install -d -m 0700 "$STATE" "$STATE/log" "$STATE/work" "$STATE/pulumi" "$CACHE"
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

# Ends the tool if there is a daemon, but not for this user: waiting or starting another one would not help.
daemon_answers() {
  local answer
  if answer=$(timeout 5 docker version --format '{{.Server.Version}}' 2>&1); then return 0; fi
  if [[ $answer == *"permission denied"* ]]; then
    die "the Docker daemon runs, but $(id -un) may not use it. Run 'sudo usermod -aG docker $(id -un)', then log in again."
  fi
  return 1
}

# The same for the daemon of virtual machines.
libvirt_answers() {
  local answer
  if answer=$(timeout 5 virsh --connect qemu:///system uri 2>&1); then return 0; fi
  if [[ $answer == *"ermission denied"* || $answer == *authenticat* ]]; then
    die "libvirtd runs, but $(id -un) may not use it. Run 'sudo usermod -aG libvirt $(id -un)', then log in again."
  fi
  return 1
}

# The identity of a process is its id and the time it started: ids are used again. A zombie runs no more.
process_start_time() {
  local stat
  local -a fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The second field, the name in brackets, may hold anything.
  read -ra fields <<<"${stat##*) }"
  if [[ ${fields[0]} == Z ]]; then return 1; fi
  printf '%s\n' "${fields[19]}"
}

# run_step NAME HINT COMMAND…: runs a command with its output in a log; ends the tool if it fails, saying HINT.
run_step() {
  local name=$1 hint=$2
  shift 2
  try_step "$name" "$@"
  if ((STEP_STATUS != 0)); then
    say "$name failed (exit status $STEP_STATUS). The end of $(step_log "$name"):"
    tail -n 20 -- "$(step_log "$name")" | sed 's/^/    /' >&2
    say "$hint"
    exit 1
  fi
}

# try_step NAME COMMAND…: the same, but leaves the judgement of STEP_STATUS to the caller. It never returns a failure
# itself: called as a condition, the command would lose its `set -e`.
try_step() {
  local name=$1 began=$SECONDS
  shift
  # A job of its own process group ends as a whole on Ctrl-C; the lock's descriptor 9 stays with this shell.
  set -m
  ("$@") >"$(step_log "$name")" 2>&1 </dev/null 9>&- &
  STEP_PID=$!
  set +m
  show_progress "$name" "$began"
  STEP_STATUS=0
  wait "$STEP_PID" || STEP_STATUS=$?
  STEP_PID=
  show_end "$name" "$began"
}

step_log() { printf '%s\n' "$STATE/log/$(basename -- "$0")-$1.log"; }

# In place on a terminal, as a new line every ten seconds elsewhere.
show_progress() {
  local name=$1 began=$2 shown=-1 elapsed every=10
  if [[ -t 2 ]]; then every=1; fi
  while kill -0 "$STEP_PID" 2>/dev/null; do
    elapsed=$((SECONDS - began))
    if ((elapsed >= STEP_QUIET_SECONDS && (shown < 0 || elapsed >= shown + every))); then
      shown=$elapsed
      if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
      printf '==> %s … %d s  (log: %s)' "$name" "$elapsed" "$(step_log "$name")" >&2
      if [[ ! -t 2 ]]; then printf '\n' >&2; fi
    fi
    sleep 0.05
  done
}

show_end() {
  local name=$1 elapsed=$((SECONDS - $2)) word="done"
  if ((elapsed < STEP_QUIET_SECONDS)); then return 0; fi
  if ((STEP_STATUS != 0)); then word="not done"; fi
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  say "==> $name: $word after $elapsed s"
}

# For a trap: ends the running step with all its children, then the tool.
end_on_signal() {
  trap '' INT TERM
  if [[ -n $STEP_PID ]]; then
    kill -TERM -- "-$STEP_PID" 2>/dev/null || true
    wait "$STEP_PID" 2>/dev/null || true
  fi
  say ""
  say "Interrupted. Run the same command again: it goes on from here."
  exit 130
}

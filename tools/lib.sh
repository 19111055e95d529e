# shellcheck shell=bash
# Shared by the bash tools: locations, messages, progress of long steps. Sourced, never run.

# Isolate the tools from the user's environment. With CDPATH, `cd` would go elsewhere and print where. PYTHON… and PIP_…
# would change the Python environment. Some messages and numbers are parsed, so the user's language must not apply.
unset CDPATH PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_USER
export LC_ALL=C.UTF-8

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/swarm-site
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site
export ROOT STATE CACHE

# Per step: process, start time and next line's due time while it runs; exit status once it has ended.
declare -A STEP_PID=() STEP_BEGAN=() STEP_DUE=() STEP_ENDED=()
# Exit status of the step that end_step last waited for.
STEP_STATUS=0
# Shorter steps print no line.
STEP_QUIET_SECONDS=2
# Number of terminal lines showing running steps.
DRAWN_LINES=0

# All messages go to stderr: stdout is for command output (`make env` is read by eval).
say() {
  erase_steps
  printf '%s\n' "$*" >&2
}

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

# Fails the tool if a daemon runs but this user may not use it: neither waiting nor starting another one would help.
daemon_answers() {
  local answer
  if answer=$(timeout 5 docker version --format '{{.Server.Version}}' 2>&1); then return 0; fi
  if [[ $answer == *"permission denied"* ]]; then
    die "the Docker daemon runs, but $(id -un) may not use it. Run 'sudo usermod -aG docker $(id -un)', then log in again."
  fi
  return 1
}

# The same for libvirtd.
libvirt_answers() {
  local answer
  if answer=$(timeout 5 virsh --connect qemu:///system uri 2>&1); then return 0; fi
  if [[ $answer == *"ermission denied"* || $answer == *authenticat* ]]; then
    die "libvirtd runs, but $(id -un) may not use it. Run 'sudo usermod -aG libvirt $(id -un)', then log in again."
  fi
  return 1
}

# A process is identified by id and start time, since ids are reused. A zombie counts as ended.
process_start_time() {
  local stat
  local -a fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The second field, the name in brackets, may contain anything.
  read -ra fields <<<"${stat##*) }"
  if [[ ${fields[0]} == Z ]]; then return 1; fi
  printf '%s\n' "${fields[19]}"
}

# run_step NAME HINT COMMAND…: runs a command with its output in a log; if it fails, ends the tool with HINT.
run_step() {
  local name=$1 hint=$2
  shift 2
  begin_step "$name" "$@"
  require_step "$name" "$hint"
}

# try_step NAME COMMAND…: the same, but the caller checks STEP_STATUS. It never returns a failure itself: used as a
# condition, the command would lose its `set -e`.
try_step() {
  begin_step "$@"
  end_step "$1"
}

# begin_step NAME COMMAND…: starts a command in the background; end_step or require_step waits for it.
begin_step() {
  local name=$1 log
  shift
  log=$(step_log "$name")
  : >"$log"
  # A job with its own process group ends as a whole on Ctrl-C; the lock's descriptor 9 stays with this shell.
  set -m
  ("$@") >"$log" 2>&1 </dev/null 9>&- &
  STEP_PID[$name]=$!
  set +m
  STEP_BEGAN[$name]=$SECONDS
  STEP_DUE[$name]=$((SECONDS + STEP_QUIET_SECONDS))
}

# require_step NAME HINT: waits for a step, if begun; if it failed, ends the tool with HINT.
require_step() {
  if [[ -z ${STEP_BEGAN[$1]-} ]]; then return 0; fi
  end_step "$1"
  if ((STEP_STATUS != 0)); then
    say "$1 failed (exit status $STEP_STATUS). The end of $(step_log "$1"):"
    tail -n 20 -- "$(step_log "$1")" | sed 's/^/    /' >&2
    say "$2"
    exit 1
  fi
}

# end_step NAME: waits for a step and shows all running ones.
end_step() {
  local pause=0.05 began=$SECONDS
  collect_steps
  while [[ -n ${STEP_PID[$1]-} ]]; do
    show_steps
    if ((SECONDS > began + STEP_QUIET_SECONDS)); then pause=0.3; fi
    sleep "$pause"
    collect_steps
  done
  erase_steps
  STEP_STATUS=${STEP_ENDED[$1]}
}

collect_steps() {
  local name status
  for name in "${!STEP_PID[@]}"; do
    if kill -0 "${STEP_PID[$name]}" 2>/dev/null; then continue; fi
    status=0
    wait "${STEP_PID[$name]}" || status=$?
    unset "STEP_PID[$name]"
    STEP_ENDED[$name]=$status
    show_end "$name" "$status"
  done
}

step_log() { printf '%s\n' "$STATE/log/setup-$1.log"; }

# Redraws in place on a terminal; elsewhere prints new lines every ten seconds.
show_steps() {
  local name columns=''
  local -a due=()
  for name in "${!STEP_PID[@]}"; do
    if ((SECONDS >= STEP_DUE[$name])); then due+=("$name"); fi
  done
  if ((${#due[@]} == 0)); then return 0; fi
  if [[ -t 2 ]]; then
    erase_steps
    due=("${!STEP_PID[@]}")
    columns=$(stty size <&2 2>/dev/null) || true
  fi
  for name in "${due[@]}"; do show_step "$name" "${columns##* }"; done
}

# show_step NAME COLUMNS: elapsed time, log and the log's last line. COLUMNS is empty without a terminal.
show_step() {
  local elapsed=$((SECONDS - STEP_BEGAN[$1])) every=10 line
  if ((elapsed < STEP_QUIET_SECONDS)); then return 0; fi
  line="==> $1 … $elapsed s  (log: $(step_log "$1"))$(last_line "$(step_log "$1")")"
  if [[ -t 2 ]]; then
    every=1
    line=${line:0:${2:-80}-1}
    DRAWN_LINES=$((DRAWN_LINES + 1))
  fi
  printf '%s\n' "$line" >&2
  STEP_DUE[$1]=$((SECONDS + every))
}

# Programs draw their own progress with carriage returns and escape sequences.
last_line() {
  local line
  read -r line < <(tail -c 1000 -- "$1" | tr '\r' '\n' | grep -a '[^[:space:]]' | tail -n 1) || return 0
  line=${line//[^[:print:]]/}
  printf ': %s' "${line:0:100}"
}

erase_steps() {
  if ((DRAWN_LINES > 0)); then printf '\033[%dA\r\033[J' "$DRAWN_LINES" >&2; fi
  DRAWN_LINES=0
}

show_end() {
  local elapsed=$((SECONDS - STEP_BEGAN[$1])) outcome="done"
  if ((elapsed < STEP_QUIET_SECONDS)); then return 0; fi
  if (($2 != 0)); then outcome="failed"; fi
  say "==> $1: $outcome after $elapsed s"
}

# Ends the running steps and all their children.
end_steps() {
  local pid
  for pid in "${STEP_PID[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  for pid in "${STEP_PID[@]}"; do wait "$pid" 2>/dev/null || true; done
  STEP_PID=()
}

# Trap handler: ends the running steps, then the tool.
end_on_signal() {
  trap '' INT TERM HUP
  end_steps
  say ""
  say "Interrupted. Run the same command again: it goes on from here."
  exit 130
}

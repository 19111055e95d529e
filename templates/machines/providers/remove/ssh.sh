# shellcheck shell=bash
# Releases hosts. Inputs: WORK, IDENTITY, SSH_CONFIG (text).
. templates/lib.sh

# enter NAME: sets BECOME for its host; if the ssh login fails, sets `output` to the error. A shared connection would
# hide a jump host's errors.
enter() {
  output=$(timeout --foreground 15 ssh -F "$MACHINES/$1/$MACHINE_SSH_CONFIG" -o ControlPath=none -o ConnectTimeout=14 "$1" id -u </dev/null 2>&1 9>&- | tr -d '\r') || return 1
  # shellcheck disable=SC2034 # on_node reads it
  if [[ $output == 0 ]]; then BECOME=""; else BECOME=sudo; fi
}

# owner NAME: prints the stack's identity and the host's node; nothing if the identity is unknown.
owner() {
  local identity=${IDENTITY:-$(cat "$IDENTITY_FILE" 2>/dev/null)}
  if [[ -n $identity ]]; then echo "${identity%% *} $1"; fi
}

# ownership OWNER, on the host: prints `ours`, `none` or `other: WHOSE`. Removes our own draft: nothing had changed yet,
# or everything was reverted. Fails if the stack's folder exists without a record.
ownership() {
  if [[ -e $FOLDER_HOST/owner ]]; then
    if [[ $(cat "$FOLDER_HOST/owner") == "$1" ]]; then echo ours; else echo "other: $(cat "$FOLDER_HOST/whose")"; fi
    return 0
  fi
  if [[ -e $FOLDER_DRAFT/owner && $(cat "$FOLDER_DRAFT/owner") != "$1" ]]; then
    echo "other: a stack that is just adopting it"
    return 0
  fi
  rm -rf "$FOLDER_DRAFT"
  if [[ -e $FOLDER_SITE ]] && ! rmdir "$FOLDER_SITE" 2>/dev/null; then
    echo "$FOLDER_SITE exists, but not the record of its adoption, $FOLDER_HOST; if the stack left nothing else there, remove that folder" >&2
    exit 1
  fi
  echo none
}

# release NAME [leave]: runs the release script that the adoption put on the host.
release() {
  local log=$MACHINES/$1/$MACHINE_LOG output
  output=$(LIMIT=800 on_node "$1" bash "$FOLDER_HOST/release" "${@:2}" </dev/null 2>&1 >>"$log" 8>&-) ||
    fail "can't be given back: $output (log: $log); fix the cause and run again: make down"
  [[ -z $output ]] || say "$output"
}

# give_back NAME: the host itself tells whether there is anything to release.
give_back() {
  local log=$MACHINES/$1/$MACHINE_LOG output found
  if ! enter "$1"; then
    [[ $output != *"Permission denied"* && $output != *"verification failed"* ]] ||
      fail "can't be given back: it answers but rejects this user's login ($output); when make ssh NODE=$1 logs in, run again: make down"
    say "does not answer (${output##*$'\n'}); it keeps what the stack put there until this runs on it: sudo bash $FOLDER_HOST/release"
    return 0
  fi
  found=$(LIMIT=60 on_node "$1" ownership "$(owner "$1")" </dev/null 2>>"$log") ||
    fail "can't be given back: $(tail -n 1 "$log"); then run again: make down"
  case ${found##*$'\n'} in
    ours) ;;
    none) return 0 ;;
    other:*)
      [[ -n $(owner "$1") ]] ||
        fail "can't be given back: it belongs to ${found##*other: }, and $IDENTITY_FILE, which would prove that this is the same stack, is missing; run on the host: sudo bash $FOLDER_HOST/release, then here: make down"
      say "belongs to ${found##*other: } by now, so it stays as it is"
      return 0
      ;;
    *) fail "can't be given back: it does not tell whose it is ($found); run again: make down" ;;
  esac
  # One host at a time: Docker keeps its swarm ports for good if its peers vanish while it is leaving.
  exec 8>"$LOCKS/hosts"
  flock -w 600 8 || fail "can't be given back: other hosts are still leaving the swarm after 600 s; run again: make down"
  release "$1" leave
  exec 8>&-
  release "$1"
}

# remove_machine NAME: a host never entered has nothing to remove. A missing folder means that a delete was interrupted
# at its end, or the stack's folder was lost: ask the host.
remove_machine() {
  local folder=$MACHINES/$1
  if [[ ! -e $folder ]]; then
    mkdir -p "$folder"
    printf '%s' "$SSH_CONFIG" >"$folder/$MACHINE_SSH_CONFIG"
    touch "$folder/$MACHINE_ADOPTED"
  fi
  if [[ -e $folder/$MACHINE_ADOPTED ]]; then
    give_back "$1"
    ssh -F "$folder/$MACHINE_SSH_CONFIG" -O exit "$1" >/dev/null 2>&1 || true
  fi
  rm -rf "$folder"
}

# Hosts leave nothing on this machine but their folders.
leftovers() { return 0; }
remove_network() { return 0; }

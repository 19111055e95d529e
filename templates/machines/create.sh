#!/usr/bin/env bash
# Creates one machine in its own folder and waits until its Docker answers.
# Inputs: WORK, STACK, NODE, PROVIDER, SSH_CONFIG (text), and those of the provider.
set -euo pipefail
. templates/lib.sh
# shellcheck source=templates/machines/providers/docker.sh
. "templates/machines/providers/$PROVIDER.sh"

folder=$MACHINES/$NODE
log=$folder/$MACHINE_LOG
mkdir -p "$folder"
take_lock "$LOCKS/$NODE" 300

if ! is_current; then
  remove_machine "$NODE"
  mkdir -p "$folder"
fi
printf '%s' "$SSH_CONFIG" >"$folder/$MACHINE_SSH_CONFIG"
create_machine

docker_answers() { on_node "$NODE" docker info </dev/null >>"$log" 2>&1; }
wait_for 90 "Docker" docker_answers || fail "Docker did not answer within $(scaled 90) s; log: $log; log in: make ssh NODE=$NODE"
touch "$folder/$MACHINE_COMPLETE"
say "up after $SECONDS s"

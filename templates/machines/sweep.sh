#!/usr/bin/env bash
# Removes the stack's folder and any machines left by other resources. Inputs: WORK, STACK, PROVIDER.
set -euo pipefail
. templates/base.sh
# shellcheck source=templates/machines/providers/remove/docker.sh
. "templates/machines/providers/remove/$PROVIDER.sh"

for folder in "$MACHINES"/*/; do
  [[ -d $folder ]] || continue
  NODE=$(basename "$folder")
  remove_machine "$NODE"
  say "removed leftover machine"
done
names=$(leftovers) || fail "can't list the stack's machines (see above); then run again: make down"
for NODE in $names; do
  remove_machine "$NODE"
  say "removed leftover machine, which had no folder"
done
remove_network
for socket in "$WORK"/ssh.*; do
  if [[ -S $socket ]]; then ssh -O exit -o ControlPath="$socket" swarm-manager >/dev/null 2>&1 || true; fi
done
rm -rf "$WORK"

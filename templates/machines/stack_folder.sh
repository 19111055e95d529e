#!/usr/bin/env bash
# Prepares the stack's folder on this machine (node list, ssh configuration, key pair) and the machines' network.
# Inputs: WORK, STACK, PROVIDER, IDENTITY, NODES (lines: name address role), SSH_CONFIG (text), and those of the provider.
set -euo pipefail
. templates/lib.sh
# shellcheck source=templates/machines/providers/docker.sh
. "templates/machines/providers/$PROVIDER.sh"

# need TOOL…: fails unless each is installed on this machine. For `check_host`.
need() {
  local tool
  for tool; do
    command -v "$tool" >/dev/null || fail "$tool is not installed; run: tools/setup up"
  done
}

if [[ -e $NODES_FILE || -e $PROVIDER_FILE ]]; then
  created_with=$(cat "$PROVIDER_FILE" 2>/dev/null || echo docker)
  [[ $created_with == "$PROVIDER" ]] ||
    fail "this stack's machines were created with provider $created_with; to change it to $PROVIDER, first run: make down"
fi
check_host

mkdir -p "$MACHINES" "$LOCKS"
chmod 700 "$WORK"
# Written before anything is created: the sweep needs the provider.
printf '%s\n' "$PROVIDER" >"$PROVIDER_FILE"
create_network
[[ -n $(ls -A "$MACHINES") ]] || check_room

create_key
printf '%s\n' "$IDENTITY" >"$IDENTITY_FILE"
printf '%s' "$SSH_CONFIG" >"$SSH_CONFIG_FILE"
printf '%s\n' "$NODES" >"$NODES_FILE.new"
mv "$NODES_FILE.new" "$NODES_FILE"

#!/usr/bin/env bash
# Tests whether a host's swarm control port answers; without a name, reports that none does. Inputs: WORK.
# ssh runs it for the alias swarm-manager, in the project's folder.
set -euo pipefail
. templates/lib.sh

if (($# == 0)); then
  echo "no swarm manager answers; run: make status" >&2
  exit 1
fi
is_created "$1"
ssh -F "$MACHINES/$1/$MACHINE_SSH_CONFIG" -o ConnectTimeout=3 "$1" \
  "timeout 2 bash -c ': </dev/tcp/$(address_of "$1")/2377'" </dev/null 2>/dev/null

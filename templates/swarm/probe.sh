#!/usr/bin/env bash
# Tests whether a host manages a swarm that has a leader; without a name, reports that none does. Inputs: WORK.
# ssh runs it for the alias swarm-manager, in the project's folder.
set -euo pipefail
. templates/lib.sh
. templates/swarm/manager.sh

if (($# == 0)); then
  echo "no swarm manager with a quorum answers; run: make status" >&2
  exit 1
fi
has_quorum "$1" 3

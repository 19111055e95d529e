#!/usr/bin/env bash
# Marks the cluster as complete: from now on, a leaving node hands over first. Inputs: WORK.
set -euo pipefail
. templates/lib.sh

[[ -e $SWARM_STARTED ]] || fail "the swarm was not started; run again: make up"
rm -f "$DISSOLVING"
touch "$CLUSTER_COMPLETE"

#!/usr/bin/env bash
# Removes one machine. Inputs: WORK, STACK, NODE, PROVIDER.
set -euo pipefail
. templates/base.sh
# shellcheck source=templates/machines/providers/remove/docker.sh
. "templates/machines/providers/remove/$PROVIDER.sh"

mkdir -p "$LOCKS"
take_lock "$LOCKS/$NODE" 300
# The next run then re-creates a partly removed machine instead of taking it for dead.
rm -f "$MACHINES/$NODE/$MACHINE_COMPLETE"
remove_machine "$NODE"
say "removed in $SECONDS s"

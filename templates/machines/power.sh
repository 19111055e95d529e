#!/usr/bin/env bash
# Tells or changes the power state of a machine, for `make up`. Inputs: WORK, STACK, NODE, PROVIDER, ACTION (state, start, off).
set -euo pipefail
. templates/lib.sh
# shellcheck source=templates/machines/providers/docker.sh
. "templates/machines/providers/$PROVIDER.sh"

power "$NODE" "$ACTION"

#!/usr/bin/env bash
# Prints or changes a machine's power state, for `make up`.
# Inputs: WORK, STACK, NODE, PROVIDER, ACTION (state, start, off).
set -euo pipefail
. templates/lib.sh
# shellcheck source=templates/machines/providers/docker.sh
. "templates/machines/providers/$PROVIDER.sh"

power "$NODE" "$ACTION"

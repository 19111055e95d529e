#!/usr/bin/env bash
# What `make up` asks of a machine that does not answer. Inputs: WORK, STACK, NODE, PROVIDER, ACTION (see `power`).
set -euo pipefail
. templates/lib.sh
# shellcheck source=templates/machines/providers/docker.sh
. "templates/machines/providers/$PROVIDER.sh"

power "$NODE" "$ACTION"

#!/usr/bin/env bash
# Prints the stack's identity, which hosts are told, and the user and machine that create the stack. Runs once: the state
# keeps the output. Inputs: WORK.
set -euo pipefail
. templates/base.sh

# Hosts that an earlier version adopted were told the stack's key.
if [[ -e $KEY_FILE.pub ]]; then
  identity=$(cut -d' ' -f2 "$KEY_FILE.pub")
else
  identity=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
fi
echo "$identity $(id -un)@$(uname -n)"

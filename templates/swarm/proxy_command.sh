#!/usr/bin/env bash
# Connects stdin and stdout to sshd on the first node that manages a swarm with a leader. Inputs: WORK.
# ssh runs it as ProxyCommand of the alias swarm-manager, in the project's folder.
set -euo pipefail
. templates/lib.sh
. templates/swarm/manager.sh

tried=""
while read -r name _ role <&3; do
  [[ $role == manager ]] || continue
  if has_quorum "$name" 3; then
    exec ssh -F "$MACHINES/$name/$MACHINE_SSH_CONFIG" -o ConnectTimeout="$(scaled 3)" -W localhost:22 "$name" 3<&-
  fi
  tried+=" $name"
done 3<"$NODES_FILE"
echo "no swarm manager with a quorum answers (tried:${tried:- none}); run: make status" >&2
exit 1

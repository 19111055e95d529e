#!/usr/bin/env bash
# Connects stdin and stdout to sshd on the first node whose swarm control port answers. Inputs: WORK.
# ssh runs it as ProxyCommand of the alias swarm-manager, in the project's folder.
set -euo pipefail
. templates/lib.sh

tried="" limit=$(scaled 3)
while read -r name address role <&3; do
  config=$MACHINES/$name/$MACHINE_SSH_CONFIG
  [[ $role == manager && -e $config ]] || continue
  if ssh -F "$config" -o ConnectTimeout="$limit" "$name" "timeout $limit bash -c ': </dev/tcp/$address/2377'" </dev/null 2>/dev/null; then
    exec ssh -F "$config" -o ConnectTimeout="$limit" -W localhost:22 "$name" 3<&-
  fi
  tried+=" $name"
done 3<"$NODES_FILE"
echo "no swarm manager answers (tried:${tried:- none}); run: make status" >&2
exit 1

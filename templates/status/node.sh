#!/usr/bin/env bash
# Prints a node's facts, one per line: KEY VALUE. Runs on the node as root. Arguments: the images it should have.
set -euo pipefail
. templates/contract.sh
. templates/content/manifest.sh

echo "docker $(docker info -f '{{.ServerVersion}}')"
read -r state error <<<"$(docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.Error}}' | tr '\n' ' ')"
echo "swarm $state"
if [[ -n $error ]]; then echo "swarm_error $error"; fi
for image; do
  if docker image inspect "$image" >/dev/null 2>&1; then echo "image:$image present"; fi
done
if release=$(readlink "$FOLDER_CONTENT/current"); then
  echo "release ${release#releases/}"
  if intact "$FOLDER_CONTENT/$release" "$FOLDER_CONTENT/manifests/${release#releases/}" 2>/dev/null; then echo "release_intact yes"; fi
fi
if [[ -e $FOLDER_PROXY/current/nginx.conf ]]; then
  echo "proxy_hash $(sha256sum <"$FOLDER_PROXY/current/nginx.conf" | cut -d' ' -f1)"
fi

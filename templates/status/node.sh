#!/usr/bin/env bash
# Prints a node's facts, one per line: KEY VALUE. Runs on the node as root. Arguments: the images it should have.
set -euo pipefail
. templates/contract.sh
. templates/content/manifest.sh

if ! version=$(timeout 10 docker version -f '{{.Server.Version}}' 2>&1); then
  echo "docker_error ${version//$'\n'/ }"
  exit 0
fi
echo "docker $version"
read -r state error <<<"$(docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.Error}}' | tr '\n' ' ')"
echo "swarm $state"
if [[ -n $error ]]; then echo "swarm_error $error"; fi
if iptables -w 10 -C INPUT -j SWARM-SITE 2>/dev/null && iptables -w 10 -C DOCKER-USER -j SWARM-SITE-FORWARD 2>/dev/null; then
  echo "firewall on"
fi
for image; do
  if docker image inspect "$image" >/dev/null 2>&1; then echo "image:$image present"; fi
done
# Their memory limit killed them.
docker ps -aq --filter "label=$LABEL_PART" --filter exited=137 |
  xargs -r docker inspect -f "{{if .State.OOMKilled}}oom:{{index .Config.Labels \"com.docker.swarm.task.id\"}} {{.HostConfig.Memory}}{{end}}" | sed '/^$/d'
if release=$(readlink "$FOLDER_CONTENT/current"); then
  echo "release ${release#releases/}"
  if intact "$FOLDER_CONTENT/$release" "$FOLDER_CONTENT/manifests/${release#releases/}" 2>/dev/null; then echo "release_intact yes"; fi
fi
if [[ -e $FOLDER_PROXY/current/nginx.conf ]]; then
  echo "proxy_hash $(sha256sum <"$FOLDER_PROXY/current/nginx.conf" | cut -d' ' -f1)"
fi

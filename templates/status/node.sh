# What one node has, a line each: KEY VALUE. Runs on the node as root. Argument: the image that it should have.
set -euo pipefail

echo "docker $(docker info -f '{{.ServerVersion}}')"
echo "swarm $(docker info -f '{{.Swarm.LocalNodeState}}')"
if docker image inspect "$1" >/dev/null 2>&1; then echo "image $1"; fi

content=/srv/swarm-site/content
if release=$(readlink "$content/current"); then
  hash=$(cd "$content/$release" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum | sha256sum | cut -d' ' -f1) || hash=""
  echo "release ${release#releases/}"
  echo "release_hash $hash"
fi
if [[ -e /srv/swarm-site/proxy/current/nginx.conf ]]; then
  echo "proxy_hash $(sha256sum </srv/swarm-site/proxy/current/nginx.conf | cut -d' ' -f1)"
fi

#!/usr/bin/env bash
# The yardstick of `make bench`: what `make up` builds from nothing, by a plain script, side by side where it can.
#
# usage: tests/bench/baseline.sh        three machines, three managers, two backends, two proxies; ends with the page
#        tests/bench/baseline.sh down   removes all of it
#
# environment: RENDERED, NGINX_IMAGE, NGINX_ARCHIVE (see tests/bench/inputs.py, which is asked where they are not given),
#              BASELINE_FOLDER (swarm-site-baseline in the folder for temporary files)
#
# Left out on purpose: checks, other people's machines, a second run, settings, changes, a node that is lost. The
# Vagrantfile and the backend's nginx.conf are the product's own, and so are image, content and health checks.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
FOLDER=${BASELINE_FOLDER:-${TMPDIR:-/tmp}/swarm-site-baseline}
STACK=baseline
NODES=(bench-01 bench-02 bench-03)
NETWORK=192.168.63
CONTENT=/srv/swarm-site/content
HEALTH="--health-interval 2s --health-timeout 2s --health-retries 3 --health-start-period 2s"

main() {
  case ${1-} in
    "") up ;;
    down) down ;;
    *) fail "usage: tests/bench/baseline.sh [down]" ;;
  esac
}

fail() {
  printf 'baseline: %s\n' "$*" >&2
  exit 1
}

# SECONDS has no fractions.
milestone() { printf 'baseline: %5d ms  %s\n' "$(((${EPOCHREALTIME/./} - BEGAN) / 1000))" "$1"; }

up() {
  local node pids=() pid
  BEGAN=${EPOCHREALTIME/./}
  [[ ! -e $FOLDER ]] || fail "$FOLDER exists; first run: tests/bench/baseline.sh down"
  mkdir -m 700 -- "$FOLDER"
  take_inputs
  mkdir -- "$FOLDER/authorized_keys" "$FOLDER/machines"
  ssh-keygen -q -t ed25519 -N '' -C baseline -f "$FOLDER/key" </dev/null
  install -m 644 "$FOLDER/key.pub" "$FOLDER/authorized_keys/vagrant"
  docker network create --subnet "$NETWORK.0/24" "swarm-site-$STACK" >/dev/null

  for node in "${NODES[@]}"; do
    prepare "$node" &
    pids+=("$!")
  done
  for pid in "${pids[@]}"; do wait "$pid" || fail "a node failed"; done
  on "${NODES[0]}" "$(declare -f serve backend proxy settle)
    IMAGE=$NGINX_IMAGE CONTENT=$CONTENT NODES='${NODES[*]}' HEALTH='$HEALTH'; serve" < <(configurations) ||
    fail "the services do not run"
  milestone "services run"
  fetch_page
}

take_inputs() {
  if [[ -n ${RENDERED-} ]]; then return 0; fi
  eval "$(cd -- "$ROOT" && .venv/bin/python -m tests.bench.inputs "$FOLDER/rendered")"
}

# --- a node ----------------------------------------------------------------------------------------------------------

address() { printf '%s.1%d\n' "$NETWORK" "$((10#${1##*-}))"; }

# on NODE COMMAND: as user vagrant, who may use docker; stdin is the caller's.
on() { ssh -F "$FOLDER/machines/$1/ssh_config" "$1" "set -eu; $2"; }

# prepare NODE: a machine that is a manager and has image and content.
prepare() {
  local node=$1 load content
  write_files "$node"
  (cd -- "$FOLDER/machines/$node" && exec vagrant up --provider docker) >"$FOLDER/machines/$node/log" 2>&1 </dev/null ||
    fail "vagrant up of $node failed: $(tail -n 15 "$FOLDER/machines/$node/log")"
  on "$node" "until docker version >/dev/null 2>&1; do sleep 0.1; done" </dev/null
  milestone "$node: machine"
  on "$node" "docker load --quiet" <"$NGINX_ARCHIVE" >/dev/null &
  load=$!
  tar -c -C "$ROOT/site" --owner=0 --group=0 . |
    on "$node" "sudo sh -euc 'umask 022; mkdir -p $CONTENT/releases/1; tar -x -C $CONTENT/releases/1
      chmod -R u=rwX,go=rX $CONTENT/releases; ln -s releases/1 $CONTENT/current'" &
  content=$!
  become_manager "$node"
  wait "$load"
  wait "$content"
  milestone "$node: ready"
}

write_files() {
  local node=$1 folder=$FOLDER/machines/$1
  mkdir -- "$folder"
  cp -- "$RENDERED/$node.Vagrantfile" "$folder/Vagrantfile"
  cat >"$folder/ssh_config" <<END
Host $node
  HostName $(address "$node")
  User vagrant
  IdentityFile $FOLDER/key
  IdentitiesOnly yes
  UserKnownHostsFile $folder/known_hosts
  StrictHostKeyChecking accept-new
  ControlMaster auto
  ControlPath $folder/ssh
  ControlPersist 10
  BatchMode yes
  LogLevel ERROR
END
}

become_manager() {
  local node=$1 first=${NODES[0]} own
  own=$(address "$node")
  if [[ $node == "$first" ]]; then
    on "$node" "docker swarm init --advertise-addr $own >/dev/null; docker swarm join-token -q manager" </dev/null >"$FOLDER/token.new"
    mv -- "$FOLDER/token.new" "$FOLDER/token"
    return 0
  fi
  until [[ -e $FOLDER/token ]]; do
    kill -0 "$$" || exit 1
    sleep 0.05
  done
  on "$node" "docker swarm join --advertise-addr $own --token \$(cat) $(address "$first"):2377" <"$FOLDER/token" >/dev/null
}

# --- the services, on the first node ---------------------------------------------------------------------------------

# The two nginx configurations, as an archive.
configurations() {
  mkdir -- "$FOLDER/nginx"
  cp -- "$RENDERED/backend.nginx.conf" "$FOLDER/nginx/backend"
  cat >"$FOLDER/nginx/proxy" <<END
worker_processes auto;
pid /tmp/nginx.pid;
error_log /dev/stderr warn;
events { worker_connections 4096; }
http {
  access_log /dev/stdout;
  client_body_temp_path /tmp/client_body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  upstream backends {
    zone backends 64k;
$(for node in "${NODES[@]}"; do printf '    server %s:8080 max_fails=1 fail_timeout=2s;\n' "$(address "$node")"; done)
    keepalive 32;
  }
  server {
    listen 80 reuseport;
    client_max_body_size 0;
    location = /health { access_log off; return 200 "ok"; }
    location / {
      proxy_pass http://backends;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host \$http_host;
      proxy_connect_timeout 500ms;
      proxy_next_upstream error timeout http_502 http_503 http_504;
    }
  }
}
END
  tar -c -C "$FOLDER/nginx" backend proxy
}

# The functions from here to `settle` run on the node.
# shellcheck disable=SC2317
serve() {
  cd "$(mktemp -d)"
  tar -x
  backend &
  proxy &
  wait
  settle
}

# shellcheck disable=SC2086,SC2317 # HEALTH is words
backend() {
  docker config create backend backend >/dev/null
  docker service create --quiet --detach --no-resolve-image --name backend --replicas 2 \
    --publish mode=host,published=8080,target=80 --config source=backend,target=/etc/nginx.conf,mode=0444 \
    --mount "type=bind,source=$CONTENT,target=$CONTENT,readonly" --mount type=tmpfs,target=/tmp --read-only \
    --health-cmd 'wget -q -O /dev/null http://127.0.0.1/.swarm-site/health' $HEALTH --limit-memory 64M \
    --stop-signal SIGQUIT --stop-grace-period 10s --hostname '{{.Node.Hostname}}' \
    --entrypoint "nginx -c /etc/nginx.conf -g 'daemon off;'" "$IMAGE" >/dev/null
}

# shellcheck disable=SC2086,SC2317
proxy() {
  docker config create proxy proxy >/dev/null
  docker service create --quiet --detach --no-resolve-image --name proxy --mode global \
    --constraint "node.hostname!=${NODES%% *}" --network host --config source=proxy,target=/etc/nginx.conf,mode=0444 \
    --mount type=tmpfs,target=/tmp --read-only \
    --health-cmd 'wget -q -O /dev/null http://127.0.0.1/health' $HEALTH --limit-memory 64M \
    --stop-signal SIGQUIT --stop-grace-period 20s \
    --entrypoint "nginx -c /etc/nginx.conf -g 'daemon off;'" "$IMAGE" >/dev/null
}

# A task with a health check runs when it is healthy.
# shellcheck disable=SC2317
settle() {
  local try
  for ((try = 0; try < 600; try++)); do
    [ "$(docker service ls --format '{{.Name}} {{.Replicas}}' | sort | tr '\n' ' ')" != "backend 2/2 proxy 2/2 " ] || return 0
    sleep 0.1
  done
  docker service ps --no-trunc backend proxy >&2
  return 1
}

fetch_page() {
  local url try
  url=http://$(address "${NODES[1]}")/
  for ((try = 0; try < 100; try++)); do
    if curl -fsS --max-time 2 -o "$FOLDER/page" "$url" 2>/dev/null && cmp -s "$FOLDER/page" "$ROOT/site/index.html"; then
      milestone "$url answers"
      return 0
    fi
    sleep 0.1
  done
  fail "$url does not answer with the page"
}

# --- down ------------------------------------------------------------------------------------------------------------

down() {
  local node container pids=() pid
  for node in "${NODES[@]}"; do
    remove "$node" &
    pids+=("$!")
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
  # Vagrant may not know the machines of an interrupted run.
  for container in $(docker ps -aq --filter "label=swarm-site.stack=$STACK"); do docker rm -fv "$container" >/dev/null; done
  for node in "${NODES[@]}"; do docker volume rm -f "swarm-site-$STACK-$node" >/dev/null; done
  if docker network inspect "swarm-site-$STACK" >/dev/null 2>&1; then docker network rm "swarm-site-$STACK" >/dev/null; fi
  rm -rf -- "$FOLDER"
}

remove() {
  local folder=$FOLDER/machines/$1
  if [[ ! -e $folder/Vagrantfile ]]; then return 0; fi
  ssh -F "$folder/ssh_config" -O exit "$1" >/dev/null 2>&1 || true
  (cd -- "$folder" && exec vagrant destroy -f) >>"$folder/log" 2>&1 </dev/null || true
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi

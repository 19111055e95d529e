#!/usr/bin/env bash
# Delivers a proxy configuration tested by nginx, and activates it on this node by rename and reload.
# Inputs: WORK, NODE, CONFIGURATION (text), STATE (its hash), STATE_URL (where a running proxy reports its state).
set -euo pipefail
. templates/lib.sh

proxies() { docker ps -q --filter "label=$LABEL_PART=proxy" "$@"; }

# make_live RELEASE, on the node, in the proxy folder.
make_live() {
  ln -sfn "$1" current.new
  mv -T current.new current
  proxies | xargs -r docker kill -s HUP >/dev/null
}

# took_over STATE URL, on the node: a worker answers with STATE within 10 s. Old workers still answer now and then until
# they exit, so one answer is enough.
took_over() {
  local try
  for ((try = 0; try < 50; try++)); do
    [[ $(curl -s --noproxy '*' --max-time 1 "$2") != "$1" ]] || return 0
    sleep 0.2
  done
  return 1
}

# change STATE URL, on the node: reads the configuration on stdin.
change() {
  local before since
  umask 022
  mkdir -p "$FOLDER_PROXY/releases/$1"
  cd "$FOLDER_PROXY"
  cat >"releases/$1/nginx.conf"
  before=$(readlink current || true)
  since=$(date +%s)
  make_live "releases/$1"
  if [[ -n $(proxies --filter health=healthy) ]] && ! took_over "$1" "$2"; then
    proxies | xargs -r -n 1 docker logs --since "$since" 2>&1 | grep -E '\[(emerg|alert|crit)\]' | tail -n 5 >&2 || true
    [[ -z $before ]] || make_live "$before"
    echo "nginx did not load it within 10 s" >&2
    exit 1
  fi
  touch "releases/$1"
  find releases -mindepth 1 -maxdepth 1 -printf '%T@ %p\n' | sort -rn | tail -n +5 | cut -d' ' -f2 | xargs -r rm -rf
}

output=$(on_node "$NODE" change "$STATE" "$STATE_URL" 2>&1 < <(printf %s "$CONFIGURATION")) ||
  fail "the new proxy configuration did not become live, the previous one stays: $output; run again: make up"

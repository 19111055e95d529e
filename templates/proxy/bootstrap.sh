#!/usr/bin/env bash
# Gives a node without a proxy configuration the one its peers serve, or else a plain 502 page.
# Inputs: WORK, NODE, CONFIGURATION (text of the configuration with the 502 page).
set -euo pipefail
. templates/lib.sh

# begin, on the node: reads the configuration on stdin; uses it only if none is live yet.
begin() {
  if [[ -e $FOLDER_PROXY/current/nginx.conf ]]; then echo "keeps its proxy configuration" && exit 0; fi
  umask 022
  mkdir -p "$FOLDER_PROXY/releases/seed"
  cd "$FOLDER_PROXY"
  cat >releases/seed/nginx.conf
  grep -q '^http {' releases/seed/nginx.conf
  ln -sfn releases/seed current.new
  mv -T current.new current
}

live=$FOLDER_PROXY/current/nginx.conf text=$CONFIGURATION source="a plain 502 page"
if [[ -e $CLUSTER_COMPLETE ]] && ! on_node "$NODE" test -e "$live" </dev/null; then
  for peer in $(peers); do
    if is_created "$peer" && found=$(LIMIT=5 on_node "$peer" cat "$live" </dev/null 2>/dev/null); then
      text=$found source="the proxy configuration of $peer"
      break
    fi
  done
fi
kept=$(on_node "$NODE" begin <<<"$text")
say "${kept:-starts with $source}"

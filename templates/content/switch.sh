#!/usr/bin/env bash
# Switches this node to a release that all nodes have, without any effect on visitors' requests.
# Inputs: WORK, NODE, RELEASE, KEEP.
set -euo pipefail
. templates/lib.sh
. templates/content/links.sh

# change RELEASE KEEP, on the node.
change() {
  umask 022
  cd "$FOLDER_CONTENT"
  switch "$1" "$2"
}

output=$(LIMIT=60 on_node "$NODE" change "$RELEASE" "$KEEP" 2>&1 </dev/null) ||
  fail "can't switch to release ${RELEASE:0:12}: $output; run again: make up"
say "serves release ${RELEASE:0:12}"

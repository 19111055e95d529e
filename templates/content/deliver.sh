#!/usr/bin/env bash
# Delivers a release of the content folder to this node. The served release stays; a node without one serves it at once.
# Inputs: WORK, NODE, FOLDER (on this machine), RELEASE (hash of its files), KEEP.
set -euo pipefail
. templates/lib.sh
. templates/content/hash.sh
. templates/content/links.sh

# put RELEASE KEEP, on the node: reads a tar archive on stdin, but only if the release is missing or damaged.
put() {
  umask 022
  mkdir -p "$FOLDER_CONTENT/releases"
  cd "$FOLDER_CONTENT"
  if [[ $(hash_of "releases/$1" 2>/dev/null) != "$1" ]]; then receive "$1"; fi
  lead next "$1"
  if [[ ! -e current ]]; then switch "$1" "$2"; fi
}

# receive RELEASE, on the node, in the content folder.
receive() {
  rm -rf incoming damaged
  mkdir incoming
  tar -x --no-same-owner -C incoming
  [[ $(hash_of incoming) == "$1" ]] || { echo "the files changed during the transfer" >&2 && exit 1; }
  chmod -R u=rwX,go=rX incoming
  # Equal on all nodes, different per release: browsers compare values (ETag, Last-Modified) that follow the content.
  find incoming -exec touch -d "@$((0x${1:0:7} + 1000000000))" {} +
  if [[ -e releases/$1 ]]; then mv "releases/$1" damaged; fi
  mv incoming "releases/$1"
  rm -rf damaged
}

# A node that has the release closes the pipe. File names may begin with a dash.
send() {
  .venv/bin/python -m components.release "$FOLDER" |
    tar -c -C "$FOLDER" --owner=0 --group=0 --numeric-owner --null --verbatim-files-from -T - || true
}

output=$( { send | on_node "$NODE" put "$RELEASE" "$KEEP"; } 2>&1) ||
  fail "release ${RELEASE:0:12} was not delivered: $output; run again: make up"
say "has release ${RELEASE:0:12}"

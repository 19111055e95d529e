#!/usr/bin/env bash
# Puts a release of the content folder on this node and switches to it in one step; earlier ones stay.
# Inputs: WORK, NODE, FOLDER (on this machine), RELEASE (hash of its files), KEEP.
set -euo pipefail
. templates/lib.sh
. templates/content/hash.sh

# put RELEASE KEEP, on the node: the files arrive as a tar archive on stdin, read only if the release is missing or damaged.
put() {
  umask 022
  mkdir -p "$FOLDER_CONTENT/releases"
  cd "$FOLDER_CONTENT"
  if [[ $(hash_of "releases/$1" 2>/dev/null) != "$1" ]]; then receive "$1"; fi
  switch "$1" "$2"
}

# receive RELEASE, on the node, in the content's folder.
receive() {
  rm -rf incoming
  mkdir incoming
  tar -x --no-same-owner -C incoming
  [[ $(hash_of incoming) == "$1" ]] || { echo "the files changed during the transfer" >&2 && exit 1; }
  chmod -R u=rwX,go=rX incoming
  # Equal on all nodes, different for every release: what browsers compare (ETag, Last-Modified) follows the content.
  find incoming -exec touch -d "@$((0x${1:0:7} + 1000000000))" {} +
  rm -rf "releases/$1"
  mv incoming "releases/$1"
}

# switch RELEASE KEEP, on the node, in the content's folder. `used/RELEASE` has the time of the last switch to it.
switch() {
  local old
  ln -sfn "releases/$1" current.new
  mv -T current.new current
  mkdir -p used
  touch "used/$1"
  find used -type f -printf '%T@ %f\n' | sort -rn | tail -n "+$(($2 + 2))" | while read -r _ old; do
    rm -rf "releases/$old" "used/$old"
  done
}

# A node that has the release closes the pipe.
send() { tar -c -C "$FOLDER" --sort=name --owner=0 --group=0 --numeric-owner . || true; }

output=$( { send | on_node "$NODE" put "$RELEASE" "$KEEP"; } 2>&1) ||
  fail "release ${RELEASE:0:12} was not delivered: $output; run again: make up"
say "serves release ${RELEASE:0:12}"

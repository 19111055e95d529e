@% include "lib.sh" %@
# Puts a release of the content folder on this node and switches to it in one step; earlier ones stay.
# Inputs: WORK, NODE, FOLDER (on this machine), RELEASE (SHA-256 of its files, see components/config.py), KEEP.

hash_of() { (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum | sha256sum | cut -d' ' -f1); }

# put RELEASE KEEP, on the node: the files come as a tar archive on stdin, which is read where the release is missing or damaged.
put() {
  umask 022
  mkdir -p /srv/swarm-site/content/releases
  cd /srv/swarm-site/content
  if [[ $(hash_of "releases/$1" 2>/dev/null) != "$1" ]]; then receive "$1"; fi
  switch "$1" "$2"
}

# receive RELEASE, on the node, in the content's folder.
receive() {
  rm -rf incoming
  mkdir incoming
  tar -x --no-same-owner -C incoming
  [[ $(hash_of incoming) == "$1" ]] || { echo "the files changed while they were sent" >&2 && exit 1; }
  chmod -R u=rwX,go=rX incoming
  # Equal on all nodes, another for another release: what browsers compare (ETag, Last-Modified) follows the content.
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

# A node that has the release hangs up on tar.
send() { tar -c -C "$FOLDER" --sort=name --owner=0 --group=0 --numeric-owner . || true; }

words=$( { send | on_node "$NODE" put "$RELEASE" "$KEEP"; } 2>&1) ||
  fail "release ${RELEASE:0:12} did not arrive: $words; run again: make up"
say "serves release ${RELEASE:0:12}"

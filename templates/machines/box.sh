#!/usr/bin/env bash
# Provides the box of the stack's virtual machines: a public one if available, else one built here from Debian packages.
# Inputs: WORK, STACK, PROVIDER, BOX (name of the public one, or `own`), IMAGE (localhost/site/machine:…, base of an own
# box), MIRROR, LOG.
set -euo pipefail
. templates/lib.sh
# shellcheck source=templates/machines/providers/docker.sh
. "templates/machines/providers/$PROVIDER.sh"

boxes=${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site/boxes

# public_box: sets `file` to the public box; if it is unavailable, fails and sets `why`.
public_box() {
  local catalogue newest version url
  why="its catalogue did not answer within 8 s"
  catalogue=$(curl -sSfL --max-time 8 "${VAGRANT_SERVER_URL:-https://vagrantcloud.com}/api/v2/vagrant/$BOX" 2>>"$LOG") || return 1
  why="its catalogue has none for $PROVIDER"
  newest=$(.venv/bin/python -m tools.box_catalogue "$PROVIDER" <<<"$catalogue" 2>>"$LOG") || return 1
  read -r version url <<<"$newest"
  file=$boxes/${BOX//\//-}-$version-$PROVIDER.box
  if [[ -e $file ]]; then return 0; fi
  take_lock "$file.lock" 1500
  if [[ -e $file ]]; then return 0; fi
  say "downloading $BOX $version"
  why="the download failed"
  curl -sSfL --max-time 1200 -o "$file.new" "$url" 2>>"$LOG" || return 1
  mv "$file.new" "$file"
}

# recipe FOLDER…: merges recipes into one in the stack's folder.
recipe() {
  local part
  rm -rf "$RECIPE_FOLDER"
  mkdir "$RECIPE_FOLDER"
  for part; do cp -r "$part/." "$RECIPE_FOLDER"; done
  for part; do cat "$part/packages"; done | sort -u >"$RECIPE_FOLDER/packages"
}

# disk, in a container of the own box's image: writes the root file system on stdin to a disk, its kernel beside it.
disk() {
  mkdir /disk
  tar -x -C /disk
  # Created by Docker.
  rm -f /disk/.dockerenv
  mv /disk/boot/vmlinuz-* /out/vmlinuz
  mv /disk/boot/initrd.img-* /out/initrd
  mke2fs -q -t ext4 -E assume_storage_prezeroed=1 -d /disk /out/disk.raw 8G
}

# own_box: sets `file` to the box built from Debian packages; builds it if it is not in the cache.
own_box() {
  local name=${IMAGE##*/} folder container
  name=${name/:/-}
  file=$boxes/$name.box folder=$boxes/$name.new container=swarm-site-box-$STACK
  if [[ -e $file ]]; then return 0; fi
  take_lock "$boxes/$name.lock" 1500
  if [[ -e $file ]]; then return 0; fi
  recipe templates/images/node templates/images/machine
  RECIPE=$RECIPE_FOLDER .venv/bin/python -m tools.images 9>&-
  say "creating a disk from $IMAGE (log: $LOG)"
  rm -rf "$folder"
  mkdir "$folder"
  docker rm -f "$container" >/dev/null 2>&1 || true
  { docker create --name "$container" "$IMAGE" true >/dev/null && docker export "$container" |
    docker run --rm -i --network none -v "$folder:/out" "$IMAGE" bash -euo pipefail -c "$(declare -f disk); disk"; } >>"$LOG" 2>&1 ||
    fail "can't create a disk from $IMAGE: $(tail -n 5 "$LOG"); log: $LOG; fix the cause and run again: make up"
  docker rm -f "$container" >/dev/null
  docker image rm "$IMAGE" >/dev/null
  qemu-img convert -O qcow2 "$folder/disk.raw" "$folder/box.img"
  echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 8}' >"$folder/metadata.json"
  tar -c -C "$folder" -f "$file.new" metadata.json box.img vmlinuz initrd
  rm -rf "$folder"
  mv "$file.new" "$file"
}

mkdir -p "$boxes"
: >"$LOG"
if [[ $BOX != own ]] && public_box; then
  recipe templates/images/node
  cp templates/images/machine/provision "$KEY_FILE.pub" "$RECIPE_FOLDER"
  cp -r templates/images/machine/files/etc/sysctl.d "$RECIPE_FOLDER/files/etc"
elif [[ $PROVIDER == libvirt ]]; then
  [[ $BOX == own ]] || say "the public box $BOX is not available ($why); building one from Debian packages"
  own_box
else
  fail "the public box $BOX is not available: $why; log: $LOG. Provider $PROVIDER needs it; run again: make up"
fi
add_box "$file"

@% include "lib.sh" %@
@% include "machines/" ~ provider ~ ".sh" %@
# Provides the box of the stack's virtual machines: a public one where it can be had, else one made here of Debian packages.
# Inputs: WORK, STACK, PROVIDER, BOX (name of the public one, or `own`), IMAGE (localhost/site/machine:…, of which an own one is
# made), MIRROR, LOG.

boxes=${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site/boxes

# newest: version and address of the public box, from its catalogue on stdin.
newest() {
  python3 -c '
import json, sys
for version in json.load(sys.stdin)["versions"]:
    for provider in version["providers"]:
        if provider["name"] == sys.argv[1] and provider.get("architecture", "amd64") in ("amd64", "unknown"):
            sys.exit(print(version["version"], provider["url"]))
sys.exit("the catalogue has none for " + sys.argv[1])
' "$PROVIDER"
}

# public_box: sets `file` to the public box's; fails where it can't be had, with `why`.
public_box() {
  local catalogue version url
  why="its catalogue did not answer within 8 s"
  catalogue=$(curl -sSfL --max-time 8 "${VAGRANT_SERVER_URL:-https://vagrantcloud.com}/api/v2/vagrant/$BOX" 2>>"$LOG") || return 1
  why="its catalogue names none for $PROVIDER"
  read -r version url < <(newest <<<"$catalogue" 2>>"$LOG") || return 1
  file=$boxes/${BOX//\//-}-$version-$PROVIDER.box
  if [[ -e $file ]]; then return 0; fi
  take_lock "$file.lock" 1500
  if [[ -e $file ]]; then return 0; fi
  say "fetching $BOX $version"
  why="it could not be fetched"
  curl -sSfL --max-time 1200 -o "$file.new" "$url" 2>>"$LOG" || return 1
  mv "$file.new" "$file"
}

# recipe FOLDER…: recipes, one laid over the other, in the stack's folder.
recipe() {
  local part
  rm -rf "$WORK/recipe"
  mkdir "$WORK/recipe"
  for part; do cp -r "$part/." "$WORK/recipe"; done
  for part; do cat "$part/packages"; done | sort -u >"$WORK/recipe/packages"
}

# disk, in a container of the own box's image: makes of the root file system on stdin a disk, and takes the kernel out.
disk() {
  mkdir /disk
  tar -x -C /disk
  # What Docker puts there is not the machine's.
  rm -f /disk/.dockerenv
  mv /disk/boot/vmlinuz-* /out/vmlinuz
  mv /disk/boot/initrd.img-* /out/initrd
  mke2fs -q -t ext4 -E assume_storage_prezeroed=1 -d /disk /out/disk.raw 8G
}

# own_box: sets `file` to that of the box made of Debian packages, and makes it where it is not in the cache.
own_box() {
  local name=${IMAGE##*/} folder container
  name=${name/:/-}
  file=$boxes/$name.box folder=$boxes/$name.new container=swarm-site-box-$STACK
  if [[ -e $file ]]; then return 0; fi
  take_lock "$boxes/$name.lock" 1500
  if [[ -e $file ]]; then return 0; fi
  recipe templates/images/node templates/images/machine
  RECIPE=$WORK/recipe .venv/bin/python -m tools.images 9>&-
  say "making a disk of $IMAGE (log: $LOG)"
  rm -rf "$folder"
  mkdir "$folder"
  docker rm -f "$container" >/dev/null 2>&1 || true
  { docker create --name "$container" "$IMAGE" true >/dev/null && docker export "$container" |
    docker run --rm -i --network none -v "$folder:/out" "$IMAGE" bash -euo pipefail -c "$(declare -f disk); disk"; } >>"$LOG" 2>&1 ||
    fail "no disk could be made of $IMAGE: $(tail -n 5 "$LOG"); log: $LOG; put that right, then run again: make up"
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
  cp templates/images/machine/provision "$WORK/key.pub" "$WORK/recipe"
  cp -r templates/images/machine/files/etc/sysctl.d "$WORK/recipe/files/etc"
elif [[ $PROVIDER == libvirt ]]; then
  [[ $BOX == own ]] || say "the public box $BOX is not to be had ($why); one is made of Debian packages"
  own_box
else
  fail "the public box $BOX is not to be had: $why; log: $LOG; machines of $PROVIDER need one"
fi
add_box "$file"

#!/usr/bin/env bash
# Delivers a release of the content folder to this node. The served release stays; a node without one serves it at once.
# Unchanged files are hard links to those of the releases the node has; only what is new travels, and an interrupted
# delivery goes on where it was. Inputs: WORK, NODE, FOLDER (on this machine), RELEASE (hash of its files), KEEP.
set -euo pipefail
. templates/lib.sh
. templates/content/manifest.sh
. templates/content/links.sh

failed() { fail "release ${RELEASE:0:12} was not delivered: $*; run again: make up"; }

# run_id: prints what identifies the engine's run, or the tool, that started this script.
run_id() { echo "$PPID-$(sed 's/.*) //' "/proc/$PPID/stat" | cut -d' ' -f20)"; }

# held, on the node: prints LINK RELEASE SECONDS for the release served and the last one delivered.
held() {
  local link held
  cd "$FOLDER_CONTENT" 2>/dev/null || return 0
  for link in current next; do
    held=$(basename "$(readlink "$link" || :)")
    if [[ -f manifests/$held ]]; then echo "$link $held $(head -n 1 "manifests/$held")"; fi
  done
}

# held_by_all: prints NODE LINK RELEASE SECONDS for every node that answers, the latest release first.
held_by_all() {
  local node
  {
    awk '{ print $1 }' "$NODES_FILE" | while read -r node; do
      { LIMIT=5 on_node "$node" held </dev/null 2>/dev/null | sed "s/^/$node /"; } &
    done
    wait
  } | sort -k 4,4nr
}

read_manifest() { cat "$FOLDER_CONTENT/manifests/$1"; }

# write_manifest: writes RELEASE_FILE, once a run. Dates are equal on all nodes: they come from the release that nodes serve,
# or from this one if a node has it already, and no file is older than in an earlier release.
write_manifest() {
  local all node base seconds newest=0 now
  all=$(held_by_all)
  if [[ -n $all ]]; then newest=$(head -n 1 <<<"$all" | cut -d' ' -f4); fi
  now=$(date +%s)
  read -r node base seconds <<<"$(awk -v release="$RELEASE" -v newest="$newest" \
    '$3 == release && $4 == newest { print $1, $3, $4; exit }' <<<"$all")"
  if [[ -z $node ]]; then
    read -r node base <<<"$(awk '$2 == "current" { print $1, $3; exit }' <<<"$all")"
    seconds=$((now > newest ? now : newest + 1))
  fi
  {
    echo "$(run_id) $RELEASE"
    if [[ -n $node ]]; then on_node "$node" read_manifest "$base" </dev/null; fi |
      .venv/bin/python -m components.release "$FOLDER" "$RELEASE" "$seconds"
  } >"$RELEASE_FILE.new" && mv "$RELEASE_FILE.new" "$RELEASE_FILE"
}

# plan, on the node, in the content folder: prints for each file of the wanted release, tab-separated: `link` and the release
# that has it at the same path and date; `copy` and a file with the same bytes; or `send`; then its path.
plan() {
  shopt -s nullglob
  dated releases | LC_ALL=C awk '
    kind == "file" { path = $0; sub(/^[^ ]* [^ ]* \.\//, "", path); found[path] = $1 " " $2; next }
    FNR == 1 { release = FILENAME; sub(/.*\//, "", release); next }
    { path = $0; sub(/^[^ ]* [^ ]* [^ ]* \.\//, "", path); key = $1 " " $2 " " path }
    kind == "held" { if (found[release "/" path] == $2 " " $3) { at[key] = release; bytes[$1] = release "/" path }; next }
    key in at { print "link\t" at[key] "\t" path; next }
    $1 in bytes { print "copy\t" bytes[$1] "\t" path; next }
    { print "send\t\t" path }
  ' kind=file - kind=held manifests/* kind=wanted wanted
}

# of_kind KIND, of the plan on stdin: prints source and path of its lines, tab-separated.
of_kind() { awk -F '\t' -v kind="$1" '$1 == kind { print $2 "\t" $3 }'; }

# prepare RELEASE KEEP, on the node, with the manifest on stdin: prints the plan's lines of files to be sent. Without any, the
# release is complete afterwards.
prepare() {
  local planned kept source path
  umask 022
  mkdir -p "$FOLDER_CONTENT"/{releases,manifests,incoming}
  cd "$FOLDER_CONTENT"
  cat >wanted
  if cmp -s wanted "manifests/$1" && intact "releases/$1" wanted; then
    offer "$1" "$2"
    return 0
  fi
  planned=$(plan)
  # What an interrupted delivery received stays, as far as it is wanted.
  (cd incoming && comm -z -23 <(find . -type f -print0 | sort -z) <(cut -f 3 <<<"$planned" | sed 's|^|./|' | tr '\n' '\0' | sort -z) |
    xargs -0r rm -f -- && find . -mindepth 1 -type d -empty -delete)
  for kept in $(of_kind link <<<"$planned" | cut -f 1 | sort -u); do
    of_kind link <<<"$planned" | awk -F '\t' -v release="$kept" '$1 == release { print "./" $2 }' | tr '\n' '\0' |
      (cd "releases/$kept" && xargs -0r cp -al --parents --remove-destination -t ../../incoming --)
  done
  while IFS=$'\t' read -r source path; do
    mkdir -p "$(dirname "incoming/$path")"
    cp --reflink=auto --remove-destination "releases/$source" "incoming/$path"
  done < <(of_kind copy <<<"$planned")
  if ! grep ^send <<<"$planned"; then complete "$1" "$2"; fi
}

# complete RELEASE KEEP, on the node: turns what has arrived into the release.
complete() {
  local date
  umask 022
  cd "$FOLDER_CONTENT"
  while read -r date; do
    LC_ALL=C awk -v date="$date" 'NR > 1 && $2 == date { sub(/^[^ ]* [^ ]* [^ ]* /, ""); print }' wanted | tr '\n' '\0' |
      (cd incoming && xargs -0r touch -c -d "@$date" --)
  done < <(tail -n +2 wanted | cut -d' ' -f2 | sort -u)
  intact incoming wanted || { echo "files are missing on the node" >&2 && exit 1; }
  rm -rf damaged
  if [[ -e releases/$1 ]]; then mv "releases/$1" damaged; fi
  mv incoming "releases/$1"
  cp wanted "manifests/$1.new"
  mv "manifests/$1.new" "manifests/$1"
  rm -rf damaged partial
  offer "$1" "$2"
}

# offer RELEASE KEEP, on the node.
offer() {
  lead next "$1"
  if [[ ! -e current ]]; then switch "$1" "$2"; fi
}

# send: sends the files of the plan on stdin; a transfer without a byte for 60 s has failed, whatever its length.
send() {
  of_kind send | awk -F '\t' '{ print "./" $2 }' | tr '\n' '\0' |
    rsync --files-from=- --from0 --ignore-times --perms --chmod=D755,F644 --partial-dir="$FOLDER_CONTENT/partial" \
    --timeout="$(scaled 60)" --info=progress2 --human-readable --outbuf=None \
    --rsh="ssh -F $MACHINES/$NODE/$MACHINE_SSH_CONFIG" --rsync-path="umask 022; $BECOME rsync" \
    "$source/" "$NODE:$FOLDER_CONTENT/incoming/" | progress
}

# progress: of the transfer on stdin, says every 10 s how far it is.
progress() {
  local sent share speed shown=$SECONDS
  while read -r -d $'\r' sent share speed _; do
    if ((SECONDS - shown >= 10)); then
      shown=$SECONDS
      say "sent $sent of release ${RELEASE:0:12} ($share, $speed)"
    fi
  done
}

# Of a path with a colon, rsync would take the beginning for a host.
source=$FOLDER
[[ $source == /* ]] || source=./$source
take_lock "$LOCKS/content" 600
if [[ $(head -n 1 "$RELEASE_FILE" 2>/dev/null) != "$(run_id) $RELEASE" ]]; then
  output=$(write_manifest 2>&1) || failed "$output"
fi
exec 9>&-
output=$(tail -n +2 "$RELEASE_FILE" | on_node "$NODE" prepare "$RELEASE" "$KEEP" 2>&1) || failed "$output"
if planned=$(grep ^send <<<"$output"); then
  { output=$(send <<<"$planned" 2>&1 >&3) || failed "$output"; } 3>&1
  # What has arrived was read from these files; if they are still the release, so is what has arrived.
  output=$(.venv/bin/python -m components.release "$FOLDER" "$RELEASE" 2>&1) || failed "$output"
  output=$(on_node "$NODE" complete "$RELEASE" "$KEEP" 2>&1 </dev/null) || failed "$output"
fi
say "has release ${RELEASE:0:12}"

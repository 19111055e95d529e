# shellcheck shell=bash
# Links to a node's releases: `current` is served; files missing there are looked up in `next`, the last release
# delivered, and in `previous/1`, `previous/2` and so on. All functions work in the content folder.

# lead LINK RELEASE: points LINK at the release atomically; releases are beside `next` and `current`.
lead() {
  local up=""
  if [[ $1 == */* ]]; then up=../; fi
  ln -sfn "${up}releases/$2" "$1.new"
  mv -T "$1.new" "$1"
}

# switch RELEASE KEEP: serves the release and keeps KEEP others. `used/RELEASE` has the time of the last switch to it.
switch() {
  [[ -e releases/$1 ]] || { echo "the release is not there" >&2 && exit 1; }
  mkdir -p previous used
  if [[ $(readlink current || :) != "releases/$1" ]]; then
    remember "$2"
    lead current "$1"
    touch "used/$1"
  fi
  forget "$1" "$2"
}

# by_use: releases served so far, latest first.
by_use() { find used -type f -printf '%T@ %f\n' | sort -rn | cut -d' ' -f2; }

# remember KEEP: links the releases served so far as the previous ones. Each moves to a later place, last one first, so
# that a visitor stepping through them meanwhile misses none.
remember() {
  local served place
  mapfile -t served < <(by_use)
  for ((place = $1 + 1; place > 0; place--)); do
    if [[ -n ${served[place - 1]-} ]]; then lead "previous/$place" "${served[place - 1]}"; fi
  done
}

# forget RELEASE KEEP: removes all other releases except the last used ones, and dangling links.
forget() {
  local kept name
  kept=$(by_use | head -n "$(($2 + 1))")
  for name in releases/*; do
    name=${name#releases/}
    if [[ $name != "$1" && $(readlink next || :) != "releases/$name" ]] && ! grep -qxF "$name" <<<"$kept"; then
      rm -rf "releases/$name" "manifests/$name" "used/$name"
    fi
  done
  find previous -xtype l -delete
}

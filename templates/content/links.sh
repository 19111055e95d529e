# shellcheck shell=bash
# The links of a node's content: `current` is served; a file that it lacks is looked for in `next`, the release that was
# delivered last, and in `previous/1`, `previous/2` and so on. All of them work in the content's folder.

# lead LINK RELEASE: LINK leads to the release, in one step; releases are beside `next` and `current`.
lead() {
  local up=""
  if [[ $1 == */* ]]; then up=../; fi
  ln -sfn "${up}releases/$2" "$1.new"
  mv -T "$1.new" "$1"
}

# switch RELEASE KEEP: serve the release; keep as many others. `used/RELEASE` has the time of the last switch to it.
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

# by_use: releases that were served, the last one first.
by_use() { find used -type f -printf '%T@ %f\n' | sort -rn | cut -d' ' -f2; }

# remember KEEP: what was served so far is found as the previous releases. Each moves to a later place, the last one
# first, so a visitor who goes through them meanwhile misses none.
remember() {
  local served place
  mapfile -t served < <(by_use)
  for ((place = $1 + 1; place > 0; place--)); do
    if [[ -n ${served[place - 1]-} ]]; then lead "previous/$place" "${served[place - 1]}"; fi
  done
}

# forget RELEASE KEEP: remove all other releases but those used last, and links that lead nowhere.
forget() {
  local kept name
  kept=$(by_use | head -n "$(($2 + 1))")
  for name in releases/*; do
    name=${name#releases/}
    if [[ $name != "$1" && $(readlink next || :) != "releases/$name" ]] && ! grep -qxF "$name" <<<"$kept"; then
      rm -rf "releases/$name" "used/$name"
    fi
  done
  find previous -xtype l -delete
}

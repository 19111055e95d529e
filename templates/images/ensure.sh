#!/usr/bin/env bash
# Makes or finds one image, so that the Docker of this machine has it.
#
#   IMAGE         its full reference, such as localhost:1/site-nginx:0123456789ab; the tag
#                 stands for the content, so an image that is there is never made again
#   RECIPE        folder with a Dockerfile and the list of its base's packages; may be empty
#   SOURCE        an image to take instead, such as nginx:1.27-alpine; may be empty
#   MIRROR        prefix of a registry that mirrors Docker Hub, such as mirror.example/hub
#   ARCHIVES      folder of archives made by `docker save`; images where unset
#   LOG           file for all long output
#   KEEP_ARCHIVE  1: an archive of the image stands in the cache afterwards
#
# Takes the first that works: the local Docker, the cache's archive, an archive in
# ARCHIVES, SOURCE in the local Docker, from the mirror, from its registry, the recipe.
# Says one line a step; a failure says what was tried and what to do.
set -euo pipefail
umask 022

: "${IMAGE:?the reference of the image}" "${LOG:?the file for long output}"
RECIPE=${RECIPE:-} SOURCE=${SOURCE:-} MIRROR=${MIRROR:-} ARCHIVES=${ARCHIVES:-images}
KEEP_ARCHIVE=${KEEP_ARCHIVE:-0}

DEBIAN=bookworm
REGISTRY_ANSWERS_WITHIN=10 # seconds
PULLED_WITHIN=900          # seconds
FREE_MEGABYTES=2048        # what a recipe takes in Docker's folder while it is made

name=${IMAGE##*/} name=${name/:/-}
cache=${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/swarm-site
archive=$cache/images/$name.tar
work=$cache/work/$name
base=localhost/site/base:$name
box=site-base-$name

child=
owns_work=
building=
tried=()

say() { printf '%s: %s (%s s, log: %s)\n' "$name" "$1" "$SECONDS" "$LOG"; }

fail() { # SENTENCE…: what went wrong, then what to do
  printf '%s\n' "$@" >&2
  exit 1
}

show_log() {
  [ -s "$LOG" ] || return 0
  printf 'The last lines of %s:\n' "$LOG" >&2
  tail -n 20 "$LOG" | cut -c 1-400 | sed 's/^/  | /' >&2
}

run() { # COMMAND…: its output in the log; a group of its own, so that a signal ends all of it
  local status=0
  setsid "$@" </dev/null >>"$LOG" 2>&1 &
  child=$!
  wait "$child" || status=$?
  child=
  return "$status"
}

last_words() { # FILE: the last line that says something
  grep -v '^[[:space:]]*$' "$1" | tail -n 1 | cut -c 1-400 || true
}

has() { docker image inspect "$1" >/dev/null 2>&1 </dev/null; }

# Invoked by the traps below.
# shellcheck disable=SC2317
leave() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP PIPE
  if [ -n "$child" ]; then
    kill -- "-$child" 2>/dev/null || kill "$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
  fi
  [ -z "$building" ] || sweep
  [ -z "$owns_work" ] || rm -rf --one-file-system "$work"
  exit "$status"
}

sweep() { # what a recipe's making leaves in Docker, also that of a run that was killed
  local _ own="label=site.recipe=$name"
  {
    docker rm --force --volumes "$box"
    docker rmi --force "$base"
    # A build that was cut off holds its last image until Docker has ended it.
    for _ in {1..50}; do
      docker image prune --force --filter "$own"
      [ -n "$(docker images --quiet --filter dangling=true --filter "$own")" ] || break
      sleep 0.1
    done
  } </dev/null >>"$LOG" 2>&1 || true
}

# --- finding it ---------------------------------------------------------------------

archive_of() { # REFERENCE: the archive in ARCHIVES that is named after it
  local file stem=$ARCHIVES/${1//[\/:]/_}
  for file in "$stem.tar" "$stem.tar.gz" "$stem.tar.zst"; do
    if [ -f "$file" ]; then
      printf '%s' "$file"
      return
    fi
  done
  return 1
}

load() { # FILE: into the local Docker; `loaded` is what it held, or `why` says what failed
  local file=$1 output=$work/load
  case $file in
  *.zst)
    command -v zstd >/dev/null || { why="the program zstd is not installed" && return 1; }
    zstd --decompress --quiet --force -o "$work/unpacked.tar" "$file" </dev/null 2>"$output" ||
      { why=$(last_words "$output") && return 1; }
    file=$work/unpacked.tar
    ;;
  esac
  if ! docker load --input "$file" </dev/null >"$output" 2>&1; then
    cat "$output" >>"$LOG"
    why=$(last_words "$output")
    return 1
  fi
  rm -f "$work/unpacked.tar"
  cat "$output" >>"$LOG"
  loaded=$(sed -nE 's/^Loaded image( ID)?: //p' "$output")
  if [ -z "$loaded" ]; then
    why="it holds no image"
    return 1
  fi
  local made_for here
  made_for=$(docker image inspect --format '{{.Os}}/{{.Architecture}}' "${loaded##*$'\n'}" 2>&1 </dev/null)
  here=$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}' 2>&1 </dev/null)
  if [ "$made_for" != "$here" ]; then
    why="it is for $made_for, and this machine is $here (docker pull --platform $here, then save again)"
    xargs docker rmi --force <<<"$loaded" >>"$LOG" 2>&1 || true
    return 1
  fi
}

pull() { # REFERENCE: from its registry; `why` says what failed
  local output=$work/pull tenths=0 status=0
  : >"$output"
  setsid timeout --foreground "$PULLED_WITHIN" docker pull "$1" </dev/null >"$output" 2>&1 &
  child=$!
  # Docker itself gives a registry minutes to answer. It names the repository as soon
  # as one does.
  until grep -q 'Pulling from' "$output" || ! kill -0 "$child" 2>/dev/null; do
    if [ "$((tenths += 1))" -gt "$((REGISTRY_ANSWERS_WITHIN * 10))" ]; then
      kill -- "-$child" 2>/dev/null || true
      echo "no answer within $REGISTRY_ANSWERS_WITHIN s" >>"$output"
      break
    fi
    sleep 0.1
  done
  wait "$child" || status=$?
  child=
  cat "$output" >>"$LOG"
  why=$(last_words "$output")
  return "$status"
}

mirrored() { # REFERENCE: its name at the mirror of Docker Hub; fails for another registry's
  local reference=${1#docker.io/} first
  first=${reference%%/*}
  case $reference in
    */*) [[ $first != *[.:]* && $first != localhost ]] || return 1 ;;
    *) reference=library/$reference ;;
  esac
  printf '%s/%s' "${MIRROR%/}" "$reference"
}

obtain() { # REFERENCE: from an archive, the local Docker, the mirror, its registry; `found` names it
  local reference=$1 file
  if file=$(archive_of "$reference"); then
    say "loading $file"
    if load "$file"; then
      found=$reference
      grep -qxF "$reference" <<<"$loaded" || found=${loaded##*$'\n'}
      return
    fi
    tried+=("archive $file: $why")
  else
    tried+=("archive $ARCHIVES/${reference//[\/:]/_}.tar (or .tar.gz, .tar.zst): not there")
  fi
  found=$reference
  has "$reference" && return
  local place
  if [ -n "$MIRROR" ] && place=$(mirrored "$reference"); then
    say "pulling $place"
    if pull "$place"; then
      found=$place
      return
    fi
    tried+=("docker pull $place: $why")
  fi
  say "pulling $reference"
  pull "$reference" && return
  tried+=("docker pull $reference: $why")
  return 1
}

# --- making it ----------------------------------------------------------------------

# Both ways end in the same: a local image `base`, a Debian with the recipe's packages,
# without the recipe's unwanted files, and without what each machine must have for itself.

# shellcheck disable=SC2016 # a script for the root filesystem $1 and the recipe $2
TRIM='
  if [ -f "$2/unwanted" ]; then
    while read -r path; do
      case $path in /?*) rm -rf "$1"$path ;; esac
    done <"$2/unwanted"
  fi
  rm -rf "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/var/lib/dbus/machine-id "$1"/etc/ssh/ssh_host_*
  : >"$1"/etc/machine-id'

base_from_image() {
  obtain "debian:$DEBIAN-slim" || return 1
  say "installing packages on $found"
  # Docker itself hands the proxies of this environment to builds, but not to containers.
  run docker create --name "$box" --network host \
    --env http_proxy --env https_proxy --env no_proxy --env DEBIAN_FRONTEND=noninteractive \
    "$found" sh -euc '
      apt-get update
      apt-get install --yes --no-install-recommends $(cat /recipe/packages)
      apt-get clean
      sh -euc "$1" - "" /recipe
      rm -rf /recipe' - "$TRIM" &&
    run docker cp "$RECIPE/." "$box:/recipe" &&
    run docker start --attach "$box" &&
    run docker commit --change "LABEL site.recipe=$name" "$box" "$base" && return
  tried+=("packages of $RECIPE/packages on $found: $(last_words "$LOG")")
  return 1
}

own_sources() { # the Debian this machine's apt is set up with, if it is the same release
  # shellcheck disable=SC2016 # apt's own fields
  apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(REPO_URI) $(COMPONENT)' \
    'Created-By: Packages' 2>/dev/null </dev/null |
    sed -nE "s/^Debian ($DEBIAN(-[a-z]+)?) ([^ ]+) (main)\$/deb \3 \1 \4/p" | sort -u
}

base_from_packages() {
  local words="mmdebstrap of $RECIPE/packages" options=() before
  if ! command -v mmdebstrap >/dev/null; then
    tried+=("$words: the program mmdebstrap is not installed (apt-get install mmdebstrap)")
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    tried+=("$words: it needs root (sudo)")
    return 1
  fi
  local sources=$work/sources.list
  own_sources >"$sources" || true
  grep -q " $DEBIAN main\$" "$sources" || sources=
  # Without this hook a root filesystem takes in all of Perl, to merge /usr.
  local hook=/usr/share/mmdebstrap/hooks/merged-usr
  [ ! -d "$hook" ] || options+=("--hook-dir=$hook")
  say "unpacking Debian packages"
  before=$(wc -l <"$LOG")
  # shellcheck disable=SC2016 # mmdebstrap gives its hook the root filesystem as $1
  if ! run env TMPDIR="$work" TRIM="$TRIM" RECIPE="$RECIPE" \
    mmdebstrap --mode=root --variant=apt --format=tar \
    --include="$(paste -s -d , "$RECIPE/packages")" --dpkgopt=force-unsafe-io \
    --aptopt='Acquire::Languages "none"' "${options[@]}" \
    --customize-hook='sh -euc "$TRIM" - "$1" "$RECIPE"' \
    "$DEBIAN" "$work/base.tar" ${sources:+"$sources"}; then
    tried+=("$words: $(tail -n "+$((before + 1))" "$LOG" | grep '^E: ' | head -n 1 | cut -c 1-400)")
    return 1
  fi
  run docker import --change "LABEL site.recipe=$name" "$work/base.tar" "$base"
}

enough_room() { # FOLDER
  local free
  free=$(df --output=avail --block-size=1M "$1" 2>/dev/null | tail -n 1) || return 0
  [ "$free" -ge "$FREE_MEGABYTES" ] ||
    fail "Only $((free)) MB are free in $1; making $IMAGE takes $FREE_MEGABYTES MB." \
      "What to do: make room (docker system df shows what Docker holds), then run again."
}

make() {
  enough_room "$(docker info --format '{{.DockerRootDir}}' 2>/dev/null </dev/null)"
  enough_room "$work"
  building=1
  sweep
  base_from_image || base_from_packages || return 1
  say "building"
  # The old builder where the new one is not installed; and always the builder that
  # sees the local images.
  local buildkit=1
  docker buildx version >/dev/null 2>&1 </dev/null || buildkit=0
  run env DOCKER_BUILDKIT=$buildkit BUILDX_BUILDER=default BUILDX_NO_DEFAULT_ATTESTATIONS=1 \
    docker build --force-rm --build-arg "BASE=$base" --tag "$IMAGE" "$RECIPE" ||
    { show_log && fail "docker build of $RECIPE failed." \
      "What to do: the log says at which step; correct $RECIPE, then run again."; }
}

# --- in order -----------------------------------------------------------------------

give_up() {
  local wanted=${SOURCE:-$IMAGE} line
  show_log
  {
    printf 'There is no image %s, and none could be made. Tried:\n' "$IMAGE"
    for line in "${tried[@]}"; do printf '  - %s\n' "$line"; done
    if [ -n "$SOURCE" ]; then
      printf 'What to do: on a machine that reaches its registry\n    docker pull %s\n' "$SOURCE"
    else
      printf 'What to do: let this machine reach packages of Debian; or, on a machine that has the image\n'
    fi
    printf '    docker save --output %s.tar %s\n' "${wanted//[\/:]/_}" "$wanted"
    printf 'put the file into %s/ here, then run again.\n' "$ARCHIVES"
  } >&2
  exit 1
}

call_it_image() { # REFERENCE
  docker tag "$1" "$IMAGE" </dev/null >>"$LOG" 2>&1 && return
  show_log
  fail "docker tag of $1 as $IMAGE failed." "What to do: see the words above; then run again."
}

take() { # the first that works
  local file
  if [ -f "$archive" ]; then
    say "loading its archive from the cache"
    load "$archive" && has "$IMAGE" && return
    fail "The archive $archive does not load as $IMAGE: ${why:-it holds ${loaded//$'\n'/, }}" \
      "What to do: remove that file, then run again."
  fi
  if file=$(archive_of "$IMAGE"); then
    say "loading $file"
    if load "$file"; then
      has "$IMAGE" || call_it_image "${loaded##*$'\n'}"
      return
    fi
    tried+=("archive $file: $why")
  else
    tried+=("archive $ARCHIVES/${IMAGE//[\/:]/_}.tar (or .tar.gz, .tar.zst): not there")
  fi
  if [ -n "$SOURCE" ] && obtain "$SOURCE"; then
    call_it_image "$found"
    return
  fi
  [ -n "$RECIPE" ] && make && return
  give_up
}

mkdir -p "$cache/images" "$cache/locks" "$(dirname "$LOG")"

answer=$(timeout 20 docker version --format '{{.Server.Version}}' 2>&1 </dev/null) ||
  fail "Docker does not answer on this machine: $(tr '\n' ' ' <<<"${answer:-no words within 20 s}")" \
    "What to do: start it (systemctl start docker, or as this machine starts it), then run again."

trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP PIPE

# The kernel gives the lock back, whatever ends this run.
exec 9>"$cache/locks/$name"
if ! flock --nonblock 9; then
  say "another run makes this image; waiting for it"
  run flock --timeout 1200 9 || fail "Another run has been making $IMAGE for 20 minutes." \
    "What to do: see who holds $cache/locks/$name (fuser -v names the process), then run again."
fi
owns_work=1
rm -rf --one-file-system "$work"
mkdir -p "$work"

if ! has "$IMAGE"; then
  : >"$LOG"
  take
  say "ready"
fi
if [ "$KEEP_ARCHIVE" = 1 ] && [ ! -f "$archive" ]; then
  docker save --output "$work/archive.tar" "$IMAGE" </dev/null >>"$LOG" 2>&1 ||
    { show_log && fail "docker save of $IMAGE failed." "What to do: see the words above; then run again."; }
  mv "$work/archive.tar" "$archive"
  say "archived, $(du --apparent-size --block-size=1M "$archive" | cut -f 1) MB"
fi

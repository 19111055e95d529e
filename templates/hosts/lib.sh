# shellcheck shell=bash
# Shared by adoption and release of a host. All of it runs on the host as root.
. templates/contract.sh

# recorded KIND: prints the recorded names of this kind.
recorded() { awk -v kind="$1" '$1 == kind { print $2 }' "$FOLDER_HOST/changes"; }

# docker_is_new: the adoption installed Docker.
docker_is_new() { [[ -n $(recorded forwarding) ]]; }

# docker_answers: avoids `docker info`, which takes 20 s in a swarm without a quorum.
docker_answers() { command -v docker >/dev/null && docker version >/dev/null 2>&1; }

# debian COMMAND…: runs apt-get without prompts; if it fails, the end of its output is the error.
debian() {
  local output
  output=$(DEBIAN_FRONTEND=noninteractive SUDO_FORCE_REMOVE=yes timeout 600 apt-get -q -y -o DPkg::Lock::Timeout=120 \
    -o Acquire::Retries=3 -o APT::Keep-Downloaded-Packages=false -o Dpkg::Options::=--force-confold "$@" </dev/null 2>&1) || {
    echo "apt-get $1 failed: $(tail -n 8 <<<"$output")" >&2
    return 1
  }
  printf '%s\n' "$output"
}

# in_group USER: is in the group docker.
in_group() { [[ " $(id -nG "$1") " == *" docker "* ]]; }

# listens PORT: a program listens on it.
listens() {
  cat /proc/net/tcp* | awk -v port=":$(printf %04X "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }'
}

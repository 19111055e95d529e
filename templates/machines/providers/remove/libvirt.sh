# shellcheck shell=bash
# Removes virtual machines from the local libvirtd. Inputs: WORK, STACK.
. templates/machines/providers/remove/vagrant.sh

virt() { virsh --quiet --connect qemu:///system "$@"; }

require_daemon() { virt uri >/dev/null || fail "libvirtd of this machine does not answer; run: tools/setup up"; }

remove_machine() {
  local own=swarm-site-$STACK
  require_daemon
  vagrant_destroy "$1"
  if virt dominfo "$own-$1" >/dev/null 2>&1; then
    virt destroy "$own-$1" >/dev/null 2>&1 || true
    virt undefine "$own-$1" --managed-save --snapshots-metadata >/dev/null
  fi
  if virt vol-info --pool "$own" "$own-$1.img" >/dev/null 2>&1; then virt vol-delete --pool "$own" "$own-$1.img" >/dev/null; fi
  rm -rf "${MACHINES:?}/$1"
}

leftovers() {
  local domain domains
  domains=$(virt list --all --name) || return 1
  for domain in $domains; do virt desc "$domain"; done | awk -v stack="$STACK" '$1 == "swarm-site" && $2 == stack { print $3 }'
}

# remove_network: also removes the storage pool with its volumes, and the box.
remove_network() {
  local own=swarm-site-$STACK volume
  if virt net-info "$own" >/dev/null 2>&1; then
    virt net-destroy "$own" >/dev/null 2>&1 || true
    virt net-undefine "$own" >/dev/null
  fi
  if virt pool-info "$own" >/dev/null 2>&1; then
    virt pool-start "$own" >/dev/null 2>&1 || true
    virt pool-refresh "$own" >/dev/null
    for volume in $(virt vol-list "$own" | awk '{ print $1 }'); do virt vol-delete --pool "$own" "$volume" >/dev/null; done
    virt pool-destroy "$own" >/dev/null
    virt pool-delete "$own" >/dev/null
    virt pool-undefine "$own" >/dev/null
  fi
  remove_box
}

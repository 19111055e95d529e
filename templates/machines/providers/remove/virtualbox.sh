# shellcheck shell=bash
# Removes virtual machines from this user's VirtualBox. Inputs: WORK, STACK.
. templates/machines/providers/remove/vagrant.sh

require_daemon() { VBoxManage list vms >/dev/null || fail "VirtualBox does not answer on this machine; see why: VBoxManage list vms"; }

vm_info() { VBoxManage showvminfo "$1" --machinereadable; }

remove_machine() {
  local machine=swarm-site-$STACK-$1 output
  require_daemon
  vagrant_destroy "$1"
  if vm_info "$machine" >/dev/null 2>&1; then
    VBoxManage controlvm "$machine" poweroff >/dev/null 2>&1 || true
    output=$(VBoxManage unregistervm "$machine" --delete 2>&1) || fail "VirtualBox can't remove it: $output; run again: make down"
  fi
  rm -rf "${MACHINES:?}/$1"
}

leftovers() {
  local machine
  VBoxManage list vms | sed -n 's/^"\(.*\)" {.*}$/\1/p' | while read -r machine; do
    if vm_info "$machine" | grep -Fx "groups=\"/swarm-site-$STACK\"" >/dev/null; then echo "${machine#"swarm-site-$STACK-"}"; fi
  done
}

# remove_network: also removes the box.
remove_network() {
  local name output
  if [[ -e $HOSTONLY_FILE ]]; then
    name=$(cat "$HOSTONLY_FILE")
    if VBoxManage list hostonlyifs | grep -x "Name: *$name" >/dev/null; then
      output=$(VBoxManage hostonlyif remove "$name" 2>&1) || fail "VirtualBox can't remove the network $name: $output; run again: make down"
    fi
    rm "$HOSTONLY_FILE"
  fi
  remove_box
}

# shellcheck shell=bash
# Vagrant's virtualbox provider: a machine is a virtual machine of this user's VirtualBox. A stack has a host-only network and a
# box of its own. Inputs: WORK, STACK.
. templates/machines/providers/vagrant.sh

check_host() {
  local words
  command -v VBoxManage >/dev/null || fail "VirtualBox is not installed, and set-up does not do it; see https://www.virtualbox.org/wiki/Linux_Downloads"
  need vagrant curl python3 ssh ssh-keygen ip flock
  words=$(VBoxManage list hostinfo 2>&1) || fail "VirtualBox does not run on this machine: $words"
  # Without its kernel module it answers, and makes nothing.
  [[ $words != *WARNING* ]] || fail "VirtualBox does not run on this machine: $words"
}

check_room() {
  local folder disk
  refuse_little_memory "$MEMORY_WANTED"
  folder=$(VBoxManage list systemproperties | sed -n 's/^Default machine folder: *//p')
  folder=${folder:-$HOME}
  disk=$(df -Pm "$folder" 2>/dev/null | awk 'NR == 2 { print $4 }')
  ((${disk:-10240} >= 10240)) || fail "the machines need 10240 MB of disk below $folder and $disk MB are free; make room"
}

# hostonly ADDRESS: the host-only interface of this machine that has this address.
hostonly() { VBoxManage list hostonlyifs | awk -v address="$1" '$1 == "Name:" { name = $2 } $1 == "IPAddress:" && $2 == address { print name }'; }

create_network() {
  local first mask name words
  first=$(dotted $(($(integer "${NETWORK%/*}") + 1)))
  mask=$(dotted $(((0xffffffff << (32 - ${NETWORK#*/})) & 0xffffffff)))
  if [[ -e $HOSTONLY_FILE ]]; then
    name=$(cat "$HOSTONLY_FILE")
    if [[ $(hostonly "$first") == "$name" ]]; then return 0; fi
    [[ -z $(leftovers) ]] || fail "the machines of this stack stand in another network than $NETWORK, and it can't be changed under them; take them down first: make down"
    remove_network
  fi
  refuse_overlap "$NETWORK"
  words=$(VBoxManage hostonlyif create 2>&1) || fail "a host-only network can't be made: $words"
  name=$(sed -n "s/.*Interface '\(.*\)' was successfully created.*/\1/p" <<<"$words")
  echo "$name" >"$HOSTONLY_FILE"
  words=$(VBoxManage hostonlyif ipconfig "$name" --ip "$first" --netmask "$mask" 2>&1) ||
    fail "the network $NETWORK can't be made: $words; VirtualBox allows those in 192.168.56.0/21: pulumi config set network 192.168.57.0/24"
}

remove_network() {
  local name
  if [[ -e $HOSTONLY_FILE ]]; then
    name=$(cat "$HOSTONLY_FILE")
    if VBoxManage list hostonlyifs | grep -x "Name: *$name" >/dev/null; then VBoxManage hostonlyif remove "$name" >/dev/null 2>&1; fi
    rm "$HOSTONLY_FILE"
  fi
  remove_box
}

add_box() { vagrant_box "$1"; }

# One machine of this user after another: VirtualBox can't import the same box twice at once.
create_machine() {
  local log=$MACHINES/$NODE/$MACHINE_LOG lock=${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site/boxes/virtualbox.lock
  exec 8>"$lock"
  if ! flock -n 8; then
    say "waiting for its turn: VirtualBox makes one machine after another"
    flock -w 3000 8 || fail "the lock $lock was not free within 3000 s; see who holds it: fuser -v $lock"
  fi
  say "vagrant up (log: $log)"
  vagrant_up 900 || fail "vagrant up failed: $(tail -n 15 "$log")
log: $log; run again: make up"
  exec 8>&-
}

vm_info() { VBoxManage showvminfo "$1" --machinereadable; }

remove_machine() {
  local folder=$MACHINES/$1 machine=swarm-site-$STACK-$1
  if [[ -e $folder/$MACHINE_SSH_CONFIG ]]; then ssh -F "$folder/$MACHINE_SSH_CONFIG" -O exit "$1" >/dev/null 2>&1 || true; fi
  vagrant_destroy "$1" || say "vagrant destroy failed ($(tail -n 1 "$folder/$MACHINE_LOG")); its machine is removed directly"
  if vm_info "$machine" >/dev/null 2>&1; then
    VBoxManage controlvm "$machine" poweroff >/dev/null 2>&1 || true
    VBoxManage unregistervm "$machine" --delete >/dev/null 2>&1
  fi
  rm -rf "$folder"
}

leftovers() {
  local machine
  VBoxManage list vms | sed -n 's/^"\(.*\)" {.*}$/\1/p' | while read -r machine; do
    if vm_info "$machine" | grep -qFx "groups=\"/swarm-site-$STACK\""; then echo "${machine#"swarm-site-$STACK-"}"; fi
  done
}

power() {
  local machine=swarm-site-$STACK-$1 state
  case $2 in
    state)
      state=$(vm_info "$machine" 2>/dev/null | sed -n 's/^VMState="\(.*\)"$/\1/p') || true
      case $state in
        '') echo none ;;
        poweroff | aborted | saved) echo off ;;
        *) echo on ;;
      esac
      ;;
    start) VBoxManage startvm "$machine" --type headless >/dev/null ;;
    off) VBoxManage controlvm "$machine" poweroff >/dev/null 2>&1 ;;
  esac
}

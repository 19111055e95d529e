# shellcheck shell=bash
# Vagrant's virtualbox provider: a machine is a virtual machine in this user's VirtualBox. Each stack has its own
# host-only network and box.
# Inputs: WORK, STACK; for the network NETWORK (CIDR), GATEWAY (this machine's address in it) and NETMASK; for the room
# check MEMORY_WANTED (MB for all machines).
. templates/machines/providers/vagrant.sh
. templates/machines/providers/remove/virtualbox.sh

check_host() {
  local output
  command -v VBoxManage >/dev/null || fail "VirtualBox is not installed, and set-up does not install it; see https://www.virtualbox.org/wiki/Linux_Downloads"
  need vagrant curl ssh ssh-keygen ip flock
  output=$(VBoxManage list hostinfo 2>&1) || fail "VirtualBox does not work on this machine: $output"
  # Without its kernel module, VirtualBox answers but can't create anything.
  [[ $output != *WARNING* ]] || fail "VirtualBox does not work on this machine: $output"
}

check_room() {
  local folder
  require_memory "$MEMORY_WANTED"
  folder=$(VBoxManage list systemproperties | sed -n 's/^Default machine folder: *//p')
  require_disk "${folder:-$HOME}" 10240
}

# hostonly ADDRESS: prints this machine's host-only interface with this address.
hostonly() { VBoxManage list hostonlyifs | awk -v address="$1" '$1 == "Name:" { name = $2 } $1 == "IPAddress:" && $2 == address { print name }'; }

create_network() {
  local name output
  if [[ -e $HOSTONLY_FILE ]]; then
    name=$(cat "$HOSTONLY_FILE")
    if [[ $(hostonly "$GATEWAY") == "$name" ]]; then return 0; fi
    [[ -z $(leftovers) ]] || fail "this stack uses another network than $NETWORK, which can't change while its machines exist; first run: make down"
    remove_network
  fi
  require_free_network
  output=$(VBoxManage hostonlyif create 2>&1) || fail "can't create a host-only network: $output"
  name=$(sed -n "s/.*Interface '\(.*\)' was successfully created.*/\1/p" <<<"$output")
  echo "$name" >"$HOSTONLY_FILE"
  output=$(VBoxManage hostonlyif ipconfig "$name" --ip "$GATEWAY" --netmask "$NETMASK" 2>&1) ||
    fail "can't create the network $NETWORK: $output; VirtualBox allows only those in 192.168.56.0/21: pulumi config set network 192.168.57.0/24"
}

add_box() { vagrant_box "$1"; }

# create_machine: one at a time per user, since VirtualBox can't import a box twice concurrently.
create_machine() {
  local log=$MACHINES/$NODE/$MACHINE_LOG lock=${XDG_CACHE_HOME:-$HOME/.cache}/swarm-site/boxes/virtualbox.lock
  exec 8>"$lock"
  if ! flock -n 8; then
    say "waiting for its turn: VirtualBox creates one machine after another"
    flock -w 3000 8 || fail "the lock $lock was not released within 3000 s; find its holder: fuser -v $lock"
  fi
  say "vagrant up (log: $log)"
  vagrant_up 900 || fail_up "$log"
  exec 8>&-
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

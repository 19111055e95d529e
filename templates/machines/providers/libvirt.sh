# shellcheck shell=bash
# Vagrant's libvirt provider: a machine is a virtual machine of this machine's libvirtd. A stack has a network, a storage pool
# and a box of its own. Inputs: WORK, STACK.
. templates/machines/providers/vagrant.sh

virt() { virsh --quiet --connect qemu:///system "$@"; }

refuse_no_daemon() { virt uri >/dev/null || fail "libvirtd of this machine does not answer; run: tools/setup up"; }

check_host() {
  [[ $(uname -m) == x86_64 ]] || fail "virtual machines of libvirt are made on x86_64, and this is $(uname -m); take another one: pulumi config set --path machines.provider docker"
  need vagrant virsh qemu-img qemu-system-x86_64 dnsmasq curl python3 ssh ssh-keygen ip flock
  refuse_no_daemon
}

check_room() {
  local disk
  refuse_little_memory "$MEMORY_WANTED"
  disk=$(df -Pm /var/lib/libvirt | awk 'NR == 2 { print $4 }')
  ((disk >= 6144)) || fail "the machines need 6144 MB of disk below /var/lib/libvirt and $disk MB are free; make room"
}

# mac ADDRESS: the hardware address of the machine with that IPv4 address, as libvirt.rb has it.
mac() {
  local a b c d
  IFS=. read -r a b c d <<<"$1"
  printf '52:54:%02x:%02x:%02x:%02x' "$a" "$b" "$c" "$d"
}

# network_xml: the stack's network. dnsmasq gives out no more addresses, reserved ones too, than the range has.
network_xml() {
  local first size=$((1 << (32 - ${NETWORK#*/})))
  first=$(integer "${NETWORK%/*}")
  cat <<END
<network>
  <name>swarm-site-$STACK</name>
  <forward mode='nat'/>
  <ip address='$(dotted $((first + 1)))' prefix='${NETWORK#*/}'>
    <dhcp><range start='$(dotted $((first + 2)))' end='$(dotted $((first + size - 2)))'/></dhcp>
  </ip>
</network>
END
}

# The network knows the addresses of the NODES before they ask for them.
create_network() {
  local own=swarm-site-$STACK present address words
  if present=$(virt net-dumpxml "$own" 2>/dev/null); then
    grep -qF "$(network_xml | grep '<ip ')" <<<"$present" ||
      fail "the machines of this stack stand in another network than $NETWORK, and it can't be changed under them; take them down first: make down"
  else
    refuse_overlap "$NETWORK"
    words=$(virt net-define /dev/stdin <<<"$(network_xml)" 2>&1) || fail "the network $NETWORK can't be made: $words"
  fi
  virt net-autostart "$own" >/dev/null
  if ! virt net-list --name | grep -qx "$own"; then
    words=$(virt net-start "$own" 2>&1) ||
      fail "the network $NETWORK can't be started: $words; give this stack another one: pulumi config set network 192.168.57.0/24"
  fi
  present=$(virt net-dumpxml "$own")
  while read -r _ address _; do
    if grep -qF "$(mac "$address")" <<<"$present"; then continue; fi
    virt net-update "$own" add-last ip-dhcp-host "<host mac='$(mac "$address")' ip='$address'/>" --live --config >/dev/null
  done <<<"${NODES:?}"
  create_pool
}

create_pool() {
  local own=swarm-site-$STACK words
  if ! virt pool-info "$own" >/dev/null 2>&1; then
    words=$(virt pool-define-as "$own" dir --target "/var/lib/libvirt/images/$own" 2>&1 && virt pool-build "$own" 2>&1) ||
      fail "the storage pool $own can't be made: $words"
  fi
  virt pool-autostart "$own" >/dev/null
  if ! virt pool-list --name | grep -qx " *$own *"; then virt pool-start "$own" >/dev/null; fi
}

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

# upload VOLUME FILE FORMAT: puts a file into the stack's pool, whatever of it is there from a run that was cut off.
upload() {
  local own=swarm-site-$STACK size words
  size=$(qemu-img info --output=json "$2" | sed -n 's/^    "virtual-size": \([0-9]*\),$/\1/p')
  if virt vol-info --pool "$own" "$1" >/dev/null 2>&1; then virt vol-delete --pool "$own" "$1" >/dev/null; fi
  words=$(virt vol-create-as "$own" "$1" "$size" --format "$3" 2>&1 && virt vol-upload --pool "$own" "$1" "$2" 2>&1) ||
    fail "$2 can't be put into the storage pool $own: $words"
}

# boots KERNEL: it comes up with hardware virtualization; without a disk it ends in a panic of its own.
boots() {
  timeout 8 qemu-system-x86_64 -enable-kvm -cpu host -m 256 -nodefaults -display none -no-reboot \
    -serial stdio -kernel "$1" -append 'console=ttyS0 panic=-1' </dev/null 2>&1 | grep -q 'Unable to mount root fs'
}

# add_box FILE: to Vagrant, and, before the first machine wants it, to the pool: machines that start side by side would each do
# that, and fail. With its kernel it is found out how machines can run here.
add_box() {
  local folder pool=/var/lib/libvirt/images/swarm-site-$STACK mark kernel
  vagrant_box "$1"
  folder=$(box_folder)
  kernel=$folder/vmlinuz
  [[ -e $folder/box.img ]] || fail "the box $1 has no box.img, as Vagrant's first format for libvirt has it; take another one: pulumi config set --path machines.box own"
  mark=$(stat -c %Y "$folder/box.img")
  upload "swarm-site-${STACK}_vagrant_box_image_0_${mark}_box.img" "$folder/box.img" qcow2
  rm -f "$KERNEL_FILE"
  if [[ -e $kernel ]]; then
    upload "$mark.vmlinuz" "$kernel" raw
    upload "$mark.initrd" "$folder/initrd" raw
    echo "$pool/$mark" >"$KERNEL_FILE"
  else
    kernel=/boot/vmlinuz-$(uname -r)
  fi
  choose_virtualization "$kernel"
}

# choose_virtualization KERNEL
choose_virtualization() {
  local device=${SWARM_SITE_KVM:-/dev/kvm}
  if [[ -w $device && -r $1 ]] && boots "$1"; then
    rm -f "$EMULATED"
    say "machines run with hardware virtualization: a kernel came up with it"
    return 0
  fi
  touch "$EMULATED"
  if [[ ! -w $device ]]; then
    say "machines are emulated: $device is not there, or not for this user"
  elif [[ ! -r $1 ]]; then
    say "machines are emulated: there is no kernel to try $device with ($1 can't be read); machines.box: own has one"
  else
    say "machines are emulated: with $device the kernel $1 did not come up within 8 s"
  fi
}

create_machine() {
  local log=$MACHINES/$NODE/$MACHINE_LOG
  say "vagrant up (log: $log)"
  vagrant_up 1200 || fail "vagrant up failed: $(tail -n 15 "$log")
log: $log; its console: /var/lib/libvirt/images/swarm-site-$STACK/$NODE.console; run again: make up"
}

remove_machine() {
  local folder=$MACHINES/$1 own=swarm-site-$STACK
  refuse_no_daemon
  if [[ -e $folder/$MACHINE_SSH_CONFIG ]]; then ssh -F "$folder/$MACHINE_SSH_CONFIG" -O exit "$1" >/dev/null 2>&1 || true; fi
  vagrant_destroy "$1" || say "vagrant destroy failed ($(tail -n 1 "$folder/$MACHINE_LOG")); its domain is removed directly"
  if virt dominfo "$own-$1" >/dev/null 2>&1; then
    virt destroy "$own-$1" >/dev/null 2>&1 || true
    virt undefine "$own-$1" --managed-save --snapshots-metadata >/dev/null
  fi
  if virt vol-info --pool "$own" "$own-$1.img" >/dev/null 2>&1; then virt vol-delete --pool "$own" "$own-$1.img" >/dev/null; fi
  rm -rf "$folder"
}

leftovers() {
  local domain
  for domain in $(virt list --all --name); do virt desc "$domain"; done | awk -v stack="$STACK" '$1 == "swarm-site" && $2 == stack { print $3 }'
}

power() {
  local domain=swarm-site-$STACK-$1 state
  case $2 in
    state)
      state=$(virt domstate "$domain" 2>/dev/null) || state=none
      case $state in
        none) echo none ;;
        'shut off' | crashed) echo off ;;
        *) echo on ;;
      esac
      ;;
    start) virt start "$domain" >/dev/null ;;
    off) virt destroy "$domain" >/dev/null ;;
  esac
}

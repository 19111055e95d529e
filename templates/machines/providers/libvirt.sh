# shellcheck shell=bash
# Vagrant's libvirt provider: a machine is a virtual machine in the local libvirtd. Each stack has its own network,
# storage pool and box.
# Inputs: WORK, STACK; for the network NETWORK (CIDR), GATEWAY (this machine's address in it), DHCP_FIRST and DHCP_LAST
# (its range), NODES; for the room check MEMORY_WANTED (MB for all machines).
. templates/machines/providers/vagrant.sh
. templates/machines/providers/remove/libvirt.sh

check_host() {
  [[ $(uname -m) == x86_64 ]] || fail "provider libvirt needs x86_64, and this machine is $(uname -m); use another one: pulumi config set --path machines.provider docker"
  need vagrant virsh qemu-img qemu-system-x86_64 dnsmasq curl ssh ssh-keygen ip flock
  require_daemon
}

check_room() {
  require_memory "$MEMORY_WANTED"
  require_disk /var/lib/libvirt 6144
}

# mac ADDRESS: prints the MAC address of the machine with that IPv4 address, as in libvirt.rb.
mac() {
  local a b c d
  IFS=. read -r a b c d <<<"$1"
  printf '52:54:%02x:%02x:%02x:%02x' "$a" "$b" "$c" "$d"
}

# network_xml: the range limits the number of dnsmasq's leases, reserved addresses included.
network_xml() {
  cat <<END
<network>
  <name>swarm-site-$STACK</name>
  <forward mode='nat'/>
  <ip address='$GATEWAY' prefix='${NETWORK#*/}'>
    <dhcp><range start='$DHCP_FIRST' end='$DHCP_LAST'/></dhcp>
  </ip>
</network>
END
}

# create_network: reserves the addresses of NODES before they request one.
create_network() {
  local own=swarm-site-$STACK present address output
  if present=$(virt net-dumpxml "$own" 2>/dev/null); then
    grep -F "$(network_xml | grep '<ip ')" <<<"$present" >/dev/null ||
      fail "this stack uses another network than $NETWORK, which can't change while its machines exist; first run: make down"
  else
    require_free_network
    output=$(virt net-define /dev/stdin <<<"$(network_xml)" 2>&1) || fail "can't create the network $NETWORK: $output"
  fi
  virt net-autostart "$own" >/dev/null
  if ! virt net-list --name | grep -x "$own" >/dev/null; then
    output=$(virt net-start "$own" 2>&1) ||
      fail "can't start the network $NETWORK: $output; give this stack another one: pulumi config set network 192.168.57.0/24"
  fi
  present=$(virt net-dumpxml "$own")
  while read -r _ address _; do
    if grep -F "$(mac "$address")" <<<"$present" >/dev/null; then continue; fi
    virt net-update "$own" add-last ip-dhcp-host "<host mac='$(mac "$address")' ip='$address'/>" --live --config >/dev/null
  done <<<"${NODES:?}"
  create_pool
}

create_pool() {
  local own=swarm-site-$STACK output
  if ! virt pool-info "$own" >/dev/null 2>&1; then
    output=$(virt pool-define-as "$own" dir --target "/var/lib/libvirt/images/$own" 2>&1 && virt pool-build "$own" 2>&1) ||
      fail "can't create the storage pool $own: $output"
  fi
  virt pool-autostart "$own" >/dev/null
  if ! virt pool-list --name | grep -x " *$own *" >/dev/null; then virt pool-start "$own" >/dev/null; fi
}

# upload VOLUME FILE FORMAT: uploads a file to the stack's pool, replacing leftovers of an interrupted run.
upload() {
  local own=swarm-site-$STACK size output
  size=$(qemu-img info --output=json "$2" | sed -n 's/^    "virtual-size": \([0-9]*\),$/\1/p')
  if virt vol-info --pool "$own" "$1" >/dev/null 2>&1; then virt vol-delete --pool "$own" "$1" >/dev/null; fi
  output=$(virt vol-create-as "$own" "$1" "$size" --format "$3" 2>&1 && virt vol-upload --pool "$own" "$1" "$2" 2>&1) ||
    fail "can't put $2 into the storage pool $own: $output"
}

# boots KERNEL: boots it with hardware virtualization; without a disk it ends in a panic.
boots() {
  timeout 8 qemu-system-x86_64 -enable-kvm -cpu host -m 256 -nodefaults -display none -no-reboot \
    -serial stdio -kernel "$1" -append 'console=ttyS0 panic=-1' </dev/null 2>&1 | grep 'Unable to mount root fs' >/dev/null
}

# add_box FILE: adds it to Vagrant, and to the pool before the first machine needs it: machines starting in parallel
# would each try to upload it, and fail. Then tests with a kernel, the box's own if any, how machines can run here.
add_box() {
  local folder pool=/var/lib/libvirt/images/swarm-site-$STACK mark kernel
  vagrant_box "$1"
  folder=$(box_folder)
  kernel=$folder/vmlinuz
  [[ -e $folder/box.img ]] || fail "the box $1 has no box.img, as Vagrant's first format for libvirt requires; use another one: pulumi config set --path machines.box own"
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
    say "machines run with hardware virtualization: a kernel booted with it"
    return 0
  fi
  touch "$EMULATED"
  if [[ ! -w $device ]]; then
    say "machines are emulated: this user can't write to $device, or it does not exist"
  elif [[ ! -r $1 ]]; then
    say "machines are emulated: there is no kernel to test $device with ($1 can't be read); machines.box: own brings one"
  else
    say "machines are emulated: with $device the kernel $1 did not boot within 8 s"
  fi
}

create_machine() {
  local log=$MACHINES/$NODE/$MACHINE_LOG
  say "vagrant up (log: $log)"
  vagrant_up 1200 || fail_up "$log; its console: /var/lib/libvirt/images/swarm-site-$STACK/$NODE.console"
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

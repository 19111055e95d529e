# shellcheck shell=bash
# Creates machines with Vagrant's providers. Inputs: WORK, STACK, PROVIDER; for a machine NODE and VAGRANTFILE (text);
# for the network NETWORK (CIDR).

# create_key: creates the key pair that opens the machines, and lets containers mount its public half.
create_key() {
  if [[ ! -e $KEY_FILE ]]; then
    rm -f "$KEY_FILE.new" "$KEY_FILE.new.pub"
    ssh-keygen -q -t ed25519 -N '' -C "swarm-site $STACK" -f "$KEY_FILE.new" </dev/null
    mv "$KEY_FILE.new.pub" "$KEY_FILE.pub"
    mv "$KEY_FILE.new" "$KEY_FILE"
  fi
  [[ -e $KEY_FILE.pub ]] || ssh-keygen -y -f "$KEY_FILE" >"$KEY_FILE.pub"
  mkdir -p "$AUTHORIZED_KEYS"
  install -m 644 "$KEY_FILE.pub" "$AUTHORIZED_KEYS/vagrant"
}

# is_current: the machine is completely created, with these settings. `vagrant up` skips unfinished provisioning and
# ignores changed settings.
is_current() {
  local folder=$MACHINES/$NODE
  [[ -e $folder/$MACHINE_COMPLETE && $(cat "$folder/Vagrantfile") == "${VAGRANTFILE%$'\n'}" ]]
}

# vagrant_up SECONDS: creates the machine in its folder, or starts it.
vagrant_up() {
  local folder=$MACHINES/$NODE
  printf '%s' "$VAGRANTFILE" >"$folder/Vagrantfile" &&
    (cd "$folder" && timeout --foreground "$1" vagrant up --provider "$PROVIDER") </dev/null >>"$folder/$MACHINE_LOG" 2>&1 8>&- 9>&-
}

# fail_up LOGS: reports the end of Vagrant's log and where to find the rest.
fail_up() { fail "vagrant up failed: $(tail -n 15 "$MACHINES/$NODE/$MACHINE_LOG")"$'\n'"log: $1; run again: make up"; }

# require_free_network: fails if this machine has a route into NETWORK.
require_free_network() {
  local overlaps route device
  overlaps=$(.venv/bin/python -m tools.routes "$NETWORK") || fail "can't read this machine's routes; see why: ip -4 route"
  if [[ -z $overlaps ]]; then return 0; fi
  read -r route device <<<"$overlaps"
  fail "the network $NETWORK overlaps $route on $device of this machine; give this stack another one: pulumi config set network 192.168.57.0/24"
}

# require_memory MB: fails if this machine has less memory available.
require_memory() {
  local memory
  memory=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
  ((memory >= $1)) || fail "the machines need $1 MB of memory and $memory MB are free; lower machines.memory or machines.count, or stop something"
}

# require_disk FOLDER MB: fails if FOLDER's file system has less available. A daemon's folder may be invisible here.
require_disk() {
  local disk
  disk=$(df -Pm "$1" 2>/dev/null | awk 'NR == 2 { print $4 }') || return 0
  ((disk >= $2)) || fail "the machines need $2 MB of disk below $1 and $disk MB are free; make room"
}

box_folder() { echo "${VAGRANT_HOME:-$HOME/.vagrant.d}/boxes/swarm-site-$STACK/0/$PROVIDER"; }

# vagrant_box FILE: adds it as the stack's own box, replacing an earlier one.
vagrant_box() {
  vagrant box add --force --no-tty --provider "$PROVIDER" --name "swarm-site-$STACK" "$1" </dev/null >>"$LOG" 2>&1 9>&- ||
    fail "vagrant box add failed: $(tail -n 5 "$LOG"); log: $LOG; run again: make up"
}

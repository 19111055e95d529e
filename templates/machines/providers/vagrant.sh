# shellcheck shell=bash
# What Vagrant's providers share. Inputs: WORK; for a new machine also NODE, PROVIDER and VAGRANTFILE (text).

# is_current: the machine is there, whole and of these settings. Vagrant starts a half made machine without what it had still
# to do, and takes one of other settings for the same.
is_current() {
  local folder=$MACHINES/$NODE
  [[ -e $folder/$MACHINE_COMPLETE && $(cat "$folder/Vagrantfile") == "${VAGRANTFILE%$'\n'}" ]]
}

# vagrant_up SECONDS: makes the machine in its folder, or starts it.
vagrant_up() {
  local folder=$MACHINES/$NODE
  printf '%s' "$VAGRANTFILE" >"$folder/Vagrantfile" &&
    (cd "$folder" && timeout --foreground "$1" vagrant up --provider "$PROVIDER") </dev/null >>"$folder/$MACHINE_LOG" 2>&1 8>&- 9>&-
}

# vagrants FOLDER: the processes of Vagrant that work in it.
vagrants() {
  local folder link pid
  folder=$(realpath "$1")
  find /proc -mindepth 2 -maxdepth 2 -name cwd -lname "$folder" 2>/dev/null | while read -r link; do
    pid=${link#/proc/} pid=${pid%/cwd}
    if grep -qx 'ruby.*\|vagrant\|timeout' "/proc/$pid/comm" 2>/dev/null; then echo "$pid"; fi
  done
}

# end_vagrant FOLDER: ends a Vagrant that goes on there after its run was killed: it holds the machine, and may take minutes.
end_vagrant() {
  local signal
  if no_vagrant "$1"; then return 0; fi
  say "ends Vagrant, which still works on it"
  for signal in TERM KILL; do
    vagrants "$1" | xargs -r kill -s "$signal" 2>/dev/null || true
    if wait_for 10 "Vagrant to end" no_vagrant "$1"; then return 0; fi
  done
}

no_vagrant() { [[ -z $(vagrants "$1") ]]; }

# vagrant_destroy NAME: takes the machine away, if there is one that Vagrant was asked for.
vagrant_destroy() {
  local folder=$MACHINES/$1
  if [[ ! -e $folder/Vagrantfile ]]; then return 0; fi
  end_vagrant "$folder"
  (cd "$folder" && timeout --foreground 120 vagrant destroy -f) </dev/null >>"$folder/$MACHINE_LOG" 2>&1 9>&-
}

integer() {
  local a b c d
  IFS=. read -r a b c d <<<"$1"
  echo $(((a << 24) + (b << 16) + (c << 8) + d))
}

# dotted NUMBER: the address that `integer` made it of.
dotted() { echo "$(($1 >> 24)).$(($1 >> 16 & 255)).$(($1 >> 8 & 255)).$(($1 & 255))"; }

# overlap CIDR CIDR
overlap() {
  local shortest=$((${1#*/} < ${2#*/} ? ${1#*/} : ${2#*/}))
  (($(integer "${1%/*}") >> (32 - shortest) == $(integer "${2%/*}") >> (32 - shortest)))
}

# refuse_overlap CIDR: fails if this machine reaches other things in that network.
refuse_overlap() {
  local route device
  while read -r route device; do
    [[ $route == */* ]] || continue
    ! overlap "$1" "$route" ||
      fail "the network $1 overlaps $route on $device of this machine; give this stack another one: pulumi config set network 192.168.57.0/24"
  done < <(ip -4 route | awk '{ for (i = 2; i < NF; i++) if ($i == "dev") print $1, $(i + 1) }')
}

# refuse_little_memory MB: fails if this machine has less to give.
refuse_little_memory() {
  local memory
  memory=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
  ((memory >= $1)) || fail "the machines need $1 MB of memory and $memory MB are free; lower machines.memory or machines.count, or stop something"
}

box_folder() { echo "${VAGRANT_HOME:-$HOME/.vagrant.d}/boxes/swarm-site-$STACK/0/$PROVIDER"; }

# vagrant_box FILE: makes that file the stack's own box, whatever was there.
vagrant_box() {
  vagrant box add --force --no-tty --provider "$PROVIDER" --name "swarm-site-$STACK" "$1" </dev/null >>"$LOG" 2>&1 9>&- ||
    fail "vagrant box add failed: $(tail -n 5 "$LOG"); log: $LOG"
}

remove_box() {
  if [[ -e ${VAGRANT_HOME:-$HOME/.vagrant.d}/boxes/swarm-site-$STACK ]]; then
    vagrant box remove --force --all "swarm-site-$STACK" </dev/null >/dev/null
  fi
}

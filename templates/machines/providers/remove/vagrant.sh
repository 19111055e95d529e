# shellcheck shell=bash
# Removes machines and boxes of Vagrant's providers. Inputs: WORK, STACK.
# Each machine has a separate Vagrant setup in its folder, independent of the user's Vagrant settings.
unset VAGRANT_CWD VAGRANT_VAGRANTFILE VAGRANT_DOTFILE_PATH VAGRANT_DEFAULT_PROVIDER VAGRANT_PREFERRED_PROVIDERS VAGRANT_ALIAS_FILE

# vagrants FOLDER: prints the Vagrant processes working in it.
vagrants() {
  local folder link pid
  folder=$(realpath "$1")
  find /proc -mindepth 2 -maxdepth 2 -name cwd -lname "$folder" 2>/dev/null | while read -r link; do
    pid=${link#/proc/} pid=${pid%/cwd}
    if grep -qx 'ruby.*\|vagrant\|timeout' "/proc/$pid/comm" 2>/dev/null; then echo "$pid"; fi
  done
}

no_vagrant() { [[ -z $(vagrants "$1") ]]; }

# end_vagrant FOLDER: ends a Vagrant that outlived its killed run. It locks the machine, and may take minutes.
end_vagrant() {
  local signal
  if no_vagrant "$1"; then return 0; fi
  say "ending Vagrant, which is still working on it"
  for signal in TERM KILL; do
    vagrants "$1" | xargs -r kill -s "$signal" 2>/dev/null || true
    if wait_for 10 "Vagrant to end" no_vagrant "$1"; then return 0; fi
  done
}

# vagrant_destroy NAME: destroys the machine, if Vagrant was asked to create it, and closes the shared ssh connection.
vagrant_destroy() {
  local folder=$MACHINES/$1
  if [[ -e $folder/$MACHINE_SSH_CONFIG ]]; then ssh -F "$folder/$MACHINE_SSH_CONFIG" -O exit "$1" >/dev/null 2>&1 || true; fi
  if [[ ! -e $folder/Vagrantfile ]]; then return 0; fi
  end_vagrant "$folder"
  (cd "$folder" && timeout --foreground 120 vagrant destroy -f) </dev/null >>"$folder/$MACHINE_LOG" 2>&1 9>&- ||
    say "vagrant destroy failed ($(tail -n 1 "$folder/$MACHINE_LOG")); removing the machine directly"
}

remove_box() {
  if [[ -e ${VAGRANT_HOME:-$HOME/.vagrant.d}/boxes/swarm-site-$STACK ]]; then
    vagrant box remove --force --all "swarm-site-$STACK" </dev/null >/dev/null
  fi
}

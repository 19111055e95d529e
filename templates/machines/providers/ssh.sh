# shellcheck shell=bash
# Existing hosts, reached with the user's own ssh: adopted, and later restored to their previous state.
# Inputs: WORK, STACK, IDENTITY, SSH_CONFIG (text); for an adoption also NODE, HOST (address user port jump) and PORTS (of the
# services). Hosts run only complete scripts, from templates/hosts/.
. templates/machines/providers/remove/ssh.sh

check_host() {
  need docker ssh ssh-keygen flock
  docker info >/dev/null || fail "the Docker daemon of this machine, which builds the images, does not answer; run: tools/setup up"
}

# Hosts have their own disks, memory and network, and accept the user's own keys.
check_room() { return 0; }
create_key() { return 0; }
create_network() { return 0; }

# An interrupted adoption is resumed.
is_current() { return 0; }

# advice ERROR: prints the remedy for an ssh error, possibly a jump host's.
advice() {
  local address user port jump login key="(host key is known for|Host key for) ([^ ]+) "
  read -r address user port jump <<<"$HOST"
  login="ssh -p $port${jump:+ -J $jump} $user@$address true"
  if [[ $1 == *"IDENTIFICATION HAS CHANGED"* && $1 =~ $key ]]; then
    echo "the host key of ${BASH_REMATCH[2]} has changed: the host was reinstalled, or the connection is being intercepted. If the new key is right, forget the old one: ssh-keygen -R '${BASH_REMATCH[2]}', and add the new one: $login"
  elif [[ $1 =~ $key ]]; then
    echo "the host key of ${BASH_REMATCH[2]} is not known to this user's ssh; check its fingerprint and add it: $login"
  elif [[ $1 =~ ([^ ]+@[^ ]+):\ Permission\ denied && ${BASH_REMATCH[1]} != "$user@$address" ]]; then
    echo "its jump host ${BASH_REMATCH[1]} accepts none of this user's ssh keys; add one there, then try: $login"
  elif [[ $1 == *"Permission denied"* ]]; then
    echo "it accepts none of this user's ssh keys; add one: ssh-copy-id -p $port${jump:+ -o ProxyJump=$jump} $user@$address"
  else
    echo "it does not answer; find out why: $login"
  fi
}

# whole FILE: prints a script with its sourced files inlined, so that it is self-contained.
whole() {
  local line
  while IFS= read -r line; do
    if [[ $line == ". templates/"* ]]; then whole "${line#. }"; else printf '%s\n' "$line"; fi
  done <"$1"
}

create_machine() {
  local log=$MACHINES/$NODE/$MACHINE_LOG mark=$MACHINES/$NODE/$MACHINE_ADOPTED user output services status=0
  say "adopting it (log: $log)"
  enter "$NODE" || fail "can't be adopted: $(advice "$output") ($output)"
  read -r _ user _ <<<"$HOST"
  read -ra services <<<"$PORTS"
  on_node "$NODE" true </dev/null >/dev/null 2>&1 ||
    fail "can't be adopted: its user needs passwordless sudo; run there as root: echo '$user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/swarm-site"
  # From here on the host may have something to release, unless it refuses.
  touch "$mark"
  output=$(LIMIT=800 on_node "$NODE" bash -c "$(whole templates/hosts/adopt.sh)" adopt \
    "$NODE" "$(owner "$NODE")" "stack $STACK of $(id -un)@$(uname -n)" "$user" "$(whole templates/hosts/release.sh)" \
    "$(cat templates/images/node/files/etc/docker/daemon.json)" "${services[@]}" </dev/null 2>&1 >>"$log") || status=$?
  if ((status == 3)); then rm "$mark"; fi
  ((status == 0)) || fail "can't be adopted: ${output//$'\n'/; } (log: $log); fix the cause and run again: make up"
  [[ -z $output ]] || say "$output"
  say "$(tail -n 1 "$log")"
}

# Hosts are not powered on or off from here.
power() {
  if [[ $2 == state ]]; then echo unknown; fi
}

@% include "lib.sh" %@
@% include "machines/docker.sh" %@
# Makes one machine in a folder of its own and waits until Docker answers on it.
# Inputs: WORK, STACK, NODE, PROVIDER, VAGRANTFILE and SSH_CONFIG (texts).

folder=$WORK/machines/$NODE
log=$folder/log
mkdir -p "$folder"
take_lock "$WORK/locks/$NODE" 300

# Vagrant starts a half made machine without what it had still to do, and takes one of other settings for the same.
if [[ ! -e $folder/complete || $(cat "$folder/Vagrantfile") != "${VAGRANTFILE%$'\n'}" ]]; then
  remove_machine "$NODE"
  mkdir -p "$folder"
fi
printf '%s' "$VAGRANTFILE" >"$folder/Vagrantfile"
printf '%s' "$SSH_CONFIG" >"$folder/ssh_config"

vagrant_up() { (cd "$folder" && timeout --foreground 300 vagrant up --provider "$PROVIDER") </dev/null >>"$log" 2>&1 9>&-; }

# Before it makes a container, Vagrant looks at all that are on this machine, and gives up when one of them, anybody's, goes
# away meanwhile.
overtaken() {
  tail -n 10 "$log" | grep -q 'No such object' && ! docker container inspect "swarm-site-$STACK-$NODE" >/dev/null 2>&1
}

say "vagrant up (log: $log)"
for try in 1 2 3 4 5; do
  if vagrant_up; then break; fi
  if ((try == 5)) || ! overtaken; then
    fail "vagrant up failed: $(tail -n 15 "$log")
log: $log; run again: make up"
  fi
done

docker_answers() { on_node "$NODE" docker info </dev/null >>"$log" 2>&1; }
wait_for 90 "Docker" docker_answers || fail "Docker did not answer within 90 s; log: $log; look at it: make ssh NODE=$NODE"
touch "$folder/complete"
say "up after $SECONDS s"

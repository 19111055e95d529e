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

say "vagrant up (log: $log)"
(cd "$folder" && timeout --foreground 300 vagrant up --provider "$PROVIDER") </dev/null >>"$log" 2>&1 9>&- ||
  fail "vagrant up failed: $(tail -n 15 "$log")
log: $log; run again: make up"

docker_answers() { on_node "$NODE" docker info </dev/null >>"$log" 2>&1; }
wait_for 90 "Docker" docker_answers || fail "Docker did not answer within 90 s; log: $log; look at it: make ssh NODE=$NODE"
touch "$folder/complete"
say "up after $SECONDS s"

@% include "lib.sh" %@
@% include "machines/" ~ provider ~ ".sh" %@
# Makes one machine in a folder of its own and waits until Docker answers on it.
# Inputs: WORK, STACK, NODE, SSH_CONFIG (text), and those of its provider.

folder=$WORK/machines/$NODE
log=$folder/log
mkdir -p "$folder"
take_lock "$WORK/locks/$NODE" 300

if ! is_current; then
  remove_machine "$NODE"
  mkdir -p "$folder"
fi
printf '%s' "$SSH_CONFIG" >"$folder/ssh_config"
make_machine

docker_answers() { on_node "$NODE" docker info </dev/null >>"$log" 2>&1; }
wait_for 90 "Docker" docker_answers || fail "Docker did not answer within $(patience 90) s; log: $log; look at it: make ssh NODE=$NODE"
touch "$folder/complete"
say "up after $SECONDS s"

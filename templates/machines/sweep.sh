@% include "lib.sh" %@
@% include "machines/" ~ provider ~ ".sh" %@
# Takes the stack's folder away, and every machine in it that no other resource took away.
# Inputs: WORK, STACK.

for folder in "$WORK"/machines/*/; do
  [[ -d $folder ]] || continue
  NODE=$(basename "$folder")
  say "left over, taken away"
  remove_machine "$NODE"
done
for name in $(left_over); do
  NODE=$name
  say "left over without a folder, taken away"
  remove_machine "$name"
done
remove_network
for socket in "$WORK"/ssh.*; do
  if [[ -S $socket ]]; then ssh -O exit -o ControlPath="$socket" swarm-manager >/dev/null 2>&1 || true; fi
done
rm -rf "$WORK"

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
if [[ -e $WORK/ssh_config ]]; then ssh -F "$WORK/ssh_config" -O exit swarm-manager >/dev/null 2>&1 || true; fi
rm -rf "$WORK"

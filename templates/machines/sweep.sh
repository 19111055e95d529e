@% include "lib.sh" %@
@% include "machines/docker.sh" %@
# Takes the stack's folder away, and every machine in it that no other resource took away.
# Inputs: WORK, STACK.

for folder in "$WORK"/machines/*/; do
  [[ -d $folder ]] || continue
  NODE=$(basename "$folder")
  say "left over, taken away"
  remove_machine "$NODE"
done
for name in $(docker ps -a --filter "label=swarm-site.stack=$STACK" --format '{{.Label "swarm-site.node"}}'); do
  NODE=$name
  say "left over without a folder, taken away"
  remove_machine "$name"
done
if docker network inspect "swarm-site-$STACK" >/dev/null 2>&1; then docker network rm "swarm-site-$STACK" >/dev/null; fi
if [[ -e $WORK/ssh_config ]]; then ssh -F "$WORK/ssh_config" -O exit swarm-manager >/dev/null 2>&1 || true; fi
rm -rf "$WORK"

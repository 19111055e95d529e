@% include "lib.sh" %@
@% include "machines/" ~ provider ~ ".sh" %@
# Prepares the stack's folder on this machine: key pair, list of nodes, ssh configuration; and the machines' network.
# Inputs: WORK, STACK, PROVIDER, NODES (lines: name address role), SSH_CONFIG and CONNECT (texts), and those of its provider.

if [[ -e $WORK/nodes || -e $WORK/provider ]]; then
  made_by=$(cat "$WORK/provider" 2>/dev/null || echo docker)
  [[ $made_by == "$PROVIDER" ]] || fail "the machines of this stack are of the provider $made_by, and it can't be changed under them; take them down first: make down"
fi
check_host

mkdir -p "$WORK/machines" "$WORK/locks"
chmod 700 "$WORK"
# Before anything is made: who sweeps up has to know whose it is.
printf '%s\n' "$PROVIDER" >"$WORK/provider"
make_network
[[ -n $(ls -A "$WORK/machines") ]] || check_room

[[ -e $WORK/key.pub ]] || {
  rm -f "$WORK/key"
  ssh-keygen -q -t ed25519 -N '' -C "swarm-site $STACK" -f "$WORK/key" </dev/null
}
mkdir -p "$WORK/authorized_keys"
install -m 644 "$WORK/key.pub" "$WORK/authorized_keys/vagrant"
printf '%s' "$SSH_CONFIG" >"$WORK/ssh_config"
printf '%s' "$CONNECT" >"$WORK/connect"
printf '%s\n' "$NODES" >"$WORK/nodes.new"
mv "$WORK/nodes.new" "$WORK/nodes"

# Connects stdin and stdout to sshd of the first node whose swarm control port answers.
# Started by ssh as ProxyCommand of the alias swarm-manager, in the project's folder.
set -euo pipefail
work=@{ work }@
tried="" limit=3
# Emulated machines take their time.
if [[ -e $work/emulated ]]; then limit=15; fi
while read -r name address role <&3; do
  [[ $role == manager && -e $work/machines/$name/ssh_config ]] || continue
  if ssh -F "$work/machines/$name/ssh_config" -o ConnectTimeout=$limit "$name" "timeout $limit bash -c ': </dev/tcp/$address/2377'" </dev/null 2>/dev/null; then
    exec ssh -F "$work/machines/$name/ssh_config" -o ConnectTimeout=$limit -W localhost:22 "$name" 3<&-
  fi
  tried+=" $name"
done 3<"$work/nodes"
echo "no manager of the swarm answers (tried:${tried:- none}); run: make status" >&2
exit 1

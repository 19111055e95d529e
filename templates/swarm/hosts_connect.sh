# Tells whether the swarm control port of one host answers; without a name, says that none does.
# Started by ssh for the alias swarm-manager, in the project's folder.
set -euo pipefail
work=@{ work }@
if (($# == 0)); then
  echo "no manager of the swarm answers; run: make status" >&2
  exit 1
fi
[[ -e $work/machines/$1/complete ]]
address=$(awk -v name="$1" '$1 == name { print $2 }' "$work/nodes")
ssh -F "$work/machines/$1/ssh_config" -o ConnectTimeout=3 "$1" "timeout 2 bash -c ': </dev/tcp/$address/2377'" </dev/null 2>/dev/null

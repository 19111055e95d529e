@% include "lib.sh" %@
@% include "swarm/manager.sh" %@
# Waits until a global service has a running task on every node that must have one.
# Inputs: WORK, SERVICE, LABEL (node label that asks for a task), PATIENCE (s); SPEC runs it again when the service changes.

# report SERVICE LABEL, on a manager: what is not there yet, a line each; `failed …` when the change was taken back.
report() {
  local state tasks starting
  state=$(docker service inspect "$1" -f '{{if .UpdateStatus}}{{.UpdateStatus.State}} {{.UpdateStatus.Message}}{{end}}')
  case $state in
    paused* | rollback*) echo "failed $state" && return 0 ;;
    updating*) echo "$state" ;;
  esac
  tasks=$(docker service ps "$1" --filter desired-state=running --format '{{.Node}} {{.CurrentState}}')
  starting=$(awk '$2 != "Running" { print $1 }' <<<"$tasks")
  if [[ $starting ]]; then echo "$starting" && return 0; fi
  docker node ls -q |
    xargs docker node inspect -f "{{.Description.Hostname}} {{.Spec.Availability}} {{.Status.State}} {{index .Spec.Labels \"$2\"}}" |
    awk '$2 == "active" && $3 == "ready" && $4 == "true" { print $1 }' |
    { grep -vxF "$(cut -d' ' -f1 <<<"$tasks")" || true; }
}

settled() { words=$(on_node "$manager" report "$SERVICE" "$LABEL" </dev/null 2>&1) && [[ -z $words || $words == failed* ]]; }

tasks() { docker service ps "$1" --no-trunc --format '{{.Node}}: {{.CurrentState}} {{.Error}}' | head -n 8; }

mapfile -t nodes < <(peers)
manager=$(living_manager "${nodes[@]}") || fail "no manager of the swarm answers; run: make status"
wait_for "$PATIENCE" "$SERVICE on every node" settled ||
  fail "$SERVICE is missing after $(patience "$PATIENCE") s: ${words//$'\n'/, }"$'\n'"$(on_node "$manager" tasks "$SERVICE" </dev/null)"
[[ $words != failed* ]] ||
  fail "the change of $SERVICE was taken back: ${words#failed }"$'\n'"$(on_node "$manager" tasks "$SERVICE" </dev/null)"

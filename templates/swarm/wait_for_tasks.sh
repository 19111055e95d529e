#!/usr/bin/env bash
# Waits until a global service runs a task on every required node.
# Inputs: WORK, SERVICE, SECONDS_ALLOWED; SPEC is the service's hash, so that a changed service is waited for again.
set -euo pipefail
. templates/lib.sh
. templates/swarm/manager.sh

# report SERVICE, on a manager: prints what is missing, one per line; `failed …` if the swarm rolled back the update.
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
    xargs docker node inspect -f "{{.Description.Hostname}} {{.Spec.Availability}} {{.Status.State}} {{index .Spec.Labels \"$LABEL_PROXY\"}}" |
    awk '$2 == "active" && $3 == "ready" && $4 == "true" { print $1 }' |
    { grep -vxF "$(cut -d' ' -f1 <<<"$tasks")" || true; }
}

settled() { missing=$(on_node "$manager" report "$SERVICE" </dev/null 2>&1) && [[ -z $missing || $missing == failed* ]]; }

tasks() { docker service ps "$1" --no-trunc --format '{{.Node}}: {{.CurrentState}} {{.Error}}' | head -n 8; }

mapfile -t nodes < <(peers)
manager=$(living_manager "${nodes[@]}") || fail "no swarm manager answers; run: make status"
wait_for "$SECONDS_ALLOWED" "$SERVICE on every node" settled ||
  fail "$SERVICE is incomplete after $(scaled "$SECONDS_ALLOWED") s: ${missing//$'\n'/, }; run: make status"$'\n'"$(on_node "$manager" tasks "$SERVICE" </dev/null)"
[[ $missing != failed* ]] ||
  fail "the update of $SERVICE was rolled back: ${missing#failed }; run: make status"$'\n'"$(on_node "$manager" tasks "$SERVICE" </dev/null)"

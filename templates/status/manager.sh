#!/usr/bin/env bash
# Prints a manager's view of the swarm, one item per line, fields separated by tabs. Runs on a manager as root.
set -euo pipefail
. templates/contract.sh

docker node ls --format 'node\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}'
# Unlike `ls` and `ps`, `inspect` does not turn \t into a tab.
tab=$'\t'
docker node ls -q |
  xargs docker node inspect -f "drained$tab{{.Description.Hostname}}$tab{{index .Spec.Labels \"$LABEL_PROXY\"}}$tab{{index .Spec.Labels \"$LABEL_DRAINED\"}}"
docker service ls --format 'service\t{{.Name}}\t{{.Replicas}}'
docker service ls -q |
  xargs -r docker service inspect -f "{{with .UpdateStatus}}update$tab{{\$.Spec.Name}}$tab{{.State}}$tab{{.Message}}{{end}}" | sed '/^$/d'
docker service ls -q | xargs -r docker service ps --filter desired-state=running --format 'task\t{{.Name}}\t{{.Node}}\t{{.CurrentState}}'
# A task that ended without an error was stopped after a failed health check: Docker keeps no error for it.
docker service ls -q |
  xargs -r docker service ps --no-trunc --filter desired-state=shutdown --format 'fault\t{{.Name}}\t{{.Node}}\t{{.Error}}\t{{.ID}}\t{{.CurrentState}}' |
  awk -F'\t' -v OFS='\t' '$4 == "" && $6 ~ /^Complete/ { $4 = "ended: its health check failed, or it quit" } $4 != ""' | head -n 50

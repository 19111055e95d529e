#!/usr/bin/env bash
# Prints the stack's services and configs, one per line, fields separated by tabs. Runs on a manager as root.
set -euo pipefail
. templates/contract.sh

tab=$'\t'
docker service ls -q --filter "label=$LABEL_SERVICE" |
  xargs -r docker service inspect -f "service$tab{{.ID}}$tab{{.Spec.Name}}$tab{{range .Spec.TaskTemplate.ContainerSpec.Configs}}{{.ConfigID}}{{end}}"
docker config ls --filter "label=$LABEL_SERVICE" --format 'config\t{{.ID}}'

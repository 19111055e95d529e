#!/usr/bin/env bash
# Starts this node's Docker after it stopped, or prints why it does not answer. Runs on the node as root.
set -euo pipefail

answers() { timeout "$1" docker version >/dev/null 2>&1; }

if systemctl is-active --quiet docker.service; then
  if answers 10; then exit 0; fi
  echo "its Docker runs and does not answer"
  exit 1
fi
# systemd does not start a service again that failed too often.
for unit in docker.service docker.socket containerd.service; do
  if systemctl is-failed --quiet "$unit"; then systemctl reset-failed "$unit"; fi
done
if systemctl start docker.service 2>/dev/null && answers 20; then
  echo "its Docker had stopped; started it"
  exit 0
fi
echo "its Docker does not start: $(journalctl _SYSTEMD_UNIT=docker.service -n 1 --no-pager -o cat)"
exit 1

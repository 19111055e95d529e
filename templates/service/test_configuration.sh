#!/usr/bin/env bash
# Tests a configuration with nginx itself on this machine, before any node gets it.
# Inputs: WORK, IMAGE, CONFIGURATION (text), TEMPLATE (source file of the rendered text).
set -euo pipefail
. templates/lib.sh

# Another machine created the image.
if ! docker image inspect "$IMAGE" >/dev/null 2>&1; then .venv/bin/python -m tools.provide "$IMAGE"; fi
output=$(printf %s "$CONFIGURATION" | docker run --rm -i --network none --read-only --tmpfs /tmp --entrypoint sh "$IMAGE" \
  -c 'cat >/tmp/nginx.conf && nginx -t -q -c /tmp/nginx.conf' 2>&1) ||
  fail "nginx rejects the configuration rendered from $TEMPLATE; no node got it: $output"

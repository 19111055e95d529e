@% include "lib.sh" %@
# Lets nginx itself test the backends' configuration on this machine, before any backend gets it.
# Inputs: WORK, IMAGE, CONFIGURATION (text).

words=$(printf %s "$CONFIGURATION" | docker run --rm -i --network none --read-only --tmpfs /tmp --entrypoint sh "$IMAGE" \
  -c 'cat >/tmp/nginx.conf && nginx -t -q -c /tmp/nginx.conf' 2>&1) ||
  fail "nginx refuses the backends' configuration (templates/backend/nginx.conf), so none of them got it: $words"

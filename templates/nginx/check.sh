@% include "lib.sh" %@
# Lets nginx itself test a configuration on this machine, before any node gets it.
# Inputs: WORK, IMAGE, CONFIGURATION (text), TEMPLATE (the file it was made from).

words=$(printf %s "$CONFIGURATION" | docker run --rm -i --network none --read-only --tmpfs /tmp --entrypoint sh "$IMAGE" \
  -c 'cat >/tmp/nginx.conf && nginx -t -q -c /tmp/nginx.conf' 2>&1) ||
  fail "nginx refuses the configuration made from $TEMPLATE, so no node got it: $words"

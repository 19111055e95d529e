@% include "lib.sh" %@
# Brings a proxy configuration, which nginx itself has tested, to this node, and makes it live by rename and reload.
# Inputs: WORK, NODE, CONFIGURATION (text), STATE (its hash), STATE_URL (where a running proxy tells its state).

proxies() { docker ps -q --filter label=swarm-site.part=proxy "$@"; }

# make_live RELEASE, on the node, below the proxy's folder.
make_live() {
  ln -sfn "$1" current.new
  mv -T current.new current
  proxies | xargs -r docker kill -s HUP >/dev/null
}

# taken_over STATE URL, on the node: within 10 s a worker answers with STATE. Workers of the configuration before answer
# now and then until they have ended, so one answer is enough.
taken_over() {
  local try
  for ((try = 0; try < 50; try++)); do
    [[ $(curl -s --max-time 1 "$2") != "$1" ]] || return 0
    sleep 0.2
  done
  return 1
}

# change STATE URL, on the node: the configuration on stdin.
change() {
  local root=/srv/swarm-site/proxy before since
  umask 022
  mkdir -p "$root/releases/$1"
  cd "$root"
  cat >"releases/$1/nginx.conf"
  before=$(readlink current || true)
  since=$(date +%s)
  make_live "releases/$1"
  if [[ -n $(proxies --filter health=healthy) ]] && ! taken_over "$1" "$2"; then
    proxies | xargs -r -n 1 docker logs --since "$since" 2>&1 | grep -E '\[(emerg|alert|crit)\]' | tail -n 5 >&2 || true
    [[ -z $before ]] || make_live "$before"
    echo "nginx did not take it over" >&2
    exit 1
  fi
  touch "releases/$1"
  find releases -mindepth 1 -maxdepth 1 -printf '%T@ %p\n' | sort -rn | tail -n +5 | cut -d' ' -f2 | xargs -r rm -rf
}

words=$(on_node "$NODE" change "$STATE" "$STATE_URL" 2>&1 < <(printf %s "$CONFIGURATION")) ||
  fail "the proxy configuration is refused, the one before stays live: $words"

@% include "lib.sh" %@
# Gives a node that has no proxy configuration yet the one its peers serve, or else a plain 502 page.
# Inputs: WORK, NODE, CONFIGURATION (text of the 502 page's configuration).

# install, on the node: the configuration on stdin.
install_seed() {
  umask 022
  mkdir -p /srv/swarm-site/proxy/releases/seed
  cd /srv/swarm-site/proxy
  cat >releases/seed/nginx.conf
  grep -q '^http {' releases/seed/nginx.conf
  ln -sfn releases/seed current.new
  mv -T current.new current
}

live=/srv/swarm-site/proxy/current/nginx.conf
if on_node "$NODE" test -e "$live" </dev/null; then exit 0; fi
for peer in $(if [[ -e $WORK/complete ]]; then peers; fi); do
  if made "$peer" && text=$(LIMIT=5 on_node "$peer" cat "$live" </dev/null 2>/dev/null); then
    on_node "$NODE" install_seed <<<"$text"
    say "begins with the proxy configuration of $peer"
    exit 0
  fi
done
on_node "$NODE" install_seed <<<"$CONFIGURATION"
say "begins with a plain 502 page"

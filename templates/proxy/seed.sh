@% include "lib.sh" %@
# Gives a node that has no proxy configuration yet the one its peers serve, or else a plain 502 page.
# Inputs: WORK, NODE, CONFIGURATION (text of the 502 page's configuration).

live=/srv/swarm-site/proxy/current/nginx.conf

# begin FILE, on the node: with the configuration on stdin, where FILE, the live one, is not there yet.
begin() {
  if [[ -e $1 ]]; then echo "keeps its proxy configuration" && exit 0; fi
  umask 022
  mkdir -p /srv/swarm-site/proxy/releases/seed
  cd /srv/swarm-site/proxy
  cat >releases/seed/nginx.conf
  grep -q '^http {' releases/seed/nginx.conf
  ln -sfn releases/seed current.new
  mv -T current.new current
}

text=$CONFIGURATION source="a plain 502 page"
if [[ -e $WORK/complete ]] && ! on_node "$NODE" test -e "$live" </dev/null; then
  for peer in $(peers); do
    if made "$peer" && found=$(LIMIT=5 on_node "$peer" cat "$live" </dev/null 2>/dev/null); then
      text=$found source="the proxy configuration of $peer"
      break
    fi
  done
fi
kept=$(on_node "$NODE" begin "$live" <<<"$text")
say "${kept:-begins with $source}"

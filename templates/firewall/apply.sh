#!/usr/bin/env bash
# Lets only the stack's nodes reach the ports of the swarm and of its applications. Runs on a node as root: at boot, and
# after each change of the files beside it: `nodes` (addresses), `ports` (of the applications), and `trusted` (addresses
# that reach everything; if there are any, nobody else reaches ssh). Argument: `off` removes all rules.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

# connections: prints a match a line, of the new connections that only nodes may open.
connections() {
  # shellcheck disable=SC2046 # one port a word
  printf -- '-p tcp --syn --dport %s\n' 2377 7946 $(<ports)
  printf -- '-p udp --dport %s\n' 4789 7946
}

# ipv4: Docker forwards what comes to a published port to the container's own; conntrack knows the first. A created
# machine forwards nothing else to containers, since a neighbour can have a route to them.
ipv4() {
  local address match port
  printf '*filter\n:SWARM-SITE - [0:0]\n:SWARM-SITE-FORWARD - [0:0]\n:SWARM-SITE-NODES - [0:0]\n'
  echo "-A SWARM-SITE -i lo -j RETURN"
  while read -r address; do
    echo "-A SWARM-SITE -s $address -j RETURN"
    echo "-A SWARM-SITE-FORWARD -s $address -j RETURN"
  done <trusted
  if [[ -s trusted ]]; then echo "-A SWARM-SITE -p tcp --syn --dport 22 -j DROP"; fi
  while read -r match; do echo "-A SWARM-SITE $match -j SWARM-SITE-NODES"; done < <(connections)
  while read -r port; do
    echo "-A SWARM-SITE-FORWARD -p tcp --syn -m conntrack --ctstate DNAT --ctorigdstport $port -j SWARM-SITE-NODES"
  done <ports
  if [[ -s trusted ]]; then
    echo "-A SWARM-SITE-FORWARD -o docker0 ! -i docker0 -m conntrack ! --ctstate DNAT,ESTABLISHED,RELATED -j DROP"
  fi
  while read -r address; do echo "-A SWARM-SITE-NODES -s $address -j RETURN"; done <nodes
  printf -- '-A SWARM-SITE-NODES -j DROP\nCOMMIT\n'
}

# ipv6: nodes reach each other by IPv4 only.
ipv6() {
  local match
  printf '*filter\n:SWARM-SITE - [0:0]\n-A SWARM-SITE -i lo -j RETURN\n'
  if [[ -s trusted ]]; then echo "-A SWARM-SITE -p tcp --syn --dport 22 -j DROP"; fi
  while read -r match; do echo "-A SWARM-SITE $match -j DROP"; done < <(connections)
  echo COMMIT
}

# hook PROGRAM CHAIN OWN: has packets pass through our own chain first.
hook() { "$1" -w 10 -C "$2" -j "$3" 2>/dev/null || "$1" -w 10 -I "$2" -j "$3"; }

# remove PROGRAM CHAIN OWN: removes our own chain, and the jump to it.
remove() {
  if ! "$1" -w 10 -S "$3" >/dev/null 2>&1; then return 0; fi
  if "$1" -w 10 -C "$2" -j "$3" 2>/dev/null; then "$1" -w 10 -D "$2" -j "$3"; fi
  "$1" -w 10 -F "$3"
  "$1" -w 10 -X "$3"
}

has_ipv6() { [[ -e /proc/net/if_inet6 ]]; }

if [[ ${1-} == off ]]; then
  remove iptables INPUT SWARM-SITE
  remove iptables DOCKER-USER SWARM-SITE-FORWARD
  remove iptables INPUT SWARM-SITE-NODES
  if has_ipv6; then remove ip6tables INPUT SWARM-SITE; fi
  exit 0
fi
ipv4 | iptables-restore -w 10 --noflush
hook iptables INPUT SWARM-SITE
# Docker keeps this chain's rules when it starts, and sends all forwarded packets through it first.
if ! iptables -w 10 -S DOCKER-USER >/dev/null 2>&1; then iptables -w 10 -N DOCKER-USER; fi
hook iptables DOCKER-USER SWARM-SITE-FORWARD
if has_ipv6; then
  ipv6 | ip6tables-restore -w 10 --noflush
  hook ip6tables INPUT SWARM-SITE
fi

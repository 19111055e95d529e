"""Strangers: containers of this machine that belong to no stack, in the same networks as its nodes."""

from tests.e2e.site import Site, docker

PORTS = (22, 80, 2377, 7946, 8080)
KNOCK = """
for address in $1; do
  for port in $2; do
    { timeout 2 bash -c ": </dev/tcp/$address/$port" 2>/dev/null && echo "$address:$port"; } &
  done
  for port in 4789 7946; do echo >"/dev/udp/$address/$port"; done
done
wait
"""
"""Prints every port that accepts a TCP connection, and sends a datagram to those of the swarm."""
DROPPED_AT_LEAST = 5
"""Of one knock at a node: two datagrams, and a connection each to 2377, 7946 and 8080."""


def stranger(site: Site, network: str, *command: str) -> str:
    """Run a command in a container of this machine, outside of the stack, that may change its own routes."""
    image = docker("inspect", "-f", "{{.Image}}", site.container(site.nodes[0])).strip()
    words = ("--rm", "--network", network, "--cap-add", "NET_ADMIN", "--entrypoint", "")
    return docker("run", *words, image, *command)


def opened_to(site: Site, network: str) -> set[str]:
    """Return the ports of all nodes that a stranger in a network of this machine can connect to."""
    addresses = " ".join(site.address(node) for node in site.nodes)
    return set(stranger(site, network, "bash", "-c", KNOCK, "knock", addresses, " ".join(map(str, PORTS))).split())


def dropped(site: Site, node: str) -> int:
    """Return how many packets a node's firewall has dropped."""
    listing = site.on_node(node, "iptables", "-nvxL", "SWARM-SITE-NODES").splitlines()
    return sum(int(line.split()[0]) for line in listing if " DROP " in line)

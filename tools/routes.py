"""Print this machine's IPv4 routes that overlap a network.

usage: python -m tools.routes CIDR   prints ROUTE DEVICE, one per line, in routing table order
"""

import ipaddress
import itertools
import subprocess
import sys
from collections.abc import Iterator

IP = ("ip", "-4", "route")


def overlapping(network: str, table: str) -> Iterator[tuple[str, str]]:
    """Yield destination and device of each route that overlaps a network, including host routes.

    Skips the default route, which matches only what no other route does, and routes to nothing (`unreachable`).

    Args:
        network: network in CIDR notation.
        table: output of `ip -4 route`.
    """
    wanted = ipaddress.IPv4Network(network)
    for line in table.splitlines():
        destination, *words = line.split()
        options = dict(itertools.pairwise(words))
        if destination[0].isdigit() and "dev" in options and wanted.overlaps(ipaddress.IPv4Network(destination)):
            yield destination, options["dev"]


def main() -> None:
    """Print the overlapping routes."""
    table = subprocess.run(IP, stdout=subprocess.PIPE, text=True, check=True).stdout
    for destination, device in overlapping(sys.argv[1], table):
        print(destination, device)


if __name__ == "__main__":
    main()

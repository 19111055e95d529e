"""Show which of this machine's IPv4 routes overlap a network.

usage: python -m tools.routes CIDR   prints ROUTE DEVICE, a line each, in the order of the routing table
"""

import ipaddress
import itertools
import subprocess
import sys
from collections.abc import Iterator

IP = ("ip", "-4", "route")


def overlapping(network: str, table: str) -> Iterator[tuple[str, str]]:
    """Destination and device of each route that overlaps a network, host routes included.

    Left out are the default route, which reaches what no other one does, and those to nothing (`unreachable`).

    Args:
        network: in CIDR notation.
        table: what `ip -4 route` prints.
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

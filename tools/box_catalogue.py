"""Choose a provider's newest box from a public box catalogue.

usage: python -m tools.box_catalogue PROVIDER <CATALOGUE   prints VERSION URL; fails if the catalogue has none
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

ARCHITECTURES = ("amd64", "unknown")
"""Architectures that run here; older entries name none."""


def newest(catalogue: Mapping[str, Any], provider: str) -> tuple[str, str] | None:
    """Return version and URL of the provider's first box; catalogues list the newest version first."""
    for version in catalogue["versions"]:
        for box in version["providers"]:
            if box["name"] == provider and box.get("architecture", ARCHITECTURES[0]) in ARCHITECTURES:
                return version["version"], box["url"]
    return None


def main() -> None:
    """Print the newest box, or fail if there is none."""
    box = newest(json.load(sys.stdin), sys.argv[1])
    if box is None:
        sys.exit(f"the catalogue has no box for {sys.argv[1]}")
    print(*box)


if __name__ == "__main__":
    main()

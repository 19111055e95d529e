"""Install the official Pulumi engine with the SDK's installer, or fail within seconds if the site is unreachable.

usage: official_engine.py FOLDER
"""

import signal
import sys
from typing import Any

from pulumi.automation import PulumiCommand

REACH_SECONDS = 8
"""Time limit for the first request to the download site, including the DNS lookup."""


def bound_the_first_request(event: str, _args: tuple[Any, ...]) -> None:
    """Set an alarm when the SDK requests the installer script, and cancel it when that script starts.

    The SDK sets no timeout: behind a firewall that drops packets, it would hang for minutes.
    """
    if event == "urllib.Request":
        signal.alarm(REACH_SECONDS)
    elif event == "subprocess.Popen":
        signal.alarm(0)


def main() -> None:
    """Install into the folder, unless it already has the same version."""
    sys.addaudithook(bound_the_first_request)
    try:
        PulumiCommand.install(root=sys.argv[1])
    except OSError as error:
        sys.exit(f"can't reach the official installer: {error}")


if __name__ == "__main__":
    main()

"""Installs the official Pulumi engine with the SDK's own installer, and gives up at once where it can't be reached.

usage: official_engine.py FOLDER
"""

import signal
import sys
from typing import Any

from pulumi.automation import PulumiCommand

REACH_SECONDS = 8
"""How long the download site may take to answer its first request, name look-up included."""


def bound_the_first_request(event: str, _args: tuple[Any, ...]) -> None:
    """Set the alarm when the installer script is asked for; take it back when that script is started.

    The SDK asks without a time limit of its own: behind a wall that swallows packets it would wait for minutes.
    """
    if event == "urllib.Request":
        signal.alarm(REACH_SECONDS)
    elif event == "subprocess.Popen":
        signal.alarm(0)


def main() -> None:
    """Install into the folder that is given, or do nothing if the same version is there already."""
    sys.addaudithook(bound_the_first_request)
    try:
        PulumiCommand.install(root=sys.argv[1])
    except OSError as error:
        sys.exit(f"The official installer can't be reached: {error}")


if __name__ == "__main__":
    main()

"""Where Pulumi keeps the states of all stacks."""

import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path


def backend_folder() -> Iterator[Path]:
    """Yield the folder of all stacks' states, below the one that the backend's URL names, if it is on this machine."""
    url = urllib.parse.urlsplit(os.environ.get("PULUMI_BACKEND_URL", ""))
    if url.scheme == "file":
        yield Path(urllib.parse.unquote(url.netloc + url.path)).expanduser() / ".pulumi"

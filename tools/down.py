"""Take the stack down to its last file, and the Docker daemon with the last stack if set-up started it."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from tools import stack
from tools.stack import ToolError


def down() -> int:
    """Destroy the stack, sweep what no resource knew, forget the stack."""
    begin = time.monotonic()
    stack.recover()
    provider = stack.provider()  # it is noted in the folder that goes
    # What can't be told any more afterwards: which hosts could not be given back.
    kept = stack.silent(
        [entry for entry in stack.nodes() if (stack.WORK / "machines" / entry.name / "adopted").exists()]
    )
    if stack.pulumi("destroy", "--yes", "--skip-preview", "--suppress-outputs") != 0:
        raise ToolError("the stack is not gone; what failed is said above; put it right and run again: make down")
    swept = stack.script("machines/sweep.sh", provider)
    print(swept.stdout, end="")
    if swept.returncode != 0:
        raise ToolError("something of the stack is left; what failed is said above; run again: make down")
    forget()
    subprocess.run(["tools/setup", "stop-daemon"], check=True)
    for entry in kept:
        print(
            f"{entry.name} ({entry.address}) did not answer: what stack {stack.STACK} put on it is still there; "
            "when it is back, run on it: sudo bash /srv/swarm-site/host/release"
        )
    left = "left but on these" if kept else "left"
    print(f"down after {stack.since(begin)}; nothing of stack {stack.STACK} is {left}")
    return 0


def forget() -> None:
    """Remove the stack's state, and what the engine keeps of its past where the state is a folder of this user."""
    subprocess.run(
        ["pulumi", "stack", "rm", "--yes", "--preserve-config", "--remove-backups", "--stack", stack.STACK],
        check=True,
        capture_output=True,
    )
    for folder in ("backups", "history", "locks/organization"):
        for backend in stack.backend_folder():
            shutil.rmtree(backend / folder / stack.PROJECT / stack.STACK, ignore_errors=True)
    home = Path(os.environ.get("PULUMI_HOME", "~/.pulumi")).expanduser()
    for log in (home / "logs").glob(f"organization+{stack.PROJECT}+{stack.STACK}-*.log"):
        log.unlink()


if __name__ == "__main__":
    stack.main(down)

"""Remove the stack and all its files; with the last stack, stop the Docker daemon if set-up started it."""

import os
import subprocess
import time
from pathlib import Path

from components.contract import FOLDER_HOST, MACHINE_ADOPTED, PACKAGE
from tools import context, folder, stack, state
from tools.stack import ToolError


def down() -> int:
    """Destroy the stack, sweep leftovers missing from the state, and remove its state."""
    begin = time.monotonic()
    folder.derive(stack.recover())
    provider = stack.provider()  # recorded in the folder removed below
    # Ask now: afterwards there is no way to tell which hosts could not be released.
    kept = stack.unreachable(
        [entry for entry in stack.nodes() if (stack.machine_folder(entry.name) / MACHINE_ADOPTED.path).exists()]
    )
    if stack.pulumi("destroy", "--yes", "--skip-preview", "--suppress-outputs") != 0:
        raise ToolError("make down failed; fix the error above and run it again")
    context.remove()
    swept = stack.script("machines/sweep.sh", PROVIDER=provider)
    print(swept.stdout, end="")
    if swept.returncode != 0:
        raise ToolError("make down left something behind; fix the error above and run it again")
    forget()
    subprocess.run(["tools/setup", "stop-daemon"], check=True)
    for entry in kept:
        print(
            f"{entry.name} ({entry.address}) did not answer, so it was not given back; "
            f"when it answers again, run on it: sudo bash {FOLDER_HOST}/release"
        )
    exception = ", except on these hosts" if kept else ""
    print(f"down after {stack.since(begin)}; everything of stack {stack.STACK} was removed{exception}")
    return 1 if kept else 0


def forget() -> None:
    """Remove the stack's state, and its history if the state is a folder of this user."""
    subprocess.run(
        ["pulumi", "stack", "rm", "--yes", "--preserve-config", "--remove-backups", "--stack", stack.STACK],
        check=True,
        capture_output=True,
    )
    state.forget(stack.STACK)
    home = Path(os.environ.get("PULUMI_HOME", "~/.pulumi")).expanduser()
    for log in (home / "logs").glob(f"organization+{PACKAGE}+{stack.STACK}-*.log"):
        log.unlink()


if __name__ == "__main__":
    stack.main(down)

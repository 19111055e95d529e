"""Set-up's Python counterpart of tools/lib.sh: folders, messages, steps.

Standard library only, here and in golang.py and engines.py: they also run before the project's environment exists.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "swarm-site"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swarm-site"

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ToolError(Exception):
    """An error the user can act on; only its text is shown."""


class SetupError(ToolError):
    """A ToolError of set-up."""


def say(text: str) -> None:
    """Print a line to stderr; stdout is for command output (`make env` is read by eval)."""
    print(text, file=sys.stderr, flush=True)


def run_step(name: str, hint: str, command: Sequence[str | Path]) -> None:
    """Run a command as a step of set-up; `tools/step` shows it and keeps its log.

    Args:
        name: step name, on the terminal and in the log's name.
        hint: sentence that says what to do on failure.
        command: program and arguments.

    Raises:
        SystemExit: the step failed or was interrupted; the user has been told.
    """
    if status := _step(name, hint, command):
        sys.exit(status)


def try_step(name: str, command: Sequence[str | Path]) -> bool:
    """Run a command that may fail as a step; return whether it succeeded.

    Raises:
        SystemExit: the step was interrupted; the user has been told.
    """
    return _step(name, "", command) == 0


def _step(name: str, hint: str, command: Sequence[str | Path]) -> int:
    process = subprocess.Popen([ROOT / "tools" / "step", name, hint, *command])
    try:
        return process.wait()
    except KeyboardInterrupt:
        # Ctrl-C has reached the step too; a signal to this process alone has not.
        for signum in END_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        process.terminate()
        process.wait()
        sys.exit(130)

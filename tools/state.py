"""The files in which the engine keeps a stack's state, if they are on this machine: read, restored, pruned."""

import gzip
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.backend import backend_folder
from components.contract import PACKAGE
from tools.steps import ToolError

KEPT_RUNS = 10
"""Runs with history and backup in the state's folder, about 1.3 MB each."""
ENDINGS = (".json", ".json.gz")
GZIP = b"\x1f\x8b"
ROOM_MB = 16
"""Free space that a run needs at least, in MB: it writes the state at each step, beside the previous one."""

State = dict[str, Any]
"""A state file's document, as in `pulumi stack export --file`, below `checkpoint` and `latest`."""


def files(stack: str) -> Iterator[Path]:
    """Yield the stack's state file, plain or compressed; of two the newer one, which the engine reads."""
    found = [path for folder in backend_folder() for path in _named(folder, stack) if path.exists()]
    yield from sorted(found, key=lambda path: path.stat().st_mtime_ns)[-1:]


def _named(folder: Path, stack: str) -> list[Path]:
    return [folder / "stacks" / PACKAGE / f"{stack}{ending}" for ending in ENDINGS]


def read(path: Path) -> State | None:
    """Return a state file's document; None if the file is empty, cut off or no state."""
    try:
        data = path.read_bytes()
        document = json.loads(gzip.decompress(data) if data.startswith(GZIP) else data)
    except (OSError, EOFError, ValueError):
        return None
    valid = isinstance(document, dict) and isinstance(document.get("checkpoint"), dict)
    return document if valid else None


def write(path: Path, document: State) -> None:
    """Replace a state file in one step: `pulumi stack import` would leave it empty on a full disk.

    Raises:
        ToolError: it can't be written; it is unchanged.
    """
    text = json.dumps(document, indent=4).encode()
    _replace(path, gzip.compress(text) if path.name.endswith(ENDINGS[1]) else text)


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ToolError(f"can't write the state {path}: {error.strerror}; make room and run this again") from error


def restore(stack: str) -> str:
    """Replace a state that is empty, cut off or missing by the newest valid checkpoint of it.

    A stack without history is new, or was removed, so it lacks nothing. A damaged state is kept, with the ending
    `.damaged`. Without any valid checkpoint the stack begins again without resources.

    Returns:
        A sentence that says what was wrong and what was done; empty if there was nothing to do.

    Raises:
        ToolError: the checkpoint can't be written; the state is as it was.
    """
    for folder in backend_folder():
        damaged = [path for path in _named(folder, stack) if path.exists() and read(path) is None]
        if not damaged and (any(files(stack)) or not any(_of_runs(folder, "history", stack))):
            return ""
        candidates = sorted(_checkpoints(folder, stack), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        valid = next((path for path in candidates if read(path)), None)
        fault = f"the state of stack {stack} is {'damaged' if damaged else 'missing'}"
        for path in damaged:
            copy = path.with_name(f"{path.name}.damaged")
            copy.unlink(missing_ok=True)
            copy.hardlink_to(path)
        if not valid:
            for path in damaged:
                path.unlink()
            return f"{fault}, and there is no valid checkpoint of it; the stack begins again without resources"
        data = valid.read_bytes()
        target = _named(folder, stack)[data.startswith(GZIP)]
        _replace(target, data)
        for path in damaged:
            if path != target:
                path.unlink()
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(valid.stat().st_mtime))
        return f"{fault}; restored its checkpoint of {when}: {valid}"
    return ""


def _checkpoints(folder: Path, stack: str) -> Iterator[Path]:
    """Yield copies of the state that the engine made before and after its runs."""
    for path in _named(folder, stack):
        backup = path.with_name(f"{path.name}.bak")
        if backup.exists():
            yield backup
    yield from (path for path in _of_runs(folder, "history", stack) if ".checkpoint." in path.name)
    yield from _of_runs(folder, "backups", stack)


def _of_runs(folder: Path, kind: str, stack: str) -> Iterator[Path]:
    return (folder / kind / PACKAGE / stack).glob("*.json*")


def prune_history(stack: str) -> None:
    """Keep the newest runs' history and backups; the engine never prunes them."""
    for folder in backend_folder():
        for kind in ("history", "backups"):
            runs: dict[int, list[Path]] = {}
            for path in _of_runs(folder, kind, stack):
                if found := re.match(rf"{re.escape(stack)}[-.](\d+)\.", path.name):
                    runs.setdefault(int(found[1]), []).append(path)
            for when in sorted(runs)[:-KEPT_RUNS]:
                for path in runs[when]:
                    path.unlink(missing_ok=True)


def remove_drafts(stack: str) -> None:
    """Remove half-written state files of a killed engine or tool."""
    for folder in backend_folder():
        for path in (folder / "stacks" / PACKAGE).glob(f"{stack}.json*.tmp"):
            path.unlink()


def require_room(stack: str) -> None:
    """Check the free space for a run's states.

    Raises:
        ToolError: a run would not be able to write its state.
    """
    for folder in backend_folder():
        size = max((path.stat().st_size for path in files(stack)), default=0)
        needed, free = ROOM_MB + 4 * size // 2**20, shutil.disk_usage(folder).free // 2**20
        if free < needed:
            raise ToolError(
                f"the disk of the state {folder} has {free} MB left, and a run needs {needed} MB; nothing was touched; "
                "make room and run this again"
            )


def forget(stack: str) -> None:
    """Remove history, backups, locks and damaged states of a stack that was removed."""
    for folder in backend_folder():
        for kind in ("backups", "history", "locks/organization"):
            shutil.rmtree(folder / kind / PACKAGE / stack, ignore_errors=True)
        for path in (folder / "stacks" / PACKAGE).glob(f"{stack}.json*.damaged"):
            path.unlink()

"""The effect of a change on a stack, in Markdown for a pull request: `make pr-preview BASE=origin/main`.

The real engine previews base and change, each as a new stack with a temporary state; the two plans are then compared.
No running system is queried, so this needs no host, no Docker and no secret, and the result is the same everywhere.
The change's program runs on this machine, as in every preview.

Exit status 0, or 1 if the preview of the change fails; the Markdown then holds the error.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from components.contract import PROJECT
from tools import stack
from tools.preview import comparison
from tools.preview.comparison import Resources
from tools.preview.report import refusal, report
from tools.stack import ToolError

DEFAULT_BASE = "origin/main"
PREVIEW_SECONDS = 600
VENV = ".venv"
USER_VARIABLES = re.compile(r"(PULUMI_(?!SKIP_UPDATE_CHECK$|DISABLE_AUTOMATIC_PLUGIN_ACQUISITION$)|DOCKER_|GIT_)")
"""User variables that would change a preview, or must be hidden from the previewed program."""
GIT_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
"""Variables that point git at another repository than this clone; set in hooks."""
SEALED = re.compile(r"^(encryptionsalt|secretsprovider|encryptedkey):.*\n", re.MULTILINE)


class PreviewError(Exception):
    """A preview failed; the text is the output of the engine and the program."""


@dataclass(frozen=True)
class Side:
    """A tree to preview.

    Attributes:
        commit: commit id.
        edited: whether this is the working tree with its uncommitted changes.
    """

    commit: str
    edited: bool = False

    def __str__(self) -> str:
        """Return its name in the report."""
        return f"`{self.commit[:12]}`{' with uncommitted changes' if self.edited else ''}"


def pr_preview() -> int:
    """Compare the working tree, or HEAD=commit, with BASE; return 1 if the preview of the change fails."""
    head = Side(commit_of(os.environ.get("HEAD") or "HEAD"), not os.environ.get("HEAD") and is_edited())
    base = Side(common(os.environ.get("BASE") or DEFAULT_BASE, head.commit))
    say(f"==> previewing {base} and {head} side by side")
    begin = time.monotonic()
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(planned, side) for side in (base, head)]
        errors = [future.exception() for future in futures]
    say(f"==> previewed after {stack.since(begin)}")
    for error in errors:
        if error and not isinstance(error, PreviewError):
            raise error
    about = f"Stack `{stack.STACK}`, base {base}, change {head}; previewed as new stacks, nothing that runs was asked."
    base_error, head_error = (str(error) if error else "" for error in errors)
    if head_error:
        print(refusal(head_error, about, base_error=base_error), end="")
        return 1
    old = None if base_error else futures[0].result()
    new = futures[1].result()
    if new is None:
        raise ToolError(
            f"{head.commit[:12]} has no Pulumi.{stack.STACK}.yaml; name a stack that it has: make pr-preview STACK=…"
        )
    print(report(old, new, about, base_error=base_error), end="")
    return 0


# --- trees ------------------------------------------------------------------------------------------------------------


def git(*arguments: str, **environment: str) -> str:
    """Return the output of git in this clone, with extra variables.

    Raises:
        ToolError: git failed; holds git's error.
    """
    env = {name: value for name, value in os.environ.items() if name not in GIT_PLACES} | environment
    done = subprocess.run(["git", *arguments], cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def commit_of(name: str) -> str:
    """Return the commit a name refers to."""
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except ToolError:
        raise ToolError(f"this clone has no commit {name}; fetch it, or pass another BASE or HEAD") from None


def common(base: str, head: str) -> str:
    """Return the merge base: later commits of the base are not part of the change."""
    commit = commit_of(base)
    try:
        return git("merge-base", commit, head)
    except ToolError:
        raise ToolError(
            f"{base} and {head[:12]} have no common commit here; in a shallow clone, run: git fetch --unshallow"
        ) from None


def is_edited() -> bool:
    """Return whether the working tree has uncommitted changes."""
    return bool(git("status", "--porcelain"))


def write_tree(side: Side, folder: Path) -> Path:
    """Check out a side's files below `folder`, without touching this clone's index or objects."""
    objects = folder / "objects"
    objects.mkdir()
    environment = {
        "GIT_INDEX_FILE": str(folder / "index"),
        "GIT_OBJECT_DIRECTORY": str(objects),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": git("rev-parse", "--path-format=absolute", "--git-path", "objects"),
    }
    git("read-tree", side.commit, **environment)
    if side.edited:
        git("add", "--all", **environment)
    git("checkout-index", "--all", f"--prefix={folder}/tree/", **environment)
    return folder / "tree"


# --- previews ---------------------------------------------------------------------------------------------------------


def planned(side: Side) -> Resources | None:
    """Return a side's resources as a new stack; None if the side has no such stack.

    Raises:
        PreviewError: the engine or the program failed.
    """
    with tempfile.TemporaryDirectory(prefix="swarm-site-preview-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        tree = write_tree(side, folder)
        return comparison.resources(preview(tree, folder)) if seal(tree) else None


def seal(tree: Path) -> bool:
    """Give the stack a new key, so that no passphrase is needed; return False if there is no such stack.

    A stack with encrypted values keeps its key.
    """
    file = tree / f"Pulumi.{stack.STACK}.yaml"
    if not file.is_file():
        return False
    text = file.read_text()
    if "secure:" not in text:
        file.write_text(SEALED.sub("", text))
    return True


def preview(tree: Path, folder: Path) -> Mapping[str, object]:
    """Return the output of `pulumi preview --json` for a new stack in a tree, with state and home in `folder`.

    Raises:
        PreviewError: the preview failed.
    """
    plugins = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi") / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    (folder / "home").mkdir()
    (folder / "state").mkdir()
    (folder / "home" / "plugins").symlink_to(plugins.resolve())
    (tree / VENV).symlink_to((PROJECT / VENV).resolve())
    pulumi(tree, folder, "stack", "init", "--no-select", stack.STACK)
    result: Mapping[str, object] = json.loads(pulumi(tree, folder, "preview", "--json", "--stack", stack.STACK))
    return result


def pulumi(tree: Path, folder: Path, *arguments: str, text: str = "") -> str:
    """Return the output of pulumi in a tree, with the state and home created by `preview` in `folder`.

    Raises:
        PreviewError: pulumi failed.
    """
    environment = {key: value for key, value in os.environ.items() if not USER_VARIABLES.match(key)} | {
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_BACKEND_URL": f"file://{folder}/state",
        "PULUMI_CONFIG_PASSPHRASE": "",
    }
    try:
        done = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=tree,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PREVIEW_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PreviewError(f"pulumi {arguments[0]} did not end within {PREVIEW_SECONDS} s") from None
    if done.returncode != 0:
        raise PreviewError(without_paths(failure(done.stdout, done.stderr), tree))
    return done.stdout


def failure(output: str, errors: str) -> str:
    """Return why a preview failed: its listed errors, or the whole output if it lists none."""
    try:
        listed = [entry["message"] for entry in json.loads(output)["diagnostics"] if entry["severity"] == "error"]
    except (ValueError, KeyError, TypeError):
        listed = []
    own = [message.strip() for message in listed if "Program exited with non-zero exit code" not in message]
    return "\n\n".join(own) or f"{output}\n{errors}".strip()


def without_paths(text: str, tree: Path) -> str:
    """Return a text without this machine's paths: those of the tree, the environment and Python."""
    replacements = [
        (f"{tree}/", ""),
        (str(tree), "."),
        (str((PROJECT / VENV).resolve()), VENV),
        (sys.base_prefix, "python"),
        (str(tree.parent), "scratch"),
    ]
    for path, name in replacements:
        text = text.replace(path, name)
    return text


def say(text: str) -> None:
    """Print progress to stderr; stdout is for the Markdown."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    stack.main(pr_preview)

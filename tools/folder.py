"""The stack's folder on this machine: what follows from the state is written before each run, the rest is checked."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from components.contract import (
    AUTHORIZED_KEYS,
    CLUSTER_COMPLETE,
    FOLDER_HOST,
    KEY_FILE,
    MACHINE_ADOPTED,
    MACHINE_COMPLETE,
    MACHINE_SSH_CONFIG,
    NODES_FILE,
    PACKAGE,
    PROVIDER_FILE,
    SSH_CONFIG_FILE,
    SWARM_STARTED,
    Step,
)
from tools import stack
from tools.images import archive_of
from tools.stack import Resource, Resources, ToolError


def derive(known: Resources) -> None:
    """Write the files that follow from the state, also if the folder was removed by hand."""
    for workshop in stack.commands(known, Step.STACK_FOLDER):
        variables = _variables(workshop)
        _write(stack.WORK / PROVIDER_FILE.path, f"{variables['PROVIDER']}\n")
        _write(stack.WORK / NODES_FILE.path, f"{variables['NODES']}\n")
        _write(stack.WORK / SSH_CONFIG_FILE.path, variables["SSH_CONFIG"])
    for machine in stack.commands(known, Step.MACHINE):
        _derive_machine(machine)
    if stack.commands(known, Step.CLUSTER):
        for mark in (SWARM_STARTED, CLUSTER_COMPLETE):
            (stack.WORK / mark.path).touch()


def _derive_machine(machine: Resource) -> None:
    folder = stack.machine_folder(stack.node_of(machine))
    is_lost = not folder.exists()
    _write(folder / MACHINE_SSH_CONFIG.path, _variables(machine)["SSH_CONFIG"])
    if is_lost:
        if _variables(machine)["PROVIDER"] == "ssh":
            (folder / MACHINE_ADOPTED.path).touch()
        if _exists(stack.node_of(machine)):
            (folder / MACHINE_COMPLETE.path).touch()


def _exists(node: str) -> bool:
    """Return whether a machine without a folder is there: an interrupted removal removes the folder last."""
    state = stack.power(node, "state").stdout.strip()
    if state == "unknown":
        return stack.on_node(node, "test", "-e", f"{FOLDER_HOST}/owner").returncode != 1
    return state in ("on", "off")


def require_key(known: Resources) -> None:
    """Check that the key of created machines is here.

    Raises:
        ToolError: it is missing; nothing was touched.
    """
    for machine in stack.commands(known, Step.MACHINE)[:1]:
        if _variables(machine)["PROVIDER"] != "ssh" and not (stack.WORK / KEY_FILE.path).exists():
            raise ToolError(
                f"{stack.WORK / KEY_FILE.path} is missing, and without this key no machine of stack {stack.STACK} can "
                "be reached or rebuilt; nothing was touched; restore it from a backup, or run: make down, then make up"
            )


def provide_sources(known: Resources, *steps: Step) -> None:
    """Run the Commands of these steps again if their result is missing: a rebuild needs it.

    Raises:
        ToolError: one of them can't be provided; nothing was touched.
    """
    for step in steps:
        for command in stack.commands(known, step):
            if not _is_provided(command):
                stack.run_again(command)


def _is_provided(command: Resource) -> bool:
    """Return whether what machines need is on this machine: the folder, an image, its archive, or Vagrant's box."""
    variables = _variables(command)
    if stack.step_of(command) == Step.STACK_FOLDER:
        return (stack.WORK / AUTHORIZED_KEYS.path).exists()
    if stack.step_of(command) == Step.IMAGE:
        return archive_of(variables["IMAGE"], os.environ).is_file()
    if variables.get("PROVIDER"):
        home = Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d")
        return (home / "boxes" / f"{PACKAGE}-{stack.STACK}").is_dir()
    inspect = ["docker", "image", "inspect", variables["IMAGE"]]
    return subprocess.run(inspect, capture_output=True, check=False).returncode == 0


def _variables(resource: Resource) -> Mapping[str, str]:
    variables: Mapping[str, str] = resource["inputs"]["environment"]
    return variables


def _write(path: Path, text: str) -> None:
    """Replace a file in one step if its text differs."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text)
    draft.replace(path)

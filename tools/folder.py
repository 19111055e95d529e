"""The stack's folder on this machine: what follows from the state is written before each run, the rest is checked."""

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from components.contract import (
    AUTHORIZED_KEYS,
    CLUSTER_COMPLETE,
    FOLDER_HOST,
    FOLDER_SITE,
    IDENTITY_FILE,
    KEY_FILE,
    LOCKS,
    MACHINE_ADOPTED,
    MACHINE_COMPLETE,
    MACHINE_SSH_CONFIG,
    MACHINES,
    NODES_FILE,
    PACKAGE,
    PROVIDER_FILE,
    SSH_CONFIG_FILE,
    SWARM_STARTED,
    Step,
)
from tools import stack
from tools.images import archive_of
from tools.stack import NodeEntry, Resource, Resources, ToolError

ADOPTED, HALF, FREE = 10, 11, 12
"""A host's answers: it has the record of its adoption, something without it, nothing of the stack."""


def derive(known: Resources) -> None:
    """Write the files that follow from the state, also if the folder was removed by hand."""
    for identity in stack.commands(known, Step.IDENTITY):
        _write(stack.WORK / IDENTITY_FILE.path, f"{identity['outputs']['stdout']}\n")
    for workshop in stack.commands(known, Step.STACK_FOLDER):
        variables = _variables(workshop)
        (stack.WORK / LOCKS.path).mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(stack.WORK / PROVIDER_FILE.path, f"{variables['PROVIDER']}\n")
        _write(stack.WORK / NODES_FILE.path, f"{variables['NODES']}\n")
        _write(stack.WORK / SSH_CONFIG_FILE.path, variables["SSH_CONFIG"])
    machines = {stack.node_of(machine): _variables(machine) for machine in stack.commands(known, Step.MACHINE)}
    lost = [name for name in machines if not stack.machine_folder(name).exists()]
    for name, variables in machines.items():
        _write(stack.machine_folder(name) / MACHINE_SSH_CONFIG.path, variables["SSH_CONFIG"])
    if stack.provider() == "ssh":
        _derive_hosts(machines)
    for name in lost if stack.provider() != "ssh" else ():
        # An interrupted removal removes the folder last.
        if stack.power(name, "state").stdout.strip() in ("on", "off"):
            (stack.machine_folder(name) / MACHINE_COMPLETE.path).touch()
    if stack.commands(known, Step.CLUSTER):
        for mark in (SWARM_STARTED, CLUSTER_COMPLETE):
            (stack.WORK / mark.path).touch()


def _derive_hosts(machines: Collection[str]) -> None:
    """Ask each host whether it is adopted, since another machine may have changed that; a silent one stays as it is."""
    folders = stack.WORK / MACHINES.path
    names = sorted({*machines, *(path.name for path in folders.glob("*") if path.is_dir())})
    question = f"[ -e {FOLDER_HOST}/owner ] && exit {ADOPTED}; [ -e {FOLDER_SITE} ] && exit {HALF}; exit {FREE}"
    answers = stack.on_nodes([NodeEntry(name, "", "") for name in names], "sh", "-c", question)
    for entry, done in answers.items():
        folder = stack.machine_folder(entry.name)
        if entry.name in machines:
            (folder / MACHINE_ADOPTED.path).touch()
        elif done.returncode == FREE:
            shutil.rmtree(folder)
            continue
        if done.returncode in (HALF, FREE):
            (folder / MACHINE_COMPLETE.path).unlink(missing_ok=True)
        elif entry.name in machines:
            (folder / MACHINE_COMPLETE.path).touch()


def require_key(known: Resources) -> None:
    """Check that the key of created machines is here.

    Raises:
        ToolError: it is missing; nothing was touched.
    """
    for machine in stack.commands(known, Step.MACHINE)[:1]:
        if _variables(machine)["PROVIDER"] != "ssh" and not (stack.WORK / KEY_FILE.path).exists():
            own, creator = f"{getpass.getuser()}@{socket.gethostname()}", _creator(known)
            if creator not in ("", own):
                raise ToolError(
                    f"the machines of stack {stack.STACK} were created by {creator} and exist only there; "
                    "here, only previews work: make preview"
                )
            raise ToolError(
                f"{stack.WORK / KEY_FILE.path} is missing, and without this key no machine of stack {stack.STACK} can "
                "be reached or rebuilt; nothing was touched; restore it from a backup, or run: make down, then make up"
            )


def _creator(known: Resources) -> str:
    """Return the user and machine that created the stack; empty if an earlier version did."""
    identities = stack.commands(known, Step.IDENTITY)
    return str(identities[0]["outputs"]["stdout"]).partition(" ")[2] if identities else ""


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
        return variables["PROVIDER"] == "ssh" or (stack.WORK / AUTHORIZED_KEYS.path).exists()
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


if __name__ == "__main__":
    derive(stack.resources())

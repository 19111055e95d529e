"""Common code of the tools for one stack: its folder on this machine, its nodes, and calls of pulumi."""

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from components.backend import backend_folder
from components.contract import (
    EMULATED,
    HEALTH_PATH,
    MACHINE_SSH_CONFIG,
    MACHINES,
    NODES_FILE,
    PACKAGE,
    PROJECT,
    PROVIDER_FILE,
    SWARM_STARTED,
    Step,
    stack_folder,
)
from tools import state
from tools.steps import ToolError as ToolError

COMMAND = "command:local:Command"
SERVICE = "docker:index/service:Service"
STACK = os.environ.get("STACK") or "dev"
WORK = Path(stack_folder(STACK))
ANSWER_SECONDS = 5
"""Time limit for a node's answer; after that it counts as dead."""
ELECTION_SECONDS = 25
"""Time limit for managers to elect a leader; usually 10 to 20 s after the last one died."""
REJECTED = ("Permission denied", "Host key verification failed", "Too many authentication failures")
"""What ssh says if a node answers and the login fails."""
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs of the stack's own nodes, never through the user's proxy, which may not reach them."""

Resource = dict[str, Any]
"""A resource of the state, as in `pulumi stack export`."""
Resources = dict[str, Resource]
"""Resources of the state by URN."""


@dataclass(frozen=True)
class NodeEntry:
    """A line of the stack's node list, written by the last `up`."""

    name: str
    address: str
    role: str


def main(tool: Callable[[], int]) -> NoReturn:
    """Run a tool in the project's folder; a ToolError or Ctrl-C ends it with one sentence."""
    os.chdir(PROJECT)
    try:
        sys.exit(tool())
    except ToolError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; run the same command to continue", file=sys.stderr)
        sys.exit(130)


def nodes() -> list[NodeEntry]:
    """Return the nodes of the last `up`; empty before the first."""
    with contextlib.suppress(FileNotFoundError):
        return [NodeEntry(*line.split()) for line in (WORK / NODES_FILE.path).read_text().splitlines() if line]
    return []


def provider() -> str:
    """Return the machine provider recorded in the stack's folder; `docker` by default."""
    with contextlib.suppress(FileNotFoundError):
        return (WORK / PROVIDER_FILE.path).read_text().strip()
    return "docker"


def script(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of `templates/` on this machine.

    Args:
        name: path below `templates/`.
        environment: inputs in addition to WORK and STACK.

    Returns:
        The finished process; its errors went to this terminal.
    """
    return subprocess.run(
        ["bash", f"templates/{name}"],
        env=os.environ | {"WORK": str(WORK), "STACK": STACK} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


def power(name: str, action: str) -> subprocess.CompletedProcess[str]:
    """Ask the provider for a machine's `state` (on, off, none or unknown), to `start` it or to power it `off`."""
    return script("machines/power.sh", PROVIDER=provider(), NODE=name, ACTION=action)


def on_node(
    name: str, *command: str, seconds: float = ANSWER_SECONDS, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as root on a node.

    Args:
        name: node name.
        command: arguments; quoted here for the node's shell.
        seconds: time limit; scaled if machines are emulated.
        text: input on stdin.

    Returns:
        The finished process; exit status 255 if the node did not answer in time.
    """
    limit = scaled(seconds)
    config = machine_folder(name) / MACHINE_SSH_CONFIG.path
    # An ssh that times out by itself, before it is killed, also ends its jump hosts' processes.
    options = ["-F", str(config), "-o", f"ConnectTimeout={max(int(limit) - 1, 1)}"]
    call = ["ssh", *options, name, shlex.join(["sudo", *command])]
    try:
        return subprocess.run(call, input=text or "", capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(call, 255, "", f"{name} did not answer within {limit:g} s")


def machine_folder(name: str) -> Path:
    """Return a machine's folder."""
    return WORK / MACHINES.path / name


def scaled(seconds: float) -> float:
    """Return a time limit, five times as long if the stack's machines are emulated."""
    return seconds * 5 if (WORK / EMULATED.path).exists() else seconds


def unreachable(entries: Sequence[NodeEntry], seconds: float = ANSWER_SECONDS) -> list[NodeEntry]:
    """Return the nodes that do not answer within a time limit in seconds."""
    return [entry for entry, done in on_nodes(entries, "true", seconds=seconds).items() if done.returncode != 0]


def living_manager(entries: Sequence[NodeEntry]) -> str | None:
    """Return the first node that answers and manages a swarm with a quorum."""
    answers = on_nodes(entries, "docker", "node", "ls", "-q").items()
    return next((entry.name for entry, done in answers if done.returncode == 0), None)


def on_nodes(
    entries: Sequence[NodeEntry], *command: str, seconds: float = ANSWER_SECONDS
) -> dict[NodeEntry, subprocess.CompletedProcess[str]]:
    """Run a command as root on several nodes in parallel; see `on_node`."""
    with ThreadPoolExecutor(max_workers=max(len(entries), 1)) as pool:
        done = pool.map(lambda entry: on_node(entry.name, *command, seconds=seconds), entries)
    return dict(zip(entries, done, strict=True))


def is_rejected(words: str) -> bool:
    """Return whether ssh says that a node answers and the login fails."""
    return any(refusal in words for refusal in REJECTED)


def words(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a failed command said on either stream, on one line."""
    return "; ".join(line for text in (done.stderr, done.stdout) for line in text.strip().splitlines() if line)


def elected_manager(entries: Sequence[NodeEntry]) -> str | None:
    """Return a living manager; wait during a leader election, which may follow a node's death or return."""
    deadline = time.monotonic() + scaled(ELECTION_SECONDS)
    while (
        not (manager := living_manager(entries))
        and (WORK / SWARM_STARTED.path).exists()
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    return manager


def pulumi(*arguments: str) -> int:
    """Run pulumi for this stack on this terminal; Ctrl-C reaches pulumi first, then this tool."""
    process = subprocess.Popen(["pulumi", *arguments, "--stack", STACK])
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        state.prune_history(STACK)
        return code


def pulumi_json(*arguments: str) -> Any:
    """Return the JSON document printed by a pulumi command.

    Raises:
        ToolError: pulumi failed; holds its output.
    """
    done = subprocess.run(["pulumi", *arguments, "--stack", STACK], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(f"pulumi {arguments[0]} failed: {words(done)}")
    return json.loads(done.stdout)


def resources() -> Resources:
    """Return the resources of the stack's state by URN."""
    return _by_urn(_deployment())


def commands(known: Resources, step: Step | None = None, node: str | None = None) -> list[Resource]:
    """Return a state's Commands for a step or a node; all of them without either."""
    found = [resource for resource in known.values() if resource["type"] == COMMAND]
    return [
        resource
        for resource in found
        if step in (None, _variable(resource, "STEP")) and node in (None, node_of(resource))
    ]


def _variable(resource: Resource, name: str) -> str:
    return str(resource["inputs"].get("environment", {}).get(name, ""))


def step_of(resource: Resource) -> Step:
    """Return a Command's step."""
    return Step(_variable(resource, "STEP"))


def node_of(resource: Resource) -> str:
    """Return a Command's node; empty if it has none."""
    return _variable(resource, "NODE")


def services(known: Resources) -> list[Resource]:
    """Return the services of a state."""
    return [resource for resource in known.values() if resource["type"] == SERVICE]


def targets(chosen: Sequence[Resource]) -> list[str]:
    """Return the engine's arguments that limit it to these resources."""
    return [argument for resource in chosen for argument in ("--target", str(resource["urn"]))]


def name_of(resource: Resource) -> str:
    """Return a resource's name, the end of its URN."""
    return str(resource["urn"]).rpartition("::")[2]


def outputs(known: Resources) -> Mapping[str, Any]:
    """Return the outputs of a state's stack; empty if it never came up."""
    return next((r.get("outputs", {}) for r in known.values() if r["type"] == "pulumi:pulumi:Stack"), {})


def health_url(url: str) -> str:
    """Return a proxy's health URL: 200 if the proxy reaches an application, regardless of content."""
    return urllib.parse.urljoin(url, HEALTH_PATH)


def _by_urn(deployment: Any) -> Resources:
    return {resource["urn"]: resource for resource in deployment.get("resources", [])}


def _deployment() -> Any:
    """Return the stack's state, from its file if there is one, because the engine is slow to start."""
    for path in state.files(STACK):
        if document := state.read(path):
            return document["checkpoint"].get("latest") or {}
    return pulumi_json("stack", "export")["deployment"]


def run_again(command: Resource) -> None:
    """Rerun the create script of a Command of the state, as the engine ran it.

    Raises:
        ToolError: the script failed.
    """
    inputs = command["inputs"]
    print(f"{name_of(command)}: running again", flush=True)
    done = subprocess.run(
        ["/bin/sh", "-c", inputs["create"]],
        env=os.environ | inputs["environment"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        raise ToolError(f"{done.stderr.strip()}\n{name_of(command)} failed; fix the error above and run this again")


def recover() -> Resources:
    """Clean up after a killed run: its lock, half-written state files, its list of pending operations.

    A lock is removed if its pulumi ran on this host and is dead. Scripts finish half-done work, so an interrupted step
    is simply rerun.

    Returns:
        The resources of the stack's state by URN.

    Raises:
        ToolError: another pulumi is changing this stack.
    """
    for path in _locks():
        lock = _lock(path)
        if not lock:
            print(f"removed a damaged lock: {path}")
            path.unlink()
        elif lock["hostname"] == socket.gethostname() and not _is_pulumi(int(lock["pid"])):
            print(f"removed the lock of process {lock['pid']}, which no longer runs")
            path.unlink()
        else:
            raise ToolError(
                f"stack {STACK} is being changed by process {lock['pid']} of {lock['username']} on {lock['hostname']} "
                f"since {lock['timestamp']}; wait until it ends, or end it, then run this again; "
                f"if it is gone for good, run: pulumi cancel --stack {STACK}"
            )
    state.remove_drafts(STACK)
    state.require_room(STACK)
    deployment = _deployment()
    if deployment.get("pending_operations"):
        _drop_pending_operations()
        print("the last run was interrupted; its unfinished steps run again")
    elif not any(backend_folder()):
        _require_lock(_by_urn(deployment))
    return _by_urn(deployment)


def _require_lock(known: Resources) -> None:
    """Check that nobody else changes a stack whose state is elsewhere, with a refresh that takes the lock.

    Raises:
        ToolError: the lock is held.
    """
    for identity in commands(known, Step.IDENTITY):
        _pulumi_or_refuse("refresh", "--yes", "--skip-preview", "--suppress-outputs", *targets([identity]))


def _pulumi_or_refuse(*arguments: str, text: str = "") -> None:
    done = subprocess.run(
        ["pulumi", "--non-interactive", *arguments, "--stack", STACK],
        input=text,
        text=True,
        check=False,
        capture_output=True,
    )
    if done.returncode != 0:
        advice = f"wait until it ends; if it is gone for good, run: pulumi cancel --stack {STACK}"
        raise ToolError(f"{words(done)}\nnothing was touched; if another run holds the lock, {advice}")


def _drop_pending_operations() -> None:
    """Remove the list of pending operations from the state.

    Raises:
        ToolError: the state can't be written; it is unchanged.
    """
    for path in state.files(STACK):
        if document := state.read(path):
            del document["checkpoint"]["latest"]["pending_operations"]
            state.write(path, document)
        return
    exported = pulumi_json("stack", "export")
    del exported["deployment"]["pending_operations"]
    _pulumi_or_refuse("stack", "import", text=json.dumps(exported))


def _locks() -> Iterator[Path]:
    for folder in backend_folder():
        yield from sorted((folder / "locks" / "organization" / PACKAGE / STACK).glob("*.json"))


def _lock(path: Path) -> dict[str, Any]:
    """Return what a lock says of its holder; empty if its file is damaged."""
    try:
        lock: dict[str, Any] = json.loads(path.read_text())
    except ValueError:
        return {}
    return lock


def _is_pulumi(pid: int) -> bool:
    """Return whether the process is a running pulumi, not another program with a reused id."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "pulumi"
    except (FileNotFoundError, ProcessLookupError):
        return False


def since(begin: float) -> str:
    """Return the time since `begin` (from time.monotonic) as text."""
    return f"{time.monotonic() - begin:.0f} s"

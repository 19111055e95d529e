"""What the tools know about one stack: its folder on this machine, its nodes, and how pulumi is called for it."""

import contextlib
import json
import os
import re
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

COMMAND = "command:local:Command"
SERVICE = "docker:index/service:Service"
STACK = os.environ.get("STACK") or "dev"
WORK = Path(stack_folder(STACK))
ANSWER_SECONDS = 5
"""How long a node may take to answer before it counts as dead."""
ELECTION_SECONDS = 25
"""How long managers may take to elect a leader; mostly 10 to 20 s after the last one died."""
KEPT_RUNS = 10
"""Runs of which the state's folder keeps a history and a backup; one takes about 1.3 MB."""
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs of the stack's own nodes: never through a proxy of the user's, which may not reach them."""

Resource = dict[str, Any]
"""A resource of the state, as `pulumi stack export` has it."""
Resources = dict[str, Resource]
"""Resources of the state by URN."""


class ToolError(Exception):
    """Something a person can act on; only its text is shown."""


@dataclass(frozen=True)
class NodeEntry:
    """A line of the stack's node list: what the last `up` wanted."""

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
    """The nodes of the last `up`; empty before the first."""
    with contextlib.suppress(FileNotFoundError):
        return [NodeEntry(*line.split()) for line in (WORK / NODES_FILE.path).read_text().splitlines() if line]
    return []


def provider() -> str:
    """The provider of the stack's machines as its folder records it; `docker` where it records none."""
    with contextlib.suppress(FileNotFoundError):
        return (WORK / PROVIDER_FILE.path).read_text().strip()
    return "docker"


def script(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of `templates/` on this machine.

    Args:
        name: its path below `templates/`.
        environment: its inputs beside WORK and STACK.

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


def on_node(
    name: str, *command: str, seconds: float = ANSWER_SECONDS, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as root on a node.

    Args:
        name: the node's name.
        command: its arguments; they are quoted for the node's shell here.
        seconds: when it must have ended; scaled where machines are emulated.
        text: what it gets on stdin.

    Returns:
        The finished process; exit status 255 where the node did not answer in time.
    """
    limit = scaled(seconds)
    config = machine_folder(name) / MACHINE_SSH_CONFIG.path
    # An ssh that gives up by itself, before it is killed, also ends its jump hosts' processes.
    options = ["-F", str(config), "-o", f"ConnectTimeout={max(int(limit) - 1, 1)}"]
    call = ["ssh", *options, name, shlex.join(["sudo", *command])]
    try:
        return subprocess.run(call, input=text or "", capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(call, 255, "", f"{name} did not answer within {limit:g} s")


def machine_folder(name: str) -> Path:
    """The folder of one machine."""
    return WORK / MACHINES.path / name


def scaled(seconds: float) -> float:
    """A time limit, five times as long where the stack's machines are emulated."""
    return seconds * 5 if (WORK / EMULATED.path).exists() else seconds


def unreachable(entries: Sequence[NodeEntry], seconds: float = ANSWER_SECONDS) -> list[NodeEntry]:
    """Those that do not answer within some seconds."""
    answering = _succeeding(entries, "true", seconds=seconds)
    return [entry for entry in entries if entry not in answering]


def living_manager(entries: Sequence[NodeEntry]) -> str | None:
    """The first node that manages the swarm with a quorum and answers."""
    return next((entry.name for entry in _succeeding(entries, "docker", "node", "ls", "-q")), None)


def _succeeding(entries: Sequence[NodeEntry], *command: str, seconds: float = ANSWER_SECONDS) -> Sequence[NodeEntry]:
    """The nodes on which a command succeeds within some seconds; all are asked side by side."""
    with ThreadPoolExecutor(max_workers=max(len(entries), 1)) as pool:
        codes = pool.map(lambda entry: on_node(entry.name, *command, seconds=seconds).returncode, entries)
    return [entry for entry, code in zip(entries, codes, strict=True) if code == 0]


def elected_manager(entries: Sequence[NodeEntry]) -> str | None:
    """A living manager, waiting while managers elect a leader, as they may when a node dies or returns."""
    deadline = time.monotonic() + scaled(ELECTION_SECONDS)
    while (
        not (manager := living_manager(entries))
        and (WORK / SWARM_STARTED.path).exists()
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    return manager


def pulumi(*arguments: str) -> int:
    """Run pulumi for this stack on this terminal; Ctrl-C reaches it first and this tool after it."""
    process = subprocess.Popen(["pulumi", *arguments, "--stack", STACK])
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        prune_history()
        return code


def prune_history() -> None:
    """Keep history and backups of the newest runs, where the state is on this machine; the engine keeps all of them."""
    for folder in backend_folder():
        for kind in ("history", "backups"):
            files: dict[int, list[Path]] = {}
            for path in (folder / kind / PACKAGE / STACK).glob("*"):
                if found := re.match(rf"{re.escape(STACK)}[-.](\d+)\.", path.name):
                    files.setdefault(int(found[1]), []).append(path)
            for when in sorted(files)[:-KEPT_RUNS]:
                for path in files[when]:
                    path.unlink(missing_ok=True)


def pulumi_json(*arguments: str) -> Any:
    """The JSON document that a pulumi command prints.

    Raises:
        ToolError: pulumi failed; with its output.
    """
    done = subprocess.run(["pulumi", *arguments, "--stack", STACK], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(f"pulumi {arguments[0]} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def resources() -> Resources:
    """The resources of the stack's state by URN."""
    return _by_urn(_deployment())


def commands(known: Resources, step: Step | None = None, node: str | None = None) -> list[Resource]:
    """The Commands of a state that do a step, or work on a node; all of them where neither is given."""
    found = [resource for resource in known.values() if resource["type"] == COMMAND]
    return [
        resource
        for resource in found
        if step in (None, _variable(resource, "STEP")) and node in (None, node_of(resource))
    ]


def _variable(resource: Resource, name: str) -> str:
    return str(resource["inputs"].get("environment", {}).get(name, ""))


def step_of(resource: Resource) -> Step:
    """What a Command does."""
    return Step(_variable(resource, "STEP"))


def node_of(resource: Resource) -> str:
    """The node that a Command works on; empty if it works on none."""
    return _variable(resource, "NODE")


def services(known: Resources) -> list[Resource]:
    """The services of a state."""
    return [resource for resource in known.values() if resource["type"] == SERVICE]


def targets(chosen: Sequence[Resource]) -> list[str]:
    """The engine's arguments that limit it to these resources."""
    return [argument for resource in chosen for argument in ("--target", str(resource["urn"]))]


def name_of(resource: Resource) -> str:
    """The name of a resource, the end of its URN."""
    return str(resource["urn"]).rpartition("::")[2]


def outputs(known: Resources) -> Mapping[str, Any]:
    """The outputs of a state's stack; empty if it never came up."""
    return next((r.get("outputs", {}) for r in known.values() if r["type"] == "pulumi:pulumi:Stack"), {})


def health_url(url: str) -> str:
    """Where the proxy of a URL answers with 200 if it reaches an application, whatever the content is."""
    return urllib.parse.urljoin(url, HEALTH_PATH)


def _by_urn(deployment: Any) -> Resources:
    return {resource["urn"]: resource for resource in deployment.get("resources", [])}


def _deployment() -> Any:
    """The stack's state; read from its file where there is one, because starting the engine takes a while."""
    for folder in backend_folder():
        with contextlib.suppress(FileNotFoundError):
            state = json.loads((folder / "stacks" / PACKAGE / f"{STACK}.json").read_text())
            return state["checkpoint"]["latest"] or {}
    return pulumi_json("stack", "export")["deployment"]


def run_again(command: Resource) -> None:
    """Run the create script of a Command of the state once more, as the engine ran it.

    Raises:
        ToolError: it failed.
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
    """Remove what a killed run left: its lock, half-written files of the state, its list of pending operations.

    A lock is removed if its pulumi ran on this host and is dead. Scripts finish half-done work, so an interrupted step
    just runs again.

    Returns:
        The resources of the stack's state by URN.

    Raises:
        ToolError: another pulumi is changing this stack.
    """
    for path in _locks():
        lock = json.loads(path.read_text())
        if lock["hostname"] == socket.gethostname() and not _is_pulumi(int(lock["pid"])):
            print(f"removed the lock of process {lock['pid']}, which no longer runs")
            path.unlink()
        else:
            raise ToolError(
                f"stack {STACK} is being changed by process {lock['pid']} of {lock['username']} on {lock['hostname']} "
                f"since {lock['timestamp']}; wait until it ends, or end it, then run this again"
            )
    for folder in backend_folder():
        for path in (folder / "stacks" / PACKAGE).glob(f"{STACK}.json*.tmp"):
            path.unlink()
    deployment = _deployment()
    if deployment.get("pending_operations"):
        state = pulumi_json("stack", "export")
        del state["deployment"]["pending_operations"]
        subprocess.run(
            ["pulumi", "stack", "import", "--stack", STACK],
            input=json.dumps(state),
            text=True,
            check=True,
            capture_output=True,
        )
        print("the last run was interrupted; its unfinished steps run again")
    return _by_urn(deployment)


def backend_folder() -> Iterator[Path]:
    """The folder of the state, if it is on this machine."""
    url = urllib.parse.urlsplit(os.environ.get("PULUMI_BACKEND_URL", ""))
    if url.scheme == "file":
        yield Path(urllib.parse.unquote(url.path)) / ".pulumi"


def _locks() -> Iterator[Path]:
    for folder in backend_folder():
        yield from sorted((folder / "locks" / "organization" / PACKAGE / STACK).glob("*.json"))


def _is_pulumi(pid: int) -> bool:
    """Whether the process runs and is a pulumi, not another program that was given the same id."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "pulumi"
    except (FileNotFoundError, ProcessLookupError):
        return False


def since(begin: float) -> str:
    """The time since `begin` (of time.monotonic), as text."""
    return f"{time.monotonic() - begin:.0f} s"

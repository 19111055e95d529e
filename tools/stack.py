"""What the tools know about one stack: its folder on this machine, its nodes, and how pulumi is called for it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from components.rendering import render

PROJECT = "swarm-site"
ROOT = Path(__file__).resolve().parent.parent
STACK = os.environ.get("STACK") or "dev"
WORK = Path(".work") / STACK
ANSWER_SECONDS = 5
"""How long a node may take to answer before it counts as dead."""
ELECTION_SECONDS = 25
"""How long managers may take to elect a leader; mostly 10 to 20 s after the last one died."""

Resources = dict[str, dict[str, Any]]
"""Resources of the state, as `pulumi stack export` has them, by their names."""


class ToolError(Exception):
    """Something a person can act on; its text is all that is shown."""


@dataclass(frozen=True)
class NodeEntry:
    """A line of the stack's node list: what the last `up` wanted."""

    name: str
    address: str
    role: str


def main(tool: Callable[[], int]) -> NoReturn:
    """Run a tool in the project's folder; a ToolError or Ctrl-C ends it with a sentence."""
    os.chdir(ROOT)
    try:
        sys.exit(tool())
    except ToolError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def nodes() -> list[NodeEntry]:
    """The nodes of the last `up`, none if there was none."""
    with contextlib.suppress(FileNotFoundError):
        return [NodeEntry(*line.split()) for line in (WORK / "nodes").read_text().splitlines() if line]
    return []


def provider() -> str:
    """The provider of the stack's machines, as the workshop has noted it; `docker` where it has noted none."""
    with contextlib.suppress(FileNotFoundError):
        return (WORK / "provider").read_text().strip()
    return "docker"


def script(template: str, made_by: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the stack's machines on this machine.

    Args:
        template: the script's path below `templates/`.
        made_by: the machines' provider.
        environment: its inputs beside WORK and STACK.

    Returns:
        The finished process; its errors went to this terminal.
    """
    return subprocess.run(
        ["bash", "-c", render(template, provider=made_by), template],
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
        command: words, quoted for the node's shell here.
        seconds: when it must have ended, with `patience`.
        text: what it gets on stdin.

    Returns:
        The finished process; exit status 255 where the node did not answer in time.
    """
    words = ["sudo", *command]
    limit = patience(seconds)
    # An ssh that gives up by itself, before it is killed, also ends its way through jump hosts.
    options = ["-F", str(WORK / "machines" / name / "ssh_config"), "-o", f"ConnectTimeout={max(int(limit) - 1, 1)}"]
    call = ["ssh", *options, name, _quoted(words)]
    try:
        return subprocess.run(call, input=text or "", capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(call, 255, "", f"{name} did not answer within {limit:g} s")


def patience(seconds: float) -> float:
    """That, or five times as much where the stack's machines are emulated."""
    return seconds * 5 if (WORK / "emulated").exists() else seconds


def _quoted(words: Sequence[str]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def silent(entries: Sequence[NodeEntry], seconds: float = ANSWER_SECONDS) -> list[NodeEntry]:
    """Those that give no sign within some seconds."""
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
    deadline = time.monotonic() + patience(ELECTION_SECONDS)
    while not (manager := living_manager(entries)) and (WORK / "swarm").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    return manager


def pulumi(*arguments: str) -> int:
    """Run pulumi for this stack on this terminal; Ctrl-C reaches it first and this tool after it."""
    process = subprocess.Popen(["pulumi", *arguments, "--stack", STACK])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def pulumi_json(*arguments: str) -> Any:
    """The JSON document that a pulumi command prints.

    Raises:
        ToolError: pulumi failed; with its own words.
    """
    done = subprocess.run(["pulumi", *arguments, "--stack", STACK], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(f"pulumi {arguments[0]} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def resources() -> Resources:
    """The resources of the stack's state by name."""
    return _by_name(_deployment())


def outputs(known: Resources) -> Mapping[str, Any]:
    """The outputs of the stack, by its resources; none if it never came up."""
    found: Mapping[str, Any] = known.get(f"{PROJECT}-{STACK}", {}).get("outputs", {})
    return found


def _by_name(deployment: Any) -> Resources:
    return {resource["urn"].split("::")[-1]: resource for resource in deployment.get("resources", [])}


def _deployment() -> Any:
    """The stack's state; read from its file where it has one, for the engine takes a while to start."""
    for folder in backend_folder():
        with contextlib.suppress(FileNotFoundError):
            state = json.loads((folder / "stacks" / PROJECT / f"{STACK}.json").read_text())
            return state["checkpoint"]["latest"] or {}
    return pulumi_json("stack", "export")["deployment"]


def run_again(name: str) -> None:
    """Run the create script of a Command of the state once more, as the engine ran it.

    Raises:
        ToolError: it failed.
    """
    inputs = resources()[name]["inputs"]
    environment = os.environ | inputs["environment"]
    print(f"{name}: run again", flush=True)
    done = subprocess.run(
        ["/bin/sh", "-c", inputs["create"]],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        raise ToolError(f"{done.stderr.strip()}\n{name} failed; put right what is said above and run the same again")


def recover() -> Resources:
    """Take away what a killed run left: its lock, half written files of the state, notes of what it was doing.

    A lock is taken away if its pulumi ran on this host and is dead. The scripts converge over half done work, so a step
    that was under way is simply done again.

    Returns:
        The resources of the stack's state by name.

    Raises:
        ToolError: another pulumi works on this stack right now.
    """
    for path in _locks():
        lock = json.loads(path.read_text())
        if lock["hostname"] == socket.gethostname() and not _is_pulumi(int(lock["pid"])):
            print(f"removed the lock of process {lock['pid']}, which is dead")
            path.unlink()
        else:
            raise ToolError(
                f"stack {STACK} is being changed by process {lock['pid']} of {lock['username']} on {lock['hostname']} "
                f"since {lock['timestamp']}; wait for it, or end it, then run this again"
            )
    for folder in backend_folder():
        for path in (folder / "stacks" / PROJECT).glob(f"{STACK}.json*.tmp"):
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
        print("the last run was cut off; what it was doing is done again")
    return _by_name(deployment)


def backend_folder() -> Iterator[Path]:
    """The folder of the state, if it is one on this machine."""
    url = urllib.parse.urlsplit(os.environ.get("PULUMI_BACKEND_URL", ""))
    if url.scheme == "file":
        yield Path(urllib.parse.unquote(url.path)) / ".pulumi"


def _locks() -> Iterator[Path]:
    for folder in backend_folder():
        yield from sorted((folder / "locks" / "organization" / PROJECT / STACK).glob("*.json"))


def _is_pulumi(pid: int) -> bool:
    """Whether the process runs, and is no other one that got the same id since."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "pulumi"
    except (FileNotFoundError, ProcessLookupError):
        return False


def since(begin: float) -> str:
    """The time since `begin` (of time.monotonic) in words."""
    return f"{time.monotonic() - begin:.0f} s"

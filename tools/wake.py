"""Before a run: which nodes answer, with their Docker; stopped machines and stopped Dockers are started."""

import time
from collections.abc import Sequence

from components.contract import MACHINE_COMPLETE, Step
from components.scripts import bundle
from tools import stack
from tools.stack import NodeEntry, Resource, Resources, ToolError

START_SECONDS = 60
RETRY_SECONDS = 10
"""Grace period of a busy machine before it counts as dead."""
DOCKER_SECONDS = 60
"""Time limit for the start of a node's Docker."""
WITHOUT_DOCKER = 3
"""Exit status of the question to a node whose Docker does not answer."""


def created_entries(known: Resources) -> list[NodeEntry]:
    """Return the nodes whose machines are completely created and not partly removed since, whatever the state lost."""
    return [
        entry
        for entry in stack.nodes()
        if _is_complete(entry) and (_machine(entry, known) or not stack.commands(known, Step.MACHINE, entry.name))
    ]


def replaces(known: Resources) -> list[str]:
    """Return the engine's arguments that replace partly removed machines of the state."""
    machines = [_machine(entry, known) for entry in stack.nodes() if not _is_complete(entry)]
    return [argument for machine in machines if machine for argument in ("--replace", machine["urn"])]


def _machine(entry: NodeEntry, known: Resources) -> Resource | None:
    """Return a node's machine in the state, unless a replacement is pending: the engine creates that itself."""
    machines = stack.commands(known, Step.MACHINE, entry.name)
    return next((machine for machine in machines if not machine.get("pendingReplacement")), None)


def _is_complete(entry: NodeEntry) -> bool:
    return (stack.machine_folder(entry.name) / MACHINE_COMPLETE.path).exists()


def wake(entries: Sequence[NodeEntry]) -> dict[str, str]:
    """Start stopped machines, and Docker where it has stopped.

    A running machine that does not answer may just be busy: it is asked again, with a longer limit.

    Returns:
        The dead nodes by name, each with the reason: it does not answer, or its Docker does not.

    Raises:
        ToolError: a node answers and rejects the login, so it is not dead; nothing was touched.
    """
    broken: dict[NodeEntry, str] = {}
    dead = _dead(entries, stack.ANSWER_SECONDS, broken)
    starting = [entry for entry in dead if start(entry)]
    deadline = time.monotonic() + stack.scaled(START_SECONDS)
    while any(entry in dead and entry not in broken for entry in starting) and time.monotonic() < deadline:
        dead = _dead(list(dead), stack.ANSWER_SECONDS, broken)
    if any(entry not in broken for entry in dead):
        dead = _dead(list(dead), RETRY_SECONDS, broken)
    return {entry.name: broken.get(entry, why) for entry, why in dead.items()}


def _dead(entries: Sequence[NodeEntry], seconds: float, broken: dict[NodeEntry, str]) -> dict[NodeEntry, str]:
    """Return the nodes that do not answer with their Docker, each with the reason.

    Starts a Docker that has stopped, once; `broken` collects the reasons why one does not start.
    """
    question = f"timeout {max(seconds - 1, 1):g} docker version >/dev/null 2>&1 || exit {WITHOUT_DOCKER}"
    answers = stack.on_nodes(entries, "sh", "-c", question, seconds=seconds)
    said = {entry: stack.words(done) for entry, done in answers.items()}
    rejecting = [entry for entry in entries if stack.is_rejected(said[entry])]
    if rejecting:
        faults = "\n".join(f"{entry.name} answers and rejects the login: {said[entry]}" for entry in rejecting)
        raise ToolError(f"{faults}\nnothing was touched; see what ssh says: make ssh NODE={rejecting[0].name}")
    dead = {entry: f"is unreachable ({said[entry]})" for entry, done in answers.items() if done.returncode != 0}
    stopped = [entry for entry in dead if answers[entry].returncode == WITHOUT_DOCKER and entry not in broken]
    command = ("bash", "--norc", "-c", bundle("status/start_docker.sh"))
    for entry, done in stack.on_nodes(stopped, *command, seconds=DOCKER_SECONDS).items():
        if words := stack.words(done):
            print(f"{entry.name}: {words}", flush=True)
        if done.returncode == 0:
            del dead[entry]
        else:
            broken[entry] = stack.words(done)
    return dead


def start(entry: NodeEntry) -> bool:
    """Start an existing, stopped machine."""
    if stack.power(entry.name, "state").stdout != "off\n":
        return False
    print(f"{entry.name} was stopped; starting it", flush=True)
    return stack.power(entry.name, "start").returncode == 0


def power_off(name: str) -> None:
    """Power off a dead machine that still runs: cut off or hung, it would serve stale content on its return."""
    state = stack.power(name, "state").stdout
    if state == "on\n":
        print(f"{name} still runs; powering it off, the next make up starts it", flush=True)
        stack.power(name, "off")
    elif state == "unknown\n":
        print(f"{name} can't be powered off from here; it may still serve stale content")

"""Bring the stack up: start stopped machines, exclude dead ones, and fetch the page."""

import time
import urllib.error
import urllib.parse
from collections.abc import Sequence
from email.message import Message

from components.contract import LABEL_DRAINED, Step
from tools import context, folder, services, stack, wake
from tools.observe import Finding, ask_swarm, outside_finding, page_fault, task_findings
from tools.stack import NodeEntry, Resources, ToolError

START_SECONDS = 60
RETRY_SECONDS = 10
"""Grace period of a busy machine, or a swarm electing a leader, before it counts as failed."""
RECONNECT_SECONDS = 30
"""Grace period of a node that connects to its swarm again; Docker's agent retries after up to 8 s each time."""
TASK_SECONDS = 20
"""Grace period of tasks that have just been created, on a node just activated for example."""
RECONNECTING = ("active", "pending")
"""States of a node's Docker, without an error, from which it connects again by itself."""
PAGE_SECONDS = 2
"""Time limit for the first request to each proxy; doubles every round, up to RETRY_SECONDS."""
PAGE_LINES, PAGE_WIDTH, PAGE_BYTES = 10, 120, 65536
"""Limits for the page: lines and columns shown, bytes read."""


def up() -> int:
    """Bring the stack up and show the served page."""
    begin = time.monotonic()
    known = stack.recover()
    folder.require_key(known)
    folder.derive(known)
    folder.provide_sources(known, Step.STACK_FOLDER, Step.BOX)
    entries = wake.created_entries(known)
    reasons = wake.wake(entries)
    dead = list(reasons)
    if dead and len(dead) == len(entries):
        faults = "\n".join(f"{name} {why}" for name, why in reasons.items())
        raise ToolError(f"{faults}\nno node answers; to rebuild them, run: make down, then make up")
    manager = stack.elected_manager([entry for entry in entries if entry.name not in dead])
    behind: list[str] = []
    if manager:
        availability = members(manager)
        for name in dead:
            if name in availability:  # an interrupted leave may have removed the entry
                drain(manager, name)
            wake.power_off(name)
        # These answer again; they are activated last, when they have caught up.
        behind = [name for name, state in availability.items() if state == "Drain" and name not in dead]
    errors = task_errors(manager)
    if manager:
        known = services.reconcile(manager, known, excludes(known, dead))
    arguments = ("--yes", "--skip-preview", "--suppress-outputs", *wake.replaces(known), *excludes(known, dead))
    if stack.pulumi("up", *arguments) != 0:
        manager = stack.living_manager([entry for entry in stack.nodes() if entry.name not in dead])
        for _, error in sorted(task_errors(manager).items() - errors.items()):
            print(f"  {error}")
        show(refused_by_swarm(dead))
        raise ToolError("make up failed; fix the error above and run it again")
    known = stack.resources()
    context.refresh()
    outside = outside_swarm(dead)
    for entry in stack.nodes():  # reread: a node that was behind may have been removed
        if entry.name in behind and entry.name not in [finding.part for finding in outside]:
            activate(known, entry.name)
    addresses = [entry.address for entry in entries if entry.name in dead]
    urls = stack.outputs(known)["proxy_urls"]
    urls = [url for url in urls if urllib.parse.urlsplit(url).hostname not in addresses]
    remedy = "it catches up on the next make up"
    different = [*(Finding(name, f"{why}: drained and skipped", remedy) for name, why in reasons.items()), *outside]
    try:
        show_page(urls)
        different += incomplete(dead, known, urls)
    finally:
        show(different)
    parts = ", ".join(finding.part for finding in different)
    print(f"up after {stack.since(begin)}{f', except for: {parts}' if different else ''}")
    return 1 if different else 0


def incomplete(dead: Sequence[str], known: Resources, urls: Sequence[str]) -> list[Finding]:
    """Return services that lack tasks and proxies that do not answer, once they had time to start.

    Args:
        dead: names of the dead nodes.
        known: resources of the state.
        urls: URLs of the proxies on living nodes.
    """
    deadline = time.monotonic() + stack.scaled(TASK_SECONDS)
    living = [entry for entry in stack.nodes() if entry.name not in dead]
    while True:
        found = [Finding(url, f"does not answer: {fault}") for url in urls if (fault := page_fault(url))]
        if manager := stack.living_manager(living):
            found += task_findings(manager, known)
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(0.2)


def outside_swarm(dead: Sequence[str]) -> list[Finding]:
    """Return current nodes that died meanwhile, or answer and are outside the swarm.

    A node that just started, or was demoted, takes a moment to reconnect: the swarm may count it as down, or not know
    its name yet, while its own Docker is a member without an error. A new leader does not know of any node at first.
    """
    living = [entry for entry in stack.nodes() if entry.name not in dead]
    deadline = time.monotonic() + stack.scaled(RECONNECT_SECONDS)
    while True:
        manager = stack.living_manager(living)
        statuses = member_statuses(manager) if manager else {}
        states = swarm_states(living)
        silent = [entry.name for entry in living if entry.name not in states]
        refused = [name for name, (state, error) in states.items() if state not in RECONNECTING or error]
        away = [name for name in states if statuses.get(name) not in ("Ready", "Unknown") and name not in refused]
        if not (silent or away) or time.monotonic() >= deadline:
            return [
                *(Finding(name, "does not answer any more", "make up") for name in silent),
                *(outside_finding(name, *states[name]) for name in (*refused, *away)),
            ]
        time.sleep(0.2)


def refused_by_swarm(dead: Sequence[str]) -> list[Finding]:
    """Return current nodes that answer and whose Docker reports a swarm error."""
    states = swarm_states([entry for entry in stack.nodes() if entry.name not in dead])
    return [outside_finding(name, state, error) for name, (state, error) in states.items() if error]


def swarm_states(entries: Sequence[NodeEntry]) -> dict[str, tuple[str, str]]:
    """Return swarm state and error (usually empty) from the Docker of each node that answers."""
    states = {}
    question = ("docker", "info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.Error}}")
    for entry, done in stack.on_nodes(entries, *question).items():
        state, _, error = " ".join(done.stdout.split()).partition(" ")
        if state:
            states[entry.name] = state, error
    return states


def show(findings: Sequence[Finding]) -> None:
    """Print a line per finding, as in `make status`."""
    for finding in findings:
        print(f"{finding.part}: {finding.what}; {finding.remedy}")


def excludes(known: Resources, names: Sequence[str]) -> list[str]:
    """Return the engine's arguments that exclude all resources of these nodes.

    Excludes every step that any node has, even if the state lacks it for these nodes.
    """
    nodes = {command["urn"]: stack.node_of(command) for command in stack.commands(known)}
    prefixes = sorted({urn.removesuffix(node) for urn, node in nodes.items() if node})
    return [argument for name in names for prefix in prefixes for argument in ("--exclude", f"{prefix}{name}")]


def activate(known: Resources, node: str) -> None:
    """Activate a drained node once a container of each image starts on it."""
    for step in (Step.IMAGE_DELIVERY, Step.ACTIVATION):
        for command in stack.commands(known, step, node):
            stack.run_again(command)


def drain(manager: str, name: str) -> None:
    """Drain a dead node, with the reason as a label."""
    reason = f"{LABEL_DRAINED}=make up found it unreachable"
    manage(manager, "node", "update", "--availability", "drain", "--label-add", reason, name)


def task_errors(manager: str | None) -> dict[str, str]:
    """Return the errors of failed tasks by task id; the engine does not know why a service was rolled back."""
    if not manager:
        return {}
    faults = [row for kind, *row in ask_swarm(manager) if kind == "fault"]
    return {row[3]: f"task {row[0]} on {row[1]}: {row[2]}" for row in faults}


def members(manager: str) -> dict[str, str]:
    """Return the availability of the swarm's nodes by name; a node just started may still count as down."""
    listing = manage(manager, "node", "ls", "--format", "{{.Hostname}} {{.Availability}}")
    # A node that has only just joined has no known name yet.
    return {name: availability for name, _, availability in (line.rpartition(" ") for line in listing.splitlines())}


def member_statuses(manager: str) -> dict[str, str]:
    """Return the status of the swarm's nodes by name; an entry that a rejoined node left behind does not count."""
    listing = manage(manager, "node", "ls", "--format", "{{.Status}} {{.Hostname}}")
    statuses: dict[str, str] = {}
    for status, _, name in (line.partition(" ") for line in listing.splitlines()):
        if statuses.get(name) != "Ready":
            statuses[name] = status
    return statuses


def manage(manager: str, *arguments: str) -> str:
    """Return the output of docker on a manager.

    The swarm refuses briefly while it elects a leader, or notices that a node is down.

    Raises:
        ToolError: the swarm still refuses after the retries; holds the output.
    """
    deadline = time.monotonic() + stack.scaled(RETRY_SECONDS)
    while True:
        done = stack.on_node(manager, "docker", *arguments)
        if done.returncode == 0:
            return done.stdout
        if time.monotonic() >= deadline:
            failed = f"`docker {' '.join(arguments)}` failed on {manager}"
            raise ToolError(f"{failed}: {stack.words(done)}; run again: make up")
        time.sleep(0.2)


def show_page(urls: Sequence[str]) -> None:
    """Wait for the first proxy that reaches an application, and show its page.

    A proxy just started takes a moment. One with an open connection to a node that just vanished may need seconds to
    answer. Whether there is a page depends on the content, so its absence is not a failure.

    Args:
        urls: URLs of the proxies on living nodes.
    """
    seconds = stack.scaled(PAGE_SECONDS)
    deadline = time.monotonic() + stack.scaled(START_SECONDS)
    fault = "the nodes of all proxies are dead"
    while True:
        for url in urls:
            try:
                with stack.DIRECTLY.open(stack.health_url(url), timeout=seconds):
                    page = _page(url, seconds)
            except (urllib.error.URLError, OSError) as error:
                fault = f"{url} does not answer ({error})"
            else:
                print(page)
                return
        if not urls or time.monotonic() >= deadline:
            raise ToolError(f"the stack is up, but {fault}; run: make status")
        seconds = min(2 * seconds, stack.scaled(RETRY_SECONDS))
        time.sleep(0.2)


def _page(url: str, seconds: float) -> str:
    """Return a proxy's answer for a terminal: its origin and first lines."""
    try:
        with stack.DIRECTLY.open(url, timeout=seconds) as answer:
            return _described(url, "answers", answer.headers, answer.read(PAGE_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return _described(url, f"answers {error.code} {error.reason}", error.headers, error.read(PAGE_BYTES))


def _described(url: str, answers: str, headers: Message, body: bytes) -> str:
    names = [f"{key}: {headers[key]}" for key in ("X-Proxy", "X-Backend") if headers[key]]
    return f"\n{url} {answers} ({', '.join(names)}):\n\n{excerpt(body)}\n"


def excerpt(body: bytes) -> str:
    """Return the first lines of a page, without terminal control sequences."""
    if b"\0" in body:
        return "(not a text)"
    lines = body.decode(errors="replace").expandtabs().splitlines()
    shown = ["".join(letter for letter in line if letter.isprintable())[:PAGE_WIDTH] for line in lines[:PAGE_LINES]]
    return "\n".join([*shown, *(["…"] if len(lines) > PAGE_LINES else [])])


if __name__ == "__main__":
    stack.main(up)

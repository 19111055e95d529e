"""Bring the stack up: what merely stopped is started, what stays dead is left out, and the page is fetched."""

import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

from components.rendering import render
from tools import stack
from tools.stack import NodeEntry, Resources, ToolError

START_SECONDS = 60
PATIENCE_SECONDS = 10
PAGE_SECONDS = 2
"""How long the first request of each proxy may take; every round gives them twice as long, up to PATIENCE_SECONDS."""


def up() -> int:
    """Bring the stack up and show what it serves."""
    begin = time.monotonic()
    known = stack.recover()
    entries = made_entries(known)
    dead = wake(entries)
    if dead and len(dead) == len(entries):
        raise ToolError(f"no node answers ({', '.join(dead)}); to make them anew, run: make down, then make up")
    manager = stack.elected_manager([entry for entry in entries if entry.name not in dead])
    behind: list[str] = []
    if manager:
        take_away_lost_services(manager, known)
        availability = members(manager)
        for name in dead:
            if name in availability:  # a leave that was cut off may have taken the entry out
                manage(manager, "node", "update", "--availability", "drain", name)
            switch_off(name)
        # They answer again, and are opened last, when they have what they missed.
        behind = [name for name, state in availability.items() if state == "Drain" and name not in dead]
    errors = task_errors(manager)
    status = stack.pulumi("up", "--yes", "--skip-preview", "--suppress-outputs", *replaces(known), *excludes(dead))
    if status != 0:
        manager = stack.living_manager([entry for entry in stack.nodes() if entry.name not in dead])
        for _, words in sorted(task_errors(manager).items() - errors.items()):
            print(f"  {words}")
        raise ToolError("the stack is not up; what failed is said above; put it right and run again: make up")
    for entry in stack.nodes():  # today's: one that was behind may have gone for good
        if entry.name in behind:
            for step in ("nginx-image", "ready"):  # a node that can't start a container is not opened
                stack.run_again(f"{step}-{entry.name}")
    for name in dead:
        print(f"{name} is dead: it is drained, and what it missed waits for it; then run: make up")
    addresses = [entry.address for entry in entries if entry.name in dead]
    urls = stack.outputs(stack.resources())["proxy_urls"]
    show_page([url for url in urls if urllib.parse.urlsplit(url).hostname not in addresses])
    print(f"up after {stack.since(begin)}")
    return 0


def excludes(names: Sequence[str]) -> list[str]:
    """The engine's arguments that leave out everything that belongs to these nodes."""
    return [word for name in names for word in ("--exclude", f"**-{name}")]


def made_entries(known: Resources) -> list[NodeEntry]:
    """The nodes whose machines were made to the end, and not half taken away since."""
    return [entry for entry in stack.nodes() if _in_state(entry, known) and _is_complete(entry)]


def replaces(known: Resources) -> list[str]:
    """The engine's arguments that make anew the machines that it takes for made and that are half taken away."""
    halves = [entry for entry in stack.nodes() if _in_state(entry, known) and not _is_complete(entry)]
    return [word for entry in halves for word in ("--replace", known[f"machines-{entry.name}"]["urn"])]


def _in_state(entry: NodeEntry, known: Resources) -> bool:
    """Whether the engine takes the machine for made; one that it has taken away for another it makes by itself."""
    machine = known.get(f"machines-{entry.name}")
    return bool(machine and not machine.get("pendingReplacement"))


def _is_complete(entry: NodeEntry) -> bool:
    return (stack.WORK / "machines" / entry.name / "complete").exists()


def wake(entries: Sequence[NodeEntry]) -> list[str]:
    """Start machines that merely stopped; the names of those that are dead.

    A machine that runs and is silent may just be busy: it is asked once more, for longer.
    """
    silent = stack.silent(entries)
    if not silent:
        return []
    started = [entry for entry in silent if start(entry)]
    deadline = time.monotonic() + stack.patience(START_SECONDS)
    while any(entry in started for entry in silent) and time.monotonic() < deadline:
        silent = stack.silent(silent)
    return [entry.name for entry in stack.silent(silent, PATIENCE_SECONDS)]


def start(entry: NodeEntry) -> bool:
    """Start a machine that exists and is stopped."""
    if power(entry.name, "state").stdout != "off\n":
        return False
    print(f"{entry.name} was stopped; starting it", flush=True)
    return power(entry.name, "start").returncode == 0


def switch_off(name: str) -> None:
    """Switch a dead machine off that still runs: cut off or hung, it would serve old content when it returns."""
    state = power(name, "state").stdout
    if state == "on\n":
        print(f"{name} runs and gives no sign; it is switched off, and the next make up starts it", flush=True)
        power(name, "off")
    elif state == "unknown\n":
        print(
            f"{name} gives no sign, and can't be started or switched off from here: cut off, it may serve old content"
        )


def power(name: str, wish: str) -> subprocess.CompletedProcess[str]:
    """Ask the provider for a machine's `state` (on, off, none or unknown), to `start` it or to switch it `off`."""
    return stack.script("machines/power.sh", stack.provider(), NODE=name, WISH=wish)


def take_away_lost_services(manager: str, resources: Resources) -> None:
    """Remove services that run but that the state lost, so that they can be made again."""
    known = {
        resource["inputs"]["name"]
        for resource in resources.values()
        if resource["type"] == "docker:index/service:Service"
    }
    found = stack.on_node(manager, "docker", "service", "ls", "--filter", "label=swarm-site", "--format", "{{.Name}}")
    for name in set(found.stdout.split()) - known:
        print(f"the state does not know the service {name}; it is removed and made again")
        stack.on_node(manager, "docker", "service", "rm", name)


def task_errors(manager: str | None) -> dict[str, str]:
    """What failed tasks said, by their ids: the engine does not know why a service was rolled back."""
    if not manager:
        return {}
    done = stack.on_node(manager, "bash", "-c", render("status/manager.sh"), "status")
    rows = [line.split("\t") for line in done.stdout.splitlines() if line.startswith("fault\t")]
    return {row[4]: f"task {row[1]} on {row[2]}: {row[3]}" for row in rows}


def members(manager: str) -> dict[str, str]:
    """The swarm's nodes with their availability; one that has just been started may still count as down."""
    listing = manage(manager, "node", "ls", "--format", "{{.Hostname}} {{.Availability}}")
    # Of a node that has only just been let in the name is not known yet.
    return {name: availability for name, _, availability in (line.rpartition(" ") for line in listing.splitlines())}


def manage(manager: str, *words: str) -> str:
    """What docker prints on a manager.

    The swarm refuses for a moment while it elects a leader, or notes itself that a node is down.

    Raises:
        ToolError: it still refuses after that; with its words.
    """
    deadline = time.monotonic() + stack.patience(PATIENCE_SECONDS)
    while True:
        done = stack.on_node(manager, "docker", *words)
        if done.returncode == 0:
            return done.stdout
        if time.monotonic() >= deadline:
            raise ToolError(f"{manager} refuses `docker {' '.join(words)}`: {done.stderr.strip()}; run again: make up")
        time.sleep(0.2)


def show_page(urls: Sequence[str]) -> None:
    """Fetch the page from the first proxy that answers and show it; a proxy that was just started takes a moment.

    One that still holds a connection to a node that has just vanished lets a visitor wait for seconds.

    Args:
        urls: of the proxies whose nodes live.
    """
    seconds = stack.patience(PAGE_SECONDS)
    deadline = time.monotonic() + stack.patience(START_SECONDS)
    words = "the nodes of all proxies are dead"
    while True:
        for url in urls:
            try:
                with urllib.request.urlopen(url, timeout=seconds) as answer:
                    text = answer.read(65536).decode(errors="replace")
                    names = [f"{key}: {answer.headers[key]}" for key in ("X-Proxy", "X-Backend") if answer.headers[key]]
            except (urllib.error.URLError, OSError) as error:
                words = f"{url} does not answer ({error})"
            else:
                print(f"\n{url} answers ({', '.join(names)}):\n\n{text}")
                return
        if not urls or time.monotonic() >= deadline:
            raise ToolError(f"the stack is up, but {words}; run: make status")
        seconds = min(2 * seconds, stack.patience(PATIENCE_SECONDS))
        time.sleep(0.2)


if __name__ == "__main__":
    stack.main(up)

"""Compare the nodes and the swarm with the stack's state, part by part."""

import urllib.error
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from components.contract import Step
from components.digest import text_hash
from components.scripts import bundle
from tools import folder, stack
from tools.stack import NodeEntry, Resource, Resources

FACT_SECONDS = 15
NORMALIZED_INPUTS = ("taskSpec.containerSpec.sysctl", "taskSpec.networksAdvanceds")
"""Inputs the docker provider reads back in another form than configured."""


@dataclass(frozen=True)
class Finding:
    """A deviation from the wanted state.

    `part` names the part, `what` describes the problem, `remedy` is the command for the user. `again` lists the
    Commands whose create script fixes it; with `refresh`, the engine has to reread the services.
    """

    part: str
    what: str
    remedy: str = "make repair"
    again: tuple[Resource, ...] = ()
    refresh: bool = False


@dataclass(frozen=True)
class Member:
    """A node as the swarm sees it; `drained` is the reason, if known."""

    name: str
    status: str
    availability: str
    managing: str
    drained: str = ""


@dataclass
class Observation:
    """The result of all checks.

    `facts` by key for each node that answers, and for each `silent` one the reason; the swarm's members, services with
    their last updates, and tasks; `pages` maps each proxy's URL to the reason why it serves no page, empty if it does.
    """

    entries: list[NodeEntry]
    resources: Resources
    outputs: Mapping[str, Any]
    facts: dict[str, dict[str, str]]
    silent: Mapping[str, str] = field(default_factory=dict)
    manager: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    services: dict[str, list[str]] = field(default_factory=dict)
    updates: dict[str, list[str]] = field(default_factory=dict)
    tasks: list[list[str]] = field(default_factory=list)
    faults: list[list[str]] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_served(self) -> bool:
        """Return whether any proxy serves the page."""
        return "" in self.pages.values()

    @property
    def code(self) -> int:
        """Return 0: healthy; 1: degraded; 2: down, no page is served."""
        if not self.is_served:
            return 2
        return 1 if self.findings else 0

    def commands(self, node: str, *steps: Step) -> tuple[Resource, ...]:
        """Return the state's Commands for these steps on a node, in this order."""
        return tuple(command for step in steps for command in stack.commands(self.resources, step, node))


def observe() -> Observation:
    """Query all nodes and a manager, in parallel with time limits, and compare with the state."""
    known = stack.resources()
    folder.derive(known)
    outputs = stack.outputs(known)
    entries = [
        NodeEntry(name=name, address=node["address"], role=node["role"])
        for name, node in sorted(outputs.get("nodes", {}).items())
    ]
    images = list(outputs.get("images", {}).values())
    with ThreadPoolExecutor(max_workers=max(len(entries), 1)) as pool:
        answers = pool.map(lambda entry: _facts(entry.name, images), entries)
    given = {entry.name: answer for entry, answer in zip(entries, answers, strict=True)}
    facts = {name: answer for name, answer in given.items() if not isinstance(answer, str)}
    silent = {name: answer for name, answer in given.items() if isinstance(answer, str)}
    manager = stack.living_manager([entry for entry in entries if entry.name in facts])
    seen = Observation(entries=entries, resources=known, outputs=outputs, facts=facts, silent=silent, manager=manager)
    _ask_manager(seen)
    seen.pages = {url: page_fault(url) for url in outputs.get("proxy_urls", [])}
    services = stack.services(known) if manager else []
    changed, fault = _changed_services(services)
    seen.findings = [*_page_findings(seen), *_node_findings(seen), *_service_findings(seen, changed)]
    if fault:
        seen.findings.append(Finding("services", f"can't be compared with the settings: {fault}", "make status"))
    return seen


def _facts(name: str, images: Sequence[str]) -> dict[str, str] | str:
    """Return a node's facts, or why it gives none."""
    done = stack.on_node(
        name, "bash", "--norc", "-c", bundle("status/node.sh"), "status", *images, seconds=FACT_SECONDS
    )
    if done.returncode != 0:
        return stack.words(done)
    return {key: value.strip() for key, _, value in (line.partition(" ") for line in done.stdout.splitlines())}


def ask_swarm(manager: str) -> list[list[str]]:
    """Return the output of `templates/status/manager.sh` on a manager, lines split into fields."""
    done = stack.on_node(manager, "bash", "--norc", "-c", bundle("status/manager.sh"), "status", seconds=FACT_SECONDS)
    return [line.split("\t") for line in done.stdout.splitlines()]


def _ask_manager(seen: Observation) -> None:
    if not seen.manager:
        return
    rows: dict[str, list[list[str]]] = {}
    for kind, *row in ask_swarm(seen.manager):
        rows.setdefault(kind, []).append(row)
    drained = {name: drained_reason(label, reason) for name, label, reason in rows.get("drained", [])}
    for name, status, availability, managing in rows.get("node", []):
        reason = drained.get(name, "") if availability == "Drain" else ""
        seen.members[name] = Member(name, status, availability, managing, reason)
    seen.services = {row[0]: row for row in rows.get("service", [])}
    seen.updates = {name: update for name, *update in rows.get("update", [])}
    seen.tasks = rows.get("task", [])
    seen.faults = rows.get("fault", [])


def drained_reason(proxy_label: str, reason: str) -> str:
    """Return why a node is drained, from its two labels."""
    if reason:
        return reason
    return "drained by hand" if proxy_label else "joined, not activated yet"


def page_fault(url: str) -> str:
    """Return why a proxy serves no page; empty if it serves one."""
    try:
        with stack.DIRECTLY.open(stack.health_url(url), timeout=stack.scaled(stack.ANSWER_SECONDS)):
            return ""
    except (urllib.error.URLError, OSError) as error:
        return str(error)


def _page_findings(seen: Observation) -> Iterator[Finding]:
    if not seen.outputs:
        yield Finding("stack", "is not up", "make up")
    # While another proxy serves, a missing one is reported as a service's task.
    if not seen.is_served:
        for url, fault in seen.pages.items():
            yield Finding(url, f"does not answer: {fault}")
    if seen.entries and not seen.manager:
        yield Finding("swarm", "no manager with a quorum answers")


def _node_findings(seen: Observation) -> Iterator[Finding]:
    for entry in seen.entries:
        facts = seen.facts.get(entry.name)
        if facts is None:
            why = seen.silent[entry.name]
            what = "answers and rejects the login" if stack.is_rejected(why) else "does not answer"
            yield Finding(
                entry.name,
                f"{what} ({why})",
                "start it, then run: make up; if it is lost for good, put another host into machines.hosts"
                if stack.provider() == "ssh"
                else f"make up starts it; if it is lost for good: make repair NODE={entry.name}",
            )
        elif "docker_error" in facts:
            why = facts["docker_error"]
            yield Finding(entry.name, f"answers and its Docker does not: {why}", "make up starts it, or skips the node")
        else:
            if "firewall" not in facts and (again := seen.commands(entry.name, Step.FIREWALL)):
                yield Finding(f"firewall on {entry.name}", "is off", again=again)
            yield from _membership_findings(seen, entry, facts)
            yield from _delivery_findings(seen, entry.name, facts)
    planned = {entry.name for entry in seen.entries}
    for name in sorted(seen.members.keys() - planned):
        yield Finding(name, "is in the swarm but not in this stack", f"make ssh NODE={seen.manager}")


def outside_finding(node: str, state: str, error: str, again: tuple[Resource, ...] = ()) -> Finding:
    """Return the finding for a reachable node outside its swarm, with Docker's own message if there is one.

    Args:
        node: node name.
        state: Docker's `LocalNodeState` on the node.
        error: Docker's `Swarm.Error` on the node; usually empty.
        again: Commands that rejoin the node.
    """
    why = ": ".join(text for text in (state, error) if text not in ("active", ""))
    remedy = f"make ssh NODE={node}, then: sudo docker swarm unlock; without its key: " if state == "locked" else ""
    return Finding(node, f"is not in this stack's swarm{f' ({why})' if why else ''}", f"{remedy}make repair", again)


def _membership_findings(seen: Observation, entry: NodeEntry, facts: Mapping[str, str]) -> Iterator[Finding]:
    membership = seen.commands(entry.name, Step.MEMBERSHIP)
    rejoin = (*membership, *seen.commands(entry.name, Step.ACTIVATION))
    member = seen.members.get(entry.name)
    state = facts.get("swarm", "active")
    if state != "active" or (seen.manager and member is None):
        yield outside_finding(entry.name, state, facts.get("swarm_error", ""), rejoin)
    if not member or state != "active":
        return
    if member.status != "Ready":
        yield Finding(entry.name, f"is {member.status.lower()} in the swarm though it answers", again=rejoin)
    elif (entry.role == "manager") != bool(member.managing):
        actual = "manager" if member.managing else "worker"
        yield Finding(entry.name, f"is a {actual} and should be a {entry.role}", again=membership)
    if member.status == "Ready" and member.availability != "Active":
        why = f" ({member.drained})" if member.drained else ""
        yield Finding(
            entry.name,
            f"is set to {member.availability.lower()}, so it takes no tasks{why}",
            again=seen.commands(entry.name, Step.ACTIVATION),
        )


def _delivery_findings(seen: Observation, name: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    release = seen.outputs["release"]
    content = seen.commands(name, Step.CONTENT_DELIVERY, Step.CONTENT_SWITCH)
    if facts.get("release") != release:
        actual = facts.get("release", "none")[:12]
        yield Finding(f"content on {name}", f"is release {actual}, not {release[:12]}", again=content)
    elif "release_intact" not in facts:
        yield Finding(f"content on {name}", f"release {release[:12]} was changed there", again=content)
    for delivery in seen.commands(name, Step.IMAGE_DELIVERY):
        image = delivery["inputs"]["environment"]["IMAGE"]
        if f"image:{image}" not in facts:
            yield Finding(f"image on {name}", f"is missing ({image})", again=(*_providers(seen, image), delivery))
    for proxy in seen.commands(name, Step.PROXY_CONFIGURATION):
        if facts.get("proxy_hash") != text_hash(proxy["inputs"]["environment"]["CONFIGURATION"]):
            yield Finding(f"proxy configuration on {name}", "is missing or was changed there", again=(proxy,))


def _providers(seen: Observation, image: str) -> list[Resource]:
    """Return the Commands that provide an image on this machine."""
    commands = stack.commands(seen.resources, Step.IMAGE)
    return [command for command in commands if command["inputs"]["environment"]["IMAGE"] == image]


def task_findings(manager: str, known: Resources) -> list[Finding]:
    """Return what differs in the swarm's services and their tasks, without rereading the services' settings."""
    seen = Observation(entries=[], resources=known, outputs={}, facts={}, manager=manager)
    _ask_manager(seen)
    return list(_service_findings(seen, {}))


def _service_findings(seen: Observation, changed: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Yield the findings of all services; `changed` lists the settings that differ, by service URN."""
    if not seen.manager:
        return
    for service in stack.services(seen.resources):
        name = service["inputs"]["name"]
        row = seen.services.get(name)
        if row is None:
            yield Finding(f"service {name}", "is not in the swarm", refresh=True)
            continue
        running, wanted = row[1].split()[0].split("/")
        replicas = service["inputs"]["mode"].get("replicated", {}).get("replicas")
        if replicas is not None and int(wanted) != int(replicas):
            yield Finding(f"service {name}", f"is scaled to {wanted} and should have {int(replicas)}", refresh=True)
        elif service["urn"] in changed:
            yield _changed(name, changed[service["urn"]], *seen.updates.get(name, ["", ""]))
        if int(running) < int(wanted):
            faults = [f"{fault[1]}: {_cause(seen, fault)}" for fault in seen.faults if service_of(fault[0]) == name]
            why = f": {'; '.join(faults[:3])}" if faults else ""
            yield Finding(f"service {name}", f"runs {running} of {wanted} tasks{why}")


def _cause(seen: Observation, fault: Sequence[str]) -> str:
    """Return a failed task's error, and its memory limit if it was killed for exceeding that."""
    limit = seen.facts.get(fault[1], {}).get(f"oom:{fault[3]}")
    return f"killed for exceeding its memory limit of {int(limit) // 2**20} MB" if limit else fault[2]


def _changed(name: str, paths: Sequence[str], update: str, message: str) -> Finding:
    """Return the finding for a service that differs from its settings; `update` is the state of its last update."""
    if update.startswith("rollback"):
        return Finding(f"service {name}", f"was rolled back ({message})", "make logs; correct the cause, then: make up")
    what = f"was changed by hand, or by a run that failed ({', '.join(paths)})"
    return Finding(f"service {name}", what, refresh=True)


def service_of(task: str) -> str:
    """Return a task's service from the task name; Docker indents the names of a slot's earlier tasks."""
    return task.rpartition(" ")[2].partition(".")[0]


def _changed_services(services: Sequence[Resource]) -> tuple[dict[str, list[str]], str]:
    """Return the paths of inputs that differ from the last `up`, by service URN, or why they can't be compared."""
    if not services:
        return {}, ""
    try:
        steps = stack.pulumi_json("refresh", "--preview-only", "--json", *stack.targets(services))["steps"]
    except stack.ToolError as error:
        return {}, str(error)
    found = {
        step["urn"]: [path for path in step.get("detailedDiff") or {} if not path.startswith(NORMALIZED_INPUTS)]
        for step in steps
    }
    return {urn: paths for urn, paths in found.items() if paths}, ""

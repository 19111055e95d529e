"""What is there and what should be: compares the nodes and the swarm with the stack's state, part by part."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from components.rendering import render
from tools import stack
from tools.stack import NodeEntry

FACT_SECONDS = 15
READ_OTHERWISE = ("taskSpec.containerSpec.sysctl", "taskSpec.networksAdvanceds")
"""Inputs that the docker provider reads back in another form than they were given."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    `part` names it, `what` says how it is, `remedy` is what a person runs. `again` names the Commands whose create
    script puts it right; `refresh` says that the engine has to look at the services anew.
    """

    part: str
    what: str
    remedy: str = "make repair"
    again: tuple[str, ...] = ()
    refresh: bool = False


@dataclass
class Observation:
    """All that was seen.

    `facts` of each node that answers by key; rows of the swarm's nodes, services and tasks; of each proxy's address
    in `pages` why it gives no page, or nothing.
    """

    entries: list[NodeEntry]
    resources: dict[str, dict[str, Any]]
    outputs: Mapping[str, Any]
    facts: dict[str, dict[str, str]]
    manager: str | None = None
    nodes: dict[str, list[str]] = field(default_factory=dict)
    services: dict[str, list[str]] = field(default_factory=dict)
    tasks: list[list[str]] = field(default_factory=list)
    faults: list[list[str]] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_served(self) -> bool:
        """Whether any proxy gives the page."""
        return "" in self.pages.values()

    @property
    def code(self) -> int:
        """0: as it should be; 1: something is behind; 2: no page is served."""
        if not self.is_served:
            return 2
        return 1 if self.findings else 0


def observe() -> Observation:
    """Ask every node and a manager, side by side and bounded, and compare with the state."""
    known = stack.resources()
    outputs = stack.outputs(known)
    entries = [
        NodeEntry(name=name, address=node["address"], role=node["role"])
        for name, node in sorted(outputs.get("nodes", {}).items())
    ]
    image = next(iter(outputs.get("images", {}).values()), "")
    with ThreadPoolExecutor(max_workers=max(len(entries), 1)) as pool:
        answers = pool.map(lambda entry: _facts(entry.name, image), entries)
        facts = {entry.name: answer for entry, answer in zip(entries, answers, strict=True) if answer}
    seen = Observation(entries=entries, resources=known, outputs=outputs, facts=facts)
    _ask_manager(seen)
    seen.pages = {url: _page_fault(url) for url in outputs.get("proxy_urls", [])}
    seen.findings = [*_page_findings(seen), *_node_findings(seen), *_service_findings(seen)]
    return seen


def _facts(name: str, image: str) -> dict[str, str]:
    done = stack.on_node(name, "bash", "-c", render("status/node.sh"), "status", image, seconds=FACT_SECONDS)
    if done.returncode != 0:
        return {}
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def _ask_manager(seen: Observation) -> None:
    seen.manager = stack.living_manager([entry for entry in seen.entries if entry.name in seen.facts])
    if not seen.manager:
        return
    done = stack.on_node(seen.manager, "bash", "-c", render("status/manager.sh"), "status", seconds=FACT_SECONDS)
    for line in done.stdout.splitlines():
        kind, *row = line.split("\t")
        match kind:
            case "node":
                seen.nodes[row[0]] = row
            case "service":
                seen.services[row[0]] = row
            case "task":
                seen.tasks.append(row)
            case "fault":
                seen.faults.append(row)


def _page_fault(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=stack.patience(stack.ANSWER_SECONDS)):
            return ""
    except (urllib.error.URLError, OSError) as error:
        return str(error)


def _page_findings(seen: Observation) -> Iterator[Finding]:
    if not seen.outputs:
        yield Finding("stack", "is not up", "make up")
    # A proxy that is missing while another one serves is told of as a service's task.
    if not seen.is_served:
        for url, fault in seen.pages.items():
            yield Finding(url, f"does not answer: {fault}")
    if seen.entries and not seen.manager:
        yield Finding("swarm", "no manager with a quorum answers")


def _node_findings(seen: Observation) -> Iterator[Finding]:
    for entry in seen.entries:
        facts = seen.facts.get(entry.name)
        if facts is None:
            yield Finding(
                entry.name,
                "does not answer",
                "start it, then run: make up; if it is lost for good, put another host into machines.hosts"
                if stack.provider() == "ssh"
                else f"make up starts it; if it is lost for good: make repair NODE={entry.name}",
            )
        else:
            yield from _membership_findings(seen, entry)
            yield from _delivery_findings(seen, entry.name, facts)
    planned = {entry.name for entry in seen.entries}
    for name in seen.nodes.keys() - planned:
        yield Finding(
            f"{name} in the swarm", "is an entry of no machine of this stack", f"make ssh NODE={seen.manager}"
        )


def _membership_findings(seen: Observation, entry: NodeEntry) -> Iterator[Finding]:
    if not seen.manager:
        return
    member, ready = f"swarm-{entry.name}", f"ready-{entry.name}"
    row = seen.nodes.get(entry.name)
    if row is None:
        yield Finding(entry.name, "is in no swarm, or in another one", again=(member, ready))
        return
    _, status, availability, managing = row
    if status != "Ready":
        yield Finding(entry.name, f"is {status.lower()} in the swarm though it answers", again=(member, ready))
    elif (entry.role == "manager") != bool(managing):
        yield Finding(
            entry.name, f"is a {'manager' if managing else 'worker'} and should be a {entry.role}", again=(member,)
        )
    if status == "Ready" and availability != "Active":
        yield Finding(entry.name, f"is set to {availability.lower()}: it takes no task", again=(ready,))


def _delivery_findings(seen: Observation, name: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    release = seen.outputs["release"]
    if facts.get("release") != release:
        yield Finding(
            f"content on {name}",
            f"is release {facts.get('release', 'none')[:12]}, not {release[:12]}",
            again=(f"content-{name}",),
        )
    elif facts.get("release_hash") != release:
        yield Finding(f"content on {name}", f"release {release[:12]} was changed there", again=(f"content-{name}",))
    if "image" not in facts:
        yield Finding(f"image on {name}", "is missing", again=_named(seen, "-image-", name))
    proxy = seen.resources.get(f"proxy-{name}")
    if proxy:
        wanted = hashlib.sha256(proxy["inputs"]["environment"]["CONFIGURATION"].encode()).hexdigest()
        if facts.get("proxy_hash") != wanted:
            yield Finding(f"proxy configuration on {name}", "is missing or was changed there", again=(f"proxy-{name}",))


def _named(seen: Observation, middle: str, name: str) -> tuple[str, ...]:
    return tuple(key for key in seen.resources if key.endswith(f"{middle}{name}"))


def _service_findings(seen: Observation) -> Iterator[Finding]:
    if not seen.manager:
        return
    changed = _changed_services()
    for key, resource in seen.resources.items():
        if resource["type"] != "docker:index/service:Service":
            continue
        name = resource["inputs"]["name"]
        row = seen.services.get(name)
        if row is None:
            yield Finding(f"service {name}", "is not in the swarm", refresh=True)
            continue
        running, wanted = row[1].split()[0].split("/")
        replicas = resource["inputs"]["mode"].get("replicated", {}).get("replicas")
        if replicas is not None and int(wanted) != int(replicas):
            yield Finding(f"service {name}", f"is scaled to {wanted} and should have {int(replicas)}", refresh=True)
        elif key in changed:
            yield Finding(f"service {name}", f"was changed by hand ({', '.join(changed[key])})", refresh=True)
        if int(running) < int(wanted):
            faults = [f"{fault[1]}: {fault[2]}" for fault in seen.faults if fault[0].startswith(name)]
            words = "; ".join(faults[:3])
            yield Finding(
                f"service {name}", f"runs {running} of {wanted} tasks{': ' + words if words else ''}", again=()
            )


def _changed_services() -> dict[str, list[str]]:
    """Paths of the inputs in which a service differs from what the last `up` made, by the service's resource."""
    steps = stack.pulumi_json("refresh", "--preview-only", "--json", "--target", "**-service")["steps"]
    return {
        step["urn"].split("::")[-1]: paths
        for step in steps
        if (paths := [path for path in step.get("detailedDiff") or {} if not path.startswith(READ_OTHERWISE)])
    }

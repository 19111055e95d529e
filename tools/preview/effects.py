"""The effects of changes on a stack and its visitors. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from components.contract import Step
from tools.preview.comparison import SERVICE, Change, Resources, natural
from tools.preview.markdown import code, listed

SCRIPTS = ("environment.SCRIPT_HASH", "environment.DELETE_SCRIPT")
"""Inputs that change with a script."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The site as described by a preview's resources.

    Attributes:
        addresses: node addresses by name.
        managers: names of manager nodes, in order.
        proxies: names of proxy nodes, in order.
        port: port of the proxies.
        replicas: replicas of each application, by service name.
        network: network of the machines; empty for existing hosts.
        provider: provider of the machines.
    """

    addresses: Mapping[str, str]
    managers: Sequence[str]
    proxies: Sequence[str]
    port: str
    replicas: Mapping[str, int]
    network: str
    provider: str

    @classmethod
    def of(cls, resources: Resources) -> "Site":
        """Read the inputs; parts missing from the program stay empty."""
        members = _by_node(resources, Step.MEMBERSHIP)
        proxies = _by_node(resources, Step.PROXY_CONFIGURATION)
        ports = [re.search(r":(\d+)/", inputs.get("environment.STATE_URL", "")) for inputs in proxies.values()]
        folders = [resource.inputs for resource in resources.values() if resource.step == Step.STACK_FOLDER]
        return cls(
            addresses={node: inputs.get("environment.NODE_ADDRESS", "") for node, inputs in members.items()},
            managers=[node for node, inputs in members.items() if inputs.get("environment.ROLE") == "manager"],
            proxies=sorted(proxies, key=natural),
            port=next((port[1] for port in ports if port), "80"),
            replicas=dict(_replicas(resources)),
            network=next((inputs.get("environment.NETWORK", "") for inputs in folders), ""),
            provider=next((inputs.get("environment.PROVIDER", "") for inputs in folders), ""),
        )

    def url(self, node: str) -> str:
        """Return the URL of a node's proxy."""
        return f"http://{self.addresses.get(node, node)}{'' if self.port == '80' else f':{self.port}'}/"


def _by_node(resources: Resources, step: Step) -> Mapping[str, Mapping[str, str]]:
    """Return the inputs of each node's Command for a step."""
    return {resource.node: resource.inputs for resource in resources.values() if resource.step == step}


def _replicas(resources: Resources) -> Iterator[tuple[str, int]]:
    """Yield name and task count of each replicated service."""
    for resource in resources.values():
        count = resource.inputs.get("mode.replicated.replicas", "")
        if resource.type == SERVICE and count.isdigit():
            yield resource.inputs.get("name", resource.name), int(count)


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effects of a change.

    Attributes:
        headline: what happens, each in a few words.
        blocked: why a running stack can't be changed this way.
        visible: what visitors notice.
        notes: how the change is applied.
    """

    headline: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    visible: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def effects(old: Resources, new: Resources, changes: Sequence[Change]) -> Effects:
    """Return the effects of the changes on the stack and its visitors."""
    result = Effects()
    before, after = Site.of(old), Site.of(new)
    if old:
        _blocked(result, before, after, changes)
    _machines(result, before, after, changes)
    _services(result, before, after, changes)
    _files(result, changes)
    if old:
        stay = {after.url(node) for node in after.proxies}
        lost = [before.url(node) for node in before.proxies if before.url(node) not in stay]
        if lost:
            result.visible.append(f"{listed(lost)} no longer {verb(lost, 'answers', 'answer')}")
    if changes and not result.headline:
        result.headline.append(counted(len(changes), "step", "changed"))
    return result


def _blocked(result: Effects, before: Site, after: Site, changes: Sequence[Change]) -> None:
    for what, was, becomes in (
        ("provider", before.provider, after.provider),
        ("network", before.network, after.network),
    ):
        if was and becomes and was != becomes:
            result.blocked.append(f"the {what} of the machines changes from {code(was)} to {code(becomes)}")
            return
    owners = {address: node for node, address in before.addresses.items() if address}
    renamed = [node for node, address in after.addresses.items() if owners.get(address, node) != node]
    if renamed:
        result.blocked.append(f"{listed(renamed)} {verb(renamed, 'gets', 'get')} the address of another machine")
    leaving = [node for kind in ("replaced", "removed") for node in _nodes(changes, kind)]
    if len(before.managers) == 1 and before.managers[0] in leaving:
        result.blocked.append(f"{code(before.managers[0])} is the only manager; without it the swarm is lost")


def _machines(result: Effects, before: Site, after: Site, changes: Sequence[Change]) -> None:
    rebuilt, removed, added = (_nodes(changes, kind) for kind in ("replaced", "removed", "added"))
    for nodes, done in ((rebuilt, "rebuilt"), (removed, "removed"), (added, "added")):
        if nodes:
            result.headline.append(f"{counted(len(nodes), 'machine', done)} ({listed(nodes)})")
    _roles(result, before, after)
    if rebuilt:
        result.notes.append("Machines are rebuilt one at a time; none leaves before all others are healthy.")
        offline = [node for node in rebuilt if node in before.proxies and node in after.proxies]
        if offline and len(before.proxies) == 1:
            result.visible.append(f"no page while {listed(offline)}, which runs the only proxy, is rebuilt")
        elif offline:
            urls = [before.url(node) for node in offline]
            whose = verb(urls, "its machine is", "their machines are")
            result.visible.append(f"{listed(urls)} {verb(urls, 'does', 'do')} not answer while {whose} rebuilt")
    if removed:
        result.notes.append("Removed machines leave the swarm one at a time; their tasks move to others first.")
    if added and before.addresses:
        result.notes.append("A new machine takes tasks once it has image and content.")
    if rebuilt or removed:
        for name, replicas in before.replicas.items():
            if replicas == 1:
                result.visible.append(
                    f"no page of {code(name)} for a moment if its only task runs on a machine that leaves"
                )


def _roles(result: Effects, before: Site, after: Site) -> None:
    """Add managers and proxies that appear on, or disappear from, machines that stay."""
    stay = before.addresses.keys() & after.addresses.keys()
    for what, was, becomes in (("manager", before.managers, after.managers), ("proxy", before.proxies, after.proxies)):
        new, gone = stay & set(becomes) - set(was), stay & set(was) - set(becomes)
        if new:
            result.headline.append(f"new {what} on {listed(new)}")
        if gone:
            result.headline.append(f"{what} removed from {listed(gone)}")


def _services(result: Effects, before: Site, after: Site, changes: Sequence[Change]) -> None:
    for change in changes:
        if change.resource.type == SERVICE:
            name = change.resource.inputs.get("name", change.resource.name)
            result.headline.append(f"service {code(name)} {change.kind}")
            if change.kind == "replaced":
                result.visible.append(f"no page of {code(name)} while it is replaced")
            elif change.kind == "removed":
                result.visible.append(f"{code(name)} no longer answers")
            elif change.kind == "updated":
                _update(result, name, change, (before.replicas.get(name), after.replicas.get(name)))


def _update(result: Effects, name: str, change: Change, replicas: tuple[int | None, int | None]) -> None:
    """Add a service updated in place; `replicas` before and after, None with one task per proxy node."""
    paths = [i.path for i in change.inputs]
    before, after = replicas
    if any(path.startswith(("taskSpec", "endpointSpec")) for path in paths):
        if before is None or after is None:
            result.notes.append(
                f"Each task of {code(name)} is replaced in turn, the new one first; idle connections may be closed."
            )
        elif min(before, after) < 2:
            result.visible.append(f"no page of {code(name)} for a moment: its only task restarts")
        else:
            result.notes.append(f"Each task of {code(name)} is replaced in turn; the others answer meanwhile.")
        if any(path.startswith("endpointSpec.ports") for path in paths):
            result.visible.append(f"errors until proxies and {code(name)} agree on the port")
    if "mode.replicated.replicas" in paths:
        result.notes.append(f"{code(name)} is scaled from {before} to {after} tasks; the other tasks keep running.")


def _files(result: Effects, changes: Sequence[Change]) -> None:
    changed = {(c.resource.step, i.path) for c in changes for i in c.inputs}
    if (Step.PROXY_CONFIGURATION, "environment.CONFIGURATION") in changed:
        result.headline.append("proxies reconfigured")
        result.notes.append("nginx tests the proxies' new configuration; then each of them reloads.")
    if (Step.CONTENT_DELIVERY, "environment.RELEASE") in changed:
        result.headline.append("new content")
        result.visible.append("the new pages")
        result.notes.append("All nodes get the release, then each switches to it in one step; no container restarts.")
    again = [c for c in changes if c.kind == "updated" and any(i.path in SCRIPTS for i in c.inputs)]
    if again:
        result.notes.append(f"{counted(len(again), 'step', 'run')} again because of a changed script.")


def _nodes(changes: Sequence[Change], kind: str) -> Sequence[str]:
    return [c.resource.node for c in changes if c.kind == kind and c.resource.step == Step.MACHINE]


def counted(number: int, word: str, what: str) -> str:
    """Return a count of things and what happens to them."""
    return f"{number} {word}{'' if number == 1 else 's'} {what}"


def verb(items: Sequence[str], one: str, many: str) -> str:
    """Return the verb form that agrees with its subject."""
    return one if len(items) == 1 else many

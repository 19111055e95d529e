"""The plan: effective settings and nodes."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.settings.models import (
    APPLICATIONS,
    HostSettings,
    ImagesSettings,
    MachineSize,
    MachinesSettings,
    SwarmSettings,
)
from components.settings.services import ApplicationSettings, ContentSettings, ProxySettings

BACKEND = "backend"
"""The built-in application."""
FIRST_NODE_OFFSET = 10
"""Node N has the network address plus this offset plus N: core-01 in 192.168.56.0/24 is 192.168.56.11."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A planned node: a machine to create (`memory` in MB), or an existing `host`."""

    name: str
    address: str
    role: Literal["manager", "worker"]
    proxy: bool
    memory: int = 0
    cpus: int = 0
    host: HostSettings | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a stack, checked and with defaults; `applications` by name, the built-in one first."""

    stack: str
    network: ipaddress.IPv4Network
    machines: MachinesSettings
    swarm: SwarmSettings
    images: ImagesSettings
    content: ContentSettings
    applications: Mapping[str, ApplicationSettings]
    proxy: ProxySettings
    nodes: tuple[Node, ...]

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that services publish on their nodes."""
        return (*(application.port for application in self.applications.values()), self.proxy.port)


def odd(count: int) -> int:
    """Return the largest odd number up to a count."""
    return count if count % 2 else count - 1


def node_name(machines: MachinesSettings, index: int) -> str:
    """Return the name of a created machine; the index starts at 0."""
    return f"{machines.prefix}-{index + 1:02d}"


def computed_defaults(machines: MachinesSettings) -> Mapping[str, Mapping[str, Any]]:
    """Return the defaults that depend on the machines, by section; those for applications apply to each one."""
    application = {
        "replicas": min(2, machines.total),
        "memory": 64 * machines.workers,
        "read_timeout_s": 2 * machines.timeout_factor,
    }
    return {
        "swarm": {"managers": odd(min(3, machines.total))},
        BACKEND: application,
        APPLICATIONS: application,
        "proxy": {"replicas": min(2, machines.total), "memory": 128 * machines.workers},
    }


def plan(stack: str, sections: Mapping[str, Any]) -> Settings:
    """Return the settings of a stack from its valid sections."""
    network = ipaddress.IPv4Network(sections["network"])
    own = ApplicationSettings(**sections[BACKEND].model_dump())
    return Settings(
        stack=stack,
        network=network,
        machines=sections["machines"],
        swarm=sections["swarm"],
        images=sections["images"],
        content=sections["content"],
        applications={BACKEND: own, **sections[APPLICATIONS]},
        proxy=sections["proxy"],
        nodes=tuple(_nodes(network, sections["machines"], sections["swarm"].managers, sections["proxy"].replicas)),
    )


def _nodes(network: ipaddress.IPv4Network, machines: MachinesSettings, managers: int, proxies: int) -> Iterator[Node]:
    first_proxy = min(1, machines.total - proxies)
    for index in range(machines.total):
        role: Literal["manager", "worker"] = "manager" if index < managers else "worker"
        proxy = first_proxy <= index < first_proxy + proxies
        if machines.hosts:
            host = machines.hosts[index]
            yield Node(name=host.name, address=host.address, role=role, proxy=proxy, host=host)
            continue
        name = node_name(machines, index)
        size = machines.overrides.get(name, MachineSize(memory=None, cpus=None))
        yield Node(
            name=name,
            address=str(network[FIRST_NODE_OFFSET + index + 1]),
            role=role,
            proxy=proxy,
            memory=size.memory or machines.memory,
            cpus=size.cpus or machines.cpus,
        )

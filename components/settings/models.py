"""The sections of a stack's settings, as in the stack file; this module defines those about machines."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from components.settings.services import ApplicationSettings, BackendSettings, ContentSettings, ProxySettings
from components.settings.types import (
    Address,
    Box,
    Cidr,
    HostLabel,
    ImageReference,
    Jump,
    Registry,
    Section,
    User,
)

MOST_WORKERS = 8
WORKERS_OF_A_HOST = 4
"""Limit for existing hosts; one with fewer CPUs starts fewer."""


class MachineSize(Section):
    """The size of one machine, where it differs from the others."""

    memory: int | None = Field(
        None,
        ge=384,
        le=262144,
        description="Memory in MB.",
        examples=[768],
        json_schema_extra={"computed_default": "machines.memory"},
    )
    cpus: int | None = Field(
        None,
        ge=1,
        le=64,
        description="CPUs.",
        examples=[2],
        json_schema_extra={"computed_default": "machines.cpus"},
    )


class HostSettings(Section):
    """An existing host. Its login key is the user's, from the ssh agent or `~/.ssh`."""

    name: HostLabel = Field(description="The host's own name, as `uname -n` prints it.", examples=["web-1"])
    address: Address = Field(
        description="Address at which the other hosts, visitors and ssh reach it.",
        examples=["192.0.2.11"],
    )
    user: User = Field(
        "root", description="User to log in as: root, or one with passwordless sudo.", examples=["admin"]
    )
    port: int = Field(22, ge=1, le=65535, description="Port of its SSH server.", examples=[22])
    jump: Jump | None = Field(None, description="Jump hosts on the way to it.", examples=["admin@bastion.example:2222"])


class MachinesSettings(Section):
    """The machines."""

    provider: Literal["docker", "libvirt", "virtualbox", "ssh"] = Field(
        "docker",
        description="What the machines are: containers (docker) or virtual machines (libvirt, virtualbox) created "
        "by Vagrant, or existing hosts (ssh).",
        examples=["docker"],
    )
    box: Box = Field(
        "debian/bookworm64",
        description="What virtual machines are created from: a public Vagrant box of Debian 12, or `own`, a box built "
        "here from Debian packages. With `libvirt`, the own box is also used if the public one is not available.",
        examples=["debian/bookworm64"],
    )
    count: int = Field(3, ge=1, le=200, description="Number of machines.", examples=[3])
    memory: int = Field(512, ge=384, le=262144, description="Memory of each machine in MB.", examples=[512])
    cpus: int = Field(1, ge=1, le=64, description="CPUs of each machine.", examples=[1])
    prefix: HostLabel = Field(
        "core", description="First part of each machine's name: core-01, core-02 and so on.", examples=["core"]
    )
    overrides: dict[str, MachineSize] = Field(
        default_factory=dict,
        description="Sizes of individual machines, by name.",
        examples=[{"core-02": {"memory": 768}}],
    )
    hosts: list[HostSettings] = Field(
        default_factory=list,
        description="The existing hosts, with provider ssh. They determine how many machines there are, and their "
        "names and addresses.",
        examples=[[{"name": "web-1", "address": "192.0.2.11"}]],
    )

    @property
    def total(self) -> int:
        """The number of machines."""
        return len(self.hosts) or self.count

    @property
    def workers(self) -> int:
        """The number of nginx processes the machines can run; the CPU count of a host is unknown here."""
        if self.hosts:
            return WORKERS_OF_A_HOST
        return min(MOST_WORKERS, max([self.cpus, *(size.cpus or 0 for size in self.overrides.values())]))

    @property
    def timeout_factor(self) -> int:
        """Multiplier of all timeouts, relative to a container: the machine may be emulated."""
        return 5 if self.provider in ("libvirt", "virtualbox") else 1


class SwarmSettings(Section):
    """The Docker Swarm."""

    managers: int = Field(
        3,
        ge=1,
        le=7,
        description="Number of managers; must be odd. The first machines are the managers.",
        json_schema_extra={"computed_default": "3, or 1 below three machines"},
        examples=[3],
    )


class ImagesSettings(Section):
    """Sources of container images."""

    nginx: ImageReference | None = Field(
        None,
        description="nginx image for applications and proxies. Looked up in `images/`, the local Docker, the mirror "
        "and its registry, in that order.",
        json_schema_extra={"computed_default": "a small one, built here from Debian packages"},
        examples=["nginx:1.27-alpine"],
    )
    mirror: Registry | None = Field(
        None,
        description="Mirror of Docker Hub, tried before Docker Hub itself.",
        examples=["mirror.example:5000"],
    )


APPLICATIONS = "applications"
Applications = Annotated[
    dict[HostLabel, ApplicationSettings],
    Field(description="Further applications by name, each a service that serves the same content."),
]
SECTIONS: Mapping[str, TypeAdapter[Any]] = {
    "network": TypeAdapter(Cidr),
    "machines": TypeAdapter(MachinesSettings),
    "swarm": TypeAdapter(SwarmSettings),
    "images": TypeAdapter(ImagesSettings),
    "content": TypeAdapter(ContentSettings),
    "backend": TypeAdapter(BackendSettings),
    APPLICATIONS: TypeAdapter(Applications),
    "proxy": TypeAdapter(ProxySettings),
}
DEFAULTS: Mapping[str, Any] = {"network": "192.168.56.0/24"}
"""Defaults of sections that are not objects."""

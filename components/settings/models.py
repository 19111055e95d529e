"""The sections of a stack's settings, as the stack file has them. Their fields are the manual."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from components.settings.types import (
    Address,
    Box,
    CacheControl,
    Charset,
    Cidr,
    HostLabel,
    HostName,
    ImageReference,
    Jump,
    Network,
    NginxSize,
    Registry,
    User,
)

MOST_WORKERS = 8
WORKERS_OF_A_HOST = 4
"""The bound on existing hosts; one with fewer CPUs starts fewer."""


class Section(BaseModel):
    """What all sections share: unknown keys are refused, values are not converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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
    """A host that exists. The key that opens it is the user's own, from ssh's agent or `~/.ssh`."""

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
        """How many machines there are."""
        return len(self.hosts) or self.count

    @property
    def workers(self) -> int:
        """How many processes of nginx the machines bear; how many CPUs a host has is not known here."""
        if self.hosts:
            return WORKERS_OF_A_HOST
        return min(MOST_WORKERS, max([self.cpus, *(size.cpus or 0 for size in self.overrides.values())]))

    @property
    def timeout_factor(self) -> int:
        """How many times as long as a container a machine may take for anything: it may be emulated."""
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
    """Where container images come from."""

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


class ContentSettings(Section):
    """The files that are served."""

    folder: str = Field(
        "site", min_length=1, description="Folder of the content, relative to the project.", examples=["site"]
    )
    keep: int = Field(3, ge=1, le=50, description="Number of earlier releases to keep on each node.", examples=[3])
    cache_control: CacheControl = Field(
        "no-cache",
        description="How long browsers and caches may use a file without asking (`Cache-Control`). `no-cache`: they "
        "ask each time, and get a short 304 if it is unchanged.",
        examples=["public, max-age=300"],
    )
    cache_control_hashed: CacheControl = Field(
        "public, max-age=31536000, immutable",
        description="The same for files whose name contains a hash of their content, such as `app.0a1b2c3d.js`.",
        examples=["no-cache"],
    )
    charset: Charset = Field(
        "utf-8",
        description="Character encoding that is declared for text files; `off` leaves it to the files themselves.",
        examples=["iso-8859-1"],
    )


class BackendSettings(Section):
    """The application that comes with the product: it serves the content to all visitors."""

    replicas: int = Field(
        2,
        ge=1,
        le=200,
        description="Number of tasks; at most one per node.",
        json_schema_extra={"computed_default": "2, or 1 on one machine"},
        examples=[2],
    )
    port: int = Field(8080, ge=1, le=65535, description="Port of each task on its node.", examples=[8080])
    memory: int = Field(
        64,
        ge=16,
        le=65536,
        description="Memory limit of each task in MB. It also limits connections, compressions and workers.",
        examples=[64],
        json_schema_extra={"computed_default": "64 a worker: a CPU, at most 8, or 4 on existing hosts"},
    )


class ApplicationSettings(BackendSettings):
    """A further application that serves the content, on a port of its own."""

    port: int = Field(ge=1, le=65535, description="Port of each task on its node.", examples=[8081])
    hosts: list[HostName] = Field(
        default_factory=list,
        description="Host names that the proxies route to it. Without any, it is reachable on its own port only.",
        examples=[["docs.example"]],
    )


class ProxySettings(Section):
    """The service that visitors talk to."""

    replicas: int = Field(
        2,
        ge=1,
        le=200,
        description="Number of proxies; one per node.",
        examples=[2],
        json_schema_extra={"computed_default": "2, or 1 on one machine"},
    )
    port: int = Field(80, ge=1, le=65535, description="Port of each proxy on its node.", examples=[80])
    memory: int = Field(
        128,
        ge=16,
        le=65536,
        description="Memory limit of each proxy in MB. It also limits connections, requests at once and workers.",
        examples=[128],
        json_schema_extra={"computed_default": "128 a worker: a CPU, at most 8, or 4 on existing hosts"},
    )
    max_body_size: NginxSize = Field(
        "0", description="Largest request body (nginx `client_max_body_size`); 0 means no limit.", examples=["0"]
    )
    connect_timeout_ms: int = Field(
        500, ge=50, le=60000, description="Longest wait for a connection to an application, in ms.", examples=[500]
    )
    read_timeout_s: int = Field(
        60, ge=1, le=3600, description="Longest pause in an application's response, in s.", examples=[60]
    )
    fail_timeout_s: int = Field(
        2, ge=1, le=600, description="How long a failed endpoint is skipped, in s.", examples=[2]
    )
    trusted_networks: list[Network] = Field(
        default_factory=list,
        description="Networks of load balancers in front. From these, `X-Forwarded-*` is believed, and the visitor's "
        "address is taken from `X-Forwarded-For`; from anywhere else it is replaced.",
        examples=[["203.0.113.0/24"]],
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
"""Of sections that are no object."""

"""The settings of a stack: the only reader of `pulumi.Config`, typed, refused whole when any of them is wrong."""

import hashlib
import ipaddress
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pulumi
import pulumi.runtime
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema

from components import PACKAGE

PROJECT = Path(__file__).resolve().parent.parent
FIRST_NODE_OFFSET = 10
"""Node N has the network's address plus this plus N: core-01 in 192.168.56.0/24 is 192.168.56.11."""
PRIVATE_NETWORKS = tuple(ipaddress.IPv4Network(cidr) for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
"""RFC 1918. What else counts as private is no place for machines: loopback, link-local, the nodes' own bridges."""
VIRTUALBOX_NETWORKS = ipaddress.IPv4Network("192.168.56.0/21")
RESOURCES_AT_ONCE = 4
"""Resources a machine that the engine must be able to work on at once, or a rebuild of all of them sticks."""
REDIRECTING_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION")
"""Environment variables that win over the docker provider's own arguments."""


class SettingsError(pulumi.RunError):
    """What is wrong with the settings, one line a fault: key, value, rule and a valid example."""


def _matching(pattern: str, rule: str) -> Callable[[str], str]:
    """A check that refuses a text that is not the pattern as a whole, by its rule."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(rule)
        return value

    return check


_host_label = _matching(
    r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?",
    "must be a lower case RFC 1123 host name of at most 30 letters, digits and inner hyphens",
)
_user = _matching(r"[a-z_][a-z0-9_-]{0,31}", "must be the name of a Unix account: small letters, digits, '-' and '_'")
_JUMP_HOST = r"([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?"
_jump = _matching(
    rf"{_JUMP_HOST}(,{_JUMP_HOST})*",
    "must be jump hosts as ssh's ProxyJump takes them: [user@]host[:port], separated by commas",
)
_image = _matching(
    r"[a-z0-9][a-z0-9._/-]*(:[0-9]+/[a-z0-9._/-]+)?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    "must be an image reference",
)
_registry = _matching(
    r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9._/-]+)?",
    "must be a registry as host, host:port or host:port/path, without a scheme",
)
_box = _matching(
    r"own|[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", "must be a public Vagrant box as owner/name, or own"
)
_size = _matching(r"[0-9]{1,6}[kmg]?", "must be an nginx size: digits and k, m or g; 0 is no limit")


def _network(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"must be an IPv4 network in CIDR notation ({error})") from None
    if not any(network.subnet_of(private) for private in PRIVATE_NETWORKS) or not 16 <= network.prefixlen <= 28:
        raise ValueError("must be a private IPv4 network of /16 to /28")
    return value


def _address(value: str) -> str:
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise ValueError("must be an IPv4 address") from None
    if address.is_loopback or address.is_multicast or address.is_link_local or address.is_reserved or not int(address):
        raise ValueError("must be an IPv4 address that the other hosts reach it at")
    return value


def _text(rule: str, **more: object) -> WithJsonSchema:
    """What the settings' manual says of a text that has a rule of its own."""
    return WithJsonSchema({"type": "string", "format": rule, **more})


HostLabel = Annotated[str, AfterValidator(_host_label), _text("RFC 1123 host name, at most 30 characters")]
Cidr = Annotated[
    str,
    AfterValidator(_network),
    _text(
        "private IPv4 network (RFC 1918), /16 to /28",
        description="Network of the machines. Machine N gets the network address plus 10 plus N.",
        examples=["192.168.57.0/24"],
    ),
]
Address = Annotated[
    str, AfterValidator(_address), _text("IPv4 address (not loopback, link-local, multicast or reserved)")
]
User = Annotated[str, AfterValidator(_user), _text("Unix account")]
Jump = Annotated[str, AfterValidator(_jump), _text("[user@]host[:port], separated by commas")]
ImageReference = Annotated[str, AfterValidator(_image), _text("image reference")]
Registry = Annotated[str, AfterValidator(_registry), _text("host, host:port or host:port/path, no scheme")]
Box = Annotated[str, AfterValidator(_box), _text("owner/name of a public Vagrant box, or own")]
NginxSize = Annotated[str, AfterValidator(_size), _text("digits, optionally followed by k, m or g")]


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
    """A host that exists. The key that opens it is the user's own: of ssh's agent, or of `~/.ssh`."""

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


class SwarmSettings(Section):
    """The Docker Swarm."""

    managers: int | None = Field(
        None,
        ge=1,
        le=7,
        description="Number of managers; must be odd. The first machines are the managers.",
        examples=[3],
        json_schema_extra={"computed_default": "3, or 1 below three machines"},
    )


class ImagesSettings(Section):
    """Where container images come from."""

    nginx: ImageReference | None = Field(
        None,
        description="nginx image for backends and proxies. Looked up in `images/`, the local Docker, the mirror and "
        "its registry, in that order.",
        examples=["nginx:1.27-alpine"],
        json_schema_extra={"computed_default": "a small one, built here from Debian packages"},
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


class BackendSettings(Section):
    """The service that serves the content."""

    replicas: int | None = Field(
        None,
        ge=1,
        le=200,
        description="Number of backends; at most one per node.",
        examples=[2],
        json_schema_extra={"computed_default": "2, or 1 on one machine"},
    )
    port: int = Field(8080, ge=1, le=65535, description="Port of each backend on its node.", examples=[8080])
    memory: int = Field(64, ge=16, le=65536, description="Memory limit of each backend in MB.", examples=[64])


class ProxySettings(Section):
    """The service that visitors talk to."""

    replicas: int | None = Field(
        None,
        ge=1,
        le=200,
        description="Number of proxies; one per node.",
        examples=[2],
        json_schema_extra={"computed_default": "2, or 1 on one machine"},
    )
    port: int = Field(80, ge=1, le=65535, description="Port of each proxy on its node.", examples=[80])
    memory: int = Field(64, ge=16, le=65536, description="Memory limit of each proxy in MB.", examples=[64])
    max_body_size: NginxSize = Field(
        "0", description="Largest request body (nginx `client_max_body_size`); 0 means no limit.", examples=["0"]
    )
    connect_timeout_ms: int = Field(
        500, ge=50, le=60000, description="Longest wait for a connection to a backend, in ms.", examples=[500]
    )
    read_timeout_s: int = Field(
        60, ge=1, le=3600, description="Longest pause in a backend's response, in s.", examples=[60]
    )
    fail_timeout_s: int = Field(
        2, ge=1, le=600, description="How long a failed backend is skipped, in s.", examples=[2]
    )


SECTIONS: Mapping[str, TypeAdapter[Any]] = {
    "network": TypeAdapter(Cidr),
    "machines": TypeAdapter(MachinesSettings),
    "swarm": TypeAdapter(SwarmSettings),
    "images": TypeAdapter(ImagesSettings),
    "content": TypeAdapter(ContentSettings),
    "backend": TypeAdapter(BackendSettings),
    "proxy": TypeAdapter(ProxySettings),
}
DEFAULTS: Mapping[str, Any] = {"network": "192.168.56.0/24"}


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node as the settings plan it: a machine to make, with its size (`memory` in MB), or a `host` that exists."""

    name: str
    address: str
    role: Literal["manager", "worker"]
    proxy: bool
    memory: int = 0
    cpus: int = 0
    host: HostSettings | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a stack, checked, every default filled in. `work` is the stack's folder, below the project's."""

    stack: str
    work: str
    network: ipaddress.IPv4Network
    release: str
    machines: MachinesSettings
    images: ImagesSettings
    content: ContentSettings
    backend: BackendSettings
    proxy: ProxySettings
    managers: int
    backends: int
    proxies: int
    nodes: tuple[Node, ...]

    @property
    def patience(self) -> int:
        """How many times as long as a container a machine may take for anything: it may be emulated."""
        return 5 if self.machines.provider in ("libvirt", "virtualbox") else 1


def load() -> Settings:
    """Read and check the settings of the stack that runs.

    Raises:
        SettingsError: at least one setting is wrong; the message names all of them.
    """
    prefix = f"{PACKAGE}:"
    values = {key.removeprefix(prefix): text for key, text in all_config().items() if key.startswith(prefix)}
    parallel = None if pulumi.runtime.is_dry_run() else pulumi.runtime.settings.SETTINGS.parallel
    return parse(pulumi.get_stack(), values, os.environ, parallel)


def all_config() -> Mapping[str, str]:
    """Every configuration value of the stack as text, whoever it belongs to.

    `pulumi.Config` answers for keys that are known; only the whole map shows a key that nobody knows.
    """
    return {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}


def parse(
    stack: str, values: Mapping[str, str], environment: Mapping[str, str], parallel: int | None = None
) -> Settings:
    """Check values as they stand in the stack file (objects as JSON text) and fill in the defaults.

    Args:
        stack: the stack's name.
        values: text by key, keys without the project's name.
        environment: the variables of this process.
        parallel: how many resources the engine works on at once; None where it only previews.

    Raises:
        SettingsError: at least one value is wrong; the message names all of them.
    """
    faults = list(_environment_faults(environment)) + list(_stack_faults(stack))
    sections: dict[str, Any] = {}
    for key in sorted(values.keys() - SECTIONS.keys()):
        faults.append(_fault(key, _value(values[key]), f"is not a setting; settings are {', '.join(SECTIONS)}", None))
    for key, adapter in SECTIONS.items():
        try:
            sections[key] = adapter.validate_python(_value(values[key]) if key in values else DEFAULTS.get(key, {}))
        except ValidationError as error:
            faults += [_section_fault(key, adapter, dict(e)) for e in error.errors()]
    for rule in RULES:
        if all(name in sections for name in rule.__annotations__ if name != "return"):
            faults += rule(**{name: sections[name] for name in rule.__annotations__ if name != "return"})
    if parallel and "machines" in sections:
        faults += _parallel_faults(parallel, sections["machines"].total)
    if faults:
        raise SettingsError("the settings are refused:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return _settings(stack, sections)


def _value(text: str) -> Any:
    """A value as YAML had it: objects, numbers and booleans arrive as JSON text, anything else is a word."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _fault(key: str, value: object, rule: str, example: object) -> str:
    hint = "" if example is None else f"; for example {json.dumps(example)}"
    # A fault stays on its line, whatever characters the key has.
    return f"{PACKAGE}:{json.dumps(key)[1:-1]}: {json.dumps(value)} {rule}{hint}"


def _section_fault(section: str, adapter: TypeAdapter[Any], error: dict[str, Any]) -> str:
    path = ".".join([section, *(str(part) for part in error["loc"])])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return _fault(path, error["input"], "is not a setting of this section", None)
    if error["loc"] or section in DEFAULTS:
        example = _example(adapter, error["loc"]) if error["loc"] else DEFAULTS[section]
        return _fault(path, error["input"], message[0].lower() + message[1:], example)
    return _fault(path, error["input"], "must be an object of settings", _section_example(adapter))


def _example(adapter: TypeAdapter[Any], location: tuple[str | int, ...]) -> object:
    schema = adapter.json_schema()
    field = schema.get("properties", {}).get(str(location[0]), {})
    examples = field.get("examples") or [None]
    return examples[0]


def _section_example(adapter: TypeAdapter[Any]) -> object:
    name, field = next(iter(adapter.json_schema()["properties"].items()))
    return {name: field["examples"][0]}


def _environment_faults(environment: Mapping[str, str]) -> Iterator[str]:
    for name in REDIRECTING_VARIABLES:
        if environment.get(name):
            yield (
                f"environment variable {name}: {json.dumps(environment[name])} would redirect the docker provider "
                f"away from this stack's swarm; run `unset {name}` first"
            )


def _parallel_faults(parallel: int, machines: int) -> Iterator[str]:
    needed = machines * RESOURCES_AT_ONCE
    if parallel < needed:
        yield (
            f"environment variable PULUMI_PARALLEL: {parallel} is too small for {machines} machines: while each waits "
            f"for its turn to leave the swarm, nothing else would move; run `export PULUMI_PARALLEL={needed}` first"
        )


def _stack_faults(stack: str) -> Iterator[str]:
    try:
        _host_label(stack)
    except ValueError as error:
        yield f'stack name: {json.dumps(stack)} {error}; for example "dev"'


def check_managers(machines: MachinesSettings, swarm: SwarmSettings) -> Iterator[str]:
    """The number of managers is odd, and at most the number of machines."""
    count = swarm.managers
    if count is None:
        return
    fitting = _odd(min(count, machines.total))
    if count % 2 == 0:
        yield _fault("swarm.managers", count, "must be odd: a quorum gains nothing from an even number", fitting)
    if count > machines.total:
        yield _fault("swarm.managers", count, f"is more than the {machines.total} machines", fitting)


def check_addresses(network: str, machines: MachinesSettings) -> Iterator[str]:
    """The network has room for all machines after its first 10 addresses."""
    if machines.hosts:
        return
    room = ipaddress.IPv4Network(network).num_addresses - 2 - FIRST_NODE_OFFSET
    if machines.count > room:
        rule = f"machines do not fit into {network}, which has addresses for {room} after the first {FIRST_NODE_OFFSET}"
        yield _fault("machines.count", machines.count, rule, max(room, 1))


def check_virtualbox(network: str, machines: MachinesSettings) -> Iterator[str]:
    """VirtualBox allows host-only networks only in 192.168.56.0/21, and needs a public box."""
    if machines.provider != "virtualbox":
        return
    if not ipaddress.IPv4Network(network).subnet_of(VIRTUALBOX_NETWORKS):
        rule = f"is not in {VIRTUALBOX_NETWORKS}, where VirtualBox allows host-only networks"
        yield _fault("network", network, rule, DEFAULTS["network"])
    if machines.box == "own":
        rule = "is for libvirt: VirtualBox can't boot a disk without a boot loader"
        yield _fault("machines.box", machines.box, rule, "debian/bookworm64")


def check_overrides(machines: MachinesSettings) -> Iterator[str]:
    """`machines.overrides` names only machines of this stack."""
    if machines.hosts:
        return
    names = [_node_name(machines, index) for index in range(machines.count)]
    for name in sorted(machines.overrides.keys() - set(names)):
        yield _fault(
            f"machines.overrides.{name}", name, f"is no machine of this stack ({names[0]} to {names[-1]})", names[0]
        )


def check_replicas(machines: MachinesSettings, backend: BackendSettings, proxy: ProxySettings) -> Iterator[str]:
    """A service runs at most one task per node, so it needs at least as many machines as replicas."""
    for section, replicas in (("backend", backend.replicas), ("proxy", proxy.replicas)):
        if replicas is not None and replicas > machines.total:
            rule = f"needs as many machines, one a node, and there are {machines.total}"
            yield _fault(f"{section}.replicas", replicas, rule, machines.total)


def check_hosts(network: str, machines: MachinesSettings) -> Iterator[str]:
    """Hosts are listed with provider ssh only, and settings that the hosts determine are left out."""
    if machines.provider != "ssh":
        if machines.hosts:
            rule = f"are for provider ssh, and this is {machines.provider}: a machine of it is made, not given"
            yield _fault("machines.hosts", [host.name for host in machines.hosts], rule, None)
        return
    if not machines.hosts:
        example = [{"name": "web-1", "address": "192.0.2.11"}]
        yield _fault("machines.hosts", [], "are needed with provider ssh, one at least", example)
    given = {f"machines.{key}": getattr(machines, key) for key in DECIDED_BY_HOSTS if key in machines.model_fields_set}
    if network != DEFAULTS["network"]:
        given["network"] = network
    for key, value in given.items():
        plain = value if isinstance(value, str | int) else sorted(value)
        yield _fault(
            key, plain, "is for machines that are made here, and hosts that exist decide it: leave it out", None
        )
    for key in ("name", "address"):
        values = [getattr(host, key) for host in machines.hosts]
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield _fault(f"machines.hosts.{key}", value, f"is the {key} of more than one host", None)


def check_ports(machines: MachinesSettings, backend: BackendSettings, proxy: ProxySettings) -> Iterator[str]:
    """Proxy and backend use different ports, and none that the node itself uses."""
    taken = NODE_PORTS | {host.port: "ssh" for host in machines.hosts}
    free = 80 if backend.port != 80 else 8080
    if backend.port == proxy.port:
        yield _fault("proxy.port", proxy.port, "is the backend's port too, and both may stand on one node", free)
    for section, port in (("backend", backend.port), ("proxy", proxy.port)):
        if port in taken:
            yield _fault(f"{section}.port", port, f"is taken on every node ({taken[port]})", port + 1000)


def check_content(content: ContentSettings) -> Iterator[str]:
    """The content folder exists and contains only readable, regular files with plain names."""
    folder = PROJECT / content.folder
    if Path(content.folder).is_absolute():
        yield _fault("content.folder", content.folder, "must be relative to the project", "site")
        return
    if not _is_folder(folder):
        yield _fault("content.folder", content.folder, "is no folder of the project", "site")
        return
    paths = sorted(folder.rglob("*"))
    if not any(path.is_file() for path in paths):
        yield _fault("content.folder", content.folder, "holds no file", "site")
    for path in paths:
        name = str(path.relative_to(folder))
        if path.is_symlink() or not (path.is_dir() or stat.S_ISREG(path.stat().st_mode)):
            yield _fault("content.folder", f"{content.folder}/{name}", "is neither a plain file nor a folder", None)
        elif re.search(r"[\x00-\x1f\x7f\\]", name) or name != name.encode(errors="replace").decode():
            rule = "has a control character, a backslash or broken UTF-8 in its name"
            yield _fault("content.folder", f"{content.folder}/{name}", rule, None)
        elif not os.access(path, os.R_OK):
            yield _fault("content.folder", f"{content.folder}/{name}", "can not be read by this user", None)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long for the file system
        return False


DECIDED_BY_HOSTS = ("box", "count", "memory", "cpus", "prefix", "overrides")
NODE_PORTS = {22: "ssh", 2377: "swarm control", 7946: "swarm gossip"}
RULES: tuple[Callable[..., Iterator[str]], ...] = (
    check_managers,
    check_addresses,
    check_virtualbox,
    check_overrides,
    check_hosts,
    check_replicas,
    check_ports,
    check_content,
)


def _odd(count: int) -> int:
    return count if count % 2 else count - 1


def _node_name(machines: MachinesSettings, index: int) -> str:
    return f"{machines.prefix}-{index + 1:02d}"


def _settings(stack: str, sections: dict[str, Any]) -> Settings:
    machines: MachinesSettings = sections["machines"]
    network = ipaddress.IPv4Network(sections["network"])
    managers = sections["swarm"].managers or _odd(min(3, machines.total))
    proxies = sections["proxy"].replicas or min(2, machines.total)
    return Settings(
        stack=stack,
        work=f".work/{stack}",
        network=network,
        release=folder_hash(PROJECT / sections["content"].folder),
        machines=machines,
        images=sections["images"],
        content=sections["content"],
        backend=sections["backend"],
        proxy=sections["proxy"],
        managers=managers,
        backends=sections["backend"].replicas or min(2, machines.total),
        proxies=proxies,
        nodes=tuple(_plan(network, machines, managers, proxies)),
    )


def _plan(network: ipaddress.IPv4Network, machines: MachinesSettings, managers: int, proxies: int) -> Iterator[Node]:
    first_proxy = min(1, machines.total - proxies)
    for index in range(machines.total):
        role: Literal["manager", "worker"] = "manager" if index < managers else "worker"
        proxy = first_proxy <= index < first_proxy + proxies
        if machines.hosts:
            host = machines.hosts[index]
            yield Node(name=host.name, address=host.address, role=role, proxy=proxy, host=host)
            continue
        name = _node_name(machines, index)
        size = machines.overrides.get(name, MachineSize(memory=None, cpus=None))
        yield Node(
            name=name,
            address=str(network[FIRST_NODE_OFFSET + index + 1]),
            role=role,
            proxy=proxy,
            memory=size.memory or machines.memory,
            cpus=size.cpus or machines.cpus,
        )


def folder_hash(folder: Path) -> str:
    """SHA-256 (hex) of a folder's file names and bytes, as `templates/content/release.sh` computes it on a node.

    It is the hash of the lines `<sha256 of the file>  ./<path>` in byte order of paths; modes and times don't count.
    """
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: os.fsencode(p.relative_to(folder))
    )
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  ./{p.relative_to(folder)}\n" for p in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()

"""Rules across settings or about this machine; the first line of each docstring goes into the manual."""

import ipaddress
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from components import contract
from components.backend import backend_folder
from components.release import is_private_key, listing
from components.settings.faults import fault
from components.settings.models import DEFAULTS, MachinesSettings, SwarmSettings
from components.settings.plan import BACKEND, FIRST_NODE_OFFSET, node_name, odd
from components.settings.services import ApplicationSettings, BackendSettings, ContentSettings, ProxySettings

VIRTUALBOX_NETWORKS = ipaddress.IPv4Network("192.168.56.0/21")
DECIDED_BY_HOSTS = ("box", "count", "memory", "cpus", "prefix", "overrides")
NODE_PORTS = {22: "ssh", 2377: "swarm control", 7946: "swarm gossip"}
RESERVED_NAMES = (BACKEND, "proxy")
"""Names of built-in services."""

Applications = Mapping[str, ApplicationSettings]


def check_managers(machines: MachinesSettings, swarm: SwarmSettings) -> Iterator[str]:
    """The number of managers is odd, and at most the number of machines."""
    count = swarm.managers
    fitting = odd(min(count, machines.total))
    if count % 2 == 0:
        yield fault("swarm.managers", count, "must be odd: a quorum gains nothing from an even number", fitting)
    if count > machines.total:
        yield fault("swarm.managers", count, f"is more than the {machines.total} machines", fitting)


def check_addresses(network: str, machines: MachinesSettings) -> Iterator[str]:
    """The network has room for all machines after its first 10 addresses."""
    if machines.hosts:
        return
    room = ipaddress.IPv4Network(network).num_addresses - 2 - FIRST_NODE_OFFSET
    if machines.count > room:
        rule = f"machines do not fit into {network}, which has addresses for {room} after the first {FIRST_NODE_OFFSET}"
        yield fault("machines.count", machines.count, rule, max(room, 1))


def check_virtualbox(network: str, machines: MachinesSettings) -> Iterator[str]:
    """VirtualBox allows host-only networks only in 192.168.56.0/21, and needs a public box."""
    if machines.provider != "virtualbox":
        return
    if not ipaddress.IPv4Network(network).subnet_of(VIRTUALBOX_NETWORKS):
        rule = f"is not in {VIRTUALBOX_NETWORKS}, where VirtualBox allows host-only networks"
        yield fault("network", network, rule, DEFAULTS["network"])
    if machines.box == "own":
        rule = "is for libvirt: VirtualBox can't boot a disk without a boot loader"
        yield fault("machines.box", machines.box, rule, "debian/bookworm64")


def check_overrides(machines: MachinesSettings) -> Iterator[str]:
    """`machines.overrides` names only machines of this stack."""
    if machines.hosts:
        return
    names = [node_name(machines, index) for index in range(machines.count)]
    for name in sorted(machines.overrides.keys() - set(names)):
        rule = f"is no machine of this stack ({names[0]} to {names[-1]})"
        yield fault(f"machines.overrides.{name}", name, rule, names[0])


def check_hosts(network: str, machines: MachinesSettings) -> Iterator[str]:
    """Hosts require provider ssh, and settings determined by the hosts must be omitted."""
    if machines.provider != "ssh":
        if machines.hosts:
            rule = f"only apply to provider ssh; {machines.provider} creates its own machines"
            yield fault("machines.hosts", [host.name for host in machines.hosts], rule, None)
        return
    if not machines.hosts:
        example = [{"name": "web-1", "address": "192.0.2.11"}]
        yield fault("machines.hosts", [], "are required with provider ssh, at least one", example)
    given = {f"machines.{key}": getattr(machines, key) for key in DECIDED_BY_HOSTS if key in machines.model_fields_set}
    if network != DEFAULTS["network"]:
        given["network"] = network
    for key, value in given.items():
        plain = value if isinstance(value, str | int) else sorted(value)
        yield fault(key, plain, "has no effect with provider ssh; remove it", None)
    for key in ("name", "address"):
        values = [getattr(host, key) for host in machines.hosts]
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield fault(f"machines.hosts.{key}", value, f"is the {key} of more than one host", None)


def check_names(applications: Applications) -> Iterator[str]:
    """Applications have unique names and host names."""
    for name in sorted(applications.keys() & set(RESERVED_NAMES)):
        yield fault(f"applications.{name}", name, "is a service that comes with the product", "docs")
    hosts = [host for application in applications.values() for host in application.hosts]
    for host in sorted({host for host in hosts if hosts.count(host) > 1}):
        yield fault("applications", host, "is a host name of more than one application", None)


def check_replicas(
    machines: MachinesSettings, backend: BackendSettings, applications: Applications, proxy: ProxySettings
) -> Iterator[str]:
    """A service runs at most one task per node, so it needs at least as many machines as replicas."""
    for section, settings in _services(backend, applications, proxy).items():
        if settings.replicas > machines.total:
            rule = f"needs as many machines, one a task, and there are {machines.total}"
            yield fault(f"{section}.replicas", settings.replicas, rule, machines.total)


def check_ports(
    machines: MachinesSettings, backend: BackendSettings, applications: Applications, proxy: ProxySettings
) -> Iterator[str]:
    """Services use different ports, none of which the node itself uses."""
    owners = NODE_PORTS | {host.port: "ssh" for host in machines.hosts}
    services = _services(backend, applications, proxy)
    taken = {settings.port for settings in services.values()} | owners.keys()
    for section, settings in services.items():
        owner = owners.setdefault(settings.port, section)
        if owner != section:
            yield fault(f"{section}.port", settings.port, f"is taken on every node ({owner})", _free_port(taken))


def _services(
    backend: BackendSettings, applications: Applications, proxy: ProxySettings
) -> Mapping[str, BackendSettings | ProxySettings]:
    """Return every service by the key of its settings."""
    others = {f"applications.{name}": settings for name, settings in applications.items()}
    return {BACKEND: backend, **others, "proxy": proxy}


def _free_port(taken: set[int]) -> int:
    return next(port for port in itertools.chain([80], range(8080, 65536)) if port not in taken)


def check_content(content: ContentSettings) -> Iterator[str]:
    """The content folder, below the project or named from `/`, has plain, readable files, no key, state or program."""
    folder = contract.PROJECT / content.folder
    if rule := _misplaced(folder, is_named_in_full=Path(content.folder).is_absolute()):
        yield fault("content.folder", content.folder, rule, "site")
        return
    found = listing(folder)
    if not found.files:
        yield fault("content.folder", content.folder, "holds no file to publish", "site")
    for path in sorted([*found.files, *found.folders, *found.others], key=os.fsencode):
        if rule := _broken_rule(folder / path, path):
            yield fault("content.folder", f"{content.folder}/{path}", rule, None)


def _broken_rule(path: Path, name: str) -> str:
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        return "is neither a plain file nor a folder"
    if re.search(r"[\x00-\x1f\x7f\\]", name) or name != name.encode(errors="replace").decode():
        return "has a control character, a backslash or broken UTF-8 in its name"
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        return "can not be read by this user"
    if path.is_file() and is_private_key(path):
        return "holds a private key, which every visitor could fetch; move it out of the folder"
    return ""


def _misplaced(folder: Path, *, is_named_in_full: bool) -> str:
    try:
        is_folder = folder.is_dir()
    except OSError:  # name too long for the file system
        is_folder = False
    if not is_folder:
        return "is no folder" if is_named_in_full else "is no folder of the project"
    project, place = contract.PROJECT.resolve(), folder.resolve()
    if not is_named_in_full and project not in (place, *place.parents):
        return f"is outside the project, at {place}; to serve that folder on purpose, name it from /"
    if place in (project, *project.parents):
        return "holds the project itself, which every visitor could fetch"
    for private in _private_folders():
        if place in (private, *private.parents) or private in place.parents:
            return f"overlaps {private}, the folder of states and keys, which every visitor could fetch"
    return ""


def _private_folders() -> Iterator[Path]:
    """Yield the folder of all stacks' states and keys, and that of a state of the user's own choice."""
    work = contract.PROJECT / ".work"
    if work.is_symlink():
        yield work.resolve().parent
    yield from (folder.parent.resolve() for folder in backend_folder())


RULES: Mapping[Callable[..., Iterator[str]], tuple[str, ...]] = {
    check_managers: ("machines", "swarm"),
    check_addresses: ("network", "machines"),
    check_virtualbox: ("network", "machines"),
    check_overrides: ("machines",),
    check_hosts: ("network", "machines"),
    check_names: ("applications",),
    check_replicas: ("machines", "backend", "applications", "proxy"),
    check_ports: ("machines", "backend", "applications", "proxy"),
    check_content: ("content",),
}
"""The rules and the sections they check. A rule is skipped if one of its sections is already refused."""

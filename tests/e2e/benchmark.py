"""The checks of the CIS Docker Benchmark that a node passes, by their number there; docs/security.md explains each."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.e2e.site import Site

PROXY_CAPABILITIES = {"CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"}
NAMESPACES = ("PidMode", "UTSMode", "UsernsMode")
MOUNTED = {"/srv/swarm-site/content", "/srv/swarm-site/proxy", "/tmp", "/etc/swarm-site/nginx.conf"}
FILES = {
    "/etc/docker": "755 root root",
    "/etc/docker/daemon.json": "644 root root",
    "/lib/systemd/system/docker.service": "644 root root",
    "/lib/systemd/system/docker.socket": "644 root root",
    "/var/run/docker.sock": "660 root docker",
    "/run/containerd/containerd.sock": "660 root root",
}


@dataclass(frozen=True)
class Container:
    """A task's container: `docker inspect`, the status of its first process, all processes by user, their limit."""

    service: str
    inspected: Mapping[str, Any]
    status: Mapping[str, str]
    processes: list[tuple[str, str]]
    pids: str

    @property
    def host(self) -> Mapping[str, Any]:
        """The container's `HostConfig`."""
        host: Mapping[str, Any] = self.inspected["HostConfig"]
        return host


@dataclass(frozen=True)
class Node:
    """A node as the checks see it."""

    site: Site
    name: str

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """The output of `docker info`."""
        info: Mapping[str, Any] = self.json("docker", "info", "-f", "{{json .}}")
        return info

    @cached_property
    def daemon(self) -> Mapping[str, Any]:
        """The settings of its Docker."""
        settings: Mapping[str, Any] = self.json("cat", "/etc/docker/daemon.json")
        return settings

    @cached_property
    def containers(self) -> list[Container]:
        """The containers of the services on it."""
        ids = self.run("docker", "ps", "-q", "--filter", "label=swarm-site.part").split()
        return [self._container(name) for name in ids]

    def run(self, *command: str) -> str:
        """Run a command on it."""
        return self.site.on_node(self.name, *command)

    def json(self, *command: str) -> Any:
        """Run a command on it that prints JSON."""
        return json.loads(self.run(*command))

    def _container(self, name: str) -> Container:
        inspected = self.json("docker", "inspect", name)[0]
        lines = self.run("docker", "exec", name, "cat", "/proc/1/status").splitlines()
        processes = self.run("docker", "top", name, "-eo", "user,pid,comm").splitlines()[1:]
        limit = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
        return Container(
            inspected["Config"]["Labels"]["swarm-site.part"],
            inspected,
            dict(line.split(":\t", 1) for line in lines if ":\t" in line),
            [(user, program) for user, _, program in map(str.split, processes)],
            self.run("docker", "exec", name, "sh", "-c", limit).strip(),
        )


Check = Callable[[Node], Iterator[object]]


def of_each(fault: Callable[[Container], object]) -> Check:
    """Return a check of each container, whose fault is anything but an empty value."""

    def check(node: Node) -> Iterator[object]:
        for container in node.containers:
            if found := fault(container):
                yield container.service, found

    return check


def of_files(*paths: str) -> Check:
    """Return a check of the modes and owners of files."""

    def check(node: Node) -> Iterator[object]:
        for path in paths:
            found = node.run("stat", "-c", "%a %U %G", path).strip()
            if found != FILES[path]:
                yield path, found

    return check


def of_setting(name: str, value: object) -> Check:
    """Return a check of a setting of the node's Docker."""
    return lambda node: iter([] if node.daemon.get(name) == value else [node.daemon])


def of_info(fault: Callable[[Mapping[str, Any]], object]) -> Check:
    """Return a check of `docker info`."""
    return lambda node: iter([found] if (found := fault(node.info)) else [])


def sockets(node: Node) -> Iterator[tuple[str, str]]:
    """Yield address and port of every TCP socket of its Docker, except its resolver's for containers."""
    for line in node.run("ss", "-lntpH").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if '"dockerd"' in line and address != "127.0.0.11":
            yield address, port


def capabilities(container: Container) -> object:
    """Return what a container may do beyond what it needs."""
    allowed = PROXY_CAPABILITIES if container.service == "proxy" else set()
    host = container.host
    if host["CapDrop"] != ["ALL"] or set(host["CapAdd"] or ()) != allowed:
        return host["CapDrop"], host["CapAdd"]
    return int(container.status["CapBnd"], 16).bit_count() - len(allowed)


def health(container: Container) -> str:
    """Return what its health check says."""
    return str(container.inspected["State"].get("Health", {}).get("Status", "unknown"))


def root(container: Container) -> object:
    """Return the processes of nginx that belong to root, except the one that opens a proxy's port."""
    owned = [user for user, program in container.processes if program == "nginx" and user == "root"]
    return owned[1:] if container.service == "proxy" else owned


CHECKS: Mapping[str, Check] = {
    "2.2": of_setting("icc", False),
    "2.3": of_info(lambda info: info["Debug"]),
    "2.4": lambda node: iter([] if node.daemon.get("iptables", True) else [node.daemon]),
    "2.5": of_info(lambda info: [i for i in info["RegistryConfig"]["InsecureRegistryCIDRs"] if i != "127.0.0.0/8"]),
    "2.6": of_info(lambda info: info["Driver"] != "overlay2" and info["Driver"]),
    "2.7": lambda node: (socket for socket in sockets(node) if socket[1] not in ("2377", "7946")),
    "2.14": of_setting("no-new-privileges", True),
    "2.17": of_info(lambda info: not any("seccomp" in option for option in info["SecurityOptions"])),
    "2.18": of_info(lambda info: info["ExperimentalBuild"]),
    "3.1": of_files("/lib/systemd/system/docker.service"),
    "3.3": of_files("/lib/systemd/system/docker.socket"),
    "3.5": of_files("/etc/docker"),
    "3.15": of_files("/var/run/docker.sock"),
    "3.17": of_files("/etc/docker/daemon.json"),
    "3.23": of_files("/run/containerd/containerd.sock"),
    "4.1": of_each(root),
    "4.6": of_each(lambda container: not container.inspected["Config"].get("Healthcheck")),
    "5.4": of_each(capabilities),
    "5.5": of_each(lambda container: container.host["Privileged"]),
    "5.6": of_each(lambda container: {m["Destination"] for m in container.inspected["Mounts"]} - MOUNTED),
    "5.7": of_each(lambda container: "sshd" in [program for _, program in container.processes]),
    "5.8": of_each(lambda c: [p for p in published(c) if int(p) < 1024]),
    "5.9": of_each(lambda c: set(published(c)) - {"8080"}),
    "5.10": of_each(lambda c: c.service != "proxy" and c.host["NetworkMode"] == "host"),
    "5.11": of_each(lambda container: not container.host["Memory"]),
    "5.13": of_each(lambda container: not container.host["ReadonlyRootfs"]),
    "5.16": of_each(lambda container: [mode for mode in NAMESPACES if container.host[mode] == "host"]),
    "5.17": of_each(lambda container: container.host["IpcMode"] != "private" and container.host["IpcMode"]),
    "5.18": of_each(lambda container: container.host["Devices"]),
    "5.20": of_each(lambda c: [m for m in c.inspected["Mounts"] if m["Propagation"] not in ("", "rprivate")]),
    "5.22": of_each(lambda container: container.status["Seccomp"] != "2"),
    "5.26": of_each(lambda container: container.status["NoNewPrivs"] != "1"),
    "5.27": of_each(lambda c: health(c) not in ("healthy", "starting") and health(c)),
    "5.29": of_each(lambda container: not container.pids.isdecimal() and container.pids),
    "5.32": of_each(lambda c: [m for m in c.inspected["Mounts"] if "docker.sock" in str(m)]),
    "7.3": lambda node: (socket for socket in sockets(node) if socket[0] != node.site.address(node.name)),
}

OF_ITS_DOCKER = {number for number in CHECKS if number.startswith(("2.", "3."))} | {"5.29"}
"""Checks of what belongs to the owner of a host that had Docker before."""


def faults(node: Node, *, left_out: Collection[str] = ()) -> dict[str, list[object]]:
    """Return the faults of a node by the checks' numbers."""
    found = {number: list(check(node)) for number, check in CHECKS.items() if number not in left_out}
    return {number: each for number, each in found.items() if each}


def published(container: Container) -> list[str]:
    """Return the ports of the node that lead to a container."""
    return [each["HostPort"] for ports in (container.host["PortBindings"] or {}).values() for each in ports or ()]

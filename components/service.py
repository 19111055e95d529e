"""A service as a value, and its swarm service: nginx, read-only, health checked, updated task by task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from components.contract import LABEL_PART, LABEL_PROXY, LABEL_SERVICE, Step
from components.image import ImageRef
from components.rendering import TEMPLATES
from components.scripts import script

START = "service/start"
"""The script that starts nginx in a container."""

UPDATE: docker.ServiceUpdateConfigArgsDict = {
    "parallelism": 1,
    "monitor": "3s",
    "delay": "1s",
    "max_failure_ratio": "0.0",
    "failure_action": "rollback",
}
"""One task at a time. A task that fails within the monitored time rolls the update back. Without the delay, the swarm
may replace the next task before it has noticed the failure."""
ROLLBACK: docker.ServiceRollbackConfigArgsDict = {
    "parallelism": 1,
    "monitor": "1s",
    "delay": "1s",
    "max_failure_ratio": "0.0",
    "failure_action": "pause",
}
NOBODY = "65534:65534"
"""User and group that own nothing and that every image allows."""
MB_PER_WORKER = 16
"""Minimum: 2 MB for the worker, 2 MB for those of earlier configurations still answering, and buffers."""
MOST_CONNECTIONS = 16384
"""Per worker: each connection takes 0.4 kB even while unused."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """nginx limits that fit a memory limit, so that no visitor's behaviour exceeds it.

    Attributes:
        workers: maximum number of processes.
        connections: open connections per worker: 16 KB of headers each, at worst.
        requests: concurrent requests of all workers, with 50 KB of buffers each.
        compressions: concurrently compressed responses of all workers, with 0.4 MB each.
    """

    workers: int
    connections: int
    requests: int
    compressions: int


def capacity(memory: int, workers: int) -> Capacity:
    """Return the capacity that fits a memory limit.

    Args:
        memory: memory limit, in MB.
        workers: number of processes the machine can run.
    """
    fitting = max(1, min(workers, memory // MB_PER_WORKER))
    return Capacity(
        workers=fitting,
        connections=min(40 * memory // fitting, MOST_CONNECTIONS),
        requests=10 * memory,
        compressions=memory // 2,
    )


@dataclass(frozen=True, kw_only=True)
class Route:
    """Requests the proxies forward to an application: those for its host names, or all others if it has none.

    Attributes:
        name: name of the application.
        hosts: host names; empty for the default route.
        endpoints: address:port of every node that may serve.
        read_timeout: longest wait for the beginning of a response, and longest pause in one, in seconds.
    """

    name: str
    hosts: Sequence[str]
    endpoints: Sequence[str]
    read_timeout: int


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A service as a value.

    Attributes:
        name: name of the swarm service.
        image: image with nginx, a shell, and wget or curl.
        configuration: path of the nginx configuration in the container.
        mount: node folder, mounted read-only at the same path in the container.
        replicas: number of tasks; None for one on each node with the proxy label.
        workers: maximum number of nginx processes; fewer on a node with fewer processors.
        listen: port nginx listens on in the container.
        port: port published on the node for `listen`; None if the container uses the host network.
        health: URL in the container that answers with 200 while nginx is healthy.
        memory: memory limit per task, in MB.
        stop_seconds: grace period of a stopped task for open requests, in seconds.
        order: whether a new task starts before or after the old one stops.
        hostname: hostname of the container; None for Docker's default.
        user: user and group of all processes; None for root.
        capabilities: what root in the container may do; all other capabilities are dropped.
    """

    name: str
    image: ImageRef
    configuration: str
    mount: str
    replicas: int | None
    workers: int
    listen: int
    port: int | None
    health: str
    memory: int
    stop_seconds: int
    order: Literal["start-first", "stop-first"]
    hostname: str | None = None
    user: str | None = None
    capabilities: Sequence[str] = ()


def service_inputs(
    spec: ServiceSpec, timeout_factor: int, config: docker.ServiceConfig | None = None
) -> dict[str, Any]:
    """Return the inputs of a service; without a `config`, all of them are known before the service exists.

    Args:
        spec: service specification.
        timeout_factor: multiplier of the health check timeouts and the service timeout.
        config: swarm config with the nginx configuration, unless the node folder holds it.
    """
    return {
        "name": spec.name,
        "labels": [{"label": LABEL_SERVICE, "value": spec.name}],
        "task_spec": _task_spec(spec, timeout_factor, config),
        "update_config": {**UPDATE, "order": spec.order},
        "rollback_config": {**ROLLBACK, "order": spec.order},
        **(_replicated(spec, timeout_factor) if spec.replicas else {"mode": {"global_": True}}),
    }


def _replicated(spec: ServiceSpec, timeout_factor: int) -> dict[str, Any]:
    return {
        "mode": {"replicated": {"replicas": spec.replicas}},
        "endpoint_spec": {"ports": [{"target_port": spec.listen, "published_port": spec.port, "publish_mode": "host"}]},
        "converge_config": {"delay": "1s", "timeout": f"{90 * timeout_factor}s"},
    }


def _task_spec(spec: ServiceSpec, timeout_factor: int, config: docker.ServiceConfig | None) -> dict[str, Any]:
    """Return the task, restarted whenever it ends."""
    on_proxies = {
        "placement": {"constraints": [f"node.labels.{LABEL_PROXY}==true"]},
        "networks_advanceds": [{"id": "host"}],
    }
    return {
        "container_spec": _container_spec(spec, timeout_factor, config),
        "restart_policy": {"condition": "any", "delay": "1s", "window": "0s"},
        "resources": {"limits": {"memory_bytes": spec.memory * 1024 * 1024}},
        "log_driver": {"name": "json-file", "options": {"max-size": "5m"}},
        **({} if spec.replicas else on_proxies),
    }


def _container_spec(spec: ServiceSpec, timeout_factor: int, config: docker.ServiceConfig | None) -> dict[str, Any]:
    interval = f"{2 * timeout_factor}s"
    start = (TEMPLATES / START).read_text()
    container: dict[str, Any] = {
        "image": spec.image.reference,
        "commands": ["sh", "-c", start, "start", str(spec.workers), str(spec.listen), spec.configuration],
        "labels": [{"label": LABEL_PART, "value": spec.name}],
        "read_only": True,
        "cap_drops": ["ALL"],
        "stop_signal": "SIGQUIT",
        "stop_grace_period": f"{spec.stop_seconds}s",
        "sysctl": {},
        "mounts": [
            {"type": "bind", "source": spec.mount, "target": spec.mount, "read_only": True},
            # The task's memory limit bounds it: the official provider crashes on a size.
            {"type": "tmpfs", "target": "/tmp"},
        ],
        "healthcheck": {
            # Proxies, which publish no port, listen on a socket for each worker.
            "tests": ["CMD-SHELL", health_check(spec.health, 1 if spec.port else spec.workers)],
            "interval": interval,
            "timeout": interval,
            "retries": 3,
            "start_period": interval,
        },
    }
    if spec.capabilities:
        container["cap_adds"] = list(spec.capabilities)
    if spec.user:
        container["user"] = spec.user
    if spec.hostname:
        container["hostname"] = spec.hostname
    if config:
        file = {"file_name": spec.configuration, "file_mode": 0o444}
        container["configs"] = [{"config_id": config.id, "config_name": config.name, **file}]
    return container


def health_check(url: str, sockets: int) -> str:
    """Return a shell command that succeeds while nginx is healthy.

    The kernel spreads connections over the listening sockets: several requests also find a worker that hangs.

    Args:
        url: answered with 200 while nginx is healthy.
        sockets: number of listening sockets.
    """
    request = f"wget -q -O /dev/null {url} || curl -fsS -o /dev/null {url}"
    if sockets == 1:
        return request
    return f"i=0; while [ $i -lt {4 * sockets} ]; do {{ {request}; }} || exit 1; i=$((i + 1)); done"


def test_configuration(
    name: str,
    *,
    image: ImageRef,
    configuration: pulumi.Input[str],
    template: str,
    parent: pulumi.Resource,
) -> command.local.Command:
    """Return the Command that lets nginx test a configuration on this machine; dependents never get a bad one.

    Args:
        name: resource name.
        image: image that will run the configuration.
        configuration: text of the configuration.
        template: source template, for the error message.
        parent: parent component.
    """
    return script(
        name,
        step=Step.CONFIGURATION_TEST,
        create="service/test_configuration.sh",
        environment={
            "IMAGE": image.reference,
            "CONFIGURATION": configuration,
            "TEMPLATE": f"templates/{template}",
        },
        minutes=5,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[image.provided]),
    )

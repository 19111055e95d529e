"""What backends and proxies are alike in: nginx containers that can write nothing, are checked, and change in turn."""

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from components import remote

UPDATE: docker.ServiceUpdateConfigArgsDict = {
    "parallelism": 1,
    "monitor": "3s",
    "delay": "0s",
    "max_failure_ratio": "0.0",
}
"""One task at a time. A task that fails within the monitored time ends the change."""
ROLLBACK: docker.ServiceRollbackConfigArgsDict = {
    "parallelism": 1,
    "monitor": "1s",
    "delay": "0s",
    "max_failure_ratio": "0.0",
    "failure_action": "pause",
}


def container_spec(
    name: str,
    *,
    image: pulumi.Input[str],
    configuration: str,
    folder: pulumi.Input[str],
    probe: str,
    patience: int,
    stop_seconds: int,
) -> docker.ServiceTaskSpecContainerSpecArgsDict:
    """A service's container that runs nginx.

    Args:
        name: the service's name.
        image: has nginx, a shell, and wget or curl.
        configuration: path of nginx's configuration in the container.
        folder: of the node, which the container sees at the same path, read-only.
        probe: URL in the container that answers with 200 while nginx is well.
        patience: multiplies what a health check may take.
        stop_seconds: how long visitors that are being answered keep the container from ending.
    """
    return {
        "image": image,
        "commands": ["nginx", "-c", configuration, "-g", "daemon off;"],
        "labels": [{"label": "swarm-site.part", "value": name}],
        "read_only": True,
        "stop_signal": "SIGQUIT",
        "stop_grace_period": f"{stop_seconds}s",
        "sysctl": {},
        "mounts": [
            {"type": "bind", "source": folder, "target": folder, "read_only": True},
            {"type": "tmpfs", "target": "/tmp"},
        ],
        "healthcheck": {
            "tests": ["CMD-SHELL", f"wget -q -O /dev/null {probe} || curl -fsS -o /dev/null {probe}"],
            "interval": f"{2 * patience}s",
            "timeout": f"{2 * patience}s",
            "retries": 3,
            "start_period": f"{2 * patience}s",
        },
    }


def task_spec(container: docker.ServiceTaskSpecContainerSpecArgsDict, memory: int) -> docker.ServiceTaskSpecArgsDict:
    """A service's task: the container, started again whenever it ends, with at most `memory` MB."""
    return {
        "container_spec": container,
        "restart_policy": {"condition": "any", "delay": "1s", "window": "0s"},
        "resources": {"limits": {"memory_bytes": memory * 1024 * 1024}},
        "log_driver": {"name": "json-file", "options": {"max-size": "5m"}},
    }


def labels(name: str) -> list[docker.ServiceLabelArgsDict]:
    """What the tools know a service of a stack by."""
    return [{"label": "swarm-site", "value": name}]


def check(
    name: str,
    *,
    work: str,
    image: pulumi.Input[str],
    configuration: pulumi.Input[str],
    template: str,
    opts: pulumi.ResourceOptions,
) -> command.local.Command:
    """The test of a configuration by nginx itself, on this machine: what depends on it never meets a bad one.

    Args:
        name: the resource's name.
        work: the stack's folder.
        image: the image that will run it, which this machine has by then.
        configuration: the text.
        template: that it was rendered from, for the words of a failure.
        opts: parent, dependencies.
    """
    return remote.run(
        name,
        create="nginx/check.sh",
        environment={
            "WORK": work,
            "IMAGE": image,
            "CONFIGURATION": configuration,
            "TEMPLATE": f"templates/{template}",
        },
        minutes=5,
        opts=opts,
    )

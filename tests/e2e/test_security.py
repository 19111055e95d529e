"""Nodes and containers against the CIS Docker Benchmark."""

import pytest

from tests.e2e.benchmark import CHECKS, Node, faults
from tests.e2e.site import Site, docker

pytestmark = [pytest.mark.e2e, pytest.mark.targets(provider="docker")]


def test_every_node_passes_the_benchmark(running: Site) -> None:
    nodes = [Node(running, name) for name in running.nodes]
    assert {node.name: faults(node) for node in nodes} == {node.name: {} for node in nodes}
    services = [container.service for node in nodes for container in node.containers]
    assert sorted(services) == ["backend", "backend", "proxy", "proxy"]


def test_no_node_swaps(running: Site) -> None:
    for node in running.nodes:
        limits = docker("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}", running.container(node))
        assert len(set(limits.split())) == 1


@pytest.mark.parametrize(
    ("options", "failed"),
    [
        (
            ("--user=0", "--pid=host", "--ipc=host", "--network=host", "--security-opt=seccomp=unconfined"),
            {"4.1", "4.6", "5.4", "5.10", "5.11", "5.13", "5.16", "5.17", "5.22", "5.27"},
        ),
        (
            ("--publish=81:81", "--volume=/run/docker.sock:/run/docker.sock:ro", "--device=/dev/null"),
            {"4.1", "4.6", "5.4", "5.6", "5.8", "5.9", "5.11", "5.13", "5.18", "5.32"},
        ),
    ],
    ids=["of the node", "with a way out"],
)
def test_a_container_that_is_not_confined_fails_the_benchmark(
    running: Site, options: tuple[str, ...], failed: set[str]
) -> None:
    words = ("--detach", "--name=loose", "--label=swarm-site.part=loose", *options)
    image = running.outputs()["images"]["nginx"]
    running.on_node("core-01", "docker", "run", *words, image, "nginx", "-g", "daemon off;")
    try:
        assert failed - faults(Node(running, "core-01")).keys() == set()
        assert failed <= CHECKS.keys()
    finally:
        running.on_node("core-01", "docker", "rm", "-f", "loose")

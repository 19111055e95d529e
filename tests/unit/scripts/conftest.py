"""Fixtures of the tests of shell scripts."""

import shutil
from pathlib import Path

import pytest

from tests.unit.shell import DAEMON_ANSWERS, DOCKER_ROOT, NEW_NETWORK, NO_NETWORK, ROUTES, Rooted, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A machine with a stack's folder and no nodes."""
    world = World(tmp_path)
    world.prepare()
    return world


@pytest.fixture
def bare(world: World) -> World:
    """A machine before the first run: no stack's folder, no network of the stack, room enough."""
    shutil.rmtree(world.work)
    world.free_disk(2048)
    world.plan(DOCKER_ROOT, DAEMON_ANSWERS, NO_NETWORK, NEW_NETWORK)
    world.stub("here", "ip", ROUTES)
    return world


@pytest.fixture
def trio(world: World) -> World:
    """Three managers of a cluster that is complete."""
    world.nodes("core-01", "core-02", "core-03")
    (world.work / "swarm").touch()
    (world.work / "complete").touch()
    return world


@pytest.fixture
def rooted(world: World) -> Rooted:
    """Three nodes, each with a root folder of its own."""
    (world.stubs / "roots").mkdir()
    for name in ("rm", "mkdir", "mv", "ln"):
        (world.stubs / "node" / name).unlink()
    world.nodes("core-01", "core-02", "core-03")
    return Rooted(world)

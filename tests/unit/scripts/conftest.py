"""Fixtures of the shell script tests."""

import shutil
from pathlib import Path

import pytest

from tests.unit.shell import DAEMON_ANSWERS, DOCKER_ROOT, NEW_NETWORK, NO_NETWORK, ROUTES, Rooted, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A machine with a stack folder and no nodes."""
    world = World(tmp_path)
    world.prepare()
    return world


@pytest.fixture
def bare(world: World) -> World:
    """A machine before the first run: no stack folder, no network of the stack, enough disk space."""
    shutil.rmtree(world.work)
    world.free_disk(2048)
    world.plan(DOCKER_ROOT, DAEMON_ANSWERS, NO_NETWORK, NEW_NETWORK)
    world.stub("here", "ip", ROUTES)
    return world


@pytest.fixture
def trio(world: World) -> World:
    """Three managers of a complete cluster."""
    world.nodes("core-01", "core-02", "core-03")
    (world.work / "swarm").touch()
    (world.work / "complete").touch()
    return world


@pytest.fixture
def rooted(world: World) -> Rooted:
    """Three nodes, each with its own root folder."""
    (world.stubs / "roots").mkdir()
    for name in ("rm", "mkdir", "mv", "ln"):
        (world.stubs / "node" / name).unlink()
    world.nodes("core-01", "core-02", "core-03")
    return Rooted(world)

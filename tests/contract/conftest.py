"""What the contract's tests share: the engine that is on PATH, and stages to copy."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.plugin import PLUGINS, VERSIONS, Plugin
from tests.contract.replay import NewStage, Stage


@pytest.fixture(scope="session")
def engine() -> str:
    """The path of `pulumi`; whose plugins it finds is the caller's choice."""
    path = shutil.which("pulumi")
    assert path, "pulumi is not on PATH: run the tests by `make check`"
    return path


@pytest.fixture(scope="session")
def command_stage(engine: str, tmp_path_factory: pytest.TempPathFactory) -> NewStage:
    """Makes a stage for Commands, by a name that no other test uses."""
    return copies("command", tmp_path_factory.mktemp("command"), None)


@pytest.fixture(scope="session")
def bundled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PULUMI_HOME with the bundled plugins as they are in this tree."""
    home = tmp_path_factory.mktemp("home")
    for name, version in VERSIONS.items():
        launcher = home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
        launcher.parent.mkdir(parents=True)
        words = shlex.join([sys.executable, "-E", "-s", str(PLUGINS / "start.py"), name])
        launcher.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        launcher.chmod(0o755)
    return home


@pytest.fixture(scope="session")
def bundled_stage(engine: str, bundled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> NewStage:
    """Makes a stage for any resources, with the bundled plugins as they are in this tree."""
    return copies("raw", tmp_path_factory.mktemp("bundled"), bundled_home)


@pytest.fixture(scope="session")
def command_plugin() -> Iterator[Plugin]:
    """The bundled command plugin, without an engine."""
    with Plugin.running("command") as plugin:
        yield plugin


@pytest.fixture(scope="session")
def docker_plugin() -> Iterator[Plugin]:
    """The bundled docker plugin, without an engine."""
    with Plugin.running("docker") as plugin:
        yield plugin


def copies(program: str, folder: Path, home: Path | None) -> NewStage:
    """Returns a maker of stages: each is a copy of one that is made now."""
    template = Stage(folder / "template", program, home).prepare()
    return lambda name: template.copy(folder / name)

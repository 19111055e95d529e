"""Fixtures of the contract tests: the engine on PATH, and stages to copy."""

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
    """The path of `pulumi`; the caller chooses which plugins it finds."""
    path = shutil.which("pulumi")
    assert path, "pulumi is not on PATH; run: make check"
    return path


@pytest.fixture(scope="session")
def command_stage(engine: str, tmp_path_factory: pytest.TempPathFactory) -> NewStage:
    """Creates a stage for Commands, given a unique name."""
    return copies("command", tmp_path_factory.mktemp("command"), None)


@pytest.fixture(scope="session")
def bundled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PULUMI_HOME with the bundled plugins of this tree."""
    home = tmp_path_factory.mktemp("home")
    for name, version in VERSIONS.items():
        launcher = home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
        launcher.parent.mkdir(parents=True)
        command = shlex.join([sys.executable, "-E", "-s", str(PLUGINS / "start.py"), name])
        launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        launcher.chmod(0o755)
    return home


@pytest.fixture(scope="session")
def bundled_stage(engine: str, bundled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> NewStage:
    """Creates a stage for any resources, with the bundled plugins of this tree."""
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
    """Returns a function that creates stages as copies of one template."""
    template = Stage(folder / "template", program, home).prepare()
    return lambda name: template.copy(folder / name)

"""What the contract's tests share: the engine that is on PATH, and a stage to copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.replay import Stage


@pytest.fixture(scope="session")
def engine() -> str:
    """The path of `pulumi`; whose plugins it finds is the caller's choice."""
    path = shutil.which("pulumi")
    assert path, "pulumi is not on PATH: run the tests by `make check`"
    return path


@pytest.fixture(scope="session")
def command_stage(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stage]:
    """Makes a stage for Commands, by a name that no other test uses."""
    folder: Path = tmp_path_factory.mktemp("command")
    template = Stage(folder / "template", "command").prepare()
    return lambda name: template.copy(folder / name)

"""Fixtures shared by unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components import content, contract
from tests.unit.harness import OWN
from tests.unit.sandbox import Sandbox


@pytest.fixture(scope="session", autouse=True)
def own_content() -> Iterator[None]:
    """Look up content in the tests' folder, independent of the user's changes to the project's content."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (contract, content):
            patch.setattr(module, "PROJECT", OWN)
        yield


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A clone, a home and a PATH for parts of set-up."""
    return Sandbox(tmp_path)

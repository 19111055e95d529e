"""What several unit tests begin with."""

from pathlib import Path

import pytest

from tests.unit.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A clone, a home and a PATH for parts of set-up."""
    return Sandbox(tmp_path)

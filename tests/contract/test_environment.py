"""Set-up and a preview with the real engine, in the environments of real users."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.site import copy_tree
from tests.listener import EXCEPTIONS, listener

PREVIEW = "tools/setup preview && . ./.env && pulumi preview --stack dev"
SECONDS = 300
OWN = re.compile(r"127\.0\.0\.1|localhost|192\.168\.56\.")


@pytest.fixture(scope="module")
def clone(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree, for the engine that is on PATH."""
    folder = tmp_path_factory.mktemp("environment") / "a clone"
    folder.mkdir()
    copy_tree(folder)
    return folder


def preview(clone: Path, own: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Runs what `make preview` runs, with the engine of this tree and a separate state."""
    unset = {"DOCKER_HOST", "DOCKER_CONTEXT", "PULUMI_BACKEND_URL", *EXCEPTIONS}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", PREVIEW],
        cwd=clone,
        env={name: value for name, value in os.environ.items() if name not in unset}
        | {"XDG_STATE_HOME": str(clone.parent / "state")}
        | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_preview_connects_to_no_proxy_of_the_users(clone: Path) -> None:
    with listener() as proxy:
        done = preview(clone, proxy.environment)
    assert done.returncode == 0, done.stdout
    # Downloads by set-up don't count.
    assert [line for line in proxy.heard if OWN.search(line)] == []


def test_a_preview_needs_no_docker_and_minds_no_variable_of_it(clone: Path) -> None:
    own = {
        "DOCKER_HOST": "tcp://192.0.2.1:2375",
        "DOCKER_CONTEXT": "elsewhere",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": "/nowhere",
        "DOCKER_API_VERSION": "1.1",
    }
    done = preview(clone, own)
    assert done.returncode == 0, done.stdout

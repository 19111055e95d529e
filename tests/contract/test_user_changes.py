"""`make check` stays green when users change content and stack files: fast tests in copies with such changes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.e2e.site import ROOT

SECONDS = 900
READERS = [f"tests/unit/test_{name}.py" for name in ("program", "settings", "templates", "manual", "workflows")]
"""The fast tests that read content or stack files, or once did."""
CODE = {
    "tool.py": "import os\nx = 1 + 'a'\n",
    "deploy.sh": "#!/bin/sh\necho $1 `ls`\n",
    "test_page.py": "def test_page(): assert False\n",
}
"""Content that is not source code of this project, and that its linters and tests would reject."""

Change = Callable[[Path], None]


def another_site(tree: Path) -> None:
    """Changes the page and adds files."""
    (tree / "site/index.html").write_text("<p>mine\n")
    for name, text in CODE.items():
        (tree / "site" / name).write_text(text)


def site_elsewhere(tree: Path) -> None:
    """Changes the content and moves it; the usual folder no longer exists."""
    another_site(tree)
    (tree / "site").rename(tree / "www")
    settings(tree, {"content": {"folder": "www"}})


def settings(tree: Path, values: Mapping[str, object]) -> None:
    """Writes a stack file with only these settings."""
    keys = {f"swarm-site:{key}": value for key, value in values.items()}
    (tree / "Pulumi.dev.yaml").write_text(json.dumps({"config": keys}))


def much(tree: Path) -> None:
    """Makes several changes at once."""
    site_elsewhere(tree)
    settings(tree, {**MUCH, "content": {"folder": "www"}})


HOSTS = [{"name": f"web-{n}", "address": f"192.0.2.1{n}"} for n in (1, 2)]
MUCH = {
    "network": "10.9.8.0/24",
    "machines": {"count": 5, "prefix": "node"},
    "swarm": {"managers": 5},
    "applications": {"docs": {"port": 8081, "hosts": ["docs.example"]}},
    "backend": {"replicas": 1, "port": 8090},
    "proxy": {"replicas": 5, "port": 8088},
}
CHANGES: Mapping[str, Change] = {
    "site": another_site,
    "site elsewhere": site_elsewhere,
    "count": lambda tree: settings(tree, {"machines": {"count": 5}}),
    "network": lambda tree: settings(tree, {"network": "10.9.8.0/24"}),
    "provider": lambda tree: settings(tree, {"machines": {"provider": "libvirt"}}),
    "hosts": lambda tree: settings(tree, {"machines": {"provider": "ssh", "hosts": HOSTS}}),
    "applications": lambda tree: settings(tree, {"applications": MUCH["applications"]}),
    "nothing": lambda tree: settings(tree, {}),
    "much": much,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clone of the current working tree, with everything committed."""
    clone = tmp_path / "clone"
    listing = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    (clone / ".venv").symlink_to(sys.prefix)
    git(clone, "init", "--quiet")
    git(clone, "add", "--all")
    return clone


def git(folder: Path, *arguments: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(["git", *arguments], cwd=folder, env=own, capture_output=True, text=True, check=True).stdout


def run(tree: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command,
        cwd=tree,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        text=True,
        check=False,
    )


def run_tests(tree: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(tree, sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments)


def linted(tree: Path) -> list[str]:
    """Returns the files that `make check` passes to its linters."""
    listing = 'source <(sed "/^main \\"/d; s|^\\. .*lib.sh.*||" tools/check); files_in sh; files_in python'
    done = run(tree, "bash", "-euo", "pipefail", "-c", listing)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


@pytest.mark.e2e
@pytest.mark.parametrize("change", CHANGES)
def test_the_tests_that_read_content_or_stack_files_stay_green(tree: Path, change: str) -> None:
    CHANGES[change](tree)
    done = run_tests(tree, *READERS)
    assert done.returncode == 0, done.stdout


def test_an_invalid_stack_file_is_found(tree: Path) -> None:
    settings(tree, {"machines": {"count": 0}})
    done = run_tests(tree, "tests/unit/test_settings.py", "-k", "committed")
    assert done.returncode == 1
    assert "swarm-site:machines.count: 0" in done.stdout


@pytest.mark.parametrize("change", ["site", "site elsewhere"])
def test_content_is_neither_linted_nor_typed(tree: Path, change: str) -> None:
    before = linted(tree)
    assert {"tools/check", "__main__.py", ".ci/run", "templates/lib.sh", "components/contract.py"} <= set(before)
    CHANGES[change](tree)
    assert linted(tree) == before

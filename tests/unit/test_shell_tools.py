"""`make logs` and `make ssh`: bash scripts, run with a stub of ssh."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from components.contract import PROJECT

# Prints its arguments. On the manager, SERVICES are its services, and the logs of BROKEN end with an error.
SSH = """#!/bin/bash
if [[ "$*" == *" docker service ls "* ]]; then
  if [[ "$*" == *" --filter label=swarm-site "* ]]; then tr ' ' '\\n' <<<"$SERVICES" | grep .; fi
elif [[ "$*" == *" docker service logs "* ]]; then
  echo "line of ${*: -1}"
  if [[ ${*: -1} == "$BROKEN" ]]; then
    echo "incomplete log stream" >&2
    exit 1
  fi
else
  echo "ssh $*"
fi
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with both tools, and a stack `dev` of two nodes."""
    (tmp_path / "tools").mkdir()
    for name in ("logs", "ssh"):
        shutil.copy(PROJECT / "tools" / name, tmp_path / "tools")
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "ssh").write_text(SSH)
    (tmp_path / "programs" / "ssh").chmod(0o755)
    for node in ("core-02", "core-01"):
        (tmp_path / ".work/dev/machines" / node).mkdir(parents=True)
        (tmp_path / ".work/dev/machines" / node / "ssh_config").touch()
    (tmp_path / ".work/dev/machines/half-created").mkdir()
    (tmp_path / ".work/dev/ssh_config").touch()
    return tmp_path


def run(clone: Path, tool: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [clone / "tools" / tool, *arguments],
        env={**os.environ, "PATH": f"{clone}/programs:{os.environ['PATH']}", "STACK": "dev", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("tool", ["logs", "ssh"])
def test_a_users_cdpath_does_not_steer_a_tool(clone: Path, tool: str) -> None:
    elsewhere = clone / "elsewhere"
    (elsewhere / "tools").mkdir(parents=True)
    arguments = ["core-01"] if tool == "ssh" else []
    variables = {"CDPATH": str(elsewhere), "SERVICES": "backend", "BROKEN": "none"}
    done = subprocess.run(
        [f"tools/{tool}", *arguments],
        cwd=clone,
        env={**os.environ, "PATH": f"{clone}/programs:{os.environ['PATH']}", "STACK": "dev", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in ("line of backend\n", "ssh -F .work/dev/machines/core-01/ssh_config core-01\n")


def test_the_logs_of_every_service_are_shown(clone: Path) -> None:
    done = run(clone, "logs", SERVICES="backend docs proxy", BROKEN="none")
    assert done.stdout == "line of backend\nline of docs\nline of proxy\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_whose_logs_are_incomplete_hides_no_other(clone: Path) -> None:
    done = run(clone, "logs", SERVICES="backend docs proxy", BROKEN="backend")
    assert done.stdout == "line of backend\nincomplete log stream\nline of docs\nline of proxy\n"
    assert (done.returncode, done.stderr) == (0, "the logs of backend are incomplete (see above)\n")


def test_logs_without_a_stack_or_a_service_end_with_what_to_run(clone: Path) -> None:
    done = run(clone, "logs", SERVICES="", BROKEN="none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "stack dev runs no service; run: make status\n"
    done = run(clone, "logs", STACK="blue")
    assert (done.returncode, done.stderr) == (1, "stack blue is not up; run: make up\n")


def test_ssh_reaches_a_node_by_its_own_entry(clone: Path) -> None:
    done = run(clone, "ssh", "core-02", "sudo", "docker ps")
    assert done.stdout == "ssh -F .work/dev/machines/core-02/ssh_config core-02 sudo docker ps\n"


@pytest.mark.parametrize(("arguments", "named"), [([], ""), (["web"], "web"), (["half-created"], "half-created")])
def test_ssh_without_a_node_of_the_stack_lists_its_nodes(clone: Path, arguments: list[str], named: str) -> None:
    done = run(clone, "ssh", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"NODE='{named}' is no node of stack dev; it has: core-01 core-02; for example: make ssh NODE=core-01\n"
    )


def test_ssh_without_a_stack_says_so(clone: Path) -> None:
    done = run(clone, "ssh", STACK="blue")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("NODE='' is no node of stack blue; it has: none;")

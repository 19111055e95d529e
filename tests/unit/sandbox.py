"""A clone with its own home and PATH, in which tests run parts of set-up."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
BASIC_PROGRAMS = (
    *("awk", "basename", "bash", "cat", "chmod", "cp", "cut", "dirname", "env", "find", "flock", "grep", "head", "id"),
    *("install", "kill", "ln", "mkdir", "mv", "readlink", "rm", "sed", "setsid", "sh", "sha256sum", "sleep", "sort"),
    *("tail", "timeout", "touch", "tr", "uname"),
)
OWN_FILES = (
    *("components/__init__.py", "components/backend.py", "components/contract.py"),
    *("tools/__init__.py", "tools/daemon", "tools/engines.py"),
    *("tools/environment.py", "tools/golang.py", "tools/lib.sh", "tools/official_engine.py", "tools/packages"),
    *("tools/setup", "tools/state.py", "tools/step", "tools/steps.py"),
)
PINNED = "pulumi==3.272.0\npulumi-command==1.2.1\npulumi-docker==5.2.0\n"


@dataclass
class Sandbox:
    """A clone whose path has spaces and a quote, with only basic programs and stubs on PATH."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clone = self.folder / "it's a clone"
        self.programs = self.folder / "programs"
        self.state = self.folder / "the user's state" / "swarm-site"
        self.cache = self.folder / "cache" / "swarm-site"
        self.run_folder = self.folder / "run"
        for folder in (
            self.clone / "components",
            self.clone / "tools",
            self.programs,
            self.state / "log",
            self.state / "work",
            self.cache,
        ):
            folder.mkdir(parents=True)
        self.run_folder.mkdir()
        for name in OWN_FILES:
            shutil.copy(REPOSITORY / name, self.clone / name)
        for name in ("actionlint", "engine"):
            self.write(f"tools/{name}/go.mod", "pinned\n")
            self.write(f"tools/{name}/go.sum", "pinned\n")
        self.write("tools/engine/plugins/start.py", "# a plugin\n")
        self.write("requirements.txt", PINNED)
        for name in BASIC_PROGRAMS:
            program = shutil.which(name)
            assert program, f"{name} is missing on this machine"
            (self.programs / name).symlink_to(program)
        self.stub("sudo", 'shift; exec "$@"')
        self.env |= {
            "HOME": str(self.folder),
            "PATH": str(self.programs),
            "XDG_STATE_HOME": str(self.state.parent),
            "XDG_CACHE_HOME": str(self.cache.parent),
            "SWARM_SITE_RUN": str(self.run_folder),
            "SWARM_SITE_KVM": str(self.folder / "kvm"),
        }

    def write(self, path: str, text: str) -> Path:
        """Write a file in the clone."""
        file = self.clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def stub(self, name: str, body: str) -> Path:
        """Install a program on PATH."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        return path

    def calls(self, name: str) -> list[str]:
        """Return the lines that stubs appended to a file of the sandbox."""
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def setup(self, body: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run shell code with the functions of tools/setup."""
        return self.bash(f"source tools/setup\n{body}", **env)

    def bash(self, body: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run shell code in the clone."""
        return self.run([str(self.programs / "bash"), "-c", body, "setup"], **env)

    def python(self, code: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run Python code in the clone, with the tests' interpreter."""
        return self.run([sys.executable, "-c", code], **env)

    def run(self, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone."""
        return subprocess.run(
            command,
            cwd=self.clone,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def start(self, command: list[str], **env: str) -> "subprocess.Popen[str]":
        """Start a command in the clone, in its own process group."""
        return subprocess.Popen(
            command, cwd=self.clone, env=self.env | env, stderr=subprocess.PIPE, text=True, start_new_session=True
        )


def succeeded(result: subprocess.CompletedProcess[str]) -> str:
    """Check that a command succeeded; return its standard output."""
    assert result.returncode == 0, result.stderr
    return result.stdout


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """Check that a command refused to run (status 1); return its standard error."""
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    return result.stderr


def until(probe: Callable[[], T]) -> T:
    """Wait until a probe returns a true value, and return it."""
    deadline = time.monotonic() + 10
    while not (value := probe()):
        assert time.monotonic() < deadline, "timed out after 10 s"
        time.sleep(0.02)
    return value


def is_running(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False

"""A separate site for the tests, with helpers to operate and inspect it.

The site is a copy of this tree in a folder with a space in its name, with its own stack, state folder and network:
tests never touch the user's stacks, and may edit settings, content and templates. Commands run as a user runs them;
each call's output goes to its own log. The caches are shared with the user, or each run would rebuild the engine.
"""

import contextlib
import fcntl
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from email.message import Message
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.e2e.load import Record, load

ROOT = Path(__file__).resolve().parent.parent.parent
OWN = ROOT / "tests" / "project"
PROJECT = "swarm-site"
CONTENT = "/srv/swarm-site/content"
FIRST_ADDRESS = 11
SHOWN_LINES = 200

# Timeouts: several times the duration on two busy cores.
UP_SECONDS = 420
DOWN_SECONDS = 240
PREVIEW_SECONDS = 120
DAEMON_SECONDS = 120
NODE_SECONDS = 30
FETCH_SECONDS = 10
WAIT_SECONDS = 90

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A finished command, with its output and the path of its log."""

    command: str
    status: int
    text: str
    log: Path


@dataclass(frozen=True)
class Page:
    """The result of a fetch; without a response, the status is 0 and the text is the error."""

    status: int
    text: str
    headers: Message

    @property
    def backend(self) -> str:
        """The node whose backend answered."""
        return self.headers.get("X-Backend", "")

    @property
    def proxy(self) -> str:
        """The node whose proxy answered."""
        return self.headers.get("X-Proxy", "")


@dataclass(frozen=True)
class Task:
    """A task of a service, current or past."""

    name: str
    node: str
    desired: str
    state: str
    error: str

    @property
    def runs(self) -> bool:
        """Whether the task should run and does."""
        return self.desired == "Running" and self.state == "Running"


class CallError(AssertionError):
    """A command succeeded or failed unexpectedly."""


class Background:
    """A command that runs in the background."""

    def __init__(self, command: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.command = command
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process id, which is also its process group's id, as for a shell job."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def wait(self, seconds: float, *, quiet: bool = False) -> Call:
        """Wait for the command; kill it after the timeout. Show a quiet command's full output only if it fails."""
        begin = time.monotonic()
        try:
            status = self._process.wait(seconds)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            print(f"$ {self.command}: ended by the tests after {seconds:g} s\n{self.text()}")
            raise
        text = self.text()
        lines = text.splitlines()
        shown = lines[-(2 if quiet and status == 0 else SHOWN_LINES) :]
        left_out = [f"… {len(lines) - len(shown)} lines …"] if len(lines) > len(shown) else []
        print(f"$ {self.command}", *left_out, *shown, sep="\n")
        print(f"(exit status {status}, {time.monotonic() - begin:.1f} s, log {self._log})\n")
        return Call(self.command, status, text, self._log)

    def text(self) -> str:
        """Return the output so far, without terminal colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._log.read_text(errors="replace"))


@dataclass
class Site:
    """One stack on a copy of the tree.

    `folder` holds the copy and its state, `logs` the output of every command. `timeout_factor` multiplies the timeouts
    for machines slower than containers.
    """

    folder: Path
    logs: Path
    stack: str = "e2e"
    network: str = "192.168.61.0/24"
    count: int = 3
    target: str = field(default_factory=lambda: os.environ.get("TARGET") or "docker")
    timeout_factor: float = 1
    is_up: bool = False
    backend: str = ""
    _calls: int = 0

    def __post_init__(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        copy_tree(self.clone)
        self.configure({})

    # --- places -----------------------------------------------------------------------------------------------------

    @property
    def clone(self) -> Path:
        """The copy of the tree."""
        return self.folder / "a clone"

    @property
    def state(self) -> Path:
        """The state folder for that copy."""
        return self.folder / "a state"

    @property
    def work(self) -> Path:
        """The stack's folder."""
        return self.state / PROJECT / "work" / self.stack

    @property
    def nodes(self) -> Sequence[str]:
        """The node names."""
        return [f"core-{number:02d}" for number in range(1, self.count + 1)]

    def address(self, node: str) -> str:
        """Return a node's address, derived from the network and the node's number."""
        return str(IPv4Network(self.network)[FIRST_ADDRESS + self.nodes.index(node)])

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user who has not sourced any .env."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PROJECT
        foreign = re.compile(r"(PULUMI_(?!HOME)|MAKE|MFLAGS|PYTEST|VIRTUAL_ENV$|STACK$|NODE$)")
        kept = {name: value for name, value in os.environ.items() if not foreign.match(name)}
        if Path(kept.get("PULUMI_HOME", "/")).is_relative_to(cache):
            del kept["PULUMI_HOME"]
        path = [
            entry
            for entry in kept["PATH"].split(":")
            if not Path(entry).is_relative_to(cache) and not Path(entry).is_relative_to(ROOT)
        ]
        return kept | {
            "PATH": ":".join(path),
            "STACK": self.stack,
            "TARGET": self.target,
            "XDG_STATE_HOME": str(self.state),
            **({"PULUMI_BACKEND_URL": self.backend} if self.backend else {}),
        }

    # --- user actions -----------------------------------------------------------------------------------------------

    def configure(self, settings: dict[str, Any]) -> None:
        """Write the stack file: the network, the only setting a second stack needs, and any others."""
        path = self.clone / f"Pulumi.{self.stack}.yaml"
        old = yaml.safe_load(path.read_text()) if path.exists() else {}
        machines = {} if self.target == "docker" else {"machines": {"provider": self.target}}
        wanted = {"network": self.network} | machines | settings
        config = {f"{PROJECT}:{key}": value for key, value in wanted.items()}
        path.write_text(yaml.safe_dump(old | {"config": config}, sort_keys=False))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file of the copy."""
        file = self.clone / path
        text = file.read_text()
        assert old in text, f"{path} holds no {old!r}"
        file.write_text(text.replace(old, new))

    def restore(self, path: str) -> None:
        """Revert the edits to a file."""
        shutil.copy2(ROOT / path, self.clone / path)

    def begin(
        self, name: str, command: str, *, clone: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Background:
        """Start a shell command in the copy, in the background."""
        self._calls += 1
        log = self.logs / f"{self._calls:03d}-{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=clone or self.clone,
                env=self.environment | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Background(command, process, log)

    def run(
        self,
        name: str,
        command: str,
        *,
        seconds: float,
        fails: bool = False,
        quiet: bool = False,
        clone: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Call:
        """Run a shell command in the copy and wait for it.

        Args:
            name: name of its log.
            command: one line of bash.
            seconds: the timeout.
            fails: whether the command must fail rather than succeed.
            quiet: whether to shorten the output unless the command fails.
            clone: run in this copy instead.
            environment: additional variables.

        Raises:
            CallError: the command succeeded or failed unexpectedly.
        """
        call = self.begin(name, command, clone=clone, environment=environment).wait(
            seconds * self.timeout_factor, quiet=quiet
        )
        if (call.status != 0) != fails:
            expected = "succeeded, and should not have" if fails else f"failed with exit status {call.status}"
            raise CallError(f"`{command}` {expected}; log: {call.log}")
        return call

    def up(self, *, fails: bool = False) -> Call:
        """Run `make up`."""
        call = self.run("up", "make up", seconds=UP_SECONDS, fails=fails)
        self.is_up = self.is_up or not fails
        return call

    def down(self) -> Call:
        """Run `make down`."""
        self.is_up = False
        return self.run("down", "make down", seconds=DOWN_SECONDS)

    def pulumi(
        self, arguments: str, *, seconds: float = PREVIEW_SECONDS, fails: bool = False, quiet: bool = False
    ) -> Call:
        """Run plain pulumi, after `. ./.env`."""
        name = f"pulumi-{arguments.split()[0]}"
        return self.run(name, f". ./.env && pulumi {arguments}", seconds=seconds, fails=fails, quiet=quiet)

    def outputs(self) -> Any:
        """Return the stack's outputs."""
        return json.loads(self.pulumi("stack output --json").text)

    def preview(self, *, clone: Path | None = None) -> dict[str, str]:
        """Return the operations planned by `pulumi preview`, by resource name, without unchanged resources."""
        command = f"tools/setup preview 2>/dev/null && . ./.env && pulumi preview --json --stack {self.stack}"
        call = self.run("preview", command, seconds=PREVIEW_SECONDS, quiet=True, clone=clone)
        steps = json.loads(call.text)["steps"]
        return {step["urn"].split("::")[-1]: step["op"] for step in steps if step["op"] != "same"}

    def second_clone(self) -> Path:
        """Copy the clone to a second one, used by the same user."""
        other = self.folder / "another clone"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.clone, other, ignore=shutil.ignore_patterns(".env", ".venv", ".work"), symlinks=True)
        return other

    # --- nodes and machines -----------------------------------------------------------------------------------------

    def on_node(self, node: str, *args: str, check: bool = True) -> str:
        """Run a command as root on a node, as `make ssh` does, and return its output."""
        done = subprocess.run(
            ["tools/ssh", node, shlex.join(["sudo", *args])],
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=NODE_SECONDS * self.timeout_factor,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{node}: {shlex.join(args)}: {done.stderr or done.stdout}"
        return done.stdout

    def container(self, node: str) -> str:
        """Return the name of the container that is the node's machine."""
        assert self.target == "docker", f"machines of {self.target} are not switched on and off by these tests yet"
        return f"{PROJECT}-{self.stack}-{node}"

    def kill(self, *nodes: str) -> None:
        """Power machines off abruptly."""
        docker("kill", "--signal=KILL", *map(self.container, nodes))

    def stop(self, *nodes: str) -> None:
        """Shut machines down cleanly and in parallel, as a reboot of this machine does."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: docker("stop", "--time=30", self.container(node)), nodes))

    def start(self, *nodes: str) -> None:
        """Power machines on."""
        docker("start", *map(self.container, nodes))

    # --- the swarm --------------------------------------------------------------------------------------------------

    def manager(self) -> str:
        """Return a manager of the swarm that has a quorum."""
        for node in self.nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.on_node(node, "docker", "node", "ls", "-q", check=False):
                    return node
        raise AssertionError("no manager of the swarm answers")

    def swarm(self, *args: str) -> str:
        """Run docker on a manager and return its output."""
        return self.on_node(self.manager(), "docker", *args)

    def tasks(self, service: str) -> Sequence[Task]:
        """Return every task of a service that the swarm remembers."""
        lines = self.swarm("service", "ps", service, "--no-trunc", "--format", "{{json .}}").splitlines()
        found = [json.loads(line) for line in lines]
        return [
            Task(task["Name"], task["Node"], task["DesiredState"], task["CurrentState"].split()[0], task["Error"])
            for task in found
        ]

    def running(self, service: str) -> Sequence[str]:
        """Return the nodes that run a service now."""
        return sorted(task.node for task in self.tasks(service) if task.runs)

    def members(self) -> dict[str, str]:
        """Return each node's status, availability and manager status, as the swarm reports them."""
        listing = self.swarm("node", "ls", "--format", "{{.Hostname}}={{.Status}} {{.Availability}} {{.ManagerStatus}}")
        return dict(line.split("=", 1) for line in listing.splitlines())

    def is_whole(self) -> bool:
        """Whether every node is a ready, active manager and every service has all its replicas."""
        members = self.members()
        parts = [members.get(node, "") for node in self.nodes]
        replicas = self.swarm("service", "ls", "--format", "{{.Replicas}}").split("\n")
        complete = [count.split()[0].split("/") for count in replicas if count]
        return all(re.match(r"Ready Active (Leader|Reachable)$", part) for part in parts) and all(
            running == wanted for running, wanted in complete
        )

    def containers(self, service: str) -> dict[str, str]:
        """Return the id of a service's container on each node that runs one."""
        command = ["docker", "ps", "-q", "--no-trunc", "--filter", f"label=swarm-site.part={service}"]
        found = {node: self.on_node(node, *command).strip() for node in self.nodes}
        return {node: container for node, container in found.items() if container}

    def inspect(self, node: str, container: str) -> Any:
        """Return `docker inspect` of a container on a node."""
        return json.loads(self.on_node(node, "docker", "inspect", container))[0]

    def releases(self, node: str) -> tuple[str, list[str]]:
        """Return the release that a node serves, and every release on it."""
        current = self.on_node(node, "readlink", f"{CONTENT}/current").strip().rpartition("/")[2]
        return current, self.on_node(node, "ls", f"{CONTENT}/releases").split()

    def dates(self, node: str) -> dict[str, str]:
        """Return the date of every file that a node serves, in Unix seconds."""
        listing = self.on_node(node, "find", f"{CONTENT}/current/", "-type", "f", "-printf", "%P=%T@\\n")
        return dict(line.rsplit("=", 1) for line in listing.splitlines())

    def watch(self, name: str, *proxies: str, pages: Collection[bytes] = ()) -> AbstractContextManager[Record]:
        """Run visitors against some proxies, all by default, and record the result of each request."""
        urls = [self.proxy_url(node) for node in proxies or self.running("proxy")]
        return load(name, urls, folder=self.logs, pages=pages)

    # --- the page ---------------------------------------------------------------------------------------------------

    def proxy_url(self, node: str) -> str:
        """Return the URL of the proxy on a node."""
        return f"http://{self.address(node)}/"

    def backend_url(self, node: str) -> str:
        """Return the URL of the backend on a node."""
        return f"http://{self.address(node)}:8080/"

    # --- what is left -----------------------------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Return every process started for this site, identified by its environment."""
        mark = f"XDG_STATE_HOME={self.state}".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    args = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    found[int(folder.name)] = " ".join(args).strip()
        return {pid: args for pid, args in found.items() if args}

    def engines(self) -> dict[int, str]:
        """Return the processes of this site that are Pulumi's engine or one of its plugins."""
        part = re.compile(r"(\S*/)?pulumi(-(language|resource)-\S+)? |\S*python\S* .*/plugins-[0-9a-f]+/\w+\.py\b")
        return {pid: args for pid, args in self.processes().items() if part.match(f"{args} ")}

    def machines(self) -> Sequence[str]:
        """Return the containers that are this stack's machines, in any state."""
        return docker("ps", "-a", "--filter", f"name=^{PROJECT}-{self.stack}-", "--format", "{{.Names}}").split()

    def left(self) -> Sequence[str]:
        """Return everything of the stack that is left on this machine, except caches and the user's stack file."""
        home = Path(self.environment.get("PULUMI_HOME") or Path.home() / ".pulumi")
        bundled = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PROJECT / "engine" / "home"
        index = Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d") / "data" / "machine-index" / "index"
        named = re.compile(rf"(?<![0-9A-Za-z]){re.escape(self.stack)}(?![0-9A-Za-z])")
        files = [path for path in self.state.rglob("*") if named.search(str(path.relative_to(self.state)))]
        logs = [path for folder in (home, bundled) for path in folder.glob(f"logs/*{PROJECT}+{self.stack}-*")]
        vagrants = json.loads(index.read_text())["machines"].values() if index.exists() else []
        return [
            *(f"container {name}" for name in self.machines()),
            *(f"volume {name}" for name in docker("volume", "ls", "-q").split() if self._is_ours(name)),
            *(
                f"network {name}"
                for name in docker("network", "ls", "--format", "{{.Name}}").split("\n")
                if name in self._networks
            ),
            *(f"file {path}" for path in [*files, *logs]),
            *(f"process {pid}: {args}" for pid, args in self.processes().items()),
            *(f"vagrant machine {v['vagrantfile_path']}" for v in vagrants if str(self.state) in v["vagrantfile_path"]),
        ]

    @property
    def _networks(self) -> Collection[str]:
        """The names of the stack's network and of a network created by Vagrant."""
        return f"{PROJECT}-{self.stack}", f"vagrant_network_{self.network}"

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{PROJECT}-{self.stack}-")

    def sweep(self) -> None:
        """Force-remove what a failed or killed run left."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for machine in self.machines():
            docker("rm", "-fv", machine)
        for volume in docker("volume", "ls", "-q").split():
            if self._is_ours(volume):
                docker("volume", "rm", volume)
        for network in docker("network", "ls", "--format", "{{.Name}}").splitlines():
            if network in self._networks:
                docker("network", "rm", network)
        shutil.rmtree(self.state, ignore_errors=True)


def copy_tree(folder: Path) -> None:
    """Copy the files of this tree that git tracks or does not ignore, with the tests' own stack file and content."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.rmtree(folder / "site", ignore_errors=True)
    shutil.copytree(OWN, folder, dirs_exist_ok=True)
    # Image archives belong to the user, are too large to copy, and are the only image source on some networks.
    for archive in (ROOT / "images").glob("*.tar*"):
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / archive.name).symlink_to(archive)


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold a kernel lock on a stack's name: two runs would create the same machines."""
    with Path(f"/tmp/{PROJECT}-{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AssertionError(f"another run of these tests has the stack {name}: wait for its end") from None
        yield


def docker(*args: str) -> str:
    """Run docker on this machine and return its output."""
    done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"docker {shlex.join(args)}: {done.stderr}"
    return done.stdout


def fetch(
    url: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Page:
    """Send one request on a new connection. Send the whole body, or until the server stops reading it."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=FETCH_SECONDS)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            chunked = "Transfer-Encoding" in (headers or {})
            connection.request(method, place.path or "/", body, dict(headers or {}), encode_chunked=chunked)
        response = connection.getresponse()
        return Page(response.status, response.read().decode(errors="replace"), response.headers)
    except (OSError, http.client.HTTPException) as error:
        return Page(0, f"{type(error).__name__}: {error}", Message())
    finally:
        connection.close()


def wait_until(what: str, condition: Callable[[], T], *, seconds: float = WAIT_SECONDS) -> T:
    """Wait until a condition holds, and return its value.

    Raises:
        AssertionError: the condition did not hold in time; the message has its last value or error.
    """
    deadline = time.monotonic() + seconds
    while True:
        last: object
        try:
            value = condition()
            if value:
                return value
            last = value
        except (AssertionError, subprocess.TimeoutExpired) as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"after {seconds:g} s still not: {what} ({last})")
        time.sleep(0.2)

"""Parts of tools/setup and tools/daemon, run by bash in a clone, a home and a PATH of their own."""

import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
BASIC_PROGRAMS = (
    *("awk", "basename", "bash", "cat", "chmod", "cmp", "cp", "cut", "dirname", "env", "find", "flock", "grep", "head"),
    *("id", "install", "kill", "ln", "mkdir", "mv", "readlink", "realpath", "rm", "sed", "setsid", "sh", "sha256sum"),
    *("sleep", "sort", "tail", "timeout", "touch", "tr", "uname", "xargs"),
)


@dataclass
class Sandbox:
    """A clone in a folder with a space and a quote in its name, and nothing on PATH but basic programs and stubs."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clone = self.folder / "it's a clone"
        self.programs = self.folder / "programs"
        self.state = self.folder / "the user's state" / "swarm-site"
        self.cache = self.folder / "cache" / "swarm-site"
        self.run_folder = self.folder / "run"
        for made in (self.clone / "tools", self.programs, self.state / "log", self.state / "work", self.cache):
            made.mkdir(parents=True)
        self.run_folder.mkdir()
        for name in ("setup", "daemon", "lib.sh", "official_engine.py"):
            shutil.copy(REPOSITORY / "tools" / name, self.clone / "tools" / name)
        (self.clone / "tools" / "actionlint").mkdir()
        for name in ("go.mod", "go.sum"):
            (self.clone / "tools" / "actionlint" / name).write_text("pinned\n")
        (self.clone / "requirements.txt").write_text("pulumi==3.272.0\npulumi-command==1.2.1\npulumi-docker==5.2.0\n")
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

    def stub(self, name: str, body: str) -> Path:
        """Put a program on PATH."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        return path

    def setup(self, body: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run shell text with the functions of tools/setup at hand."""
        return self.bash(f"source tools/setup\n{body}", **env)

    def bash(self, body: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run shell text in the clone."""
        return subprocess.run(
            [str(self.programs / "bash"), "-c", body, "setup"],
            cwd=self.clone,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def succeeded(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    return result.stderr


def until(probe: Callable[[], T]) -> T:
    deadline = time.monotonic() + 10
    while not (value := probe()):
        assert time.monotonic() < deadline, "it has not come about in 10 s"
        time.sleep(0.02)
    return value


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- .env ---

BUNDLED = "ENGINE_KIND=bundled ENGINE_BIN='/the engine/bin' ENGINE_HOME='/the engine/h'\\''ome'"
OFFICIAL = "ENGINE_KIND=official ENGINE_BIN='/the engine/bin' ENGINE_HOME=''"


def sourced(sandbox: Sandbox, shell: str, text: str = ". ./.env", **env: str) -> dict[str, str]:
    """The environment after `. ./.env`, in the given shell."""
    output = subprocess.run(
        [str(sandbox.programs / shell), "-euc", f"{text}; env -0"],
        cwd=sandbox.clone,
        env=sandbox.env | env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_env_file_survives_spaces_and_quotes_in_every_path(sandbox: Sandbox, shell: str) -> None:
    succeeded(sandbox.setup(f"{BUNDLED}; ensure_env_file"))
    env = sourced(sandbox, shell)
    assert env["PATH"] == f"/the engine/bin:{sandbox.clone}/.venv/bin:{sandbox.programs}"
    assert env["PULUMI_HOME"] == "/the engine/h'ome"
    assert env["PULUMI_BACKEND_URL"] == f"file://{quote(str(sandbox.state), safe='/~')}/pulumi?metadata=skip"
    assert env["PULUMI_CONFIG_PASSPHRASE"] == ""
    assert env["PULUMI_SKIP_UPDATE_CHECK"] == "true"
    assert env["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert env["PULUMI_PARALLEL"] == "64"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_sourcing_the_env_file_again_changes_nothing(sandbox: Sandbox, shell: str) -> None:
    succeeded(sandbox.setup(f"{BUNDLED}; ensure_env_file"))
    assert sourced(sandbox, shell, ". ./.env; . ./.env; . ./.env") == sourced(sandbox, shell)


def test_the_users_own_values_win_and_are_not_written_down(sandbox: Sandbox) -> None:
    own = {
        "PULUMI_BACKEND_URL": "s3://bucket-of-theirs",
        "PULUMI_CONFIG_PASSPHRASE": "secret of theirs",
        "PULUMI_PARALLEL": "8",
    }
    succeeded(sandbox.setup(f"{BUNDLED}; ensure_env_file", **own))
    text = (sandbox.clone / ".env").read_text()
    assert not [value for value in ("bucket-of-theirs", "secret of theirs") if value in text]
    env = sourced(sandbox, "sh", **own)
    assert {name: env[name] for name in own} == own


def test_a_passphrase_file_is_not_overruled_by_an_empty_passphrase(sandbox: Sandbox) -> None:
    succeeded(sandbox.setup(f"{BUNDLED}; ensure_env_file"))
    assert sourced(sandbox, "sh")["PULUMI_CONFIG_PASSPHRASE"] == ""
    assert "PULUMI_CONFIG_PASSPHRASE" not in sourced(sandbox, "sh", PULUMI_CONFIG_PASSPHRASE_FILE="/a/file")


def test_with_the_official_engine_only_our_own_home_is_taken_back(sandbox: Sandbox) -> None:
    succeeded(sandbox.setup(f"{OFFICIAL}; ensure_env_file"))
    bundled = {"PULUMI_HOME": f"{sandbox.cache}/engine/home", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true"}
    assert not bundled.keys() & sourced(sandbox, "sh", **bundled).keys()
    assert sourced(sandbox, "sh", PULUMI_HOME="/their/home")["PULUMI_HOME"] == "/their/home"


def test_every_odd_character_of_a_path_is_encoded_in_the_backend_url(sandbox: Sandbox) -> None:
    path = "/a" + "".join(map(chr, range(32, 127))) + "é€"
    assert succeeded(sandbox.setup(f"file_url {shlex.quote(path)}")) == f"file://{quote(path, safe='/~')}\n"


def test_an_unchanged_env_file_is_not_written_again(sandbox: Sandbox) -> None:
    succeeded(sandbox.setup(f"{BUNDLED}; ensure_env_file"))
    before = (sandbox.clone / ".env").stat()
    succeeded(sandbox.setup(f"{BUNDLED}; ensure_env_file"))
    after = (sandbox.clone / ".env").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


# --- refusals ---


def small_machine(sandbox: Sandbox, goal: str, *, memory_mb: int, disk_mb: int) -> subprocess.CompletedProcess[str]:
    meminfo = sandbox.folder / "meminfo"
    meminfo.write_text(f"MemTotal:  99999999 kB\nMemFree: 1 kB\nMemAvailable: {memory_mb * 1024} kB\n")
    sandbox.stub("df", f"printf '   Avail\\n  {disk_mb}M\\n'")
    sandbox.stub("docker", "exit 1")
    return sandbox.setup(f"refuse_small_machine {goal}", SWARM_SITE_MEMINFO=str(meminfo))


def test_too_little_memory_and_disk_are_refused_together_with_what_is_needed_and_why(sandbox: Sandbox) -> None:
    message = refusal(small_machine(sandbox, "up", memory_mb=2559, disk_mb=6143))
    assert "memory: 2559 MB are available, 2560 MB are needed (three nodes of 512 MB" in message
    assert re.search(r"disk: 6143 MB are free in /\S*, 6144 MB are needed \(the node image", message)
    assert message.endswith("setup: this machine is too small; nothing was touched.\n")


def test_just_enough_memory_and_disk_are_enough(sandbox: Sandbox) -> None:
    succeeded(small_machine(sandbox, "up", memory_mb=2560, disk_mb=6144))


def test_a_stack_of_hosts_that_exist_needs_no_room_for_machines_here(sandbox: Sandbox) -> None:
    (sandbox.clone / "Pulumi.dev.yaml").write_text("config:\n  swarm-site:machines:\n    provider: ssh\n")
    (sandbox.cache / "built").touch()
    succeeded(small_machine(sandbox, "up", memory_mb=300, disk_mb=900))


def test_a_check_needs_less_than_a_stack(sandbox: Sandbox) -> None:
    succeeded(small_machine(sandbox, "check", memory_mb=2559, disk_mb=6143))
    assert "the engine may have to be built" in refusal(small_machine(sandbox, "check", memory_mb=500, disk_mb=6143))


def test_what_is_built_and_running_needs_no_room_again(sandbox: Sandbox) -> None:
    (sandbox.cache / "built").touch()
    (sandbox.state / "work" / "dev").mkdir()
    succeeded(small_machine(sandbox, "up", memory_mb=1, disk_mb=1))


@pytest.mark.parametrize(
    "name", ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION"]
)
def test_a_variable_that_leads_to_another_docker_is_refused_by_name(sandbox: Sandbox, name: str) -> None:
    message = refusal(sandbox.setup("refuse_redirected_docker", **{name: "tcp://elsewhere"}))
    assert f"{name} is set ('tcp://elsewhere')" in message
    assert f"Run 'unset {name}'" in message


def test_a_docker_context_that_leads_elsewhere_is_refused(sandbox: Sandbox) -> None:
    sandbox.stub("docker", "echo ssh://elsewhere")
    assert "leads to ssh://elsewhere" in refusal(sandbox.setup("refuse_redirected_docker"))
    sandbox.stub("docker", "echo unix:///var/run/docker.sock")
    succeeded(sandbox.setup("refuse_redirected_docker"))


@pytest.mark.parametrize("name", ["", "a b", "blue;reboot", "../dev", "..", "x" * 101])
def test_a_name_that_is_no_stack_name_is_refused(sandbox: Sandbox, name: str) -> None:
    # An empty STACK is the default's.
    result = sandbox.setup("refuse_bad_stack_name", STACK=name)
    assert result.returncode == (1 if name else 0), result.stderr


def test_a_folder_that_path_can_not_hold_is_refused(sandbox: Sandbox) -> None:
    assert "':'" in refusal(sandbox.setup("refuse_unfit_paths", XDG_CACHE_HOME="/a:b"))
    assert "relative" in refusal(sandbox.setup("refuse_unfit_paths", XDG_CACHE_HOME="a/b"))


def test_something_of_the_users_own_is_never_replaced_by_a_link(sandbox: Sandbox) -> None:
    own = sandbox.clone / ".venv"
    own.mkdir()
    assert "is in the way" in refusal(sandbox.setup("ensure_link .venv /elsewhere"))
    assert own.is_dir()


# --- packages ---


def apt_calls(sandbox: Sandbox) -> list[str]:
    log = sandbox.folder / "apt.log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def debian(sandbox: Sandbox) -> Sandbox:
    """A sandbox with apt, where every program and file that set-up asks for is there."""
    log = shlex.quote(str(sandbox.folder / "apt.log"))
    for name in ("dpkg", "apt-get"):
        sandbox.stub(name, f'printf "%s\\n" "{name} $*" >>{log}')
    for name in ("curl", "ruby", "shellcheck", "ssh", "docker", "dockerd", "iptables", "mmdebstrap", "rsync"):
        sandbox.stub(name, "")
    for name in ("ssh-keygen", "vagrant", "python3"):
        sandbox.stub(name, "")
    keyring = sandbox.folder / "keyring.gpg"
    keyring.touch()
    setup = sandbox.clone / "tools" / "setup"
    setup.write_text(setup.read_text().replace("/usr/share/keyrings/debian-archive-keyring.gpg", "$HOME/keyring.gpg"))
    return sandbox


def test_where_nothing_is_missing_apt_is_not_called(debian: Sandbox) -> None:
    succeeded(debian.setup("ensure_packages up"))
    assert apt_calls(debian) == []


def test_what_is_missing_is_installed_by_one_call_after_one_update(debian: Sandbox) -> None:
    for name in ("vagrant", "dockerd", "docker", "ssh"):
        (debian.programs / name).unlink()
    succeeded(debian.setup("ensure_packages up"))
    options = "-o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold"
    assert apt_calls(debian) == [
        "dpkg --configure -a",
        f"apt-get {options} update",
        f"apt-get {options} install --yes --no-install-recommends docker.io openssh-client vagrant",
    ]


def test_a_client_without_a_daemon_still_needs_the_daemons_package(debian: Sandbox) -> None:
    (debian.programs / "dockerd").unlink()
    assert succeeded(debian.setup("missing_packages up")).split() == ["docker.io"]


@pytest.mark.parametrize(
    ("goal", "packages"),
    [
        ("preview", ["openssh-client"]),
        ("check", ["openssh-client", "ruby", "shellcheck"]),
        ("up", ["docker.io", "mmdebstrap", "openssh-client", "vagrant"]),
    ],
)
def test_only_what_the_goal_needs_is_asked_for(debian: Sandbox, goal: str, packages: list[str]) -> None:
    for name in ("vagrant", "dockerd", "docker", "mmdebstrap", "ruby", "shellcheck", "ssh"):
        (debian.programs / name).unlink()
    assert succeeded(debian.setup(f"missing_packages {goal}")).split() == packages


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        ("", "docker"),
        ("config:\n  swarm-site:machines:\n    count: 3\n", "docker"),
        ("config:\n  swarm-site:machines:\n    count: 3\n    provider: other\n", "other"),
        ("config:\n  swarm-site:machines:\n    provider: 'other' # not docker\n", "other"),
        ('config:\n  swarm-site:machines: {"count": 3, "provider": "other"}\n', "other"),
        ("config:\n  # provider: other\n  swarm-site:machines:\n    count: 3\n", "docker"),
    ],
)
def test_the_provider_is_read_from_the_stacks_file_and_what_it_needs_is_asked_for(
    debian: Sandbox, text: str, provider: str
) -> None:
    (debian.clone / "Pulumi.dev.yaml").write_text(text)
    assert succeeded(debian.setup("provider")) == f"{provider}\n"
    (debian.programs / "vagrant").unlink()
    assert succeeded(debian.setup("missing_packages up")).split() == (["vagrant"] if provider == "docker" else [])


def test_what_makes_virtual_machines_is_asked_for_only_where_they_are_made(debian: Sandbox) -> None:
    (debian.clone / "Pulumi.dev.yaml").write_text("config:\n  swarm-site:machines:\n    provider: libvirt\n")
    asked = set(succeeded(debian.setup("missing_packages up")).split())
    assert asked >= {"dnsmasq-base", "libvirt-clients", "libvirt-daemon-system", "qemu-system-x86", "qemu-utils"}
    (debian.clone / "Pulumi.dev.yaml").write_text("config:\n  swarm-site:machines:\n    provider: virtualbox\n")
    assert succeeded(debian.setup("missing_packages up")) == ""


def test_a_python_without_venv_is_missing(debian: Sandbox) -> None:
    debian.stub("python3", "exit 1")
    assert succeeded(debian.setup("missing_packages check")).split() == ["python3", "python3-venv"]


def test_without_apt_the_missing_packages_are_named(debian: Sandbox) -> None:
    (debian.programs / "apt-get").unlink()
    (debian.programs / "vagrant").unlink()
    assert "there is no apt to install them: vagrant." in refusal(debian.setup("ensure_packages up"))


def test_a_failing_apt_ends_set_up_with_its_last_words(debian: Sandbox) -> None:
    (debian.programs / "vagrant").unlink()
    debian.stub("apt-get", 'for ((i = 1; i <= 30; i++)); do echo "apt says $i"; done; exit 100')
    message = refusal(debian.setup("ensure_packages up"))
    assert "packages failed (exit status 100)" in message
    assert "apt says 11" in message
    assert "apt says 10\n" not in message
    assert message.endswith("then run the same again.\n")


# --- steps ---


def test_a_step_fails_at_its_first_failing_command(sandbox: Sandbox) -> None:
    message = refusal(sandbox.setup("step() { echo before; false; echo after; }; run_step NAME 'Do this.' step"))
    assert "before" in message
    assert "after" not in message
    assert f"The end of {sandbox.state}/log/setup-NAME.log" in message
    assert message.endswith("Do this.\n")


def test_a_step_that_is_tried_leaves_the_verdict_to_its_caller(sandbox: Sandbox) -> None:
    result = sandbox.setup("step() { return 3; }; try_step NAME step; echo $STEP_STATUS")
    assert succeeded(result) == "3\n"
    assert result.stderr == ""


def test_a_long_step_tells_its_time_and_its_log(sandbox: Sandbox) -> None:
    result = sandbox.setup("STEP_QUIET_SECONDS=0; run_step NAME '' sleep 0.1")
    succeeded(result)
    log = re.escape(f"{sandbox.state}/log/setup-NAME.log")
    assert re.fullmatch(rf"==> NAME … \d s  \(log: {log}\)\n==> NAME: done after \d s\n", result.stderr)


def test_an_interrupt_ends_the_step_with_its_children(sandbox: Sandbox) -> None:
    step = "step() { sleep 98765 & echo $!; wait; }"
    body = f"source tools/setup; trap end_on_signal INT TERM; {step}; run_step NAME '' step"
    log = sandbox.state / "log" / "setup-NAME.log"
    process = subprocess.Popen(
        [str(sandbox.programs / "bash"), "-c", body, "setup"],
        cwd=sandbox.clone,
        env=sandbox.env,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    child = int(until(lambda: log.exists() and log.read_text()))
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Run the same command again: it goes on from here." in message
    until(lambda: not is_running(child))


def test_a_step_does_not_hold_the_lock_beyond_its_set_up(sandbox: Sandbox) -> None:
    succeeded(sandbox.setup("take_lock; [[ -e /proc/$$/fd/9 ]]; run_step NAME '' test ! -e /proc/self/fd/9"))


def test_a_second_set_up_waits_for_the_first(sandbox: Sandbox) -> None:
    with (sandbox.cache / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = sandbox.bash("timeout 0.5 bash -c 'source tools/setup; take_lock'")
    assert result.returncode == 124
    assert "another set-up of this user runs" in result.stderr
    succeeded(sandbox.setup("take_lock"))


# --- the Docker daemon ---


@pytest.fixture
def daemon(sandbox: Sandbox) -> Iterator[Sandbox]:
    """A sandbox with a daemon of its own that answers once it runs."""
    answers = shlex.quote(str(sandbox.folder / "answers"))
    sandbox.stub("dockerd", f"ls -l /proc/self/fd; touch {answers}; exec sleep 1000")
    sandbox.stub("docker", f"[[ $1 == ps ]] && exit; [[ -e {answers} ]] && echo 20.10")
    sandbox.stub("ls", 'exec /bin/ls "$@"')
    yield sandbox
    record = sandbox.state / "dockerd.pid"
    if record.exists():
        os.kill(int(record.read_text().split()[0]), signal.SIGKILL)


def recorded(sandbox: Sandbox) -> int:
    return int((sandbox.state / "dockerd.pid").read_text().split()[0])


def test_a_daemon_that_answers_is_left_as_it_is(daemon: Sandbox) -> None:
    (daemon.folder / "answers").touch()
    succeeded(daemon.bash("tools/daemon start; tools/daemon stop --force"))
    assert not (daemon.state / "dockerd.pid").exists()


@pytest.mark.parametrize(("command", "status"), [("tools/e2e", 5), ("make bench", 2)])
def test_tests_and_figures_stop_what_set_up_started_for_them_and_hand_their_failure_on(
    sandbox: Sandbox, command: str, status: int
) -> None:
    for name in ("tools/e2e", "Makefile"):
        shutil.copy(REPOSITORY / name, sandbox.clone / name)
    (sandbox.clone / "tools/setup").write_text('#!/bin/sh\necho "$1" >>calls\n')
    (sandbox.clone / ".env").touch()
    sandbox.stub("make", f'exec {shutil.which("make")} "$@"')
    for program in ("pytest", "python"):
        sandbox.stub(program, "echo runs >>calls; exit 5")
    assert sandbox.bash(command).returncode == status
    assert (sandbox.clone / "calls").read_text().split() == ["up", "runs", "stop-daemon"]


def test_the_daemon_that_set_up_started_is_stopped_with_the_last_stack(daemon: Sandbox) -> None:
    succeeded(daemon.bash("tools/daemon start"))
    pid = recorded(daemon)
    assert is_running(pid)
    stack = daemon.state / "work" / "dev"
    stack.mkdir()
    assert "stays: stacks are left (dev)" in daemon.bash("tools/setup stop-daemon").stderr
    assert is_running(pid)
    stack.rmdir()
    succeeded(daemon.bash("tools/setup stop-daemon"))
    until(lambda: not is_running(pid))
    assert not (daemon.state / "dockerd.pid").exists()


def test_a_daemon_in_which_a_container_runs_stays_unless_forced(daemon: Sandbox) -> None:
    succeeded(daemon.bash("tools/daemon start"))
    pid = recorded(daemon)
    daemon.stub("docker", "echo somebodys-database")
    assert "stays: containers run in it (somebodys-database)" in daemon.bash("tools/daemon stop").stderr
    assert is_running(pid)
    succeeded(daemon.bash("tools/daemon stop --force"))
    until(lambda: not is_running(pid))


def test_a_process_that_only_has_the_daemons_old_number_is_not_stopped(daemon: Sandbox) -> None:
    with subprocess.Popen(["sleep", "20"]) as other:
        (daemon.state / "dockerd.pid").write_text(f"{other.pid} 1\n")
        result = daemon.bash("tools/daemon stop --force")
        assert other.poll() is None
        other.kill()
    succeeded(result)
    assert not (daemon.state / "dockerd.pid").exists()


def test_a_zombie_counts_as_ended(sandbox: Sandbox) -> None:
    with subprocess.Popen(["true"]) as zombie:
        until(lambda: not is_running(zombie.pid))
        result = sandbox.setup(f"process_start_time {zombie.pid}")
    assert (result.returncode, result.stdout) == (1, "")


def test_the_daemon_inherits_no_descriptor(daemon: Sandbox) -> None:
    succeeded(daemon.bash("exec 7>/dev/null 9>held; tools/daemon start"))
    opened = re.findall(r" (\d+) -> ", (daemon.state / "log" / "dockerd.log").read_text())
    # 255 is the stub's own script, 3 the folder that ls reads.
    assert set(opened) <= {"0", "1", "2", "3", "255"}
    assert {"0", "1", "2"} <= set(opened)


def test_a_pid_file_that_a_killed_daemon_left_does_not_stand_in_the_way(daemon: Sandbox) -> None:
    left = [daemon.run_folder / "docker.pid", daemon.run_folder / "docker" / "containerd" / "containerd.pid"]
    left[1].parent.mkdir(parents=True)
    for file in left:
        file.write_text(str(os.getpid()))
    succeeded(daemon.bash("tools/daemon start"))
    assert not [file for file in left if file.exists()]


def test_after_a_killed_daemon_another_one_is_started_even_while_the_first_is_a_zombie(daemon: Sandbox) -> None:
    program = daemon.folder / "dockerd"
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "20"]) as killed:
        until(lambda: Path(f"/proc/{killed.pid}/comm").read_text() == "dockerd\n")
        killed.kill()
        until(lambda: not is_running(killed.pid))
        (daemon.run_folder / "docker.pid").write_text(str(killed.pid))
        (daemon.state / "dockerd.pid").write_text(f"{killed.pid} 1\n")
        succeeded(daemon.bash("tools/daemon start"))
    assert is_running(recorded(daemon))


def test_a_daemon_that_is_just_starting_is_waited_for_and_not_doubled(daemon: Sandbox) -> None:
    program = daemon.folder / "dockerd"
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "20"]) as starting:
        until(lambda: Path(f"/proc/{starting.pid}/comm").read_text() == "dockerd\n")
        (daemon.run_folder / "docker.pid").write_text(str(starting.pid))
        with subprocess.Popen(["sleep 0.5; touch answers"], shell=True, cwd=daemon.folder):
            result = daemon.bash("tools/daemon start")
        starting.kill()
    succeeded(result)
    assert not (daemon.state / "dockerd.pid").exists()
    assert not (daemon.state / "log" / "dockerd.log").exists()


def test_a_daemon_that_ends_at_once_is_reported_with_its_last_words(daemon: Sandbox) -> None:
    daemon.stub("dockerd", "echo no space left on device; exit 1")
    message = refusal(daemon.bash("tools/daemon start"))
    assert "no space left on device" in message
    assert "ended as soon as it was started" in message


@pytest.mark.parametrize("tool", ["tools/daemon start", "source tools/setup; ensure_daemons"])
def test_a_daemon_that_refuses_this_user_is_not_doubled(daemon: Sandbox, tool: str) -> None:
    daemon.stub("docker", "echo permission denied while trying to connect to the Docker daemon socket >&2; exit 1")
    assert "may not use it. Run 'sudo usermod -aG docker" in refusal(daemon.bash(tool))
    assert not (daemon.state / "dockerd.pid").exists()


@pytest.fixture
def libvirt(daemon: Sandbox) -> Iterator[Sandbox]:
    """A sandbox whose libvirtd answers once it runs, beside a Docker daemon that was there before."""
    answers = shlex.quote(str(daemon.folder / "libvirt-answers"))
    daemon.stub("virtlogd", "exec sleep 1000")
    daemon.stub("libvirtd", f"touch {answers}; exec sleep 1000")
    daemon.stub("virsh", f"[[ $* == *list* ]] && exit; [[ -e {answers} ]]")
    daemon.stub("chgrp", f'echo "$@" >{shlex.quote(str(daemon.folder / "chgrp"))}')
    (daemon.folder / "answers").touch()
    yield daemon
    for program in ("virtlogd", "libvirtd"):
        record = daemon.state / f"{program}.pid"
        if record.exists():
            os.kill(int(record.read_text().split()[0]), signal.SIGKILL)


def test_the_daemons_of_virtual_machines_are_started_and_stopped_with_the_last_stack(libvirt: Sandbox) -> None:
    (libvirt.folder / "kvm").touch(mode=0o600)
    succeeded(libvirt.bash("tools/daemon start libvirt"))
    pids = [int((libvirt.state / f"{name}.pid").read_text().split()[0]) for name in ("virtlogd", "libvirtd")]
    assert all(map(is_running, pids))
    assert (libvirt.folder / "chgrp").read_text() == f"kvm {libvirt.folder}/kvm\n"
    assert (libvirt.folder / "kvm").stat().st_mode & 0o777 == 0o660
    stack = libvirt.state / "work" / "dev"
    stack.mkdir()
    assert "stays: stacks are left (dev)" in libvirt.bash("tools/daemon stop").stderr
    stack.rmdir()
    libvirt.stub("virsh", "echo somebodys-desktop")
    assert "libvirtd stays: virtual machines run in it (somebodys-desktop)" in libvirt.bash("tools/daemon stop").stderr
    assert all(map(is_running, pids))
    libvirt.stub("virsh", "exit")
    succeeded(libvirt.bash("tools/daemon stop"))
    until(lambda: not any(map(is_running, pids)))
    assert not list(libvirt.state.glob("*.pid"))


def test_a_libvirtd_that_answers_is_left_as_it_is(libvirt: Sandbox) -> None:
    (libvirt.folder / "libvirt-answers").touch()
    succeeded(libvirt.bash("tools/daemon start libvirt; tools/daemon stop --force"))
    assert not list(libvirt.state.glob("*.pid"))


def test_a_libvirtd_that_refuses_this_user_is_not_doubled(libvirt: Sandbox) -> None:
    libvirt.stub("virsh", "echo authentication unavailable: no polkit agent available >&2; exit 1")
    assert "may not use it. Run 'sudo usermod -aG libvirt" in refusal(libvirt.bash("tools/daemon start libvirt"))
    assert not list(libvirt.state.glob("*.pid"))


def test_libvirtd_is_started_only_for_a_stack_that_needs_it(libvirt: Sandbox) -> None:
    succeeded(libvirt.setup("ensure_daemons"))
    assert not list(libvirt.state.glob("*.pid"))
    (libvirt.clone / "Pulumi.dev.yaml").write_text("config:\n  swarm-site:machines:\n    provider: libvirt\n")
    succeeded(libvirt.setup("ensure_daemons"))
    assert (libvirt.state / "libvirtd.pid").exists()


def test_where_systemd_runs_it_starts_the_daemon(daemon: Sandbox) -> None:
    (daemon.run_folder / "systemd" / "system").mkdir(parents=True)
    daemon.stub("systemctl", f'echo "$@"; touch {shlex.quote(str(daemon.folder / "answers"))}')
    assert succeeded(daemon.bash("tools/daemon start")) == "enable --now docker\n"
    assert not (daemon.state / "dockerd.pid").exists()


# --- the engine ---


@pytest.fixture
def engines(sandbox: Sandbox) -> Sandbox:
    """A sandbox in which the bundled engine can be had, and the official installer can't be reached."""
    bundled = sandbox.cache / "engine" / "bin" / "pulumi"
    bundled.parent.mkdir(parents=True)
    bundled.write_text("#!/bin/sh\necho v3.256.0\n")
    bundled.chmod(0o755)
    install = sandbox.clone / "tools" / "engine" / "install"
    install.parent.mkdir()
    install.write_text(
        f"#!/bin/sh\necho installed >>{shlex.quote(str(sandbox.folder / 'installed'))}\n"
        'mkdir -p "$CACHE/engine/home"; echo "PULUMI_BIN=$CACHE/engine/bin"; echo "PULUMI_HOME=$CACHE/engine/home"\n'
    )
    install.chmod(0o755)
    python = sandbox.folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho asked >>{shlex.quote(str(sandbox.folder / 'asked'))}\nexit 1\n")
    python.chmod(0o755)
    (sandbox.clone / ".venv").symlink_to(sandbox.folder / "venv")
    return sandbox


def chosen(sandbox: Sandbox, **env: str) -> str:
    text = 'ensure_engine; printf "%s|%s|%s|%s" "$ENGINE_KIND" "$ENGINE_VERSION" "$ENGINE_BIN" "$ENGINE_HOME"'
    return succeeded(sandbox.setup(text, **env))


def bundled(sandbox: Sandbox) -> str:
    return f"bundled|3.256.0|{sandbox.cache}/engine/bin|{sandbox.cache}/engine/home"


def count(sandbox: Sandbox, what: str) -> int:
    """How often the installer that leaves a line in this file was asked."""
    file = sandbox.folder / what
    return len(file.read_text().splitlines()) if file.exists() else 0


def add_plugins(home: Path) -> None:
    for name in ("command-v1.2.1", "docker-v5.2.0"):
        (home / "plugins" / f"resource-{name}").mkdir(parents=True)


def test_an_engine_on_path_with_its_plugins_is_taken_first(engines: Sandbox) -> None:
    engines.stub("pulumi", "echo v3.260.1")
    add_plugins(engines.folder / ".pulumi")
    assert chosen(engines) == f"path|3.260.1|{engines.programs}|"
    assert count(engines, "asked") == 0


def test_an_engine_on_path_that_is_too_old_is_passed_over(engines: Sandbox) -> None:
    engines.stub("pulumi", "echo v3.99.0")
    add_plugins(engines.folder / ".pulumi")
    assert chosen(engines) == bundled(engines)


def test_an_engine_on_path_whose_plugins_can_not_be_had_is_passed_over(engines: Sandbox) -> None:
    engines.stub("pulumi", "[[ $1 == version ]] && echo v3.260.1")
    assert chosen(engines) == bundled(engines)


def test_an_engine_on_path_fetches_the_pinned_plugins(engines: Sandbox) -> None:
    engines.stub("pulumi", 'case $1 in version) echo v3.260.1 ;; *) mkdir -p "$HOME/.pulumi/plugins/$3-$4-v$5" ;; esac')
    assert chosen(engines) == f"path|3.260.1|{engines.programs}|"


def test_our_own_engine_on_path_is_not_taken_for_the_users(engines: Sandbox) -> None:
    add_plugins(engines.folder / ".pulumi")
    assert chosen(engines, PATH=f"{engines.cache}/engine/bin:{engines.programs}") == bundled(engines)


def test_plugins_of_our_own_home_are_not_taken_for_the_users(engines: Sandbox) -> None:
    engines.stub("pulumi", "[[ $1 == version ]] && echo v3.260.1")
    add_plugins(engines.cache / "engine" / "home")
    assert chosen(engines, PULUMI_HOME=f"{engines.cache}/engine/home") == bundled(engines)


def test_a_closed_network_is_asked_once_a_day(engines: Sandbox) -> None:
    assert [chosen(engines) for _ in range(3)] == [bundled(engines)] * 3
    assert count(engines, "asked") == 1
    yesterday = time.time() - 25 * 3600
    os.utime(engines.cache / "downloads-blocked", (yesterday, yesterday))
    chosen(engines)
    assert count(engines, "asked") == 2


def test_the_bundled_engine_is_installed_again_only_when_it_or_its_environment_changed(engines: Sandbox) -> None:
    for _ in range(2):
        chosen(engines)
    assert count(engines, "installed") == 1
    (engines.clone / "tools" / "engine" / "command.py").write_text("# another plugin\n")
    chosen(engines)
    assert count(engines, "installed") == 2
    (engines.folder / "venv").rename(engines.folder / "venv-2")
    (engines.clone / ".venv").unlink()
    (engines.clone / ".venv").symlink_to(engines.folder / "venv-2")
    chosen(engines)
    assert count(engines, "installed") == 3
    (engines.cache / "engine" / "home").rmdir()
    assert chosen(engines) == bundled(engines)
    assert count(engines, "installed") == 4


def test_an_engine_that_is_asked_for_by_name_has_no_stand_in(engines: Sandbox) -> None:
    assert "that engine is not to be had" in refusal(engines.setup("ensure_engine", SWARM_SITE_ENGINE="path"))
    assert chosen(engines, SWARM_SITE_ENGINE="bundled") == bundled(engines)


def test_a_download_site_that_never_answers_is_given_up_within_seconds(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        text = "import official_engine as o; o.REACH_SECONDS = 1; o.main()"
        result = subprocess.run(
            [sys.executable, "-c", text, str(sandbox.folder / "engine")],
            cwd=sandbox.clone / "tools",
            env=sandbox.env | {"https_proxy": proxy, "http_proxy": proxy, "no_proxy": ""},
            timeout=20,
            check=False,
        )
    assert result.returncode == -signal.SIGALRM


# --- the Python environment ---


def test_a_half_built_environment_is_built_again_and_a_whole_one_is_not(sandbox: Sandbox) -> None:
    built = sandbox.folder / "built"
    sandbox.stub(
        "python3",
        f"""
        case "$*" in
          *ensurepip*) ;;
          *python_version*) echo 3.11.7 ;;
          "-m venv"*) echo built >>{shlex.quote(str(built))}; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
        esac""",
    )
    digest = succeeded(sandbox.setup("requirements_hash")).strip()
    venv = sandbox.cache / f"venv-{digest}-3.11.7"
    (venv / "bin").mkdir(parents=True)
    shutil.copy(sandbox.programs / "python3", venv / "bin" / "python")
    for _ in range(2):
        succeeded(sandbox.setup("ensure_python_environment"))
    assert (sandbox.clone / ".venv").readlink() == venv
    assert built.read_text() == "built\n"
    (venv / ".complete").unlink()
    succeeded(sandbox.setup("ensure_python_environment"))
    assert built.read_text() == "built\n" * 2
    with (sandbox.clone / "requirements.txt").open("a") as requirements:
        requirements.write("rich==15.0.0\n")
    succeeded(sandbox.setup("ensure_python_environment"))
    assert built.read_text() == "built\n" * 3


# --- the linter of workflows ---


def test_actionlint_is_built_once_and_again_when_its_modules_change(sandbox: Sandbox) -> None:
    (sandbox.clone / ".venv").symlink_to("/the environment")
    install = sandbox.clone / "tools" / "actionlint" / "install"
    install.write_text(
        f'#!/bin/bash\necho "$VENV" >>{shlex.quote(str(sandbox.folder / "built"))}\n'
        'install -D /dev/null "$1"; chmod +x "$1"\n'
    )
    install.chmod(0o755)
    for _ in range(2):
        succeeded(sandbox.setup(f"ensure_actionlint; {BUNDLED}; ensure_env_file"))
    assert (sandbox.folder / "built").read_text() == "/the environment\n"
    [binary] = sandbox.cache.glob("actionlint/*/actionlint")
    assert str(binary.parent) in sourced(sandbox, "sh")["PATH"].split(":")
    (sandbox.clone / "tools" / "actionlint" / "go.sum").write_text("other modules\n")
    succeeded(sandbox.setup("ensure_actionlint"))
    assert count(sandbox, "built") == 2


# --- the stack's file ---

SALT = "encryptionsalt: v1:the-salt-of-the-empty-passphrase\n"


def test_a_new_stacks_file_gets_the_salt_of_the_empty_passphrase(sandbox: Sandbox) -> None:
    (sandbox.clone / "Pulumi.dev.yaml").write_text(SALT + "config: {}\n")
    blue = sandbox.clone / "Pulumi.blue.yaml"
    succeeded(sandbox.setup("ensure_stack_file", STACK="blue"))
    assert blue.read_text() == SALT
    blue.write_text("config:\n  swarm-site:network: 192.168.57.0/24\n")
    for _ in range(2):
        succeeded(sandbox.setup("ensure_stack_file", STACK="blue"))
    assert blue.read_text() == SALT + "config:\n  swarm-site:network: 192.168.57.0/24\n"


@pytest.mark.parametrize(("goal", "made"), [("engine", ""), ("preview", "the stack\n")])
def test_a_preview_of_stacks_of_its_own_needs_no_stack_of_the_users(sandbox: Sandbox, goal: str, made: str) -> None:
    steps = ("ensure_packages", "ensure_python_environment", "ensure_engine", "ensure_env_file", "summarize")
    stubs = "; ".join(f"{step}() {{ :; }}" for step in (*steps, "refuse_small_machine"))
    assert succeeded(sandbox.setup(f"{stubs}; ensure_stack() {{ echo the stack; }}; main {goal}")) == made


def test_a_passphrase_of_the_users_own_gets_a_salt_of_its_own(sandbox: Sandbox) -> None:
    (sandbox.clone / "Pulumi.dev.yaml").write_text(SALT)
    succeeded(sandbox.setup("ensure_stack_file", STACK="blue", PULUMI_CONFIG_PASSPHRASE="theirs"))
    assert not (sandbox.clone / "Pulumi.blue.yaml").exists()


# --- the repository's own files ---


def test_every_dependency_is_pinned_and_no_address_is_written_down() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    text = (REPOSITORY / "requirements.txt").read_text()
    pinned = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert [entry for entry in wanted if re.split(r"[^a-zA-Z0-9-]", entry)[0] not in pinned] == []
    assert not re.search(r"://|--(extra-)?index-url|--find-links|^/", text, re.MULTILINE)


def test_help_tells_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert phony
    text = subprocess.run(["make", "-s", "-C", str(REPOSITORY)], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in text.splitlines()] == phony[1].split()

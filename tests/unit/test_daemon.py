"""Parts of tools/daemon, run by bash with their own clone, home and PATH."""

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sandbox import REPOSITORY, Sandbox, is_running, refusal, succeeded, until


@pytest.fixture
def daemon(sandbox: Sandbox) -> Iterator[Sandbox]:
    """A sandbox with its own daemon, which answers once it runs."""
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
    assert "Daemons left running: these stacks still exist: dev." in daemon.bash("tools/setup stop-daemon").stderr
    assert is_running(pid)
    stack.rmdir()
    succeeded(daemon.bash("tools/setup stop-daemon"))
    until(lambda: not is_running(pid))
    assert not (daemon.state / "dockerd.pid").exists()


def test_a_daemon_in_which_a_container_runs_stays_unless_forced(daemon: Sandbox) -> None:
    succeeded(daemon.bash("tools/daemon start"))
    pid = recorded(daemon)
    daemon.stub("docker", "echo somebodys-database")
    assert (
        "Daemon dockerd left running: containers run in it: somebodys-database."
        in daemon.bash("tools/daemon stop").stderr
    )
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
    # 255 comes from the stub's script, 3 is the folder ls reads.
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
    """A sandbox whose libvirtd answers once it runs, next to a Docker daemon that was already running."""
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
    assert "Daemons left running: these stacks still exist: dev." in libvirt.bash("tools/daemon stop").stderr
    stack.rmdir()
    libvirt.stub("virsh", "echo somebodys-desktop")
    assert (
        "Daemon libvirtd left running: virtual machines run in it: somebodys-desktop."
        in libvirt.bash("tools/daemon stop").stderr
    )
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

"""Parts of tools/setup, run by bash with their own clone, home and PATH."""

import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import tomllib

import pytest

from tests.unit.sandbox import REPOSITORY, Sandbox, is_running, refusal, succeeded, until

# Each of two steps waits until the other has started.
MEET = """meet() {
  touch "$HOME/$1"
  for _ in {1..200}; do if [[ -e $HOME/$2 ]]; then return 0; fi; sleep 0.05; done
  echo "$2 has not begun"
  return 1
}"""


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKER_HOST", "unix:///var/run/docker.sock"),
        ("DOCKER_HOST", "unix:///run/docker.sock"),
        ("DOCKER_CONTEXT", "default"),
    ],
)
def test_a_variable_that_names_this_machines_docker_is_accepted(sandbox: Sandbox, name: str, value: str) -> None:
    succeeded(sandbox.setup("refuse_redirected_docker", **{name: value}))
    assert refusal(sandbox.setup("refuse_redirected_docker", **{name: f"{value}x"}))


def test_a_users_own_variables_do_not_steer_set_up(sandbox: Sandbox) -> None:
    elsewhere = sandbox.folder / "elsewhere"
    (elsewhere / "tools").mkdir(parents=True)
    own = {name: str(elsewhere) for name in ("CDPATH", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_USER")}
    names = " ".join(f'"${{{name}-unset}}"' for name in own)
    output = succeeded(sandbox.setup(f'printf "%s\\n" "$ROOT" {names}', **own))
    assert output.splitlines() == [str(sandbox.clone), *["unset"] * len(own)]


def test_a_docker_context_that_leads_elsewhere_is_refused(sandbox: Sandbox) -> None:
    sandbox.stub("docker", "echo ssh://elsewhere")
    assert "leads to ssh://elsewhere" in refusal(sandbox.setup("refuse_redirected_docker"))
    sandbox.stub("docker", "echo unix:///var/run/docker.sock")
    succeeded(sandbox.setup("refuse_redirected_docker"))


@pytest.mark.parametrize("name", ["", "a b", "blue;reboot", "../dev", "..", "x" * 101])
def test_a_name_that_is_no_stack_name_is_refused(sandbox: Sandbox, name: str) -> None:
    # An empty STACK means the default.
    result = sandbox.setup("refuse_bad_stack_name", STACK=name)
    assert result.returncode == (1 if name else 0), result.stderr


def test_a_folder_that_path_can_not_hold_is_refused(sandbox: Sandbox) -> None:
    assert "':'" in refusal(sandbox.setup("refuse_unfit_paths", XDG_CACHE_HOME="/a:b"))
    assert "relative" in refusal(sandbox.setup("refuse_unfit_paths", XDG_CACHE_HOME="a/b"))


# --- packages ---


def apt_calls(sandbox: Sandbox) -> list[str]:
    log = sandbox.folder / "apt.log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def debian(sandbox: Sandbox) -> Sandbox:
    """A sandbox with apt and every program and file set-up needs."""
    log = shlex.quote(str(sandbox.folder / "apt.log"))
    for name in ("dpkg", "apt-get"):
        sandbox.stub(name, f'printf "%s\\n" "{name} $*" >>{log}')
    for name in ("curl", "ruby", "shellcheck", "ssh", "docker", "dockerd", "iptables", "mmdebstrap", "rsync"):
        sandbox.stub(name, "")
    for name in ("ssh-keygen", "vagrant", "python3"):
        sandbox.stub(name, "")
    keyring = sandbox.folder / "keyring.gpg"
    keyring.touch()
    packages = sandbox.clone / "tools" / "packages"
    text = packages.read_text()
    assert "/usr/share/keyrings/debian-archive-keyring.gpg" in text
    # Names in the table contain no spaces.
    packages.write_text(text.replace("/usr/share/keyrings/debian-archive-keyring.gpg", str(keyring)))
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
        ("check", ["openssh-client", "rsync", "ruby", "shellcheck"]),
        ("up", ["docker.io", "mmdebstrap", "openssh-client", "rsync", "vagrant"]),
    ],
)
def test_only_what_the_goal_needs_is_asked_for(debian: Sandbox, goal: str, packages: list[str]) -> None:
    for name in ("vagrant", "dockerd", "docker", "mmdebstrap", "rsync", "ruby", "shellcheck", "ssh"):
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
    assert message.endswith("then run the same command again.\n")


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
    process = sandbox.start([str(sandbox.programs / "bash"), "-c", body, "setup"])
    child = int(until(lambda: log.exists() and log.read_text()))
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Run the same command again: it goes on from here." in message
    until(lambda: not is_running(child))


def test_a_long_step_shows_the_last_line_of_its_log(sandbox: Sandbox) -> None:
    step = "step() { echo compiling a; echo compiling b; sleep 0.3; }"
    result = sandbox.setup(f"STEP_QUIET_SECONDS=0; {step}; begin_step NAME step; sleep 0.2; end_step NAME")
    succeeded(result)
    assert re.match(r"==> NAME … \d s  \(log: .*\): compiling b\n", result.stderr)


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("", ""),
        ("\n \n", ""),
        ("first\n  second\n\n", ": second"),
        (" 10 %\r 20 %\r", ": 20 %"),
        ("\033[1mbold\033[0m\n", ": [1mbold[0m"),
        ("x" * 2000, f": {'x' * 100}"),
        ("é" * 1000 + "\n", f": {'é' * 100}"),
    ],
)
def test_a_last_line_is_short_and_leaves_the_terminal_alone(sandbox: Sandbox, log: str, shown: str) -> None:
    (sandbox.clone / "log").write_text(log)
    assert succeeded(sandbox.setup("last_line log", LC_ALL="C.UTF-8")) == shown


def test_steps_run_side_by_side_and_each_is_shown(sandbox: Sandbox) -> None:
    body = f"""{MEET}
        STEP_QUIET_SECONDS=0
        begin_step one meet one two
        run_step two '' meet two one
        require_step one ''
        require_step never-begun ''
        """
    result = sandbox.setup(body)
    succeeded(result)
    ends = {line.rsplit(" ", 2)[0] for line in result.stderr.splitlines()}
    assert {"==> one: done after", "==> two: done after"} <= ends


def test_a_background_step_that_failed_ends_the_tool_where_it_is_required(sandbox: Sandbox) -> None:
    step = "step() { echo the cause; return 3; }; begin_step one step"
    message = refusal(sandbox.setup(f"{step}; run_step two '' sleep 0.2; require_step one 'Do this.'"))
    assert "one failed (exit status 3)" in message
    assert message.endswith("    the cause\nDo this.\n")


def test_a_step_does_not_hold_the_lock_beyond_its_set_up(sandbox: Sandbox) -> None:
    succeeded(sandbox.setup("take_lock; [[ -e /proc/$$/fd/9 ]]; run_step NAME '' test ! -e /proc/self/fd/9"))


def test_a_second_set_up_waits_for_the_first(sandbox: Sandbox) -> None:
    with (sandbox.cache / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = sandbox.bash("timeout 0.5 bash -c 'source tools/setup; take_lock'")
    assert result.returncode == 124
    assert "another set-up of this user runs" in result.stderr
    succeeded(sandbox.setup("take_lock"))


# --- the Python environment ---

PYTHON = """
  case "$*" in
    *ensurepip*) ;;
    *python_version*) echo 3.11.7 ;;
    "-m venv"*) echo built >>"$HOME/built"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  esac"""


def environment(sandbox: Sandbox) -> str:
    return succeeded(sandbox.setup('begin_python_environment; finish_python_steps; echo "$VENV"')).strip()


def test_a_half_built_environment_is_built_again_and_a_whole_one_is_not(sandbox: Sandbox) -> None:
    sandbox.stub("python3", PYTHON)
    digest = succeeded(sandbox.setup("requirements_hash")).strip()
    venv = sandbox.cache / f"venv-{digest}-3.11.7"
    (venv / "bin").mkdir(parents=True)
    shutil.copy(sandbox.programs / "python3", venv / "bin" / "python")
    for _ in range(2):
        assert environment(sandbox) == str(venv)
    assert sandbox.calls("built") == ["built"]
    (venv / ".complete").unlink()
    assert environment(sandbox) == str(venv)
    assert sandbox.calls("built") == ["built"] * 2
    with (sandbox.clone / "requirements.txt").open("a") as requirements:
        requirements.write("rich==15.0.0\n")
    assert environment(sandbox) != str(venv)
    assert sandbox.calls("built") == ["built"] * 3


def test_a_whole_environment_needs_no_other_python(sandbox: Sandbox) -> None:
    sandbox.stub("python3", PYTHON)
    venv = environment(sandbox)
    (sandbox.clone / ".venv").symlink_to(venv)
    (sandbox.programs / "python3").unlink()
    assert environment(sandbox) == venv
    missing = succeeded(sandbox.setup("begin_python_environment; missing_packages preview")).split()
    assert missing == ["curl", "openssh-client"]
    (sandbox.clone / ".venv").unlink()
    assert "no Python 3.11 or newer with venv was found" in refusal(sandbox.setup("finish_python_steps"))


# --- all of it ---


@pytest.fixture
def machine(debian: Sandbox) -> Sandbox:
    """A machine without one package and without build results; Python is a stub."""
    debian.env["SWARM_SITE_MEMINFO"] = str(debian.folder / "meminfo")
    (debian.folder / "meminfo").write_text("MemAvailable: 99999999 kB\n")
    debian.stub("df", "printf '99999M\\n'")
    debian.stub(
        "python3",
        f"""{MEET}
      case "$*" in
        "-m tools.engines") meet engine packages; eval "$ENGINE_STEP" ;;
        "-m tools.environment"*) printf '%s\\n' "$SWARM_SITE_SECONDS" "${{@:3}}" >"$HOME/environment"; exit 7 ;;
      esac{PYTHON}""",
    )
    debian.stub(
        "apt-get",
        f"""{MEET}
      case "$*" in *install*) meet packages engine; eval "$APT" ;; esac""",
    )
    (debian.programs / "curl").unlink()
    return debian


def test_the_engine_is_begun_beside_the_packages_and_python_does_the_rest(machine: Sandbox) -> None:
    result = machine.bash("tools/setup preview")
    assert result.returncode == 7, result.stderr
    seconds, *arguments = machine.calls("environment")
    assert seconds.isdigit()
    assert arguments == ["preview", "built the Python environment", "installed curl"]


def test_where_an_engine_was_chosen_before_none_is_begun(machine: Sandbox) -> None:
    (machine.cache / "built").touch()
    machine.stub("curl", "")
    assert machine.bash("tools/setup preview").returncode == 7
    assert not (machine.folder / "engine").exists()


def test_an_engine_that_can_not_be_built_ends_set_up(machine: Sandbox) -> None:
    message = refusal(machine.bash("tools/setup preview", ENGINE_STEP="echo no module; exit 1"))
    assert "engine failed (exit status 1)" in message
    assert "    no module\nThe engine is built from its Go modules: check the log and GOPROXY" in message
    assert not machine.calls("environment")


@pytest.mark.parametrize("ends", ["a failure", "a signal"])
def test_no_step_outlives_set_up(machine: Sandbox, ends: str) -> None:
    machine.env["ENGINE_STEP"] = 'echo $$ >"$HOME/pid"; sleep 98765'
    wait = "until [[ -s $HOME/pid ]]; do sleep 0.02; done; "
    process = machine.start(
        [str(machine.clone / "tools" / "setup"), "preview"],
        APT=wait + ("exit 100" if ends == "a failure" else "sleep 98"),
    )
    pid = int(until(lambda: "".join(machine.calls("pid"))))
    if ends == "a signal":
        process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=10)
    assert process.returncode == (1 if ends == "a failure" else 130), message
    until(lambda: not is_running(pid))


# --- the repository's own files ---


@pytest.mark.parametrize("name", ["requirements.txt", "tools/engine/requirements.txt"])
def test_every_package_is_pinned_with_hashes_and_no_address_is_written_down(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    packages = re.findall(r"^[a-z0-9.-]+==\S+( \\\n +--hash=sha256:[0-9a-f]{64}.*)?", text, re.MULTILINE)
    assert packages
    assert all(packages)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|^/", text, re.MULTILINE)


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    text = (REPOSITORY / "requirements.txt").read_text()
    pinned = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert [entry for entry in wanted if re.split(r"[^a-zA-Z0-9-]", entry)[0] not in pinned] == []


def test_help_tells_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert phony
    text = subprocess.run(["make", "-s", "-C", str(REPOSITORY)], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in text.splitlines()] == phony[1].split()

"""The Docker context of a stack: an ssh entry that works from any folder, made and removed without a trace."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from components.contract import Step
from components.rendering import render
from tests.unit.harness import settings
from tests.unit.state import command, state
from tools import context, stack
from tools.stack import Resources, ToolError

WORK = ".work/dev"
MADE = render("swarm/ssh_config", work=WORK, timeout_factor=1)
DOCKER = """#!/bin/bash
echo "$*" >>"$CALLS"
case "$1 $2" in
  "context ls") printf 'default\\n'; cat "$CALLS.contexts" 2>/dev/null || true ;;
  "context create") echo "$3" >"$CALLS.contexts" ;;
  "context rm") rm "$CALLS.contexts" ;;
esac
"""
NAME = "swarm-site-dev"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a stack whose swarm is up, in a project with a space in its path."""
    work = tmp_path / "a project/work/dev"
    work.mkdir(parents=True)
    monkeypatch.setattr(stack, "WORK", work)
    monkeypatch.setattr(context, "PROJECT", tmp_path / "a project")
    monkeypatch.setattr(stack, "power", lambda *_: subprocess.CompletedProcess((), 0, "on\n", ""))
    monkeypatch.setattr(stack, "recover", lambda: known(MADE))
    entry = pwd.getpwuid(os.getuid())
    account = pwd.struct_passwd((*entry[:5], str(tmp_path), entry[6]))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: account)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr("sys.argv", ["context"])
    return tmp_path


def known(config: str) -> Resources:
    """The state of a stack whose swarm is up."""
    variables = {"PROVIDER": "docker", "NODES": "core-01 192.0.2.11 manager", "SSH_CONFIG": config}
    return state(command(Step.STACK_FOLDER, "workshop", **variables), command(Step.CLUSTER, "cluster"))


def configuration(home: Path) -> Path:
    return home / ".ssh/config"


def asked(home: Path) -> dict[str, str]:
    """Return what ssh makes of the user's configuration for the context's host."""
    command_line = ["ssh", "-G", "-F", str(configuration(home)), NAME]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True, cwd="/")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_docker_finds_the_swarm_of_made_machines_from_any_folder(home: Path) -> None:
    assert context.context() == 0
    found, place = asked(home), f"{home}/a project"
    assert found["user"] == "vagrant"
    assert found["identityfile"] == f"{place}/.work/dev/key"
    assert found["proxycommand"] == f"env -C '{place}' WORK=.work/dev bash templates/swarm/proxy_command.sh"
    assert "controlpath" not in found
    assert (home / "calls").read_text().splitlines()[-1] == (
        f"context create {NAME} --docker host=ssh://{NAME} --description swarm of stack dev"
    )


def test_docker_asks_the_hosts_for_one_that_manages_with_the_users_own_settings(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [{"name": f"web-{n}", "address": f"192.0.2.{n}", "user": f"admin{n}"} for n in (1, 2, 3)]
    nodes = settings({"machines": {"provider": "ssh", "hosts": hosts}}).nodes
    text = render("swarm/hosts_ssh_config", work=WORK, nodes=nodes)
    monkeypatch.setattr(stack, "recover", lambda: known(text))
    configuration(home).parent.mkdir()
    configuration(home).write_text("Host 192.0.2.2\n  IdentityFile /own\n")
    scripts = home / "a project/templates/swarm"
    scripts.mkdir(parents=True)
    (scripts / "probe.sh").write_text("[[ $1 == web-2 && $WORK == .work/dev ]]\n")
    context.context()
    found = asked(home)
    assert (found["hostname"], found["user"], found["identityfile"]) == ("192.0.2.2", "admin2", "/own")
    assert "Include ~/.ssh/config" not in (stack.WORK / "context_ssh_config").read_text()


def test_the_users_configuration_is_as_before_once_the_context_is_removed(home: Path) -> None:
    own = "Host *\n  User me\n"
    configuration(home).parent.mkdir()
    configuration(home).write_text(own)
    configuration(home).chmod(0o640)
    for _ in range(2):
        context.context()
    assert configuration(home).read_text() == f'Include "{stack.WORK}/context_ssh_config"\n{own}'
    assert configuration(home).stat().st_mode & 0o777 == 0o640
    assert context.remove()
    assert configuration(home).read_text() == own
    assert (home / "calls").read_text().splitlines()[-1] == f"context rm --force {NAME}"
    assert not context.remove()
    assert not (stack.WORK / "context_ssh_config").exists()


def test_a_configuration_that_the_context_made_goes_with_it(home: Path) -> None:
    context.context()
    assert configuration(home).stat().st_mode & 0o777 == 0o600
    context.remove()
    assert not configuration(home).exists()


def test_a_stack_without_a_context_needs_no_docker_to_be_removed(home: Path) -> None:
    (home / "bin/docker").unlink()
    assert not context.remove()


def test_a_stack_without_a_swarm_has_no_context(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "recover", state)
    with pytest.raises(ToolError, match="stack dev has no swarm; run: make up"):
        context.context()
    assert not configuration(home).exists()


def test_an_entry_follows_the_stack(home: Path) -> None:
    context.refresh()
    assert not (stack.WORK / "context_ssh_config").exists()
    context.context()
    (stack.WORK / "ssh_config").write_text(MADE.replace("vagrant", "another"))
    context.refresh()
    assert asked(home)["user"] == "another"

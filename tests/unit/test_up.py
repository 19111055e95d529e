"""`make up` before and after the engine's own work: which nodes are dead, and what the swarm is told of them."""

import contextlib
import io
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import repair, stack, up
from tools.stack import NodeEntry, ToolError

NODES = "core-01 192.168.56.11 manager\ncore-02 192.168.56.12 manager\ncore-03 192.168.56.13 worker\n"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stack of three nodes."""
    (tmp_path / "nodes").write_text(NODES)
    monkeypatch.setattr(stack, "WORK", tmp_path)
    return tmp_path


def test_machines_that_are_half_made_or_half_gone_are_no_dead_nodes(work: Path) -> None:
    known: stack.Resources = {
        "machines-core-01": {"urn": "urn::machines-core-01"},
        # Taken away, and the new one could not be made.
        "machines-core-02": {"urn": "urn::machines-core-02", "pendingReplacement": True},
        # Its delete was cut off.
        "machines-core-03": {"urn": "urn::machines-core-03"},
    }
    (work / "machines/core-01").mkdir(parents=True)
    (work / "machines/core-01/complete").touch()
    assert up.made_entries(known) == [NodeEntry("core-01", "192.168.56.11", "manager")]
    assert up.replaces(known) == ["--replace", "urn::machines-core-03"], "the engine itself takes it for made"


def answers(monkeypatch: pytest.MonkeyPatch, *given: tuple[int, str]) -> list[list[str]]:
    """Let a manager give these exit statuses and words, the last one for ever; the commands that it got."""
    commands: list[list[str]] = []

    def on_node(name: str, *command: str) -> subprocess.CompletedProcess[str]:
        commands.append([name, *command])
        code, words = given[min(len(commands), len(given)) - 1]
        return subprocess.CompletedProcess(command, code, words if code == 0 else "", words if code else "")

    monkeypatch.setattr(stack, "on_node", on_node)
    return commands


@pytest.mark.usefixtures("work")
def test_the_availability_of_members_is_asked_again_while_the_swarm_elects_a_leader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = answers(monkeypatch, (1, "the swarm does not have a leader"), (0, "core-01 Active\ncore-03 Drain\n"))
    assert up.members("core-01") == {"core-01": "Active", "core-03": "Drain"}
    assert len(commands) == 2


@pytest.mark.usefixtures("work")
def test_a_member_whose_name_is_not_known_yet_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, (0, " Active\ncore-01 Active\n"))
    assert up.members("core-01")["core-01"] == "Active"


@pytest.mark.usefixtures("work")
def test_a_swarm_that_goes_on_refusing_is_told_of_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "PATIENCE_SECONDS", 0)
    commands = answers(monkeypatch, (1, "the swarm does not have a leader\n"))
    with pytest.raises(ToolError) as refused:
        up.manage("core-01", "node", "ls")
    assert str(refused.value) == (
        "core-01 refuses `docker node ls`: the swarm does not have a leader; run again: make up"
    )
    assert commands == [["core-01", "docker", "node", "ls"]]


def elects(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Let managers elect a leader: they answer from the third question on. The commands that they got."""
    commands: list[tuple[str, ...]] = []

    def on_node(name: str, *command: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
        commands.append((name, *command))
        manages = name != "core-03" and commands.count((name, *command)) >= 3
        return subprocess.CompletedProcess(command, 0 if manages else 255, "active true\n", "")

    monkeypatch.setattr(stack, "on_node", on_node)
    return commands


def test_managers_of_a_swarm_that_elect_a_leader_are_waited_for(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elects(monkeypatch)
    assert stack.elected_manager(stack.nodes()) is None, "no swarm was started, so nobody elects"
    (work / "swarm").touch()
    assert stack.elected_manager(stack.nodes()[::-1]) == "core-02"


def test_repair_takes_an_election_for_no_lost_quorum(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "swarm").touch()
    commands = elects(monkeypatch)
    repair.form_again(dead=["core-01"])
    assert {command[1:] for command in commands} == {("docker", "node", "ls", "-q")}


def test_a_swarm_without_a_quorum_is_waited_for_no_longer_than_an_election_takes(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "swarm").touch()
    monkeypatch.setattr(stack, "ELECTION_SECONDS", 0)
    elects(monkeypatch)
    assert stack.elected_manager(stack.nodes()) is None


@pytest.mark.usefixtures("work")
def test_where_all_nodes_are_dead_nobody_forms_the_swarm_again(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = elects(monkeypatch)
    with pytest.raises(ToolError, match="no manager of the swarm is left to form it again"):
        repair.form_again(dead=["core-01", "core-02", "core-03"])
    assert commands == []


@pytest.mark.usefixtures("work")
def test_a_proxy_that_lets_wait_is_passed_over_and_given_longer_in_each_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def urlopen(url: str, timeout: float) -> Iterator[SimpleNamespace]:
        asked.append((url, timeout))
        if len(asked) < 8:
            raise urllib.error.URLError(TimeoutError("timed out"))
        yield SimpleNamespace(read=io.BytesIO(b"hello").read, headers={"X-Proxy": "b", "X-Backend": None})

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    up.show_page(["http://a/", "http://b/"])
    assert asked == [(f"http://{name}/", seconds) for seconds in (2, 4, 8, 10) for name in "ab"]
    assert "http://b/ answers (X-Proxy: b):\n\nhello" in capsys.readouterr().out

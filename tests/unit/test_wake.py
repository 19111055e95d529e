"""Before a run: nodes that answer with their Docker, and those that do not."""

import subprocess
import time
from pathlib import Path

import pytest

from components.contract import Step
from tests.unit.state import command, state
from tools import stack, wake
from tools.stack import NodeEntry, ToolError

NODES = "core-01 192.168.56.11 manager\ncore-02 192.168.56.12 manager\ncore-03 192.168.56.13 worker\n"
SILENT = (255, "ssh: connect to host 192.168.56.12 port 22: No route to host\n")
REJECTED = (255, "vagrant@192.168.56.12: Permission denied (publickey).\n")
CHANGED = (255, "@@@ REMOTE HOST IDENTIFICATION HAS CHANGED @@@\nHost key verification failed.\n")
DOCKERLESS = (3, "")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stack with three nodes."""
    (tmp_path / "nodes").write_text(NODES)
    monkeypatch.setattr(stack, "WORK", tmp_path)
    return tmp_path


def test_machines_that_are_half_created_or_half_removed_are_not_dead_nodes(work: Path) -> None:
    one, two, three = (command(Step.MACHINE, f"machines-core-0{n}", f"core-0{n}") for n in (1, 2, 3))
    # The old machine was removed, and the new one could not be created; the delete of the third was interrupted.
    known = state(one, two | {"pendingReplacement": True}, three)
    (work / "machines/core-01").mkdir(parents=True)
    (work / "machines/core-01/complete").touch()
    assert wake.created_entries(known) == [NodeEntry("core-01", "192.168.56.11", "manager")]
    assert wake.replaces(known) == ["--replace", three["urn"]], "for the engine, it exists"


def test_a_complete_machine_that_the_state_lost_is_a_created_node(work: Path) -> None:
    (work / "machines/core-01").mkdir(parents=True)
    (work / "machines/core-01/complete").touch()
    assert wake.created_entries({}) == [NodeEntry("core-01", "192.168.56.11", "manager")]


class Nodes:
    """Nodes that answer as planned, repeating the last answer; and their machines' power states."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[tuple[int, str]]] = {}
        self.power: dict[str, str] = {}
        self.starts: dict[str, tuple[int, str]] = {}
        self.done: list[str] = []
        monkeypatch.setattr(stack, "on_node", self.on_node)
        monkeypatch.setattr(stack, "power", self.ask_power)
        monkeypatch.setattr(time, "sleep", lambda _: None)

    def on_node(self, name: str, *command: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
        if command[0] == "bash":
            self.done.append(f"start docker on {name}")
            status, text = self.starts[name]
            return subprocess.CompletedProcess(command, status, text, "")
        planned = self.answers.get(name, [(0, "")])
        status, text = planned.pop(0) if len(planned) > 1 else planned[0]
        return subprocess.CompletedProcess(command, status, "", text)

    def ask_power(self, name: str, action: str) -> subprocess.CompletedProcess[str]:
        if action != "state":
            self.done.append(f"{action} {name}")
        return subprocess.CompletedProcess((), 0, self.power.get(name, "on") + "\n", "")


@pytest.fixture
def nodes(work: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    return Nodes(monkeypatch)


def test_nodes_that_answer_are_asked_once(nodes: Nodes) -> None:
    assert wake.wake(stack.nodes()) == {}
    assert nodes.done == []


def test_a_silent_node_is_dead_after_a_second_question(nodes: Nodes) -> None:
    nodes.answers["core-02"] = [SILENT]
    assert wake.wake(stack.nodes()) == {
        "core-02": "is unreachable (ssh: connect to host 192.168.56.12 port 22: No route to host)"
    }
    nodes.answers["core-02"] = [SILENT, (0, "")]
    assert wake.wake(stack.nodes()) == {}


def test_a_stopped_machine_is_started_and_waited_for(nodes: Nodes) -> None:
    nodes.answers["core-02"] = [SILENT, SILENT, SILENT, (0, "")]
    nodes.power["core-02"] = "off"
    assert wake.wake(stack.nodes()) == {}
    assert nodes.done == ["start core-02"]


def test_a_stopped_docker_is_started(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    nodes.answers["core-03"] = [DOCKERLESS]
    nodes.starts["core-03"] = (0, "its Docker had stopped; started it\n")
    assert wake.wake(stack.nodes()) == {}
    assert nodes.done == ["start docker on core-03"]
    assert capsys.readouterr().out == "core-03: its Docker had stopped; started it\n"


def test_a_node_is_dead_if_its_docker_is(nodes: Nodes) -> None:
    nodes.answers["core-03"] = [DOCKERLESS]
    nodes.starts["core-03"] = (1, "its Docker does not start: no space left on device\n")
    assert wake.wake(stack.nodes()) == {"core-03": "its Docker does not start: no space left on device"}


@pytest.mark.parametrize("answer", [REJECTED, CHANGED])
def test_a_node_that_rejects_the_login_is_not_dead(nodes: Nodes, answer: tuple[int, str]) -> None:
    nodes.answers["core-02"] = [answer]
    with pytest.raises(ToolError) as refused:
        wake.wake(stack.nodes())
    said = answer[1].strip().replace("\n", "; ")
    assert str(refused.value) == (
        f"core-02 answers and rejects the login: {said}\nnothing was touched; see what ssh says: make ssh NODE=core-02"
    )
    assert nodes.done == []


@pytest.mark.parametrize(("state", "done"), [("on", ["off core-02"]), ("off", []), ("none", []), ("unknown", [])])
def test_a_dead_machine_that_runs_is_powered_off(nodes: Nodes, state: str, done: list[str]) -> None:
    nodes.power["core-02"] = state
    wake.power_off("core-02")
    assert nodes.done == done

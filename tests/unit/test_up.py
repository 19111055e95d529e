"""`make up` around the engine's run: detection of dead nodes, their treatment, and queries to the swarm."""

import contextlib
import io
import re
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.contract import Step
from tests.unit.state import command, outputs, service, state
from tools import repair, stack, up, wake
from tools.observe import Finding
from tools.stack import ToolError

NODES = "core-01 192.168.56.11 manager\ncore-02 192.168.56.12 manager\ncore-03 192.168.56.13 worker\n"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stack with three nodes."""
    (tmp_path / "nodes").write_text(NODES)
    monkeypatch.setattr(stack, "WORK", tmp_path)
    return tmp_path


# --- excluded nodes ---


def excluded(known: stack.Resources, *names: str) -> set[str]:
    """Return the names of the resources excluded from the engine's run; each argument is a complete URN."""
    flags, urns = up.excludes(known, names)[::2], up.excludes(known, names)[1::2]
    assert set(flags) <= {"--exclude"}
    assert all(urn.startswith("urn:pulumi:dev::swarm-site::") and "*" not in urn for urn in urns)
    return {urn.rpartition("::")[2] for urn in urns}


def test_a_node_is_excluded_with_all_its_steps_and_nothing_else() -> None:
    steps = {Step.MACHINE: "machines", Step.CONTENT_DELIVERY: "content", Step.IMAGE_DELIVERY: "docs-image"}
    nodes = ("web", "my-web", "web-2")
    known = state(
        *(command(step, f"{name}-{node}", node) for step, name in steps.items() for node in nodes),
        command(Step.CLUSTER, "swarm-cluster"),
        service("web", {}),
        outputs(),
    )
    assert excluded(known, "web") == {"machines-web", "content-web", "docs-image-web"}
    assert excluded(known, "my-web") == {"machines-my-web", "content-my-web", "docs-image-my-web"}
    assert excluded(known, "web", "web-2") == {f"{name}-{node}" for name in steps.values() for node in ("web", "web-2")}
    assert excluded(known) == set()


def test_a_step_that_only_other_nodes_have_in_the_state_is_excluded_too() -> None:
    known = state(
        command(Step.MACHINE, "machines-core-01", "core-01"),
        command(Step.MACHINE, "machines-core-02", "core-02"),
        command(Step.PROXY_CONFIGURATION, "proxy-core-02", "core-02"),
    )
    assert excluded(known, "core-01") == {"machines-core-01", "proxy-core-01"}


@pytest.fixture
def swarm() -> dict[str, tuple[str, str]]:
    """By node: its status in the swarm, and the swarm state its Docker reports."""
    return {"core-01": ("Ready", "active "), "core-02": ("Ready", "active "), "core-03": ("Down", "")}


@pytest.fixture
def engine(work: Path, swarm: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A stack whose core-03 is dead and whose core-02 is back and drained; the actions of up, in order."""
    done: list[list[str]] = []
    nodes = ("core-01", "core-02", "core-03")
    known = state(
        *(command(Step.MACHINE, f"machine-{node}", node, PROVIDER="docker", SSH_CONFIG="") for node in nodes),
        *(command(Step.ACTIVATION, f"activation-{node}", node) for node in nodes),
        *(command(Step.IMAGE_DELIVERY, f"{image}-image-core-02", "core-02") for image in ("nginx", "docs")),
        outputs(proxy_urls=["http://192.168.56.12/", "http://192.168.56.13/"]),
    )
    for node in nodes:
        (work / "machines" / node).mkdir(parents=True)
        (work / "machines" / node / "complete").touch()
    (work / "key").touch()
    monkeypatch.setattr(stack, "recover", lambda: known)
    monkeypatch.setattr(stack, "resources", lambda: known)
    monkeypatch.setattr(stack, "run_again", lambda command: done.append(["again", stack.name_of(command)]))
    monkeypatch.setattr(wake, "wake", lambda _: {"core-03": "is unreachable (No route to host)"})
    monkeypatch.setattr(wake, "power_off", lambda name: done.append(["off", name]))
    monkeypatch.setattr(up, "show_page", lambda urls: done.append(["page", *urls]))

    def incomplete(dead: list[str], _: stack.Resources, urls: list[str]) -> list[Finding]:
        done.append(["checked", *dead, *urls])
        return []

    def pulumi(*arguments: str) -> int:
        done.append(["pulumi", *(argument.rpartition("::")[2] for argument in arguments)])
        return 0

    def on_node(name: str, *command: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
        listing = "core-01 Active\ncore-02 Drain\ncore-03 Active\n" if command[1:3] == ("node", "ls") else ""
        if command[-1] == "{{.Status}} {{.Hostname}}":
            listing = "".join(f"{status} {node}\n" for node, (status, _) in swarm.items())
        elif command[1:2] == ("info",):
            listing = swarm[name][1] + "\n"
        if "update" in command:
            done.append([name, *command])
        return subprocess.CompletedProcess(command, 0, listing, "")

    monkeypatch.setattr(up, "incomplete", incomplete)
    monkeypatch.setattr(stack, "pulumi", pulumi)
    monkeypatch.setattr(stack, "on_node", on_node)
    return done


def test_a_dead_node_is_drained_with_the_reason_and_excluded_and_a_returned_one_activated_last(
    engine: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert up.up() == 1
    drain = ["node", "update", "--availability", "drain", "--label-add"]
    reason = "swarm-site.drained=make up found it unreachable"
    exclude = [f"{step}-core-03" for step in ("activation", "docs-image", "machine", "nginx-image")]
    assert engine == [
        ["core-01", "docker", *drain, reason, "core-03"],
        ["off", "core-03"],
        ["pulumi", "up", "--yes", "--skip-preview", "--suppress-outputs", *flagged("--exclude", exclude)],
        ["again", "nginx-image-core-02"],
        ["again", "docs-image-core-02"],
        ["again", "activation-core-02"],
        ["page", "http://192.168.56.12/"],
        ["checked", "core-03", "http://192.168.56.12/"],
    ]
    line, last = capsys.readouterr().out.splitlines()[-2:]
    assert line == (
        "core-03: is unreachable (No route to host): drained and skipped; it catches up on the next make up"
    )
    assert re.fullmatch(r"up after \d+ s, except for: core-03", last)


def test_an_up_without_anything_missing_succeeds(
    engine: list[list[str]], swarm: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "wake", lambda _: {})
    swarm["core-03"] = ("Ready", "active ")
    assert up.up() == 0
    assert engine[-1] == ["checked", "http://192.168.56.12/", "http://192.168.56.13/"]


def test_what_is_missing_at_the_end_is_named(
    engine: list[list[str]],
    swarm: dict[str, tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(wake, "wake", lambda _: {})
    monkeypatch.setattr(up, "incomplete", lambda *_: [Finding("service backend", "runs 1 of 2 tasks")])
    swarm["core-03"] = ("Ready", "active ")
    assert up.up() == 1
    line, last = capsys.readouterr().out.splitlines()[-2:]
    assert line == "service backend: runs 1 of 2 tasks; make repair"
    assert last.endswith("except for: service backend")
    assert engine


def test_tasks_and_proxies_are_given_time_to_start(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [[Finding("service backend", "runs 1 of 2 tasks")], []]
    faults = {"http://a/": ["", "", ""], "http://b/": ["refused", "refused", ""]}
    waits: list[float] = []
    monkeypatch.setattr(stack, "living_manager", lambda entries: entries[0].name)
    monkeypatch.setattr(up, "task_findings", lambda *_: tasks.pop(0) if tasks else [])
    monkeypatch.setattr(up, "page_fault", lambda url: faults[url].pop(0))
    monkeypatch.setattr(time, "sleep", waits.append)
    assert up.incomplete([], {}, list(faults)) == []
    assert len(waits) == 2
    monkeypatch.setattr(up, "TASK_SECONDS", 0)
    monkeypatch.setattr(up, "page_fault", lambda url: "refused" if url == "http://b/" else "")
    assert [str(finding.part) for finding in up.incomplete([], {}, list(faults))] == ["http://b/"]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "error x509:\ncertificate has expired",
            "core-02: is not in this stack's swarm (error: x509: certificate has expired); make repair",
        ),
        (
            "locked Swarm is encrypted",
            "core-02: is not in this stack's swarm (locked: Swarm is encrypted); make ssh NODE=core-02, then: "
            "sudo docker swarm unlock; without its key: make repair",
        ),
        ("active ", "core-02: is not in this stack's swarm; make repair"),
    ],
)
def test_a_node_that_answers_and_is_out_of_its_swarm_is_named_at_the_end(
    engine: list[list[str]],
    swarm: dict[str, tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: str,
    line: str,
) -> None:
    monkeypatch.setattr(up, "RECONNECT_SECONDS", 0)
    swarm["core-02"] = ("Down", said)
    assert up.up() == 1
    assert not [step for step in engine if step[0] == "again"], "it is not activated out of its swarm"
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last[0] == line
    assert last[1].endswith("s, except for: core-03, core-02")


@pytest.mark.usefixtures("engine")
def test_a_locked_node_that_the_swarm_still_takes_for_ready_is_named(
    swarm: dict[str, tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    swarm["core-02"] = ("Ready", "locked Swarm is encrypted")
    assert up.up() == 1
    assert "core-02: is not in this stack's swarm (locked: Swarm is encrypted); " in capsys.readouterr().out


def test_a_node_that_died_during_the_run_is_named(
    engine: list[list[str]],
    swarm: dict[str, tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(up, "RECONNECT_SECONDS", 0)
    swarm["core-02"] = ("Down", "")
    assert up.up() == 1
    assert engine[-1][0] == "checked"
    assert "core-02: does not answer any more; make up\n" in capsys.readouterr().out


def test_a_node_that_connects_again_is_waited_for(
    engine: list[list[str]], swarm: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        swarm["core-02"] = ("Ready" if len(waits) == 3 else "Down", "active ")

    monkeypatch.setattr(time, "sleep", sleep)
    swarm["core-02"] = ("Down", "pending ")
    assert up.up() == 1
    assert len(waits) == 3
    assert ["again", "activation-core-02"] in engine


def test_a_node_that_a_new_leader_has_not_heard_of_yet_is_no_finding(
    engine: list[list[str]], swarm: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it is not waited for"))
    swarm["core-02"] = ("Unknown", "active ")
    up.up()
    assert engine[-1][0] == "checked"


def test_a_failed_run_names_the_nodes_that_docker_keeps_out_of_the_swarm(
    engine: list[list[str]],
    swarm: dict[str, tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    swarm |= {"core-01": ("Ready", "inactive "), "core-02": ("Down", "locked Swarm is encrypted")}
    monkeypatch.setattr(stack, "pulumi", lambda *_: 1)
    with pytest.raises(ToolError, match="make up failed"):
        up.up()
    assert engine[-1][0] == "off"
    lines = [line for line in capsys.readouterr().out.splitlines() if "swarm" in line]
    assert len(lines) == 1
    assert lines[0].startswith("core-02: is not in this stack's swarm (locked: Swarm is encrypted); ")


def flagged(flag: str, values: list[str]) -> list[str]:
    return [argument for value in values for argument in (flag, value)]


# --- a swarm that refuses, and one electing a leader ---


def answers(monkeypatch: pytest.MonkeyPatch, *given: tuple[int, str]) -> list[list[str]]:
    """Let a manager return these exit statuses and outputs, repeating the last one; return the commands it received."""
    commands: list[list[str]] = []

    def on_node(name: str, *command: str) -> subprocess.CompletedProcess[str]:
        commands.append([name, *command])
        code, output = given[min(len(commands), len(given)) - 1]
        return subprocess.CompletedProcess(command, code, output if code == 0 else "", output if code else "")

    monkeypatch.setattr(stack, "on_node", on_node)
    return commands


@pytest.mark.usefixtures("work")
def test_the_members_are_asked_for_again_while_the_swarm_elects_a_leader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = answers(monkeypatch, (1, "the swarm does not have a leader"), (0, "core-01 Active\ncore-03 Drain\n"))
    assert up.members("core-01") == {"core-01": "Active", "core-03": "Drain"}
    assert len(commands) == 2


@pytest.mark.usefixtures("work")
def test_a_member_without_a_name_yet_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, (0, " Active\ncore-01 Active\n"))
    assert up.members("core-01")["core-01"] == "Active"


@pytest.mark.usefixtures("work")
def test_a_swarm_that_keeps_refusing_is_an_error_with_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "RETRY_SECONDS", 0)
    commands = answers(monkeypatch, (1, "the swarm does not have a leader\n"))
    with pytest.raises(ToolError) as refused:
        up.manage("core-01", "node", "ls")
    assert str(refused.value) == (
        "`docker node ls` failed on core-01: the swarm does not have a leader; run again: make up"
    )
    assert commands == [["core-01", "docker", "node", "ls"]]


def elects(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Let managers elect a leader: they answer from the third request on. Return the commands they received."""
    commands: list[tuple[str, ...]] = []

    def on_node(name: str, *command: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
        commands.append((name, *command))
        manages = name != "core-03" and commands.count((name, *command)) >= 3
        return subprocess.CompletedProcess(command, 0 if manages else 255, "active true\n", "")

    monkeypatch.setattr(stack, "on_node", on_node)
    return commands


def test_an_election_of_a_leader_is_waited_for(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elects(monkeypatch)
    assert stack.elected_manager(stack.nodes()) is None, "no swarm was started, so nobody elects"
    (work / "swarm").touch()
    assert stack.elected_manager(stack.nodes()[::-1]) == "core-02"


def test_repair_does_not_take_an_election_for_a_lost_quorum(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "swarm").touch()
    commands = elects(monkeypatch)
    repair.recreate_swarm(dead=["core-01"])
    assert {command[1:] for command in commands} == {("docker", "node", "ls", "-q")}


def test_a_swarm_without_a_quorum_is_waited_for_no_longer_than_an_election_takes(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "swarm").touch()
    monkeypatch.setattr(stack, "ELECTION_SECONDS", 0)
    elects(monkeypatch)
    assert stack.elected_manager(stack.nodes()) is None


@pytest.mark.usefixtures("work")
def test_where_all_nodes_are_dead_no_swarm_is_recreated(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = elects(monkeypatch)
    with pytest.raises(ToolError, match=r"^no swarm manager is left to re-create the swarm from; "):
        repair.recreate_swarm(dead=["core-01", "core-02", "core-03"])
    assert commands == []


@pytest.mark.usefixtures("work")
def test_a_slow_proxy_is_skipped_and_gets_more_time_in_each_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def urlopen(url: str, timeout: float) -> Iterator[SimpleNamespace]:
        asked.append((url, timeout))
        if len(asked) < 8:
            raise urllib.error.URLError(TimeoutError("timed out"))
        yield SimpleNamespace(read=io.BytesIO(b"hello").read, headers={"X-Proxy": "b", "X-Backend": None})

    monkeypatch.setattr(stack.DIRECTLY, "open", urlopen)
    up.show_page(["http://a/", "http://b/"])
    rounds = [(f"http://{name}/.swarm-site/health", seconds) for seconds in (2, 4, 8, 10) for name in "ab"]
    assert asked == [*rounds, ("http://b/", 10)]
    assert capsys.readouterr().out == "\nhttp://b/ answers (X-Proxy: b):\n\nhello\n\n"


@pytest.mark.usefixtures("work")
def test_a_site_without_a_first_page_is_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @contextlib.contextmanager
    def urlopen(url: str, timeout: float) -> Iterator[None]:
        if url == "http://a/":
            headers = Message()
            headers["X-Backend"] = "core-01"
            raise urllib.error.HTTPError(url, 404, "Not Found", headers, io.BytesIO(b"<h1>not here</h1>\n"))
        yield

    monkeypatch.setattr(stack.DIRECTLY, "open", urlopen)
    up.show_page(["http://a/"])
    assert capsys.readouterr().out == (
        "\nhttp://a/ answers 404 Not Found (X-Backend: core-01):\n\n<h1>not here</h1>\n\n"
    )


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", ""),
        (b"<h1>hello</h1>\n", "<h1>hello</h1>"),
        ("ünï\tcödé\r\n".encode(), "ünï     cödé"),
        (b"\x1b[2J\x1b]0;title\x07red\x9b31m\n", "[2J]0;titlered\ufffd31m"),
        ("a\u202eb\u200bc\x85d".encode(), "abc\nd"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "(not a text)"),
        (b"x" * 200_000, "x" * 120),
        (b"line\n" * 10, "\n".join(["line"] * 10)),
        (b"line\n" * 11, "\n".join(["line"] * 10 + ["\u2026"])),
    ],
)
def test_a_page_is_shown_by_its_first_lines_without_what_a_terminal_obeys(body: bytes, shown: str) -> None:
    assert up.excerpt(body) == shown

"""Output of `make status` for an observation."""

import json
import sys
from dataclasses import replace

import pytest

from tools import status
from tools.observe import Finding, Member, Observation
from tools.stack import NodeEntry
from tools.status import show

RELEASE = "3fa05e9301c5"
MESSAGE = "nginx says [emerg] bind() to [::]:80 failed [/srv/swarm-site]"
DRAINED = "make up found it unreachable"


def seen(*names: str, findings: tuple[Finding, ...] = ()) -> Observation:
    return Observation(
        entries=[NodeEntry(name=name, address="192.168.156.111", role="manager") for name in names],
        resources={},
        outputs={},
        facts={names[0]: {"release": RELEASE}},
        members={name: Member(name, "Ready", "Active", "Leader") for name in names},
        services={"backend": ["backend", f"{len(names)}/{len(names)}"]},
        tasks=[[f"{service}.1", name, "Running 2 minutes ago"] for name in names for service in ("backend", "proxy")],
        pages={"http://192.168.156.111/": ""},
        findings=list(findings),
    )


def shown(capsys: pytest.CaptureFixture[str], what: Observation) -> list[str]:
    show(what)
    return capsys.readouterr().out.splitlines()


def test_a_nodes_line_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, seen("core-01"))
    assert lines[2].split("  ") == ["core-01", "192.168.156.111", "manager", "ready, active", "backend, proxy", RELEASE]
    assert max(map(len, lines)) <= 80


def test_no_name_is_truncated_however_long_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"a-name-of-thirty-characters-{number:02}" for number in range(1, 8)]
    text = "\n".join(shown(capsys, seen(*names)))
    assert "…" not in text
    assert ", ".join(names) in text
    assert text.count("does not answer") == 6


def test_a_finding_is_one_line_with_its_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("proxy", MESSAGE * 12, "make repair NODE=core-01")
    assert f"proxy: {MESSAGE * 12}; make repair NODE=core-01" in shown(capsys, seen("core-01", findings=(finding,)))


def test_the_last_line_is_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    healthy = seen("core-01")
    assert shown(capsys, healthy)[-1] == "stack dev: healthy at http://192.168.156.111/"
    degraded = seen("core-01", findings=(Finding("core-02", "does not answer"),))
    assert shown(capsys, degraded)[-1] == "stack dev: degraded at http://192.168.156.111/"
    healthy.pages = {"http://192.168.156.111/": "connection refused"}
    assert shown(capsys, healthy)[-1] == "stack dev: down"


def drained() -> Observation:
    """Two drained nodes, of which only the first answers."""
    result = seen("core-01", "core-02")
    for name, member in result.members.items():
        result.members[name] = replace(member, availability="Drain", drained=DRAINED)
    return result


def test_a_drained_node_is_shown_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, drained())
    assert f"ready, drain, {DRAINED}  " in lines[2]
    assert "  does not answer  " in lines[3]


def test_json_has_the_reason_of_each_drained_node_whether_or_not_it_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    observation = drained()
    observation.entries.append(NodeEntry("core-03", "192.168.156.113", "worker"))
    monkeypatch.setattr(status, "observe", lambda: observation)
    monkeypatch.setattr(sys, "argv", ["status", "--json"])
    assert status.status() == observation.code
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert {name: (node["answers"], node["drained"]) for name, node in nodes.items()} == {
        "core-01": (True, DRAINED),
        "core-02": (False, DRAINED),
        "core-03": (False, ""),
    }

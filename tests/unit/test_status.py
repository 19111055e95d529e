"""What `make status` shows of what was seen."""

import pytest

from tools.observe import Finding, Observation
from tools.stack import NodeEntry
from tools.status import show

RELEASE = "3fa05e9301c5"
WORDS = "nginx says [emerg] bind() to [::]:80 failed [/srv/swarm-site]"


def seen(*names: str, findings: tuple[Finding, ...] = ()) -> Observation:
    return Observation(
        entries=[NodeEntry(name=name, address="192.168.156.111", role="manager") for name in names],
        resources={},
        outputs={},
        facts={names[0]: {"release": RELEASE}},
        nodes={name: [name, "Ready", "Active", "Leader"] for name in names},
        services={"backend": ["backend", f"{len(names)}/{len(names)}"]},
        tasks=[[f"{service}.1", name, "Running 2 minutes ago"] for name in names for service in ("backend", "proxy")],
        pages={"http://192.168.156.111/": ""},
        findings=list(findings),
    )


def shown(capsys: pytest.CaptureFixture[str], what: Observation) -> list[str]:
    show(what)
    return capsys.readouterr().out.splitlines()


def test_a_line_a_node_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, seen("core-01"))
    assert lines[2].split("  ") == ["core-01", "192.168.156.111", "manager", "ready, active", "backend, proxy", RELEASE]
    assert max(map(len, lines)) <= 80


def test_nothing_is_cut_off_however_long_the_names_are(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"a-name-of-thirty-characters-{number:02}" for number in range(1, 8)]
    text = "\n".join(shown(capsys, seen(*names)))
    assert "…" not in text
    assert ", ".join(names) in text
    assert text.count("does not answer") == 6


def test_a_finding_is_one_line_with_its_words_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("proxy", WORDS * 12, "make repair NODE=core-01")
    assert f"proxy: {WORDS * 12}; make repair NODE=core-01" in shown(capsys, seen("core-01", findings=(finding,)))


def test_the_last_line_is_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = "stack dev: all is as it should be at http://192.168.156.111/"
    assert shown(capsys, seen("core-01"))[-1] == verdict

"""What the tools do with a stack's state on this machine."""

import json
from pathlib import Path

import pytest

from tools import stack


def test_half_written_files_of_a_killed_run_are_taken_away_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}?metadata=skip")
    monkeypatch.setattr(stack, "STACK", "dev")
    states = tmp_path / ".pulumi/stacks" / stack.PROJECT
    states.mkdir(parents=True)
    (states / "dev.json").write_text(json.dumps({"checkpoint": {"latest": None}}))
    for name in ("dev.json.bak", "dev.json.attrs", "dev.json.18ea.tmp", "dev.json.bak.18eb.tmp", "dev2.json.18ec.tmp"):
        (states / name).touch()

    assert stack.recover() == {}
    assert sorted(path.name for path in states.iterdir()) == [
        "dev.json",
        "dev.json.attrs",
        "dev.json.bak",
        "dev2.json.18ec.tmp",
    ]

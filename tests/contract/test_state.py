"""The tools' changes to state files written by the real engine."""

import json

import pytest

from tests.contract.replay import STACK, NewStage
from tools import stack


def test_history_and_backups_of_old_runs_are_removed_and_the_engine_goes_on(
    bundled_stage: NewStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = bundled_stage("history")
    for name in ("PACKAGE", "STACK"):
        monkeypatch.setattr(stack, name, STACK)
    monkeypatch.setattr(stack, "KEPT_RUNS", 2)
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{stage.folder}/state")
    for _ in range(3):
        assert stage.run("up").exit == 0

    stack.prune_history()

    assert len(json.loads(stage.pulumi("stack", "history", "--json").stdout)) == 2
    backups = [path for path in (stage.folder / "state/.pulumi/backups").rglob("*.json") if path.is_file()]
    assert len(backups) == 2
    assert stage.run("up").exit == 0

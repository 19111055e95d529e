"""The tools' changes to state files written by the real engine."""

import errno
import json
import os
from pathlib import Path

import pytest

from tests.contract.replay import STACK, NewStage, Stage
from tools import stack, state


@pytest.fixture
def interrupted(
    bundled_stage: NewStage, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[Stage, Path]:
    """A stack whose last run was cut off, and its state file."""
    stage = bundled_stage(request.node.name)
    for module in (stack, state):
        monkeypatch.setattr(module, "PACKAGE", STACK)
    monkeypatch.setattr(stack, "STACK", STACK)
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{stage.folder}/state")
    assert stage.run("up").exit == 0
    (path,) = (stage.folder / "state/.pulumi/stacks").rglob(f"{STACK}.json")
    document = json.loads(path.read_text())
    latest = document["checkpoint"]["latest"]
    latest["pending_operations"] = [{"resource": latest["resources"][-1], "type": "updating"}]
    path.write_text(json.dumps(document))
    return stage, path


def test_the_list_of_pending_operations_is_dropped_and_the_engine_goes_on(interrupted: tuple[Stage, Path]) -> None:
    stage, path = interrupted
    known = stack.recover()
    assert known
    assert "pending_operations" not in path.read_text()
    assert stack.recover() == known
    assert stage.run("up").exit == 0


def test_a_full_disk_leaves_the_state_as_it_was(
    interrupted: tuple[Stage, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = interrupted
    before = path.read_text()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(stack.ToolError) as refused:
        stack.recover()
    assert str(refused.value) == (
        f"can't write the state {path}: No space left on device; make room and run this again"
    )
    assert path.read_text() == before
    assert not list(path.parent.glob("*.tmp"))


def test_history_and_backups_of_old_runs_are_removed_and_the_engine_goes_on(
    bundled_stage: NewStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = bundled_stage("history")
    monkeypatch.setattr(state, "PACKAGE", STACK)
    monkeypatch.setattr(state, "KEPT_RUNS", 2)
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{stage.folder}/state")
    for _ in range(3):
        assert stage.run("up").exit == 0

    state.prune_history(STACK)

    assert len(json.loads(stage.pulumi("stack", "history", "--json").stdout)) == 2
    backups = [path for path in (stage.folder / "state/.pulumi/backups").rglob("*.json") if path.is_file()]
    assert len(backups) == 2
    assert stage.run("up").exit == 0


def test_the_engine_goes_on_from_a_restored_checkpoint(
    bundled_stage: NewStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = bundled_stage("restored")
    monkeypatch.setattr(state, "PACKAGE", STACK)
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{stage.folder}/state")
    assert stage.run("up").exit == 0
    (path,) = state.files(STACK)
    path.write_text(path.read_text()[:200])
    assert stage.run("up").exit != 0

    assert "restored its checkpoint" in state.restore(STACK)

    again = stage.run("up")
    assert (again.exit, again.steps) == (0, [])

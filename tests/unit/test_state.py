"""The engine's state files on this machine: read, restored after damage, pruned, forgotten."""

import errno
import gzip
import json
import os
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.contract import PACKAGE
from tools import stack, state
from tools.steps import ToolError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the states, with its subfolders for the project; stack `dev` is selected."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}?metadata=skip")
    monkeypatch.setattr(stack, "STACK", "dev")
    for name in (f"stacks/{PACKAGE}", f"history/{PACKAGE}/dev", f"backups/{PACKAGE}/dev"):
        (tmp_path / ".pulumi" / name).mkdir(parents=True)
    return tmp_path / ".pulumi"


def checkpoint(name: str) -> bytes:
    """Return a state with one resource."""
    resource = {"urn": f"urn:pulumi:dev::{PACKAGE}::command:local:Command::{name}", "type": "command:local:Command"}
    return json.dumps({"version": 3, "checkpoint": {"stack": "dev", "latest": {"resources": [resource]}}}).encode()


def put(path: Path, data: bytes, when: int) -> Path:
    """Write a file with a modification time."""
    path.write_bytes(data)
    os.utime(path, (when, when))
    return path


COPIES = {
    "bak": f"stacks/{PACKAGE}/dev.json.bak",
    "history": f"history/{PACKAGE}/dev/dev-1790000000000000000.checkpoint.json",
    "backup": f"backups/{PACKAGE}/dev/dev.1790000000000000000.json",
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "zeros": lambda data: b"\0" * len(data),
    "not a state": lambda _: b"[]",
    "no checkpoint": lambda _: b'{"version": 3}',
    "not text": lambda _: b"\xff\xfe\x00",
    "cut off, compressed": lambda data: gzip.compress(data)[:-9],
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_replaced_by_the_newest_valid_checkpoint(folder: Path, damage: str, copy: str) -> None:
    path = put(folder / f"stacks/{PACKAGE}/dev.json", DAMAGES[damage](checkpoint("lost")), 900)
    for age, (name, place) in enumerate(COPIES.items()):
        put(folder / place, checkpoint(name) if name == copy else b"", 800 - age)
    put(folder / f"history/{PACKAGE}/dev/dev-1.checkpoint.json", checkpoint("old"), 100)
    broken = path.read_bytes()

    notice = state.restore("dev")

    assert notice.startswith("the state of stack dev is damaged; restored its checkpoint of 1970-01-01 ")
    assert notice.endswith(str(folder / COPIES[copy]))
    assert path.read_bytes() == checkpoint(copy)
    assert path.with_name("dev.json.damaged").read_bytes() == broken
    assert state.restore("dev") == "", "what is valid stays"
    assert list(stack.recover()) == [f"urn:pulumi:dev::{PACKAGE}::command:local:Command::{copy}"]


def test_a_missing_state_is_restored_if_the_stack_has_a_history(folder: Path) -> None:
    put(folder / COPIES["bak"], checkpoint("bak"), 800)
    assert state.restore("dev") == "", "`pulumi stack rm` leaves a .bak, and no history"
    put(folder / COPIES["history"], checkpoint("history"), 900)
    assert state.restore("dev").startswith("the state of stack dev is missing; restored its checkpoint of ")
    assert (folder / f"stacks/{PACKAGE}/dev.json").read_bytes() == checkpoint("history")


def test_a_new_stack_lacks_nothing(folder: Path) -> None:
    shutil.rmtree(folder)
    assert state.restore("dev") == ""
    assert not folder.exists()


def test_without_a_valid_checkpoint_the_stack_begins_again(folder: Path) -> None:
    path = put(folder / f"stacks/{PACKAGE}/dev.json", b"{", 900)
    put(folder / COPIES["bak"], b"", 800)
    assert state.restore("dev") == (
        "the state of stack dev is damaged, and there is no valid checkpoint of it; "
        "the stack begins again without resources"
    )
    assert not path.exists()
    assert path.with_name("dev.json.damaged").read_bytes() == b"{"


def test_a_compressed_state_is_read_restored_and_written(folder: Path) -> None:
    path = put(folder / f"stacks/{PACKAGE}/dev.json.gz", b"", 900)
    put(folder / COPIES["history"], b"", 800)
    put(folder / f"history/{PACKAGE}/dev/dev-1.checkpoint.json.gz", gzip.compress(checkpoint("lost")), 100)
    assert "restored" in state.restore("dev")
    assert len(stack.recover()) == 1
    document = state.read(path)
    assert document
    document["checkpoint"]["latest"]["pending_operations"] = [{"type": "creating"}]
    state.write(path, document)
    assert len(stack.recover()) == 1
    assert b"pending_operations" not in gzip.decompress(path.read_bytes())
    assert sorted(found.name for found in path.parent.iterdir()) == ["dev.json.gz", "dev.json.gz.damaged"]


def test_other_stacks_are_left_alone(folder: Path) -> None:
    other = put(folder / f"stacks/{PACKAGE}/dev.json2.json", b"", 900)
    put(folder / f"stacks/{PACKAGE}/dev.json", checkpoint("own"), 900)
    assert state.restore("dev") == ""
    assert other.read_bytes() == b""


def test_a_full_disk_leaves_a_damaged_state_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(folder / f"stacks/{PACKAGE}/dev.json", b"{", 900)
    put(folder / COPIES["bak"], checkpoint("bak"), 800)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ToolError, match="No space left on device; make room and run"):
            state.restore("dev")
    assert path.read_bytes() == b"{"
    assert "restored" in state.restore("dev"), "nothing was lost"


def test_a_run_needs_room_for_its_states(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    path = folder / f"stacks/{PACKAGE}/dev.json"
    put(path, checkpoint("own"), 900)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 16 * 2**20))
    assert stack.recover()
    path.write_text(json.dumps({"checkpoint": {"latest": None, "padding": "x" * 2**20}}))
    with pytest.raises(ToolError) as refused:
        stack.recover()
    assert str(refused.value) == (
        f"the disk of the state {folder} has 16 MB left, and a run needs 20 MB; nothing was touched; "
        "make room and run this again"
    )


def test_a_damaged_lock_is_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = folder / f"locks/organization/{PACKAGE}/dev/1.json"
    lock.parent.mkdir(parents=True)
    lock.touch()
    put(folder / f"stacks/{PACKAGE}/dev.json", checkpoint("own"), 900)
    assert stack.recover()
    assert not lock.exists()
    assert capsys.readouterr().out == f"removed a damaged lock: {lock}\n"


def test_nothing_of_a_removed_stack_is_left(folder: Path) -> None:
    for place in (*COPIES.values(), f"stacks/{PACKAGE}/dev.json.damaged", f"stacks/{PACKAGE}/dev2.json.damaged"):
        put(folder / place, b"", 900)
    state.forget("dev")
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {COPIES["bak"], f"stacks/{PACKAGE}/dev2.json.damaged"}, "pulumi itself removes the .bak"


def test_half_written_files_of_a_killed_run_are_removed_and_no_others(folder: Path) -> None:
    states = folder / "stacks" / PACKAGE
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


def test_history_and_backups_of_the_ten_newest_runs_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endings = {"history": ("-{}.history.json", "-{}.checkpoint.json.attrs"), "backups": (".{}.json", ".{}.json.attrs")}
    for kind, names in endings.items():
        runs = folder / kind / PACKAGE / "dev"
        for number in range(995, 1010):
            for name in names:
                (runs / f"dev{name.format(number)}").touch()
        (runs / "a user's own").touch()
    monkeypatch.setattr(subprocess, "Popen", lambda *_: SimpleNamespace(wait=lambda: 3))

    assert stack.pulumi("up") == 3

    for kind, names in endings.items():
        left = {path.name for path in (folder / kind / PACKAGE / "dev").iterdir()}
        newest = {f"dev{name.format(number)}" for number in range(1000, 1010) for name in names}
        assert left == newest | {"a user's own"}

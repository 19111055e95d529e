"""The stack's folder before a run: what follows from the state, and what a rebuild needs."""

import subprocess
from pathlib import Path

import pytest

from components.contract import Step
from tests.unit.state import command, state
from tools import folder, images, stack
from tools.stack import Resources, ToolError

NODES = "core-01 192.0.2.11 manager\ncore-02 192.0.2.12 worker"


def known(provider: str = "docker") -> Resources:
    """Return the state of a stack of two nodes."""
    return state(
        command(Step.STACK_FOLDER, "workshop", PROVIDER=provider, NODES=NODES, SSH_CONFIG="Host swarm-manager\n"),
        command(Step.BOX, "box", IMAGE="localhost/site/node:1"),
        command(Step.IMAGE, "nginx", IMAGE="localhost:1/site-nginx:1"),
        *(
            command(Step.MACHINE, f"machine-{name}", name, PROVIDER=provider, SSH_CONFIG=f"Host {name}\n")
            for name in ("core-01", "core-02")
        ),
        command(Step.CLUSTER, "cluster"),
    )


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a stack's folder that does not exist; its machines run."""
    folder = tmp_path / "work" / "dev"
    monkeypatch.setattr(stack, "WORK", folder)
    monkeypatch.setattr(stack, "power", lambda *_: subprocess.CompletedProcess((), 0, "on\n", ""))
    return folder


def files(work: Path) -> dict[str, str]:
    return {str(path.relative_to(work)): path.read_text() for path in work.rglob("*") if path.is_file()}


def test_a_lost_folder_is_written_again_but_for_what_only_this_machine_had(work: Path) -> None:
    folder.derive(known())
    assert files(work) == {
        "provider": "docker\n",
        "nodes": f"{NODES}\n",
        "ssh_config": "Host swarm-manager\n",
        "machines/core-01/ssh_config": "Host core-01\n",
        "machines/core-01/complete": "",
        "machines/core-02/ssh_config": "Host core-02\n",
        "machines/core-02/complete": "",
        "swarm": "",
        "complete": "",
    }
    assert stack.provider() == "docker"
    assert [entry.name for entry in stack.nodes()] == ["core-01", "core-02"]


def test_derived_files_are_written_over_old_ones_and_marks_of_known_machines_stay(work: Path) -> None:
    (work / "machines/core-01").mkdir(parents=True)
    (work / "machines/core-01/ssh_config").write_text("Host old\n")
    (work / "nodes").write_text("old 192.0.2.1 manager\n")
    folder.derive(known())
    assert files(work)["machines/core-01/ssh_config"] == "Host core-01\n"
    assert files(work)["nodes"] == f"{NODES}\n"
    assert "machines/core-01/complete" not in files(work), "its creation or removal was interrupted"


def test_a_machine_that_is_gone_is_not_complete(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "power", lambda *_: subprocess.CompletedProcess((), 0, "none\n", ""))
    folder.derive(known())
    assert "machines/core-01/complete" not in files(work)


def hosts(monkeypatch: pytest.MonkeyPatch, **answers: int) -> None:
    """Let hosts answer the question whether they are adopted with these exit statuses; `_` stands for a hyphen."""

    def on_node(name: str, *command: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, answers[name.replace("-", "_")], "", "")

    monkeypatch.setattr(stack, "on_node", on_node)


@pytest.mark.parametrize(
    ("answer", "before", "after"),
    [
        (folder.ADOPTED, False, True),
        (folder.ADOPTED, True, True),
        (folder.HALF, True, False),
        (folder.FREE, True, False),
        (255, True, True),
        (255, False, True),
    ],
)
def test_a_host_tells_whether_it_is_adopted(
    work: Path, monkeypatch: pytest.MonkeyPatch, answer: int, before: bool, after: bool
) -> None:
    hosts(monkeypatch, core_01=answer, core_02=folder.ADOPTED)
    if before:
        (work / "machines/core-01").mkdir(parents=True)
        (work / "machines/core-01/complete").touch()
    folder.derive(known("ssh"))
    assert ("machines/core-01/complete" in files(work)) == after
    assert "machines/core-01/adopted" in files(work), "it may have something to give back"
    assert "machines/core-02/complete" in files(work)


@pytest.mark.parametrize(
    ("answer", "stays"), [(folder.FREE, False), (folder.HALF, True), (folder.ADOPTED, True), (255, True)]
)
def test_a_host_that_another_machine_gave_back_is_forgotten(
    work: Path, monkeypatch: pytest.MonkeyPatch, answer: int, stays: bool
) -> None:
    hosts(monkeypatch, core_01=folder.ADOPTED, core_02=folder.ADOPTED, core_03=answer)
    (work / "machines/core-03").mkdir(parents=True)
    (work / "machines/core-03/adopted").touch()
    folder.derive(known("ssh"))
    assert (work / "machines/core-03").exists() == stays


def test_the_identity_is_the_states(work: Path) -> None:
    identity = command(Step.IDENTITY, "identity") | {"outputs": {"stdout": "ID ann@laptop"}}
    folder.derive(known() | state(identity))
    assert files(work)["identity"] == "ID ann@laptop\n"
    with pytest.raises(ToolError) as refused:
        folder.require_key(known() | state(identity))
    assert str(refused.value) == (
        "the machines of stack dev were created by ann@laptop and exist only there; "
        "here, only previews work: make preview"
    )


def test_an_empty_state_changes_nothing(work: Path) -> None:
    folder.derive({})
    folder.require_key({})
    assert not work.exists()


def test_without_the_key_nothing_is_begun(work: Path) -> None:
    with pytest.raises(ToolError) as refused:
        folder.require_key(known())
    assert str(refused.value) == (
        f"{work}/key is missing, and without this key no machine of stack dev can be reached or rebuilt; "
        "nothing was touched; restore it from a backup, or run: make down, then make up"
    )
    folder.require_key(known("ssh"))
    work.mkdir(parents=True)
    (work / "key").touch()
    folder.require_key(known())


def test_a_missing_box_or_archive_is_provided_before_a_rebuild(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[str] = []
    present: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(stack, "run_again", lambda command: again.append(stack.name_of(command)))
    monkeypatch.setattr(
        subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, int(words[-1] not in present))
    )
    folder.provide_sources(known(), Step.BOX)
    assert again == ["box"]
    folder.provide_sources(known(), Step.BOX, Step.IMAGE)
    assert again == ["box", "box", "nginx"]
    present.append("localhost/site/node:1")
    archive = images.archive_of("localhost:1/site-nginx:1", {"XDG_CACHE_HOME": str(tmp_path)})
    archive.parent.mkdir(parents=True)
    archive.touch()
    folder.provide_sources(known(), Step.BOX, Step.IMAGE)
    assert again == ["box", "box", "nginx"]


def test_the_box_of_virtual_machines_is_vagrants(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[str] = []
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path))
    monkeypatch.setattr(stack, "run_again", lambda command: again.append(stack.name_of(command)))
    box = state(command(Step.BOX, "box", IMAGE="localhost/site/machine:1", PROVIDER="libvirt"))
    folder.provide_sources(box, Step.BOX)
    (tmp_path / "boxes/swarm-site-dev").mkdir(parents=True)
    folder.provide_sources(box, Step.BOX)
    assert again == ["box"]


def test_a_folder_without_authorized_keys_is_made_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[str] = []
    monkeypatch.setattr(stack, "run_again", lambda command: again.append(stack.name_of(command)))
    folder.provide_sources(known(), Step.STACK_FOLDER)
    (work / "authorized_keys").mkdir(parents=True)
    folder.provide_sources(known(), Step.STACK_FOLDER)
    assert again == ["workshop"]

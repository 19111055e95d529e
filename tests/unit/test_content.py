"""A release of the content folder on every node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import content
from components.content import Content, ContentArgs
from components.release import release_hash
from components.settings import ContentSettings, Node
from tests.unit.harness import COMMAND, Run, machines, nodes, run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The content folder of a test project."""
    monkeypatch.setattr(content, "PROJECT", tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("hello\n")
    return tmp_path / "site"


def made(planned: Sequence[Node], *names: str, **settings: Any) -> Run:
    def body() -> Any:
        args = ContentArgs(settings=ContentSettings(**settings), machines=machines(planned))
        components = [Content(name, args) for name in names or ("content",)]
        return [
            {
                "release": component.release,
                "mount": component.mount,
                "elsewhere": component.elsewhere,
                "delivered": {name: resource.id for name, resource in component.delivered.items()},
            }
            for component in components
        ]

    return run(body)


def test_there_is_a_delivery_and_a_switch_a_node() -> None:
    result = made(nodes(2))
    assert result.inventory("content") == {
        ("swarm-site:index:Content", "content"),
        (COMMAND, "content-core-01"),
        (COMMAND, "content-core-02"),
        (COMMAND, "content-switch-core-01"),
        (COMMAND, "content-switch-core-02"),
    }
    assert {resource.parent for resource in result.within("content") if resource.name != "content"} == {"content"}


def test_a_release_is_delivered_by_its_hash(folder: Path) -> None:
    release = made(nodes(2), keep=7)["content-core-02"]
    assert (release.step, release.node) == ("content-delivery", "core-02")
    assert release.own == {"FOLDER": "site", "RELEASE": release_hash(folder), "KEEP": "7"}
    assert release.scripts == {"create": "content/deliver.sh"}
    assert release.timeouts["create"] == "1440m", "its length does not end a delivery"


def test_a_node_switches_once_all_nodes_have_the_release(folder: Path) -> None:
    switch = made(nodes(3), keep=7)["content-switch-core-02"]
    assert (switch.step, switch.node) == ("content-switch", "core-02")
    assert switch.own == {"RELEASE": release_hash(folder), "KEEP": "7"}
    assert switch.scripts == {"create": "content/switch.sh"}
    assert switch.inputs["triggers"] == ["machine-core-02-id"]
    assert switch.dependencies - {"machine-core-02"} == {f"content-core-0{number}" for number in (1, 2, 3)}


def test_another_release_runs_the_script_again_and_replaces_nothing(folder: Path) -> None:
    before = made(nodes(1))["content-core-01"]
    (folder / "index.html").write_text("changed\n")
    after = made(nodes(1))["content-core-01"]
    assert before.environment["RELEASE"] != after.environment["RELEASE"]
    assert before.inputs["triggers"] == after.inputs["triggers"] == ["machine-core-01-id"]


def test_a_release_waits_for_its_machine_and_for_no_other() -> None:
    assert made(nodes(2))["content-core-02"].dependencies == {"machine-core-02"}


def test_what_stays_here_is_named_once_and_no_part_of_the_release(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", lambda text, _: told.append(text))
    before = made(nodes(2))["content-core-02"].own
    assert told == []
    (folder / ".env").write_text("SECRET")
    assert made(nodes(2))["content-core-02"].own == before
    assert told == ["site: not published (hidden names, editors' leftovers): .env"]


def test_it_hands_on_release_and_mount(folder: Path) -> None:
    result = made(nodes(2))
    assert result.returned == [
        {
            "release": release_hash(folder),
            "mount": "/srv/swarm-site/content",
            "elsewhere": ["next", "previous/1", "previous/2", "previous/3", "previous/4"],
            "delivered": {"core-01": "content-core-01-id", "core-02": "content-core-02-id"},
        }
    ]
    assert result.outputs["content"] == {"release": release_hash(folder), "mount": "/srv/swarm-site/content"}


def test_two_contents_stand_side_by_side() -> None:
    assert {name for _, name in made(nodes(1), "left", "right").inventory("left")} == {
        "left",
        "left-core-01",
        "left-switch-core-01",
    }

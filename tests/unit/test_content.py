"""A release of the content folder on every node."""

from collections.abc import Sequence
from typing import Any

from components.config import Node
from components.content import Content, ContentArgs
from components.rendering import render
from tests.unit.harness import COMMAND, WORK, Run, machines, nodes, run

RELEASE = "0123456789abcdef" * 4


def made(planned: Sequence[Node], *names: str, **changes: Any) -> Run:
    arguments = {"work": WORK, "folder": "site", "release": RELEASE, **changes}

    def body() -> Any:
        args = ContentArgs(machines=machines(planned), **arguments)
        components = [Content(name, args) for name in names or ("content",)]
        return [
            {
                "release": component.release,
                "mount": component.mount,
                "delivered": {name: resource.id for name, resource in component.delivered.items()},
            }
            for component in components
        ]

    return run(body)


def test_there_is_one_release_a_node() -> None:
    result = made(nodes(2))
    assert result.inventory("content") == {
        ("swarm-site:index:Content", "content"),
        (COMMAND, "content-core-01"),
        (COMMAND, "content-core-02"),
    }
    assert {resource.parent for resource in result.within("content") if resource.name != "content"} == {"content"}


def test_a_release_is_sent_and_switched_to_by_its_hash() -> None:
    release = made(nodes(2), keep=7)["content-core-02"]
    assert release.environment == {
        "NODE": "core-02",
        "WORK": ".work/dev",
        "FOLDER": "site",
        "RELEASE": RELEASE,
        "KEEP": "7",
    }
    assert release.scripts == {"CREATE_SCRIPT": render("content/release.sh")}
    assert release.timeouts == {"create": "10m", "update": "10m", "delete": "10m"}


def test_another_release_runs_the_script_again_and_replaces_nothing() -> None:
    before, after = made(nodes(1))["content-core-01"], made(nodes(1), release="f" * 64)["content-core-01"]
    assert after.environment["RELEASE"] == "f" * 64
    assert before.inputs["triggers"] == after.inputs["triggers"] == ["machine-core-01-id"]


def test_a_release_waits_for_its_machine_and_for_no_other() -> None:
    assert made(nodes(2))["content-core-02"].dependencies == {"machine-core-02"}


def test_three_earlier_releases_stay_where_nothing_else_is_said() -> None:
    assert made(nodes(1))["content-core-01"].environment["KEEP"] == "3"


def test_it_hands_on_release_and_mount() -> None:
    result = made(nodes(2))
    assert result.returned == [
        {
            "release": RELEASE,
            "mount": "/srv/swarm-site/content",
            "delivered": {"core-01": "content-core-01-id", "core-02": "content-core-02-id"},
        }
    ]
    assert result.outputs["content"] == {"release": RELEASE, "mount": "/srv/swarm-site/content"}


def test_the_nodes_put_it_where_the_mount_says() -> None:
    result = made(nodes(1))
    for script in result["content-core-01"].scripts.values():
        assert f"{result.returned[0]['mount']}" in script


def test_two_contents_stand_side_by_side() -> None:
    assert {name for _, name in made(nodes(1), "left", "right").inventory("left")} == {"left", "left-core-01"}

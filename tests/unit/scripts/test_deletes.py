"""Conditions every delete must handle: it has only its own text, and the machine may be dead, half created or gone."""

import re
from collections.abc import Mapping

import pytest

from components.contract import PROJECT
from tests.unit.shell import NOTHING_EXISTS, Answer, World, succeeded

STATES = ["dead", "half created", "gone"]
DELETES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "swarm/leave.sh": (
        "core-01",
        dict.fromkeys(STATES, "core-01: skipping deregistration: no other manager answers\n"),
    ),
    "swarm/dissolve.sh": (
        "",
        dict.fromkeys(STATES, "this machine: no manager answers; services go with their nodes\n"),
    ),
    "firewall/dismiss.sh": ("core-01", {}),
    "machines/delete.sh": ("core-01", dict.fromkeys(STATES, "core-01: removed in 0 s\n")),
    "machines/sweep.sh": (
        "",
        dict.fromkeys(("dead", "half created"), "core-01: removed leftover machine\n"),
    ),
}
"""Each delete: the node it runs for, and its output in each state."""


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("path", DELETES)
def test_a_delete_succeeds_without_its_machine(world: World, path: str, state: str) -> None:
    folder = world.work / "machines/core-01"
    world.nodes()
    if state == "dead":
        world.nodes("core-01")
        world.kill("core-01")
        (folder / "Vagrantfile").touch()
    elif state == "half created":
        folder.mkdir()
        (folder / "Vagrantfile").touch()
    world.plan(
        *NOTHING_EXISTS,
        Answer("here: vagrant destroy -f"),
        Answer("here: docker ps -a --filter label=swarm-site.stack=dev *"),
    )
    node, output = DELETES[path]
    done = world.delete(path, NODE=node, NODE_ADDRESS="192.0.2.11")
    assert re.sub(r"in \d+ s", "in 0 s", succeeded(done)) == output.get(state, "")
    assert done.stderr == ""
    if path.startswith("machines/"):
        assert not folder.exists()
        assert ("here: vagrant destroy -f" in world.calls()) == (state != "gone")


def test_every_delete_of_the_components_is_tested_here() -> None:
    text = "".join(path.read_text() for path in (PROJECT / "components").rglob("*.py"))
    assert set(re.findall(r'delete="(.*?)"', text)) == set(DELETES)

"""templates/images/deliver.sh: an image on a node. tests/unit/test_images.py tests the component."""

import json
import re
from pathlib import Path

from tests.unit.shell import IMAGE, Answer, Finished, World, manages, refused, succeeded

STARTS = Answer("core-01: docker run --rm *")


def deliver(world: World, node: str = "core-01", **environment: str) -> Finished:
    return world.script("images/deliver.sh", NODE=node, IMAGE=IMAGE, **environment)


def archive(world: World, tag: str = "0123456789ab") -> Path:
    path = world.folder / f"cache/swarm-site/images/site-nginx-{tag}.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_an_image_that_the_node_has_is_not_sent(world: World) -> None:
    world.nodes("core-01")
    world.plan(Answer(f"core-01: docker image inspect {IMAGE}", "[]\n"), STARTS)
    assert re.fullmatch(rf"core-01: has {IMAGE} after \d+ s\n", succeeded(deliver(world)))
    assert world.calls()[-1].endswith(f" --network none {IMAGE} true")


def test_an_image_whose_container_does_not_start_fails_with_the_cause(world: World) -> None:
    world.nodes("core-01")
    world.plan(
        Answer("core-01: docker image inspect *"), Answer("core-01: docker run *", "exec format error\n", status=125)
    )
    assert (
        refused(deliver(world))
        == f"core-01: can't start a container of {IMAGE}: exec format error; run again: make up\n"
    )


def test_a_missing_image_is_sent_from_its_archive(world: World) -> None:
    world.nodes("core-01")
    archive(world).write_text("the layers")
    world.stub("node", "docker", '#!/bin/sh\ncase $1 in load) cat >"$STUBS/loaded" ;; image) exit 1 ;; esac\n')
    assert re.fullmatch(rf"core-01: loaded {IMAGE} after \d+ s\n", succeeded(deliver(world)))
    assert (world.stubs / "loaded").read_text() == "the layers"


def provided(world: World, image: str, create: str) -> str:
    """Write a state with a Command that provides an image; return the URL of its backend."""
    command = {
        "urn": "urn:pulumi:dev::swarm-site::command:local:Command::nginx-image",
        "type": "command:local:Command",
        "inputs": {"create": create, "environment": {"STEP": "image", "NODE": "", "IMAGE": image}},
    }
    states = world.folder / "states/.pulumi/stacks/swarm-site"
    states.mkdir(parents=True)
    (states / "dev.json").write_text(json.dumps({"checkpoint": {"latest": {"resources": [command]}}}))
    return f"file://{world.folder}/states"


def test_an_archive_that_another_machine_created_is_provided_here_too(world: World) -> None:
    world.nodes("core-01")
    world.stub("node", "docker", '#!/bin/sh\ncase $1 in load) cat >"$STUBS/loaded" ;; image) exit 1 ;; esac\n')
    states = provided(world, IMAGE, f"printf 'the layers' >'{archive(world)}'")
    succeeded(deliver(world, PULUMI_BACKEND_URL=states))
    assert (world.stubs / "loaded").read_text() == "the layers"


def test_an_archive_that_no_step_provides_fails(world: World) -> None:
    world.nodes("core-01")
    world.plan(Answer("core-01: docker image inspect *", status=1))
    states = provided(world, "localhost:1/site-other:1", "true")
    error = f"no step of stack dev provides the image {IMAGE}; run again: make up\n"
    assert refused(deliver(world, PULUMI_BACKEND_URL=states)).endswith(error)


def test_a_node_that_can_not_load_an_image_fails_with_its_error(world: World) -> None:
    world.nodes("core-01")
    archive(world).write_text("")
    world.stub("node", "docker", '#!/bin/sh\necho "no space left on device" >&2\nexit 1\n')
    assert (
        refused(deliver(world))
        == f"core-01: docker load of {IMAGE} failed: no space left on device; run again: make up\n"
    )


def test_a_new_image_removes_older_ones_that_no_container_uses(world: World) -> None:
    world.nodes("core-01")
    archive(world).touch()
    world.plan(
        Answer("core-01: docker image inspect *", status=1),
        Answer("core-01: docker load"),
        Answer(
            "core-01: docker image ls localhost:1/site-nginx *",
            f"{IMAGE}\nlocalhost:1/site-nginx:1\n{IMAGE}-old\n",
        ),
        Answer("core-01: docker image rm localhost:1/site-nginx:1", status=1),
        Answer(f"core-01: docker image rm {IMAGE}-old"),
        STARTS,
    )
    succeeded(deliver(world))
    assert [call for call in world.calls() if " rm " in call] == [
        "core-01: docker image rm localhost:1/site-nginx:1",
        f"core-01: docker image rm {IMAGE}-old",
    ]


def test_a_new_node_also_gets_the_images_that_services_still_run(trio: World) -> None:
    archive(trio, "old").touch()
    trio.plan(
        Answer(f"core-03: docker image inspect {IMAGE}"),
        Answer(
            "core-01: docker service ls --format {{.Image}}",
            "localhost:1/site-nginx:old\nlocalhost:1/site-nginx:gone\n",
        ),
        Answer("core-03: docker image inspect *", status=1),
        Answer("core-03: docker load"),
        Answer("core-03: docker run --rm *"),
        *manages("core-01"),
    )
    assert succeeded(deliver(trio, "core-03")).endswith(
        "core-03: loaded localhost:1/site-nginx:old, which services still run\n"
    )
    assert trio.calls().count("core-03: docker load") == 1

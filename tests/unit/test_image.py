"""A content-addressed image on every node."""

from collections.abc import Sequence
from typing import Any

from components.digest import folder_hash, text_hash
from components.image import Image, ImageArgs
from components.settings import Node
from tests.unit.harness import COMMAND, ROOT, Run, machines, nodes, run, stand_in

BUILT = f"localhost:1/site-nginx:{folder_hash(ROOT / 'templates/images/nginx')[:12]}"


def made(planned: Sequence[Node], *names: str, **changes: Any) -> Run:
    def body() -> Any:
        args = ImageArgs(checked=stand_in("checked"), machines=machines(planned), **changes)
        components = [Image(name, args) for name in names or ("nginx",)]
        return [
            {
                "reference": component.ref.reference,
                "provided": component.ref.provided.urn,
                "outputs": component.outputs,
                "delivered": {name: resource.id for name, resource in component.delivered.items()},
            }
            for component in components
        ]

    return run(body)


def test_an_image_is_provided_once_and_delivered_to_every_node() -> None:
    result = made(nodes(2))
    assert result.inventory("nginx") == {
        ("swarm-site:index:Image", "nginx"),
        (COMMAND, "nginx-image"),
        (COMMAND, "nginx-image-core-01"),
        (COMMAND, "nginx-image-core-02"),
    }
    assert {resource.parent for resource in result.within("nginx") if resource.name != "nginx"} == {"nginx"}


def test_without_a_source_the_recipe_is_built_after_this_machine_was_checked_and_names_the_image() -> None:
    provided = made(nodes(1))["nginx-image"]
    assert (provided.step, provided.node) == ("image", "")
    assert provided.own == {
        "IMAGE": BUILT,
        "RECIPE": "templates/images/nginx",
        "SOURCE": "",
        "MIRROR": "",
        "KEEP_ARCHIVE": "1",
        "ARCHIVES": "images",
        "LOG": ".work/dev/nginx-image.log",
    }
    assert provided.timeouts == {"create": "20m", "update": "20m", "delete": "20m"}
    assert provided.dependencies == {"checked"}


def test_a_source_is_used_instead_and_names_the_image() -> None:
    result = made(nodes(1), source="nginx:1.27-alpine", mirror="mirror.example:5000")
    environment = result["nginx-image"].environment
    expected = f"localhost:1/site-nginx:{text_hash('nginx:1.27-alpine')[:12]}"
    assert environment["IMAGE"] == result.returned[0]["reference"] == expected
    assert (environment["SOURCE"], environment["RECIPE"]) == ("nginx:1.27-alpine", "")
    assert environment["MIRROR"] == "mirror.example:5000"


def test_a_node_gets_the_image_after_this_machine_has_it() -> None:
    delivered = made(nodes(2))["nginx-image-core-02"]
    assert (delivered.step, delivered.node) == ("image-delivery", "core-02")
    assert delivered.own == {"IMAGE": BUILT}
    assert delivered.scripts == {"create": "images/deliver.sh"}
    assert delivered.inputs["triggers"] == ["machine-core-02-id"]
    assert delivered.dependencies == {"nginx-image", "machine-core-02"}
    assert delivered.data_dependencies == {"machine-core-02"}
    assert delivered.timeouts == {"create": "10m", "update": "10m", "delete": "10m"}


def test_it_hands_on_a_reference_that_previews_know() -> None:
    result = made(nodes(2))
    assert result.returned == [
        {
            "reference": BUILT,
            "provided": result["nginx-image"].urn,
            "outputs": {"nginx": BUILT},
            "delivered": {"core-01": "nginx-image-core-01-id", "core-02": "nginx-image-core-02-id"},
        }
    ]
    assert result.outputs["nginx"] == {"reference": BUILT}


def test_two_images_stand_side_by_side() -> None:
    result = made(nodes(1), "nginx", "node")
    assert {name for _, name in result.inventory("node")} == {"node", "node-image", "node-image-core-01"}
    assert result["node-image"].environment["RECIPE"] == "templates/images/node"
    assert result["node-image"].environment["LOG"] != result["nginx-image"].environment["LOG"]
    assert result.returned[0]["reference"] != result.returned[1]["reference"]

"""A container image by its content, delivered to every node; no node ever pulls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components.contract import PACKAGE, PROJECT, Step, stack_folder
from components.digest import folder_hash, text_hash
from components.rendering import TEMPLATES
from components.scripts import Machine, on_each, tool

REPOSITORY = "localhost:1/site"
"""Unreachable on purpose: swarm asks an image's registry before it starts a task. With port 80 that was our proxy,
which then marked every endpoint down."""


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """An image for services: its `reference`, and the step after which this machine has it."""

    reference: str
    provided: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class ImageArgs:
    """Inputs of `Image`: without a `source` (a reference) the recipe of the image's name is built.

    `checked` is the step that has checked this machine.
    """

    checked: pulumi.Resource
    machines: Sequence[Machine]
    source: str | None = None
    mirror: str | None = None


def provide(
    name: str,
    *,
    step: Step,
    image: str,
    recipe: str | None,
    source: str | None = None,
    mirror: str | None = None,
    keep_archive: bool = False,
    opts: pulumi.ResourceOptions,
) -> command.local.Command:
    """The Command after which this machine has an image: found, or built from its recipe.

    Args:
        name: the resource's name.
        step: what it is for.
        image: its full reference; the tag stands for the content.
        recipe: folder with a Dockerfile and the packages of its base; None to build nothing.
        source: an image to use instead of building one.
        mirror: of Docker Hub, as host, host:port or host:port/path.
        keep_archive: leave an archive of it in the cache.
        opts: parent, dependencies.
    """
    return tool(
        name,
        step=step,
        module="tools.images",
        files=[
            PROJECT / "tools" / "images.py",
            PROJECT / "tools" / "local_docker.py",
            *sorted((TEMPLATES / "images" / "base").iterdir()),
        ],
        environment={
            "IMAGE": image,
            "RECIPE": recipe or "",
            "SOURCE": source or "",
            "MIRROR": mirror or "",
            "KEEP_ARCHIVE": "1" if keep_archive else "",
            "ARCHIVES": "images",
            "LOG": f"{stack_folder(pulumi.get_stack())}/{name}.log",
        },
        minutes=20,
        opts=opts,
    )


class Image(pulumi.ComponentResource):
    """One image, built or found once on this machine, and loaded on all nodes side by side where it is missing.

    Creates: one Command here, one a node. Does not: start a service of it.
    """

    ref: ImageRef
    outputs: pulumi.Output[Mapping[str, str]]
    delivered: Mapping[str, command.local.Command]

    def __init__(self, name: str, args: ImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Image", name, None, opts)
        identity = text_hash(args.source) if args.source else folder_hash(TEMPLATES / "images" / name)
        reference = f"{REPOSITORY}-{name}:{identity[:12]}"
        provided = provide(
            f"{name}-image",
            step=Step.IMAGE,
            image=reference,
            recipe=None if args.source else f"templates/images/{name}",
            source=args.source,
            mirror=args.mirror,
            keep_archive=True,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.checked]),  # checks come before a long build
        )
        self.delivered = on_each(
            f"{name}-image",
            args.machines,
            step=Step.IMAGE_DELIVERY,
            create="images/deliver.sh",
            environment={"IMAGE": reference},
            minutes=10,
            parent=self,
            after=lambda _: [provided],  # the archive must exist before it is sent
        )
        self.ref = ImageRef(reference=reference, provided=provided)
        self.outputs = pulumi.Output.from_input({name: reference})
        self.register_outputs({"reference": reference})

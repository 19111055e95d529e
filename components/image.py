"""A container image, identified by its content and delivered to every node; nodes never pull."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components.contract import PACKAGE, PROJECT, Step, stack_folder
from components.digest import folder_hash, text_hash
from components.rendering import TEMPLATES
from components.scripts import Machine, on_each, tool

REPOSITORY = "localhost:1/site"
"""Deliberately unreachable: swarm contacts an image's registry before it starts a task. Port 80 would reach our own
proxy, which would then mark every endpoint down."""


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """An image for services: its `reference`, and the resource after which this machine has it."""

    reference: str
    provided: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class ImageArgs:
    """Inputs of `Image`. Without a `source` (an image reference), the recipe with the image's name is built.

    `checked` is the resource that has checked this machine.
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
    """Return the Command that provides an image on this machine: found, or built from its recipe.

    Args:
        name: resource name.
        step: purpose of the Command.
        image: full reference; the tag identifies the content.
        recipe: folder with a Dockerfile and the packages of its base; None builds nothing.
        source: existing image to use instead of building one.
        mirror: mirror of Docker Hub, as host, host:port or host:port/path.
        keep_archive: whether to leave an archive of the image in the cache.
        opts: parent and dependencies.
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
    """One image, built or found once on this machine and loaded in parallel on all nodes that lack it.

    Creates one Command on this machine and one per node. Does not start a service.
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

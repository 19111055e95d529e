"""A container image by its content, delivered to every node; no node ever pulls."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components import PACKAGE, remote
from components.config import folder_hash
from components.machines import Machine
from components.rendering import TEMPLATES

REPOSITORY = "localhost:1/site"
"""No registry is there. A node's Docker asks the registry of its image before it starts a task: with `localhost` alone
that was port 80 of the node, and the proxy there took the refused question for the death of all backends."""


@dataclass(frozen=True, kw_only=True)
class ImageArgs:
    """Inputs of `Image`. Without a `source` (a reference), the recipe of the image's name is built.

    `workshop` is the step that has checked this machine.
    """

    work: str
    workshop: pulumi.Resource
    machines: Sequence[Machine]
    source: str | None = None
    mirror: str | None = None


class Image(pulumi.ComponentResource):
    """One image, made or found once on this machine and loaded on all nodes side by side, where it is missing.

    Creates: one Command here, one a node. Does not: start a container of it.
    """

    reference: pulumi.Output[str]
    outputs: pulumi.Output[Mapping[str, str]]
    provided: command.local.Command
    delivered: Mapping[str, command.local.Command]

    def __init__(self, name: str, args: ImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Image", name, None, opts)
        identity = (
            hashlib.sha256(args.source.encode()).hexdigest()
            if args.source
            else folder_hash(TEMPLATES / "images" / name)
        )
        reference = f"{REPOSITORY}-{name}:{identity[:12]}"
        self.provided = remote.run(
            f"{name}-image",
            create="images/ensure.sh",
            environment={
                "WORK": args.work,
                "IMAGE": reference,
                "RECIPE": "" if args.source else f"templates/images/{name}",
                "SOURCE": args.source or "",
                "MIRROR": args.mirror or "",
                "KEEP_ARCHIVE": "1",
                "ARCHIVES": "images",
                "LOG": f"{args.work}/{name}-image.log",
            },
            minutes=20,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.workshop]),  # its checks come before a long build
        )
        self.delivered = {
            machine.node.name: remote.run(
                f"{name}-image-{machine.node.name}",
                create="images/deliver.sh",
                environment={"WORK": args.work, "IMAGE": reference},
                triggers=[machine.resource.id],
                node=machine.node.name,
                minutes=10,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=[self.provided],  # the archive must be there before it is sent
                ),
            )
            for machine in args.machines
        }
        self.reference = pulumi.Output.from_input(reference)
        self.outputs = pulumi.Output.from_input({name: reference})
        self.register_outputs({"reference": self.reference})

"""A release of the content folder on every node, switched atomically."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components import PACKAGE, remote
from components.machines import Machine

MOUNT = "/srv/swarm-site/content"
"""Folder on every node that holds `releases/` and the link `current`; mounted whole, so that the link is followed."""


@dataclass(frozen=True, kw_only=True)
class ContentArgs:
    """Inputs of `Content`: `folder` on this machine, the `release` its files make, how many earlier ones to `keep`."""

    work: str
    machines: Sequence[Machine]
    folder: str
    release: str
    keep: int = 3


class Content(pulumi.ComponentResource):
    """A release of a folder on every node, switched in one step; running containers follow without a restart.

    Creates: one release Command a node. Does not: serve it, or know which server will.
    """

    release: pulumi.Output[str]
    mount: pulumi.Output[str]
    delivered: Mapping[str, command.local.Command]

    def __init__(self, name: str, args: ContentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Content", name, None, opts)
        self.delivered = {
            machine.node.name: remote.run(
                f"{name}-{machine.node.name}",
                create="content/release.sh",
                environment={
                    "WORK": args.work,
                    "FOLDER": args.folder,
                    "RELEASE": args.release,
                    "KEEP": str(args.keep),
                },
                triggers=[machine.resource.id],
                node=machine.node.name,
                minutes=10,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for machine in args.machines
        }
        self.release = pulumi.Output.from_input(args.release)
        self.mount = pulumi.Output.from_input(MOUNT)
        self.register_outputs({"release": self.release, "mount": self.mount})

"""A release of the content folder on every node, switched atomically."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components.contract import FOLDER_CONTENT, PACKAGE, PROJECT, Step
from components.digest import folder_hash
from components.scripts import Machine, on_each
from components.settings import ContentSettings


@dataclass(frozen=True, kw_only=True)
class ContentArgs:
    """Inputs of `Content`: which folder, how many earlier releases to keep, and the machines that get it."""

    settings: ContentSettings
    machines: Sequence[Machine]


class Content(pulumi.ComponentResource):
    """A release of a folder on every node, switched in one step; running containers follow without a restart.

    Creates: one release Command a node. Does not: serve it, or know which server will.
    """

    release: pulumi.Output[str]
    mount: str
    delivered: Mapping[str, command.local.Command]

    def __init__(self, name: str, args: ContentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Content", name, None, opts)
        release = folder_hash(PROJECT / args.settings.folder)
        self.delivered = on_each(
            name,
            args.machines,
            step=Step.CONTENT,
            create="content/release.sh",
            environment={"FOLDER": args.settings.folder, "RELEASE": release, "KEEP": str(args.settings.keep)},
            minutes=10,
            parent=self,
        )
        self.release = pulumi.Output.from_input(release)
        self.mount = FOLDER_CONTENT
        self.register_outputs({"release": self.release, "mount": self.mount})

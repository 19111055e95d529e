"""A release of the content folder on every node, switched atomically."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components.contract import FOLDER_CONTENT, PACKAGE, PROJECT, Step
from components.release import listing, release_hash
from components.scripts import Machine, on_each
from components.settings import ContentSettings


@dataclass(frozen=True, kw_only=True)
class ContentArgs:
    """Inputs of `Content`: which folder, how many earlier releases to keep, and the machines that get it."""

    settings: ContentSettings
    machines: Sequence[Machine]


class Content(pulumi.ComponentResource):
    """A release of a folder on every node; once all have it, all switch to it, and running containers follow.

    Creates: a delivery and a switch a node. A node has content after its delivery: one without any serves it at once.
    Does not: serve it, or know which server will.

    `elsewhere` has folders below `mount`, in order, where a file may be that `current` lacks: the next release, while
    nodes switch, and earlier ones.
    """

    release: pulumi.Output[str]
    mount: str
    elsewhere: Sequence[str]
    delivered: Mapping[str, command.local.Command]

    def __init__(self, name: str, args: ContentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Content", name, None, opts)
        folder, keep = PROJECT / args.settings.folder, args.settings.keep
        if notice := listing(folder).notice:
            pulumi.log.info(f"{args.settings.folder}: {notice}", self)
        release = release_hash(folder)
        self.delivered = on_each(
            name,
            args.machines,
            step=Step.CONTENT_DELIVERY,
            create="content/deliver.sh",
            environment={"FOLDER": args.settings.folder, "RELEASE": release, "KEEP": str(keep)},
            minutes=10,
            parent=self,
        )
        on_each(
            f"{name}-switch",
            args.machines,
            step=Step.CONTENT_SWITCH,
            create="content/switch.sh",
            environment={"RELEASE": release, "KEEP": str(keep)},
            minutes=5,
            parent=self,
            after=lambda _: list(self.delivered.values()),
        )
        self.release = pulumi.Output.from_input(release)
        self.mount = FOLDER_CONTENT
        # One more than is kept: going back to one of them leaves it in its place.
        self.elsewhere = ["next", *(f"previous/{place}" for place in range(1, keep + 2))]
        self.register_outputs({"release": self.release, "mount": self.mount})

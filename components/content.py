"""A release of the content folder on every node, switched atomically."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components.contract import FOLDER_CONTENT, PACKAGE, PROJECT, Step
from components.release import listing, release_hash
from components.scripts import Machine, on_each
from components.settings import ContentSettings

DELIVERY_MINUTES = 24 * 60
"""A delivery ends by silence, not by its length; this bounds what nothing else does."""


@dataclass(frozen=True, kw_only=True)
class ContentArgs:
    """Inputs of `Content`: the folder, the number of earlier releases to keep, and the target machines."""

    settings: ContentSettings
    machines: Sequence[Machine]


class Content(pulumi.ComponentResource):
    """A release of a folder on every node. Once all nodes have it, all switch to it, and running containers follow.

    Creates one delivery and one switch per node. A node has content after its delivery: a node without any serves it at
    once. Does not serve the content or know the server that will.

    `elsewhere` lists folders below `mount`, in lookup order, for files missing from `current`: the next release, while
    nodes switch, and earlier releases.
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
            minutes=DELIVERY_MINUTES,
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
        # One more than `keep`: rolling back to a release leaves it in its place.
        self.elsewhere = ["next", *(f"previous/{place}" for place in range(1, keep + 2))]
        self.register_outputs({"release": self.release, "mount": self.mount})

"""The firewall of each node: only the stack's nodes reach each other's swarm and application ports."""

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_command as command

from components.contract import PACKAGE, Step
from components.digest import text_hash
from components.scripts import Machine, on_each
from components.settings import Settings

VIRTUALBOX_HOST = "10.0.2.2"
"""This machine, as a VirtualBox machine sees the connections that come by its forwarded ssh port."""


class Firewall(pulumi.ComponentResource):
    """A firewall on every node, which survives reboots and restarts of Docker.

    Creates one Command per node, whose delete has the other nodes keep it out. Does not close the proxies' port, nor
    ssh on a host.

    Args: `settings` of the stack; `machines` are all of its nodes.
    """

    firewalls: Mapping[str, command.local.Command]

    def __init__(
        self, name: str, settings: Settings, machines: Sequence[Machine], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:Firewall", name, None, opts)
        rules = {
            "PORTS": " ".join(str(application.port) for application in settings.applications.values()),
            "TRUSTED": " ".join(trusted(settings)),
            # The script reads the addresses from the stack folder.
            "NODES_HASH": text_hash(" ".join(sorted(node.address for node in settings.nodes)))[:12],
        }
        self.firewalls = on_each(
            name,
            machines,
            step=Step.FIREWALL,
            create="firewall/install.sh",
            delete="firewall/dismiss.sh",
            sent=("firewall/apply.sh", "firewall/swarm-site-firewall.service"),
            environment=lambda node: {"NODE_ADDRESS": node.address, **rules},
            minutes=5,
            parent=self,
        )
        self.register_outputs({})


def trusted(settings: Settings) -> Sequence[str]:
    """Return the addresses of this machine as created nodes see them; none with hosts, whose ssh is their owner's."""
    match settings.machines.provider:
        case "ssh":
            return []
        case "virtualbox":
            return [str(settings.network[1]), VIRTUALBOX_HOST]
        case _:
            return [str(settings.network[1])]

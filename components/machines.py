"""The machine set: the box, one machine a resource, and the stack's folder on this machine."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import pulumi_command as command

from components import PACKAGE, remote
from components.config import Node, folder_hash
from components.rendering import TEMPLATES, render

BOX_RECIPE = TEMPLATES / "images" / "node"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine that Docker answers on. A resource of it that depends on `resource` starts when it is up."""

    node: Node
    resource: command.local.Command


@dataclass(frozen=True, kw_only=True)
class MachinesArgs:
    """Inputs of `Machines`. `nodes` sets how many resources exist, so it is a plain value."""

    stack: str
    work: str
    network: IPv4Network
    provider: str
    nodes: Sequence[Node]
    mirror: str | None = None


class Machines(pulumi.ComponentResource):
    """A set of machines made by Vagrant, each in a folder of its own.

    Creates: the workshop (the stack's folder with key pair, node list and ssh configuration; its delete sweeps up what
    nobody owns), the box, one machine a node. Does not: install or join anything on them.
    """

    workshop: command.local.Command
    machines: Sequence[Machine]
    proxies: Sequence[Machine]
    outputs: pulumi.Output[Mapping[str, Mapping[str, str]]]

    def __init__(self, name: str, args: MachinesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Machines", name, None, opts)
        box = f"localhost/site/node:{folder_hash(BOX_RECIPE)[:12]}"
        common = {"WORK": args.work, "STACK": args.stack, "PROVIDER": args.provider}
        self.workshop = remote.run(
            f"{name}-workshop",
            create="machines/workshop.sh",
            delete="machines/sweep.sh",
            values={"provider": args.provider},
            environment={
                **common,
                "NETWORK": str(args.network),
                "NODES": "\n".join(f"{node.name} {node.address} {node.role}" for node in args.nodes),
                "MEMORY_WANTED": str(sum(node.memory for node in args.nodes)),
                "SSH_CONFIG": render("swarm/ssh_config", work=args.work),
                "CONNECT": render("swarm/connect.sh", work=args.work),
            },
            minutes=5,
            opts=pulumi.ResourceOptions(parent=self),
        )
        box_image = remote.run(
            f"{name}-box",
            create="images/ensure.sh",
            environment={
                "WORK": args.work,
                "IMAGE": box,
                "RECIPE": "templates/images/node",
                "SOURCE": "",
                "MIRROR": args.mirror or "",
                "KEEP_ARCHIVE": "",
                "ARCHIVES": "images",
                "LOG": f"{args.work}/box.log",
            },
            minutes=20,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.workshop]),  # its checks come before a long build
        )
        self.machines = [
            Machine(
                node=node,
                resource=self._machine(name, node, args, common, box, [self.workshop, box_image]),
            )
            for node in args.nodes
        ]
        self.proxies = [machine for machine in self.machines if machine.node.proxy]
        self.outputs = pulumi.Output.from_input(
            {node.name: {"address": node.address, "role": node.role} for node in args.nodes}
        )
        self.register_outputs({"nodes": self.outputs})

    def _machine(
        self,
        name: str,
        node: Node,
        args: MachinesArgs,
        common: dict[str, str],
        box: str,
        after: Sequence[pulumi.Resource],
    ) -> command.local.Command:
        vagrantfile = render(
            "machines/Vagrantfile",
            provider=args.provider,
            stack=args.stack,
            node=node,
            box=box,
            prefix_length=args.network.prefixlen,
        )
        return remote.run(
            f"{name}-{node.name}",
            create="machines/create.sh",
            delete="machines/delete.sh",
            values={"provider": args.provider},
            environment={
                **common,
                "VAGRANTFILE": vagrantfile,
                "SSH_CONFIG": render("machines/ssh_config", work=args.work, node=node),
            },
            triggers=[hashlib.sha256(vagrantfile.encode()).hexdigest()],
            node=node.name,
            minutes=15,
            # A machine needs the stack's key and its image, and both must outlive it.
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )

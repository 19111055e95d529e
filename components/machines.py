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

NODE_RECIPE = TEMPLATES / "images" / "node"
MACHINE_RECIPE = TEMPLATES / "images" / "machine"
"""What a node needs beside `NODE_RECIPE` where it is a virtual machine."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine that Docker answers on. A resource of it that depends on `resource` starts when it is up."""

    node: Node
    resource: command.local.Command


@dataclass(frozen=True, kw_only=True)
class MachinesArgs:
    """Inputs of `Machines`. `nodes` sets how many resources exist, so it is a plain value.

    `box` is what virtual machines are made from, `patience` multiplies what a connection may take.
    """

    stack: str
    work: str
    network: IPv4Network
    provider: str
    nodes: Sequence[Node]
    box: str = "own"
    patience: int = 1
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
                "SSH_CONFIG": render("swarm/ssh_config", work=args.work, patience=args.patience),
                "CONNECT": render("swarm/connect.sh", work=args.work),
            },
            minutes=5,
            opts=pulumi.ResourceOptions(parent=self),
        )
        box, identity = self._box(name, args, common, self.workshop)
        self.machines = [
            Machine(
                node=node,
                resource=self._machine(name, node, args, common, identity, [self.workshop, box]),
            )
            for node in args.nodes
        ]
        self.proxies = [machine for machine in self.machines if machine.node.proxy]
        self.outputs = pulumi.Output.from_input(
            {node.name: {"address": node.address, "role": node.role} for node in args.nodes}
        )
        self.register_outputs({"nodes": self.outputs})

    def _box(
        self, name: str, args: MachinesArgs, common: dict[str, str], workshop: pulumi.Resource
    ) -> tuple[command.local.Command, str]:
        """What machines are made from, and what it is known by: another one makes other machines."""
        opts = pulumi.ResourceOptions(parent=self, depends_on=[workshop])  # its checks come before a long build
        shared = {"MIRROR": args.mirror or "", "ARCHIVES": "images", "LOG": f"{args.work}/box.log"}
        if args.provider == "docker":
            image = f"localhost/site/node:{folder_hash(NODE_RECIPE)[:12]}"
            own = {
                "WORK": args.work,
                "IMAGE": image,
                "RECIPE": "templates/images/node",
                "SOURCE": "",
                "KEEP_ARCHIVE": "",
            }
            box = remote.run(
                f"{name}-box", create="images/ensure.sh", environment={**shared, **own}, minutes=20, opts=opts
            )
            return box, image
        recipes = folder_hash(NODE_RECIPE) + folder_hash(MACHINE_RECIPE)
        image = f"localhost/site/machine:{hashlib.sha256(recipes.encode()).hexdigest()[:12]}"
        box = remote.run(
            f"{name}-box",
            create="machines/box.sh",
            values={"provider": args.provider},
            environment={**common, **shared, "BOX": args.box, "IMAGE": image},
            minutes=60,
            opts=opts,
        )
        return box, f"{args.box} {image}"

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
            network=args.network,
        )
        return remote.run(
            f"{name}-{node.name}",
            create="machines/create.sh",
            delete="machines/delete.sh",
            values={"provider": args.provider},
            environment={
                **common,
                "VAGRANTFILE": vagrantfile,
                "SSH_CONFIG": render("machines/ssh_config", work=args.work, node=node, patience=args.patience),
            },
            triggers=[hashlib.sha256(vagrantfile.encode()).hexdigest()],
            node=node.name,
            minutes=15 if args.provider == "docker" else 90,  # emulated, and one after another, they take their time
            # A machine needs the stack's key and its image, and both must outlive it.
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )

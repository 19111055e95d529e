"""The machine set: the box, one machine a resource, and the stack's folder on this machine."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import pulumi_command as command

from components import PACKAGE, remote
from components.config import HostSettings, Node, folder_hash
from components.rendering import TEMPLATES, render

ADOPTED = "ssh"
"""The provider of machines that exist: they are adopted, not made."""
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

    `network` is that of machines that are made here, `box` what virtual machines are made from, `patience` multiplies
    what a connection may take, `ports` are what the services will listen on.
    """

    stack: str
    work: str
    network: IPv4Network
    provider: str
    nodes: Sequence[Node]
    ports: Sequence[int] = ()
    box: str = "own"
    patience: int = 1
    mirror: str | None = None


class Machines(pulumi.ComponentResource):
    """A set of machines, made by Vagrant or adopted as they are, each with a folder of its own on this machine.

    Creates: the workshop (the stack's folder with key pair, node list and ssh configuration; its delete sweeps up what
    nobody owns), the box of machines that are made, one machine a node. Does not: join anything on them.
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
                "NODES": "\n".join(f"{node.name} {node.address} {node.role}" for node in args.nodes),
                **(_way_to_hosts(args) if args.provider == ADOPTED else _way_to_machines(args)),
            },
            minutes=5,
            opts=pulumi.ResourceOptions(parent=self),
        )
        needed: list[pulumi.Resource] = [self.workshop]
        box = ""
        if args.provider != ADOPTED:
            made, box = self._box(name, args, common, self.workshop)
            needed.append(made)
        self.machines = [
            Machine(node=node, resource=self._machine(name, node, args, box, needed)) for node in args.nodes
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
        box: str,
        needed: Sequence[pulumi.Resource],
    ) -> command.local.Command:
        if node.host:
            own, identity = _adopted(node, node.host, args)
        else:
            own, identity = _made(node, args, box)
        return remote.run(
            f"{name}-{node.name}",
            create="machines/create.sh",
            delete="machines/delete.sh",
            values={"provider": args.provider},
            environment={"WORK": args.work, "STACK": args.stack, **own},
            triggers=[identity],
            node=node.name,
            # Virtual machines that are emulated, and made one after another, take their time.
            minutes=15 if args.provider in ("docker", ADOPTED) else 90,
            # A machine needs the stack's key and its image, and both must outlive it.
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(needed)),
        )


def _way_to_machines(args: MachinesArgs) -> Mapping[str, str]:
    """The network of machines that are made, what they take, and how one that manages the swarm is found."""
    return {
        "NETWORK": str(args.network),
        "MEMORY_WANTED": str(sum(node.memory for node in args.nodes)),
        "SSH_CONFIG": render("swarm/ssh_config", work=args.work, patience=args.patience),
        "CONNECT": render("swarm/connect.sh", work=args.work),
    }


def _way_to_hosts(args: MachinesArgs) -> Mapping[str, str]:
    """How a host that manages the swarm is found."""
    return {
        "SSH_CONFIG": render("swarm/hosts_ssh_config", work=args.work, nodes=args.nodes),
        "CONNECT": render("swarm/hosts_connect.sh", work=args.work),
    }


def _made(node: Node, args: MachinesArgs, box: str) -> tuple[Mapping[str, str], str]:
    """What Vagrant makes a machine from, and what makes another machine of it."""
    vagrantfile = render(
        "machines/Vagrantfile", provider=args.provider, stack=args.stack, node=node, box=box, network=args.network
    )
    environment = {
        "PROVIDER": args.provider,
        "VAGRANTFILE": vagrantfile,
        "SSH_CONFIG": render("machines/ssh_config", work=args.work, node=node, patience=args.patience),
    }
    return environment, hashlib.sha256(vagrantfile.encode()).hexdigest()


def _adopted(node: Node, host: HostSettings, args: MachinesArgs) -> tuple[Mapping[str, str], str]:
    """How a host is reached, and what makes another host of it."""
    environment = {
        "HOST": f"{host.address} {host.user} {host.port} {host.jump or ''}".rstrip(),
        "PORTS": " ".join(map(str, args.ports)),
        "SSH_CONFIG": render("machines/host_ssh_config", work=args.work, node=node),
    }
    return environment, f"{host.user}@{host.address}"

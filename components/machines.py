"""The machines: the box, one resource per machine, and the stack folder on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components.contract import PACKAGE, Step, stack_folder
from components.digest import folder_hash, text_hash
from components.image import provide
from components.rendering import TEMPLATES, render
from components.scripts import Environment, Machine, script
from components.settings import HostSettings, Node, Settings

ADOPTED = "ssh"
"""The provider of existing machines, which are adopted instead of created."""
NODE_RECIPE = TEMPLATES / "images" / "node"
MACHINE_RECIPE = TEMPLATES / "images" / "machine"
"""Additions to `NODE_RECIPE` for virtual machines."""
SENT_TO_HOSTS = ("hosts/adopt.sh", "hosts/release.sh", "images/node/files/etc/docker/daemon.json")
"""Files an adoption copies to a host; a change reruns the adoption."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """The source of created machines: the Command that provides it, and its name; a new name replaces the machines."""

    resource: command.local.Command
    name: str


class Machines(pulumi.ComponentResource):
    """A set of machines, created by Vagrant or adopted as they are, each with its own folder on this machine.

    Creates the stack's identity, the stack folder (node list, ssh configuration, key pair of created machines; its
    delete sweeps leftovers), the box of created machines, and one machine per node. Does not join them to anything.

    Args: `settings` of the stack; its nodes determine the number of resources.
    """

    identity: command.local.Command
    folder: command.local.Command
    machines: Sequence[Machine]
    proxies: Sequence[Machine]
    outputs: pulumi.Output[Mapping[str, Mapping[str, str]]]

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Machines", name, None, opts)
        is_adopted = settings.machines.provider == ADOPTED
        self.identity = self._identity(name)
        self.folder = self._folder(
            name, settings, _ssh_to_hosts(settings) if is_adopted else _ssh_to_machines(settings)
        )
        box = None if is_adopted else self._box(name, settings)
        self.machines = [
            Machine(node=node, resource=self._machine(name, node, settings, box)) for node in settings.nodes
        ]
        self.proxies = [machine for machine in self.machines if machine.node.proxy]
        self.outputs = pulumi.Output.from_input(
            {node.name: {"address": node.address, "role": node.role} for node in settings.nodes}
        )
        self.register_outputs({"nodes": self.outputs})

    def _identity(self, name: str) -> command.local.Command:
        return script(
            f"{name}-identity",
            step=Step.IDENTITY,
            create="machines/identity.sh",
            environment={},
            minutes=1,
            # Nothing makes it run again: its output is the identity.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["create", "environment"]),
        )

    def _folder(self, name: str, settings: Settings, ssh: Mapping[str, str]) -> command.local.Command:
        return script(
            f"{name}-workshop",
            step=Step.STACK_FOLDER,
            create="machines/stack_folder.sh",
            delete="machines/sweep.sh",
            environment={
                **_common(settings),
                "IDENTITY": self.identity.stdout,
                "NODES": "\n".join(f"{node.name} {node.address} {node.role}" for node in settings.nodes),
                **ssh,
            },
            minutes=5,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _box(self, name: str, settings: Settings) -> Box:
        # The folder's checks come before a long build.
        opts = pulumi.ResourceOptions(parent=self, depends_on=[self.folder])
        if settings.machines.provider == "docker":
            image = f"localhost/site/node:{folder_hash(NODE_RECIPE)[:12]}"
            recipe = "templates/images/node"
            box = provide(
                f"{name}-box", step=Step.BOX, image=image, recipe=recipe, mirror=settings.images.mirror, opts=opts
            )
            return Box(resource=box, name=image)
        image = f"localhost/site/machine:{text_hash(folder_hash(NODE_RECIPE) + folder_hash(MACHINE_RECIPE))[:12]}"
        box = script(
            f"{name}-box",
            step=Step.BOX,
            create="machines/box.sh",
            environment={
                **_common(settings),
                "BOX": settings.machines.box,
                "IMAGE": image,
                "MIRROR": settings.images.mirror or "",
                "ARCHIVES": "images",
                "LOG": f"{stack_folder(settings.stack)}/box.log",
            },
            minutes=60,
            opts=opts,
        )
        return Box(resource=box, name=f"{settings.machines.box} {image}")

    def _machine(self, name: str, node: Node, settings: Settings, box: Box | None) -> command.local.Command:
        if node.host:
            environment, triggered = _adoption(node, node.host, settings, self.identity.stdout)
        else:
            environment, triggered = _creation(node, settings, box)
        return script(
            f"{name}-{node.name}",
            step=Step.MACHINE,
            create="machines/create.sh",
            delete="machines/delete.sh",
            sent=SENT_TO_HOSTS if node.host else (),
            environment={**_common(settings), **environment},
            triggers=[triggered],
            node=node.name,
            # Emulated virtual machines, created one after another, are slow.
            minutes=15 if settings.machines.provider in ("docker", ADOPTED) else 90,
            # A machine needs the stack's key and its box, and both must outlive it.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.folder, *([box.resource] if box else [])]),
        )


def _common(settings: Settings) -> Mapping[str, str]:
    return {"STACK": settings.stack, "PROVIDER": settings.machines.provider}


def _ssh_to_machines(settings: Settings) -> Mapping[str, str]:
    """Return the network of created machines, their memory in MB, and the ssh configuration that finds a manager."""
    return {
        **_network(settings),
        "MEMORY_WANTED": str(sum(node.memory for node in settings.nodes)),
        "SSH_CONFIG": render(
            "swarm/ssh_config", work=stack_folder(settings.stack), timeout_factor=settings.machines.timeout_factor
        ),
    }


def _network(settings: Settings) -> Mapping[str, str]:
    """Return the network inputs of a provider's scripts; this machine is the GATEWAY."""
    network = settings.network
    values = {"NETWORK": str(network)}
    if settings.machines.provider == "libvirt":
        values |= {"GATEWAY": str(network[1]), "DHCP_FIRST": str(network[2]), "DHCP_LAST": str(network[-2])}
    if settings.machines.provider == "virtualbox":
        values |= {"GATEWAY": str(network[1]), "NETMASK": str(network.netmask)}
    return values


def _ssh_to_hosts(settings: Settings) -> Mapping[str, str]:
    """Return the ssh configuration that finds a host that is a manager."""
    config = render("swarm/hosts_ssh_config", work=stack_folder(settings.stack), nodes=settings.nodes)
    return {"SSH_CONFIG": config}


def _creation(node: Node, settings: Settings, box: Box | None) -> tuple[Environment, str]:
    """Return the Vagrant inputs of a machine, and what identifies it: a new value replaces the machine."""
    vagrantfile = render(
        "machines/Vagrantfile",
        provider=settings.machines.provider,
        stack=settings.stack,
        node=node,
        box=box.name if box else "",
        network=settings.network,
    )
    config = render(
        "machines/ssh_config",
        work=stack_folder(settings.stack),
        node=node,
        timeout_factor=settings.machines.timeout_factor,
    )
    return {"VAGRANTFILE": vagrantfile, "SSH_CONFIG": config}, text_hash(vagrantfile)


def _adoption(
    node: Node, host: HostSettings, settings: Settings, identity: pulumi.Output[str]
) -> tuple[Environment, str]:
    """Return the connection inputs of a host, and what identifies it: a new value means another host."""
    environment: Environment = {
        "IDENTITY": identity,
        "HOST": f"{host.address} {host.user} {host.port} {host.jump or ''}".rstrip(),
        "PORTS": " ".join(map(str, settings.ports)),
        "SSH_CONFIG": render("machines/host_ssh_config", work=stack_folder(settings.stack), node=node),
    }
    return environment, f"{host.user}@{host.address}"

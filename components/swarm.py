"""Membership of each node, the cluster with its provider at the manager endpoint, and the activation of each node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from components.contract import PACKAGE, SSH_CONFIG_FILE, Step, stack_folder
from components.scripts import Machine, on_each, script

MANAGER_ENDPOINT = "ssh://swarm-manager"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The swarm as services need it.

    Attributes:
        provider: Docker provider connected to a manager.
        resource: cluster resource, which outlives every single node; services are removed with it.
        active: activations of the nodes, after which they take tasks.
        timeout_factor: multiplier of health check timeouts, relative to a container.
    """

    provider: docker.Provider
    resource: command.local.Command
    active: Sequence[command.local.Command]
    timeout_factor: int

    def options(
        self,
        parent: pulumi.Resource,
        after: Sequence[pulumi.Resource],
        *,
        delete_before_replace: bool | None = None,
        ignore_changes: Sequence[str] = (),
    ) -> pulumi.ResourceOptions:
        """Return options for a service or config: created after `after`, removed with the cluster."""
        return pulumi.ResourceOptions(
            parent=parent,
            provider=self.provider,
            deleted_with=self.resource,
            depends_on=[self.resource, *after],
            delete_before_replace=delete_before_replace,
            ignore_changes=list(ignore_changes),
        )


@dataclass(frozen=True, kw_only=True)
class SwarmArgs:
    """Inputs of `Swarm`: its machines, and the firewall of each, by node name."""

    machines: Sequence[Machine]
    firewalls: Mapping[str, pulumi.Resource]


class Swarm(pulumi.ComponentResource):
    """A Docker Swarm of the machines, all drained until their activation.

    Creates one membership per node, whose delete leaves the swarm, one node at a time; the cluster, a resource without
    inputs that outlives every single node; and the docker provider. Does not let nodes take tasks (`Activation` does).
    """

    members: Mapping[str, command.local.Command]
    cluster: command.local.Command
    provider: docker.Provider
    manager_endpoint: pulumi.Output[str]

    def __init__(self, name: str, args: SwarmArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Swarm", name, None, opts)
        self.members = on_each(
            name,
            args.machines,
            step=Step.MEMBERSHIP,
            create="swarm/join.sh",
            delete="swarm/leave.sh",
            environment=lambda node: {"NODE_ADDRESS": node.address, "ROLE": node.role},
            minutes=45,  # a leave waits for its turn: every other node may be rebuilt before it
            parent=self,
            # A member must reach the others, and they keep out strangers only.
            after=lambda node: [args.firewalls[node.name]],
        )
        self.cluster = script(
            f"{name}-cluster",
            step=Step.CLUSTER,
            create="swarm/cluster.sh",
            delete="swarm/dissolve.sh",
            environment={},
            minutes=5,
            # On destroy it is removed before every member, so that none of them waits for another.
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(self.members.values())),
        )
        self.provider = docker.Provider(
            f"{name}-manager",
            host=MANAGER_ENDPOINT,
            ssh_opts=["-F", f"{stack_folder(pulumi.get_stack())}/{SSH_CONFIG_FILE.path}"],
            # No dependencies: the engine blocks while it starts a provider, which would delay the machines.
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.manager_endpoint = pulumi.Output.from_input(MANAGER_ENDPOINT)
        self.register_outputs({"manager_endpoint": self.manager_endpoint})


@dataclass(frozen=True, kw_only=True)
class ActivationArgs:
    """Inputs of `Activation`: `delivered` holds the resources that must be on a node first, by node name."""

    swarm: Swarm
    machines: Sequence[Machine]
    delivered: Sequence[Mapping[str, pulumi.Resource]]
    timeout_factor: int = 1


class Activation(pulumi.ComponentResource):
    """Lets a node take tasks once everything a task needs is on it.

    Creates one Command per node. Does not drain it again (the leave does).
    """

    cluster: Cluster

    def __init__(self, name: str, args: ActivationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Activation", name, None, opts)
        active = on_each(
            name,
            args.machines,
            step=Step.ACTIVATION,
            create="swarm/activate.sh",
            environment=lambda node: {"PROXY": "true" if node.proxy else "false"},
            minutes=10,
            parent=self,
            # A task on a node without the image or content is rejected.
            after=lambda node: [step[node.name] for step in args.delivered if node.name in step],
        )
        self.cluster = Cluster(
            provider=args.swarm.provider,
            resource=args.swarm.cluster,
            active=list(active.values()),
            timeout_factor=args.timeout_factor,
        )
        self.register_outputs({})

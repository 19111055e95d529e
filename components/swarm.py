"""Membership of each node, the cluster, the provider at its manager endpoint, and the step that opens a node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from components import PACKAGE, remote
from components.machines import Machine

MANAGER_ENDPOINT = "ssh://swarm-manager"
PROXY_LABEL = "swarm-site.proxy"
"""Node label that asks for a proxy."""


@dataclass(frozen=True, kw_only=True)
class SwarmArgs:
    """Inputs of `Swarm`. `machines` sets how many resources exist, so it is a plain value."""

    work: str
    machines: Sequence[Machine]


class Swarm(pulumi.ComponentResource):
    """A Docker Swarm over the machines, all of them drained until something else opens them.

    Creates: one membership a node, whose delete is the leave in turn; the cluster, a resource without inputs that
    outlives every single node; the docker provider. Does not: open a node to tasks (`Ready` does).
    """

    members: Mapping[str, command.local.Command]
    cluster: command.local.Command
    provider: docker.Provider
    manager_endpoint: pulumi.Output[str]

    def __init__(self, name: str, args: SwarmArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Swarm", name, None, opts)
        self.members = {
            machine.node.name: remote.run(
                f"{name}-{machine.node.name}",
                create="swarm/join.sh",
                delete="swarm/leave.sh",
                environment={
                    "WORK": args.work,
                    "NODE_ADDRESS": machine.node.address,
                    "ROLE": machine.node.role,
                },
                triggers=[machine.resource.id],
                node=machine.node.name,
                minutes=45,  # a leave waits for its turn: every other node may be rebuilt before it
                opts=pulumi.ResourceOptions(parent=self),
            )
            for machine in args.machines
        }
        self.cluster = remote.run(
            f"{name}-cluster",
            create="swarm/cluster.sh",
            delete="swarm/dissolve.sh",
            environment={"WORK": args.work},
            minutes=5,
            # On destroy it goes before every member, so that none of them waits for another.
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(self.members.values())),
        )
        self.provider = docker.Provider(
            f"{name}-manager",
            host=MANAGER_ENDPOINT,
            ssh_opts=["-F", f"{args.work}/ssh_config"],
            # It waits for nothing: the engine stands still while it starts a provider, and would hold up machines.
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.manager_endpoint = pulumi.Output.from_input(MANAGER_ENDPOINT)
        self.register_outputs({"manager_endpoint": self.manager_endpoint})


@dataclass(frozen=True, kw_only=True)
class ReadyArgs:
    """Inputs of `Ready`.

    `delivered` holds what must be on a node before it is opened, as resources by node name.
    """

    work: str
    machines: Sequence[Machine]
    delivered: Sequence[Mapping[str, pulumi.Resource]]


class Ready(pulumi.ComponentResource):
    """The step that opens a node to tasks, once everything a task needs is there.

    Creates: one Command a node. Does not: close it again (the leave does).
    """

    resources: Sequence[command.local.Command]

    def __init__(self, name: str, args: ReadyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PACKAGE}:index:Ready", name, None, opts)
        self.resources = [
            remote.run(
                f"{name}-{machine.node.name}",
                create="swarm/ready.sh",
                environment={
                    "WORK": args.work,
                    "PROXY": "true" if machine.node.proxy else "false",
                },
                triggers=[machine.resource.id],
                node=machine.node.name,
                minutes=10,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    # A task on a node that lacks image or content is rejected.
                    depends_on=[step[machine.node.name] for step in args.delivered if machine.node.name in step],
                ),
            )
            for machine in args.machines
        ]
        self.register_outputs({})

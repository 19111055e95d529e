"""Members, cluster and provider, and the activation of each node."""

from collections.abc import Sequence
from typing import Any

import pulumi

from components.settings import Node
from components.swarm import Activation, ActivationArgs, Swarm, SwarmArgs
from tests.unit.harness import COMMAND, PROVIDER, Run, cluster, machines, nodes, run, stand_in


def args(planned: Sequence[Node]) -> SwarmArgs:
    made = machines(planned)
    firewalls = {machine.node.name: stand_in(f"firewall-{machine.node.name}") for machine in made}
    return SwarmArgs(machines=made, firewalls=firewalls)


def swarm(planned: Sequence[Node], *names: str) -> Run:
    def body() -> Any:
        made = args(planned)
        components = [Swarm(name, made) for name in names or ("swarm",)]
        return [
            {
                "members": {name: member.id for name, member in component.members.items()},
                "cluster": component.cluster.id,
                "manager_endpoint": component.manager_endpoint,
            }
            for component in components
        ]

    return run(body)


def test_there_is_one_member_a_node_a_cluster_and_a_provider() -> None:
    assert swarm(nodes(3)).inventory("swarm") == {
        ("swarm-site:index:Swarm", "swarm"),
        (COMMAND, "swarm-core-01"),
        (COMMAND, "swarm-core-02"),
        (COMMAND, "swarm-core-03"),
        (COMMAND, "swarm-cluster"),
        (PROVIDER, "swarm-manager"),
    }


def test_the_component_is_the_parent_of_all() -> None:
    children = swarm(nodes(2)).within("swarm")
    assert {child.parent for child in children if child.name != "swarm"} == {"swarm"}


def test_a_member_joins_in_its_role_and_leaves_in_turn() -> None:
    result = swarm(nodes(2, managers=1))
    member = result["swarm-core-02"]
    assert (member.step, member.node) == ("membership", "core-02")
    assert member.own == {"NODE_ADDRESS": "192.168.56.12", "ROLE": "worker"}
    assert result["swarm-core-01"].environment["ROLE"] == "manager"
    assert member.scripts == {"create": "swarm/join.sh", "delete": "swarm/leave.sh"}
    assert member.delete_before_replace


def test_a_leave_has_time_until_every_other_node_was_rebuilt() -> None:
    assert swarm(nodes(1))["swarm-core-01"].timeouts == {"create": "45m", "update": "45m", "delete": "45m"}


def test_a_membership_is_replaced_with_its_machine_but_never_skipped_with_it() -> None:
    member = swarm(nodes(3))["swarm-core-02"]
    assert member.inputs["triggers"] == ["machine-core-02-id"]
    assert member.dependencies == {"firewall-core-02", "machine-core-02"}
    # If the leave were skipped with the machine, a stale manager would remain, which costs the quorum.
    assert member.deleted_with == ""


def test_a_member_does_not_change_when_others_come_or_go() -> None:
    few, many = swarm(nodes(3)), swarm(nodes(5))
    for name in ("swarm-core-01", "swarm-core-02", "swarm-core-03"):
        assert few[name].inputs == many[name].inputs


def test_the_cluster_outlives_every_single_node() -> None:
    few, many = swarm(nodes(3)), swarm(nodes(5))
    assert few["swarm-cluster"].inputs == many["swarm-cluster"].inputs
    assert (few["swarm-cluster"].step, few["swarm-cluster"].own) == ("cluster", {})
    assert few["swarm-cluster"].inputs["triggers"] == []
    assert few["swarm-cluster"].data_dependencies == set()


def test_the_cluster_is_removed_before_every_member() -> None:
    made = swarm(nodes(3))["swarm-cluster"]
    assert made.dependencies == {"swarm-core-01", "swarm-core-02", "swarm-core-03"}
    assert made.scripts == {"create": "swarm/cluster.sh", "delete": "swarm/dissolve.sh"}
    assert made.timeouts == {"create": "5m", "update": "5m", "delete": "5m"}


def test_the_provider_reaches_a_manager_through_the_stacks_own_ssh_configuration() -> None:
    provider = swarm(nodes(3))["swarm-manager"]
    assert provider.inputs == {"host": "ssh://swarm-manager", "sshOpts": '["-F", ".work/dev/ssh_config"]'}
    # Known from the first preview on: with an unknown host, nothing is checked.
    assert provider.dependencies == set()


def test_it_hands_on_members_cluster_and_endpoint() -> None:
    result = swarm(nodes(2))
    assert result.returned == [
        {
            "members": {"core-01": "swarm-core-01-id", "core-02": "swarm-core-02-id"},
            "cluster": "swarm-cluster-id",
            "manager_endpoint": "ssh://swarm-manager",
        }
    ]
    assert result.outputs["swarm"] == {"manager_endpoint": "ssh://swarm-manager"}


def test_two_swarms_stand_side_by_side() -> None:
    result = swarm(nodes(1), "left", "right")
    assert {name for _, name in result.inventory("right")} == {
        *("right", "right-core-01", "right-cluster", "right-manager"),
    }
    assert result["left-cluster"].dependencies == {"left-core-01"}


# --- activation -------------------------------------------------------------------------------------------------------


def activation(planned: Sequence[Node], *names: str) -> Run:
    def body() -> Any:
        members = args(planned)
        made = members.machines
        everywhere = {machine.node.name: stand_in(f"image-{machine.node.name}") for machine in made}
        somewhere = {machine.node.name: stand_in(f"boot-{machine.node.name}") for machine in made if machine.node.proxy}
        delivered = ActivationArgs(
            swarm=Swarm("swarm", members), machines=made, delivered=[everywhere, somewhere], timeout_factor=5
        )
        clusters = [Activation(name, delivered).cluster for name in names or ("ready",)]
        return [
            {
                "active": [resource.id for resource in one.active],
                "resource": one.resource.id,
                "provider": one.provider.id,
                "timeout_factor": one.timeout_factor,
            }
            for one in clusters
        ]

    return run(body)


def test_each_node_is_activated_by_a_command_of_its_own() -> None:
    result = activation(nodes(2))
    assert result.inventory("ready") == {
        ("swarm-site:index:Activation", "ready"),
        (COMMAND, "ready-core-01"),
        (COMMAND, "ready-core-02"),
    }
    assert {result[name].parent for name in ("ready-core-01", "ready-core-02")} == {"ready"}
    assert result.outputs["ready"] == {}


def test_it_hands_on_one_cluster() -> None:
    assert activation(nodes(2)).returned == [
        {
            "active": ["ready-core-01-id", "ready-core-02-id"],
            "resource": "swarm-cluster-id",
            "provider": "swarm-manager-id",
            "timeout_factor": 5,
        }
    ]


def test_a_node_is_activated_with_its_label() -> None:
    result = activation(nodes(2, proxies=[2]))
    activated = result["ready-core-02"]
    assert (activated.step, activated.node) == ("activation", "core-02")
    assert activated.own == {"PROXY": "true"}
    assert result["ready-core-01"].environment["PROXY"] == "false"
    assert activated.scripts == {"create": "swarm/activate.sh"}
    assert activated.inputs["triggers"] == ["machine-core-02-id"]
    assert activated.timeouts == {"create": "10m", "update": "10m", "delete": "10m"}


def test_a_node_is_activated_after_all_that_must_be_on_it_and_waits_for_no_other_node() -> None:
    result = activation(nodes(2, proxies=[2]))
    assert result["ready-core-01"].dependencies == {"machine-core-01", "image-core-01"}
    assert result["ready-core-02"].dependencies == {"machine-core-02", "image-core-02", "boot-core-02"}


def test_two_activations_stand_side_by_side() -> None:
    assert {name for _, name in activation(nodes(1), "left", "right").inventory("left")} == {"left", "left-core-01"}


def test_what_managers_keep_goes_with_the_cluster_and_waits_for_it() -> None:
    def body() -> Any:
        options = cluster().options(stand_in("parent"), [stand_in("first")], ignore_changes=["create"])
        return [pulumi.CustomResource("command:local:Command", "kept", {"create": "true"}, options)]

    kept = run(body)["kept"]
    assert (kept.parent, kept.deleted_with, kept.ignore_changes) == ("parent", "cluster", ("create",))
    assert kept.dependencies == {"cluster", "first"}

"""The machine set: workshop, box, one machine a node."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from components.config import HostSettings, Node, folder_hash
from components.machines import Machines, MachinesArgs
from components.rendering import render
from tests.unit.harness import COMMAND, NETWORK, ROOT, WORK, Run, nodes, run

COMPONENT = "swarm-site:index:Machines"
BOX = f"localhost/site/node:{folder_hash(ROOT / 'templates/images/node')[:12]}"


def made(planned: Sequence[Node], *names: str, **changes: Any) -> Run:
    arguments = {"stack": "dev", "work": WORK, "network": NETWORK, "provider": "docker", "nodes": planned, **changes}

    def body() -> Any:
        components = [Machines(name, MachinesArgs(**arguments)) for name in names or ("machines",)]
        return [
            {
                "outputs": component.outputs,
                "machines": [(machine.node.name, machine.resource.id) for machine in component.machines],
                "proxies": [machine.node.name for machine in component.proxies],
            }
            for component in components
        ]

    return run(body)


def test_there_is_a_workshop_a_box_and_one_machine_a_node() -> None:
    assert made(nodes(3)).inventory("machines") == {
        (COMPONENT, "machines"),
        (COMMAND, "machines-workshop"),
        (COMMAND, "machines-box"),
        (COMMAND, "machines-core-01"),
        (COMMAND, "machines-core-02"),
        (COMMAND, "machines-core-03"),
    }


def test_the_component_is_the_parent_of_all() -> None:
    children = made(nodes(2)).within("machines")
    assert {child.parent for child in children if child.name != "machines"} == {"machines"}


def test_the_workshop_knows_the_nodes_the_network_and_the_way_to_a_manager() -> None:
    workshop = made(nodes(2, managers=1))["machines-workshop"]
    assert workshop.environment == {
        "NODE": "",
        "WORK": ".work/dev",
        "STACK": "dev",
        "PROVIDER": "docker",
        "NETWORK": "192.168.56.0/24",
        "NODES": "core-01 192.168.56.11 manager\ncore-02 192.168.56.12 worker",
        "MEMORY_WANTED": "1024",
        "SSH_CONFIG": render("swarm/ssh_config", work=WORK, patience=1),
        "CONNECT": render("swarm/connect.sh", work=WORK),
    }
    assert workshop.scripts == {
        "CREATE_SCRIPT": render("machines/workshop.sh", provider="docker"),
        "DELETE_SCRIPT": render("machines/sweep.sh", provider="docker"),
    }
    assert workshop.inputs["triggers"] == []
    assert workshop.timeouts == {"create": "5m", "update": "5m", "delete": "5m"}


def test_the_workshop_is_made_first_and_goes_last() -> None:
    result = made(nodes(2))
    assert result["machines-workshop"].dependencies == set()
    for name in ("machines-box", "machines-core-01", "machines-core-02"):
        assert "machines-workshop" in result[name].dependencies, name


def test_the_box_is_named_by_its_recipe_and_stays_when_the_stack_goes() -> None:
    box = made(nodes(1))["machines-box"]
    assert box.environment == {
        "NODE": "",
        "WORK": ".work/dev",
        "IMAGE": BOX,
        "RECIPE": "templates/images/node",
        "SOURCE": "",
        "MIRROR": "",
        "KEEP_ARCHIVE": "",
        "ARCHIVES": "images",
        "LOG": ".work/dev/box.log",
    }
    assert (ROOT / box.environment["RECIPE"] / "Dockerfile").is_file()
    assert "delete" not in box.inputs
    assert box.timeouts == {"create": "20m", "update": "20m", "delete": "20m"}


def test_the_box_is_looked_for_at_the_mirror() -> None:
    assert made(nodes(1), mirror="mirror.example")["machines-box"].environment["MIRROR"] == "mirror.example"


def test_a_machine_has_a_vagrantfile_and_an_ssh_entry_of_its_own() -> None:
    first, second = nodes(2)
    machine = made([first, second])["machines-core-02"]
    vagrantfile = render("machines/Vagrantfile", provider="docker", stack="dev", node=second, box=BOX, network=NETWORK)
    assert machine.environment == {
        "NODE": "core-02",
        "WORK": ".work/dev",
        "STACK": "dev",
        "PROVIDER": "docker",
        "VAGRANTFILE": vagrantfile,
        "SSH_CONFIG": render("machines/ssh_config", work=WORK, node=second, patience=1),
    }
    assert machine.scripts == {
        "CREATE_SCRIPT": render("machines/create.sh", provider="docker"),
        "DELETE_SCRIPT": render("machines/delete.sh", provider="docker"),
    }
    assert machine.delete_before_replace
    assert machine.timeouts == {"create": "15m", "update": "15m", "delete": "15m"}


def test_another_vagrantfile_is_another_machine() -> None:
    planned = nodes(2)
    larger = [planned[0], replace(planned[1], memory=768)]
    before, after = made(planned), made(larger)
    vagrantfile = after["machines-core-02"].environment["VAGRANTFILE"]
    assert after["machines-core-02"].inputs["triggers"] == [hashlib.sha256(vagrantfile.encode()).hexdigest()]
    assert after["machines-core-02"].inputs["triggers"] != before["machines-core-02"].inputs["triggers"]
    assert after["machines-core-01"].inputs == before["machines-core-01"].inputs


def test_a_machine_needs_key_and_box_and_both_outlive_it() -> None:
    machine = made(nodes(1))["machines-core-01"]
    assert machine.dependencies == {"machines-workshop", "machines-box"}
    assert machine.deleted_with == ""


def test_a_machine_does_not_change_when_others_come_or_go() -> None:
    few, many = made(nodes(3)), made(nodes(5))
    for name in ("machines-core-01", "machines-core-02", "machines-core-03", "machines-box"):
        assert few[name].inputs == many[name].inputs
    assert few["machines-workshop"].inputs != many["machines-workshop"].inputs


def test_it_hands_on_the_machines_and_those_that_hold_a_proxy() -> None:
    result = made(nodes(3, proxies=[2, 3]))
    assert result.returned[0]["machines"] == [(f"core-0{n}", f"machines-core-0{n}-id") for n in (1, 2, 3)]
    assert result.returned[0]["proxies"] == ["core-02", "core-03"]


def test_it_tells_each_nodes_address_and_role() -> None:
    result = made(nodes(2, managers=1))
    expected = {
        "core-01": {"address": "192.168.56.11", "role": "manager"},
        "core-02": {"address": "192.168.56.12", "role": "worker"},
    }
    assert result.returned[0]["outputs"] == expected
    assert result.outputs["machines"] == {"nodes": expected}


def hosts(count: int, **more: Any) -> list[Node]:
    """Nodes that are hosts that exist."""
    return [
        replace(node, memory=0, cpus=0, host=HostSettings(name=node.name, address=node.address, user="admin", **more))
        for node in nodes(count)
    ]


def test_hosts_that_exist_need_no_box_and_no_network() -> None:
    result = made(hosts(2), provider="ssh")
    assert {name for _, name in result.inventory("machines")} == {
        *("machines", "machines-workshop", "machines-core-01", "machines-core-02"),
    }
    assert result["machines-core-01"].dependencies == {"machines-workshop"}
    assert result["machines-workshop"].environment == {
        "NODE": "",
        "WORK": ".work/dev",
        "STACK": "dev",
        "PROVIDER": "ssh",
        "NODES": "core-01 192.168.56.11 manager\ncore-02 192.168.56.12 manager",
        "SSH_CONFIG": render("swarm/hosts_ssh_config", work=WORK, nodes=hosts(2)),
        "CONNECT": render("swarm/hosts_connect.sh", work=WORK),
    }
    assert result["machines-workshop"].scripts == {
        "CREATE_SCRIPT": render("machines/workshop.sh", provider="ssh"),
        "DELETE_SCRIPT": render("machines/sweep.sh", provider="ssh"),
    }


def test_a_host_is_adopted_by_its_address_and_user_and_given_back() -> None:
    machine = made(hosts(1, port=2222, jump="bastion"), provider="ssh", ports=(8080, 80))["machines-core-01"]
    assert machine.environment == {
        "NODE": "core-01",
        "WORK": ".work/dev",
        "STACK": "dev",
        "HOST": "192.168.56.11 admin 2222 bastion",
        "PORTS": "8080 80",
        "SSH_CONFIG": render("machines/host_ssh_config", work=WORK, node=hosts(1, port=2222, jump="bastion")[0]),
    }
    assert machine.scripts == {
        "CREATE_SCRIPT": render("machines/create.sh", provider="ssh"),
        "DELETE_SCRIPT": render("machines/delete.sh", provider="ssh"),
    }
    assert machine.inputs["triggers"] == ["admin@192.168.56.11"]


def test_another_way_to_a_host_is_the_same_host() -> None:
    before, after = (made(hosts(1, **way), provider="ssh")["machines-core-01"] for way in ({}, {"port": 2222}))
    assert before.inputs["triggers"] == after.inputs["triggers"]
    assert before.environment["SSH_CONFIG"] != after.environment["SSH_CONFIG"]


def test_two_sets_stand_side_by_side() -> None:
    result = made(nodes(2), "left", "right")
    assert {name for _, name in result.inventory("left")} == {
        *("left", "left-workshop", "left-box", "left-core-01", "left-core-02"),
    }
    assert result["right-core-01"].dependencies == {"right-workshop", "right-box"}

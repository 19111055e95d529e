"""The machines: the stack folder, the box, one machine per node."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from components import scripts
from components.digest import folder_hash, text_hash
from components.machines import SENT_TO_HOSTS, Machines
from components.rendering import TEMPLATES, render
from tests.unit.harness import COMMAND, ROOT, Run, run, settings

COMPONENT = "swarm-site:index:Machines"
BOX = f"localhost/site/node:{folder_hash(ROOT / 'templates/images/node')[:12]}"
WORK = ".work/dev"


def made(values: Mapping[str, Any] | None = None, *names: str) -> Run:
    def body() -> Any:
        components = [Machines(name, settings(values)) for name in names or ("machines",)]
        return [
            {
                "outputs": component.outputs,
                "machines": [(machine.node.name, machine.resource.id) for machine in component.machines],
                "proxies": [machine.node.name for machine in component.proxies],
            }
            for component in components
        ]

    return run(body)


def count(number: int, **more: Any) -> Mapping[str, Any]:
    return {"machines": {"count": number, **more}}


def hosts(number: int, **more: Any) -> Mapping[str, Any]:
    listed = [
        {"name": f"core-0{n}", "address": f"192.168.56.{10 + n}", "user": "admin", **more} for n in range(1, number + 1)
    ]
    return {"machines": {"provider": "ssh", "hosts": listed}}


def test_there_is_a_folder_a_box_and_one_machine_a_node() -> None:
    assert made(count(3)).inventory("machines") == {
        (COMPONENT, "machines"),
        (COMMAND, "machines-identity"),
        (COMMAND, "machines-workshop"),
        (COMMAND, "machines-box"),
        (COMMAND, "machines-core-01"),
        (COMMAND, "machines-core-02"),
        (COMMAND, "machines-core-03"),
    }


def test_the_component_is_the_parent_of_all() -> None:
    children = made(count(2)).within("machines")
    assert {child.parent for child in children if child.name != "machines"} == {"machines"}


def test_the_folder_has_the_nodes_the_network_and_the_way_to_a_manager() -> None:
    folder = made(count(2))["machines-workshop"]
    assert (folder.step, folder.node) == ("stack-folder", "")
    assert folder.own == {
        "STACK": "dev",
        "PROVIDER": "docker",
        "IDENTITY": "output of machines-identity",
        "NETWORK": "192.168.56.0/24",
        "NODES": "core-01 192.168.56.11 manager\ncore-02 192.168.56.12 worker",
        "MEMORY_WANTED": "1024",
        "SSH_CONFIG": render("swarm/ssh_config", work=WORK, timeout_factor=1),
    }
    assert folder.scripts == {"create": "machines/stack_folder.sh", "delete": "machines/sweep.sh"}
    assert folder.inputs["triggers"] == []
    assert folder.timeouts == {"create": "5m", "update": "5m", "delete": "5m"}


@pytest.mark.parametrize(
    ("provider", "network", "addresses"),
    [
        ("docker", "10.20.0.0/16", {}),
        ("libvirt", "10.20.0.0/16", {"GATEWAY": "10.20.0.1", "DHCP_FIRST": "10.20.0.2", "DHCP_LAST": "10.20.255.254"}),
        (
            "libvirt",
            "172.16.0.128/28",
            {"GATEWAY": "172.16.0.129", "DHCP_FIRST": "172.16.0.130", "DHCP_LAST": "172.16.0.142"},
        ),
        ("virtualbox", "192.168.56.0/22", {"GATEWAY": "192.168.56.1", "NETMASK": "255.255.252.0"}),
        ("virtualbox", "192.168.58.16/28", {"GATEWAY": "192.168.58.17", "NETMASK": "255.255.255.240"}),
    ],
)
def test_the_folder_gets_what_its_provider_needs_of_the_network(
    provider: str, network: str, addresses: Mapping[str, str]
) -> None:
    folder = made({**count(1, provider=provider), "network": network})["machines-workshop"].own
    others = ("STACK", "PROVIDER", "IDENTITY", "NODES", "MEMORY_WANTED", "SSH_CONFIG")
    assert {key: value for key, value in folder.items() if key not in others} == {"NETWORK": network, **addresses}


def test_the_folder_is_created_first_and_removed_last() -> None:
    result = made(count(2))
    assert result["machines-workshop"].dependencies == {"machines-identity"}
    for name in ("machines-box", "machines-core-01", "machines-core-02"):
        assert "machines-workshop" in result[name].dependencies, name


def test_the_box_is_named_by_its_recipe_and_outlives_the_stack() -> None:
    box = made(count(1))["machines-box"]
    assert (box.step, box.node) == ("box", "")
    assert box.own == {
        "IMAGE": BOX,
        "RECIPE": "templates/images/node",
        "SOURCE": "",
        "MIRROR": "",
        "KEEP_ARCHIVE": "",
        "ARCHIVES": "images",
        "LOG": ".work/dev/machines-box.log",
    }
    assert (ROOT / box.environment["RECIPE"] / "Dockerfile").is_file()
    assert "delete" not in box.inputs
    assert box.timeouts == {"create": "20m", "update": "20m", "delete": "20m"}


def test_the_box_is_looked_up_at_the_mirror() -> None:
    values = {**count(1), "images": {"mirror": "mirror.example"}}
    assert made(values)["machines-box"].environment["MIRROR"] == "mirror.example"


def test_the_box_of_virtual_machines_is_the_public_one_or_an_own_one() -> None:
    box = made(count(1, provider="libvirt", box="own"))["machines-box"]
    assert (box.environment["BOX"], box.environment["PROVIDER"]) == ("own", "libvirt")
    assert box.environment["IMAGE"].startswith("localhost/site/machine:")
    assert box.scripts == {"create": "machines/box.sh"}
    assert box.timeouts["create"] == "60m"


def test_a_machine_has_a_vagrantfile_and_an_ssh_entry_of_its_own() -> None:
    node = settings(count(2)).nodes[1]
    machine = made(count(2))["machines-core-02"]
    network = settings().network
    vagrantfile = render("machines/Vagrantfile", provider="docker", stack="dev", node=node, box=BOX, network=network)
    assert (machine.step, machine.node) == ("machine", "core-02")
    assert machine.own == {
        "STACK": "dev",
        "PROVIDER": "docker",
        "VAGRANTFILE": vagrantfile,
        "SSH_CONFIG": render("machines/ssh_config", work=WORK, node=node, timeout_factor=1),
    }
    assert machine.scripts == {"create": "machines/create.sh", "delete": "machines/delete.sh"}
    assert machine.delete_before_replace
    assert machine.timeouts == {"create": "15m", "update": "15m", "delete": "15m"}


def test_another_vagrantfile_is_another_machine() -> None:
    before, after = made(count(2)), made(count(2, overrides={"core-02": {"memory": 768}}))
    vagrantfile = after["machines-core-02"].environment["VAGRANTFILE"]
    assert after["machines-core-02"].inputs["triggers"] == [text_hash(vagrantfile)]
    assert after["machines-core-02"].inputs["triggers"] != before["machines-core-02"].inputs["triggers"]
    assert after["machines-core-01"].inputs == before["machines-core-01"].inputs


def test_a_machine_needs_key_and_box_and_both_outlive_it() -> None:
    machine = made(count(1))["machines-core-01"]
    assert machine.dependencies == {"machines-workshop", "machines-box"}
    assert machine.deleted_with == ""


def test_a_machine_does_not_change_when_others_come_or_go() -> None:
    few, many = made(count(3)), made(count(5))
    for name in ("machines-core-01", "machines-core-02", "machines-core-03", "machines-box"):
        assert few[name].inputs == many[name].inputs
    assert few["machines-workshop"].inputs != many["machines-workshop"].inputs


def test_it_hands_on_the_machines_and_those_with_a_proxy() -> None:
    result = made(count(3))
    assert result.returned[0]["machines"] == [(f"core-0{n}", f"machines-core-0{n}-id") for n in (1, 2, 3)]
    assert result.returned[0]["proxies"] == ["core-02", "core-03"]


def test_it_outputs_each_nodes_address_and_role() -> None:
    result = made(count(2))
    expected = {
        "core-01": {"address": "192.168.56.11", "role": "manager"},
        "core-02": {"address": "192.168.56.12", "role": "worker"},
    }
    assert result.returned[0]["outputs"] == expected
    assert result.outputs["machines"] == {"nodes": expected}


def test_existing_hosts_need_no_box_and_no_network() -> None:
    result = made(hosts(3))
    assert {name for _, name in result.inventory("machines")} == {
        *("machines", "machines-identity", "machines-workshop"),
        *("machines-core-01", "machines-core-02", "machines-core-03"),
    }
    assert result["machines-core-01"].dependencies == {"machines-identity", "machines-workshop"}
    assert result["machines-workshop"].own == {
        "STACK": "dev",
        "PROVIDER": "ssh",
        "IDENTITY": "output of machines-identity",
        "NODES": "\n".join(f"core-0{n} 192.168.56.{10 + n} manager" for n in (1, 2, 3)),
        "SSH_CONFIG": render("swarm/hosts_ssh_config", work=WORK, nodes=settings(hosts(3)).nodes),
    }


def test_a_host_is_adopted_by_its_address_and_user_and_given_back() -> None:
    values = {**hosts(1, port=2222, jump="bastion"), "applications": {"docs": {"port": 8081}}}
    machine = made(values)["machines-core-01"]
    assert machine.own == {
        "STACK": "dev",
        "PROVIDER": "ssh",
        "IDENTITY": "output of machines-identity",
        "HOST": "192.168.56.11 admin 2222 bastion",
        "PORTS": "8080 8081 80",
        "SSH_CONFIG": render("machines/host_ssh_config", work=WORK, node=settings(values).nodes[0]),
    }
    assert machine.scripts == {"create": "machines/create.sh", "delete": "machines/delete.sh"}
    assert machine.inputs["triggers"] == ["admin@192.168.56.11"]


def test_another_way_to_a_host_is_the_same_host() -> None:
    before, after = (made(hosts(1, **way))["machines-core-01"] for way in ({}, {"port": 2222}))
    assert before.inputs["triggers"] == after.inputs["triggers"]
    assert before.environment["SSH_CONFIG"] != after.environment["SSH_CONFIG"]


def test_a_change_of_what_is_sent_to_a_host_adopts_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = made(hosts(1))["machines-core-01"]
    bundle = scripts.bundle
    for path in SENT_TO_HOSTS:
        changes = {path: "changed\n"}
        monkeypatch.setattr(scripts, "bundle", lambda name, by, more=changes: bundle(name, by) + more.get(name, ""))
        after = made(hosts(1))["machines-core-01"]
        assert after.environment["SCRIPT_HASH"] != before.environment["SCRIPT_HASH"], path
        assert after.inputs["triggers"] == before.inputs["triggers"]


def test_what_an_adoption_sends_is_what_its_script_reads() -> None:
    text = (TEMPLATES / "machines/providers/ssh.sh").read_text()
    read = re.findall(r"(?m)^(?![.#]).*?templates/([\w/]+[.]\w+)", text)
    assert sorted(read) == sorted(SENT_TO_HOSTS)


def test_each_provider_has_a_delete_of_its_own() -> None:
    texts = [
        made(values)["machines-core-01"].environment["DELETE_SCRIPT"]
        for values in (count(1), count(1, provider="libvirt"), count(1, provider="virtualbox"), hosts(1))
    ]
    assert len(set(texts)) == 4


def test_two_sets_stand_side_by_side() -> None:
    result = made(count(2), "left", "right")
    assert {name for _, name in result.inventory("left")} == {
        *("left", "left-identity", "left-workshop", "left-box", "left-core-01", "left-core-02"),
    }
    assert result["right-core-01"].dependencies == {"right-workshop", "right-box"}

"""The firewall of each node."""

from collections.abc import Mapping
from typing import Any

import pytest

from components import scripts
from components.firewall import Firewall
from tests.unit.harness import COMMAND, Run, machines, run, settings

HOSTS = [{"name": f"web-{n}", "address": f"192.0.2.{n}"} for n in (1, 2)]


def made(values: Mapping[str, Any] | None = None, *names: str) -> Run:
    def body() -> Any:
        known = settings(values)
        nodes = machines(known.nodes)
        components = [Firewall(name, known, nodes) for name in names or ("firewall",)]
        return [{node: each.id for node, each in component.firewalls.items()} for component in components]

    return run(body)


def count(number: int) -> Mapping[str, Any]:
    return {"machines": {"count": number}}


def test_there_is_one_firewall_a_node() -> None:
    result = made(count(2))
    assert result.inventory("firewall") == {
        ("swarm-site:index:Firewall", "firewall"),
        (COMMAND, "firewall-core-01"),
        (COMMAND, "firewall-core-02"),
    }
    assert {result[f"firewall-core-0{n}"].parent for n in (1, 2)} == {"firewall"}
    assert result.returned == [{f"core-0{n}": f"firewall-core-0{n}-id" for n in (1, 2)}]


def test_a_firewall_knows_the_ports_of_all_applications_but_not_the_proxies() -> None:
    result = made({**count(2), "applications": {"docs": {"port": 8081}}, "proxy": {"port": 8090}})
    firewall = result["firewall-core-02"]
    assert (firewall.step, firewall.node) == ("firewall", "core-02")
    hashed = firewall.own["NODES_HASH"]
    assert firewall.own == {
        "NODE_ADDRESS": "192.168.56.12",
        "PORTS": "8080 8081",
        "TRUSTED": "192.168.56.1",
        "NODES_HASH": hashed,
    }
    assert firewall.scripts == {"create": "firewall/install.sh", "delete": "firewall/dismiss.sh"}
    assert firewall.timeouts == {"create": "5m", "update": "5m", "delete": "5m"}


def test_it_is_installed_again_with_its_machine_and_waits_for_no_other() -> None:
    firewall = made(count(3))["firewall-core-02"]
    assert firewall.inputs["triggers"] == ["machine-core-02-id"]
    assert firewall.dependencies == {"machine-core-02"}


def test_it_changes_when_nodes_come_or_go() -> None:
    few, many = (made(count(number))["firewall-core-01"].own for number in (3, 5))
    assert few == made({"machines": {"count": 3, "memory": 768}})["firewall-core-01"].own
    assert {key for key in few if few[key] != many[key]} == {"NODES_HASH"}


@pytest.mark.parametrize(
    ("provider", "trusted"),
    [("docker", "192.168.56.1"), ("libvirt", "192.168.56.1"), ("virtualbox", "192.168.56.1 10.0.2.2")],
)
def test_a_created_machine_trusts_this_one(provider: str, trusted: str) -> None:
    assert made({"machines": {"count": 1, "provider": provider}})["firewall-core-01"].own["TRUSTED"] == trusted


def test_a_host_keeps_its_ssh_open() -> None:
    firewall = made({"machines": {"provider": "ssh", "hosts": HOSTS}})["firewall-web-1"]
    assert (firewall.own["TRUSTED"], firewall.own["NODE_ADDRESS"]) == ("", "192.0.2.1")


@pytest.mark.parametrize("file", ["apply.sh", "swarm-site-firewall.service"])
def test_a_change_of_what_is_sent_to_a_node_installs_it_again(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made(count(1))["firewall-core-01"].environment["SCRIPT_HASH"]
    known = scripts.bundle
    monkeypatch.setattr(scripts, "bundle", lambda path, provider="": known(path, provider) + "#" * path.endswith(file))
    assert made(count(1))["firewall-core-01"].environment["SCRIPT_HASH"] != before


def test_two_firewalls_stand_side_by_side() -> None:
    assert {name for _, name in made(count(1), "left", "right").inventory("right")} == {"right", "right-core-01"}

"""Two stacks of one user on one machine, whose settings differ only in the network: neither affects the other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.site import Site, alone, fetch, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.targets(provider="docker")]

NETWORKS = {"green": "192.168.71.0/25", "blue": "192.168.71.128/25"}


@dataclass(frozen=True)
class Two:
    """Both stacks, in one clone and one state folder."""

    green: Site
    blue: Site


@pytest.fixture(scope="module")
def two(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Both stacks, up; removed completely afterwards."""
    folder = tmp_path_factory.mktemp("two stacks")
    made = Two(*(Site(folder, logs / name, stack=name, network=network) for name, network in NETWORKS.items()))
    with alone("green"), alone("blue"):
        try:
            made.green.up()
            made.blue.up()
            yield made
        finally:
            made.green.sweep()
            made.blue.sweep()


def assert_serves(site: Site, url: str) -> None:
    """Assert that the stack serves its page and that every node and service is healthy."""
    assert fetch(url).text == (site.clone / "site/index.html").read_text()
    wait_until("all nodes active, all services complete", site.is_whole)


def assert_gone(site: Site, other: Site | None = None) -> None:
    """Assert that nothing of the stack is left, apart from the other stack's files in the same state folder."""
    others = f"work/{other.stack}/" if other else "\n"
    left = [line for line in site.left() if others not in line]
    assert not left, "left over:\n" + "\n".join(left)


def assert_goes_unnoticed(site: Site, by: Site) -> None:
    """Remove the stack; assert that nothing of it is left and that the other stack's visitors notice nothing."""
    with by.watch(f"{site.stack} goes", "core-02", "core-03") as record:
        wait_until("answers for everybody", record.goes_on)
        record.mark("down")
        site.down()
        record.mark("gone")
        wait_until("answers for everybody", record.goes_on)
    assert record.failed == 0, record
    assert_gone(site, by)
    assert_serves(by, first_proxy(by))


def first_proxy(site: Site) -> str:
    """Return the URL of the site, derived from its network and settings."""
    return site.proxy_url("core-02")


def test_only_the_network_differs(two: Two) -> None:
    green, blue = ((two.green.clone / f"Pulumi.{name}.yaml").read_text() for name in NETWORKS)
    assert green.replace(NETWORKS["green"], NETWORKS["blue"]) == blue


def test_each_stack_serves_at_its_own_addresses_from_its_own_swarm(two: Two) -> None:
    clusters = set()
    for site in (two.green, two.blue):
        assert_serves(site, first_proxy(site))
        assert sorted(site.machines()) == [site.container(node) for node in site.nodes]
        assert sorted(site.members()) == list(site.nodes)
        addresses = site.swarm("node", "inspect", *site.nodes, "--format", "{{.Status.Addr}}").split()
        assert sorted(addresses) == [site.address(node) for node in site.nodes]
        clusters.add(site.swarm("info", "-f", "{{.Swarm.Cluster.ID}}"))
    assert len(clusters) == 2
    assert set(two.green.machines()).isdisjoint(two.blue.machines())


def test_a_second_up_of_each_changes_nothing(two: Two) -> None:
    for site in (two.green, two.blue):
        assert re.search(r"Resources:\n +\d+ unchanged\n", site.up().text)
        assert site.preview() == {}


def test_destroying_the_second_stack_leaves_the_first_serving(two: Two) -> None:
    assert_goes_unnoticed(two.blue, by=two.green)


def test_a_network_used_by_another_stack_is_refused_by_name(two: Two) -> None:
    two.blue.configure({"network": NETWORKS["green"]})

    text = two.blue.up(fails=True).text

    assert f"the network {NETWORKS['green']} overlaps {NETWORKS['green']} on br-" in text
    assert "give this stack another one: pulumi config set network" in text
    assert two.blue.machines() == []
    assert_serves(two.green, first_proxy(two.green))
    two.blue.configure({})


def test_destroying_the_first_stack_leaves_the_second_serving(two: Two) -> None:
    two.blue.up()
    assert_goes_unnoticed(two.green, by=two.blue)
    two.blue.down()
    assert_gone(two.blue)

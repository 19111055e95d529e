"""Routes of this machine that overlap a network."""

import subprocess
import sys
from pathlib import Path

import pytest

from components.contract import PROJECT
from tools.routes import overlapping

TABLE = """\
default via 172.18.0.1 dev eth0 onlink
unreachable 192.168.56.0/25
10.8.0.1 via 10.8.0.5 dev tun0
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown
192.168.56.64/26 via 172.18.0.9 dev eth0
192.168.56.200 dev tun0 scope link
"""
OF_TABLE = [("192.168.56.64/26", "eth0"), ("192.168.56.200", "tun0")]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("192.168.56.0/24", "192.168.56.0/24", True),
        ("192.168.56.0/24", "192.168.57.0/24", False),
        ("192.168.56.0/24", "192.168.56.128/25", True),
        ("192.168.56.0/24", "192.168.0.0/16", True),
        ("192.168.56.0/24", "192.169.0.0/16", False),
        ("192.168.56.0/24", "10.0.0.0/8", False),
        ("10.20.0.0/16", "10.20.255.255/32", True),
        ("10.20.0.0/16", "10.21.0.0/32", False),
        ("172.16.0.0/28", "172.16.0.16/28", False),
        ("192.168.56.0/24", "0.0.0.0/0", True),
        ("255.255.255.0/24", "255.255.255.255/32", True),
        ("128.0.0.0/16", "0.0.0.0/16", False),
    ],
)
def test_a_network_overlaps_a_route_if_they_share_an_address(one: str, other: str, expected: bool) -> None:
    for network, route in ((one, other), (other, one)):
        found = list(overlapping(network, f"{route} dev eth1 scope link\n"))
        assert found == ([(route, "eth1")] if expected else [])


def test_host_routes_count_and_the_default_and_unreachable_ones_do_not() -> None:
    assert list(overlapping("192.168.56.0/24", TABLE)) == OF_TABLE
    assert list(overlapping("10.8.0.0/24", TABLE)) == [("10.8.0.1", "tun0")]
    assert list(overlapping("10.9.0.0/24", TABLE)) == []


def run(folder: Path, ip: str) -> subprocess.CompletedProcess[str]:
    """Run the tool with a stub of `ip`."""
    program = folder / "ip"
    program.write_text(f"#!/bin/sh\n{ip}\n")
    program.chmod(0o755)
    return subprocess.run(
        [sys.executable, "-m", "tools.routes", "192.168.56.0/24"],
        cwd=PROJECT,
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_prints_a_line_for_each_overlapping_route(tmp_path: Path) -> None:
    done = run(tmp_path, f"[ \"$*\" = '-4 route' ] && printf '%s' '{TABLE}'")
    assert (done.stdout, done.returncode) == ("192.168.56.64/26 eth0\n192.168.56.200 tun0\n", 0)


def test_a_routing_table_that_can_not_be_read_is_no_free_network(tmp_path: Path) -> None:
    done = run(tmp_path, "echo 'Cannot open netlink socket' >&2; exit 1")
    assert (done.stdout, done.returncode) == ("", 1)
    assert "Cannot open netlink socket" in done.stderr

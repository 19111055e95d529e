"""templates/firewall/: only the stack's nodes reach each other's ports."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from components.contract import FOLDER_FIREWALL
from tests.unit.shell import RECORDER, Answer, Finished, World, refused, succeeded

RESTORER = """#!/bin/sh
echo "here: ${0##*/} $*" >>"$STUBS/calls"
cat >"$STUBS/${0##*/}.input"
"""
NOTHING_HOOKED = [
    Answer("here: iptables -w 10 -S DOCKER-USER"),
    Answer("here: ip*tables -w 10 -C *", status=1),
    Answer("here: ip*tables -w 10 -I *"),
]
V4 = """*filter
:SWARM-SITE - [0:0]
:SWARM-SITE-FORWARD - [0:0]
:SWARM-SITE-NODES - [0:0]
-A SWARM-SITE -i lo -j RETURN
-A SWARM-SITE -s 192.0.2.1 -j RETURN
-A SWARM-SITE-FORWARD -s 192.0.2.1 -j RETURN
-A SWARM-SITE -p tcp --syn --dport 22 -j DROP
-A SWARM-SITE -p tcp --syn --dport 2377 -j SWARM-SITE-NODES
-A SWARM-SITE -p tcp --syn --dport 7946 -j SWARM-SITE-NODES
-A SWARM-SITE -p tcp --syn --dport 8080 -j SWARM-SITE-NODES
-A SWARM-SITE -p tcp --syn --dport 8081 -j SWARM-SITE-NODES
-A SWARM-SITE -p udp --dport 4789 -j SWARM-SITE-NODES
-A SWARM-SITE -p udp --dport 7946 -j SWARM-SITE-NODES
-A SWARM-SITE-FORWARD -p tcp --syn -m conntrack --ctstate DNAT --ctorigdstport 8080 -j SWARM-SITE-NODES
-A SWARM-SITE-FORWARD -p tcp --syn -m conntrack --ctstate DNAT --ctorigdstport 8081 -j SWARM-SITE-NODES
-A SWARM-SITE-FORWARD -o docker0 ! -i docker0 -m conntrack ! --ctstate DNAT,ESTABLISHED,RELATED -j DROP
-A SWARM-SITE-NODES -s 192.0.2.11 -j RETURN
-A SWARM-SITE-NODES -s 192.0.2.12 -j RETURN
-A SWARM-SITE-NODES -j DROP
COMMIT
"""
V6 = """*filter
:SWARM-SITE - [0:0]
-A SWARM-SITE -i lo -j RETURN
-A SWARM-SITE -p tcp --syn --dport 22 -j DROP
-A SWARM-SITE -p tcp --syn --dport 2377 -j DROP
-A SWARM-SITE -p tcp --syn --dport 7946 -j DROP
-A SWARM-SITE -p tcp --syn --dport 8080 -j DROP
-A SWARM-SITE -p tcp --syn --dport 8081 -j DROP
-A SWARM-SITE -p udp --dport 4789 -j DROP
-A SWARM-SITE -p udp --dport 7946 -j DROP
COMMIT
"""


# --- apply.sh ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Applied:
    """The script as it lies on a node, with the files it reads."""

    world: World

    @property
    def folder(self) -> Path:
        return self.world.folder / "firewall"

    def write(self, trusted: str = "192.0.2.1\n") -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "nodes").write_text("192.0.2.11\n192.0.2.12\n")
        (self.folder / "ports").write_text("8080\n8081\n")
        (self.folder / "trusted").write_text(trusted)
        known = {"/proc/net/if_inet6": str(self.world.folder / "if_inet6")}
        (self.folder / "apply").write_text(self.world.altered_text("firewall/apply.sh", known))

    def run(self, *arguments: str) -> Finished:
        return self.world.run("bash", str(self.folder / "apply"), *arguments)

    def rules(self, program: str = "iptables") -> str:
        return (self.world.stubs / f"{program}-restore.input").read_text()


@pytest.fixture
def applied(world: World) -> Applied:
    """A created node with IPv6, whose firewall was never applied."""
    for program in ("iptables", "ip6tables"):
        world.stub("here", program, RECORDER)
        world.stub("here", f"{program}-restore", RESTORER)
    (world.folder / "if_inet6").touch()
    world.plan(*NOTHING_HOOKED)
    node = Applied(world)
    node.write()
    return node


def test_only_nodes_reach_the_ports_of_the_swarm_and_its_applications(applied: Applied) -> None:
    succeeded(applied.run())
    assert applied.rules() == V4
    assert applied.rules("ip6tables") == V6
    assert [call.removeprefix("here: ") for call in applied.world.calls() if " -C " not in call] == [
        "iptables-restore -w 10 --noflush",
        "iptables -w 10 -I INPUT -j SWARM-SITE",
        "iptables -w 10 -S DOCKER-USER",
        "iptables -w 10 -I DOCKER-USER -j SWARM-SITE-FORWARD",
        "ip6tables-restore -w 10 --noflush",
        "ip6tables -w 10 -I INPUT -j SWARM-SITE",
    ]


def test_a_host_keeps_its_ssh_and_what_it_forwards_to_its_own_containers(applied: Applied) -> None:
    applied.write(trusted="")
    succeeded(applied.run())
    own = ("-s 192.0.2.1 ", "--dport 22 ", "-o docker0 ")
    assert applied.rules() == "".join(line for line in V4.splitlines(True) if not any(part in line for part in own))
    assert applied.rules("ip6tables") == "".join(line for line in V6.splitlines(True) if "--dport 22 " not in line)


def test_rules_that_are_there_are_replaced_and_hooked_only_once(applied: Applied) -> None:
    applied.world.plan(Answer("here: ip*tables -w 10 -[CS] *"))
    succeeded(applied.run())
    assert applied.rules() == V4
    assert not [call for call in applied.world.calls() if " -I " in call or " -N " in call]


def test_at_boot_the_chain_that_docker_will_use_is_created(applied: Applied) -> None:
    applied.world.plan(
        Answer("here: iptables -w 10 -S DOCKER-USER", status=1), Answer("here: iptables -w 10 -N *"), *NOTHING_HOOKED
    )
    succeeded(applied.run())
    calls = applied.world.calls()
    created, hooked = "here: iptables -w 10 -N DOCKER-USER", "here: iptables -w 10 -I DOCKER-USER -j SWARM-SITE-FORWARD"
    assert calls.index(created) < calls.index(hooked)


def test_a_node_without_ipv6_gets_no_rules_for_it(applied: Applied) -> None:
    (applied.world.folder / "if_inet6").unlink()
    succeeded(applied.run())
    assert not [call for call in applied.world.calls() if "ip6tables" in call]


def test_off_removes_exactly_what_was_added(applied: Applied) -> None:
    applied.world.plan(
        Answer("here: iptables -w 10 -C INPUT -j SWARM-SITE-NODES", status=1), Answer("here: ip*tables -w 10 *")
    )
    succeeded(applied.run("off"))
    assert [
        call.removeprefix("here: ") for call in applied.world.calls() if " -C " not in call and " -S " not in call
    ] == [
        "iptables -w 10 -D INPUT -j SWARM-SITE",
        "iptables -w 10 -F SWARM-SITE",
        "iptables -w 10 -X SWARM-SITE",
        "iptables -w 10 -D DOCKER-USER -j SWARM-SITE-FORWARD",
        "iptables -w 10 -F SWARM-SITE-FORWARD",
        "iptables -w 10 -X SWARM-SITE-FORWARD",
        "iptables -w 10 -F SWARM-SITE-NODES",
        "iptables -w 10 -X SWARM-SITE-NODES",
        "ip6tables -w 10 -D INPUT -j SWARM-SITE",
        "ip6tables -w 10 -F SWARM-SITE",
        "ip6tables -w 10 -X SWARM-SITE",
    ]


def test_off_may_run_where_nothing_was_added(applied: Applied) -> None:
    applied.world.plan(Answer("here: ip*tables -w 10 -S *", status=1))
    succeeded(applied.run("off"))


def test_rules_that_the_kernel_rejects_are_an_error(applied: Applied) -> None:
    applied.world.stub("here", "iptables-restore", "#!/bin/sh\necho 'iptables-restore: line 19 failed' >&2\nexit 1\n")
    done = applied.run()
    assert (done.returncode, done.stderr) == (1, "iptables-restore: line 19 failed\n")


# --- install.sh, dismiss.sh -------------------------------------------------------------------------------------------

INPUTS = {"NODE": "core-01", "NODE_ADDRESS": "192.0.2.11", "PORTS": "8080 8081", "TRUSTED": "192.0.2.1"}
UNIT = "swarm-site-firewall.service"


@dataclass(frozen=True)
class Nodes:
    """Nodes with a folder each, whose `apply` notes that it ran and for which nodes."""

    world: World

    def root(self, node: str) -> Path:
        return self.world.stubs / "roots" / node

    def text(self, path: str) -> str:
        folders = {FOLDER_FIREWALL: f"{self.world.stubs}/ROOT/firewall"}
        systemd = {"/etc/systemd/system": f"{self.world.stubs}/ROOT"} if path.endswith("install.sh") else {}
        return self.world.altered_text(path, folders | systemd)

    def install(self, **changes: str) -> Finished:
        return self.world.bash(self.text("firewall/install.sh"), **INPUTS | changes)

    def dismiss(self, **changes: str) -> Finished:
        return self.world.without_tree(self.text("firewall/dismiss.sh"), "firewall/dismiss.sh", **INPUTS | changes)

    def has_firewall(self, node: str, *addresses: str) -> None:
        """Give a node a firewall that lets these addresses in."""
        folder = self.root(node) / "firewall"
        folder.mkdir(parents=True)
        (folder / "nodes").write_text("".join(f"{address}\n" for address in addresses))
        (folder / "apply").write_text('echo "$ON_NODE" >>"$STUBS/applied"\n')
        self.record(node).write_text("".join(f"{address}\n" for address in addresses))

    def record(self, node: str) -> Path:
        return self.world.work / "machines" / node / "firewall"

    def let_in(self, node: str) -> list[str]:
        """Return the addresses that a node lets in; its record holds the same."""
        nodes = (self.root(node) / "firewall/nodes").read_text()
        assert self.record(node).read_text() == nodes
        return nodes.split()

    def applied(self) -> list[str]:
        log = self.world.stubs / "applied"
        return log.read_text().split() if log.exists() else []


@pytest.fixture
def nodes(world: World) -> Nodes:
    """Three nodes; the first has no firewall yet."""
    (world.stubs / "roots").mkdir()
    for name in ("rm", "mkdir", "mv", "ln"):
        (world.stubs / "node" / name).unlink()
    for program in ("iptables", "ip6tables", "systemctl"):
        world.stub("node", program, RECORDER)
    for program in ("iptables-restore", "ip6tables-restore"):
        world.stub("node", program, "#!/bin/sh\ncat >/dev/null\n")
    world.nodes("core-01", "core-02", "core-03")
    for number, name in enumerate(("core-01", "core-02", "core-03"), start=11):
        (world.work / "machines" / name / "ssh_config").write_text(f"Host {name}\n  HostName 192.0.2.{number}\n")
    world.plan(Answer("core-0?: ip*tables *"), Answer("core-0?: systemctl *"))
    return Nodes(world)


ALL = ["192.0.2.11", "192.0.2.12", "192.0.2.13"]


def systemd(nodes: Nodes) -> list[str]:
    return [call.partition("systemctl ")[2] for call in nodes.world.calls() if "systemctl" in call]


def test_a_firewall_is_installed_and_applied_and_restored_at_boot(nodes: Nodes) -> None:
    succeeded(nodes.install())
    folder = nodes.root("core-01") / "firewall"
    assert nodes.let_in("core-01") == ALL
    assert (folder / "ports").read_text() == "8080\n8081\n"
    assert (folder / "trusted").read_text() == "192.0.2.1\n"
    assert (folder / "apply").read_text() == (nodes.world.tree / "firewall/apply.sh").read_text()
    assert (nodes.root("core-01") / UNIT).read_text() == (nodes.world.tree / "firewall" / UNIT).read_text()
    assert systemd(nodes) == ["daemon-reload", f"-q enable --now {UNIT}"]
    assert "core-01: iptables -w 10 -C INPUT -j SWARM-SITE" in nodes.world.calls()

    succeeded(nodes.install(TRUSTED=""))
    assert (folder / "trusted").read_text() == ""
    assert systemd(nodes)[2:] == [f"-q enable --now {UNIT}"]


def test_a_firewall_that_can_not_be_installed_is_an_error(nodes: Nodes) -> None:
    nodes.world.stub("node", "iptables-restore", "#!/bin/sh\necho 'line 19 failed' >&2\nexit 1\n")
    error = refused(nodes.install())
    assert error == "line 19 failed\ncore-01: can't install its firewall (see above); run again: make up\n"
    assert not nodes.record("core-01").exists()


def test_the_first_nodes_of_a_stack_need_not_be_told_of_each_other(nodes: Nodes) -> None:
    succeeded(nodes.install())
    assert [line for line in nodes.world.connections() if line.startswith(("core-02", "core-03"))] == []


def test_a_new_node_is_let_in_by_the_others_that_do_not_know_it(nodes: Nodes) -> None:
    nodes.has_firewall("core-02", *ALL[1:])
    nodes.has_firewall("core-03", *ALL)
    succeeded(nodes.install())
    assert nodes.let_in("core-02") == ALL
    assert nodes.applied() == ["core-02"]


def test_a_node_that_is_about_to_leave_is_let_in_until_it_has_left(nodes: Nodes) -> None:
    (nodes.world.create("core-04") / "ssh_config").write_text("Host core-04\n  HostName 192.0.2.14\n")
    succeeded(nodes.install())
    assert nodes.let_in("core-01") == [*ALL, "192.0.2.14"]


def test_a_node_that_has_left_is_kept_out_by_the_others(nodes: Nodes) -> None:
    nodes.has_firewall("core-01", *ALL)
    nodes.has_firewall("core-02", *ALL, "192.0.2.14")
    nodes.has_firewall("core-03", *ALL, "192.0.2.14")
    succeeded(nodes.dismiss(NODE="core-04", NODE_ADDRESS="192.0.2.14"))
    assert [nodes.let_in(f"core-0{n}") for n in (1, 2, 3)] == [ALL, ALL, ALL]
    assert nodes.applied() == ["core-02", "core-03"]


def test_a_dead_node_is_told_neither_of_a_new_one_nor_of_one_that_has_left(nodes: Nodes) -> None:
    nodes.has_firewall("core-02", *ALL[1:], "192.0.2.14")
    nodes.world.kill("core-02")
    said = "core-02 did not change its firewall ({}, see above); the next make up that reaches it does\n"
    assert succeeded(nodes.install()) == f"core-01: {said.format('let_in 192.0.2.11')}"
    left = nodes.dismiss(NODE="core-04", NODE_ADDRESS="192.0.2.14")
    assert succeeded(left) == f"core-04: {said.format('keep_out 192.0.2.14')}"
    assert "No route to host" in left.stderr
    assert nodes.let_in("core-02") == [*ALL[1:], "192.0.2.14"]


def test_a_node_that_is_only_rebuilt_is_not_kept_out(nodes: Nodes) -> None:
    nodes.has_firewall("core-02", *ALL)
    succeeded(nodes.dismiss())
    assert nodes.world.connections() == []


def test_nobody_is_told_when_the_stacks_folder_is_gone(nodes: Nodes) -> None:
    (nodes.world.work / "nodes").unlink()
    succeeded(nodes.dismiss())
    assert nodes.world.connections() == []


def test_the_lock_of_a_firewall_is_not_held_by_connections(nodes: Nodes) -> None:
    nodes.has_firewall("core-02", *ALL[1:])
    succeeded(nodes.install())
    assert not (nodes.world.stubs / "holds-the-lock").exists()

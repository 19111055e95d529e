"""Half-dead nodes, a lost state, a swarm that refuses: what visitors and the administrator notice, and what heals it.

Each test is one fault, caused under load. `make faults` prints what they measured as a table.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.e2e.life import assert_steady, have_backend_on, index, repair, state_file, status, wait_until_whole
from tests.e2e.load import Record
from tests.e2e.site import Site, docker, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

PROXIES = ("core-02", "core-03")


@dataclass
class Row:
    """What one fault did: the requests meanwhile, the product's words, the command that healed it and its duration."""

    fault: str
    said: str = ""
    healed: str = ""
    sent: int = 0
    failed: int = 0
    slowest: float = 0
    begin: float = field(default_factory=time.monotonic)

    def heals(self, command: str, text: str, said: str) -> None:
        """Record what the product said before a command healed the fault."""
        assert said in text, text
        self.said, self.healed = said, f"{command}, {time.monotonic() - self.begin:.0f} s"

    def __str__(self) -> str:
        return f"| {self.fault} | {self.sent:,} | {self.failed} | {self.slowest:.1f} s | {self.said} | {self.healed} |"


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """The rows of all faults; printed at the end."""
    rows: list[Row] = []
    yield rows
    print("\n| fault | requests | failed | longest wait | the product says | healed by |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(*rows, sep="\n")


@contextlib.contextmanager
def under_load(
    site: Site, table: list[Row], fault: str, proxies: Sequence[str] = PROXIES, *, failed: int = 0, wait: float = 2.5
) -> Iterator[Row]:
    """Watch proxies while a fault is caused and healed in the block.

    Args:
        site: the site, which is whole again after the block.
        table: gets a row.
        fault: what is caused.
        proxies: nodes whose proxies are asked all along.
        failed: the number of requests that may fail.
        wait: the longest time a request may take, in seconds.
    """
    row = Row(fault)
    with site.watch(fault, *proxies, pages=[index(site).encode()]) as record:
        wait_until("answers for everybody", record.goes_on)
        record.mark("fault")
        yield row
        record.mark("healed")
        wait_until("answers for everybody", record.goes_on)
    measured: Record = record.of("GET")
    row.sent, row.failed, row.slowest = measured.sent, measured.failed, measured.slowest
    table.append(row)
    assert measured.failed <= failed, record
    assert measured.slowest <= wait, record
    assert_steady(site)


def on_host(site: Site, node: str, script: str) -> str:
    """Run a shell script as root on a node, and return its output."""
    return site.on_node(node, "bash", "-c", script)


# --- nothing is forgotten ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 0.5], ids=["empty", "cut off"])
def test_a_damaged_state_is_restored(trio: Site, table: list[Row], kept: float) -> None:
    path = state_file(trio)
    data = path.read_bytes()
    with under_load(trio, table, f"the state is {'cut off' if kept else 'empty'}") as row:
        path.write_bytes(data[: int(len(data) * kept)])
        row.heals("`make up`", trio.up().text, "is damaged; restored its checkpoint of")


def test_services_outlive_a_lost_state(trio: Site, table: list[Row]) -> None:
    with under_load(trio, table, "the state is lost, with all its copies") as row:
        for kind in ("stacks", "history", "backups"):
            for path in trio.state.rglob(f".pulumi/{kind}/*/{trio.stack}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        row.heals("`make up`", trio.up().text, "running but not in the state, so adopted: backend, proxy")


def test_a_lost_folder_is_written_again_and_a_lost_key_is_refused(trio: Site, table: list[Row]) -> None:
    machines = {node: trio.on_node(node, "cat", "/etc/machine-id") for node in trio.nodes}
    with under_load(trio, table, "the stack's folder is moved away, then its key restored") as row:
        away = trio.work.with_name("away")
        trio.work.rename(away)
        said = "is missing, and without this key no machine of stack"
        assert said in repair(trio, "core-01", fails=True)
        trio.work.mkdir(mode=0o700)
        shutil.copy2(away / "key", trio.work)
        text = trio.up().text
        row.heals("`make up`", f"{said}{text}", said)
    assert {node: trio.on_node(node, "cat", "/etc/machine-id") for node in trio.nodes} == machines
    # The machines mount a part of the old folder.
    shutil.rmtree(trio.work)
    away.rename(trio.work)


# --- nodes that are alive and of no use -------------------------------------------------------------------------------

CRASH = "until systemctl is-failed -q docker.service; do pkill -9 -x dockerd || true; sleep 0.2; done"
BREAK = f"cp /etc/docker/daemon.json /root/daemon.json; echo '{{' >/etc/docker/daemon.json; {CRASH}"
MEND = "mv /root/daemon.json /etc/docker/daemon.json"


def test_a_docker_that_systemd_gave_up_is_started(trio: Site, table: list[Row]) -> None:
    with under_load(trio, table, "Docker on a node has crashed until systemd gave up", ("core-02",)) as row:
        on_host(trio, "core-03", CRASH)
        found = {finding["part"]: finding["what"] for finding in status(trio)["findings"]}
        assert "answers and its Docker does not" in found["core-03"]
        row.heals("`make up`", trio.up().text, "its Docker had stopped; started it")
        wait_until_whole(trio)


def test_a_node_whose_docker_does_not_start_is_left_out_and_rebuilt(trio: Site, table: list[Row]) -> None:
    with under_load(trio, table, "Docker on a node does not start", ("core-02",)) as row:
        on_host(trio, "core-03", BREAK)
        text = trio.up(fails=True).text
        assert "except for: core-03" in text
        repair(trio, "core-03")
        row.heals(
            "`make repair NODE=core-03`", text, "its Docker does not start: unable to configure the Docker daemon"
        )
        wait_until_whole(trio)


def test_a_locked_node_is_named_and_joins_again(trio: Site, table: list[Row]) -> None:
    with under_load(trio, table, "the swarm is locked and a node restarted", ("core-02",)) as row:
        trio.swarm("swarm", "update", "--autolock=true")
        on_host(trio, "core-03", "systemctl restart docker || true")
        text = trio.up(fails=True).text
        repair(trio)
        row.heals("`make repair`", text, "core-03: is not in this stack's swarm (locked")
        trio.swarm("swarm", "update", "--autolock=false")
        wait_until_whole(trio)


def test_a_manager_that_is_cut_off_from_the_leader_stops_nobody(trio: Site, table: list[Row]) -> None:
    others = " ".join(trio.address(node) for node in PROXIES)
    cut = f"for other in {others}; do iptables -I INPUT -s $other -j DROP; done"
    with under_load(trio, table, "the first manager is cut off from the others") as row:
        on_host(trio, "core-01", cut)
        wait_until("a leader of the rest", lambda: "Leader" in " ".join(trio.members()[node] for node in PROXIES))
        wait_until("its death in the swarm", lambda: "Down" in trio.members()["core-01"])
        assert [node["name"] for node in status(trio)["nodes"].values()] == list(trio.nodes)
        text = trio.up(fails=True).text
        on_host(trio, "core-01", cut.replace("-I", "-D"))
        wait_until_whole(trio)
        row.heals("the network", text, "core-01: is not in this stack's swarm")


# --- what hangs -------------------------------------------------------------------------------------------------------

LOG_LINES = 5000
"""Requests whose log lines fill a container's output many times."""


def test_a_node_that_hangs_delays_visitors_once(trio: Site, table: list[Row]) -> None:
    have_backend_on(trio, "core-03")
    with under_load(trio, table, "a node with a backend hangs", ("core-02",)) as row:
        docker("pause", trio.container("core-03"))
        wait_until("a leader of the rest", lambda: trio.on_node("core-01", "docker", "node", "ls", "-q", check=False))
        wait_until("its death in the swarm", lambda: "Down" in trio.members()["core-03"])
        said = next(finding["what"] for finding in status(trio)["findings"] if finding["part"] == "core-03")
        docker("unpause", trio.container("core-03"))
        wait_until_whole(trio)
        row.heals("nothing", said, "does not answer")


def test_a_docker_that_hangs_delays_nobody(trio: Site, table: list[Row]) -> None:
    with under_load(trio, table, "Docker on a node hangs") as row:
        on_host(trio, "core-03", "pkill -STOP -x dockerd")
        urls = f"http://{trio.address('core-03')}/?[1-{LOG_LINES}]"
        answers = on_host(trio, "core-03", f"curl -s -o /dev/null -w '%{{http_code}}\\n' '{urls}' | sort | uniq -c")
        assert answers.split() == [str(LOG_LINES), "200"]
        said = next(finding["what"] for finding in status(trio)["findings"] if finding["part"] == "core-03")
        on_host(trio, "core-03", "pkill -CONT -x dockerd")
        wait_until_whole(trio)
        row.heals("nothing", said, "answers and its Docker does not")


# --- the product's own words ------------------------------------------------------------------------------------------


def test_a_node_that_rejects_the_key_is_not_called_dead(trio: Site, table: list[Row]) -> None:
    with under_load(trio, table, "a node rejects the stack's key") as row:
        keys = trio.work / "authorized_keys/vagrant"
        keys.rename(keys.with_name("away"))
        for connection in trio.work.glob("machines/*/ssh"):
            connection.unlink()
        text = trio.up(fails=True).text
        keys.with_name("away").rename(keys)
        row.heals("the key", text, "core-01 answers and rejects the login")

"""The life of a node: rebuilt, added, removed, dead, returned, changed by hand, among strangers; the site stays up.

All of these tests share one site, and each continues from the settings that the previous one left.
"""

import contextlib
import http.client
import json
import re
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.life import (
    INDEX,
    assert_steady,
    change,
    entries,
    have_backend_on,
    index,
    is_whole,
    machine_ids,
    managers,
    memory,
    repair,
    resize,
    settings,
    status,
    swarm_id,
    wait_until_whole,
    watched,
)
from tests.e2e.site import CONTENT, NODE_SECONDS, PROJECT, UP_SECONDS, Site, docker, fetch, wait_until
from tests.e2e.strangers import DROPPED_AT_LEAST, dropped, opened_to, stranger

pytestmark = [pytest.mark.e2e, pytest.mark.life]

PROXY = "/srv/swarm-site/proxy"
PARTS = ("machines", "firewall", "swarm", "nginx-image", "content", "content-switch", "ready")
PROXY_PARTS = ("proxy-seed", "proxy")
STEP = re.compile(
    r"^ *\S+ +\S+:\S+ (\S+) (created replacement|deleted original|replaced|created|updated|deleted)\b", re.MULTILINE
)
WORDS = {"created": "create", "updated": "update", "deleted": "delete"}
CONNECT_SECONDS = 2
MORE_MEMORY = 32
EXTRA_SECONDS = 40
"""How much a dead node may delay an `up`: two probes of it, a leader election, and the heartbeats that follow."""
FORM_AGAIN_SECONDS = 10
"""The longest allowed outage while the last manager re-creates the swarm."""


# --- helpers ----------------------------------------------------------------------------------------------------------


def give_memory(site: Site, node: str) -> None:
    """Increase the configured memory of one machine."""
    overrides = settings(site).get("machines", {}).get("overrides", {})
    change(site, "machines", overrides=overrides | {node: {"memory": memory(site, node) + MORE_MEMORY}})


def give_all_memory(site: Site) -> None:
    """Configure more memory for every machine than any has now."""
    most = max(memory(site, node) for node in site.nodes)
    change(site, "machines", overrides=None, memory=most + MORE_MEMORY)


def announced(site: Site) -> dict[str, str]:
    """Return the plan of a preview, with the three steps of a replacement as one `replace`."""
    return {name: "replace" if "replace" in op else op for name, op in site.preview().items()}


def done(text: str) -> dict[str, str]:
    """Return the changes in the output of an `up`, in the terms of a preview."""
    return {name: WORDS.get(words, "replace") for name, words in STEP.findall(text)}


def parts_of(*nodes: str, proxies: Sequence[str] = ("core-02", "core-03")) -> list[str]:
    """Return the names of the resources that belong to some nodes."""
    return [f"{part}-{node}" for node in nodes for part in (*PARTS, *(PROXY_PARTS if node in proxies else ()))]


def replaced(*nodes: str) -> dict[str, str]:
    """Return the changes of a rebuild of some nodes: the list of machines, and all resources of those nodes."""
    return {"machines-workshop": "update"} | dict.fromkeys(parts_of(*nodes), "replace")


def machine_memory(site: Site) -> dict[str, int]:
    """Return the actual memory of each machine in MB."""
    return {
        node: int(docker("inspect", "-f", "{{.HostConfig.Memory}}", site.container(node))) // 2**20
        for node in site.nodes
    }


def upstreams(site: Site, node: str) -> list[str]:
    """Return the backends configured in a node's proxy."""
    return re.findall(
        r"^ *server (\S+) max_fails=1", site.on_node(node, "cat", f"{PROXY}/current/nginx.conf"), re.MULTILINE
    )


@dataclass
class Rounds:
    """For tests in which no proxy stays up: each round asks all proxies in parallel; it is empty if none answers."""

    urls: Sequence[str]
    count: int = 0
    empty: list[str] = field(default_factory=list)
    both: int = 0

    def ask(self, pool: ThreadPoolExecutor) -> None:
        """Run one round."""
        faults = list(pool.map(fault_of, self.urls))
        self.count += 1
        self.both += not any(faults)
        if all(faults):
            self.empty.append(f"round {self.count}: {'; '.join(faults)}")


def fault_of(url: str) -> str:
    """Send one request; return what was wrong with the response, or an empty string."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(NODE_SECONDS)
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
        return "" if response.status == 200 and b"hello" in body else f"{url}: status {response.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"
    finally:
        connection.close()


@contextlib.contextmanager
def rounds(site: Site) -> Iterator[Rounds]:
    """Ask all proxies repeatedly until the block ends; no round may be empty."""
    record = Rounds([site.proxy_url(node) for node in site.running("proxy")])
    stop = threading.Event()

    def ask() -> None:
        with ThreadPoolExecutor(len(record.urls)) as pool:
            while not stop.is_set():
                record.ask(pool)
                stop.wait(0.02)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield record
    finally:
        stop.set()
        thread.join(2 * NODE_SECONDS)
        print(f"{record.count} rounds, {record.both} answered by all proxies, {len(record.empty)} by none")
    assert record.count > 100, record
    assert not record.empty, record


@contextlib.contextmanager
def node_events(site: Site, manager: str) -> Iterator[list[dict[str, Any]]]:
    """Collect one manager's node events while the block runs; the list is filled when the block ends."""
    events: list[dict[str, Any]] = []
    log = site.logs / "node-events.json"
    with log.open("wb") as output:
        words = ["sudo docker events --filter type=node --since 1s --format '{{json .}}'"]
        process = subprocess.Popen(
            ["tools/ssh", manager, *words],
            cwd=site.clone,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
    try:
        yield events
    finally:
        process.terminate()
        process.wait(NODE_SECONDS)
        events += [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


# --- rebuilt ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "command"),
    [("core-01", "make up"), ("core-02", "make up"), ("core-03", ". ./.env && pulumi up --yes --stack $STACK")],
    ids=["the first manager", "the first proxy", "a proxy by plain pulumi"],
)
def test_no_visitor_notices_the_rebuild_of_a_node(trio: Site, node: str, command: str) -> None:
    swarm, machines = swarm_id(trio), machine_ids(trio)
    give_memory(trio, node)
    assert announced(trio) == replaced(node)

    with watched(trio, f"rebuild of {node}", *(proxy for proxy in ("core-02", "core-03") if proxy != node)):
        text = trio.run("rebuild", command, seconds=UP_SECONDS).text

    assert done(text) == replaced(node)
    assert machine_memory(trio)[node] == memory(trio, node)
    again = machine_ids(trio)
    assert [name for name in trio.nodes if again[name] != machines[name]] == [node]
    assert swarm_id(trio) == swarm
    wait_until_whole(trio)
    assert_steady(trio)


def test_a_proxy_always_answers_while_one_up_rebuilds_all_nodes(trio: Site) -> None:
    rebuild_all(trio, "rebuild of all")


def test_a_proxy_always_answers_while_one_up_rebuilds_seven_nodes(trio: Site) -> None:
    resize(trio, 7)
    trio.up()
    wait_until_whole(trio)
    rebuild_all(trio, "rebuild of seven")
    resize(trio, 3)
    trio.up()
    wait_until_whole(trio)


def rebuild_all(site: Site, name: str) -> None:
    """Rebuild every machine with more memory in one `make up`, and check the result."""
    swarm, machines = swarm_id(site), machine_ids(site)
    give_all_memory(site)
    assert announced(site) == replaced(*site.nodes)

    with rounds(site), site.watch(name, pages=[index(site).encode()]) as record:
        wait_until("answers for everybody", record.goes_on)
        record.mark("up")
        text = site.run("rebuild", "make up", seconds=UP_SECONDS * len(site.nodes) / 3).text
        record.mark("done")

    assert done(text) == replaced(*site.nodes)
    assert set(machine_memory(site).values()) == {memory(site, "core-01")}
    again = machine_ids(site)
    assert [node for node in site.nodes if again[node] == machines[node]] == []
    assert swarm_id(site) == swarm
    wait_until_whole(site)
    assert_steady(site)


def test_too_little_parallelism_is_refused_before_any_change(trio: Site) -> None:
    machines, members, before = machine_ids(trio), trio.members(), settings(trio)
    give_all_memory(trio)

    text = trio.run("narrow", "make up", seconds=UP_SECONDS, fails=True, environment={"PULUMI_PARALLEL": "11"}).text

    assert "PULUMI_PARALLEL: 11 is too small for 3 machines" in text
    assert "export PULUMI_PARALLEL=12" in text
    assert done(text) == {}
    assert (machine_ids(trio), trio.members()) == (machines, members)
    trio.configure(before)
    assert_steady(trio)


# --- added and removed ------------------------------------------------------------------------------------------------


def test_no_visitor_notices_nodes_added_and_removed(trio: Site) -> None:
    swarm = swarm_id(trio)
    new = ("core-04", "core-05")
    lists = dict.fromkeys(("machines-workshop", "proxy-check", "proxy-core-02", "proxy-core-03"), "update")
    addresses = {node: trio.address(node) for node in trio.nodes}

    resize(trio, 5)
    lists |= dict.fromkeys((f"firewall-{node}" for node in trio.nodes[:3]), "update")
    coming = lists | dict.fromkeys(parts_of(*new), "create")
    assert announced(trio) == coming
    with node_events(trio, "core-02") as events, watched(trio, "3 to 5 nodes", "core-02", "core-03"):
        assert done(trio.up().text) == coming
        wait_until_whole(trio, 3)
    for node in new:
        assert_opened_last(trio, node, events)
    addresses |= {node: trio.address(node) for node in new}
    for proxy in ("core-02", "core-03"):
        assert upstreams(trio, proxy) == [f"{address}:8080" for address in addresses.values()]

    change(trio, "swarm", managers=5)
    promoted = {"machines-workshop": "update", "swarm-core-04": "update", "swarm-core-05": "update"}
    assert announced(trio) == promoted
    with watched(trio, "3 to 5 managers", "core-02", "core-03"):
        assert done(trio.up().text) == promoted
        wait_until_whole(trio, 5)

    resize(trio, 3)
    change(trio, "swarm", managers=3)
    going = lists | dict.fromkeys(parts_of(*new), "delete")
    assert announced(trio) == going
    with watched(trio, "5 to 3 managers", "core-02", "core-03"):
        assert done(trio.up().text) == going
        wait_until_whole(trio, 3)
    assert sorted(trio.machines()) == sorted(trio.container(node) for node in trio.nodes)
    for node in trio.nodes:
        assert trio.on_node(node, "cat", "/srv/swarm-site/firewall/nodes").split() == [*addresses.values()][:3]
    for proxy in ("core-02", "core-03"):
        assert upstreams(trio, proxy) == [f"{addresses[node]}:8080" for node in trio.nodes]

    assert swarm_id(trio) == swarm
    assert_steady(trio)


def assert_opened_last(site: Site, node: str, events: Sequence[Mapping[str, Any]]) -> None:
    """Assert that the node joined drained, and became active once, after it had its image and content."""
    opened = [
        (event["Actor"]["Attributes"]["availability.old"], event["timeNano"] / 1e9)
        for event in events
        if event["Actor"]["Attributes"].get("name") == node
        and event["Actor"]["Attributes"].get("availability.new") == "active"
    ]
    assert [old for old, _ in opened] == ["drain"], [event for event in events if node in json.dumps(event)]
    content = float(site.on_node(node, "stat", "-c", "%.Y", f"{CONTENT}/current"))
    image = site.outputs()["images"]["nginx"]
    tagged = site.on_node(node, "docker", "image", "inspect", "-f", "{{.Metadata.LastTagTime.Unix}}", image)
    assert content < opened[0][1]
    assert float(tagged) < opened[0][1]


def test_the_rebuild_of_a_single_manager_is_refused_before_any_change(trio: Site) -> None:
    change(trio, "swarm", managers=1)
    demoted = {"machines-workshop": "update", "swarm-core-02": "update", "swarm-core-03": "update"}
    assert announced(trio) == demoted
    with watched(trio, "3 managers to 1", "core-02", "core-03"):
        assert done(trio.up().text) == demoted
        wait_until_whole(trio, 1)
    assert_steady(trio)

    machines, before = machine_ids(trio), settings(trio)
    running = {service: trio.containers(service) for service in ("backend", "proxy")}
    with watched(trio, "refused", "core-02", "core-03"):
        give_memory(trio, "core-01")
        text = trio.up(fails=True).text
        assert "core-01: is the only manager; removing it would destroy the swarm" in text
        assert "Set swarm.managers to 3 first" in text
        assert "make down" in text
        assert machine_ids(trio) == machines
        assert {service: trio.containers(service) for service in running} == running
        assert is_whole(trio, 1)

        trio.configure(before)
        change(trio, "swarm", managers=None)
        trio.up()
        wait_until_whole(trio, 3)
    assert_steady(trio)


# --- dead -------------------------------------------------------------------------------------------------------------


def cut_off(site: Site, node: str) -> None:
    """Take a machine's link down; everything on the machine keeps running."""
    # The link keeps its address.
    script = (
        "ip -o -4 address show | awk -v a=$0/ 'index($4, a) == 1 { print $2 }' | xargs -I LINK ip link set LINK down"
    )
    docker("exec", site.container(node), "bash", "-euo", "pipefail", "-c", script, site.address(node))


def hang(site: Site, node: str) -> None:
    """Freeze a machine: it accepts connections but never answers."""
    docker("pause", site.container(node))


@pytest.mark.parametrize("fault", [cut_off, hang], ids=["cut off", "hung"])
def test_a_dead_first_manager_delays_nobody_and_returns_with_current_content(
    trio: Site, fault: Callable[[Site, str], None]
) -> None:
    dead, rest = "core-01", ["core-02", "core-03"]
    have_backend_on(trio, dead)
    old = index(trio)
    usual, _ = timed_change(trio, "venus")
    with docker_context(trio) as name:
        fault(trio, dead)
        # The swarm needs 10 to 20 s to elect a leader if the dead node was the leader.
        wait_until("a leader of the rest", lambda: trio.on_node(rest[0], "docker", "node", "ls", "-q", check=False))
        listed = docker("--context", name, "node", "ls", "--format", "{{.Hostname}}")
        assert sorted(listed.split()) == list(trio.nodes)
    seconds, text = timed_change(trio, "world", without=dead)
    new = index(trio)

    assert f"{dead} still runs; powering it off" in text
    assert re.search(rf"{dead}: is unreachable .*: drained and skipped; it catches up on the next make up", text)
    assert done(text) == {f"{step}-{node}": "update" for node in rest for step in ("content", "content-switch")}
    wait_until("two backends on the rest", lambda: trio.running("backend") == rest)
    assert "Drain" in trio.members()[dead]
    assert announced(trio) == {f"content-{dead}": "update", f"content-switch-{dead}": "update"}

    seen: list[str] = []
    with backend_pages(trio, seen):
        with watched(trio, f"return of a dead node, {fault.__name__}", *rest):
            text = trio.up().text
            wait_until_whole(trio)
        have_backend_on(trio, dead)
        wait_until("its answer", lambda: fetch(trio.backend_url(dead)).status == 200)
    assert f"{dead} was stopped; starting it" in text
    assert seen == [new], f"a backend served old content, such as {old!r}"
    assert done(text) == {f"content-{dead}": "update", f"content-switch-{dead}": "update"}
    assert_steady(trio)
    # Relative to the usual time, since a busy machine is slow at everything.
    assert seconds <= EXTRA_SECONDS + 2 * usual, f"{usual:.1f} s with all nodes, {seconds:.1f} s with a dead one"


@contextlib.contextmanager
def docker_context(site: Site) -> Iterator[str]:
    """Yield the name of a Docker context of the site's swarm, which is removed without a trace."""
    own = Path("~/.ssh/config").expanduser()
    before = own.read_text() if own.exists() else None
    site.run("context", "make context", seconds=NODE_SECONDS)
    name = f"{PROJECT}-{site.stack}"
    listed = docker("--context", name, "node", "ls", "--format", "{{.Hostname}}")
    assert sorted(listed.split()) == list(site.nodes)
    try:
        yield name
    finally:
        site.run("context", "make context REMOVE=1", seconds=NODE_SECONDS)
    assert name not in docker("context", "ls", "--format", "{{.Name}}").split()
    assert (own.read_text() if own.exists() else None) == before


def timed_change(site: Site, word: str, without: str = "") -> tuple[float, str]:
    """Change the page and run `make up`, which fails at the end without a node; return its duration and output."""
    (site.clone / INDEX).write_text(re.sub(r"hello \w+", f"hello {word}", index(site)))
    begin = time.monotonic()
    text = site.up(fails=bool(without)).text
    assert not without or re.search(rf"^up after \d+ s, except for: {without}$", text, re.MULTILINE), text
    return time.monotonic() - begin, text


@contextlib.contextmanager
def backend_pages(site: Site, seen: list[str]) -> Iterator[None]:
    """Collect every distinct page that the backends serve directly while the block runs."""
    stop = threading.Event()

    def ask(node: str) -> None:
        while not stop.is_set():
            page = fetch(site.backend_url(node))
            if page.status == 200 and page.text not in seen:
                seen.append(page.text)
            stop.wait(0.05)

    with ThreadPoolExecutor(len(site.nodes)) as pool:
        for node in site.nodes:
            pool.submit(ask, node)
        try:
            yield
        finally:
            stop.set()


@pytest.mark.parametrize("gone", ["core-01", "core-02"], ids=["the first manager", "the first proxy"])
def test_repair_rebuilds_a_node_that_is_gone_for_good(trio: Site, gone: str) -> None:
    swarm = swarm_id(trio)
    proxies = [node for node in ("core-02", "core-03") if node != gone]
    docker("rm", "-f", trio.container(gone))

    _, text = timed_change(trio, "moon", without=gone)

    assert f"{gone}: is unreachable" in text
    assert f"{trio.proxy_url(proxies[0])} answers" in text
    assert fetch(trio.proxy_url(proxies[0])).text == index(trio)
    document = status(trio)
    assert {found["part"]: found["what"] for found in document["findings"]}[gone].startswith("does not answer (")
    with watched(trio, "gone for good", *proxies):
        repair(trio, gone)
        wait_until_whole(trio)
    assert swarm_id(trio) == swarm
    assert trio.releases(gone)[0] == trio.outputs()["release"]
    assert_steady(trio)
    trio.restore(INDEX)
    trio.up()


def test_the_surviving_manager_restores_the_swarm_when_two_of_three_are_gone(trio: Site) -> None:
    survivor = next(node for node in trio.running("proxy") if node in trio.running("backend"))
    gone = [node for node in trio.nodes if node != survivor]
    services = trio.on_node(survivor, "docker", "service", "ls", "-q").split()

    with trio.watch("quorum lost", survivor, pages=[index(trio).encode()]) as record:
        wait_until("answers for everybody", record.goes_on)
        docker("rm", "-f", *map(trio.container, gone))
        # A manager takes a moment to notice that the quorum is lost.
        nodes = ("docker", "node", "ls", "-q")
        wait_until("the quorum to be missed", lambda: not trio.on_node(survivor, *nodes, check=False))
        document = status(trio)
        assert document["code"] in (1, 2)
        assert {finding["part"] for finding in document["findings"]} >= {"swarm", *gone}
        record.mark("repair")
        text = repair(trio, fails=True)
        record.mark("formed again")
        wait_until("answers for everybody", record.goes_on)
    # The only remaining backend may restart with the swarm.
    assert record.longest_gap <= FORM_AGAIN_SECONDS, record
    assert f"the quorum is lost; re-creating the swarm, with its services, from {survivor}" in text
    assert entries(trio) == [survivor]
    with watched(trio, "two rebuilt", survivor):
        for node in gone:
            assert f"make repair NODE={node}" in text
            repair(trio, node, fails=node != gone[-1])
        wait_until_whole(trio)
    assert trio.on_node(survivor, "docker", "service", "ls", "-q").split() == services
    assert_steady(trio)


# --- changed by hand --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drift:
    """A manual change, the finding that `make status` must report, and all that `make repair` may do about it."""

    by_hand: Callable[[Site], object]
    finding: str
    again: tuple[str, ...] = ()
    changed: Mapping[str, str] = field(default_factory=dict)


def remove_node(site: Site, node: str) -> None:
    """Remove a node's entry from the swarm; the node itself is not told."""
    other = next(name for name in site.nodes if name != node)
    site.on_node(other, "docker", "node", "demote", node)
    wait_until("the demotion", lambda: node not in managers(site))
    site.on_node(other, "docker", "node", "rm", "--force", node)


def change_service(site: Site, service: str) -> None:
    """Add a variable to a service, and wait until its tasks have it: a failure before that would roll it back."""
    site.swarm("service", "update", "--detach", "--env-add", "X=1", service)
    words = ("service", "inspect", "-f", "{{.UpdateStatus.State}}", service)
    wait_until("the change of the service", lambda: site.swarm(*words).strip() == "completed")


def remove_image(site: Site, node: str) -> None:
    """Remove the image from a node, even if a container uses it."""
    site.on_node(node, "docker", "image", "rm", "-f", site.outputs()["images"]["nginx"])


def remove_service(site: Site, service: str) -> None:
    """Remove a service, and wait for its containers to end: they keep serving until then."""
    site.swarm("service", "rm", service)
    wait_until("the end of its containers", lambda: not site.containers(service))


NODES_AND_FILES = (
    Drift(
        lambda site: site.swarm("node", "update", "--availability", "drain", "core-01"),
        r"core-01: is set to drain, so it takes no tasks \(drained by hand\)",
        ("ready-core-01",),
    ),
    Drift(
        lambda site: site.on_node("core-01", "docker", "node", "demote", "core-02"),
        "core-02: is a worker and should be a manager",
        ("swarm-core-02",),
    ),
    Drift(
        lambda site: site.on_node("core-03", "bash", "-c", f"echo spoiled >>{CONTENT}/current/index.html"),
        r"content on core-03: release \w{12} was changed there",
        ("content-core-03", "content-switch-core-03"),
    ),
    Drift(
        lambda site: site.on_node("core-02", "bash", "-c", f"echo '# spoiled' >>{PROXY}/current/nginx.conf"),
        "proxy configuration on core-02: is missing or was changed there",
        ("proxy-core-02",),
    ),
    Drift(
        lambda site: site.on_node("core-01", "iptables", "-D", "INPUT", "-j", "SWARM-SITE"),
        "firewall on core-01: is off",
        ("firewall-core-01",),
    ),
    Drift(
        lambda site: remove_image(site, "core-03"),
        r"image on core-03: is missing \(localhost:1/site-nginx:\w+\)",
        ("nginx-image", "nginx-image-core-03"),
    ),
    Drift(
        lambda site: site.swarm("service", "scale", "--detach", "backend=1"),
        "service backend: is scaled to 1 and should have 2",
        changed={"backend-service": "update"},
    ),
)
MEMBERS_AND_SETTINGS = (
    Drift(
        lambda site: site.on_node("core-02", "bash", "-c", f'rm -r "$(readlink -f {CONTENT}/current)"'),
        r"content on core-02: release \w{12} was changed there",
        ("content-core-02", "content-switch-core-02"),
    ),
    Drift(
        lambda site: site.on_node("core-03", "rm", f"{PROXY}/current/nginx.conf"),
        "proxy configuration on core-03: is missing or was changed there",
        ("proxy-core-03",),
    ),
    Drift(
        lambda site: change_service(site, "backend"),
        r"service backend: was changed by hand, or by a run that failed \(.*env.*\)",
        changed={"backend-service": "update"},
    ),
    Drift(
        lambda site: remove_node(site, "core-01"),
        "core-01: is not in this stack's swarm",
        ("swarm-core-01", "ready-core-01"),
    ),
)
SERVICES = (
    Drift(
        lambda site: remove_service(site, "backend"),
        "service backend: is not in the swarm",
        changed={"backend-service": "create"},
    ),
    Drift(
        lambda site: remove_service(site, "proxy"),
        "service proxy: is not in the swarm",
        changed={"proxy-service": "create", "proxy-running": "update"},
    ),
)


@pytest.mark.parametrize(
    "drifts",
    [NODES_AND_FILES, MEMBERS_AND_SETTINGS, SERVICES],
    ids=["nodes and files", "members and settings", "services"],
)
def test_manual_changes_are_reported_and_reverted_and_nothing_else(trio: Site, drifts: Sequence[Drift]) -> None:
    machines = machine_ids(trio)
    for drift in drifts:
        drift.by_hand(trio)

    document = status(trio)
    named = [f"{finding['part']}: {finding['what']}" for finding in document["findings"]]
    for drift in drifts:
        assert any(re.fullmatch(drift.finding, line) for line in named), (drift.finding, named)
    assert document["code"] == (2 if drifts is SERVICES else 1)
    screen = trio.begin("status", "make status").wait(UP_SECONDS)
    assert screen.status != 0
    for finding in document["findings"]:
        assert finding["part"] in screen.text
    assert "make repair" in screen.text

    text = repair(trio)

    again = set(re.findall(r"^(\S+): running again$", text, re.MULTILINE))
    assert again == {name for drift in drifts for name in drift.again}
    assert done(text.rpartition("Updating (")[2]) == {k: v for drift in drifts for k, v in drift.changed.items()}
    assert machine_ids(trio) == machines
    wait_until_whole(trio)
    assert_steady(trio)
    assert fetch(trio.outputs()["url"]).text == index(trio)


# --- among strangers --------------------------------------------------------------------------------------------------


def assert_closed(site: Site) -> None:
    """Assert that strangers reach only proxies, only from the stack's network, and that nodes reach each other."""
    before = {node: dropped(site, node) for node in site.nodes}
    assert opened_to(site, "bridge") == set()
    own = f"{PROJECT}-{site.stack}"
    assert opened_to(site, own) == {f"{site.address(node)}:80" for node in site.running("proxy")}
    for node in site.nodes:
        assert dropped(site, node) - before[node] >= DROPPED_AT_LEAST
    for node, container in site.containers("backend").items():
        address = site.inspect(node, container)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        route = (
            f"ip route add {address} via {site.address(node)} && curl -sm 2 -o /dev/null http://{address}/ || echo $?"
        )
        assert stranger(site, own, "bash", "-c", route) == "28\n", "a route leads to the container itself"
        for other in site.nodes:
            health = f"{site.backend_url(node)}.swarm-site/health"
            site.on_node(other, "curl", "-fsSm", "5", "-o", "/dev/null", health)


def test_strangers_reach_nothing_but_the_proxies(trio: Site) -> None:
    for node in trio.nodes:
        networks = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", trio.container(node)))
        assert list(networks) == [f"{PROJECT}-{trio.stack}"]
    assert_closed(trio)

    with watched(trio, "a restart of Docker", "core-03"):
        trio.on_node("core-01", "systemctl", "restart", "docker")
        wait_until_whole(trio)
    trio.kill("core-01")
    trio.start("core-01")
    wait_until_whole(trio)

    assert_closed(trio)
    assert_steady(trio)

"""Existing hosts, in the order of their owner's experience: refused, adopted, serving, killed, released as found.

The hosts are containers created by `hosts.sh`; one has no Docker yet, the others have Docker with a container and an
image of the owner.
"""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.e2e.benchmark import OF_ITS_DOCKER, Node, faults
from tests.e2e.life import status
from tests.e2e.site import DOWN_SECONDS, PROJECT, ROOT, UP_SECONDS, Site, alone, docker, fetch, wait_until
from tests.e2e.strangers import DROPPED_AT_LEAST, dropped, opened_to

pytestmark = [pytest.mark.e2e, pytest.mark.targets(provider="ssh")]

NETWORK = "192.168.70.0/24"
NETWORK_NAME = "test-hosts-192-168-70-0-24"
HOSTS = {"alpha": "192.168.70.11", "beta": "192.168.70.12", "gamma": "192.168.70.13"}
KINDS = {"alpha": "bare", "beta": "docker", "gamma": "docker"}
WAYS = {"alpha": {"jump": f"admin@{HOSTS['beta']}"}}
"""One host is reached through another."""
HOSTS_SECONDS = 600
INDEX = "site/index.html"
SSH = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".ssh"
KNOWN_HOSTS = SSH / "known_hosts2"
"""The second of the two files that ssh reads by default, so that the user's own stays untouched."""
SEEN = r"""
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n'
getent passwd; getent group
find /srv /etc /opt /usr/local -printf '%p %u %g %m %l\n' | sort
find /var/lib/docker /var/lib/containerd /var/lib -maxdepth 1 -printf '%p %u %g %m\n' | sort
ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward
"""
"""Commands that print a host's state, as its owner sees it."""
# Docker's DNS rules and the bridges' ids change with each start.
SEEN_OF_DOCKER = r"""
iptables-save | sed -E '/^#/d; /127\.0\.0\.11/d; s/\[[0-9:]+\]//'
docker ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.State}}'
docker image ls -a --no-trunc --format '{{.ID}} {{.Repository}}'
docker network ls --format '{{.Name}}'
docker volume ls -q
docker info -f '{{.Swarm.LocalNodeState}}'
"""


@dataclass
class Hosts(Site):
    """A stack on existing hosts."""

    stack: str = "hosts"
    network: str = NETWORK
    target: str = "ssh"

    @property
    def nodes(self) -> list[str]:
        """The host names."""
        return list(HOSTS)

    def configure(self, settings: dict[str, Any]) -> None:
        """Write the stack file: the hosts, and any other settings."""
        hosts = [
            {"name": name, "address": address, "user": "admin", **WAYS.get(name, {})} for name, address in HOSTS.items()
        ]
        self.write(self.stack, {"machines": {"provider": "ssh", "hosts": hosts}} | settings)

    def write(self, stack: str, settings: Mapping[str, Any]) -> None:
        """Write the stack file of any stack."""
        config = {f"{PROJECT}:{key}": value for key, value in settings.items()}
        salt = {"encryptionsalt": yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["encryptionsalt"]}
        (self.clone / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump(salt | {"config": config}, sort_keys=False))

    def container(self, node: str) -> str:
        """Return the name of the container that acts as a host."""
        return f"{NETWORK_NAME}-{node}"

    def seen(self, node: str) -> list[str]:
        """Return what a host's owner sees on it, as lines."""
        text = docker(
            "exec", self.container(node), "sh", "-c", SEEN + (SEEN_OF_DOCKER if KINDS[node] == "docker" else "")
        )
        # Leave out the account files and the backups that dpkg and the shadow tools make of them.
        return [line for line in text.splitlines() if not re.match(r"/etc/(passwd|group|g?shadow|sub[gu]id)-? ", line)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the key and the hosts' logs."""
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def agent(folder: Path) -> Iterator[None]:
    """A user whose ssh agent has the hosts' key, and whose ssh knows none of the hosts."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    socket = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    fresh = not SSH.exists()
    assert not KNOWN_HOSTS.exists(), f"{KNOWN_HOSTS} is the user's own: these tests would overwrite it"
    before = os.environ.get("SSH_AUTH_SOCK")
    try:
        wait_until("the agent", socket.exists)
        os.environ["SSH_AUTH_SOCK"] = str(socket)
        subprocess.run(["ssh-add", "-q", folder / "key"], check=True)
        SSH.mkdir(mode=0o700, exist_ok=True)
        yield
    finally:
        KNOWN_HOSTS.unlink(missing_ok=True)
        if fresh:
            shutil.rmtree(SSH)
        os.environ.pop("SSH_AUTH_SOCK")
        if before:
            os.environ["SSH_AUTH_SOCK"] = before
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def site(logs: Path, folder: Path, agent: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """A stack for the hosts, which are created first and removed last."""
    site = Hosts(tmp_path_factory.mktemp("a site"), logs)
    script = ROOT / "tests/e2e/hosts.sh"
    args = [word for name, address in HOSTS.items() for word in (name, address, KINDS[name])]
    with alone(site.stack):
        subprocess.run([script, "remove", NETWORK], check=True)
        try:
            subprocess.run([script, "make", folder, NETWORK, *args], check=True, timeout=HOSTS_SECONDS)
            yield site
        finally:
            site.sweep()
            subprocess.run([script, "remove", NETWORK], check=True)


@pytest.fixture(scope="module")
def found(site: Hosts) -> Mapping[str, list[str]]:
    """The hosts as found, before any adoption."""
    return {name: site.seen(name) for name in HOSTS}


@pytest.fixture
def running(site: Hosts, found: Mapping[str, list[str]]) -> Hosts:
    """The site, brought up if necessary, after the state of the hosts was recorded."""
    if not KNOWN_HOSTS.exists():
        know_the_hosts()
    if not site.is_up:
        site.up()
    return site


def know_the_hosts() -> None:
    """Trust the hosts' keys, as the owner does after checking the fingerprints."""
    keys = subprocess.run(["ssh-keyscan", *HOSTS.values()], capture_output=True, text=True, check=True).stdout
    KNOWN_HOSTS.write_text(keys)


def index(site: Site) -> str:
    """Return the page as it is now in the clone."""
    return (site.clone / INDEX).read_text()


def assert_as_found(site: Hosts, found: Mapping[str, list[str]], *names: str) -> None:
    """Assert that nothing changed on these hosts, all by default."""
    for name in names or HOSTS:
        now = site.seen(name)
        assert set(now) - set(found[name]) == set(), f"{name} has more than before"
        assert set(found[name]) - set(now) == set(), f"{name} has less than before"


# --- refused ----------------------------------------------------------------------------------------------------------


def test_hosts_unknown_to_ssh_are_refused_with_advice(site: Hosts, found: Mapping[str, list[str]]) -> None:
    text = site.up(fails=True).text

    # The engine starts no other host after the first failure.
    refused = [name for name in HOSTS if f"{name}: can't be adopted: " in text]
    assert refused
    for name in refused:
        jump = WAYS.get(name, {}).get("jump", "")
        unknown = jump.rpartition("@")[2] or HOSTS[name]
        assert f"{name}: can't be adopted: the host key of {unknown} is not known to this user's ssh" in text
        assert f"add it: ssh -p 22{jump and f' -J {jump}'} admin@{HOSTS[name]} true" in text
    assert_as_found(site, found)


def test_a_host_with_a_changed_key_is_refused_with_advice(site: Hosts, found: Mapping[str, list[str]]) -> None:
    know_the_hosts()
    text = KNOWN_HOSTS.read_text()
    KNOWN_HOSTS.write_text(re.sub(rf"(?m)^{HOSTS['alpha']} ", f"{HOSTS['beta']} ", text.replace(HOSTS["beta"], "x")))

    text = site.up(fails=True).text

    # The engine starts no other host after the first failure; alpha is reached through beta.
    assert re.search(r"(alpha|beta): can't be adopted: the host key of", text)
    assert f"the host key of {HOSTS['beta']} has changed: the host was reinstalled, or" in text
    assert f"forget the old one: ssh-keygen -R '{HOSTS['beta']}'" in text
    assert_as_found(site, found, "alpha", "beta")
    know_the_hosts()


# --- up ---------------------------------------------------------------------------------------------------------------


def test_one_command_serves_the_page(running: Hosts, found: Mapping[str, list[str]]) -> None:
    outputs = running.outputs()
    assert outputs["nodes"] == {name: {"address": address, "role": "manager"} for name, address in HOSTS.items()}
    assert fetch(outputs["url"]).text == index(running)
    assert sorted(running.running("proxy")) == ["beta", "gamma"]
    wait_until("all nodes active, all services complete", running.is_whole)
    for name in ("beta", "gamma"):
        owned = [line for line in found[name] if re.match(r"[0-9a-f]{64} owner running", line)]
        assert owned
        assert set(owned) <= set(running.seen(name)), "the owner's container was touched"
        assert not (set(running.seen(name)) & {"/etc/docker/daemon.json root root 644 "}), (
            "the owner's Docker was changed"
        )


def test_a_second_up_changes_nothing(running: Hosts) -> None:
    assert re.search(r"Resources:\n +\d+ unchanged\n", running.up().text)
    assert running.preview() == {}


def test_strangers_reach_only_ssh_and_the_proxies_of_hosts(running: Hosts) -> None:
    before = {name: dropped(running, name) for name in HOSTS}
    opened = {f"{address}:22" for address in HOSTS.values()} | {f"{HOSTS[name]}:80" for name in ("beta", "gamma")}
    assert opened_to(running, NETWORK_NAME) == opened
    for name in HOSTS:
        assert dropped(running, name) - before[name] >= DROPPED_AT_LEAST
        record = running.on_node(name, "cat", "/srv/swarm-site/host/changes").splitlines()
        assert "unit swarm-site-firewall.service" in record


def test_the_containers_on_hosts_are_confined_whoever_owns_docker(running: Hosts) -> None:
    found = {name: faults(Node(running, name), left_out=OF_ITS_DOCKER) for name in HOSTS}
    assert found == {name: {} for name in HOSTS}
    bare = [name for name, kind in KINDS.items() if kind == "bare"]
    assert [faults(Node(running, name), left_out=["5.29"]) for name in bare] == [{}]


def test_a_host_of_another_stack_is_refused_and_left_unchanged(running: Hosts) -> None:
    url = running.outputs()["url"]
    host = {"name": "alpha", "address": HOSTS["alpha"], "user": "admin"}
    running.write("others", {"machines": {"provider": "ssh", "hosts": [host]}})
    other = {"STACK": "others"}
    text = running.run("others-up", "make up", seconds=UP_SECONDS, fails=True, environment=other).text
    assert f"alpha: can't be adopted: it belongs to stack {running.stack} of " in text
    running.run("others-down", "make down", seconds=UP_SECONDS, environment=other)
    wait_until("all nodes active, all services complete", running.is_whole)
    assert fetch(url).text == index(running)


def test_new_content_goes_live_unnoticed(running: Hosts) -> None:
    old = index(running)
    new = old.replace("hello world", "hello earth")
    with running.watch("content on hosts", pages=[old.encode(), new.encode()]) as record:
        running.edit(INDEX, "hello world", "hello earth")
        record.mark("up")
        running.up()
        assert fetch(running.outputs()["url"]).text == new
        running.restore(INDEX)
        running.up()
    assert record.failed == 0, record


# --- what breaks ------------------------------------------------------------------------------------------------------


def test_no_visitor_notices_a_dead_host_and_it_catches_up_on_return(running: Hosts) -> None:
    old = index(running)
    new = old.replace("hello world", "hello earth")
    with running.watch("host killed", "beta", pages=[old.encode(), new.encode()]) as record:
        wait_until("answers for everybody", record.goes_on)
        record.mark("kill")
        running.kill("gamma")
        wait_until(
            "two backends on the rest",
            lambda: [n for n in running.running("backend") if n != "gamma"] == ["alpha", "beta"],
        )
        running.edit(INDEX, "hello world", "hello earth")
        text = running.up(fails=True).text
        record.mark("return")
        running.start("gamma")
        wait_until("gamma", lambda: running.on_node("gamma", "true", check=False) == "" and running.members()["gamma"])
        running.up()
    assert "gamma can't be powered off from here" in text
    assert re.search("gamma: is unreachable .*: drained and skipped", text)
    assert record.of("GET").failed == 0, record
    assert running.releases("gamma")[0] == running.outputs()["release"]
    wait_until("all nodes active, all services complete", running.is_whole)
    running.restore(INDEX)
    running.up()


def test_a_rebuilt_host_is_released_and_adopted_again(running: Hosts) -> None:
    with running.watch("host rebuilt", "beta", pages=[index(running).encode()]) as record:
        running.run("repair", "make repair NODE=gamma", seconds=UP_SECONDS)
    assert record.of("GET").failed == 0, record
    wait_until("all nodes active, all services complete", running.is_whole)
    assert running.preview() == {}


# --- another machine --------------------------------------------------------------------------------------------------


@pytest.fixture
def colleague(running: Hosts, tmp_path: Path) -> Hosts:
    """The same stack on a machine that has its state and a key, and has never run a command."""
    other = Hosts(tmp_path / "a colleague", running.logs.with_name("colleague"))
    other.backend = f"file://{quote(str(running.state))}/{PROJECT}/pulumi?metadata=skip"
    return other


def forget(site: Hosts) -> None:
    """Delete what a machine keeps, as a CI runner does after every command."""
    shutil.rmtree(site.state)


def test_another_machine_drives_the_stack(running: Hosts, colleague: Hosts) -> None:
    assert colleague.preview() == {}
    colleague.edit(INDEX, "hello world", "hello colleague")
    colleague.up()
    assert "hello colleague" in fetch(running.proxy_url("beta")).text
    forget(colleague)
    assert status(colleague)["findings"] == []
    forget(colleague)
    colleague.run("repair", "make repair NODE=gamma", seconds=UP_SECONDS)
    forget(colleague)
    assert "gamma\n" in colleague.run("ssh", "make ssh NODE=gamma <<<'uname -n'", seconds=60).text

    running.edit(INDEX, "hello world", "hello colleague")
    assert running.preview() == {}
    assert status(running)["findings"] == []
    running.restore(INDEX)
    running.up()
    wait_until("all nodes active, all services complete", running.is_whole)


def test_of_two_runs_the_second_is_refused_before_it_touches_anything(running: Hosts, colleague: Hosts) -> None:
    running.edit(INDEX, "hello world", "hello twice")
    first = running.begin("up", "make up")
    locks = running.state / PROJECT / "pulumi/.pulumi/locks"
    wait_until("its lock", lambda: any(locks.rglob("*.json")))
    text = colleague.up(fails=True).text
    assert f"stack {running.stack} is being changed by process" in text
    assert f"pulumi cancel --stack {running.stack}" in text
    assert first.wait(UP_SECONDS).status == 0
    running.restore(INDEX)
    running.up()


# --- down -------------------------------------------------------------------------------------------------------------


def test_another_machine_restores_all_hosts_as_they_were_found(
    running: Hosts, colleague: Hosts, found: Mapping[str, list[str]]
) -> None:
    running.is_up = False
    assert "everything of stack hosts was removed\n" in colleague.down().text
    assert_as_found(running, found)
    shutil.rmtree(running.work)


def test_down_restores_all_hosts_as_they_were_found(running: Hosts, found: Mapping[str, list[str]]) -> None:
    text = running.down().text

    assert "everything of stack hosts was removed\n" in text
    assert_as_found(running, found)
    assert running.left() == []


def test_down_skips_a_dead_host_and_reports_what_is_left_on_it(running: Hosts, found: Mapping[str, list[str]]) -> None:
    running.kill("alpha")

    text = running.run("down", "make down", seconds=DOWN_SECONDS, fails=True).text
    running.is_up = False

    assert f"alpha ({HOSTS['alpha']}) did not answer, so it was not given back" in text
    assert "everything of stack hosts was removed, except on these hosts" in text
    assert_as_found(running, found, "beta", "gamma")
    assert running.left() == []

    running.start("alpha")
    release = "until systemctl is-active -q docker; do :; done; sudo bash /srv/swarm-site/host/release"
    docker("exec", "--user", "admin", running.container("alpha"), "timeout", "90", "bash", "-c", release)
    assert_as_found(running, found, "alpha")

"""The main job on virtual machines: `make e2e TARGET=libvirt`. Each test continues where the previous one ended.

Without hardware support, the machines are emulated: everything takes several times as long, and so do the timeouts.
Tests marked `short` go from nothing to the page, kill one machine, and go back to nothing.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.e2e.load import GETTERS, load
from tests.e2e.site import NODE_SECONDS, PROJECT, Site, alone, fetch, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.targets(provider="libvirt")]

INDEX = "site/index.html"
TIMEOUT_FACTOR = 6
"""The factor on container timeouts for emulated machines."""
SLOW_SECONDS = 400
MORE_MEMORY = 544
MACHINES: dict[str, Any] = {"provider": "libvirt", "box": "own"}
SETTINGS: dict[str, Any] = {"machines": MACHINES, "proxy": {"connect_timeout_ms": 5000}}
"""An emulated machine occasionally takes more than half a second to accept a connection."""
T = TypeVar("T")


def virsh(*args: str, check: bool = True) -> str:
    """Run virsh and return its output."""
    done = subprocess.run(
        ["virsh", "--quiet", "--connect", "qemu:///system", *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or not check, f"virsh {' '.join(args)}: {done.stderr}"
    return done.stdout


class VirtualSite(Site):
    """A site on virtual machines."""

    @property
    def own(self) -> str:
        """The name, or name prefix, of everything of the stack in libvirt."""
        return f"{PROJECT}-{self.stack}"

    def machines(self) -> Sequence[str]:
        """Return the domains that are this stack's machines, in any state."""
        return [] if not libvirt_runs() else [d for d in virsh("list", "--all", "--name").split() if self._is_ours(d)]

    def kill(self, *nodes: str) -> None:
        """Power machines off abruptly."""
        for node in nodes:
            virsh("destroy", f"{self.own}-{node}")

    def left(self) -> Sequence[str]:
        """Return everything of the stack that is left on this machine."""
        home = Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d")
        images = Path("/var/lib/libvirt/images") / self.own
        return [
            *super().left(),
            *self._left_in_libvirt(),
            *(f"box {path}" for path in home.glob(f"boxes/{self.own}")),
            *(f"volume {path}" for path in [images, *images.glob("*")] if path.exists()),
            *(f"machine {args}" for args in emulators() if f"guest={self.own}-" in args),
        ]

    def _left_in_libvirt(self) -> Iterator[str]:
        if libvirt_runs():
            for kind, command in (("network", "net-list"), ("pool", "pool-list")):
                yield from (f"{kind} {name}" for name in virsh(command, "--all", "--name").split() if name == self.own)

    def sweep(self) -> None:
        """Force-remove what a failed or killed run left."""
        if libvirt_runs():
            for domain in self.machines():
                virsh("destroy", domain, check=False)
                virsh("undefine", domain, "--managed-save", "--snapshots-metadata")
            for command in (["net-destroy"], ["net-undefine"], ["pool-destroy"], ["pool-undefine"]):
                virsh(*command, self.own, check=False)
        shutil.rmtree(Path("/var/lib/libvirt/images") / self.own, ignore_errors=True)
        subprocess.run(["vagrant", "box", "remove", "--force", "--all", self.own], capture_output=True, check=False)
        super().sweep()


def libvirt_runs() -> bool:
    """Whether this machine's libvirtd answers; if it is stopped or not installed yet, it holds nothing."""
    if not shutil.which("virsh"):
        return False
    asked = subprocess.run(["virsh", "--connect", "qemu:///system", "uri"], capture_output=True, check=False)
    return asked.returncode == 0


def emulators() -> Sequence[str]:
    """Return the command lines of the virtual machines running on this machine."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualSite]:
    """A site for the tests of this module, removed completely afterwards."""
    chosen = os.environ.get("E2E_SITE")
    folder = Path(chosen).resolve() if chosen else tmp_path_factory.mktemp("a virtual site")
    site = VirtualSite(
        folder,
        logs / request.path.stem,
        stack="virt",
        network="192.168.72.0/24",
        target="libvirt",
        timeout_factor=TIMEOUT_FACTOR,
    )
    site.configure(SETTINGS)
    with alone(site.stack):
        if not chosen:
            site.sweep()
        yield site
        if not chosen:
            site.sweep()


@pytest.fixture
def running(site: VirtualSite) -> VirtualSite:
    """The site, brought up if it is not up."""
    if not site.is_up:
        site.up()
    return site


def index(site: Site) -> str:
    """Return the page as it is now in the clone."""
    return (site.clone / INDEX).read_text()


def slowly(what: str, condition: Callable[[], T]) -> T:
    """Wait for a condition with a timeout for emulated machines."""
    return wait_until(what, condition, seconds=SLOW_SECONDS)


@pytest.mark.short
def test_one_command_serves_the_page(site: VirtualSite) -> None:
    text = site.up().text

    assert re.search(r"machines (run with hardware virtualization|are emulated): ", text), "it is not said how they run"
    url = site.outputs()["url"]
    assert f"{url} answers" in text
    page = fetch(url)
    assert (page.status, page.text) == (200, index(site))
    slowly("all nodes active, all services complete", site.is_whole)
    for node in site.nodes:
        assert site.on_node(node, "systemd-detect-virt").strip() in ("kvm", "qemu")
        assert site.on_node(node, "hostname").strip() == node


@pytest.mark.short
def test_a_second_up_reports_no_changes(running: VirtualSite) -> None:
    assert re.search(r"Resources:\n +\d+ unchanged\n", running.up().text)
    assert running.preview() == {}


@pytest.mark.short
def test_only_the_stacks_own_key_opens_a_node(running: VirtualSite) -> None:
    known = Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d") / "insecure_private_key"
    for node in running.nodes:
        command = ["ssh", "-F", "/dev/null", "-i", str(known), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        command += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        done = subprocess.run(
            [*command, f"vagrant@{running.address(node)}", "true"], capture_output=True, text=True, check=False
        )
        assert "Permission denied (publickey)" in done.stderr


@pytest.mark.short
def test_no_visitor_notices_a_dead_machine(running: VirtualSite) -> None:
    proxies = running.running("proxy")
    victim = next(node for node in running.running("backend") if node != proxies[0])
    rest = [node for node in running.nodes if node != victim]
    pages = [index(running).encode()]
    with load(
        "virtual machine killed",
        [running.proxy_url(proxies[0])],
        folder=running.logs,
        pages=pages,
        visitors=GETTERS[:2],
    ) as record:
        slowly("answers", record.goes_on)
        record.mark("kill")
        running.kill(victim)
        slowly("two backends on the rest", lambda: [n for n in running.running("backend") if n in rest] == rest)
        record.mark("moved")
        slowly("answers of both", lambda: sorted(record.backends("moved")) == rest)
    assert record.failed == 0, record

    text = running.up().text

    assert f"{victim} was stopped; starting it" in text
    slowly("all nodes active, all services complete", running.is_whole)
    assert running.preview() == {}


def test_new_content_goes_live_everywhere_unnoticed(running: VirtualSite) -> None:
    old = index(running)
    urls = [running.proxy_url(node) for node in running.running("proxy")]
    pages = [old.encode(), old.replace("hello world", "hello earth").encode()]
    before = running.containers("backend")
    with load("virtual content", urls, folder=running.logs, pages=pages, visitors=GETTERS[:1]) as record:
        slowly("answers", record.goes_on)
        running.edit(INDEX, "hello world", "hello earth")
        record.mark("up")
        running.up()
        for url in urls:
            assert fetch(url).text == index(running)
    assert record.failed == 0, record
    assert running.containers("backend") == before, "a container was restarted"
    running.restore(INDEX)
    running.up()


@pytest.mark.short
def test_vagrant_accepts_the_rendered_vagrantfile(running: VirtualSite) -> None:
    for node in running.nodes:
        done = subprocess.run(
            ["vagrant", "validate"],
            cwd=running.work / "machines" / node,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Vagrantfile validated successfully." in done.stdout, done.stdout + done.stderr


def test_the_site_stays_up_while_one_machine_is_rebuilt(running: VirtualSite) -> None:
    node = running.nodes[0]
    uuid = virsh("domuuid", f"{running.own}-{node}")
    url = running.proxy_url(next(proxy for proxy in running.running("proxy") if proxy != node))
    overrides = {node: {"memory": MORE_MEMORY}}
    running.configure(SETTINGS | {"machines": MACHINES | {"overrides": overrides}})

    running.up()

    assert virsh("domuuid", f"{running.own}-{node}") != uuid
    assert json.loads(running.pulumi("stack output --json").text)["nodes"][node]["address"] == running.address(node)
    assert fetch(url).status == 200
    slowly("all nodes active, all services complete", running.is_whole)


def test_up_starts_machines_that_are_all_off(running: VirtualSite) -> None:
    running.kill(*running.nodes)
    assert running.preview() == {}

    text = running.up().text

    assert all(f"{node} was stopped; starting it" in text for node in running.nodes)
    assert fetch(running.outputs()["url"]).text == index(running)
    slowly("all nodes active, all services complete", running.is_whole)


@pytest.mark.short
def test_down_leaves_nothing(running: VirtualSite) -> None:
    assert running.machines()
    running.down()
    assert not running.left()
    assert not libvirt_runs() or not (running.state / PROJECT / "libvirtd.pid").exists()


def test_down_removes_half_created_and_dead_machines(site: VirtualSite) -> None:
    run = site.begin("killed-up", "make up")
    wait_until("the first machine", lambda: site.machines() or not run.is_alive(), seconds=SLOW_SECONDS)
    for pid in site.engines():
        subprocess.run(["kill", "-KILL", str(pid)], check=False)
    assert run.wait(NODE_SECONDS).status != 0
    machine = site.machines()[0]
    virsh("destroy", machine, check=False)

    site.down()

    assert not site.left()

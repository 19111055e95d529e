"""Helpers for tests in which a site lives through something: its settings, its state, and its visitors meanwhile."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.load import Record
from tests.e2e.site import PROJECT, UP_SECONDS, Site, docker, wait_until

INDEX = "site/index.html"
REPAIR_SECONDS = 420


def index(site: Site) -> str:
    """Return the page as it is now in the clone."""
    return (site.clone / INDEX).read_text()


def settings(site: Site) -> dict[str, Any]:
    """Return the current settings in the stack file, without the project prefix."""
    config = yaml.safe_load((site.clone / f"Pulumi.{site.stack}.yaml").read_text())["config"]
    return {key.removeprefix(f"{PROJECT}:"): value for key, value in config.items()}


def change(site: Site, section: str, **values: object) -> None:
    """Change some settings of a section and keep all others; None removes a setting."""
    old = settings(site)
    merged = old.get(section, {}) | values
    site.configure(old | {section: {key: value for key, value in merged.items() if value is not None}})


def memory(site: Site, node: str) -> int:
    """Return the configured memory of a machine in MB."""
    machines = settings(site).get("machines", {})
    return int(machines.get("overrides", {}).get(node, {}).get("memory") or machines.get("memory") or 512)


def resize(site: Site, count: int) -> None:
    """Configure a different number of machines."""
    change(site, "machines", count=count)
    site.count = count


def machine_ids(site: Site) -> dict[str, str]:
    """Return the id of each machine."""
    return {node: docker("inspect", "-f", "{{.Id}}", site.container(node)).strip() for node in site.nodes}


def entries(site: Site) -> list[str]:
    """Return every node entry in the swarm, including duplicate names."""
    return sorted(site.swarm("node", "ls", "--format", "{{.Hostname}}").split())


def managers(site: Site) -> list[str]:
    """Return the reachable managers of the swarm."""
    return sorted(node for node, part in site.members().items() if re.search(r"(Leader|Reachable)$", part))


def is_whole(site: Site, managing: int) -> bool:
    """Whether exactly the configured nodes are ready and active, and each service runs on two of them."""
    members = site.members()
    services = {service: set(site.running(service)) for service in ("backend", "proxy")}
    return (
        entries(site) == list(site.nodes)
        and managers(site) == list(site.nodes[:managing])
        and all(part.startswith("Ready Active") for part in members.values())
        and all(len(nodes) == 2 for nodes in services.values())
    )


def wait_until_whole(site: Site, managing: int = 3) -> None:
    """Wait until nodes and services match the current settings."""
    wait_until("all nodes active, all services complete", lambda: is_whole(site, managing))


def have_backend_on(site: Site, node: str) -> None:
    """Move one of the backends to a node; the proxy on the node it leaves stops for a moment."""
    backends = site.running("backend")
    if node not in backends:
        site.swarm("node", "update", "--availability", "drain", backends[0])
        wait_until(
            f"a backend on {node}", lambda: len(site.running("backend")) == 2 and node in site.running("backend")
        )
        site.swarm("node", "update", "--availability", "active", backends[0])
        wait_until_whole(site)


def state_file(site: Site) -> Path:
    """Return the state file of the site's stack."""
    (found,) = site.state.rglob(f"stacks/*/{site.stack}.json")
    return found


def status(site: Site) -> dict[str, Any]:
    """Return the report of `make status`; the exit status must equal its code."""
    command = "tools/setup preview 2>/dev/null && . ./.env && python -m tools.status --json"
    call = site.begin("status", command).wait(UP_SECONDS, quiet=True)
    document: dict[str, Any] = json.loads(call.text)
    assert call.status == document["code"], call.text
    return document


def repair(site: Site, node: str = "", *, fails: bool = False) -> str:
    """Run `make repair` and return its output."""
    command = f"make repair NODE={node}" if node else "make repair"
    return site.run("repair", command, seconds=REPAIR_SECONDS, fails=fails).text


def assert_steady(site: Site) -> None:
    """Assert that status and preview report nothing to do; a node just promoted may be busy for a moment."""
    wait_until("nothing to do", lambda: status(site)["findings"] == [])
    assert site.preview() == {}


@contextlib.contextmanager
def watched(site: Site, name: str, *proxies: str) -> Iterator[Record]:
    """Watch proxies that stay up, and require responses for every visitor before, during and after the block."""
    with site.watch(name, *proxies, pages=[index(site).encode()]) as record:
        wait_until("answers for everybody", record.goes_on)
        record.mark("begin")
        yield record
        record.mark("end")
        wait_until("answers for everybody", record.goes_on)
    assert record.of("GET").lost_none(reloads=len(proxies)), record


def swarm_id(site: Site) -> str:
    """Return the id of the swarm."""
    return site.swarm("info", "--format", "{{.Swarm.Cluster.ID}}").strip()

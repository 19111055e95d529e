"""Findings of `make status` and `make repair` on a stack of two images and two applications."""

import contextlib
import subprocess
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from components.contract import Step
from components.digest import text_hash
from components.scripts import bundle
from tests.unit.state import command, outputs, service, state
from tools import stack
from tools.observe import Observation, drained_reason, observe
from tools.stack import Resource, ToolError

NODES = ("core-01", "core-02")
IMAGES = {"nginx": "localhost:1/site-nginx:0a", "docs": "localhost:1/site-docs:0b"}
RELEASE = "1" * 64
CONFIGURATION = "events {}\n"
STATE = state(
    *(command(Step.IMAGE, f"{name}-image", IMAGE=image) for name, image in IMAGES.items()),
    *(
        command(Step.IMAGE_DELIVERY, f"{name}-image-{node}", node, IMAGE=image)
        for name, image in IMAGES.items()
        for node in NODES
    ),
    *(command(Step.FIREWALL, f"firewall-{node}", node) for node in NODES),
    *(command(Step.MEMBERSHIP, f"swarm-{node}", node) for node in NODES),
    *(command(Step.CONTENT_SWITCH, f"content-switch-{node}", node) for node in NODES),
    *(command(Step.CONTENT_DELIVERY, f"content-{node}", node) for node in NODES),
    *(command(Step.ACTIVATION, f"ready-{node}", node) for node in NODES),
    command(Step.PROXY_CONFIGURATION, "proxy-core-02", "core-02", CONFIGURATION=CONFIGURATION),
    service("backend", {"replicated": {"replicas": 2}}),
    service("docs", {"replicated": {"replicas": 1}}),
    service("proxy", {"global": True}),
    outputs(
        nodes={node: {"address": f"192.0.2.1{node[-1]}", "role": "manager"} for node in NODES},
        images=IMAGES,
        release=RELEASE,
        proxy_urls=["http://192.0.2.12/"],
    ),
)


@dataclass
class Nodes:
    """The nodes' answers; a healthy stack unless a test changes it."""

    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    drained: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=lambda: {"backend": "2/2", "docs": "1/1", "proxy": "1/1"})
    updates: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    page: str = ""
    managed: bool = True
    silence: str = "No route to host\n"

    def __post_init__(self) -> None:
        for node in NODES:
            images = {f"image:{image}": "present" for image in IMAGES.values()}
            self.facts[node] = {**images, "firewall": "on", "release": RELEASE, "release_intact": "yes"}
            self.members[node] = "Ready\tActive\tReachable"
            self.drained[node] = "true\t"
        self.facts["core-02"]["proxy_hash"] = text_hash(CONFIGURATION)

    def answer(self, name: str, *command: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
        """Replace stack.on_node."""
        if name not in self.facts or (command[:2] == ("docker", "node") and not self.managed):
            return subprocess.CompletedProcess(command, 255, "", self.silence)
        text = "\n".join(self.swarm())
        if bundle("status/node.sh") in command:
            self.asked.append(command[5:])
            text = "\n".join(f"{key} {value}" for key, value in self.facts[name].items())
        return subprocess.CompletedProcess(command, 0, text, "")

    def swarm(self) -> Iterator[str]:
        """Yield the lines of status/manager.sh."""
        yield from (f"node\t{name}\t{member}" for name, member in self.members.items())
        yield from (f"drained\t{name}\t{labels}" for name, labels in self.drained.items())
        yield from (f"service\t{name}\t{replicas}" for name, replicas in self.services.items())
        yield from (f"update\t{name}\t{update}" for name, update in self.updates.items())
        yield from (f"fault\t{line}" for line in self.faults)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    nodes = Nodes()

    @contextlib.contextmanager
    def urlopen(url: str, timeout: float) -> Iterator[None]:
        assert url == "http://192.0.2.12/.swarm-site/health", "what the content has does not matter"
        if nodes.page:
            raise urllib.error.URLError(nodes.page)
        yield

    monkeypatch.setattr(stack, "resources", lambda: STATE)
    monkeypatch.setattr(stack, "on_node", nodes.answer)
    monkeypatch.setattr(stack, "pulumi_json", lambda *_: {"steps": []})
    monkeypatch.setattr(stack.DIRECTLY, "open", urlopen)
    return nodes


def found(seen: Observation) -> dict[str, tuple[str, list[str]]]:
    """Return the findings by part: its condition, and the names of the Commands that fix it."""
    return {
        finding.part: (finding.what, [stack.name_of(command) for command in finding.again]) for finding in seen.findings
    }


def test_a_healthy_stack_has_no_findings(nodes: Nodes) -> None:
    seen = observe()
    assert (found(seen), seen.code, seen.manager) == ({}, 0, "core-01")


def test_a_firewall_that_is_off_is_installed_again(nodes: Nodes) -> None:
    del nodes.facts["core-02"]["firewall"]
    assert found(observe()) == {"firewall on core-02": ("is off", ["firewall-core-02"])}


def test_a_stack_of_a_version_without_firewalls_does_not_miss_them(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    del nodes.facts["core-02"]["firewall"]
    monkeypatch.setattr(stack, "resources", lambda: {urn: one for urn, one in STATE.items() if "firewall-" not in urn})
    assert found(observe()) == {}


def test_every_image_is_looked_for_on_every_node(nodes: Nodes) -> None:
    del nodes.facts["core-02"][f"image:{IMAGES['docs']}"]
    assert found(observe()) == {
        "image on core-02": ("is missing (localhost:1/site-docs:0b)", ["docs-image", "docs-image-core-02"])
    }
    assert nodes.asked == [tuple(IMAGES.values())] * len(NODES)


def test_every_application_is_looked_at(nodes: Nodes) -> None:
    nodes.services = {"backend": "2/2", "docs": "0/1", "proxy": "1/1"}
    nodes.faults = ["docs.1\tcore-01\tport is in use\tid1", "docs.1\tcore-02\tno such image\tid2"]
    assert found(observe()) == {
        "service docs": ("runs 0 of 1 tasks: core-01: port is in use; core-02: no such image", [])
    }
    nodes.services = {"backend": "2/3", "proxy": "1/1"}
    seen = observe()
    assert [(finding.part, finding.what, finding.refresh) for finding in seen.findings] == [
        ("service backend", "is scaled to 3 and should have 2", True),
        ("service backend", "runs 2 of 3 tasks", False),
        ("service docs", "is not in the swarm", True),
    ]


def test_what_a_node_lacks_is_fixed_by_the_commands_of_that_node(nodes: Nodes) -> None:
    del nodes.facts["core-01"]["release_intact"]
    nodes.facts["core-02"]["proxy_hash"] = "3" * 64
    del nodes.members["core-02"]
    assert found(observe()) == {
        "content on core-01": (
            f"release {RELEASE[:12]} was changed there",
            ["content-core-01", "content-switch-core-01"],
        ),
        "core-02": ("is not in this stack's swarm", ["swarm-core-02", "ready-core-02"]),
        "proxy configuration on core-02": ("is missing or was changed there", ["proxy-core-02"]),
    }


EXPIRED = "certificate (1 - 0a) not valid after Thu, 01 Jan: x509: certificate has expired"
LOCKED = "Swarm is encrypted and needs to be unlocked before it can be used."
UNLOCK = "make ssh NODE=core-02, then: sudo docker swarm unlock; without its key: make repair"


@pytest.mark.parametrize(
    ("state", "error", "remedy"),
    [
        ("error", EXPIRED, "make repair"),
        ("locked", LOCKED, UNLOCK),
        ("pending", "", "make repair"),
        ("inactive", "", "make repair"),
    ],
)
def test_a_node_out_of_its_swarm_is_named_with_dockers_own_error(
    nodes: Nodes, state: str, error: str, remedy: str
) -> None:
    nodes.facts["core-02"] |= {"swarm": state, **({"swarm_error": error} if error else {})}
    nodes.members["core-02"] = "Down\tActive\tUnreachable"
    [finding] = observe().findings
    why = f"{state}: {error}" if error else state
    assert (finding.part, finding.what) == ("core-02", f"is not in this stack's swarm ({why})")
    assert finding.remedy == remedy
    assert [stack.name_of(command) for command in finding.again] == ["swarm-core-02", "ready-core-02"]


def test_nodes_that_are_all_out_of_the_swarm_are_named_though_no_manager_answers(nodes: Nodes) -> None:
    nodes.managed = False
    for node in NODES:
        nodes.facts[node] |= {"swarm": "error", "swarm_error": EXPIRED}
    assert found(observe()).keys() == {"swarm", "core-01", "core-02"}


@pytest.mark.parametrize(
    ("proxy_label", "reason", "expected"),
    [
        ("", "", "joined, not activated yet"),
        ("false", "", "drained by hand"),
        ("true", "make up found it unreachable", "make up found it unreachable"),
        ("", "leaving the swarm", "leaving the swarm"),
    ],
)
def test_a_drained_node_has_a_reason(nodes: Nodes, proxy_label: str, reason: str, expected: str) -> None:
    assert drained_reason(proxy_label, reason) == expected
    nodes.members["core-02"] = "Ready\tDrain\tReachable"
    nodes.drained["core-02"] = f"{proxy_label}\t{reason}"
    seen = observe()
    assert seen.members["core-02"].drained == expected
    assert found(seen) == {"core-02": (f"is set to drain, so it takes no tasks ({expected})", ["ready-core-02"])}


def test_an_active_node_has_no_reason_to_be_drained(nodes: Nodes) -> None:
    nodes.drained["core-02"] = "true\tan old reason"
    assert observe().members["core-02"].drained == ""


def test_a_dead_node_keeps_its_reason(nodes: Nodes) -> None:
    del nodes.facts["core-02"]
    nodes.members["core-02"] = "Down\tDrain\tUnreachable"
    nodes.drained["core-02"] = "true\tmake up found it unreachable"
    seen = observe()
    assert seen.members["core-02"].drained == "make up found it unreachable"
    assert list(found(seen)) == ["core-02"]


@pytest.mark.parametrize(
    ("silence", "what"),
    [
        ("No route to host\n", "does not answer (No route to host)"),
        ("Permission denied (publickey).\n", "answers and rejects the login (Permission denied (publickey).)"),
    ],
)
def test_a_node_that_gives_no_facts_is_named_with_the_reason(nodes: Nodes, silence: str, what: str) -> None:
    del nodes.facts["core-02"]
    nodes.silence = silence
    assert found(observe()) == {"core-02": (what, [])}


def test_a_member_of_no_node_is_named(nodes: Nodes) -> None:
    nodes.members["stranger"] = "Down\tActive\t"
    seen = observe()
    assert found(seen) == {"stranger": ("is in the swarm but not in this stack", [])}
    assert seen.findings[0].remedy == "make ssh NODE=core-01"


def test_a_stack_without_a_page_is_down(nodes: Nodes) -> None:
    nodes.page = "connection refused"
    seen = observe()
    assert seen.code == 2
    assert "connection refused" in found(seen)["http://192.0.2.12/"][0]


def test_the_inputs_that_a_service_was_changed_in_are_named(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(service: Resource, *paths: str) -> dict[str, object]:
        return {"urn": service["urn"], "detailedDiff": {path: {} for path in paths}}

    backend, docs, proxy = stack.services(STATE)
    steps = [
        step(backend),
        step(docs, "taskSpec.containerSpec.env"),
        step(proxy, "taskSpec.networksAdvanceds[0].id"),
    ]
    monkeypatch.setattr(stack, "pulumi_json", lambda *_: {"steps": steps})
    what = "was changed by hand, or by a run that failed (taskSpec.containerSpec.env)"
    assert found(observe()) == {"service docs": (what, [])}
    nodes.updates["docs"] = "rollback_completed\trollback completed"
    assert found(observe()) == {"service docs": ("was rolled back (rollback completed)", [])}


def test_services_that_can_not_be_compared_hide_nothing_else(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> None:
        raise ToolError("pulumi refresh failed: no swarm manager with a quorum answers")

    monkeypatch.setattr(stack, "pulumi_json", refuse)
    del nodes.facts["core-02"]["release"]
    fault = "can't be compared with the settings: pulumi refresh failed: no swarm manager with a quorum answers"
    assert found(observe()) == {
        "content on core-02": (f"is release none, not {RELEASE[:12]}", ["content-core-02", "content-switch-core-02"]),
        "services": (fault, []),
    }


def test_a_node_without_its_docker_is_named_and_nothing_else_of_it(nodes: Nodes) -> None:
    nodes.facts["core-02"] = {"docker_error": "Is the docker daemon running?"}
    why = "answers and its Docker does not: Is the docker daemon running?"
    assert found(observe()) == {"core-02": (why, [])}


def test_a_task_that_was_killed_for_memory_is_called_so(nodes: Nodes) -> None:
    nodes.services["docs"] = "0/1"
    nodes.faults = ["docs.1\tcore-02\ttask: non-zero exit (137)\tt1\tFailed"]
    assert found(observe())["service docs"][0] == "runs 0 of 1 tasks: core-02: task: non-zero exit (137)"
    nodes.facts["core-02"]["oom:t1"] = "67108864"
    killed = "runs 0 of 1 tasks: core-02: killed for exceeding its memory limit of 64 MB"
    assert found(observe())["service docs"][0] == killed

"""Before a run: services that only the state or only the swarm has."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.contract import Step
from tests.unit.state import command, state
from tools import services, stack
from tools.services import CONFIG, PROVIDER
from tools.stack import SERVICE, Resource, ToolError

PROJECT = "urn:pulumi:dev::swarm-site::"
MANAGER = "urn:pulumi:dev::swarm-site::swarm-site:index:Swarm$pulumi:providers:docker::swarm-manager"
LISTED = "service\tS1\tbackend\tC1\nservice\tS2\tproxy\t\nconfig\tC1\n"


def resource(kind: str, name: str, id_: str) -> Resource:
    return {"urn": f"{PROJECT}swarm-site:index:Component${kind}::{name}", "type": kind, "id": id_}


def component(name: str) -> Resource:
    kind = f"swarm-site:index:{'Proxy' if name == 'proxy' else 'Application'}"
    return {"urn": f"{PROJECT}{kind}::{name}", "type": kind}


COMPONENTS = (component("backend"), component("proxy"), {"urn": MANAGER, "type": PROVIDER, "id": "P"})
BACKEND = (resource(SERVICE, "backend-service", "S1"), resource(CONFIG, "backend-nginx", "C1"))
PROXY = (resource(SERVICE, "proxy-service", "S2"),)
COMMAND = command(Step.CLUSTER, "swarm-cluster")
WHOLE = state(*COMPONENTS, *BACKEND, *PROXY, COMMAND)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The state after each call of the engine (`states`), the manager's answer (`listed`), and the calls (`calls`)."""
    given: dict[str, Any] = {"states": [], "listed": LISTED, "calls": [], "status": 0, "answers": True}

    def pulumi(*arguments: str) -> int:
        given["calls"].append([argument.removeprefix(PROJECT) for argument in arguments])
        if "--file" in arguments:
            given["calls"][-1] = ["import", json.loads(Path(arguments[arguments.index("--file") + 1]).read_text())]
        return int(given["status"])

    def on_node(name: str, *command: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
        if command[0] == "docker":
            given["calls"].append([name, *command])
        return subprocess.CompletedProcess(
            command, int(not given["answers"]), given["listed"] if given["answers"] else "", "no leader"
        )

    monkeypatch.setattr(stack, "pulumi", pulumi)
    monkeypatch.setattr(stack, "on_node", on_node)
    monkeypatch.setattr(stack, "resources", lambda: given["states"].pop(0))
    return given


def imports(*names: str) -> list[Any]:
    """Return the call that imports these services."""
    ids = {"backend": "S1", "proxy": "S2"}
    resources = [
        {"type": SERVICE, "name": f"{name}-service", "id": ids[name], "parent": name, "provider": "docker"}
        for name in names
    ]
    table = {name: component(name)["urn"] for name in names} | {"docker": MANAGER}
    return ["import", {"nameTable": table, "resources": resources}]


def test_nothing_is_done_if_state_and_swarm_agree(engine: dict[str, Any]) -> None:
    assert services.reconcile("core-01", WHOLE, []) == WHOLE
    assert engine["calls"] == []


def test_a_service_of_a_running_application_is_adopted(engine: dict[str, Any]) -> None:
    engine["states"] = [WHOLE]
    assert services.reconcile("core-01", state(*COMPONENTS, *BACKEND, COMMAND), []) == WHOLE
    assert engine["calls"] == [imports("proxy")]


def test_with_the_state_lost_everything_but_the_services_is_created_before_they_are_adopted(
    engine: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    engine["states"] = [state(*COMPONENTS), WHOLE]
    services.reconcile("core-01", {}, ["--exclude", "dead"])
    excluded = [f"**::{name}-{part}" for name in ("backend", "proxy") for part in ("service", "nginx", "running")]
    first, *rest = engine["calls"]
    assert first[:4] == ["up", "--yes", "--skip-preview", "--suppress-outputs"]
    assert first[4:] == [word for name in [*excluded, "dead"] for word in ("--exclude", name)]
    assert rest == [imports("backend", "proxy")]
    assert capsys.readouterr().out == "running but not in the state, so adopted: backend, proxy\n"


def test_a_service_of_no_application_is_removed(engine: dict[str, Any]) -> None:
    engine["listed"] = LISTED + "service\tS3\tdocs\tC3\nconfig\tC3\n"
    engine["states"] = [WHOLE]
    assert services.reconcile("core-01", WHOLE, []) == WHOLE
    assert [call[0] for call in engine["calls"]] == ["up", "core-01"]
    assert engine["calls"][1] == ["core-01", "docker", "service", "rm", "S3"]


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1, 2)])
def test_what_the_swarm_lacks_is_dropped_from_the_state(engine: dict[str, Any], gone: tuple[int, ...]) -> None:
    lines, objects = LISTED.splitlines(keepends=True), (BACKEND[0], PROXY[0], BACKEND[1])
    engine["listed"] = "".join(line for number, line in enumerate(lines) if number not in gone)
    engine["states"] = [state(*COMPONENTS, COMMAND), WHOLE]
    services.reconcile("core-01", WHOLE, [])
    assert engine["calls"][0][0] == "refresh"
    dropped = {objects[number]["urn"].removeprefix(PROJECT) for number in gone}
    assert {word for word in engine["calls"][0] if "docker:index" in word} == dropped


def test_a_config_that_neither_has_is_removed_and_no_other(engine: dict[str, Any]) -> None:
    engine["listed"] = LISTED + "config\tC0\n"
    assert services.reconcile("core-01", WHOLE, []) == WHOLE
    assert engine["calls"] == [["core-01", "docker", "config", "rm", "C0"]]


def test_a_manager_that_can_not_list_services_is_no_swarm_without_any(engine: dict[str, Any]) -> None:
    engine["answers"] = False
    with pytest.raises(ToolError, match=r"^core-01 can't list the services: no leader; run again: make up$"):
        services.reconcile("core-01", WHOLE, [])
    assert engine["calls"] == []


def test_a_failed_import_ends_the_run(engine: dict[str, Any]) -> None:
    engine["status"] = 1
    with pytest.raises(ToolError, match="fix the error above and run again: make up"):
        services.reconcile("core-01", state(*COMPONENTS, *BACKEND), [])

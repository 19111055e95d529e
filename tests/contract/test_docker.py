"""Replays the recordings of the official `docker` plugin, and tests drift, on the installed one and a real swarm.

By default, the tests create a stack of one node. CONTRACT_SSH_CONFIG selects an existing swarm instead: it names an ssh
config in which `swarm-manager` is the manager of a swarm of one node, with the image `nginx:seed` (any image in which
nginx writes /run/nginx.pid), a folder /srv/site, and port 9123 free.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.replay import Outcome, Stage, comparable, docker_program, recording
from tests.e2e.site import Site, alone

NODE = "core-01"
DATA = recording("docker")

pytestmark = pytest.mark.e2e


def ssh_config() -> str:
    """Returns the path of the ssh config that reaches the manager."""
    return str(Path(os.environ["CONTRACT_SSH_CONFIG"]).resolve())


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A swarm of one node, the caller's or one created here."""
    if os.environ.get("CONTRACT_SSH_CONFIG"):
        yield
        return
    folder = tmp_path_factory.mktemp("contract")
    site = Site(folder, folder / "logs", stack="contract", network="192.168.65.0/24", count=1)
    site.configure({"machines": {"count": 1}})
    with alone(site.stack), pytest.MonkeyPatch.context() as patch:
        try:
            site.up()
            site.on_node(NODE, "docker", "tag", site.outputs()["images"]["nginx"], "nginx:seed")
            site.on_node(NODE, "mkdir", "-p", "/srv/site")
            config = folder / "ssh_config"
            config.write_text(
                f"Host swarm-manager\n  HostName {site.address(NODE)}\n  User vagrant\n"
                f'  IdentityFile "{site.work}/key"\n  IdentitiesOnly yes\n'
                "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
            )
            patch.setenv("CONTRACT_SSH_CONFIG", str(config))
            yield
            site.down()
        finally:
            site.sweep()


def on_manager(*arguments: str) -> str:
    """Runs a command on the manager and returns its output."""
    command = ["ssh", "-F", ssh_config(), "-o", "BatchMode=yes", "swarm-manager", shlex.join(arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments} on swarm-manager: {done.stderr}"
    return done.stdout.strip()


def program(change: str | None = None) -> dict[str, Any]:
    """Returns the recorded program, with one of its changes."""
    return docker_program(change, ssh_config())


@pytest.fixture(scope="module")
def stage(swarm: None, engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage with a running service."""
    on_manager("docker", "image", "inspect", "--format", "{{.Id}}", "nginx:seed")
    on_manager("test", "-d", "/srv/site")
    stage = Stage(tmp_path_factory.mktemp("docker") / "stage", "docker").prepare()
    created = stage.run("up", program())
    try:
        assert differences(DATA["created"], created) == []
        yield stage
    finally:
        destroyed = stage.run("destroy")
        assert destroyed.exit == 0, destroyed.output
        assert on_manager("docker", "service", "ls", "--quiet", "--filter", "name=contract") == ""
        assert on_manager("docker", "config", "ls", "--quiet", "--filter", "name=conf-") == ""


def differences(recorded: dict[str, Any], outcome: Outcome) -> list[str]:
    """Compares an outcome with a recorded one."""
    return list(comparable(Outcome.recorded(recorded)).differences(comparable(outcome)))


# The order matters: previews need the service as created; the updates build on each other.


@pytest.mark.parametrize("change", DATA["changes"])
def test_a_change_previews_as_recorded(stage: Stage, change: str) -> None:
    assert differences(DATA["changes"][change], stage.run("preview", program(change))) == []


def test_a_refresh_without_drift_changes_nothing(stage: Stage) -> None:
    refreshed = stage.run("refresh", program())
    assert [step["op"] for step in refreshed.steps] == ["same", "same"], refreshed.output
    assert [step["op"] for step in stage.run("preview", program()).steps] == ["same", "same"]


def test_a_refresh_detects_a_manual_change_and_the_next_update_reverts_it(stage: Stage) -> None:
    service = "docker", "service", "update", "--detach"
    on_manager(*service, "--replicas", "0", "--constraint-add", "node.labels.gone!=1", "--env-add", "A=9", "contract")
    assert stage.run("refresh", program()).exit == 0
    [step] = [step for step in stage.run("preview", program()).steps if step["op"] != "same"]
    assert step["op"] == "update"
    assert {path.split("[")[0] for path in step["diff"]} - {"taskSpec.containerSpec.sysctl"} == {
        "mode.replicated.replicas",
        "taskSpec.placement.constraints",
        "taskSpec.containerSpec.env.A",
    }
    assert stage.run("up", program()).exit == 0
    spec = json.loads(on_manager("docker", "service", "inspect", "--format", "{{json .Spec}}", "contract"))
    assert spec["Mode"]["Replicated"]["Replicas"] == 1
    assert spec["TaskTemplate"]["Placement"]["Constraints"] == ["node.role==manager"]
    assert spec["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=1"]


def test_a_refresh_drops_a_manually_removed_service_and_the_next_update_recreates_it(stage: Stage) -> None:
    on_manager("docker", "service", "rm", "contract")
    refreshed = stage.run("refresh", program())
    assert [step["op"] for step in refreshed.steps if step["name"] == "web"] == ["delete"], refreshed.output
    recreated = stage.run("up", program())
    assert [step["op"] for step in recreated.steps if step["name"] == "web"] == ["create"], recreated.output


@pytest.mark.parametrize("change", DATA["updates"])
def test_an_update_behaves_as_recorded(stage: Stage, change: str) -> None:
    assert differences(DATA["updates"][change], stage.run("up", program(change))) == []


def test_a_preview_works_with_an_unreachable_manager(stage: Stage) -> None:
    unreachable = program() | {"host": "ssh://nowhere.invalid", "ssh_opts": []}
    assert differences(DATA["preview_host_unreachable"], stage.run("preview", unreachable)) == []


def test_a_service_that_does_not_converge_is_removed(stage: Stage) -> None:
    hopeless = program()
    web = hopeless["resources"].pop("web")
    web["args"] |= {"name": "contract-hopeless", "converge_config": {"delay": "1s", "timeout": "3s"}}
    web["args"]["task_spec"]["placement"] = {"constraints": ["node.labels.nowhere==1"]}
    hopeless["resources"]["hopeless"] = web
    outcome = stage.run("up", hopeless)
    assert outcome.exit != 0
    assert "did not converge after 3s" in "\n".join(outcome.errors)
    assert on_manager("docker", "service", "ls", "--quiet", "--filter", "name=contract-hopeless") == ""

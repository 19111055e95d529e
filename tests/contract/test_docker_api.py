"""The bundled docker plugin's requests to Docker, and its handling of the answers; needs no Docker."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2, status_pb2

from tests.contract.plugin import Plugin, plain

SERVICE = "docker:index/service:Service"
CONFIG = "docker:index/serviceConfig:ServiceConfig"
NOT_FOUND = [404, {"message": "service abc not found"}]

SMALL: dict[str, Any] = {"name": "web", "taskSpec": {"containerSpec": {"image": "nginx:1"}}}
CONVERGING = SMALL | {"convergeConfig": {"delay": "1s", "timeout": "30s"}}

FULL: dict[str, Any] = {
    "name": "web",
    "labels": [{"label": "part", "value": "web"}],
    "taskSpec": {
        "containerSpec": {
            "image": "nginx:1",
            "labels": [{"label": "a", "value": "b"}],
            "commands": ["nginx"],
            "args": ["-g", "daemon off;"],
            "hostname": "{{.Node.Hostname}}",
            "env": {"A": "1=2"},
            "dir": "/srv",
            "user": "www-data",
            "groups": ["adm"],
            "readOnly": True,
            "init": True,
            "mounts": [
                {"type": "bind", "source": "/srv", "target": "/srv", "readOnly": True},
                {"type": "tmpfs", "target": "/run", "tmpfsOptions": {"sizeBytes": 1048576, "mode": 493}},
            ],
            "stopSignal": "SIGQUIT",
            "stopGracePeriod": "1m30s",
            "healthcheck": {"tests": ["CMD", "true"], "interval": "1.5s", "retries": 3},
            "hosts": [{"ip": "10.0.0.1", "host": "one"}],
            "dnsConfig": {"nameservers": ["10.0.0.53"]},
            "configs": [{"configId": "c1", "configName": "conf", "fileName": "/etc/conf"}],
            "sysctl": {"net.core.somaxconn": "1024"},
            "capAdds": ["CAP_NET_BIND_SERVICE"],
            "capDrops": ["ALL"],
        },
        "resources": {"limits": {"memoryBytes": 67108864}, "reservation": {"nanoCpus": 100000000}},
        "restartPolicy": {"condition": "any", "delay": "500ms", "window": "0s"},
        "placement": {"constraints": ["node.role==manager"], "prefs": ["spread=node.id"], "maxReplicas": 1},
        "forceUpdate": 2,
        "networksAdvanceds": [{"id": "host", "aliases": ["web"], "driverOpts": ["a=b"]}],
        "logDriver": {"name": "json-file", "options": {"max-size": "5m"}},
    },
    "mode": {"replicated": {"replicas": 2}},
    "updateConfig": {"order": "start-first", "failureAction": "rollback", "monitor": "3s", "maxFailureRatio": "0.1"},
    "rollbackConfig": {"parallelism": 0},
    "endpointSpec": {"mode": "vip", "ports": [{"targetPort": 80, "publishedPort": 8080, "publishMode": "host"}]},
}
FULL_SPEC = {
    "Name": "web",
    "Labels": {"part": "web"},
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "nginx:1",
            "Labels": {"a": "b"},
            "Command": ["nginx"],
            "Args": ["-g", "daemon off;"],
            "Hostname": "{{.Node.Hostname}}",
            "Env": ["A=1=2"],
            "Dir": "/srv",
            "User": "www-data",
            "Groups": ["adm"],
            "ReadOnly": True,
            "Init": True,
            "Mounts": [
                {"Type": "bind", "Source": "/srv", "Target": "/srv", "ReadOnly": True},
                {"Type": "tmpfs", "Target": "/run", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 493}},
            ],
            "StopSignal": "SIGQUIT",
            "StopGracePeriod": 90_000_000_000,
            "Healthcheck": {
                "Test": ["CMD", "true"],
                "Interval": 1_500_000_000,
                "Timeout": 0,
                "StartPeriod": 0,
                "Retries": 3,
            },
            "Hosts": ["10.0.0.1 one"],
            "DNSConfig": {"Nameservers": ["10.0.0.53"]},
            "Configs": [
                {
                    "ConfigID": "c1",
                    "ConfigName": "conf",
                    "File": {"Name": "/etc/conf", "UID": "0", "GID": "0", "Mode": 0o444},
                }
            ],
            "Isolation": "default",
            "Sysctls": {"net.core.somaxconn": "1024"},
            "CapabilityAdd": ["CAP_NET_BIND_SERVICE"],
            "CapabilityDrop": ["ALL"],
        },
        "Resources": {"Limits": {"MemoryBytes": 67108864}, "Reservations": {"NanoCPUs": 100000000}},
        "RestartPolicy": {"Condition": "any", "Delay": 500_000_000, "MaxAttempts": 0, "Window": 0},
        "Placement": {
            "Constraints": ["node.role==manager"],
            "Preferences": [{"Spread": {"SpreadDescriptor": "spread=node.id"}}],
            "MaxReplicas": 1,
        },
        "ForceUpdate": 2,
        "Networks": [{"Target": "host", "Aliases": ["web"], "DriverOpts": {"a": "b"}}],
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "5m"}},
    },
    "Mode": {"Replicated": {"Replicas": 2}},
    "UpdateConfig": {
        "Parallelism": 1,
        "Delay": 0,
        "FailureAction": "rollback",
        "Monitor": 3_000_000_000,
        "MaxFailureRatio": 0.1,
        "Order": "start-first",
    },
    "RollbackConfig": {
        "Parallelism": 0,
        "Delay": 0,
        "FailureAction": "pause",
        "Monitor": 5_000_000_000,
        "MaxFailureRatio": 0.0,
        "Order": "stop-first",
    },
    "EndpointSpec": {
        "Mode": "vip",
        "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}],
    },
}


@dataclass(frozen=True)
class Docker:
    """The plugin, and the fake Docker daemon it talks to."""

    plugin: Plugin
    folder: Path

    def answers(self, **by_request: list[Any]) -> None:
        """Scripts the daemon's answers; `GET_services_abc` stands for `GET /services/abc`."""
        answers = {name.replace("_", " /", 1).replace("_", "/"): replies for name, replies in by_request.items()}
        (self.folder / "answers.json").write_text(json.dumps(answers))

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The plugin's requests."""
        return [json.loads(line) for line in (self.folder / "requests.jsonl").read_text().splitlines()]

    @property
    def asked(self) -> list[str]:
        """The plugin's requests, as `METHOD /path`."""
        return [request["is"] for request in self.requests]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A plugin whose `ssh` is the fake daemon."""
    folder = tmp_path_factory.mktemp("fake")
    ssh = folder / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("fake_ssh.py")}" "$@"\n')
    ssh.chmod(0o755)
    environment = os.environ | {"FAKE_DOCKER": str(folder), "PATH": f"{ssh.parent}:{os.environ['PATH']}"}
    with Plugin.running("docker", environment) as plugin:
        plugin.configure({"host": "ssh://me@swarm-manager:2222", "sshOpts": '["-F", "my config"]'})
        yield Docker(plugin, folder)


@pytest.fixture
def docker(running: Docker) -> Docker:
    """The same, with no requests recorded yet."""
    (running.folder / "requests.jsonl").unlink(missing_ok=True)
    return running


def service(state: str = "", replicas: int = 2, message: str = "") -> list[Any]:
    """Returns an answer: a service in a given rollout state."""
    status = {"UpdateStatus": {"State": state, "Message": message}} if state else {}
    mode = {"Replicated": {"Replicas": replicas}}
    return [200, {"ID": "abc", "Version": {"Index": 7}, "Spec": {"Name": "web", "Mode": mode}, **status}]


def tasks(*states: str) -> list[Any]:
    """Returns an answer: one task in each state."""
    return [200, [{"ID": f"t{i}", "Slot": i, "Status": {"State": state}} for i, state in enumerate(states)]]


def test_the_provider_s_options_go_to_ssh_and_not_to_the_host(docker: Docker) -> None:
    docker.answers(POST_services_create=[[201, {"ID": "abc"}]])
    docker.plugin.create(SERVICE, SMALL)
    arguments = json.loads((docker.folder / "arguments.json").read_text())
    options = ["-F", "my config", "-o", "ConnectTimeout=30", "-o", "BatchMode=yes", "-T"]
    assert arguments == [*options, "-l", "me", "-p", "2222", "swarm-manager", "--", "docker", "system", "dial-stdio"]


def test_every_input_of_a_service_reaches_the_api(docker: Docker) -> None:
    assert docker.plugin.check(SERVICE, FULL) == []
    docker.answers(POST_services_create=[[201, {"ID": "abc"}]])
    identity, _ = docker.plugin.create(SERVICE, FULL)
    assert identity == "abc"
    assert docker.requests == [{"is": "POST /services/create", "query": {}, "body": FULL_SPEC}]


def test_omitted_inputs_are_sent_as_by_the_official_plugin(docker: Docker) -> None:
    docker.answers(POST_services_create=[[201, {"ID": "abc"}]])
    docker.plugin.create(SERVICE, SMALL)
    container = {"Image": "nginx:1", "Isolation": "default", "StopGracePeriod": 0}
    assert docker.requests[0]["body"] == {"Name": "web", "TaskTemplate": {"ContainerSpec": container}}


def test_a_global_service_is_sent_without_replicas(docker: Docker) -> None:
    docker.answers(POST_services_create=[[201, {"ID": "abc"}]])
    docker.plugin.create(SERVICE, SMALL | {"mode": {"global": True}})
    assert docker.requests[0]["body"]["Mode"] == {"Global": {}}


def test_an_unchanged_service_reads_back_without_a_difference(docker: Docker) -> None:
    docker.answers(POST_services_create=[[201, {"ID": "abc"}]], GET_services_abc=[[200, {"ID": "abc", "Spec": {}}]])
    _, outputs = docker.plugin.create(SERVICE, FULL)
    # Docker omits zero values and returns all others as sent.
    spec = json.loads(json.dumps(FULL_SPEC))
    for zero in ("Timeout", "StartPeriod"):
        del spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"][zero]
    del spec["UpdateConfig"]["Delay"], spec["RollbackConfig"]["Parallelism"]
    docker.answers(GET_services_abc=[[200, {"ID": "abc", "Spec": spec}]])
    assert docker.plugin.read(SERVICE, "abc", outputs) == ("abc", outputs)
    assert docker.plugin.diff(SERVICE, outputs, FULL) == {}


def test_a_removed_service_reads_back_as_missing(docker: Docker) -> None:
    docker.answers(GET_services_abc=[NOT_FOUND], GET_services_web=[NOT_FOUND])
    assert docker.plugin.read(SERVICE, "abc", SMALL) == ("", {})
    assert docker.asked == ["GET /services/abc", "GET /services/web"]


def test_a_create_waits_until_every_replica_runs(docker: Docker) -> None:
    docker.answers(
        POST_services_create=[[201, {"ID": "abc"}]],
        GET_services_abc=[service()],
        GET_tasks=[tasks("preparing", "running"), tasks("running", "running")],
    )
    docker.plugin.create(SERVICE, CONVERGING)
    assert docker.asked == ["POST /services/create"] + ["GET /services/abc", "GET /tasks"] * 2
    filters = json.loads(docker.requests[-1]["query"]["filters"][0])
    assert filters == {"service": ["abc"], "desired-state": ["running"], "_up-to-date": ["true"]}


def test_a_service_that_does_not_converge_is_removed_and_reported(docker: Docker) -> None:
    docker.answers(
        POST_services_create=[[201, {"ID": "abc"}]],
        GET_services_abc=[service()],
        GET_tasks=[tasks("failed")],
        DELETE_services_abc=[[200, None]],
    )
    with pytest.raises(grpc.RpcError, match=r"Service with ID \(abc\) did not converge after 1s"):
        docker.plugin.create(SERVICE, CONVERGING | {"convergeConfig": {"delay": "1s", "timeout": "1s"}})
    assert "DELETE /services/abc" in docker.asked


def test_an_update_waits_for_the_end_of_the_rollout(docker: Docker) -> None:
    docker.answers(
        GET_services_abc=[service(), service(), service("updating"), service("completed")],
        POST_services_abc_update=[[200, {}]],
        GET_tasks=[tasks("running"), tasks("running", "running")],
    )
    outputs = docker.plugin.update(SERVICE, "abc", CONVERGING, CONVERGING | {"labels": [{"label": "a", "value": "b"}]})
    assert outputs["labels"] == [{"label": "a", "value": "b"}]
    assert docker.asked.count("GET /tasks") == 3, "not started, in progress, completed"
    assert docker.requests[1]["query"] == {"version": ["7"]}


def test_an_update_that_is_out_of_sequence_is_retried(docker: Docker) -> None:
    docker.answers(
        GET_services_abc=[service()],
        POST_services_abc_update=[[500, {"message": "rpc error: update out of sequence"}], [200, {}]],
    )
    docker.plugin.update(SERVICE, "abc", SMALL, SMALL)
    assert docker.asked == ["GET /services/abc", "POST /services/abc/update"] * 2


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("rollback_completed", "service rollback completed: reason"),
        ("paused", "service update paused: reason"),
        ("rollback_paused", "service rollback paused: reason"),
    ],
)
def test_an_update_that_docker_gives_up_fails_and_the_state_records_the_attempt(
    docker: Docker, state: str, message: str
) -> None:
    docker.answers(GET_services_abc=[service(), service(state, message="reason")], POST_services_abc_update=[[200, {}]])
    attempted = CONVERGING | {"taskSpec": {"containerSpec": {"image": "nginx:2"}}}
    with pytest.raises(grpc.RpcError, match=message) as failure:
        docker.plugin.update(SERVICE, "abc", CONVERGING, attempted)
    assert isinstance(failure.value, grpc.Call)
    [details] = [item.value for item in failure.value.trailing_metadata() if item.key == "grpc-status-details-bin"]
    assert isinstance(details, bytes)
    partial = provider_pb2.ErrorResourceInitFailed()
    assert status_pb2.Status.FromString(details).details[0].Unpack(partial)
    assert partial.id == "abc"
    assert plain(partial.properties)["taskSpec"]["containerSpec"]["image"] == "nginx:2"


def test_a_request_that_docker_rejects_fails_with_its_message(docker: Docker) -> None:
    docker.answers(POST_services_create=[[409, {"message": "name conflicts with an existing object"}]])
    with pytest.raises(grpc.RpcError, match="Error response from daemon: name conflicts with an existing object"):
        docker.plugin.create(SERVICE, SMALL)


def test_a_delete_waits_for_running_tasks(docker: Docker) -> None:
    docker.answers(
        GET_tasks=[tasks("running", "shutdown"), tasks("running"), tasks()], DELETE_services_abc=[[200, None]]
    )
    docker.plugin.delete(SERVICE, "abc", SMALL)
    assert docker.asked == ["GET /tasks", "DELETE /services/abc", "GET /tasks", "GET /tasks"]
    assert json.loads(docker.requests[-1]["query"]["filters"][0]) == {"id": ["t0"]}


def test_deleting_a_missing_resource_succeeds(docker: Docker) -> None:
    docker.answers(GET_tasks=[NOT_FOUND], DELETE_configs_c1=[NOT_FOUND])
    docker.plugin.delete(SERVICE, "abc", SMALL)
    docker.plugin.delete(CONFIG, "c1", {})


def test_a_config_is_sent_as_base64_and_reads_back_unchanged(docker: Docker) -> None:
    docker.answers(
        POST_configs_create=[[201, {"ID": "c1"}]], GET_configs_c1=[[200, {"Spec": {"Name": "conf", "Data": "b25l"}}]]
    )
    created = docker.plugin.create(CONFIG, {"name": "conf", "dataRaw": "one"})
    assert docker.requests[0]["body"] == {"Name": "conf", "Data": "b25l"}
    assert docker.plugin.read(CONFIG, *created) == created

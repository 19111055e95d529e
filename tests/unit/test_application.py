"""An application: its inputs are compared as a whole, since any other one shows as an update in later previews."""

from typing import Any

import pytest

from components.application import Application, ApplicationArgs, configuration
from components.rendering import TEMPLATES
from components.service import START, capacity
from components.settings import ApplicationSettings, ContentSettings
from tests.unit.harness import COMMAND, SERVICE, SERVICE_CONFIG, Run, cluster, image, nodes, run

POLICY = {"parallelism": 1, "order": "stop-first", "delay": "1s", "maxFailureRatio": "0.0"}
PROBE = "http://127.0.0.1/.swarm-site/health"


def made(
    *names: str,
    mount: str = "/srv/content",
    timeout_factor: int = 1,
    workers: int = 1,
    content: ContentSettings | None = None,
    **settings: Any,
) -> Run:
    def body() -> Any:
        args = ApplicationArgs(
            settings=ApplicationSettings(**{"port": 8080, **settings}),
            content=content or ContentSettings(),
            workers=workers,
            nodes=nodes(3),
            image=image(),
            mount=mount,
            elsewhere=["next", "previous/1"],
            cluster=cluster("ready-core-01", "ready-core-02", timeout_factor=timeout_factor),
        )
        components = [Application(name, args) for name in names or ("backend",)]
        return [
            {
                "endpoints": component.endpoints,
                "route": component.route.apply(lambda route: [route.name, list(route.hosts), list(route.endpoints)]),
            }
            for component in components
        ]

    return run(body)


def test_there_is_a_configuration_a_test_of_it_and_a_service() -> None:
    result = made()
    assert result.inventory("backend") == {
        ("swarm-site:index:Application", "backend"),
        (COMMAND, "backend-check"),
        (SERVICE_CONFIG, "backend-nginx"),
        (SERVICE, "backend-service"),
    }
    assert {resource.parent for resource in result.within("backend") if resource.name != "backend"} == {"backend"}


def test_the_service_has_exactly_the_inputs_that_keep_the_second_up_empty() -> None:
    assert made()["backend-service"].inputs == {
        "name": "backend",
        "labels": [{"label": "swarm-site", "value": "backend"}],
        "mode": {"replicated": {"replicas": 2}},
        "endpointSpec": {"ports": [{"targetPort": 80, "publishedPort": 8080, "publishMode": "host"}]},
        "taskSpec": {
            "containerSpec": {
                "image": "localhost:1/site-nginx:1",
                "commands": [
                    "sh",
                    "-c",
                    (TEMPLATES / START).read_text(),
                    "start",
                    "1",
                    "80",
                    "/etc/swarm-site/nginx.conf",
                ],
                "hostname": "{{.Node.Hostname}}",
                "labels": [{"label": "swarm-site.part", "value": "backend"}],
                "readOnly": True,
                "capDrops": ["ALL"],
                "user": "65534:65534",
                "stopSignal": "SIGQUIT",
                "stopGracePeriod": "10s",
                "sysctl": {},
                "configs": [
                    {
                        "configId": "backend-nginx-id",
                        "configName": "backend-nginx-0a1b2c3",
                        "fileName": "/etc/swarm-site/nginx.conf",
                        "fileMode": 0o444,
                    }
                ],
                "mounts": [
                    {"type": "bind", "source": "/srv/content", "target": "/srv/content", "readOnly": True},
                    {"type": "tmpfs", "target": "/tmp"},
                ],
                "healthcheck": {
                    "tests": ["CMD-SHELL", f"wget -q -O /dev/null {PROBE} || curl -fsS -o /dev/null {PROBE}"],
                    "interval": "2s",
                    "timeout": "2s",
                    "retries": 3,
                    "startPeriod": "2s",
                },
            },
            "restartPolicy": {"condition": "any", "delay": "1s", "window": "0s"},
            "resources": {"limits": {"memoryBytes": 64 * 1024 * 1024}},
            "logDriver": {"name": "json-file", "options": {"max-size": "5m"}},
        },
        "updateConfig": {**POLICY, "monitor": "3s", "failureAction": "rollback"},
        "rollbackConfig": {**POLICY, "monitor": "1s", "failureAction": "pause"},
        "convergeConfig": {"delay": "1s", "timeout": "90s"},
    }


def test_the_configuration_serves_what_the_link_in_the_mount_points_to() -> None:
    # Without a name: a fixed one could not be replaced while the service uses it.
    assert made()["backend-nginx"].inputs == {
        "dataRaw": configuration(ContentSettings(), "/srv/content", ["next", "previous/1"], capacity(64, 1)),
        "labels": [{"label": "swarm-site", "value": "backend"}],
    }


def test_nginx_tests_the_configuration_on_this_machine_before_any_task_gets_it() -> None:
    result = made()
    test = result["backend-check"]
    assert (test.step, test.node) == ("configuration-test", "")
    assert test.own == {
        "IMAGE": "localhost:1/site-nginx:1",
        "CONFIGURATION": result["backend-nginx"].inputs["dataRaw"],
        "TEMPLATE": "templates/application/nginx.conf",
    }
    assert test.scripts == {"create": "service/test_configuration.sh"}
    assert test.dependencies == {"image"}
    assert test.timeouts == {"create": "5m", "update": "5m", "delete": "5m"}
    assert "backend-check" in result["backend-nginx"].dependencies


def test_replicas_port_memory_and_mount_are_the_callers() -> None:
    inputs = made(replicas=3, port=18080, memory=100, mount="/srv/other")["backend-service"].inputs
    assert inputs["mode"] == {"replicated": {"replicas": 3}}
    assert inputs["endpointSpec"]["ports"][0]["publishedPort"] == 18080
    assert inputs["taskSpec"]["resources"] == {"limits": {"memoryBytes": 104857600}}
    assert inputs["taskSpec"]["containerSpec"]["mounts"][0]["source"] == "/srv/other"


def test_the_configuration_follows_the_content_settings_and_the_memory() -> None:
    texts = [
        result["backend-nginx"].inputs["dataRaw"]
        for result in (
            made(),
            made(memory=65),
            made(content=ContentSettings(cache_control="private")),
            made(content=ContentSettings(cache_control_hashed="private")),
            made(content=ContentSettings(charset="off")),
        )
    ]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(("memory", "workers", "expected"), [(64, 3, "3"), (64, 8, "4"), (16, 8, "1"), (512, 8, "8")])
def test_a_task_starts_as_many_workers_as_machine_and_memory_bear(memory: int, workers: int, expected: str) -> None:
    container = made(memory=memory, workers=workers)["backend-service"].inputs["taskSpec"]["containerSpec"]
    assert container["commands"][4] == expected


def test_emulated_machines_get_five_times_as_long() -> None:
    inputs = made(timeout_factor=5)["backend-service"].inputs
    assert inputs["taskSpec"]["containerSpec"]["healthcheck"]["interval"] == "10s"
    assert inputs["convergeConfig"]["timeout"] == "450s"


def test_both_reach_the_swarms_manager_and_go_with_the_cluster() -> None:
    result = made()
    for name in ("backend-nginx", "backend-service"):
        assert result[name].provider == "manager"
        assert result[name].deleted_with == "cluster"
        assert "cluster" in result[name].dependencies


def test_a_task_waits_until_all_nodes_are_active_and_its_configuration_does_not() -> None:
    result = made()
    active = {"ready-core-01", "ready-core-02"}
    assert result["backend-service"].dependencies >= active
    assert not result["backend-nginx"].dependencies & active


def test_a_service_of_a_fixed_name_is_removed_before_its_successor_and_a_configuration_is_not() -> None:
    result = made()
    assert result["backend-service"].delete_before_replace
    assert not result["backend-nginx"].delete_before_replace


def test_the_service_takes_no_output_but_its_configurations() -> None:
    result = made()
    assert result["backend-service"].data_dependencies == {"backend-nginx"}
    assert result["backend-nginx"].data_dependencies == set()


@pytest.mark.parametrize("hosts", [[], ["docs.example", "d.example"]])
def test_its_endpoints_and_its_route_name_all_nodes_that_may_serve(hosts: list[str]) -> None:
    result = made(port=18080, hosts=hosts)
    expected = ["192.168.56.11:18080", "192.168.56.12:18080", "192.168.56.13:18080"]
    assert result.returned == [{"endpoints": expected, "route": ["backend", hosts, expected]}]
    assert result.outputs["backend"] == {"endpoints": expected}


def test_two_applications_stand_side_by_side() -> None:
    result = made("left", "right")
    assert {name for _, name in result.inventory("left")} == {"left", "left-check", "left-nginx", "left-service"}
    assert result["right-service"].inputs["name"] == "right"
    assert result["right-service"].data_dependencies == {"right-nginx"}

"""The proxies: bootstrap, configuration, service and the wait for its tasks."""

import re
from typing import Any

import pulumi
import pytest

from components.contract import LABEL_PROXY
from components.digest import text_hash
from components.image import ImageRef
from components.proxy import Proxy, ProxyArgs, ProxyBootstrap, ProxyBootstrapArgs, configuration
from components.rendering import TEMPLATES
from components.service import START, Route, capacity
from tests.unit.harness import COMMAND, SERVICE, Run, cluster, machines, nodes, proxy_settings, run, stand_in

ENDPOINTS = ["192.168.56.11:8080", "192.168.56.12:8080"]
BACKEND = Route(name="backend", hosts=[], endpoints=ENDPOINTS, read_timeout=2)
DOCS = Route(name="docs", hosts=["docs.example", "d.example"], endpoints=["192.168.56.11:8081"], read_timeout=2)
PRIVATE = Route(name="private", hosts=[], endpoints=["192.168.56.11:8082"], read_timeout=2)
PROBE = "http://127.0.0.1:80/.swarm-site/configuration"
POLICY = {"parallelism": 1, "order": "start-first", "delay": "1s", "maxFailureRatio": "0.0"}


def made(
    *names: str, routes: Any = None, image: str = "localhost:1/site-nginx:1", workers: int = 1, **settings: Any
) -> Run:
    def body() -> Any:
        args = ProxyArgs(
            settings=proxy_settings(**settings),
            workers=workers,
            machines=machines(nodes(3)[1:]),
            routes=[pulumi.Output.from_input(BACKEND)] if routes is None else routes(),
            image=ImageRef(reference=image, provided=stand_in("image")),
            cluster=cluster(),
        )
        return [{"url": proxy.url, "urls": proxy.urls} for proxy in [Proxy(name, args) for name in names or ("proxy",)]]

    return run(body)


def test_there_is_a_test_a_configuration_a_node_a_service_and_a_wait_for_it() -> None:
    result = made()
    assert result.inventory("proxy") == {
        ("swarm-site:index:Proxy", "proxy"),
        (COMMAND, "proxy-check"),
        (COMMAND, "proxy-core-02"),
        (COMMAND, "proxy-core-03"),
        (SERVICE, "proxy-service"),
        (COMMAND, "proxy-running"),
    }
    assert {resource.parent for resource in result.within("proxy") if resource.name != "proxy"} == {"proxy"}


# --- configuration ---------------------------------------------------------------------------------------------------


def test_a_configuration_names_every_endpoint_and_answers_with_the_hash_of_its_own_text() -> None:
    text, state = configuration(proxy_settings(), [BACKEND])
    for endpoint in ENDPOINTS:
        assert f"    server {endpoint} max_fails=1 fail_timeout=30s;\n" in text
        assert f"    server {endpoint} backup max_fails=0;\n" in text
    assert text.count("server 192") == 4
    assert f'return 200 "{state}\\n";' in text
    assert state == text_hash(text.replace(state, ""))[:12]


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 81},
        {"max_body_size": "1m"},
        {"connect_timeout_ms": 501},
        {"fail_timeout_s": 3},
        {"memory": 129},
        {"trusted_networks": ["203.0.113.0/24"]},
    ],
)
def test_each_setting_makes_another_configuration_with_another_state(settings: dict[str, Any]) -> None:
    assert configuration(proxy_settings(**settings), [BACKEND])[1] != configuration(proxy_settings(), [BACKEND])[1]


def test_the_state_depends_only_on_the_text() -> None:
    assert configuration(proxy_settings(replicas=1), [BACKEND]) == configuration(proxy_settings(), [BACKEND])


def test_what_a_proxy_does_at_once_follows_memory_and_workers() -> None:
    text, _ = configuration(proxy_settings(memory=256), [BACKEND], workers=2)
    bounds = capacity(256, 2)
    assert f"worker_connections {bounds.connections};" in text
    assert f"limit_conn requests {bounds.requests};" in text
    assert f"worker_rlimit_nofile {2 * bounds.connections};" in text


@pytest.mark.parametrize("memory", [16, 64, 128, 1000, 65536])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_what_nginx_does_at_once_fits_into_its_memory(memory: int, workers: int) -> None:
    bounds = capacity(memory, workers)
    idle = bounds.workers * (2 + bounds.connections * 0.0004)
    others = max(0, bounds.workers * bounds.connections - 2 * bounds.requests)
    assert idle + bounds.requests * 0.05 + others * 0.017 <= memory
    assert 0.4 * bounds.compressions <= memory / 2
    assert 1 <= bounds.workers <= workers


def servers(text: str) -> dict[str, str]:
    """Return the parts of a configuration by server name; the default server's name is empty."""
    parts = text.split("\n  server {\n")[1:]
    return {"".join(re.findall(r"server_name (.*);", part)): part for part in parts}


def test_a_route_with_host_names_has_a_server_and_an_upstream_of_its_own() -> None:
    text, _ = configuration(proxy_settings(port=81), [BACKEND, DOCS])
    found = servers(text)
    assert found.keys() == {"", "docs.example d.example"}
    assert "proxy_pass http://backend;" in found[""]
    assert "listen 81 reuseport default_server;" in found[""]
    assert "proxy_pass http://docs;" in found["docs.example d.example"]
    assert "listen 81;" in found["docs.example d.example"], "reuseport is given once an address"
    assert re.findall(r"upstream (\w+) \{", text) == ["backend", "docs"]


def test_the_first_route_without_host_names_is_the_default_and_others_are_not_for_visitors() -> None:
    assert configuration(proxy_settings(), [BACKEND, PRIVATE]) == configuration(proxy_settings(), [BACKEND])


def test_without_a_default_route_unknown_host_names_get_a_plain_502() -> None:
    found = servers(configuration(proxy_settings(), [DOCS])[0])
    assert "proxy_pass" not in found[""]
    assert "return 502" in found[""]


def test_without_a_route_every_visitor_gets_a_plain_502() -> None:
    text, _ = configuration(proxy_settings(), [])
    assert "upstream" not in text.replace("$upstream_addr", "").replace("upstream=", "").replace(
        "proxy_next_upstream", ""
    )
    assert 'return 502 "502: no application yet; try again in a moment\\n";' in text


def test_each_node_gets_the_configuration_with_the_applications_endpoints() -> None:
    result = made()
    text, state = configuration(proxy_settings(), [BACKEND])
    configured = result["proxy-core-02"]
    assert (configured.step, configured.node) == ("proxy-configuration", "core-02")
    assert configured.own == {"STATE_URL": PROBE, "CONFIGURATION": text, "STATE": state}
    assert configured.scripts == {"create": "proxy/configure.sh"}
    assert configured.inputs["triggers"] == ["machine-core-02-id"]
    assert configured.timeouts == {"create": "5m", "update": "5m", "delete": "5m"}


def test_a_configuration_comes_after_nginx_tested_it_and_the_nodes_are_active() -> None:
    assert made()["proxy-core-02"].dependencies == {"proxy-check", "ready-core-02", "ready-core-03", "machine-core-02"}


def test_nginx_tests_the_configuration_on_this_machine_before_any_node_gets_it() -> None:
    test = made()["proxy-check"]
    assert (test.step, test.node) == ("configuration-test", "")
    assert test.own == {
        "IMAGE": "localhost:1/site-nginx:1",
        "CONFIGURATION": configuration(proxy_settings(), [BACKEND])[0],
        "TEMPLATE": "templates/proxy/nginx.conf",
    }
    assert test.scripts == {"create": "service/test_configuration.sh"}
    assert test.dependencies == {"image"}
    assert test.timeouts == {"create": "5m", "update": "5m", "delete": "5m"}


def test_a_route_that_comes_from_a_resource_is_followed() -> None:
    def routes() -> Any:
        return [
            stand_in("other").stdout.apply(
                lambda text: Route(name="backend", hosts=[], endpoints=[text], read_timeout=2)
            )
        ]

    configured = made(routes=routes)["proxy-core-02"]
    assert "server output of other max_fails=1" in configured.environment["CONFIGURATION"]
    assert "other" in configured.data_dependencies


# --- service ---------------------------------------------------------------------------------------------------------


def test_the_service_has_exactly_the_inputs_that_keep_the_second_up_empty() -> None:
    # No converge_config: it conflicts with global mode.
    assert made()["proxy-service"].inputs == {
        "name": "proxy",
        "labels": [{"label": "swarm-site", "value": "proxy"}],
        "mode": {"global": True},
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
                    "/srv/swarm-site/proxy/current/nginx.conf",
                ],
                "labels": [{"label": "swarm-site.part", "value": "proxy"}],
                "readOnly": True,
                "capDrops": ["ALL"],
                "capAdds": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"],
                "stopSignal": "SIGQUIT",
                "stopGracePeriod": "20s",
                "sysctl": {},
                "mounts": [
                    {
                        "type": "bind",
                        "source": "/srv/swarm-site/proxy",
                        "target": "/srv/swarm-site/proxy",
                        "readOnly": True,
                    },
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
            "resources": {"limits": {"memoryBytes": 128 * 1024 * 1024}},
            "logDriver": {"name": "json-file", "options": {"max-size": "5m"}},
            "placement": {"constraints": ["node.labels.swarm-site.proxy==true"]},
            "networksAdvanceds": [{"id": "host"}],
        },
        "updateConfig": {**POLICY, "monitor": "3s", "failureAction": "rollback"},
        "rollbackConfig": {**POLICY, "monitor": "1s", "failureAction": "pause"},
    }


def test_a_refresh_that_reads_the_id_of_the_host_network_does_not_replace_the_service() -> None:
    assert made()["proxy-service"].ignore_changes == ("taskSpec.networksAdvanceds",)


def test_the_service_runs_where_the_activation_sets_its_label() -> None:
    constraint = made()["proxy-service"].inputs["taskSpec"]["placement"]["constraints"][0]
    assert constraint == f"node.labels.{LABEL_PROXY}==true"
    assert '--label-add "$LABEL_PROXY=$PROXY"' in (TEMPLATES / "swarm/activate.sh").read_text()


def test_the_service_comes_after_every_configuration_and_goes_with_the_cluster() -> None:
    service = made()["proxy-service"]
    assert service.provider == "manager"
    assert service.deleted_with == "cluster"
    assert service.dependencies == {"cluster", "proxy-core-02", "proxy-core-03"}
    assert service.data_dependencies == set()
    assert service.delete_before_replace


@pytest.mark.parametrize("settings", [{"max_body_size": "1m"}, {"fail_timeout_s": 3}])
def test_what_a_reload_can_change_does_not_touch_the_service(settings: dict[str, Any]) -> None:
    before, after = made(), made(**settings)
    for name in ("proxy-service", "proxy-running"):
        assert before[name].inputs == after[name].inputs
    assert before["proxy-core-02"].inputs != after["proxy-core-02"].inputs


# --- the wait --------------------------------------------------------------------------------------------------------


def test_the_wait_follows_the_service_and_fails_by_itself_before_the_engine_ends_it() -> None:
    running = made()["proxy-running"]
    spec = running.environment["SPEC"]
    assert len(spec) == 64
    assert (running.step, running.node) == ("service-tasks", "")
    assert running.own == {
        "SERVICE": "proxy",
        "SECONDS_ALLOWED": "120",
        "SPEC": spec,
        "SERVICE_ID": "proxy-service-id",
    }
    assert running.scripts == {"create": "swarm/wait_for_tasks.sh"}
    assert running.timeouts["create"] == "5m"
    assert running.data_dependencies == {"proxy-service"}
    assert running.deleted_with == "cluster"


def test_the_wait_runs_again_when_the_service_changes() -> None:
    specs = [
        run_["proxy-running"].environment["SPEC"]
        for run_ in (made(), made(), made(memory=129), made(image="localhost:1/site-nginx:2"), made(port=81))
    ]
    assert specs[0] == specs[1]
    assert len(set(specs)) == 4


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("port", "suffix"), [(80, ""), (8081, ":8081")])
def test_its_urls_lead_to_each_proxy_and_the_first_is_the_one_to_show(port: int, suffix: str) -> None:
    result = made(port=port)
    urls = [f"http://192.168.56.12{suffix}/", f"http://192.168.56.13{suffix}/"]
    assert result.returned == [{"url": urls[0], "urls": urls}]
    assert result.outputs["proxy"] == {"url": urls[0], "urls": urls}


def test_two_proxies_stand_side_by_side() -> None:
    result = made("left", "right")
    assert {name for _, name in result.inventory("left")} == {
        *("left", "left-check", "left-core-02", "left-core-03", "left-service", "left-running"),
    }
    assert result["right-service"].inputs["name"] == "right"
    assert result["right-running"].environment["SERVICE"] == "right"


# --- bootstrap --------------------------------------------------------------------------------------------------------


def bootstrapped(*names: str) -> Run:
    def body() -> Any:
        args = ProxyBootstrapArgs(settings=proxy_settings(), workers=1, machines=machines(nodes(2)))
        made = [ProxyBootstrap(name, args) for name in names or ("proxy-seed",)]
        return [{name: resource.id for name, resource in one.delivered.items()} for one in made]

    return run(body)


def test_each_node_of_a_proxy_begins_with_a_plain_502_page() -> None:
    result = bootstrapped()
    assert result.inventory("proxy-seed") == {
        ("swarm-site:index:ProxyBootstrap", "proxy-seed"),
        (COMMAND, "proxy-seed-core-01"),
        (COMMAND, "proxy-seed-core-02"),
    }
    one = result["proxy-seed-core-02"]
    assert (one.step, one.node) == ("proxy-bootstrap", "core-02")
    assert one.own == {"CONFIGURATION": configuration(proxy_settings(), [])[0]}
    assert one.scripts == {"create": "proxy/bootstrap.sh"}
    assert one.timeouts == {"create": "5m", "update": "5m", "delete": "5m"}


def test_a_bootstrap_belongs_to_its_machine_alone() -> None:
    one = bootstrapped()["proxy-seed-core-02"]
    assert one.parent == "proxy-seed"
    assert one.inputs["triggers"] == ["machine-core-02-id"]
    assert one.dependencies == {"machine-core-02"}


def test_a_bootstrap_hands_on_what_it_put_on_each_node() -> None:
    result = bootstrapped()
    assert result.returned == [{"core-01": "proxy-seed-core-01-id", "core-02": "proxy-seed-core-02-id"}]
    assert result.outputs["proxy-seed"] == {}


def test_two_bootstraps_stand_side_by_side() -> None:
    result = bootstrapped("left", "right")
    assert {name for _, name in result.inventory("left")} == {"left", "left-core-01", "left-core-02"}

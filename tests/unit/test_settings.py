"""The settings: refusals, defaults, and the hash of the content folder."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pulumi
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components import contract
from components.digest import CHUNK_BYTES, folder_hash
from components.release import LEFT_OUT_PATHS, listing, release_hash
from components.settings import BACKEND, SECTIONS, Settings, SettingsError, load, parse
from tests.unit import harness
from tests.unit.harness import OWN, ROOT

HEADING = "the settings are refused:"
NAME_RULE = "must be a lower case RFC 1123 host name of at most 30 letters, digits and inner hyphens"
KEYS = "network, machines, swarm, images, content, backend, applications, proxy"
NETWORK_RULE = 'must be a private IPv4 network of /16 to /28; for example "192.168.56.0/24"'


def settings_of(
    values: Mapping[str, Any] | None = None, *, stack: str = "dev", environment: Mapping[str, str] | None = None
) -> Settings:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (values or {}).items()}
    return parse(stack, texts, environment or {})


def faults_of(
    values: Mapping[str, Any] | None = None, *, stack: str = "dev", environment: Mapping[str, str] | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings_of(values, stack=stack, environment=environment)
    heading, *lines = str(caught.value).split("\n")
    assert heading == HEADING
    assert all(line.startswith("  - ") for line in lines)
    return [line.removeprefix("  - ") for line in lines]


BAD: list[tuple[dict[str, Any], str]] = [
    # network
    ({"network": "192.168.56.0"}, f'swarm-site:network: "192.168.56.0" {NETWORK_RULE}'),
    ({"network": "192.168.56.0/29"}, f'swarm-site:network: "192.168.56.0/29" {NETWORK_RULE}'),
    ({"network": "10.0.0.0/15"}, f'swarm-site:network: "10.0.0.0/15" {NETWORK_RULE}'),
    ({"network": "8.8.8.0/24"}, f'swarm-site:network: "8.8.8.0/24" {NETWORK_RULE}'),
    ({"network": "127.0.0.0/24"}, f'swarm-site:network: "127.0.0.0/24" {NETWORK_RULE}'),
    ({"network": "198.18.0.0/24"}, f'swarm-site:network: "198.18.0.0/24" {NETWORK_RULE}'),
    ({"network": "172.32.0.0/24"}, f'swarm-site:network: "172.32.0.0/24" {NETWORK_RULE}'),
    (
        {"network": "192.168.56.1/24"},
        'swarm-site:network: "192.168.56.1/24" must be an IPv4 network in CIDR notation '
        '(192.168.56.1/24 has host bits set); for example "192.168.56.0/24"',
    ),
    (
        {"network": "fd00::/64"},
        'swarm-site:network: "fd00::/64" must be an IPv4 network in CIDR notation '
        "(Expected 4 octets in 'fd00::'); for example \"192.168.56.0/24\"",
    ),
    (
        {"network": 24},
        'swarm-site:network: 24 must be text; for example "192.168.56.0/24"',
    ),
    # machines
    (
        {"machines": {"provider": "virtualbox2"}},
        "swarm-site:machines.provider: \"virtualbox2\" must be 'docker', 'libvirt', 'virtualbox' or 'ssh'; "
        'for example "docker"',
    ),
    (
        {"machines": {"box": "https://example.com/a.box"}},
        'swarm-site:machines.box: "https://example.com/a.box" must be a public Vagrant box as owner/name, or own; '
        'for example "debian/bookworm64"',
    ),
    (
        {"machines": {"provider": "virtualbox"}, "network": "192.168.64.0/24"},
        'swarm-site:network: "192.168.64.0/24" is not in 192.168.56.0/21, where VirtualBox allows host-only networks; '
        'for example "192.168.56.0/24"',
    ),
    (
        {"machines": {"provider": "virtualbox", "box": "own"}},
        'swarm-site:machines.box: "own" is for libvirt: VirtualBox can\'t boot a disk without a boot loader; '
        'for example "debian/bookworm64"',
    ),
    (
        {"machines": {"count": 0}},
        "swarm-site:machines.count: 0 must be at least 1; for example 3",
    ),
    (
        {"machines": {"count": 201}},
        "swarm-site:machines.count: 201 must be at most 200; for example 3",
    ),
    ({"machines": {"count": 3.5}}, "swarm-site:machines.count: 3.5 must be an integer; for example 3"),
    ({"machines": {"count": "3"}}, 'swarm-site:machines.count: "3" must be an integer; for example 3'),
    ({"machines": {"cpus": True}}, "swarm-site:machines.cpus: true must be an integer; for example 1"),
    (
        {"machines": {"memory": 383}},
        "swarm-site:machines.memory: 383 must be at least 384; for example 512",
    ),
    ({"machines": {"prefix": "Core"}}, f'swarm-site:machines.prefix: "Core" {NAME_RULE}; for example "core"'),
    ({"machines": {"prefix": "-core"}}, f'swarm-site:machines.prefix: "-core" {NAME_RULE}; for example "core"'),
    ({"machines": {"prefix": "core\n"}}, f'swarm-site:machines.prefix: "core\\n" {NAME_RULE}; for example "core"'),
    ({"machines": {"prefix": "a" * 31}}, f'swarm-site:machines.prefix: "{"a" * 31}" {NAME_RULE}; for example "core"'),
    (
        {"machines": {"overrides": {"core-04": {"memory": 768}}}},
        'swarm-site:machines.overrides.core-04: "core-04" is no machine of this stack (core-01 to core-03); '
        'for example "core-01"',
    ),
    (
        {"machines": {"overrides": {"core-02": {"memory": 12}}}},
        "swarm-site:machines.overrides.core-02.memory: 12 must be at least 384; for example 768",
    ),
    (
        {"machines": {"overrides": {"core-02": {"disk": 12}}}},
        "swarm-site:machines.overrides.core-02.disk: 12 is not a setting of this section",
    ),
    (
        {"machines": {"count": 5}, "network": "192.168.56.0/28"},
        "swarm-site:machines.count: 5 machines do not fit into 192.168.56.0/28, "
        "which has addresses for 4 after the first 10; for example 4",
    ),
    # swarm
    (
        {"swarm": {"managers": 2}},
        "swarm-site:swarm.managers: 2 must be odd: a quorum gains nothing from an even number; for example 1",
    ),
    ({"swarm": {"managers": 5}}, "swarm-site:swarm.managers: 5 is more than the 3 machines; for example 3"),
    (
        {"swarm": {"managers": 9}},
        "swarm-site:swarm.managers: 9 must be at most 7; for example 3",
    ),
    # images
    (
        {"images": {"nginx": "Nginx:1.27"}},
        'swarm-site:images.nginx: "Nginx:1.27" must be an image reference; for example "nginx:1.27-alpine"',
    ),
    (
        {"images": {"nginx": "nginx:ü"}},
        'swarm-site:images.nginx: "nginx:\\u00fc" must be an image reference; for example "nginx:1.27-alpine"',
    ),
    (
        {"images": {"nginx": "nginx; reboot"}},
        'swarm-site:images.nginx: "nginx; reboot" must be an image reference; for example "nginx:1.27-alpine"',
    ),
    (
        {"images": {"mirror": "https://mirror.example"}},
        'swarm-site:images.mirror: "https://mirror.example" must be a registry as host, host:port or host:port/path, '
        'without a scheme; for example "mirror.example:5000"',
    ),
    # content
    (
        {"content": {"folder": ""}},
        'swarm-site:content.folder: "" must not be empty; for example "site"',
    ),
    (
        {"content": {"folder": "no-such-folder"}},
        'swarm-site:content.folder: "no-such-folder" is no folder of the project; for example "site"',
    ),
    (
        {"content": {"folder": "Pulumi.yaml"}},
        'swarm-site:content.folder: "Pulumi.yaml" is no folder of the project; for example "site"',
    ),
    (
        {"content": {"folder": "/no/such/folder"}},
        'swarm-site:content.folder: "/no/such/folder" is no folder; for example "site"',
    ),
    (
        {"content": {"folder": "a" * 300}},
        f'swarm-site:content.folder: "{"a" * 300}" is no folder of the project; for example "site"',
    ),
    (
        {"content": {"keep": 0}},
        "swarm-site:content.keep: 0 must be at least 1; for example 3",
    ),
    # backend and proxy
    (
        {"backend": {"port": 0}},
        "swarm-site:backend.port: 0 must be at least 1; for example 8080",
    ),
    (
        {"backend": {"port": 70000}},
        "swarm-site:backend.port: 70000 must be at most 65535; for example 8080",
    ),
    ({"backend": {"port": 22}}, "swarm-site:backend.port: 22 is taken on every node (ssh); for example 8080"),
    (
        {"proxy": {"port": 2377}},
        "swarm-site:proxy.port: 2377 is taken on every node (swarm control); for example 80",
    ),
    (
        {"proxy": {"port": 8080}},
        "swarm-site:proxy.port: 8080 is taken on every node (backend); for example 80",
    ),
    (
        {"backend": {"port": 80}},
        "swarm-site:proxy.port: 80 is taken on every node (backend); for example 8080",
    ),
    # applications
    (
        {"applications": {"docs": {"port": 8080}}},
        "swarm-site:applications.docs.port: 8080 is taken on every node (backend); for example 8081",
    ),
    (
        {"applications": {"docs": {"port": 8081}, "help": {"port": 8081}}},
        "swarm-site:applications.help.port: 8081 is taken on every node (applications.docs); for example 8082",
    ),
    (
        {"applications": {"docs": {}}},
        "swarm-site:applications.docs.port: is required; for example 8081",
    ),
    (
        {"applications": {"docs": {"port": 8081, "replicas": 4}}},
        "swarm-site:applications.docs.replicas: 4 needs as many machines, one a task, and there are 3; for example 3",
    ),
    (
        {"applications": {"docs": {"port": 8081, "hosts": ["Docs.example"]}}},
        'swarm-site:applications.docs.hosts.0: "Docs.example" must be a lower case host name, as visitors type it; '
        'for example "docs.example"',
    ),
    (
        {"applications": {"docs": {"port": 8081, "hosts": ["127.0.0.1"]}}},
        'swarm-site:applications.docs.hosts.0: "127.0.0.1" must be a lower case host name, as visitors type it; '
        'for example "docs.example"',
    ),
    (
        {"applications": {"docs": {"port": 8081, "hosts": "docs.example"}}},
        'swarm-site:applications.docs.hosts: "docs.example" must be a list; for example ["docs.example"]',
    ),
    (
        {"applications": {"docs": {"port": 8081, "path": "/docs/"}}},
        'swarm-site:applications.docs.path: "/docs/" is not a setting of this section',
    ),
    (
        {"applications": {"Docs": {"port": 8081}}},
        f'swarm-site:applications.Docs: "Docs" {NAME_RULE}; for example "docs"',
    ),
    (
        {"applications": {"proxy": {"port": 8081}}},
        'swarm-site:applications.proxy: "proxy" is a service that comes with the product; for example "docs"',
    ),
    (
        {"applications": {"docs": 8081}},
        'swarm-site:applications.docs: 8081 must be an object of settings; for example {"port": 8081}',
    ),
    (
        {"applications": ["docs"]},
        'swarm-site:applications: ["docs"] must be an object of settings',
    ),
    (
        {"applications": {n: {"port": p, "hosts": ["x.example"]} for n, p in (("docs", 8081), ("help", 8082))}},
        'swarm-site:applications: "x.example" is a host name of more than one application',
    ),
    (
        {"machines": {"provider": "ssh", "hosts": [{"name": "web-1", "address": "192.0.2.1", "port": 0}]}},
        "swarm-site:machines.hosts.0.port: 0 must be at least 1; for example 22",
    ),
    (
        {"machines": {"provider": "ssh", "hosts": [{"name": "web-1"}]}},
        'swarm-site:machines.hosts.0.address: is required; for example "192.0.2.11"',
    ),
    (
        {"machines": {"provider": "ssh", "hosts": ["web-1"]}},
        'swarm-site:machines.hosts.0: "web-1" must be an object of settings; '
        'for example {"name": "web-1", "address": "192.0.2.11"}',
    ),
    (
        {"backend": {"replicas": 4}},
        "swarm-site:backend.replicas: 4 needs as many machines, one a task, and there are 3; for example 3",
    ),
    (
        {"machines": {"count": 1}, "proxy": {"replicas": 2}},
        "swarm-site:proxy.replicas: 2 needs as many machines, one a task, and there are 1; for example 1",
    ),
    (
        {"content": {"cache_control": "no cache"}},
        'swarm-site:content.cache_control: "no cache" must be Cache-Control directives, separated by commas; "" sends '
        'none; for example "public, max-age=300"',
    ),
    (
        {"content": {"cache_control_hashed": 'max-age=1";'}},
        'swarm-site:content.cache_control_hashed: "max-age=1\\";" must be Cache-Control directives, separated by '
        'commas; "" sends none; for example "no-cache"',
    ),
    (
        {"content": {"charset": "utf 8"}},
        'swarm-site:content.charset: "utf 8" must be the name of a character encoding, or off; '
        'for example "iso-8859-1"',
    ),
    (
        {"proxy": {"trusted_networks": ["203.0.113.1/24"]}},
        'swarm-site:proxy.trusted_networks.0: "203.0.113.1/24" must be an IPv4 or IPv6 network in CIDR notation '
        '(203.0.113.1/24 has host bits set); for example "203.0.113.0/24"',
    ),
    (
        {"proxy": {"trusted_networks": ["all; deny"]}},
        'swarm-site:proxy.trusted_networks.0: "all; deny" must be an IPv4 or IPv6 network in CIDR notation '
        "('all; deny' does not appear to be an IPv4 or IPv6 network); for example \"203.0.113.0/24\"",
    ),
    (
        {"backend": {"memory": 15}},
        "swarm-site:backend.memory: 15 must be at least 16; for example 64",
    ),
    (
        {"proxy": {"max_body_size": "10 MB"}},
        'swarm-site:proxy.max_body_size: "10 MB" must be an nginx size: digits and k, m or g; 0 means no limit; '
        'for example "0"',
    ),
    (
        {"proxy": {"connect_timeout_ms": 49}},
        "swarm-site:proxy.connect_timeout_ms: 49 must be at least 50; for example 500",
    ),
    (
        {"backend": {"read_timeout_s": "1h"}},
        'swarm-site:backend.read_timeout_s: "1h" must be an integer; for example 2',
    ),
    (
        {"proxy": {"fail_timeout_s": 601}},
        "swarm-site:proxy.fail_timeout_s: 601 must be at most 600; for example 30",
    ),
    # keys and shapes
    ({"machinez": {"count": 3}}, f'swarm-site:machinez: {{"count": 3}} is not a setting; settings are {KEYS}'),
    ({"proxy": {"ports": [80]}}, "swarm-site:proxy.ports: [80] is not a setting of this section"),
    (
        {"machines": 3},
        'swarm-site:machines: 3 must be an object of settings; for example {"provider": "docker"}',
    ),
    (
        {"swarm": "three"},
        'swarm-site:swarm: "three" must be an object of settings; for example {"managers": 3}',
    ),
    (
        {"network": "[" * 5000},
        f'swarm-site:network: "{"[" * 5000}" must be an IPv4 network in CIDR notation '
        f"(Expected 4 octets in '{'[' * 5000}'); for example \"192.168.56.0/24\"",
    ),
]


@pytest.mark.parametrize(("values", "fault"), BAD, ids=lambda value: json.dumps(value)[:60])
def test_a_bad_value_is_refused_by_one_line_that_names_key_value_rule_and_example(
    values: dict[str, Any], fault: str
) -> None:
    assert faults_of(values) == [fault]


GOOD: list[dict[str, Any]] = [
    {},
    {"machines": {"provider": "libvirt", "box": "own"}},
    {"machines": {"provider": "libvirt"}, "network": "10.0.0.0/16"},
    {"machines": {"provider": "virtualbox", "box": "generic/debian12"}, "network": "192.168.63.0/24"},
    {"network": "10.20.0.0/16"},
    {"network": "172.31.255.240/28"},
    {"machines": {"count": 200}, "network": "10.0.0.0/16"},
    {"machines": {"count": 4}, "network": "192.168.56.0/28"},
    {"machines": {"prefix": "a"}},
    {"machines": {"prefix": "9" * 30}},
    {"machines": {"overrides": {"core-03": {}}}},
    {"machines": {"memory": 384, "cpus": 64}},
    {"content": {"cache_control": "", "cache_control_hashed": "public, max-age=60, must-revalidate"}},
    {"content": {"charset": "off"}},
    {"content": {"charset": "iso-8859-1"}},
    {"proxy": {"trusted_networks": ["203.0.113.0/24", "192.0.2.7", "2001:db8::/32", "::1"]}},
    {"machines": {"count": 7}, "swarm": {"managers": 7}},
    {"swarm": {"managers": None}},
    {"swarm": {"managers": 1}},
    {"images": {"nginx": "nginx"}},
    {"images": {"nginx": "registry.example:5000/team/nginx:1.27-alpine"}},
    {"images": {"nginx": "nginx@sha256:" + "0" * 64}},
    {"images": {"mirror": "mirror.example:5000/hub"}},
    {"content": {"folder": "./another", "keep": 50}},
    {"backend": {"port": 80}, "proxy": {"port": 8080}},
    {"backend": {"replicas": 3}, "proxy": {"replicas": 3}},
    {"proxy": {"max_body_size": "999999g"}},
    {"applications": {"docs": {"port": 8081, "hosts": ["docs.example", "web1", "xn--e1afmkfd.example", "d9.example"]}}},
    {"applications": {"docs": {"port": 8081, "replicas": 3, "memory": None}}},
]


@pytest.mark.parametrize("values", GOOD, ids=lambda value: json.dumps(value)[:60])
def test_a_good_value_is_taken(values: dict[str, Any]) -> None:
    assert settings_of(values).stack == "dev"


def mended(values: Any, path: Sequence[str], example: Any, *, is_name: bool) -> Any:
    """Return the settings with the example in place of the refused value, or as its name."""
    if not path:
        return example
    first, rest = path[0], path[1:]
    if isinstance(values, list):
        return [
            mended(value, rest, example, is_name=is_name) if i == int(first) else value
            for i, value in enumerate(values)
        ]
    if is_name and not rest:
        return {example if key == first else key: value for key, value in values.items()}
    return {**values, first: mended(values.get(first, {}), rest, example, is_name=is_name)}


@pytest.mark.parametrize(("values", "fault"), BAD, ids=lambda value: json.dumps(value)[:60])
def test_the_example_of_a_refusal_is_itself_taken(values: dict[str, Any], fault: str) -> None:
    key, example = re.match(r"swarm-site:([\w.-]+): ", fault), re.search(r"; for example (.*)$", fault)
    assert key
    if example is None:
        assert "is not a setting" in fault or "applications: " in fault
        return
    path = key[1].split(".")
    is_name = path[-2:-1] in (["overrides"], ["applications"]) and example[1].startswith('"')
    settings_of(mended(values, path, json.loads(example[1]), is_name=is_name))


def test_all_faults_come_at_once_in_an_order_that_does_not_change() -> None:
    values = {
        **dict.fromkeys(("what", "with", "which", "who", "whose", "why"), "x"),
        "that": {"a": 1},
        "machines": {"count": 4, "overrides": {"core-09": {"memory": 512}, "core-07": {}}},
        "swarm": {"managers": 6},
        "backend": {"replicas": 9, "port": 22},
        "images": {"nginx": "?", "mirror": "?"},
        "content": {"folder": "nope"},
    }
    assert faults_of(values, stack="Dev", environment={"DOCKER_HOST": "tcp://192.0.2.1:2375"}) == [
        'environment variable DOCKER_HOST: "tcp://192.0.2.1:2375" would redirect the docker provider away from this '
        "stack's swarm; run `unset DOCKER_HOST` first",
        f'stack name: "Dev" {NAME_RULE}; for example "dev"',
        f'swarm-site:that: {{"a": 1}} is not a setting; settings are {KEYS}',
        *[
            f'swarm-site:{key}: "x" is not a setting; settings are {KEYS}'
            for key in ("what", "which", "who", "whose", "why", "with")
        ],
        'swarm-site:images.nginx: "?" must be an image reference; for example "nginx:1.27-alpine"',
        'swarm-site:images.mirror: "?" must be a registry as host, host:port or host:port/path, without a scheme; '
        'for example "mirror.example:5000"',
        "swarm-site:swarm.managers: 6 must be odd: a quorum gains nothing from an even number; for example 3",
        "swarm-site:swarm.managers: 6 is more than the 4 machines; for example 3",
        'swarm-site:machines.overrides.core-07: "core-07" is no machine of this stack (core-01 to core-04); '
        'for example "core-01"',
        'swarm-site:machines.overrides.core-09: "core-09" is no machine of this stack (core-01 to core-04); '
        'for example "core-01"',
        "swarm-site:backend.replicas: 9 needs as many machines, one a task, and there are 4; for example 4",
        "swarm-site:backend.port: 22 is taken on every node (ssh); for example 8080",
        'swarm-site:content.folder: "nope" is no folder of the project; for example "site"',
    ]


@pytest.mark.parametrize(
    "name", ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION"]
)
def test_a_variable_that_would_redirect_the_provider_is_refused_by_name(name: str) -> None:
    assert faults_of(environment={name: "x"}) == [
        f'environment variable {name}: "x" would redirect the docker provider away from this stack\'s swarm; '
        f"run `unset {name}` first"
    ]
    settings_of(environment={name: "", "DOCKER_BUILDKIT": "0"})


@pytest.mark.parametrize(("parallel", "machines"), [(11, 3), (16, 5), (1, 1)])
def test_an_engine_that_works_on_too_little_at_once_is_refused(parallel: int, machines: int) -> None:
    texts = {"machines": json.dumps({"count": machines})}
    with pytest.raises(SettingsError) as caught:
        parse("dev", texts, {}, parallel)
    assert str(caught.value).split("\n")[1:] == [
        f"  - environment variable PULUMI_PARALLEL: {parallel} is too small for {machines} machines: while each waits "
        f"for its turn to leave the swarm, nothing else would move; run `export PULUMI_PARALLEL={4 * machines}` first"
    ]
    assert parse("dev", texts, {}, 4 * machines) == parse("dev", texts, {}, None)


@pytest.mark.parametrize("stack", ["Dev", "a_b", "a.b", "-a", "a-", "", "dev\n", "a" * 31, "ä", 'a"b', "../x"])
def test_a_stack_name_that_is_no_host_name_is_refused(stack: str) -> None:
    assert faults_of(stack=stack) == [f'stack name: {json.dumps(stack)} {NAME_RULE}; for example "dev"']


# --- defaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "managers", "backends", "proxies"),
    [
        (1, 1, 1, ["core-01"]),
        (2, 1, 2, ["core-01", "core-02"]),
        (3, 3, 2, ["core-02", "core-03"]),
        (7, 3, 2, ["core-02", "core-03"]),
    ],
)
def test_defaults_fit_the_number_of_machines(count: int, managers: int, backends: int, proxies: list[str]) -> None:
    settings = settings_of({"machines": {"count": count}})
    assert settings.swarm.managers == managers
    assert [node.role for node in settings.nodes] == ["manager"] * managers + ["worker"] * (count - managers)
    assert settings.applications[BACKEND].replicas == backends
    assert settings.proxy.replicas == len(proxies)
    assert [node.name for node in settings.nodes if node.proxy] == proxies
    assert [node.name for node in settings.nodes] == [f"core-{number:02d}" for number in range(1, count + 1)]
    assert [node.address for node in settings.nodes] == [f"192.168.56.{10 + n}" for n in range(1, count + 1)]
    assert {(node.memory, node.cpus) for node in settings.nodes} == {(512, 1)}


@pytest.mark.parametrize(("proxies", "first"), [(1, 2), (2, 2), (3, 2), (4, 1)])
def test_proxies_stand_beside_the_first_machine_while_there_is_room(proxies: int, first: int) -> None:
    nodes = settings_of({"machines": {"count": 4}, "proxy": {"replicas": proxies}}).nodes
    expected = [f"core-{number:02d}" for number in range(first, first + proxies)]
    assert [node.name for node in nodes if node.proxy] == expected


def test_a_single_machine_may_have_another_size() -> None:
    overrides = {"core-02": {"memory": 768}, "core-03": {"cpus": 2}}
    nodes = settings_of({"machines": {"memory": 600, "overrides": overrides}}).nodes
    assert [(node.memory, node.cpus) for node in nodes] == [(600, 1), (768, 1), (600, 2)]


# --- existing hosts ---------------------------------------------------------------------------------------------------

HOSTS: list[dict[str, Any]] = [{"name": f"web-{n}", "address": f"192.0.2.{n}"} for n in (1, 2, 3)]
HOST_EXAMPLES = {"name": "web-1", "address": "192.0.2.11", "user": "admin", "jump": "admin@bastion.example:2222"}
DECIDED = "has no effect with provider ssh; remove it"


def on_hosts(*hosts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"machines": {"provider": "ssh", "hosts": [*hosts], **more}}


def test_hosts_decide_names_addresses_and_number() -> None:
    settings = settings_of(on_hosts(*HOSTS))
    assert [(node.name, node.address, node.role, node.proxy) for node in settings.nodes] == [
        ("web-1", "192.0.2.1", "manager", False),
        ("web-2", "192.0.2.2", "manager", True),
        ("web-3", "192.0.2.3", "manager", True),
    ]
    assert [node.host for node in settings.nodes] == settings.machines.hosts
    assert (settings.swarm.managers, settings.applications[BACKEND].replicas, settings.proxy.replicas) == (3, 2, 2)
    first = settings.machines.hosts[0]
    assert (first.user, first.port, first.jump) == ("root", 22, None)


def test_one_host_is_enough_and_each_may_have_its_own_way_in() -> None:
    way = {"user": "_admin-1", "port": 2222, "jump": "me@bastion.example:2200,10.0.0.1"}
    (node,) = settings_of(on_hosts(HOSTS[0] | way)).nodes
    assert node.host
    assert node.host.model_dump() == HOSTS[0] | way


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        (
            {"machines": {"provider": "ssh"}},
            [
                "hosts: [] are required with provider ssh, at least one; "
                'for example [{"name": "web-1", "address": "192.0.2.11"}]'
            ],
        ),
        (
            {"machines": {"hosts": HOSTS}},
            ['hosts: ["web-1", "web-2", "web-3"] only apply to provider ssh; docker creates its own machines'],
        ),
        (
            on_hosts(*HOSTS, count=3, memory=512, cpus=1, prefix="core", overrides={"core-02": {}}),
            [
                f"count: 3 {DECIDED}",
                f"memory: 512 {DECIDED}",
                f"cpus: 1 {DECIDED}",
                f'prefix: "core" {DECIDED}',
                f'overrides: ["core-02"] {DECIDED}',
            ],
        ),
        (
            on_hosts(*HOSTS, {"name": "web-1", "address": "192.0.2.2"}),
            [
                'hosts.name: "web-1" is the name of more than one host',
                'hosts.address: "192.0.2.2" is the address of more than one host',
            ],
        ),
    ],
)
def test_what_hosts_can_not_be_is_refused_by_name(values: dict[str, Any], faults: list[str]) -> None:
    assert faults_of(values) == [f"swarm-site:machines.{fault}" for fault in faults]


def test_a_network_beside_hosts_is_refused() -> None:
    assert faults_of({"network": "10.0.0.0/24", **on_hosts(*HOSTS)}) == [f'swarm-site:network: "10.0.0.0/24" {DECIDED}']


def test_hosts_are_counted_where_machines_are() -> None:
    values = {**on_hosts(*HOSTS[:2]), "swarm": {"managers": 3}, "backend": {"replicas": 3}}
    assert faults_of(values) == [
        "swarm-site:swarm.managers: 3 is more than the 2 machines; for example 1",
        "swarm-site:backend.replicas: 3 needs as many machines, one a task, and there are 2; for example 2",
    ]
    with pytest.raises(SettingsError, match="PULUMI_PARALLEL: 7 is too small for 2 machines"):
        parse("dev", {"machines": json.dumps(on_hosts(*HOSTS[:2])["machines"])}, {}, 7)


def test_the_port_of_ssh_is_taken_on_every_node() -> None:
    assert faults_of(on_hosts(HOSTS[0] | {"port": 8080})) == [
        "swarm-site:backend.port: 8080 is taken on every node (ssh); for example 8081"
    ]


ADDRESS_RULE = "must be an IPv4 address"
REACHED_RULE = "must be an IPv4 address at which the other hosts reach it"
USER_RULE = "must be the name of a Unix account: small letters, digits, '-' and '_'"
JUMP_RULE = "must be jump hosts as ssh's ProxyJump takes them: [user@]host[:port], separated by commas"


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        *(("name", value, NAME_RULE) for value in ("-oProxyCommand=x", "a b", "a\n", "a.b", "A", "", "%h")),
        *(
            ("address", value, ADDRESS_RULE)
            for value in ("-F", "web.example", "192.0.2.1\n", "192.0.2.256", "::1", "%h", "")
        ),
        *(
            ("address", value, REACHED_RULE)
            for value in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.1.1", "255.255.255.255")
        ),
        *(("user", value, USER_RULE) for value in ("-l", "a b", "a\nb", "%r", "root;id", "Root", "", "a" * 33)),
        *(
            ("jump", value, JUMP_RULE)
            for value in ("-J", "a b", "a\nb", "%h", "$(id)", "a,,b", "ssh://a", "@a", "a:b", "-x@a", "")
        ),
    ],
)
def test_a_hostile_value_of_a_host_is_refused(key: str, value: str, rule: str) -> None:
    assert faults_of(on_hosts(HOSTS[0] | {key: value})) == [
        f"swarm-site:machines.hosts.0.{key}: {json.dumps(value)} {rule}; for example {json.dumps(HOST_EXAMPLES[key])}"
    ]


def test_the_network_is_the_only_key_a_second_stack_has_to_change() -> None:
    nodes = settings_of({"network": "172.16.5.0/24"}, stack="blue").nodes
    assert [node.address for node in nodes] == ["172.16.5.11", "172.16.5.12", "172.16.5.13"]


def test_more_than_99_machines_have_names_and_addresses_of_their_own() -> None:
    nodes = settings_of({"machines": {"count": 200}, "network": "10.9.0.0/24"}).nodes
    assert (nodes[99].name, nodes[199].name, nodes[199].address) == ("core-100", "core-200", "10.9.0.210")
    assert len({node.name for node in nodes}) == len({node.address for node in nodes}) == 200


def test_nothing_given_is_the_same_as_every_default_given() -> None:
    given_in_full = {
        key: {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
        for key, model in _section_models().items()
    }
    assert settings_of(given_in_full) == settings_of({}) == settings_of({"network": "192.168.56.0/24"})


def test_settings_can_not_be_changed_later() -> None:
    settings = settings_of()
    for target, name in ((settings, "stack"), (settings.proxy, "port"), (settings.nodes[0], "name")):
        with pytest.raises((AttributeError, ValueError), match=r"frozen|cannot assign"):
            setattr(target, name, "x")


def _section_models() -> dict[str, type[BaseModel]]:
    types = {key: adapter._type for key, adapter in SECTIONS.items()}
    return {key: type_ for key, type_ in types.items() if isinstance(type_, type) and issubclass(type_, BaseModel)}


def _fields() -> list[tuple[str, str, FieldInfo]]:
    return [
        (key, name, field) for key, model in _section_models().items() for name, field in model.model_fields.items()
    ]


@pytest.mark.parametrize(("section", "name", "field"), _fields(), ids=lambda value: value if type(value) is str else "")
def test_each_setting_has_a_description_and_a_valid_example(section: str, name: str, field: FieldInfo) -> None:
    assert field.description
    assert field.description.endswith((".", "…"))
    assert field.examples
    needed = {"provider": "ssh"} if name == "hosts" else {}
    settings_of({section: {name: field.examples[0]} | needed})


# --- loading as users do ---------------------------------------------------------------------------------------------


def test_load_reads_the_stacks_name_and_configuration() -> None:
    loaded: list[Settings] = []
    harness.run(
        lambda: loaded.append(load()),
        config={"swarm-site:machines": {"count": 5}, "other:key": "x"},
        stack="blue",
    )
    assert loaded == [settings_of({"machines": {"count": 5}}, stack="blue")]


def test_load_refuses_a_key_that_nobody_knows() -> None:
    with pytest.raises(SettingsError, match=r"swarm-site:machine: \{\"count\": 5\} is not a setting"):
        harness.run(load, config={"swarm-site:machine": {"count": 5}})


def test_load_sees_the_variables_of_this_process() -> None:
    with pytest.raises(SettingsError, match="environment variable DOCKER_CONTEXT"):
        harness.run(load, environment={"DOCKER_CONTEXT": "remote"})


def test_load_minds_no_variable_in_a_preview_which_connects_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
    harness.run(load, environment={"DOCKER_CONTEXT": "remote", "DOCKER_HOST": "tcp://192.0.2.1:2375"}, parallel=1)


def test_load_sees_how_much_the_engine_works_on_at_once() -> None:
    with pytest.raises(SettingsError, match="environment variable PULUMI_PARALLEL: 11 is too small for 3 machines"):
        harness.run(load, parallel=11)


def test_a_refusal_is_shown_without_a_traceback() -> None:
    assert issubclass(SettingsError, pulumi.RunError)


@pytest.mark.parametrize("folder", [OWN, ROOT], ids=["tests", "committed"])
def test_the_committed_stack_file_is_taken_whatever_valid_it_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "PROJECT", folder)
    loaded: list[Settings] = []
    harness.run(lambda: loaded.append(load()), config=harness.stack_config(folder))
    assert loaded[0].nodes
    assert listing(folder / loaded[0].content.folder).files


# --- the content folder ----------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(contract, "PROJECT", tmp_path)
    (tmp_path / "site").mkdir()
    return tmp_path


def test_a_content_folder_without_a_file_is_refused(project: Path) -> None:
    (project / "site" / "empty" / "deeper").mkdir(parents=True)
    assert faults_of() == ['swarm-site:content.folder: "site" holds no file to publish; for example "site"']


def test_what_is_neither_a_plain_file_nor_a_folder_is_refused(project: Path) -> None:
    folder = project / "site"
    (folder / "index.html").write_text("x")
    (folder / "link").symlink_to("index.html")
    (folder / "dangling").symlink_to("nothing")
    (folder / "folder").symlink_to(project)
    os.mkfifo(folder / "pipe")
    assert faults_of() == [
        f'swarm-site:content.folder: "site/{name}" is neither a plain file nor a folder'
        for name in ("dangling", "folder", "link", "pipe")
    ]


@pytest.mark.parametrize("name", [b"a\nb", b"a\tb", b"a\\b", b"a\x7fb", b"a\xffb"])
def test_a_name_that_not_every_tool_can_name_is_refused(project: Path, name: bytes) -> None:
    folder = project / "site"
    (folder / "sub").mkdir()
    (folder / "sub" / os.fsdecode(name)).write_text("x")
    assert faults_of() == [
        f"swarm-site:content.folder: {json.dumps('site/sub/' + os.fsdecode(name))} "
        "has a control character, a backslash or broken UTF-8 in its name"
    ]


def test_a_file_that_can_not_be_read_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "site" / "secret.html").write_text("x")
    # Root may read everything, so a mode of 000 would prove nothing.
    monkeypatch.setattr(os, "access", lambda path, mode: (path.name, mode) != ("secret.html", os.R_OK))
    assert faults_of() == ['swarm-site:content.folder: "site/secret.html" can not be read by this user']


HIDDEN = (".git/config", ".env", ".DS_Store", "a/.htpasswd", "a/.well-known/x", ".well-known/.x")
LEFTOVERS = ("index.html~", ".index.html.swp", "#index.html#", "a/b.orig", "~$report.docx", "Thumbs.db", "old.BAK/x")


def test_hidden_names_and_leftovers_are_no_part_of_a_release(tmp_path: Path) -> None:
    folder = fill(tmp_path, dict.fromkeys([*HIDDEN, *LEFTOVERS, "index.html", ".well-known/acme", "a/b#", "swp"], b""))
    found = listing(folder)
    assert list(found.files) == [".well-known/acme", "a/b#", "index.html", "swp"]
    assert {path.rstrip("/") for path in found.left_out} == {
        *(path for path in (*HIDDEN, *LEFTOVERS) if not path.endswith(("config", "/x")) or path == ".well-known/.x"),
        *(".git", "a/.well-known", "old.BAK"),
    }


@pytest.mark.parametrize("path", [*HIDDEN, *LEFTOVERS, ".GIT", "a/.git", ".well-known/a/b~"])
def test_a_release_from_before_does_not_serve_such_names_either(path: str) -> None:
    assert re.search(LEFT_OUT_PATHS, f"/{path}", re.IGNORECASE)


@pytest.mark.parametrize("path", ["", "index.html", ".well-known/acme", ".well-known", "a/b#", "a.b/c.d", "swp", "bak"])
def test_all_other_names_are_served(path: str) -> None:
    assert not re.search(LEFT_OUT_PATHS, f"/{path}", re.IGNORECASE)


def test_what_stays_here_changes_no_release_and_may_be_anything(project: Path) -> None:
    folder = fill(project / "site", {"index.html": b"x"})
    before = release_hash(folder)
    fill(folder, {".git/id_rsa": PEM, ".env": b"SECRET", "index.html~": b""})
    (folder / ".#index.html").symlink_to("nobody@nowhere:1")
    os.mkfifo(folder / ".git" / "pipe")
    (folder / ".git" / "a\nb").touch()
    (folder / ".git" / "link").symlink_to("/etc")
    settings_of()
    assert release_hash(folder) == before


def test_what_stays_here_is_named_in_one_line(tmp_path: Path) -> None:
    assert listing(fill(tmp_path, {"index.html": b"x"})).notice == ""
    fill(tmp_path, {f".git/objects/{number}": b"" for number in range(2000)})
    fill(tmp_path, {f"{letter}~": b"" for letter in "abcdef"})
    assert listing(tmp_path).notice == (
        "not published (hidden names, editors' leftovers): .git/, a~, b~, c~, d~ and 2 more"
    )


def test_a_folder_of_hidden_files_alone_holds_nothing_to_publish(project: Path) -> None:
    fill(project / "site", {".git/config": b"x", "a/.b": b"x"})
    assert faults_of() == ['swarm-site:content.folder: "site" holds no file to publish; for example "site"']


BODY = b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n"
PEM = b"-----BEGIN PRIVATE KEY-----\n" + BODY
PRIVATE_KEYS: Mapping[str, bytes] = {
    "a/server.pem": PEM,
    "rsa.txt": b"-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES,0\r\n\r\n" + BODY,
    "id_ed25519": b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + BODY,
    "pgp.asc": b"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n" + BODY,
    "chain.pem": b"-----BEGIN CERTIFICATE-----\n" + BODY + PEM,
    "on the edge": b"\n" * (CHUNK_BYTES - 40) + PEM,
    "secret.yaml": b"key: |\n  -----BEGIN RSA PRIVATE KEY-----\n  " + BODY,
    "account.json": b'{"private_key": "-----BEGIN PRIVATE KEY-----\\n' + BODY.strip() + b'\\n"}',
    "putty": b"PuTTY-User-Key-File-3: ssh-ed25519\n",
    "key.PPK": b"",
    "store.p12": b"",
    "store.pfx": b"",
    "store.jks": b"",
}


@pytest.mark.parametrize("name", PRIVATE_KEYS)
def test_a_private_key_is_refused_by_name(project: Path, name: str) -> None:
    fill(project / "site", {"index.html": b"x", name: PRIVATE_KEYS[name]})
    assert faults_of() == [
        f'swarm-site:content.folder: "site/{name}" holds a private key, which every visitor could fetch; '
        "move it out of the folder"
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"A key begins with -----BEGIN PRIVATE KEY-----\n" + BODY,
        b"<pre>\n-----BEGIN PRIVATE KEY-----\n...\n",
        b"-----BEGIN PUBLIC KEY-----\n" + BODY,
        b"-----BEGIN CERTIFICATE-----\n" + BODY,
    ],
)
def test_a_page_about_keys_and_a_public_one_are_no_private_key(project: Path, text: bytes) -> None:
    fill(project / "site", {"index.html": text})
    settings_of()


OUTSIDE = "is outside the project, at {}; to serve that folder on purpose, name it from /"
WITH_PROJECT = "holds the project itself, which every visitor could fetch"
WITH_STATE = "overlaps {}, the folder of states and keys, which every visitor could fetch"


@pytest.fixture
def home(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the project in `clone`, its state, a state of the user's own, and a web site."""
    clone = project / "clone"
    clone.mkdir()
    for name in ("clone/site", "state/work/dev", "state/pulumi", "own/.pulumi", "www"):
        fill(project / name, {"index.html": b"x"})
    (clone / ".work").symlink_to(project / "state/work")
    (clone / "link").symlink_to(project / "www")
    monkeypatch.setattr(contract, "PROJECT", clone)
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{project}/own?metadata=skip")
    return project


@pytest.mark.parametrize(
    ("folder", "rule"),
    [
        ("../www", OUTSIDE.format("{home}/www")),
        ("site/../../www", OUTSIDE.format("{home}/www")),
        ("link", OUTSIDE.format("{home}/www")),
        (".", WITH_PROJECT),
        ("{home}", WITH_PROJECT),
        ("{home}/clone", WITH_PROJECT),
        ("{home}/state", WITH_STATE.format("{home}/state")),
        ("{home}/state/work/dev", WITH_STATE.format("{home}/state")),
        ("{home}/state/pulumi", WITH_STATE.format("{home}/state")),
        ("{home}/own/.pulumi", WITH_STATE.format("{home}/own")),
    ],
)
def test_a_folder_that_nobody_means_to_publish_is_refused(home: Path, folder: str, rule: str) -> None:
    folder, rule = folder.format(home=home), rule.format(home=home)
    assert faults_of({"content": {"folder": folder}}) == [
        f'swarm-site:content.folder: "{folder}" {rule}; for example "site"'
    ]


@pytest.mark.parametrize("folder", ["{home}/www", "site/../site", "{home}/clone/site"])
def test_a_folder_of_the_project_or_one_named_in_full_is_served(home: Path, folder: str) -> None:
    settings_of({"content": {"folder": folder.format(home=home)}})


def test_a_folder_that_can_not_be_entered_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(project / "site", {"index.html": b"x", "closed/x": b""})
    scandir = os.scandir

    def closed(path: Path) -> Any:
        if path.name == "closed":
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.setattr(os, "access", lambda path, _: path.name != "closed")
    assert faults_of() == ['swarm-site:content.folder: "site/closed" can not be read by this user']


# --- its hash --------------------------------------------------------------------------------------------------------


def fill(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_the_hash_of_a_folder_is_that_of_its_files_names_and_hashes(tmp_path: Path) -> None:
    files = {"b/c": b"1", "B": b"2", "-rf": b"3", "\u00e9": b"4", "a b": b""}
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  ./{name}\n" for name in ("-rf", "B", "a b", "b/c", "\u00e9")]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert folder_hash(fill(tmp_path, files)) == release_hash(tmp_path) == expected


def test_the_hash_of_a_release_is_that_of_the_files_that_are_sent(tmp_path: Path) -> None:
    folder = fill(tmp_path / "all", {"a": b"1", "B": b"2", ".git/x": b"1", "b~": b"2", "b/c": b"3"})
    sent = fill(tmp_path / "sent", {name: (folder / name).read_bytes() for name in listing(folder).files})
    assert len(listing(folder).left_out) == 2
    assert release_hash(folder) == folder_hash(sent)


CHANGES: Sequence[tuple[str, Mapping[str, bytes]]] = [
    ("other bytes", {"a": b"2", "b/c": b"1"}),
    ("another name", {"A": b"1", "b/c": b"1"}),
    ("another folder", {"a": b"1", "c/c": b"1"}),
    ("one more", {"a": b"1", "b/c": b"1", "d": b""}),
    ("bytes that changed places", {"a": b"1", "b/c": b"11"}),
]


@pytest.mark.parametrize(("files"), [files for _, files in CHANGES], ids=[name for name, _ in CHANGES])
def test_another_content_has_another_hash(files: Mapping[str, bytes], tmp_path: Path) -> None:
    base = fill(tmp_path / "base", {"a": b"1", "b/c": b"1"})
    assert folder_hash(fill(tmp_path / "other", files)) != folder_hash(base)


def test_modes_and_times_do_not_change_the_hash(tmp_path: Path) -> None:
    before = folder_hash(fill(tmp_path, {"a": b"1"}))
    (tmp_path / "a").chmod(0o777)
    os.utime(tmp_path / "a", (1, 1))
    assert folder_hash(tmp_path) == before


# --- arbitrary values ------------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def _plausible(field: FieldInfo) -> st.SearchStrategy[Any]:
    """Return plausible values: valid ones, edge cases, and those of another type."""
    examples = st.sampled_from([*(field.examples or []), field.get_default(call_default_factory=True)])
    choices = [examples, anything]
    if "int" in str(field.annotation):
        choices.append(st.integers(-1, 300) | st.sampled_from([22, 80, 8080, 65535, 65536]))
    if get_origin(field.annotation) is Literal:
        choices.append(st.sampled_from(get_args(field.annotation)))
    return st.one_of(choices)


def _section(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    known = st.fixed_dictionaries({}, optional={name: _plausible(f) for name, f in model.model_fields.items()})
    return known | anything


def _walks_far(values: Mapping[str, Any]) -> bool:
    """Return whether the content folder contains the whole clone, or more."""
    content = values.get("content")
    folder = content.get("folder") if isinstance(content, dict) else None
    return isinstance(folder, str) and not folder.strip("./ ")


any_settings = st.fixed_dictionaries(
    {},
    optional={
        "network": st.sampled_from(["192.168.56.0/24", "192.168.57.0/28", "10.0.0.0/16"]) | anything,
        **{key: _section(model) for key, model in _section_models().items()},
        "unknown\nkey": anything,
    },
).filter(lambda values: not _walks_far(values))


@hypothesis_settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=any_settings, stack=st.sampled_from(["dev", "Dev\n"]) | st.text(max_size=50))
def test_any_settings_are_either_taken_or_refused_by_lines_that_each_name_a_key(
    values: Mapping[str, Any], stack: str
) -> None:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    try:
        settings = parse(stack, texts, {})
    except SettingsError as error:
        heading, *lines = str(error).split("\n")
        assert heading == HEADING
        assert lines
        for line in lines:
            assert re.match(r"  - (swarm-site:[^\s].*?|stack name): .", line), line
        str(error).encode()
    else:
        assert settings.swarm.managers % 2 == 1
        replicas = [application.replicas for application in settings.applications.values()]
        assert len(settings.nodes) >= max(settings.swarm.managers, settings.proxy.replicas, *replicas)
        assert len({node.address for node in settings.nodes}) == len(settings.nodes)
        assert sum(node.proxy for node in settings.nodes) == settings.proxy.replicas


def test_the_search_above_does_reach_settings_that_are_taken() -> None:
    taken: list[Settings] = []

    @hypothesis_settings(
        max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(values=any_settings)
    def search(values: Mapping[str, Any]) -> None:
        try:
            taken.append(parse("dev", {key: json.dumps(value) for key, value in values.items()}, {}))
        except SettingsError:
            return

    search()
    assert len(taken) > 3

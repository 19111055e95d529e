"""The real `__main__.py`, run as by the engine: with the tests' stack file, with one node, with seven."""

import functools
import getpass
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from pydantic import BaseModel

from components.contract import Step, shell_names
from components.digest import folder_hash
from components.release import release_hash
from components.rendering import TEMPLATES
from components.scripts import bundle
from components.settings import DEFAULTS, SECTIONS, SettingsError, parse
from tests.unit.harness import COMMAND, OWN, PROVIDER, ROOT, SERVICE, SERVICE_CONFIG, Registered, Run, run_program
from tests.unit.test_settings import any_settings
from tools import images

MANY = {
    "machines": {"count": 7, "overrides": {"core-07": {"memory": 768}}},
    "swarm": {"managers": 5},
    "backend": {"replicas": 4},
    "proxy": {"replicas": 3, "port": 8081},
    "network": "10.20.0.0/16",
}
HOSTS = [{"name": f"core-0{n}", "address": f"192.0.2.{n}", "user": "admin"} for n in (1, 2, 3)]
EXISTING = {"machines": {"provider": "ssh", "hosts": HOSTS}}
TWO = {"applications": {"docs": {"port": 8081}}}
"""A second copy of the static site with another name and port: one value in one file."""
ONE = {"machines": {"count": 1}, "swarm": None, "backend": None, "proxy": None}
STACKS: Mapping[str, Mapping[str, Any]] = {
    "three nodes": {},
    "one node": ONE,
    "seven nodes": MANY,
    "hosts": EXISTING,
    "two": TWO,
}


@functools.cache
def program(stack: str) -> Run:
    return run_program(STACKS[stack])


@pytest.fixture(params=STACKS)
def result(request: pytest.FixtureRequest) -> Run:
    return program(request.param)


def node_names(run: Run) -> list[str]:
    return list(run.exports["nodes"])


def commands_on(run: Run, node: str) -> list[Registered]:
    return [command for command in run.of_type(COMMAND) if command.node == node]


# --- resources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stack", "proxies"),
    [("three nodes", [2, 3]), ("one node", [1]), ("seven nodes", [2, 3, 4]), ("hosts", [2, 3]), ("two", [2, 3])],
)
def test_the_program_makes_exactly_these_resources(stack: str, proxies: list[int]) -> None:
    run = program(stack)
    every, some = node_names(run), [f"core-{number:02d}" for number in proxies]
    commands = {"machines-identity", "machines-workshop", "swarm-cluster", "nginx-image"}
    if stack != "hosts":
        commands.add("machines-box")
    applications = {"backend", "docs"} if stack == "two" else {"backend"}
    commands |= {"proxy-check", "proxy-running", *(f"{name}-check" for name in applications)}
    for step in EVERYWHERE:
        commands |= {f"{step}-{node}" for node in every}
    for step in ("proxy-seed", "proxy"):
        commands |= {f"{step}-{node}" for node in some}
    assert {resource.name for resource in run.of_type(COMMAND)} == commands
    services = {f"{name}-service" for name in (*applications, "proxy")}
    assert {resource.name for resource in run.of_type(SERVICE)} == services
    assert {resource.name for resource in run.of_type(SERVICE_CONFIG)} == {f"{name}-nginx" for name in applications}
    assert {resource.name for resource in run.of_type(PROVIDER)} == {"swarm-manager"}
    components = {(resource.type, resource.name) for resource in run.resources if not resource.custom}
    assert components == {
        ("swarm-site:index:Machines", "machines"),
        ("swarm-site:index:Firewall", "firewall"),
        ("swarm-site:index:Swarm", "swarm"),
        ("swarm-site:index:Image", "nginx"),
        ("swarm-site:index:Content", "content"),
        ("swarm-site:index:ProxyBootstrap", "proxy-seed"),
        ("swarm-site:index:Activation", "ready"),
        *(("swarm-site:index:Application", name) for name in applications),
        ("swarm-site:index:Proxy", "proxy"),
    }


def test_a_second_copy_of_the_site_is_one_value_and_changes_nothing_else() -> None:
    before, after = program("three nodes"), program("two")
    old, new = ({resource.name: resource.inputs for resource in run.resources} for run in (before, after))
    assert new.keys() - old.keys() == {"docs", "docs-check", "docs-nginx", "docs-service"}
    assert {name for name in old if old[name] != new[name]} == everywhere("firewall")
    backend, docs = old["backend-service"], new["docs-service"]
    assert docs["endpointSpec"]["ports"] == [{"targetPort": 80, "publishedPort": 8081, "publishMode": "host"}]
    assert {path for path, text in texts(docs) if dict(texts(backend)).get(path) != text} == {
        *(".name", ".labels[0].value", ".taskSpec.containerSpec.labels[0].value"),
        *(f".taskSpec.containerSpec.configs[0].{key}" for key in ("configId", "configName")),
    }


def test_a_second_copy_with_a_host_name_changes_what_the_proxies_route() -> None:
    applications = {"docs": {"port": 8081, "hosts": ["docs.example"]}}
    after = run_program({"applications": applications})
    assert changes(program("two"), after) == proxied()
    assert "server_name docs.example;" in after["proxy-core-02"].environment["CONFIGURATION"]


def test_every_resource_belongs_to_a_component_and_a_child_bears_its_name(result: Run) -> None:
    components = {resource.name for resource in result.resources if not resource.custom}
    for resource in result.resources:
        assert resource.parent in (components if resource.custom else {""})
        assert resource.name.startswith(resource.parent)


def test_every_component_registers_its_outputs(result: Run) -> None:
    components = {resource.name for resource in result.resources if not resource.custom}
    assert result.outputs.keys() >= components


# --- outputs ---------------------------------------------------------------------------------------------------------


def test_the_stack_exports_exactly_this() -> None:
    nginx = f"localhost:1/site-nginx:{folder_hash(ROOT / 'templates/images/nginx')[:12]}"
    assert program("three nodes").exports == {
        "url": "http://192.168.56.12/",
        "proxy_urls": ["http://192.168.56.12/", "http://192.168.56.13/"],
        "backend_endpoints": ["192.168.56.11:8080", "192.168.56.12:8080", "192.168.56.13:8080"],
        "endpoints": {"backend": ["192.168.56.11:8080", "192.168.56.12:8080", "192.168.56.13:8080"]},
        "nodes": {
            "core-01": {"address": "192.168.56.11", "role": "manager"},
            "core-02": {"address": "192.168.56.12", "role": "manager"},
            "core-03": {"address": "192.168.56.13", "role": "manager"},
        },
        "manager_endpoint": "ssh://swarm-manager",
        "release": release_hash(OWN / "site"),
        "images": {"nginx": nginx},
    }


def test_one_node_is_manager_backend_and_proxy() -> None:
    exports = program("one node").exports
    assert exports["nodes"] == {"core-01": {"address": "192.168.56.11", "role": "manager"}}
    assert exports["backend_endpoints"] == ["192.168.56.11:8080"]
    assert exports["proxy_urls"] == [exports["url"]] == ["http://192.168.56.11/"]


def test_seven_nodes_have_the_roles_and_addresses_that_were_asked_for() -> None:
    exports = program("seven nodes").exports
    assert [node["role"] for node in exports["nodes"].values()] == ["manager"] * 5 + ["worker"] * 2
    assert exports["backend_endpoints"] == [f"10.20.0.{number}:8080" for number in range(11, 18)]
    assert exports["proxy_urls"] == [f"http://10.20.0.{number}:8081/" for number in (12, 13, 14)]


def test_the_exports_are_those_of_the_manual_and_no_other(result: Run) -> None:
    assert result.exports.keys() == {
        *("url", "proxy_urls", "backend_endpoints", "endpoints", "nodes", "manager_endpoint", "release", "images"),
    }


def test_the_upstream_list_of_every_proxy_is_the_backends_endpoints(result: Run) -> None:
    configured = [command for command in result.of_type(COMMAND) if "STATE_URL" in command.environment]
    assert configured
    for command in configured:
        servers = re.findall(r"^    server (\S+) max_fails=1", command.environment["CONFIGURATION"], re.MULTILINE)
        assert servers == result.exports["backend_endpoints"]


# --- the flow --------------------------------------------------------------------------------------------------------

STEPS = ["machines", "firewall", "swarm", "nginx", "content", "proxy-seed", "ready", "backend", "docs", "proxy"]


def step_of(run: Run, name: str) -> int:
    return STEPS.index(run[name].parent or name)


def needs(resource: Registered) -> set[str]:
    others = {resource.parent, resource.provider, resource.deleted_with}
    return (set(resource.dependencies) | others) - {""}


def test_the_flow_goes_one_way(result: Run) -> None:
    for resource in result.resources:
        for other in needs(resource):
            assert step_of(result, other) <= step_of(result, resource.name), f"{resource.name} needs {other}"


def test_no_resource_needs_itself_by_any_way(result: Run) -> None:
    done: set[str] = set()
    left = {resource.name: needs(resource) for resource in result.resources}
    while ready := {name for name, others in left.items() if others <= done}:
        done |= ready
        left = {name: others for name, others in left.items() if name not in ready}
    assert left == {}


def test_no_node_waits_for_another_until_all_of_them_are_active(result: Run) -> None:
    owners = {command.name: command.node for command in result.of_type(COMMAND)}
    for node in node_names(result):
        for command in commands_on(result, node):
            others = {name for name in command.dependencies if owners.get(name) not in (None, "", node)}
            allowed = {"content-switch": "content", "proxy": "ready"}.get(command.name.removesuffix(f"-{node}"))
            assert {result[name].parent for name in others} <= {allowed}, command.name


def test_every_thing_on_a_node_is_tied_to_its_machine(result: Run) -> None:
    for node in node_names(result):
        machine, *others = sorted(commands_on(result, node), key=lambda command: command.name != f"machines-{node}")
        assert machine.name == f"machines-{node}"
        assert len(others) >= 4
        for command in others:
            assert command.name.endswith(f"-{node}")
            assert command.inputs["triggers"] == [f"{machine.name}-id"], command.name
            assert machine.name in command.data_dependencies
            # The contents of a node go with it; its membership and the other nodes' firewalls have something to undo.
            assert ("delete" in command.inputs) == command.name.startswith(("firewall-", "swarm-"))


def test_a_node_is_activated_after_everything_that_is_delivered_to_it(result: Run) -> None:
    for node in node_names(result):
        others = ("firewall-", "ready-", "proxy-core", "content-switch-")
        delivered = {c.name for c in commands_on(result, node) if not c.name.startswith(others)}
        assert result[f"ready-{node}"].dependencies == delivered
        assert f"firewall-{node}" in result[f"swarm-{node}"].dependencies


def test_no_service_takes_the_output_of_a_command(result: Run) -> None:
    commands = {command.name for command in result.of_type(COMMAND)}
    services = [*result.of_type(SERVICE), *result.of_type(SERVICE_CONFIG), *result.of_type(PROVIDER)]
    assert len(services) == 2 * len(result.exports["endpoints"]) + 2
    for service in services:
        assert service.data_dependencies.isdisjoint(commands), service.name


def test_every_docker_resource_has_the_provider_and_goes_with_the_cluster(result: Run) -> None:
    docker = [resource for resource in result.resources if resource.type.startswith("docker:")]
    assert len(docker) == 2 * len(result.exports["endpoints"]) + 1
    for resource in docker:
        assert resource.provider == "swarm-manager"
        assert resource.deleted_with == "swarm-cluster"
        assert "swarm-cluster" in resource.dependencies
    assert yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]["pulumi:disable-default-providers"] == {
        "value": ["docker"]
    }


def test_every_command_is_bounded_and_is_removed_before_its_successor(result: Run) -> None:
    for command in result.of_type(COMMAND):
        assert command.timeouts.keys() == {"create", "update", "delete"}, command.name
        assert command.delete_before_replace, command.name


def test_nothing_hides_a_change_or_survives_its_stack(result: Run) -> None:
    for resource in result.resources:
        # The SDK sets replaceOnChanges: changed triggers replace a Command. Applications used to be called backends.
        allowed = {"aliases"} if resource.type == "swarm-site:index:Application" else {"replaceOnChanges"}
        assert resource.other_options <= allowed, resource.name
        assert (resource.ignore_changes == ()) == (resource.name not in ("machines-identity", "proxy-service"))


def test_a_preview_and_the_next_one_say_the_same() -> None:
    first, second = run_program(), program("three nodes")
    assert first.resources == second.resources
    assert first.exports == second.exports


# --- script inputs ---------------------------------------------------------------------------------------------------


def test_every_command_does_a_step_and_the_steps_follow_the_flow(result: Run) -> None:
    order = [step.value for step in Step]
    for command in result.of_type(COMMAND):
        for other in result.of_type(COMMAND):
            if other.name in command.dependencies:
                assert order.index(other.step) <= order.index(command.step), f"{command.name} needs {other.name}"


SHELLS_OWN = {
    *("PATH", "HOME", "PPID", "SECONDS", "BASH_REMATCH", "BASH_SOURCE", "EPOCHREALTIME", "IFS", "TMPDIR", "LC_ALL"),
    *("ID", "PRETTY_NAME", "XDG_CACHE_HOME", "VAGRANT_HOME", "VAGRANT_SERVER_URL"),
}
TELLS_OF_A_CHANGE = {"NODES_HASH", "SPEC", "SERVICE_ID"}
"""Inputs no script reads; a new value reruns the script."""
EVERY_COMMAND_HAS = {"WORK", "STEP", "NODE", "STACK", "PROVIDER", "SCRIPT_HASH", "DELETE_SCRIPT"}
FUNCTION = re.compile(r"(?ms)^(\w+)\(\) \{(?:\n.*?^\}|[^\n]*\})\n")


def reached(script: str) -> str:
    """Return a script without comments and without sourced functions it does not call."""
    code = re.sub(r"(?m)^\s*#.*$", "", script)
    functions = {match[1]: match[0] for match in FUNCTION.finditer(code)}
    used = FUNCTION.sub("", code)
    while called := [name for name in functions if re.search(rf"\b{name}\b", used)]:
        used += "".join(functions.pop(name) for name in called)
    return used


def names_read(script: str) -> set[str]:
    """Return the upper-case variables a script reads but does not set."""
    code = reached(script)
    read = set(re.findall(r"(?<!\\)\$\{?[#!]?([A-Z][A-Z0-9_]*)\b", code))
    set_here = set(re.findall(r"(?m)(?:^|[\s;(])(?:local |export |readonly )?([A-Z][A-Z0-9_]*)\+?=", code))
    return read - set_here


def script_texts(command: Registered) -> dict[str, str]:
    """Return each script of a Command, with the files it sources inlined, by path."""
    provider = command.environment.get("PROVIDER", "")
    return {path: bundle(path, provider) for path in command.scripts.values()}


def with_scripts(run: Run) -> list[Registered]:
    return [command for command in run.of_type(COMMAND) if command.scripts]


def test_a_command_without_a_script_runs_a_tool_with_the_inputs_that_it_explains(result: Run) -> None:
    tools = [command for command in result.of_type(COMMAND) if not command.scripts]
    assert tools
    for command in tools:
        assert command.inputs["create"] == "exec .venv/bin/python -m tools.images"
        explained = re.findall(r"(?m)^    ([A-Z_]+)  ", images.__doc__ or "")
        assert set(explained) == set(command.own)


def test_every_script_gets_each_input_that_it_reads_and_no_other(result: Run) -> None:
    for command in with_scripts(result):
        read = set().union(*map(names_read, script_texts(command).values()))
        missing = read - SHELLS_OWN - set(command.environment) - set(shell_names()) - {"LABEL_", "FOLDER_", "UNIT_"}
        assert missing == set(), f"{command.name} is not given"
        unused = set(command.own) - read - TELLS_OF_A_CHANGE - {"STACK", "PROVIDER"}
        assert unused == set(), f"{command.name} is given for nothing"


def names_at_the_top(path: str) -> set[str]:
    """Return the inputs listed in the header of a script."""
    heads = re.findall(r"(?m)^#.* Inputs: (.*(?:\n#.*)*)|^# Inputs: (.*(?:\n#.*)*)", (TEMPLATES / path).read_text())
    return {name for head in heads for name in re.findall(r"\b[A-Z][A-Z_]+\b", "".join(head))} - {"CIDR", "MB", "PPID"}


def test_every_script_says_at_its_top_which_inputs_it_has(result: Run) -> None:
    for command in with_scripts(result):
        given = set(command.environment)
        for path in command.scripts.values():
            assert names_at_the_top(path) <= given, f"the head of {path} names what {command.name} is not given"
        sourced = f"machines/providers/{command.environment.get('PROVIDER', '')}.sh"
        heads = [command.scripts["create"], *([sourced] if "PROVIDER" in given else [])]
        heads += ["machines/providers/vagrant.sh"] if "VAGRANTFILE" in given else []
        unnamed = given.difference(EVERY_COMMAND_HAS, *map(names_at_the_top, heads))
        assert unnamed <= {"SERVICE_ID"}, f"no head of {command.name} names {unnamed}"


# --- values forbidden in inputs --------------------------------------------------------------------------------------


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, f"{path}[{index}]")


def all_texts(run: Run) -> Iterator[tuple[str, str]]:
    for resource in run.resources:
        yield from texts(resource.inputs, resource.name)


def test_no_path_of_this_machine_is_in_any_input(result: Run) -> None:
    own = {str(ROOT), str(ROOT.resolve()), str(Path.home()), "/home/", "/root", f"/{getpass.getuser()}/"}
    for where, text in all_texts(result):
        for path in own:
            assert path not in text, where


ALLOWED_ABSOLUTE = re.compile(r"/(srv/swarm-site/(content|proxy)|etc/swarm-site/nginx\.conf|tmp)\b")


def test_every_path_in_an_input_is_relative_or_one_inside_of_a_node(result: Run) -> None:
    for where, text in all_texts(result):
        if text.startswith("/") and "SCRIPT" not in where:
            assert ALLOWED_ABSOLUTE.match(text), f"{where}: {text[:80]}"


def test_no_secret_is_in_any_input(result: Run) -> None:
    for where, text in all_texts(result):
        assert not re.search(r"SWMTKN-|PRIVATE KEY|ssh-(rsa|ed25519) AAAA|BEGIN CERT", text), where
        if "SCRIPT" not in where:
            assert not re.search(r"(?i)passw|secret|credential|(?<!server_)token", text), where


def test_no_input_is_marked_secret_so_that_every_preview_shows_it_whole(result: Run) -> None:
    marker = "4dabf18193072939515e22adb298388d"
    assert not any(marker in json.dumps(resource.inputs) for resource in result.resources)


# --- a change of each setting ----------------------------------------------------------------------------------------


def on(step: str, *numbers: int, prefix: str = "core") -> set[str]:
    return {f"{step}-{prefix}-{number:02d}" for number in numbers}


EVERYWHERE = ("machines", "firewall", "swarm", "nginx-image", "content", "content-switch", "ready")
"""Steps of every node."""


def everywhere(step: str) -> set[str]:
    return on(step, 1, 2, 3)


def renamed() -> set[str]:
    names = {name for prefix in ("core", "node") for step in EVERYWHERE for name in on(step, 1, 2, 3, prefix=prefix)}
    names |= {
        name
        for prefix in ("core", "node")
        for step in ("proxy", "proxy-seed")
        for name in on(step, 2, 3, prefix=prefix)
    }
    return names | {"machines-workshop"}


def proxied() -> set[str]:
    return {"proxy-check"} | on("proxy", 2, 3)


def configured() -> set[str]:
    """Return the resources with the backend's nginx configuration; the service follows it by the config id."""
    return {"backend-check", "backend-nginx"}


def resized() -> set[str]:
    """Return the resources that depend on the number of workers."""
    return {"proxy-service", "proxy-running", "backend-service"} | proxied() | configured()


CHANGES: Mapping[str, tuple[Any, set[str]]] = {
    "network": (
        "192.168.57.0/24",
        {"machines-workshop"} | everywhere("machines") | everywhere("firewall") | everywhere("swarm") | proxied(),
    ),
    "machines.count": (
        4,
        {"machines-workshop"} | {f"{step}-core-04" for step in EVERYWHERE} | everywhere("firewall") | proxied(),
    ),
    "machines.memory": (513, {"machines-workshop"} | everywhere("machines")),
    "machines.cpus": (2, everywhere("machines") | resized()),
    "machines.prefix": ("node", renamed()),
    "machines.overrides": ({"core-02": {"cpus": 2}}, {"machines-core-02"} | resized()),
    "swarm.managers": (1, {"machines-workshop"} | on("swarm", 2, 3)),
    "images.nginx": (
        "nginx:1.27-alpine",
        {"nginx-image", "backend-check", "backend-service", "proxy-check", "proxy-service", "proxy-running"}
        | everywhere("nginx-image"),
    ),
    "machines.box": ("own", set()),  # containers have an image
    "machines.provider": (
        "libvirt",
        {"machines-workshop", "machines-box", "backend-service", "proxy-service", "proxy-running"}
        | everywhere("machines")
        | proxied(),
    ),
    "images.mirror": ("mirror.example", {"machines-box", "nginx-image"}),
    "content.folder": ("another", everywhere("content") | everywhere("content-switch")),
    "content.keep": (
        4,
        {"backend-check", "backend-nginx"} | everywhere("content") | everywhere("content-switch"),
    ),
    "content.cache_control": ("public, max-age=300", configured()),
    "content.cache_control_hashed": ("no-cache", configured()),
    "content.charset": ("off", configured()),
    "backend.replicas": (3, {"backend-service"}),
    "backend.port": (8081, {"backend-service"} | everywhere("firewall") | proxied()),
    "applications": (
        {"docs": {"port": 8081}},
        {"docs", "docs-check", "docs-nginx", "docs-service"} | everywhere("firewall"),
    ),
    "backend.read_timeout_s": (3, proxied()),
    "backend.memory": (65, {"backend-service"} | configured()),
    "proxy.replicas": (1, {"ready-core-03", "proxy-seed-core-03", "proxy-core-03"}),
    "proxy.port": (81, {"proxy-service", "proxy-running"} | on("proxy-seed", 2, 3) | proxied()),
    "proxy.memory": (129, {"proxy-service", "proxy-running"} | on("proxy-seed", 2, 3) | proxied()),
    "proxy.trusted_networks": (["203.0.113.0/24"], proxied()),
    "proxy.max_body_size": ("1m", on("proxy-seed", 2, 3) | proxied()),
    "proxy.connect_timeout_ms": (600, proxied()),
    "proxy.fail_timeout_s": (3, proxied()),
}
"""Setting, new value, and the resources that are changed, created or removed."""


def settings_of_the_program() -> set[str]:
    names = {*DEFAULTS, "applications"}
    for section, adapter in SECTIONS.items():
        model = adapter._type
        if isinstance(model, type) and issubclass(model, BaseModel):
            names |= {f"{section}.{name}" for name in model.model_fields}
    return names


def test_every_setting_that_can_have_another_value_is_tried() -> None:
    assert CHANGES.keys() == settings_of_the_program() - {"machines.hosts"}


def changes(before: Run, after: Run) -> set[str]:
    """Return the resources that are changed, created or removed."""
    old, new = ({resource.name: resource.inputs for resource in run.resources} for run in (before, after))
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def test_another_provider_changes_every_machine() -> None:
    assert changes(program("three nodes"), program("hosts")) >= {"machines-workshop", "machines-box"} | everywhere(
        "machines"
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("name", "other", {f"{step}-{name}" for step in EVERYWHERE for name in ("core-01", "other")}),
        ("address", "192.0.2.9", {"machines-core-01", "swarm-core-01"} | everywhere("firewall") | proxied()),
        ("user", "root", {"machines-core-01"}),
        ("port", 2222, {"machines-core-01"}),
        ("jump", "bastion", {"machines-core-01"}),
    ],
)
def test_a_change_of_a_host_reaches_what_it_must_and_nothing_else(key: str, value: Any, expected: set[str]) -> None:
    hosts = [HOSTS[0] | {key: value}, *HOSTS[1:]]
    after = run_program({"machines": {"provider": "ssh", "hosts": hosts}})
    assert changes(program("hosts"), after) == expected | {"machines-workshop"}


@pytest.mark.parametrize("setting", CHANGES)
def test_a_change_of_a_setting_reaches_what_it_must_and_nothing_else(setting: str) -> None:
    value, expected = CHANGES[setting]
    section, _, name = setting.partition(".")
    given = yaml.safe_load((OWN / "Pulumi.dev.yaml").read_text())["config"]
    changed = {section: {**given.get(f"swarm-site:{section}", {}), name: value} if name else value}
    assert changes(program("three nodes"), run_program(changed)) == expected


def test_another_stack_has_folders_and_machines_of_its_own() -> None:
    blue = run_program({"network": "192.168.57.0/24"}, stack="blue")
    for command in blue.of_type(COMMAND):
        assert command.environment["WORK"] == ".work/blue"
    assert 'docker.name = "swarm-site-blue-core-01"' in blue["machines-core-01"].environment["VAGRANTFILE"]
    for where, text in all_texts(blue):
        assert ".work/dev" not in text, where
        assert "192.168.56." not in text or "SCRIPT" in where, where


# --- refusals --------------------------------------------------------------------------------------------------------


def test_bad_settings_are_refused_before_anything_is_made() -> None:
    with pytest.raises(SettingsError, match=r"swarm-site:swarm.managers: 2 must be odd"):
        run_program({"swarm": {"managers": 2}})


def test_a_variable_that_redirects_docker_is_refused_before_anything_is_made() -> None:
    with pytest.raises(SettingsError, match="environment variable DOCKER_HOST"):
        run_program(environment={"DOCKER_HOST": "tcp://192.0.2.1:2375"})


# --- arbitrary values ------------------------------------------------------------------------------------------------

HOSTILE = (
    *('"', "'", "`id`", "$(id)", "${HOME}", "a b", "a;id", "a|id", "a&id", "a\nb", "a\tb", "a\\b", "#{1}"),
    *("@{ work }@", "@% raw %@", "{{ 1 }}", "%h", "-oProxyCommand=id", "--", "../x", "a>b", "\x00", "é"),
)


def text_settings() -> Iterator[tuple[str, str]]:
    """Yield every text setting without a list of choices; a folder may have any name."""
    yield "network", ""
    for section, adapter in SECTIONS.items():
        schema = adapter.json_schema()
        for name, field in schema.get("properties", {}).items():
            kinds = field.get("anyOf", [field])
            if any(kind.get("type") == "string" and "enum" not in kind and "const" not in kind for kind in kinds):
                yield section, name


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(("section", "name"), [one for one in text_settings() if one != ("content", "folder")])
def test_a_hostile_text_never_reaches_a_rendered_file(section: str, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"swarm-site:{section}{name and '.'}{name}: "):
        parse("dev", {section: json.dumps({name: value} if name else value)}, {})


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_settings)
def test_any_settings_either_make_a_program_that_registers_or_are_refused_by_their_keys(
    values: Mapping[str, Any],
) -> None:
    missing = dict.fromkeys(key for key in SECTIONS if key not in values)
    refusal, services = "", set[str]()
    try:
        services = {service.name for service in run_program({**missing, **values}).of_type(SERVICE)}
    except SettingsError as error:
        refusal = str(error)
    assert services == {"backend-service", "proxy-service"} or re.search(r"^  - swarm-site:", refusal, re.MULTILINE)

"""`make pr-preview` on real pairs of revisions with the real engine: the complete Markdown, and the engine's plan."""

import copy
import difflib
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.plugin import Plugin
from tests.e2e.site import copy_tree
from tools import stack, up
from tools.preview import __main__ as pr_preview
from tools.preview import comparison
from tools.preview.__main__ import PreviewError, Side
from tools.preview.comparison import COMMAND, SERVICE, SERVICE_CONFIG, UNKNOWN
from tools.preview.report import refusal, report

GOLDEN = Path(__file__).parent / "golden"
AUTHOR = {f"GIT_{who}_{what}": "nobody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

Edit = Callable[[Path], None]


def settings(old: str, new: str) -> Edit:
    """Returns an edit of the stack file."""
    return edit("Pulumi.dev.yaml", old, new)


def edit(name: str, old: str, new: str) -> Edit:
    """Returns an edit of a file."""

    def change(tree: Path) -> None:
        file = tree / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return change


OVERRIDE = "    count: 3\n    overrides:\n      core-02:\n        memory: 768\n"
DOCS = """  swarm-site:applications:
    docs:
      port: 8081
      replicas: 1
      hosts: [docs.example]
"""
MACHINES = """  swarm-site:network: 192.168.56.0/24
  swarm-site:machines:
    count: 3
    memory: 512
    cpus: 1
"""
HOSTS = """  swarm-site:machines:
    provider: ssh
    hosts:
      - {name: web-1, address: 192.0.2.11}
      - {name: web-2, address: 192.0.2.12}
      - {name: web-3, address: 192.0.2.13}
"""
PAIRS: Mapping[str, Edit] = {
    "nothing": edit("README.md", "# swarm-site", "# the swarm site"),
    "content": edit("site/index.html", "hello world", "hello again"),
    "one-more-node": settings("    count: 3\n", "    count: 4\n"),
    "memory-of-one-node": settings("    count: 3\n", OVERRIDE),
    "proxy-setting": settings("  swarm-site:proxy:\n", "  swarm-site:proxy:\n    connect_timeout_ms: 900\n"),
    "image": settings(
        "  swarm-site:proxy:\n", "  swarm-site:images:\n    nginx: nginx:1.27-alpine\n  swarm-site:proxy:\n"
    ),
    "backend-configuration": edit("templates/application/nginx.conf", "sendfile on;", "sendfile off;"),
    "only-one-proxy": settings("  swarm-site:proxy:\n    replicas: 2\n", "  swarm-site:proxy:\n    replicas: 1\n"),
    "another-application": settings("  swarm-site:proxy:\n", DOCS + "  swarm-site:proxy:\n"),
    "refused": settings("    managers: 3\n", '    managers: "@here ```"\n'),
}
"""The changes, by the name of their golden file."""
SLOW = ("backend-configuration", "only-one-proxy")
"""Changes tested only by `make e2e`."""
EXISTING_HOSTS: Mapping[str, Edit] = {"existing-hosts": settings(MACHINES, HOSTS)}
"""A change whose report contains whole scripts; only its first line is compared."""
SECRET = """
import pulumi_command

pulumi_command.local.Command(
    "secret", create="true", stdin=pulumi.Output.secret("hunter%s"), environment={"PLAIN": "value-%s"}
)
"""
SECRETS: Mapping[str, Edit] = {
    f"secret-{number}": edit(
        "__main__.py",
        'pulumi.export("images", image.outputs)\n',
        f'pulumi.export("images", image.outputs)\n{SECRET % (number, number)}',
    )
    for number in (1, 2)
}


@dataclass(frozen=True)
class Look:
    """A previewed side, in a folder that is kept."""

    folder: Path
    raw: Mapping[str, Any]

    @property
    def tree(self) -> Path:
        return self.folder / "tree"


Looker = Callable[[str], Look]


@pytest.fixture(scope="module")
def repository(engine: str, bundled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository whose first commit is this tree, with a branch for each change."""
    clone = tmp_path_factory.mktemp("pr") / "a clone"
    clone.mkdir()
    copy_tree(clone)
    (clone / ".venv").symlink_to(sys.prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pr_preview, "PROJECT", clone)
        patch.setenv("PULUMI_HOME", str(bundled_home))
        git(clone, "init", "--quiet", "--initial-branch=main")
        commit(clone)
        for name, change in {**PAIRS, **EXISTING_HOSTS, **SECRETS}.items():
            git(clone, "checkout", "--quiet", "-b", name, "main")
            change(clone)
            commit(clone)
        git(clone, "checkout", "--quiet", "main")
        yield clone


def git(clone: Path, *arguments: str) -> None:
    # In a hook, git sets variables that point to the hook's repository, which is not this one.
    own = {name: value for name, value in os.environ.items() if name not in pr_preview.GIT_PLACES}
    subprocess.run(["git", *arguments], cwd=clone, env=own | AUTHOR, check=True, capture_output=True)


def commit(clone: Path) -> None:
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message=change")


@pytest.fixture(scope="module")
def look(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Looker:
    """Previews a side, at most once."""

    @functools.cache
    def preview(name: str) -> Look:
        folder = tmp_path_factory.mktemp(name)
        tree = pr_preview.write_tree(Side(pr_preview.commit_of(name)), folder)
        assert pr_preview.seal(tree)
        return Look(folder, pr_preview.preview(tree, folder))

    return preview


def markdown(look: Looker, name: str) -> str:
    about = "Compared."
    try:
        new = comparison.resources(look(name).raw)
    except PreviewError as error:
        return refusal(str(error), about)
    return report(comparison.resources(look("main").raw), new, about)


def without_hashes(text: str) -> str:
    """Returns a text without hashes, which differ between commits of this repository."""
    text = re.sub(r"[0-9a-f]{64}", "HASH", text)
    return re.sub(r"(?<![0-9a-f])(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{12}(?![0-9a-f])", "HASH", text)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.e2e if name in SLOW else ()) for name in PAIRS])
def test_the_markdown_of_a_change_matches_its_golden_file(name: str, look: Looker) -> None:
    text, golden = without_hashes(markdown(look, name)), GOLDEN / f"{name}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(text)
    expected = golden.read_text() if golden.exists() else ""
    difference = "\n".join(difflib.unified_diff(expected.splitlines(), text.splitlines(), "golden", "now", "", "", 1))
    assert text == expected, f"{name}.md differs; if it should, run with UPDATE_GOLDEN=1:\n{difference}"


def test_every_golden_file_belongs_to_a_change() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(PAIRS)


def test_a_change_from_created_machines_to_existing_hosts_requires_make_down(look: Looker) -> None:
    first = markdown(look, *EXISTING_HOSTS).splitlines()[0]
    machines = "3 machines removed (`core-01` to `core-03`); 3 machines added (`web-1` to `web-3`)"
    # The number of CPUs of a host is unknown: services may start more workers there, and get more memory.
    assert first.startswith(f"**{machines}; service `backend` updated; service `proxy` updated")
    assert "Needs `make down` first**, run on the base: the provider of the machines changes from `docker` to " in first


@pytest.mark.e2e
def test_secret_values_stay_secret(look: Looker) -> None:
    old, new = (comparison.resources(look(name).raw) for name in SECRETS)
    text = report(old, new, "Compared.")
    assert "environment.PLAIN: value-1 → value-2" in text
    assert "hunter" not in text


def test_the_command_reports_a_rejected_change_with_status_1(repository: Path, look: Looker) -> None:
    done = command(repository, "refused")
    assert (done.returncode, without_about(done.stdout)) == (1, without_about(markdown(look, "refused")))
    assert done.stdout.splitlines()[-1].startswith("Stack `dev`, base `")
    assert re.fullmatch(r"==> previewing .*\n==> previewed after \d+ s\n", done.stderr)


@pytest.mark.e2e
def test_the_command_prints_the_same_report(repository: Path, look: Looker) -> None:
    done = command(repository, "content")
    assert (done.returncode, without_about(done.stdout)) == (0, without_about(markdown(look, "content")))


def command(repository: Path, head: str) -> "subprocess.CompletedProcess[str]":
    """Runs the tool as a user with a remote Docker."""
    environment = os.environ | {"BASE": "main", "HEAD": head, "STACK": "dev", "DOCKER_HOST": "tcp://elsewhere:1"}
    return subprocess.run(
        [sys.executable, "-m", "tools.preview"],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def without_about(text: str) -> str:
    """Drops the last line, which names the commits."""
    return text.rstrip("\n").rpartition("\n")[0]


# --- the engine's own plan ---


def stack_of(look: Look, empty: Mapping[str, Any], docker: Plugin) -> dict[str, Any]:
    """Returns the state of a stack in which everything a preview planned exists, based on an empty stack's state."""
    states = [copy.deepcopy(step["newState"]) for step in look.raw["steps"]]
    planned = json.dumps(states)
    ids, providers = {}, {}
    for state in states:
        name = comparison.name_of(state["urn"])
        known = re.search(rf"\b{re.escape(name)}[0-9a-f]{{8}}\b", planned)
        ids[state["urn"]] = known[0] if known else f"{name}-id"
    for state in states:
        urn = state.get("provider", "").rpartition("::")[0]
        if urn and urn not in ids:
            ids[urn] = "default-id"
            inputs = {"version": re.sub(r".*_(\d+)_(\d+)_(\d+)$", r"\1.\2.\3", urn)}
            type_ = urn.split("::")[2]
            providers[urn] = {
                "urn": urn,
                "type": type_,
                "custom": True,
                "id": ids[urn],
                "inputs": inputs,
                "outputs": inputs,
            }
    for state in states:
        if urn := state.get("provider", "").rpartition("::")[0]:
            state["provider"] = f"{urn}::{ids[urn]}"
        if state["custom"]:
            state["id"] = ids[state["urn"]]
            for key, sources in state["propertyDependencies"].items():
                text = json.dumps(state["inputs"].get(key))
                state["inputs"][key] = json.loads(text.replace(UNKNOWN, ids[sources[0]] if sources else ""))
            state["outputs"] = outputs(state, docker)
    return {**empty, "deployment": {**empty["deployment"], "resources": [*providers.values(), *states]}}


def outputs(state: Mapping[str, Any], docker: Plugin) -> Mapping[str, Any]:
    """Returns the outputs that the provider would have returned for a create."""
    if state["type"] == COMMAND:
        return {**state["inputs"], "stdout": state["id"], "stderr": ""}
    if state["type"] in (SERVICE, SERVICE_CONFIG):
        return docker.preview(state["type"], state["inputs"])
    inputs: Mapping[str, Any] = state["inputs"]
    return inputs


OPERATIONS = {
    "create": "added",
    "update": "updated",
    "delete": "removed",
    "create-replacement": "replaced",
    "delete-replaced": "replaced",
    "replace": "replaced",
}


def planned(look: Look, deployment: Mapping[str, Any], *arguments: str) -> dict[str, str]:
    """Returns the engine's plan for a side on top of a stack's state: kinds of change by resource name."""
    call = functools.partial(pr_preview.pulumi, look.tree, look.folder)
    call("stack", "import", "--stack", stack.STACK, text=json.dumps(deployment))
    steps = json.loads(call("preview", "--json", "--stack", stack.STACK, *arguments))["steps"]
    kinds = {
        comparison.name_of(step["urn"]): OPERATIONS[step["op"]]
        for step in steps
        if step["op"] != "same" and (step.get("newState") or step["oldState"])["custom"]
    }
    # The engine adds an input to providers, which this state, not written by the engine, lacks.
    kinds.pop("swarm-manager")
    return kinds


@pytest.fixture
def base_state(look: Looker, docker_plugin: Plugin) -> dict[str, Any]:
    """The state of a stack created from the base."""
    base = look("main")
    call = functools.partial(pr_preview.pulumi, base.tree, base.folder)
    return stack_of(base, json.loads(call("stack", "export", "--stack", stack.STACK)), docker_plugin)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "name",
    ["one-more-node", "memory-of-one-node", "backend-configuration", "only-one-proxy", "another-application"],
)
def test_the_report_matches_the_engine_s_plan_for_a_stack_created_from_the_base(
    name: str, look: Looker, base_state: Mapping[str, Any]
) -> None:
    base, head = (comparison.resources(look(side).raw) for side in ("main", name))
    changes = comparison.compare(base, head)
    assert {change.resource.name: change.kind for change in changes} == planned(look(name), base_state)


@pytest.mark.e2e
@pytest.mark.parametrize("dead", ["core-01", "core-02"], ids=["without a proxy", "with a proxy"])
def test_the_engine_skips_exactly_the_resources_of_a_dead_node(
    dead: str, look: Looker, base_state: Mapping[str, Any]
) -> None:
    known = {resource["urn"]: resource for resource in base_state["deployment"]["resources"]}
    alive = {"core-01", "core-02", "core-03"} - {dead}
    changes = planned(look("content"), base_state, *up.excludes(known, [dead]))
    assert changes == {f"{step}-{node}": "updated" for node in alive for step in ("content", "content-switch")}


def test_replacing_inputs_are_those_reported_by_the_docker_plugin(look: Looker, docker_plugin: Plugin) -> None:
    checked = set()
    for step in look("main").raw["steps"]:
        state = step["newState"]
        if state["type"] not in (SERVICE, SERVICE_CONFIG):
            continue
        olds = docker_plugin.preview(state["type"], state["inputs"])
        for key, replaces in variants(state["type"]):
            news = changed(state["inputs"], key.split("."))
            kinds = docker_plugin.diff(state["type"], olds, news).values()
            assert any(kind.endswith("_REPLACE") for kind in kinds) == replaces, f"{state['type']} {key}"
            checked.add(key)
    assert {"taskSpec.networksAdvanceds", "taskSpec.containerSpec.image", "dataRaw"} <= checked


def variants(type_: str) -> Iterator[tuple[str, bool]]:
    """Yields the inputs of a type, and whether changing them replaces the resource."""
    yield from ((key, True) for key in comparison.REPLACE_ONLY[type_] if key != "data")
    if type_ == SERVICE:
        yield from (
            (key, False) for key in ("taskSpec.containerSpec.image", "taskSpec.containerSpec.hostname", "labels")
        )


def changed(inputs: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """Returns inputs with a different value at a path of keys."""
    first, *rest = keys
    others = {
        "labels": [{"label": "another", "value": "one"}],
        "hosts": [{"host": "another", "ip": "10.0.0.1"}],
        "networksAdvanceds": [{"id": "another"}],
    }
    return {**inputs, first: changed(inputs[first], rest) if rest else others.get(first, "another")}

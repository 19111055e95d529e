"""The comparison of two hand-written previews and its Markdown, and the trees that are previewed."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from components.contract import PROJECT, Step
from tools.preview import __main__ as pr_preview
from tools.preview.__main__ import PreviewError, Side
from tools.preview.comparison import (
    COMMAND,
    SERVICE,
    SERVICE_CONFIG,
    UNKNOWN,
    Resources,
    compare,
    file_diffs,
    resources,
)
from tools.preview.markdown import CUT_LINE, cut, fence, listed, printable
from tools.preview.report import LIMIT, refusal, report
from tools.stack import ToolError

State = dict[str, Any]


def state(component: str, type_: str, name: str, inputs: Mapping[str, Any], **more: Any) -> State:
    """Return a resource as in a preview."""
    urn = f"urn:pulumi:dev::swarm-site::swarm-site:index:{component}${type_}::{name}"
    return {"urn": urn, "custom": True, "type": type_, "inputs": dict(inputs), "propertyDependencies": {}, **more}


def command(
    component: str, name: str, node: str = "", after: State | None = None, step: Step | str = "", **environment: str
) -> State:
    """Return a Command; `after` is the source of its trigger."""
    inputs = {
        "create": "exec bash templates/some/create.sh",
        "delete": 'exec bash -c "$DELETE_SCRIPT" templates/some/delete.sh',
        "environment": {"NODE": node, "STEP": str(step), **environment},
    }
    triggers = [f"{after['urn'].split('::')[-1]}{os.urandom(4).hex()}"] if after else []
    return state(
        component,
        COMMAND,
        name,
        {**inputs, "triggers": triggers},
        propertyDependencies={"triggers": [after["urn"]] if after else []},
        replaceOnChanges=["triggers[*]"],
    )


def service(name: str, config: State | None = None, **inputs: Any) -> State:
    """Return a replicated service that may use a config."""
    container: dict[str, Any] = {"image": inputs.pop("image", "nginx:1")}
    if config:
        container["configs"] = [{"configId": UNKNOWN, "configName": config["inputs"]["name"]}]
    return state(
        "Application",
        SERVICE,
        f"{name}-service",
        {"name": name, "mode": {"replicated": {"replicas": 2}}, "taskSpec": {"containerSpec": container}, **inputs},
        propertyDependencies={"taskSpec": [config["urn"]] if config else []},
    )


def replicated(replicas: int) -> dict[str, Any]:
    """Return the mode input of a service with this many replicas."""
    return {"mode": {"replicated": {"replicas": replicas}}}


def config(text: str) -> State:
    """Return a config; its name differs in each preview."""
    name = f"backend-nginx-{os.urandom(4).hex()[:7]}"
    inputs = {"name": name, "__defaults": ["name"], "dataRaw": text}
    return state("Application", SERVICE_CONFIG, "backend-nginx", inputs)


def site(
    count: int = 3,
    *,
    memory: Mapping[int, int] | None = None,
    managers: int = 3,
    proxies: Sequence[int] = (2, 3),
    prefix: str = "core",
    network: str = "192.168.56",
    release: str = "1" * 64,
    port: int = 80,
    provider: str = "docker",
    routes: str = "",
    more: Sequence[State] = (),
) -> Resources:
    """Return a site like the program's."""
    states = [
        command(
            "Machines",
            "machines-workshop",
            "",
            None,
            Step.STACK_FOLDER,
            PROVIDER=provider,
            MEMORY_WANTED=str(memory),
            **({} if provider == "ssh" else {"NETWORK": f"{network}.0/24"}),
        )
    ]
    for number in range(1, count + 1):
        node, address = f"{prefix}-{number:02d}", f"{network}.{10 + number}"
        file = f'name "{node}"\naddress "{address}"\nmemory {(memory or {}).get(number, 512)}\n'
        files = {"HOST": f"{address} root 22"} if provider == "ssh" else {"VAGRANTFILE": file}
        machine = command("Machines", f"machines-{node}", node, None, Step.MACHINE, **files)
        machine["inputs"]["triggers"] = [hashlib.sha256(file.encode()).hexdigest()]
        role = "manager" if number <= managers else "worker"
        states += [
            machine,
            command("Swarm", f"swarm-{node}", node, machine, Step.MEMBERSHIP, NODE_ADDRESS=address, ROLE=role),
            command("Content", f"content-{node}", node, machine, Step.CONTENT_DELIVERY, RELEASE=release),
        ]
        if number in proxies:
            configuration = {"STATE_URL": f"http://127.0.0.1:{port}/state", "CONFIGURATION": routes}
            states.append(command("Proxy", f"proxy-{node}", node, machine, Step.PROXY_CONFIGURATION, **configuration))
    return resources(preview(*states, *(more or [service("backend")])))


def preview(*states: State) -> dict[str, Any]:
    stack_itself = {"urn": "urn:pulumi:dev::swarm-site::pulumi:pulumi:Stack::s", "custom": False}
    return {"steps": [{"op": "create", "newState": each} for each in (stack_itself, *states)]}


def kinds(old: Resources, new: Resources) -> dict[str, str]:
    return {change.resource.name: change.kind for change in compare(old, new)}


def verdict(old: Resources, new: Resources) -> str:
    return report(old, new, "About.").splitlines()[0]


# --- changes ---


def test_two_previews_of_the_same_program_are_equal_whatever_the_engine_generates() -> None:
    first, second = ([one, service("backend", one)] for one in (config("a"), config("a")))
    assert compare(site(more=first), site(more=second)) == []


def test_a_rebuilt_machine_replaces_what_depends_on_it_and_nothing_else() -> None:
    assert kinds(site(), site(memory={2: 768})) == {
        "machines-workshop": "updated",
        "machines-core-02": "replaced",
        "swarm-core-02": "replaced",
        "content-core-02": "replaced",
        "proxy-core-02": "replaced",
    }


def test_a_new_machine_is_added_with_all_its_steps() -> None:
    changes = kinds(site(), site(4))
    assert changes == {f"{step}-core-04": "added" for step in ("machines", "swarm", "content")}
    assert kinds(site(4), site()) == dict.fromkeys(changes, "removed")


def test_a_config_is_replaced_and_its_service_updated() -> None:
    old, new = config("one"), config("two")
    changes = kinds(site(more=[old, service("backend", old)]), site(more=[new, service("backend", new)]))
    assert changes == {"backend-nginx": "replaced", "backend-service": "updated"}


def test_a_service_is_replaced_only_for_what_the_provider_can_not_update() -> None:
    old = site(more=[service("backend")])
    assert kinds(old, site(more=[service("backend", image="nginx:2")])) == {"backend-service": "updated"}
    renamed = service("backend")
    renamed["inputs"]["name"] = "other"
    assert kinds(old, site(more=[renamed])) == {"backend-service": "replaced"}


def test_replacements_propagate_through_a_chain() -> None:
    def chain(text: str) -> Resources:
        first = command("A", "first")
        first["inputs"]["triggers"] = [text]
        second = command("A", "second", after=first)
        third = command("A", "third", after=second)
        user = command("A", "user", ID=f"third{os.urandom(4).hex()}")
        user["propertyDependencies"] = {"environment": [third["urn"]]}
        return resources(preview(first, second, third, user))

    assert kinds(chain("one"), chain("two")) == {
        "first": "replaced",
        "second": "replaced",
        "third": "replaced",
        "user": "updated",
    }


def test_inputs_that_the_program_ignores_are_no_change() -> None:
    def ignoring(network: str) -> Resources:
        networks = {"taskSpec": {"networksAdvanceds": [{"id": network}]}}
        return resources(preview(state("A", SERVICE, "s", networks, ignoreChanges=["taskSpec.networksAdvanceds"])))

    assert compare(ignoring("host"), ignoring("other")) == []


# --- effects ---


def test_an_empty_change_is_one_line() -> None:
    assert verdict(site(), site()) == "**Nothing changes.** A stack like the base stays as it is."


def test_machines_are_named_and_so_are_the_addresses_of_rebuilt_proxies() -> None:
    assert verdict(site(), site(memory={1: 768})) == "**1 machine rebuilt (`core-01`).** Visitors notice nothing."
    assert verdict(site(4), site(4, memory=dict.fromkeys(range(1, 5), 768))) == (
        "**4 machines rebuilt (`core-01` to `core-04`).** Visitors notice: `http://192.168.56.12/`, "
        "`http://192.168.56.13/` do not answer while their machines are rebuilt."
    )
    assert verdict(site(), site(memory={2: 768})).endswith(
        "Visitors notice: `http://192.168.56.12/` does not answer while its machine is rebuilt."
    )
    assert verdict(site(5), site(3)) == "**2 machines removed (`core-04`, `core-05`).** Visitors notice nothing."


def test_visitors_notice_a_rebuild_of_the_only_proxys_machine_and_of_the_only_tasks() -> None:
    services = [service("backend"), service("docs", **replicated(1))]
    old, new = (site(proxies=[2], memory={2: memory}, more=services) for memory in (512, 768))
    assert verdict(old, new).endswith(
        "Visitors notice: no page while `core-02`, which runs the only proxy, is rebuilt; "
        "no page of `docs` for a moment if its only task runs on a machine that leaves."
    )


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (
            site(),
            site(network="192.168.57"),
            "the network of the machines changes from `192.168.56.0/24` to `192.168.57.0/24`",
        ),
        (site(), site(provider="libvirt"), "the provider of the machines changes from `docker` to `libvirt`"),
        (
            site(),
            site(prefix="web", network="192.0.2", provider="ssh"),
            "the provider of the machines changes from `docker` to `ssh`",
        ),
        (site(provider="ssh"), site(), "the provider of the machines changes from `ssh` to `docker`"),
        (site(), site(prefix="web"), "`web-01` to `web-03` get the address of another machine"),
        (
            site(managers=1),
            site(managers=1, memory={1: 768}),
            "`core-01` is the only manager; without it the swarm is lost",
        ),
    ],
    ids=["network", "provider", "to existing hosts", "from existing hosts", "prefix", "manager"],
)
def test_a_change_that_a_running_stack_refuses_needs_down_first(old: Resources, new: Resources, why: str) -> None:
    line = verdict(old, new)
    assert line.endswith(f". Needs `make down` first**, run on the base: {why}. No page until the next `make up`.")
    assert "one at a time" not in report(old, new, "About.")


def test_a_worker_beside_a_single_manager_may_be_rebuilt() -> None:
    assert "make down" not in verdict(site(managers=1), site(managers=1, memory={3: 768}))


def test_addresses_that_no_longer_answer_are_named() -> None:
    assert verdict(site(), site(port=8080)).endswith(
        "Visitors notice: `http://192.168.56.12/`, `http://192.168.56.13/` no longer answer."
    )
    assert "`http://192.168.56.13/` no longer answers" in verdict(site(), site(proxies=[2]))


def test_machines_that_stay_may_gain_and_lose_roles() -> None:
    assert verdict(site(5), site(5, managers=5)) == (
        "**New manager on `core-04`, `core-05`.** Visitors notice nothing."
    )
    assert verdict(site(), site(proxies=[1, 2])) == (
        "**New proxy on `core-01`; proxy removed from `core-03`.** "
        "Visitors notice: `http://192.168.56.13/` no longer answers."
    )


def test_visitors_notice_new_content() -> None:
    assert verdict(site(), site(release="2" * 64)) == "**New content.** Visitors notice: the new pages."


def test_new_content_is_not_hidden_by_a_rebuild_of_all_machines() -> None:
    everything = dict.fromkeys(range(1, 4), 768)
    assert "; new content.**" in verdict(site(), site(memory=everything, release="2" * 64))


# --- several applications ---


def test_each_application_is_named_and_judged_by_its_own_number_of_tasks() -> None:
    def services(image: str) -> Sequence[State]:
        return [service("backend", image=image), service("docs", image=image, **replicated(1))]

    text = report(site(more=services("a")), site(more=services("b")), "About.")
    assert text.startswith(
        "**Service `backend` updated; service `docs` updated.** "
        "Visitors notice: no page of `docs` for a moment: its only task restarts.\n"
    )
    assert "- Each task of `backend` is replaced in turn; the others answer meanwhile.\n" in text
    assert "Each task of `docs`" not in text


def test_an_update_of_one_of_two_applications_names_no_other() -> None:
    old, new = (site(more=[service("backend"), service("docs", image=image)]) for image in ("a", "b"))
    assert verdict(old, new) == "**Service `docs` updated.** Visitors notice nothing."


def test_visitors_notice_no_added_application() -> None:
    new = site(more=[service("backend"), service("docs", **replicated(1))], routes="docs")
    assert verdict(site(), new) == "**Service `docs` added; proxies reconfigured.** Visitors notice nothing."


def test_a_removed_application_no_longer_answers() -> None:
    old = site(more=[service("backend"), service("docs")])
    assert verdict(old, site()) == "**Service `docs` removed.** Visitors notice: `docs` no longer answers."


def test_a_replaced_application_has_no_page_meanwhile() -> None:
    old, new = (
        site(more=[service("backend"), service("docs", taskSpec={"containerSpec": {"hosts": hosts}})])
        for hosts in ([], [{"host": "a", "ip": "10.0.0.1"}])
    )
    assert verdict(old, new) == (
        "**Service `docs` replaced.** Visitors notice: no page of `docs` while it is replaced."
    )


def test_scaling_an_application_leaves_its_other_tasks_and_other_applications_alone() -> None:
    old, new = (site(more=[service("backend", **replicated(5)), service("docs", **replicated(n))]) for n in (2, 3))
    text = report(old, new, "About.")
    assert "- `docs` is scaled from 2 to 3 tasks; the other tasks keep running." in text
    assert text.startswith("**Service `docs` updated.** Visitors notice nothing.")


def test_visitors_notice_another_port_of_an_application() -> None:
    old, new = (
        site(more=[service("backend", endpointSpec={"ports": [{"publishedPort": port}]})]) for port in (8080, 8081)
    )
    assert "errors until proxies and `backend` agree on the port" in verdict(old, new)


def test_a_new_stack_and_a_base_that_fails_are_not_reported_as_a_change() -> None:
    assert report(None, site(), "About.").startswith("**A new stack:** 3 machines added")
    text = report(None, site(), "About.", base_error="the error of the base")
    assert text.startswith("**The preview of the base fails, that of this change works.**")
    assert "The error of the base:\n\n```text\nthe error of the base\n```" in text


# --- files ---


def test_the_same_difference_on_many_nodes_is_shown_once_with_all_names() -> None:
    old, new = site(9), site(9, memory=dict.fromkeys(range(1, 10), 768))
    [diff] = file_diffs(old, new, compare(old, new))
    assert diff.files == {"VAGRANTFILE": [f"machines-core-{number:02d}" for number in range(1, 10)]}
    text = report(old, new, "About.")
    assert "Difference 1: `VAGRANTFILE` of `machines-core-01` to `machines-core-09`, each with its own name" in text
    assert text.count("+memory 768") == 1
    assert "environment.VAGRANTFILE: difference 1\n" in text


def test_different_differences_are_shown_apart() -> None:
    old, new = site(), site(memory={1: 768, 2: 1024})
    assert len(file_diffs(old, new, compare(old, new))) == 2


def test_files_of_a_new_machine_are_shown_only_if_they_are_of_a_new_kind() -> None:
    assert file_diffs(site(), site(4), compare(site(), site(4))) == []
    other = site(4, memory={4: 768})
    [diff] = file_diffs(site(), other, compare(site(), other))
    assert diff.files == {"VAGRANTFILE": ["machines-core-04"]}
    assert '+name "core-04"' in diff.texts[0]


def test_a_delete_script_is_called_by_its_file() -> None:
    old, new = (
        resources(preview(command("A", "a", DELETE_SCRIPT=f"#!\n{word}\n"), command("B", "b", OTHER=f"#!\n{word}\n")))
        for word in ("one", "two")
    )
    [diff] = file_diffs(old, new, compare(old, new))
    assert diff.files == {"templates/some/delete.sh": ["a"], "OTHER": ["b"]}


def test_steps_that_run_again_because_of_their_script_are_counted() -> None:
    def scripts(content: str, leave: str) -> Resources:
        steps = [command("Content", f"content-core-0{number}", SCRIPT_HASH=content) for number in (1, 2)]
        return resources(preview(*steps, command("Swarm", "swarm-core-01", DELETE_SCRIPT=leave)))

    text = report(scripts("0a1b2c3d4e5f", "#!\none\n"), scripts("1a1b2c3d4e5f", "#!\ntwo\n"), "About.")
    assert "- 3 steps run again because of a changed script." in text
    assert "environment.SCRIPT_HASH: 0a1b2c3d4e5f → 1a1b2c3d4e5f" in text


# --- untrusted text ---

HOSTILE = [
    "`" * 3,
    "`" * 70,
    "@everyone",
    "</details>",
    "<!--",
    "[x](http://x)",
    "\u202e",
    "\x1b[2J",
    "é",
    "~~~",
    "#1",
    "\r",
]
hostile = st.lists(st.sampled_from([*HOSTILE, "\n", "a", " ", "line\n"]), max_size=12).map("".join)


def outside(text: str) -> str:
    """Return the part of a Markdown text outside code fences and code spans, as CommonMark parses it."""
    kept = []
    for token in MarkdownIt().parse(text):
        if token.type == "inline":
            kept += [child.content for child in token.children or [] if child.type != "code_inline"]
            kept += [f"({child.type})" for child in token.children or [] if child.type in ("link_open", "image")]
        elif token.type != "fence":
            kept.append(token.content)
    return "\n".join(kept)


@settings(deadline=None)
@given(hostile, hostile, hostile)
def test_nothing_untrusted_leaves_its_fence(name: str, old: str, new: str) -> None:
    def side(word: str) -> Resources:
        step = command("Machines", f"machines-{name}", node=name, KEY=word, FILE=f"\n{word}", NODE_ADDRESS=name)
        return resources(preview(step, service(f"{word}s"), service(name, image=word)))

    before, after = side(old), side(new)
    texts = [
        report(before, after, "About."),
        report(None, after, "About.", base_error=old),
        refusal(old, "About.", base_error=new),
    ]
    for text in texts:
        free = outside(text)
        assert [mark for mark in ("@", "#", "](", "<!", "~~~", "\x1b", "\u202e") if mark in free] == []
        assert not re.search(r"\((link_open|image)\)", free)
        assert free.count("<details>") == free.count("</details>")
        assert not {"\x1b", "\u202e", "\r"} & set(text)


@settings(deadline=None)
@given(hostile)
def test_a_fence_ends_where_its_text_ends(text: str) -> None:
    assert outside(f"before\n\n{fence(text)}\nafter").split() == ["before", "after"]


def test_hidden_characters_are_written_as_code_points() -> None:
    assert printable("a\u202eb\x1b[0m\u200b\r\n\tc") == "a\\u202eb\\u001b[0m\\u200b\\u000d\n\tc"


def test_only_some_of_many_names_are_listed() -> None:
    assert listed(f"n{'x' * i}" for i in range(20)).endswith("`nxxxxxxxxxxx`, 8 more")
    assert listed(["b-10", "b-9", "a", "b-8"]) == "`a`, `b-8` to `b-10`"


# --- length ---


def test_a_long_report_is_cut_to_its_limit_and_names_what_is_missing() -> None:
    def large(word: str) -> Resources:
        texts = {f"FILE{i:02}": "\n".join(f"{word} {i} {n}" for n in range(600)) for i in range(40)}
        return resources(preview(command("A", "a", "", None, SMALL=f"\n{word}", **texts)))

    text = report(large("one"), large("two"), "About.")
    assert LIMIT - 3000 < len(text.encode()) <= LIMIT
    assert re.search(r"^Shortened to fit into a comment: \d+ of 41 differences\.$", text, re.MULTILINE)
    assert CUT_LINE in text
    assert "\n-one 0 0\n" in text
    assert text.endswith("\nAbout.\n")
    assert outside(text).rstrip().endswith("About.")


def test_a_small_difference_is_not_crowded_out_by_large_ones() -> None:
    def mixed(word: str) -> Resources:
        large = {f"A{i}": "\n".join(f"{word} {i} {n}" for n in range(6000)) for i in range(4)}
        return resources(preview(command("A", "a", "", None, Z=f"small\n{word}\n", **large)))

    text = report(mixed("one"), mixed("two"), "About.")
    assert "+two\n```" in text
    assert "Shortened to fit into a comment: 4 of 5 differences." in text


def test_a_long_list_of_resources_is_cut() -> None:
    old, new = (resources(preview(*(command("A", f"x{i}y", KEY=f"{word}{i}") for i in range(3000)))) for word in "ab")
    text = report(old, new, "About.")
    assert len(text.encode()) <= LIMIT
    assert "Shortened to fit into a comment: the list of resources." in text


@settings(deadline=None)
@given(st.lists(st.tuples(hostile, st.integers(1, 400)), max_size=4), st.integers(3000, 12_000))
def test_no_report_is_longer_than_its_limit(pieces: Sequence[tuple[str, int]], limit: int) -> None:
    def side(word: str) -> Resources:
        texts = {f"K{i}": f"\n{text}{word}" * size for i, (text, size) in enumerate(pieces)}
        return resources(preview(command("A", "a", "", None, **texts)))

    old, new = side("one"), side("two")
    error = "".join(text * size for text, size in pieces)
    assert len(report(old, new, "About.", limit=limit).encode()) <= limit
    assert len(report(None, new, "About.", base_error=error, limit=limit).encode()) <= limit
    assert len(refusal(error, "About.", base_error=error, limit=limit).encode()) <= limit


def test_a_single_long_line_is_cut_inside() -> None:
    assert cut("x" * 100, 10) == f"{'x' * 10}\n{CUT_LINE}"
    assert cut("a\nb\nc", 4) == f"a\nb\n{CUT_LINE}"


# --- trees ---


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in place of the project's."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    monkeypatch.setattr(pr_preview, "PROJECT", folder)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "nobody@example.org")
    for name in ("BASE", "HEAD"):
        monkeypatch.delenv(name, raising=False)
    pr_preview.git("init", "--quiet", "--initial-branch=main")
    for name in ("kept", "edited", "gone"):
        (folder / name).write_text(f"{name}\n")
    (folder / ".gitignore").write_text("ignored\n")
    commit("first")
    return folder


def commit(message: str) -> str:
    pr_preview.git("add", "--all")
    pr_preview.git("commit", "--quiet", f"--message={message}")
    return pr_preview.commit_of("HEAD")


def files(tree: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in tree.iterdir()}


def test_a_commit_is_written_as_it_is_and_a_working_tree_with_uncommitted_changes(clone: Path, tmp_path: Path) -> None:
    first = pr_preview.commit_of("main")
    (clone / "edited").write_text("now\n")
    (clone / "gone").unlink()
    for name in ("new", "ignored"):
        (clone / name).write_text(f"{name}\n")
    before = pr_preview.git("status", "--porcelain"), sorted((clone / ".git").rglob("*"))
    for name, edited in (("commit", False), ("tree", True)):
        (tmp_path / name).mkdir()
        pr_preview.write_tree(Side(first, edited), tmp_path / name)
    same = {".gitignore": "ignored\n", "kept": "kept\n"}
    assert files(tmp_path / "commit" / "tree") == {**same, "edited": "edited\n", "gone": "gone\n"}
    assert files(tmp_path / "tree" / "tree") == {**same, "edited": "now\n", "new": "new\n"}
    assert before == (pr_preview.git("status", "--porcelain"), sorted((clone / ".git").rglob("*")))


def test_the_variables_of_a_git_hook_lead_to_no_other_repository(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in pr_preview.GIT_PLACES:
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert pr_preview.git("rev-parse", "--show-toplevel") == str(clone)
    pr_preview.write_tree(Side(pr_preview.commit_of("main")), tmp_path)
    assert (tmp_path / "tree" / "kept").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_a_change_is_compared_with_the_commit_it_started_from(clone: Path) -> None:
    first = pr_preview.commit_of("main")
    pr_preview.git("checkout", "--quiet", "-b", "change")
    (clone / "kept").write_text("change\n")
    change = commit("change")
    pr_preview.git("checkout", "--quiet", "main")
    (clone / "edited").write_text("meanwhile\n")
    commit("meanwhile")
    assert pr_preview.common("main", change) == first


def test_a_missing_base_is_an_error_with_a_remedy(clone: Path) -> None:
    with pytest.raises(ToolError, match=r"^this clone has no commit origin/main; fetch it, or pass another BASE"):
        pr_preview.pr_preview()
    pr_preview.git("checkout", "--quiet", "--orphan", "stranger")
    with pytest.raises(ToolError, match=r"no common commit here; in a shallow clone, run: git fetch --unshallow$"):
        pr_preview.common("main", commit("stranger"))


@pytest.fixture
def planned(clone: Path, monkeypatch: pytest.MonkeyPatch) -> dict[bool, Resources | Exception | None]:
    """The engine's plans, by whether the side is edited."""
    monkeypatch.setenv("BASE", "main")
    (clone / "edited").write_text("now\n")
    plans: dict[bool, Resources | Exception | None] = {False: site(), True: site(4)}

    def plan(side: Side) -> Resources | None:
        result = plans[side.edited]
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(pr_preview, "planned", plan)
    return plans


Plans = dict[bool, Resources | Exception | None]


def test_a_change_is_reported_with_status_0(planned: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    assert pr_preview.pr_preview() == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("**1 machine added (`core-04`).** Visitors notice nothing.\n")
    assert "with uncommitted changes" in printed.out.splitlines()[-1]
    assert printed.err.startswith("==> previewing ")


def test_a_refused_change_is_reported_with_status_1(planned: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    planned[True] = PreviewError("error: the settings are refused")
    assert pr_preview.pr_preview() == 1
    assert capsys.readouterr().out.startswith("**Refused.** ")
    planned[False] = PreviewError("of the base")
    assert pr_preview.pr_preview() == 1
    assert "The preview of the base fails too:\n\n```text\nof the base\n```" in capsys.readouterr().out


def test_a_refused_base_is_reported_with_status_0(planned: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    planned[False] = PreviewError("of the base")
    assert pr_preview.pr_preview() == 0
    assert capsys.readouterr().out.startswith("**The preview of the base fails, that of this change works.**")


def test_a_side_without_a_stack_file(planned: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    planned[False] = None
    assert pr_preview.pr_preview() == 0
    assert capsys.readouterr().out.startswith("**A new stack:** 4 machines added")
    planned[True] = None
    with pytest.raises(
        ToolError, match=r"has no Pulumi\.dev\.yaml; name a stack that it has: make pr-preview STACK=…$"
    ):
        pr_preview.pr_preview()
    assert capsys.readouterr().out == ""


def test_a_stack_without_encrypted_values_needs_no_passphrase(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    assert not pr_preview.seal(tmp_path)
    file.write_text("secretsprovider: awskms://key\nencryptionsalt: v1:a\nconfig:\n  a:b: 1\n")
    assert pr_preview.seal(tmp_path)
    assert file.read_text() == "config:\n  a:b: 1\n"
    file.write_text(text := "encryptionsalt: v1:a\nconfig:\n  a:b:\n    secure: v1:b\n")
    assert pr_preview.seal(tmp_path)
    assert file.read_text() == text


def test_a_failure_is_reported_without_this_machines_paths(tmp_path: Path) -> None:
    entries = [
        {"severity": "warning", "message": "not this"},
        {"severity": "error", "message": f"error: in {tmp_path}/tree/components/a.py\n"},
        {"severity": "error", "message": "error: an unhandled error: Program exited with non-zero exit code: 1\n"},
    ]
    error = pr_preview.failure(json.dumps({"diagnostics": entries}), "")
    assert pr_preview.without_paths(error, tmp_path / "tree") == "error: in components/a.py"
    error = pr_preview.failure("", f"error: {(PROJECT / '.venv').resolve()}/lib and {sys.base_prefix}/lib")
    assert pr_preview.without_paths(error, tmp_path / "tree") == "error: .venv/lib and python/lib"

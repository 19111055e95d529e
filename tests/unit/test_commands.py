"""Construction of Commands from scripts of `templates/`."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pulumi_command as command
import pytest

from components import scripts
from components.contract import Step
from components.digest import text_hash
from components.scripts import bundle, on_each, script, tool
from components.settings import Node
from tests.unit.harness import COMMAND, Registered, machines, nodes, run, stand_in

FILES = {
    "lib.sh": '# shellcheck shell=bash\nspeak() { echo "$1"; }\n',
    "a/provider.sh": "# shellcheck shell=bash\n. templates/lib.sh\nkind() { echo plain; }\n",
    "a/create.sh": '#!/usr/bin/env bash\n. templates/lib.sh\nspeak "created $NODE, $PPID"\nexit "${STATUS:-0}"\n',
    "a/delete.sh": "#!/usr/bin/env bash\n. templates/lib.sh\nspeak removed\n",
    "a/by.sh": '#!/usr/bin/env bash\n. templates/lib.sh\n. "templates/a/$PROVIDER.sh"\nspeak "$(kind)"\n',
    "sent/program.sh": "#!/usr/bin/env bash\n. templates/lib.sh\nspeak here\n",
    "sent/settings.json": '{"log-driver": "json-file"}\n',
    "a/broken.sh": "#!/usr/bin/env bash\n\nno-such-program\n",
}


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose folder `templates` holds FILES, as the working directory of the tests."""
    for name, text in FILES.items():
        path = tmp_path / "templates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(scripts, "TEMPLATES", tmp_path / "templates")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def registered(**changes: Any) -> Registered:
    arguments: dict[str, Any] = {
        "step": Step.CONTENT_DELIVERY,
        "create": "a/create.sh",
        "environment": {"VALUE": "1"},
        "minutes": 7,
        "opts": pulumi.ResourceOptions(),
    }
    return run(lambda: [script("thing", **{**arguments, **changes})])["thing"]


def test_a_create_runs_from_the_tree_and_a_delete_from_its_own_text() -> None:
    made = registered(delete="a/delete.sh", node="core-01", triggers=["one", "two"])
    assert (made.type, made.name) == (COMMAND, "thing")
    assert made.inputs == {
        "create": "exec bash templates/a/create.sh",
        "delete": 'exec bash -c "$DELETE_SCRIPT" templates/a/delete.sh',
        "environment": {
            "WORK": ".work/dev",
            "STEP": "content-delivery",
            "NODE": "core-01",
            "VALUE": "1",
            "SCRIPT_HASH": text_hash(bundle("a/create.sh"))[:12],
            "DELETE_SCRIPT": bundle("a/delete.sh"),
        },
        "triggers": ["one", "two"],
    }


def test_a_tool_of_the_project_runs_again_when_its_files_change(tree: Path) -> None:
    def made() -> Registered:
        return run(
            lambda: [
                tool(
                    "thing",
                    step=Step.IMAGE,
                    module="tools.thing",
                    files=[tree / "templates/lib.sh"],
                    environment={"VALUE": "1"},
                    minutes=2,
                    opts=pulumi.ResourceOptions(),
                )
            ]
        )["thing"]

    before = made()
    assert before.inputs["create"] == "exec .venv/bin/python -m tools.thing"
    assert (before.step, before.node, before.own, before.timeouts["create"]) == ("image", "", {"VALUE": "1"}, "2m")
    (tree / "templates/lib.sh").write_text("changed")
    assert made().environment["SCRIPT_HASH"] != before.environment["SCRIPT_HASH"]


def test_a_command_with_nothing_to_remove_has_no_delete() -> None:
    made = registered()
    assert "delete" not in made.inputs
    assert "DELETE_SCRIPT" not in made.environment


@pytest.mark.parametrize("changed", ["a/create.sh", "lib.sh"])
def test_a_change_of_the_script_or_of_what_it_sources_changes_an_input(tree: Path, changed: str) -> None:
    before = registered().inputs
    with (tree / "templates" / changed).open("a") as file:
        file.write("true\n")
    after = registered().inputs
    assert before["environment"].pop("SCRIPT_HASH") != after["environment"].pop("SCRIPT_HASH")
    assert before == after


@pytest.mark.parametrize("changed", ["a/create.sh", "a/delete.sh", "lib.sh"])
def test_a_comment_changes_no_input(tree: Path, changed: str) -> None:
    before = registered(delete="a/delete.sh").inputs
    with (tree / "templates" / changed).open("a") as file:
        file.write("\n  # changed\n")
    assert registered(delete="a/delete.sh").inputs == before


@pytest.mark.parametrize("changed", ["sent/program.sh", "sent/settings.json", "lib.sh"])
def test_a_change_of_a_file_that_the_script_sends_changes_an_input(tree: Path, changed: str) -> None:
    sent = ["sent/program.sh", "sent/settings.json"]
    before = registered(sent=sent).inputs
    with (tree / "templates" / changed).open("a") as file:
        file.write("changed\n")
    after = registered(sent=sent).inputs
    assert before["environment"].pop("SCRIPT_HASH") != after["environment"].pop("SCRIPT_HASH")
    assert before == after


def test_the_provider_decides_which_file_is_sourced() -> None:
    made = registered(create="a/by.sh", delete="a/by.sh", environment={"PROVIDER": "provider"})
    assert executed(made, "delete", {}).stdout == "plain\n"
    with pytest.raises(FileNotFoundError):
        registered(create="a/by.sh", environment={"PROVIDER": "other"})


def test_a_bundle_has_the_shared_names_that_it_uses_and_no_other(tree: Path) -> None:
    lines = ['LOCKS="${WORK-}/locks"', 'MACHINES="${WORK-}/machines"', 'MACHINE_LOG="log"', 'OTHER="kept"']
    (tree / "templates" / "lib.sh").write_text("\n".join([*lines, 'echo "$MACHINES"']))
    assert bundle("lib.sh").splitlines() == [lines[1], lines[3], 'echo "$MACHINES"']


def test_a_bundle_holds_each_sourced_file_once() -> None:
    text = bundle("a/by.sh", "provider")
    assert text.count("speak()") == 1
    assert "\n. " not in text


def test_the_old_self_is_removed_before_the_new_one_is_created_and_every_script_is_bounded() -> None:
    made = registered()
    assert made.delete_before_replace
    assert made.timeouts == {"create": "7m", "update": "7m", "delete": "7m"}


def test_the_callers_options_stay() -> None:
    def body() -> None:
        first, second = stand_in("first"), stand_in("second")
        options = pulumi.ResourceOptions(depends_on=[first], deleted_with=second, parent=second)
        script("thing", step=Step.BOX, create="a/create.sh", environment={}, minutes=1, opts=options)

    made = run(body)["thing"]
    assert (made.parent, made.deleted_with) == ("second", "second")
    assert made.dependencies == {"first"}
    assert made.delete_before_replace


def test_an_output_in_the_environment_ties_the_command_to_its_source() -> None:
    def body() -> None:
        environment = {"TEXT": stand_in("first").stdout}
        script(
            "thing",
            step=Step.BOX,
            create="a/create.sh",
            environment=environment,
            minutes=1,
            opts=pulumi.ResourceOptions(),
        )

    made = run(body)["thing"]
    assert made.environment["TEXT"] == "output of first"
    assert made.data_dependencies == {"first"}


# --- one per machine --------------------------------------------------------------------------------------------------


def on_two_machines(**changes: Any) -> Any:
    def body() -> Any:
        arguments: dict[str, Any] = {
            "step": Step.CONTENT_DELIVERY,
            "create": "a/create.sh",
            "environment": {"VALUE": "1"},
            "minutes": 3,
            "parent": stand_in("parent"),
        }
        return {name: one.id for name, one in on_each("step", machines(nodes(2)), **{**arguments, **changes}).items()}

    return run(body)


def test_on_each_makes_one_command_a_machine_that_is_replaced_with_it() -> None:
    result = on_two_machines()
    assert result.returned == {"core-01": "step-core-01-id", "core-02": "step-core-02-id"}
    one = result["step-core-02"]
    assert (one.step, one.node, one.own, one.parent) == ("content-delivery", "core-02", {"VALUE": "1"}, "parent")
    assert one.inputs["triggers"] == ["machine-core-02-id"]
    assert one.timeouts["create"] == "3m"
    assert one.dependencies == {"machine-core-02"}


def test_on_each_gives_each_node_its_own_values_and_what_it_waits_for() -> None:
    def environment(node: Node) -> Mapping[str, str]:
        return {"ADDRESS": node.address}

    result = on_two_machines(environment=environment, after=lambda node: [stand_in(f"first-{node.name}")])
    assert result["step-core-01"].own == {"ADDRESS": "192.168.56.11"}
    assert result["step-core-02"].dependencies == {"machine-core-02", "first-core-02"}


# --- as the plugin runs them ------------------------------------------------------------------------------------------


def executed(made: Registered, verb: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a Command as the plugin does: by /bin/sh in the project folder, its environment added to the plugin's."""
    return subprocess.run(
        ["/bin/sh", "-c", made.inputs[verb]],
        env={**os.environ, **made.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_script_of_a_run_has_the_plugin_as_its_parent() -> None:
    done = executed(registered(node="core-01"), "create", {})
    assert (done.stdout, done.returncode) == (f"created core-01, {os.getpid()}\n", 0)


def test_the_exit_status_is_the_scripts_own() -> None:
    assert executed(registered(), "create", {"STATUS": "3"}).returncode == 3


def test_a_delete_needs_no_tree(tree: Path) -> None:
    made = registered(delete="a/delete.sh")
    (tree / "templates").rename(tree / "gone")
    assert executed(made, "delete", {}).stdout == "removed\n"


def test_an_error_of_the_shell_names_a_file_and_a_line_that_exist() -> None:
    done = executed(registered(create="a/broken.sh"), "create", {})
    assert done.stderr.startswith("templates/a/broken.sh: line 3: no-such-program")


# --- the harness ------------------------------------------------------------------------------------------------------


def test_two_commands_of_one_name_are_refused() -> None:
    def body() -> None:
        stand_in("thing")
        stand_in("thing")

    with pytest.raises(AssertionError, match=r"two resources have the URN urn:pulumi:dev::swarm-site::.*::thing"):
        run(body)


def test_the_harness_refuses_what_nobody_planned() -> None:
    with pytest.raises(AssertionError, match=r"unexpected invoke: a:b:c"):
        run(lambda: pulumi.runtime.invoke_async("a:b:c", {}))
    with pytest.raises(AssertionError, match=r"unexpected lookup: command:local:Command some-id"):
        run(lambda: [command.local.Command("thing", opts=pulumi.ResourceOptions(id="some-id"))])
    with pytest.raises(AssertionError, match=r"unexpected resource type: a:b:C"):
        run(lambda: [pulumi.CustomResource("a:b:C", "thing", {})])


def test_the_harness_shows_an_error_of_the_body() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


def test_one_run_knows_nothing_of_another() -> None:
    first, second = run(lambda: stand_in("first").stdout), run(lambda: stand_in("second").stdout)
    assert (first.returned, second.returned) == ("output of first", "output of second")
    assert [resource.name for resource in second.resources] == ["second"]

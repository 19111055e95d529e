"""The one place that builds a Command."""

import os
import subprocess
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_command as command
import pytest

from components import remote
from tests.unit.harness import COMMAND, Registered, run, stand_in

SCRIPTS = {"a/make.sh": 'echo "made $NODE, $PPID"; exit "${STATUS:-0}"', "a/take.sh": "echo taken away"}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    def rendered(name: str, **values: object) -> str:
        return SCRIPTS[name].format_map(values) if values else SCRIPTS[name]

    monkeypatch.setattr(remote, "render", rendered)


def made_command(**changes: Any) -> Registered:
    arguments: dict[str, Any] = {
        "create": "a/make.sh",
        "environment": {"WORK": ".work/dev"},
        "minutes": 7,
        "opts": pulumi.ResourceOptions(),
    }
    return run(lambda: [remote.run("thing", **{**arguments, **changes})])["thing"]


def test_a_command_runs_its_scripts_by_bash_from_its_environment() -> None:
    made = made_command(delete="a/take.sh", node="core-01", triggers=["one", "two"])
    assert (made.type, made.name) == (COMMAND, "thing")
    assert made.inputs == {
        "create": 'exec bash -c "$CREATE_SCRIPT" a/make.sh',
        "delete": 'exec bash -c "$DELETE_SCRIPT" a/take.sh',
        "environment": {
            "NODE": "core-01",
            "WORK": ".work/dev",
            "CREATE_SCRIPT": SCRIPTS["a/make.sh"],
            "DELETE_SCRIPT": SCRIPTS["a/take.sh"],
        },
        "triggers": ["one", "two"],
    }


def test_both_scripts_are_rendered_with_the_same_values() -> None:
    SCRIPTS["a/by.sh"] = "echo by {provider}"
    made = made_command(create="a/by.sh", delete="a/by.sh", values={"provider": "docker"})
    assert made.scripts == {"CREATE_SCRIPT": "echo by docker", "DELETE_SCRIPT": "echo by docker"}


def test_a_command_with_nothing_to_take_away_has_no_delete() -> None:
    assert made_command().inputs == {
        "create": 'exec bash -c "$CREATE_SCRIPT" a/make.sh',
        "environment": {"NODE": "", "WORK": ".work/dev", "CREATE_SCRIPT": SCRIPTS["a/make.sh"]},
        "triggers": [],
    }


def test_the_old_thing_goes_before_the_new_one_comes_and_every_step_is_bounded() -> None:
    made = made_command()
    assert made.delete_before_replace
    assert made.timeouts == {"create": "7m", "update": "7m", "delete": "7m"}


def test_the_callers_options_stay() -> None:
    def body() -> None:
        first, second = stand_in("first"), stand_in("second")
        options = pulumi.ResourceOptions(depends_on=[first], deleted_with=second, parent=second)
        remote.run("thing", create="a/make.sh", environment={}, minutes=1, opts=options)

    made = run(body)["thing"]
    assert (made.parent, made.deleted_with) == ("second", "second")
    assert made.dependencies == {"first"}
    assert made.delete_before_replace


def test_an_output_in_the_environment_ties_the_command_to_its_maker() -> None:
    def body() -> None:
        remote.run(
            "thing",
            create="a/make.sh",
            environment={"WORDS": stand_in("first").stdout},
            minutes=1,
            opts=pulumi.ResourceOptions(),
        )

    made = run(body)["thing"]
    assert made.environment["WORDS"] == "words of first"
    assert made.data_dependencies == {"first"}


def executed(made: Registered, verb: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a Command as the plugin does: its text by /bin/sh, its environment beside the plugin's own."""
    return subprocess.run(
        ["/bin/sh", "-c", made.inputs[verb]],
        env={**os.environ, **made.inputs["environment"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_script_of_a_run_has_the_plugin_as_its_parent() -> None:
    done = executed(made_command(node="core-01"), "create", {})
    assert (done.stdout, done.returncode) == (f"made core-01, {os.getpid()}\n", 0)


def test_the_exit_status_is_the_scripts_own() -> None:
    assert executed(made_command(), "create", {"STATUS": "3"}).returncode == 3


def test_the_delete_runs_the_delete_script() -> None:
    assert executed(made_command(delete="a/take.sh"), "delete", {}).stdout == "taken away\n"


def test_an_error_of_the_shell_names_the_script() -> None:
    SCRIPTS["a/broken.sh"] = "\nno-such-program"
    done = executed(made_command(create="a/broken.sh"), "create", {})
    assert done.stderr.startswith("a/broken.sh: line 2: no-such-program")


def test_two_commands_of_one_name_are_refused() -> None:
    def body() -> None:
        stand_in("thing")
        stand_in("thing")

    with pytest.raises(AssertionError, match=r"two resources have the URN urn:pulumi:dev::swarm-site::.*::thing"):
        run(body)


def test_the_harness_refuses_what_nobody_planned() -> None:
    with pytest.raises(AssertionError, match=r"an invoke that nobody planned: a:b:c"):
        run(lambda: pulumi.runtime.invoke_async("a:b:c", {}))
    with pytest.raises(AssertionError, match=r"a lookup that nobody planned: command:local:Command some-id"):
        run(lambda: [command.local.Command("thing", opts=pulumi.ResourceOptions(id="some-id"))])
    with pytest.raises(AssertionError, match=r"a resource of a type that nobody planned: a:b:C"):
        run(lambda: [pulumi.CustomResource("a:b:C", "thing", {})])


def test_the_harness_shows_an_error_of_the_body() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


def test_one_run_knows_nothing_of_another() -> None:
    first, second = run(lambda: stand_in("first").stdout), run(lambda: stand_in("second").stdout)
    assert (first.returned, second.returned) == ("words of first", "words of second")
    assert [resource.name for resource in second.resources] == ["second"]

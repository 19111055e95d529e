"""templates/lib.sh: functions shared by the scripts of a stack."""

import fcntl
import os
import re
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.contract import PROJECT, shell_names
from tests.unit.shell import RECORDER, Answer, World, library, refused, succeeded
from tools import stack

# --- quote ------------------------------------------------------------------------------------------------------------

ARGUMENTS = [
    "",
    "word",
    "two words",
    "  ",
    "a\nb\n",
    "\n",
    "it's",
    "'",
    "''\"'\"''",
    '"$HOME"',
    "$(exit 1)`exit 1`",
    "\\",
    "\\'",
    "*",
    "~",
    "-n",
    "--",
    "!!",
    "a;b&c|d>e<f",
    "ünïcödé \U0001f600",
    "\x01\x7f\t",
    "@%{ }%@",
]


def round_trip(shell: str, arguments: Sequence[str]) -> list[str]:
    """Quote arguments and return them as parsed by a shell."""
    command = ["bash", "-c", library() + 'for one; do quote "$one"; printf " "; done', "quote", *arguments]
    quoted = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout
    printed = subprocess.run([shell, "-c", b"printf '%s\\0' " + quoted], capture_output=True, check=True).stdout
    return [os.fsdecode(argument) for argument in printed.split(b"\0")[:-1]]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_quoting_preserves_arguments(shell: str) -> None:
    assert round_trip(shell, ARGUMENTS) == ARGUMENTS


@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=8))
def test_quoting_preserves_any_arguments(arguments: list[str]) -> None:
    assert round_trip("sh", arguments) == arguments


# --- on_node ----------------------------------------------------------------------------------------------------------


def test_arguments_reach_a_node_unchanged(world: World) -> None:
    world.nodes("core-01")
    done = world.lib('on_node core-01 printf "%s\\0" "$@"', *ARGUMENTS)
    assert succeeded(done).split("\0")[:-1] == ARGUMENTS


def test_a_function_runs_on_a_node_with_its_callees_and_arguments(world: World) -> None:
    world.nodes("core-01")
    code = """
    inner() { printf '%s on %s\\n' "$1" "$ON_NODE"; }
    outer() { for argument; do inner "$argument"; done; }
    on_node core-01 outer "$@"
    """
    assert succeeded(world.lib(code, "a b", "it's", "$HOME")) == "a b on core-01\nit's on core-01\n$HOME on core-01\n"


def test_labels_and_folders_are_defined_on_a_node(world: World) -> None:
    world.nodes("core-01")
    shared = {name: value for name, value in shell_names().items() if name.startswith(("LABEL_", "FOLDER_"))}
    code = f'f() {{ for name in {" ".join(shared)}; do echo "$name=${{!name}}"; done; }}\non_node core-01 f'
    assert succeeded(world.lib(code)).splitlines() == [f"{name}={value}" for name, value in shared.items()]


def test_a_command_on_a_node_runs_as_root(world: World) -> None:
    world.nodes("core-01")
    assert succeeded(world.lib("on_node core-01 printenv ROOT_ON_NODE")) == "core-01\n"


def test_stdin_reaches_a_node(world: World) -> None:
    world.nodes("core-01")
    assert succeeded(world.lib("on_node core-01 cat", stdin="one\ntwo")) == "one\ntwo"
    assert succeeded(world.lib("f() { cat; }; on_node core-01 f <<<'three'")) == "three\n"


def test_a_function_on_a_node_stops_at_the_first_error(world: World) -> None:
    world.nodes("core-01")
    done = world.lib("f() { echo before; false; echo after; }; on_node core-01 f")
    assert (done.returncode, done.stdout) == (1, "before\n")
    done = world.lib("f() { false | true; echo after; }; on_node core-01 f")
    assert (done.returncode, done.stdout) == (1, "")
    done = world.lib('f() { echo "$no_such_name"; echo after; }; on_node core-01 f')
    assert (done.returncode, done.stdout) == (1, "")
    assert "no_such_name: unbound variable" in done.stderr


@pytest.mark.parametrize("caller", ["if {}; then :; fi; exit $?", "{} || exit $?", "output=$({}) || exit $?"])
def test_a_function_on_a_node_stops_at_the_first_error_even_in_a_condition(world: World, caller: str) -> None:
    world.nodes("core-01")
    world.lib('f() { false; touch "$STUBS/went-on"; }; ' + caller.format("on_node core-01 f"))
    assert not (world.stubs / "went-on").exists()


def test_on_node_returns_the_exit_status_of_the_command(world: World) -> None:
    world.nodes("core-01")
    assert world.lib("on_node core-01 exit 3").returncode == 3


def test_a_command_on_a_dead_node_fails_with_the_error_of_ssh(world: World) -> None:
    world.nodes("core-01")
    world.kill("core-01")
    done = world.lib("on_node core-01 true")
    assert (done.returncode, done.stderr) == (255, "ssh: connect to host core-01 port 22: No route to host\n")


def test_a_hanging_command_is_killed_at_its_limit(world: World) -> None:
    world.nodes("core-01")
    assert world.lib("LIMIT=0.1 on_node core-01 tail -f /dev/null").returncode == 124


def test_a_limit_applies_to_one_call_only(world: World) -> None:
    world.nodes("core-01")
    assert succeeded(world.lib('LIMIT=5 on_node core-01 true; echo "$LIMIT"')) == "0\n"


def test_a_users_own_variables_do_not_steer_a_command_on_a_node(world: World) -> None:
    world.nodes("core-01")
    own = {"BECOME": "false", "LIMIT": "0.01"}
    assert succeeded(world.lib("on_node core-01 bash -c 'sleep 0.1; printenv ROOT_ON_NODE'", **own)) == "core-01\n"


def test_a_users_cdpath_does_not_steer_a_script(world: World) -> None:
    elsewhere = world.folder / "elsewhere"
    (elsewhere / ".work/dev").mkdir(parents=True)
    output = succeeded(world.lib('cd "$WORK"; pwd', CDPATH=str(elsewhere)))
    assert output == f"{world.work}\n"


def test_bash_on_a_node_sources_no_startup_file_though_its_stdin_is_a_connection(world: World) -> None:
    """Without --norc, Debian's startup file prints `PS1: unbound variable` on each call as root."""
    world.nodes("core-01")
    (world.folder / ".bashrc").write_text("echo sourced\n")
    code = """
    BECOME=""
    connected='import socket, subprocess, sys; a, b = socket.socketpair(); subprocess.run(sys.argv[1:], stdin=b)'
    ssh() { env -u SHLVL -u BASH_ENV SSH_CLIENT=1 python3 -c "$connected" bash --norc -c "exec ${*: -1}"; }
    timeout() { "${@:3}"; }
    on_node core-01 echo "it works"
    """
    done = world.lib(code)
    assert (succeeded(done), done.stderr) == ("it works\n", "")


def test_a_connection_does_not_inherit_the_lock(world: World) -> None:
    """A connection may outlive the script, and would hold the lock."""
    world.nodes("core-01")
    succeeded(world.lib('take_lock "$WORK/locks/x" 1; on_node core-01 true; [[ -e /proc/$$/fd/9 ]]'))
    assert not (world.stubs / "holds-the-lock").exists()


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_the_peers_of_a_node_are_all_other_nodes_in_the_settings(world: World) -> None:
    world.nodes("core-01", "core-02", "core-03")
    assert succeeded(world.lib("peers", NODE="core-02")) == "core-01\ncore-03\n"
    assert succeeded(world.lib("peers")) == "core-01\ncore-02\ncore-03\n"
    assert succeeded(world.lib("peers", NODE="core-09")) == "core-01\ncore-02\ncore-03\n"


def test_without_a_node_list_there_are_no_peers(world: World) -> None:
    assert succeeded(world.lib("peers", NODE="core-01")) == ""


def test_the_node_list_has_the_address_of_each_node(world: World) -> None:
    world.nodes("core-01", "core-02", "core-021")
    assert succeeded(world.lib("address_of core-02")) == "192.0.2.12\n"


def test_a_node_answers_if_it_exists_and_is_alive(world: World) -> None:
    world.nodes("core-01", "core-02")
    world.kill("core-02")
    code = 'for name in core-01 core-02 core-03; do if answers "$name"; then echo "$name"; fi; done'
    done = world.lib(code)
    assert (succeeded(done), done.stderr) == ("core-01\n", "")


def test_messages_begin_with_the_node_or_this_machine(world: World) -> None:
    assert succeeded(world.lib("say hello", NODE="core-01")) == "core-01: hello\n"
    assert succeeded(world.lib("say hello", NODE="")) == "this machine: hello\n"
    assert refused(world.lib("fail sorry; echo after", NODE="core-01")) == "core-01: sorry\n"


# --- time limits ------------------------------------------------------------------------------------------------------


def test_a_condition_that_already_holds_is_not_waited_for(world: World) -> None:
    assert succeeded(world.lib("wait_for 0 it true")) == ""


def test_a_wait_reports_every_ten_seconds_and_fails_at_its_limit(world: World) -> None:
    code = 'begin=$SECONDS; wait_for 25 "the moon" false || echo "status $? after $((SECONDS - begin)) s"'
    output = succeeded(world.lib(code, A_SLEEP_COUNTS_AS="1", NODE=""))
    # A slow machine may add a second here and there.
    assert re.fullmatch(
        r"(this machine: waiting for the moon, [12]\d s\n){2}status 1 after 2[5-9] s\n",
        output,
    )


def test_a_wait_ends_once_its_condition_holds(world: World) -> None:
    code = """
    tries=0
    third() { [[ $1 == "an argument" ]] && (((tries += 1) == 3)); }
    wait_for 25 it third "an argument"
    echo "$tries"
    """
    assert succeeded(world.lib(code, A_SLEEP_COUNTS_AS="1")) == "3\n"


@pytest.mark.parametrize(("emulated", "seconds"), [(False, 10), (True, 50)])
def test_time_limits_are_five_times_as_long_for_emulated_machines(
    world: World, emulated: bool, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if emulated:
        (world.work / "emulated").touch()
    monkeypatch.setattr(stack, "WORK", world.work)
    assert stack.scaled(10) == seconds
    assert succeeded(world.lib("scaled 10")) == f"{seconds}\n"
    waited = succeeded(world.lib('wait_for 10 "it" false || echo "$SECONDS"', A_SLEEP_COUNTS_AS="5")).splitlines()
    assert seconds <= int(waited[-1]) < seconds + 5, "a slow machine may add a second"


def test_the_limit_of_a_command_is_longer_on_an_emulated_node(world: World) -> None:
    (world.work / "emulated").touch()
    world.nodes("core-01")
    world.stub("here", "timeout", RECORDER)
    world.plan(Answer("here: timeout --foreground 25 ssh *"))
    succeeded(world.lib("LIMIT=5 on_node core-01 true"))


# --- take_lock --------------------------------------------------------------------------------------------------------


def test_a_free_lock_is_taken_silently_and_released_at_the_end(world: World) -> None:
    for _ in range(2):
        assert succeeded(world.lib('take_lock "$WORK/locks/x" 0; echo mine')) == "mine\n"


def test_a_lock_that_is_not_released_fails_with_how_to_find_its_holder(world: World) -> None:
    with (world.work / "locks/x").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = world.lib('take_lock "$WORK/locks/x" 0; echo mine', NODE="core-01")
    assert done.stdout == "core-01: waiting for the lock .work/dev/locks/x\n"
    assert refused(done) == (
        "core-01: the lock .work/dev/locks/x was not released within 0 s; find its holder: fuser -v .work/dev/locks/x\n"
    )


def test_a_script_waits_for_a_lock_until_its_holder_ends(world: World) -> None:
    succeeded(world.lib("true"))  # installs the tree
    with (world.work / "locks/x").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            ["bash", "-c", library() + 'take_lock "$WORK/locks/x" 30; echo mine'],
            cwd=world.folder,
            env=world.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stdout
        assert waiting.stdout.readline() == "this machine: waiting for the lock .work/dev/locks/x\n"
    output, _ = waiting.communicate(timeout=20)
    assert (waiting.returncode, output) == (0, "mine\n")


# --- update_node ------------------------------------------------------------------------------------------------------


def test_an_update_that_fails_without_a_conflict_is_not_retried(world: World) -> None:
    world.plan(Answer("here: docker node update *", "no such node\n", status=1))
    assert refused(world.lib("update_node core-01 --availability drain")) == "no such node\n"
    assert len(world.calls()) == 1


# --- the stubs themselves ---------------------------------------------------------------------------------------------


def test_an_unplanned_call_fails(world: World) -> None:
    done = world.bash("docker whoami")
    assert (done.returncode, done.stderr) == (97, "unplanned: here: docker whoami\n")
    assert world.calls() == ["here: docker whoami"]

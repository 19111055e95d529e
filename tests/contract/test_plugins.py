"""The bundled plugins beyond the recordings: they reject unknown inputs and leave no process behind.

These tests always run the plugins of this tree, whichever plugins the machine uses.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.contract.plugin import UNKNOWN, Plugin
from tests.contract.replay import NewStage, Stage

PARALLEL = 48
# Generous limits for what takes a second or two.
READY_SECONDS = 60
EXIT_SECONDS = 20

SERVICE = {"name": "web", "taskSpec": {"containerSpec": {"image": "nginx"}}}


@pytest.fixture
def stage(bundled_stage: NewStage, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A stage; its processes are killed after the test."""
    stage = bundled_stage(request.node.name.translate(str.maketrans("[]", "--")))
    yield stage
    for pid in processes(stage):
        os.kill(pid, signal.SIGKILL)


def processes(stage: Stage) -> dict[int, str]:
    """Returns the command lines of a stage's live processes, which its environment identifies, by process id."""
    marker = f"PULUMI_BACKEND_URL=file://{stage.folder}/state\0".encode()
    commands = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (entry / "environ").read_bytes():
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            continue  # it has ended, or belongs to another user
    return commands


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Waits until a condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out after {seconds} s: {what}"
        time.sleep(0.05)


def commands(*texts: str, timeout: str = "5m", **args: Any) -> dict[str, Any]:
    """Returns a program with one Command for each text."""
    return {
        "resources": {
            f"c{i}": {
                "type": "command:local:Command",
                "args": {"create": text, **args},
                "timeouts": {"create": timeout},
            }
            for i, text in enumerate(texts)
        }
    }


def outputs(stage: Stage) -> list[dict[str, Any]]:
    """Returns the outputs of all Commands in the state."""
    return [resource["outputs"] for resource in stage.resources() if resource["type"] == "command:local:Command"]


# Unknown inputs


def refusal(stage: Stage, program: dict[str, Any]) -> str:
    """Previews a program that must be rejected, and returns the errors."""
    outcome = stage.run("preview", program)
    assert outcome.exit != 0, outcome.output
    return "\n".join(outcome.errors)


def test_a_preview_rejects_an_unknown_input(stage: Stage) -> None:
    text = refusal(stage, commands("true", creat="true"))
    assert "unknown input 'creat': the bundled command plugin knows addPreviousOutputInEnv, create," in text


def test_a_preview_rejects_an_unknown_resource_type(stage: Stage) -> None:
    text = refusal(stage, {"resources": {"a": {"type": "command:local:Nonsense", "args": {}}}})
    assert "this plugin does not know the resource type 'command:local:Nonsense'; it has command:local:Command" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"creat": "true"}, "unknown input 'creat': the bundled command plugin knows addPreviousOutputInEnv, create,"),
        ({"assetPaths": ["*"]}, "unknown input 'assetPaths'"),
        ({"create": 1}, "'create' must be a string; got 1"),
        ({"environment": {"A": 1}}, "'environment.A' must be a string; got 1"),
        ({"environment": "A=1"}, "'environment' must be a map of strings; got 'A=1'"),
        ({"interpreter": []}, "'interpreter' is empty"),
        ({"interpreter": ["/bin/sh", 1]}, "'interpreter[1]' must be a string; got 1"),
        ({"triggers": "now"}, "'triggers' must be a list; got 'now'"),
        ({"logging": "loud"}, "'logging' is 'loud': use one of stdout, stderr, stdoutAndStderr, none"),
        ({"addPreviousOutputInEnv": "yes"}, "'addPreviousOutputInEnv' must be a boolean; got 'yes'"),
    ],
)
def test_an_invalid_input_of_a_command_is_rejected(command_plugin: Plugin, args: dict[str, Any], message: str) -> None:
    [reason] = command_plugin.check("command:local:Command", args)
    assert reason.startswith(message)


@pytest.mark.parametrize("token", ["command:remote:Command", "command:local:Nonsense"])
def test_an_unknown_type_of_command_is_rejected(command_plugin: Plugin, token: str) -> None:
    with pytest.raises(grpc.RpcError, match=f"this plugin does not know the resource type '{token}'; it has "):
        command_plugin.check(token, {})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"replicas": 3}, "Unknown input 'replicas': the bundled docker plugin knows convergeConfig,"),
        ({"taskSpec": {"containerSpec": {"image": "a", "privileges": {}}}}, "Unknown input 'privileges': "),
        ({"taskSpec": {"containerSpec": {}}}, "'image' is missing. Examine values at 'a.taskSpec.containerSpec.image'"),
        ({"taskSpec": None}, "'taskSpec' is missing."),
        ({"labels": {"a": "b"}}, "must be a list; got {'a': 'b'}. Examine values at 'a.labels'."),
        ({"labels": [{"label": "a"}]}, "'value' is missing. Examine values at 'a.labels[0].value'."),
        ({"name": 1}, "must be a string; got 1."),
        ({"mode": {"replicated": {"replicas": -1}}}, "'-1' has to be equal or greater than 0."),
        ({"mode": {"replicated": {"replicas": 1.5}}}, "must be a whole number; got 1.5."),
        ({"mode": {"global": True, "replicated": {}}}, "Conflicting configuration arguments."),
        ({"updateConfig": {"maxFailureRatio": "1.5"}}, "'1.5' has to be between 0.0 and 1.0."),
        ({"updateConfig": {"monitor": "-3s"}}, "'-3s' is not a valid duration."),
        ({"rollbackConfig": {"failureAction": "rollback"}}, "'rollback' doesn't match the pattern"),
    ],
)
def test_an_invalid_input_of_a_service_is_rejected(docker_plugin: Plugin, args: dict[str, Any], message: str) -> None:
    [reason] = docker_plugin.check("docker:index/service:Service", SERVICE | args)
    assert reason.startswith(message)


@pytest.mark.parametrize("args", [{}, {"data": "YQ==", "dataRaw": "a"}])
def test_a_config_needs_its_data_in_exactly_one_form(docker_plugin: Plugin, args: dict[str, Any]) -> None:
    [reason] = docker_plugin.check("docker:index/serviceConfig:ServiceConfig", args)
    assert reason.startswith("Set either 'dataRaw' or 'data' (base64).")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "tcp://127.0.0.1:2375"}, "'host' is 'tcp://127.0.0.1:2375': the bundled docker plugin needs"),
        ({}, "'host' is None: the bundled docker plugin needs an address like ssh://swarm-manager"),
        ({"host": "ssh://a", "context": "x"}, "unknown provider setting 'context'"),
        ({"host": "ssh://a", "sshOpts": "-F x"}, "'sshOpts' must be a list of strings; got '-F x'"),
    ],
)
def test_an_invalid_setting_of_the_docker_provider_is_rejected(
    docker_plugin: Plugin, settings: dict[str, Any], message: str
) -> None:
    [reason] = docker_plugin.check_settings(settings)
    assert reason.startswith(message)


def test_unknown_values_are_accepted_everywhere(docker_plugin: Plugin, command_plugin: Plugin) -> None:
    task = {"containerSpec": {"image": UNKNOWN, "env": UNKNOWN, "mounts": [UNKNOWN], "labels": UNKNOWN}}
    service = {"name": "a", "taskSpec": task, "mode": UNKNOWN, "endpointSpec": {"ports": [UNKNOWN]}}
    assert docker_plugin.check("docker:index/service:Service", service) == []
    assert docker_plugin.diff("docker:index/service:Service", SERVICE, service)
    assert docker_plugin.preview("docker:index/service:Service", service)
    command = {"create": UNKNOWN, "environment": {"A": UNKNOWN}, "triggers": [UNKNOWN], "interpreter": UNKNOWN}
    assert command_plugin.check("command:local:Command", command) == []
    assert command_plugin.diff("command:local:Command", {"create": "true"}, command)
    assert docker_plugin.check_settings({"host": UNKNOWN, "sshOpts": UNKNOWN}) == []


# Processes


def test_an_unreachable_host_fails_the_update_but_not_the_preview(stage: Stage) -> None:
    service = {"type": "docker:index/service:Service", "args": SERVICE}
    program = {"providers": {"docker": {"host": "ssh://nowhere.invalid"}}, "resources": {"web": service}}
    assert stage.run("preview", program).exit == 0
    outcome = stage.run("up", program)
    assert outcome.exit != 0
    assert "error during connect: 'ssh ssh://nowhere.invalid' ended with exit status 255" in "\n".join(outcome.errors)


# A child in the Command's process group, and one that `timeout` moves to another group.
CHILDREN = "sleep 601 & timeout 602 sleep 603 & : > $W/ready; wait"


def start_update(stage: Stage, program: dict[str, Any]) -> "subprocess.Popen[str]":
    """Starts an update and returns once its Commands are ready."""
    engine = subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", "contract"],
        cwd=stage.folder,
        env=stage.environment(program),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (stage.scratch / "ready").exists() or engine.poll() is not None, READY_SECONDS, "ready")
    assert engine.poll() is None, engine.communicate()[0]
    return engine


def assert_started(stage: Stage) -> None:
    """Checks that the children run; otherwise their absence later proves nothing."""
    running = "\n".join(processes(stage).values())
    assert all(text in running for text in ("sleep 601", "timeout 602", "sleep 603")), running


def test_no_process_survives_a_killed_engine(stage: Stage) -> None:
    engine = start_update(stage, commands(CHILDREN))
    assert_started(stage)
    engine.kill()
    engine.communicate()
    wait_for(lambda: not processes(stage), EXIT_SECONDS, f"exit of {processes(stage)}")


def test_no_process_survives_a_cancelled_run(stage: Stage) -> None:
    engine = start_update(stage, commands(CHILDREN))
    assert_started(stage)
    engine.send_signal(signal.SIGINT)
    output, _ = engine.communicate(timeout=EXIT_SECONDS)
    assert engine.returncode != 0
    assert "signal: terminated: running" in output
    wait_for(lambda: not processes(stage), EXIT_SECONDS, f"exit of {processes(stage)}")


def test_a_child_that_ignores_sigterm_is_killed(stage: Stage) -> None:
    engine = start_update(stage, commands("trap '' TERM; : > $W/ready; while :; do sleep 1; done"))
    engine.kill()
    engine.communicate()
    wait_for(lambda: not processes(stage), EXIT_SECONDS, f"exit of {processes(stage)}")


def test_a_daemon_that_leaves_its_command_s_session_survives(stage: Stage) -> None:
    daemon = "setsid sh -c ': > $W/up; exec sleep 604' </dev/null >/dev/null 2>&1 &"
    engine = start_update(stage, commands(f"{daemon} until [ -e $W/up ]; do sleep 0.1; done; : > $W/ready; sleep 605"))
    engine.kill()
    engine.communicate()
    wait_for(lambda: "sleep 605" not in processes(stage).values(), EXIT_SECONDS, "exit of the Command")
    wait_for(lambda: list(processes(stage).values()) == ["sleep 604"], EXIT_SECONDS, "only the daemon remaining")


def test_a_command_that_times_out_is_killed_with_its_children(stage: Stage) -> None:
    outcome = stage.run("up", commands("sleep 606 & sleep 607", timeout="1s"))
    assert outcome.errors[0].startswith('signal: killed: running "sleep 606 & sleep 607":')
    assert "(stopped after its timeout of 1 s)" in outcome.errors[0]
    wait_for(lambda: not processes(stage), EXIT_SECONDS, f"exit of {processes(stage)}")


def test_commands_run_as_parallel_as_the_engine_allows(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each waits until all have started; with one slot fewer, they would wait until the timeout.
    wait = f': > "$W/at.$I"; set -- "$W"/at.*; until [ $# -eq {PARALLEL} ]; do sleep 0.2; set -- "$W"/at.*; done'
    program = commands(*[f"I={i}; {wait}; echo $PPID" for i in range(PARALLEL)], timeout="60s")
    monkeypatch.setenv("PULUMI_PARALLEL", str(PARALLEL))
    outcome = stage.run("up", program)
    assert outcome.exit == 0, outcome.output
    parents = {output["stdout"] for output in outputs(stage)}
    assert len(parents) == 1, "all Commands of a run share one parent"


# Output


def shown(stage: Stage) -> list[str]:
    """Returns the messages shown next to resources in the last operation."""
    events = [json.loads(line) for line in (stage.folder / "events").read_text().splitlines()]
    diagnostics = [event["diagnosticEvent"] for event in events if "diagnosticEvent" in event]
    return [re.sub("<{%.*?%}>", "", event["message"]).strip() for event in diagnostics if event.get("urn")]


def test_long_output_is_kept_complete_and_shown_in_part(stage: Stage) -> None:
    outcome = stage.run("up", commands("head -c 300000 /dev/zero | tr '\\0' x; echo; seq 100000"))
    assert outcome.exit == 0, outcome.output
    [output] = outputs(stage)
    assert output["stdout"] == "x" * 300000 + "\n" + "\n".join(str(i) for i in range(1, 100001))
    lines = shown(stage)
    assert 1 < len(lines) < 5000, "each line costs the engine half a millisecond"
    assert max(map(len, lines)) == 64 * 1024
    assert re.fullmatch(r"\(\d+ more lines were not shown\)", lines[-1])


def test_logging_selects_the_streams_that_are_shown(stage: Stage) -> None:
    texts = {"stdoutAndStderr": "both", "stdout": "first", "stderr": "second", "none": "silent"}
    program = {
        "resources": {
            logging: {
                "type": "command:local:Command",
                "args": {"create": f"echo {text}-out; echo {text}-err >&2", "logging": logging},
            }
            for logging, text in texts.items()
        }
    }
    assert stage.run("up", program).exit == 0
    lines = {line for line in shown(stage) if line.endswith(("-out", "-err"))}
    assert lines == {"both-out", "both-err", "first-out", "second-err"}


def test_a_background_child_that_keeps_the_output_open_does_not_block(stage: Stage) -> None:
    outcome = stage.run("up", commands("sleep 608 & echo done", timeout="60s"))
    assert outcome.exit == 0, outcome.output
    assert [output["stdout"] for output in outputs(stage)] == ["done"]
    assert "sleep 608" in processes(stage).values(), "the child keeps running"


def test_a_secret_stays_secret_after_an_update(stage: Stage) -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "hunter2"}
    for text in ("true", "true # again"):
        assert stage.run("up", commands(text, environment={"S": secret})).exit == 0
    [resource] = [resource for resource in stage.resources() if resource["type"] == "command:local:Command"]
    assert "hunter2" not in json.dumps(resource)
    assert "ciphertext" in resource["outputs"]["environment"]["S"]


# The language host


def test_a_failing_program_shows_only_its_own_part_of_the_traceback(stage: Stage) -> None:
    outcome = stage.run("preview", {"fail": "no luck"})
    assert outcome.exit != 0
    lines = outcome.errors[0].splitlines()
    assert lines[:2] == ["Program failed with an unhandled exception:", "Traceback (most recent call last):"]
    assert f'File "{stage.folder}/__main__.py"' in lines[2]
    assert lines[-1] == "ValueError: no luck"
    assert "runpy" not in outcome.errors[0]


def test_the_program_knows_its_stack_and_configuration(stage: Stage) -> None:
    for arguments in (("plain", "1"), ("--secret", "hidden", "2")):
        stage.pulumi("config", "set", *arguments).check_returncode()
    assert stage.run("up", {"show": True}).exit == 0
    shown = stage.pulumi("stack", "output", "--json", "--show-secrets")
    assert json.loads(shown.stdout) == {
        "organization": "organization",
        "project": "contract",
        "stack": "contract",
        "dry run": False,
        "plain": "1",
        "secret": "2",
        "is secret": True,
    }
    assert json.loads(stage.pulumi("stack", "output", "--json").stdout)["secret"] == "[secret]"


def test_the_program_runs_in_the_project_s_virtual_environment(stage: Stage) -> None:
    about = json.loads(stage.pulumi("about", "--json").stdout)
    assert about["runtime"]["executable"] == f"{sys.prefix}/bin/python"

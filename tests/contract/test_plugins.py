"""What the bundled plugins do beyond the recordings: they refuse what they do not know, and leave no process behind.

These run the plugins of this tree, whatever plugins the rest of the machine uses.
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

SIDE_BY_SIDE = 48
# Bounds for what takes a second or two; a test that needs them fails.
READY_SECONDS = 60
GONE_SECONDS = 20

SERVICE = {"name": "web", "taskSpec": {"containerSpec": {"image": "nginx"}}}


@pytest.fixture
def stage(bundled_stage: NewStage, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A stage whose processes are gone after the test, whatever it did."""
    stage = bundled_stage(request.node.name.translate(str.maketrans("[]", "--")))
    yield stage
    for pid in processes(stage):
        os.kill(pid, signal.SIGKILL)


def processes(stage: Stage) -> dict[int, str]:
    """Returns the living processes that were started for a stage, told by their environment, and their commands."""
    mark = f"PULUMI_BACKEND_URL=file://{stage.folder}/state\0".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            continue  # it ended, or is not ours
    return found


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Waits until a condition holds; fails after a while."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
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


# What is not known


def refusal(stage: Stage, program: dict[str, Any]) -> str:
    """Previews a program that must be refused, and returns the errors."""
    outcome = stage.run("preview", program)
    assert outcome.exit != 0, outcome.output
    return "\n".join(outcome.errors)


def test_an_unknown_input_is_refused_in_a_preview(stage: Stage) -> None:
    text = refusal(stage, commands("true", creat="true"))
    assert "unknown input 'creat': the bundled command plugin knows addPreviousOutputInEnv, create," in text


def test_an_unknown_resource_type_is_refused_in_a_preview(stage: Stage) -> None:
    text = refusal(stage, {"resources": {"a": {"type": "command:local:Nonsense", "args": {}}}})
    assert "this plugin does not know the resource type 'command:local:Nonsense'; it has command:local:Command" in text


@pytest.mark.parametrize(
    ("args", "sentence"),
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
def test_a_wrong_input_of_a_command_is_refused(command_plugin: Plugin, args: dict[str, Any], sentence: str) -> None:
    [reason] = command_plugin.check("command:local:Command", args)
    assert reason.startswith(sentence)


@pytest.mark.parametrize("token", ["command:remote:Command", "command:local:Nonsense"])
def test_an_unknown_type_of_command_is_refused(command_plugin: Plugin, token: str) -> None:
    with pytest.raises(grpc.RpcError, match=f"this plugin does not know the resource type '{token}'; it has "):
        command_plugin.check(token, {})


@pytest.mark.parametrize(
    ("args", "sentence"),
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
def test_a_wrong_input_of_a_service_is_refused(docker_plugin: Plugin, args: dict[str, Any], sentence: str) -> None:
    [reason] = docker_plugin.check("docker:index/service:Service", SERVICE | args)
    assert reason.startswith(sentence)


@pytest.mark.parametrize("args", [{}, {"data": "YQ==", "dataRaw": "a"}])
def test_a_config_needs_its_data_in_one_form(docker_plugin: Plugin, args: dict[str, Any]) -> None:
    [reason] = docker_plugin.check("docker:index/serviceConfig:ServiceConfig", args)
    assert reason.startswith("Set either 'dataRaw' or 'data' (base64).")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"host": "tcp://127.0.0.1:2375"}, "'host' is 'tcp://127.0.0.1:2375': the bundled docker plugin needs"),
        ({}, "'host' is None: the bundled docker plugin needs an address like ssh://swarm-manager"),
        ({"host": "ssh://a", "context": "x"}, "unknown provider setting 'context'"),
        ({"host": "ssh://a", "sshOpts": "-F x"}, "'sshOpts' must be a list of strings; got '-F x'"),
    ],
)
def test_a_wrong_setting_of_the_docker_provider_is_refused(
    docker_plugin: Plugin, settings: dict[str, Any], sentence: str
) -> None:
    [reason] = docker_plugin.check_settings(settings)
    assert reason.startswith(sentence)


def test_what_is_not_known_yet_is_accepted_everywhere(docker_plugin: Plugin, command_plugin: Plugin) -> None:
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


def test_a_host_out_of_reach_fails_the_update_but_not_the_preview(stage: Stage) -> None:
    service = {"type": "docker:index/service:Service", "args": SERVICE}
    program = {"providers": {"docker": {"host": "ssh://nowhere.invalid"}}, "resources": {"web": service}}
    assert stage.run("preview", program).exit == 0
    outcome = stage.run("up", program)
    assert outcome.exit != 0
    assert "error during connect: 'ssh ssh://nowhere.invalid' ended with exit status 255" in "\n".join(outcome.errors)


# A child in the Command's own process group, and one that `timeout` puts into another.
CHILDREN = "sleep 601 & timeout 602 sleep 603 & : > $W/ready; wait"


def begun(stage: Stage, program: dict[str, Any]) -> "subprocess.Popen[str]":
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
    """Says that the Commands' children run, so that their end means something."""
    running = "\n".join(processes(stage).values())
    assert all(text in running for text in ("sleep 601", "timeout 602", "sleep 603")), running


def test_nothing_is_left_when_the_engine_is_killed(stage: Stage) -> None:
    engine = begun(stage, commands(CHILDREN))
    assert_started(stage)
    engine.kill()
    engine.communicate()
    wait_for(lambda: not processes(stage), GONE_SECONDS, f"nothing left of {processes(stage)}")


def test_nothing_is_left_when_the_run_is_cancelled(stage: Stage) -> None:
    engine = begun(stage, commands(CHILDREN))
    assert_started(stage)
    engine.send_signal(signal.SIGINT)
    output, _ = engine.communicate(timeout=GONE_SECONDS)
    assert engine.returncode != 0
    assert "signal: terminated: running" in output
    wait_for(lambda: not processes(stage), GONE_SECONDS, f"nothing left of {processes(stage)}")


def test_a_child_that_ignores_the_request_to_end_is_killed(stage: Stage) -> None:
    engine = begun(stage, commands("trap '' TERM; : > $W/ready; while :; do sleep 1; done"))
    engine.kill()
    engine.communicate()
    wait_for(lambda: not processes(stage), GONE_SECONDS, f"nothing left of {processes(stage)}")


def test_a_daemon_that_left_its_command_stays(stage: Stage) -> None:
    daemon = "setsid sh -c ': > $W/up; exec sleep 604' </dev/null >/dev/null 2>&1 &"
    engine = begun(stage, commands(f"{daemon} until [ -e $W/up ]; do sleep 0.1; done; : > $W/ready; sleep 605"))
    engine.kill()
    engine.communicate()
    wait_for(lambda: "sleep 605" not in processes(stage).values(), GONE_SECONDS, "the Command gone")
    wait_for(lambda: list(processes(stage).values()) == ["sleep 604"], GONE_SECONDS, "only the daemon left")


def test_a_command_that_is_late_is_killed_with_its_children(stage: Stage) -> None:
    outcome = stage.run("up", commands("sleep 606 & sleep 607", timeout="1s"))
    assert outcome.errors[0].startswith('signal: killed: running "sleep 606 & sleep 607":')
    assert "(stopped after its timeout of 1 s)" in outcome.errors[0]
    wait_for(lambda: not processes(stage), GONE_SECONDS, f"nothing left of {processes(stage)}")


def test_as_many_commands_run_side_by_side_as_the_engine_allows(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each waits until all of them have begun: with one place less, they would wait in vain.
    meet = f': > "$W/at.$I"; set -- "$W"/at.*; until [ $# -eq {SIDE_BY_SIDE} ]; do sleep 0.2; set -- "$W"/at.*; done'
    program = commands(*[f"I={i}; {meet}; echo $PPID" for i in range(SIDE_BY_SIDE)], timeout="60s")
    monkeypatch.setenv("PULUMI_PARALLEL", str(SIDE_BY_SIDE))
    outcome = stage.run("up", program)
    assert outcome.exit == 0, outcome.output
    parents = {output["stdout"] for output in outputs(stage)}
    assert len(parents) == 1, "the Commands of one run have one parent"


# Output


def shown(stage: Stage) -> list[str]:
    """Returns what was shown beside the resources of the last operation."""
    events = [json.loads(line) for line in (stage.folder / "events").read_text().splitlines()]
    told = [event["diagnosticEvent"] for event in events if "diagnosticEvent" in event]
    return [re.sub("<{%.*?%}>", "", event["message"]).strip() for event in told if event.get("urn")]


def test_long_and_many_lines_arrive_as_a_whole(stage: Stage) -> None:
    outcome = stage.run("up", commands("head -c 300000 /dev/zero | tr '\\0' x; echo; seq 100000"))
    assert outcome.exit == 0, outcome.output
    [output] = outputs(stage)
    assert output["stdout"] == "x" * 300000 + "\n" + "\n".join(str(i) for i in range(1, 100001))
    lines = shown(stage)
    assert 1 < len(lines) < 5000, "a line costs the engine half a millisecond"
    assert max(map(len, lines)) == 64 * 1024
    assert re.fullmatch(r"\(\d+ more lines were too quick to show\)", lines[-1])


def test_output_is_shown_while_a_command_runs_unless_logging_says_otherwise(stage: Stage) -> None:
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


def test_a_child_in_the_background_that_keeps_the_output_open_is_not_waited_for(stage: Stage) -> None:
    outcome = stage.run("up", commands("sleep 608 & echo done", timeout="60s"))
    assert outcome.exit == 0, outcome.output
    assert [output["stdout"] for output in outputs(stage)] == ["done"]
    assert "sleep 608" in processes(stage).values(), "it is left alone"


def test_a_secret_stays_secret_through_an_update(stage: Stage) -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "hunter2"}
    for text in ("true", "true # again"):
        assert stage.run("up", commands(text, environment={"S": secret})).exit == 0
    [resource] = [resource for resource in stage.resources() if resource["type"] == "command:local:Command"]
    assert "hunter2" not in json.dumps(resource)
    assert "ciphertext" in resource["outputs"]["environment"]["S"]


# The language host


def test_a_failing_program_shows_its_own_part_of_the_traceback(stage: Stage) -> None:
    outcome = stage.run("preview", {"fail": "no luck"})
    assert outcome.exit != 0
    lines = outcome.errors[0].splitlines()
    assert lines[:2] == ["Program failed with an unhandled exception:", "Traceback (most recent call last):"]
    assert f'File "{stage.folder}/__main__.py"' in lines[2]
    assert lines[-1] == "ValueError: no luck"
    assert "runpy" not in outcome.errors[0]


def test_the_program_is_told_of_its_run(stage: Stage) -> None:
    for arguments in (("plain", "1"), ("--secret", "hidden", "2")):
        stage.pulumi("config", "set", *arguments).check_returncode()
    assert stage.run("up", {"show": True}).exit == 0
    answer = stage.pulumi("stack", "output", "--json", "--show-secrets")
    assert json.loads(answer.stdout) == {
        "organization": "organization",
        "project": "contract",
        "stack": "contract",
        "dry run": False,
        "plain": "1",
        "secret": "2",
        "is secret": True,
    }
    assert json.loads(stage.pulumi("stack", "output", "--json").stdout)["secret"] == "[secret]"


def test_the_program_runs_in_the_environment_that_the_project_names(stage: Stage) -> None:
    about = json.loads(stage.pulumi("about", "--json").stdout)
    assert about["runtime"]["executable"] == f"{sys.prefix}/bin/python"

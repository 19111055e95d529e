"""Replays what the official plugins did, against the plugins that `pulumi` finds now.

`command.json` and `docker.json` are recordings: programs, operations, and what the engine planned, did and refused.
Steps are compared as a set, for the engine's order of independent resources varies; of errors the first line of the
first one, for the rest holds ids. `$W` in a recording is a scratch folder.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STACK = "contract"
OPERATION_SECONDS = 300

# What the engine's events are called here, and what operations they matter for.
EVENTS = {"resourcePreEvent": "planned", "resOutputsEvent": "done", "resOpFailedEvent": "failed"}
WATCHED_TYPES = re.compile("Command|docker:index")
COLOURS = re.compile(r"\x1b\[[0-9;]*m|<\{%[^%]*%\}>")
# Set by whoever runs the tests, for stacks of their own.
OTHERS_SETTINGS = ("PULUMI_STACK", "PULUMI_CONFIG_PASSPHRASE_FILE")

Step = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What an operation did."""

    exit: int
    steps: list[Step]
    errors: list[str]
    output: str = field(default="", compare=False)

    @classmethod
    def recorded(cls, data: Mapping[str, Any]) -> "Outcome":
        """Reads a recorded one."""
        return cls(data["exit"], data["steps"], data.get("errors", []))

    def differences(self, other: "Outcome") -> Iterator[str]:
        """Yields what the other one did otherwise."""
        if self.exit != other.exit:
            yield f"exit status {other.exit} instead of {self.exit}: {other.errors}\n{other.output}"
        theirs = [written(step) for step in other.steps]
        ours = [written(step) for step in self.steps]
        yield from (f"missing {step}" for step in ours if step not in theirs)
        yield from (f"extra {step}" for step in theirs if step not in ours)
        if first_line(self.errors) != first_line(other.errors):
            yield f"the first error is {other.errors[:1]} instead of {self.errors[:1]}"


@dataclass(frozen=True)
class Stage:
    """A project in a folder of its own, with its own state, whose program is given anew for each operation."""

    folder: Path
    program: str
    home: Path | None = None  # PULUMI_HOME, if it is not the caller's

    @property
    def scratch(self) -> Path:
        """The folder that recordings call `$W`."""
        return self.folder / "w"

    def prepare(self) -> "Stage":
        """Writes the project and makes its stack."""
        shutil.copytree(HERE / "programs" / self.program, self.folder)
        self.scratch.mkdir()
        (self.folder / "state").mkdir()
        runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
        (self.folder / "Pulumi.yaml").write_text(json.dumps({"name": "contract", "runtime": runtime}))
        self.pulumi("stack", "init", "--no-select").check_returncode()
        return self

    def copy(self, folder: Path) -> "Stage":
        """Returns the same stage in another folder, which is quicker than a new one."""
        shutil.copytree(self.folder, folder)
        return Stage(folder, self.program, self.home)

    def environment(self, program: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Returns the variables for `pulumi` and its program."""
        settings = {
            "PULUMI_BACKEND_URL": f"file://{self.folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_DEBUG_COMMANDS": "true",  # for --event-log
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PROGRAM": json.dumps(program or {}).replace("$W", str(self.scratch)),
        }
        if self.home:
            settings["PULUMI_HOME"] = str(self.home)
        return {key: value for key, value in os.environ.items() if key not in OTHERS_SETTINGS} | settings

    def pulumi(self, *arguments: str, program: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        return subprocess.run(
            ["pulumi", *arguments, "--stack", STACK],
            cwd=self.folder,
            env=self.environment(program),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=OPERATION_SECONDS,
            check=False,
        )

    def run(self, operation: str, program: Mapping[str, Any] | None = None) -> Outcome:
        """Runs an operation with a program and returns what it did."""
        log = self.folder / "events"
        log.unlink(missing_ok=True)
        flags = [] if operation == "preview" else ["--yes", "--skip-preview"]
        done = self.pulumi(
            operation, *flags, "--event-log", str(log), "--suppress-outputs", "--non-interactive", program=program
        )
        events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        steps = [step for event in events for step in self._steps(event, operation)]
        errors = [
            self._text(event["diagnosticEvent"]["message"]).strip()
            for event in events
            if event.get("diagnosticEvent", {}).get("severity") == "error"
        ]
        return Outcome(done.returncode, steps, errors, done.stdout + done.stderr)

    def resources(self) -> list[dict[str, Any]]:
        """Returns the resources in the state."""
        exported = self.pulumi("stack", "export")
        exported.check_returncode()
        resources: list[dict[str, Any]] = json.loads(exported.stdout)["deployment"].get("resources", [])
        return resources

    def _steps(self, event: Mapping[str, Any], operation: str) -> Iterator[Step]:
        for kind, word in EVENTS.items():
            what = event.get(kind, {}).get("metadata")
            wanted = word == "failed" or (word == "planned") == (operation == "preview")
            if not what or not wanted or not WATCHED_TYPES.search(what["type"]):
                continue
            step: Step = {"event": word, "op": what["op"], "name": what["urn"].split("::")[-1]}
            if what.get("detailedDiff"):
                step["diff"] = {path: change.get("diffKind") for path, change in what["detailedDiff"].items()}
            if what.get("diffs"):
                step["changed"] = sorted(what["diffs"])
            outputs = (what.get("new") or {}).get("outputs") or {}
            if "Command" in what["type"] and what["op"] not in ("delete", "delete-replaced", "same"):
                step |= {key: self._text(str(outputs[key])) for key in ("stdout", "stderr") if key in outputs}
            yield step

    def _text(self, text: str) -> str:
        return COLOURS.sub("", text).replace(str(self.scratch), "$W")


# Makes a stage, by a name that no other test uses.
NewStage = Callable[[str], Stage]


def written(step: Step) -> str:
    """Returns a step as a text that is the same for equal steps."""
    return json.dumps(step, sort_keys=True)


def first_line(errors: list[str]) -> str:
    """Returns the first line of the first error."""
    return errors[0].splitlines()[0] if errors else ""


def recording(name: str) -> dict[str, Any]:
    """Loads a recording."""
    data: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return data


def replay_command(stage: Stage, entries: list[dict[str, Any]]) -> list[str]:
    """Plays one case of `command.json` and returns every difference."""
    found: list[str] = []
    for i, entry in enumerate(entries):
        if "touch" in entry:
            (stage.scratch / entry["touch"]).touch()
        elif "file" in entry:
            path = stage.scratch / entry["file"]
            content = path.read_text() if path.exists() else None
            if content != entry["content"]:
                found.append(f"step {i}: file {entry['file']} is {content!r} instead of {entry['content']!r}")
        elif "state" in entry:
            state = secrecy(stage)
            if state != entry["state"]:
                found.append(f"step {i}: {state} instead of {entry['state']}")
        else:
            outcome = stage.run(entry["op"], entry.get("program"))
            found += [f"step {i}, {entry['op']}: {text}" for text in Outcome.recorded(entry).differences(outcome)]
    return found


def secrecy(stage: Stage) -> dict[str, bool]:
    """Says what of a single Command is encrypted in the state."""
    [command] = [resource for resource in stage.resources() if "Command" in resource["type"]]
    return {
        "environment_is_ciphertext": "ciphertext" in json.dumps(command["inputs"].get("environment")),
        "stdout_is_ciphertext": "ciphertext" in json.dumps(command["outputs"].get("stdout")),
    }


def docker_program(change: str | None, ssh_config: str) -> dict[str, Any]:
    """Returns the recorded base program with one of its changes."""
    data = recording("docker")
    program: dict[str, Any] = copy.deepcopy(data["base"])
    program |= {"host": "ssh://swarm-manager", "ssh_opts": ["-F", ssh_config]}
    resources = program["resources"]
    if change == "config_data":
        resources["conf"]["args"]["data_raw"] = "two"
    elif change == "image_that_is_not_there":
        resources["web"]["args"]["task_spec"]["container_spec"]["image"] = "localhost/none:bad"
    elif change is not None and data["changes"][change]["args"] is None:
        del resources["web"]
    elif change is not None:
        resources["web"]["args"] = data["changes"][change]["args"]
    return program


def comparable(outcome: Outcome) -> Outcome:
    """Leaves out what the recordings of docker do not tell reliably: what stays, and `sysctl`."""
    steps = []
    for step in outcome.steps:
        if step["op"] != "same":
            changes = {path: kind for path, kind in step.get("diff", {}).items() if not path.endswith(".sysctl")}
            steps.append(step | ({"diff": changes} if "diff" in step else {}))
    return Outcome(outcome.exit, steps, outcome.errors, outcome.output)

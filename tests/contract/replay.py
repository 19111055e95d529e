"""Replays recordings of the official plugins against the plugins that `pulumi` finds now.

`command.json` and `docker.json` are recordings: programs, operations, and what the engine planned, did and rejected.
Steps are compared as a set, since the engine's order of independent resources varies; of the errors, only the first
line of the first one, since the rest contains ids. `$W` in a recording is a scratch folder.
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

# The names of the engine's events in a recording.
EVENTS = {"resourcePreEvent": "planned", "resOutputsEvent": "done", "resOpFailedEvent": "failed"}
WATCHED_TYPES = re.compile("Command|docker:index")
COLOURS = re.compile(r"\x1b\[[0-9;]*m|<\{%[^%]*%\}>")
# The caller may have set these for other stacks.
CALLERS_SETTINGS = ("PULUMI_STACK", "PULUMI_CONFIG_PASSPHRASE_FILE")

Step = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The result of an operation."""

    exit: int
    steps: list[Step]
    errors: list[str]
    output: str = field(default="", compare=False)

    @classmethod
    def recorded(cls, data: Mapping[str, Any]) -> "Outcome":
        """Reads a recorded outcome."""
        return cls(data["exit"], data["steps"], data.get("errors", []))

    def differences(self, other: "Outcome") -> Iterator[str]:
        """Yields the differences of another outcome from this one."""
        if self.exit != other.exit:
            yield f"exit status {other.exit} instead of {self.exit}: {other.errors}\n{other.output}"
        theirs = [canonical(step) for step in other.steps]
        ours = [canonical(step) for step in self.steps]
        yield from (f"missing {step}" for step in ours if step not in theirs)
        yield from (f"extra {step}" for step in theirs if step not in ours)
        if first_line(self.errors) != first_line(other.errors):
            yield f"the first error is {other.errors[:1]} instead of {self.errors[:1]}"


@dataclass(frozen=True)
class Stage:
    """A project with its own folder and state; each operation gets its program as an argument."""

    folder: Path
    program: str
    home: Path | None = None  # PULUMI_HOME, if not the caller's

    @property
    def scratch(self) -> Path:
        """The folder called `$W` in recordings."""
        return self.folder / "w"

    def prepare(self) -> "Stage":
        """Writes the project and creates its stack."""
        shutil.copytree(HERE / "programs" / self.program, self.folder)
        self.scratch.mkdir()
        (self.folder / "state").mkdir()
        runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
        (self.folder / "Pulumi.yaml").write_text(json.dumps({"name": "contract", "runtime": runtime}))
        self.pulumi("stack", "init", "--no-select").check_returncode()
        return self

    def copy(self, folder: Path) -> "Stage":
        """Copies the stage to another folder, which is faster than preparing a new one."""
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
        return {key: value for key, value in os.environ.items() if key not in CALLERS_SETTINGS} | settings

    def pulumi(self, *arguments: str, program: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command and waits for it."""
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
        """Runs an operation with a program and returns its outcome."""
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
        for kind, name in EVENTS.items():
            metadata = event.get(kind, {}).get("metadata")
            relevant = name == "failed" or (name == "planned") == (operation == "preview")
            if not metadata or not relevant or not WATCHED_TYPES.search(metadata["type"]):
                continue
            step: Step = {"event": name, "op": metadata["op"], "name": metadata["urn"].split("::")[-1]}
            if metadata.get("detailedDiff"):
                step["diff"] = {path: change.get("diffKind") for path, change in metadata["detailedDiff"].items()}
            if metadata.get("diffs"):
                step["changed"] = sorted(metadata["diffs"])
            outputs = (metadata.get("new") or {}).get("outputs") or {}
            if "Command" in metadata["type"] and metadata["op"] not in ("delete", "delete-replaced", "same"):
                step |= {key: self._text(str(outputs[key])) for key in ("stdout", "stderr") if key in outputs}
            yield step

    def _text(self, text: str) -> str:
        return COLOURS.sub("", text).replace(str(self.scratch), "$W")


# Creates a stage, given a unique name.
NewStage = Callable[[str], Stage]


def canonical(step: Step) -> str:
    """Serializes a step; equal steps give equal text."""
    return json.dumps(step, sort_keys=True)


def first_line(errors: list[str]) -> str:
    """Returns the first line of the first error."""
    return errors[0].splitlines()[0] if errors else ""


def recording(name: str) -> dict[str, Any]:
    """Loads a recording."""
    data: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return data


def replay_command(stage: Stage, entries: list[dict[str, Any]]) -> list[str]:
    """Replays one case of `command.json` and returns every difference."""
    differences: list[str] = []
    for i, entry in enumerate(entries):
        if "touch" in entry:
            (stage.scratch / entry["touch"]).touch()
        elif "file" in entry:
            path = stage.scratch / entry["file"]
            content = path.read_text() if path.exists() else None
            if content != entry["content"]:
                differences.append(f"step {i}: file {entry['file']} is {content!r} instead of {entry['content']!r}")
        elif "state" in entry:
            state = secrecy(stage)
            if state != entry["state"]:
                differences.append(f"step {i}: {state} instead of {entry['state']}")
        else:
            outcome = stage.run(entry["op"], entry.get("program"))
            differences += [f"step {i}, {entry['op']}: {text}" for text in Outcome.recorded(entry).differences(outcome)]
    return differences


def secrecy(stage: Stage) -> dict[str, bool]:
    """Returns which parts of the only Command are encrypted in the state."""
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
    convergence = resources["web"]["args"].get("converge_config", {}) if "web" in resources else {}
    if convergence.get("timeout") == "30s":  # a busy machine may need longer than the recording allows
        convergence["timeout"] = "2m"
    return program


def comparable(outcome: Outcome) -> Outcome:
    """Drops what docker recordings do not cover reliably: unchanged resources and `sysctl`."""
    steps = []
    for step in outcome.steps:
        if step["op"] != "same":
            changes = {path: kind for path, kind in step.get("diff", {}).items() if not path.endswith(".sysctl")}
            steps.append(step | ({"diff": changes} if "diff" in step else {}))
    return Outcome(outcome.exit, steps, outcome.errors, outcome.output)

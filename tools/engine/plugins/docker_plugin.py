"""The `docker` plugin: swarm services and configs, compatible with the official version 5.2.0, over `ssh://` only.

It connects only for a real create, read, update or delete, so previews are correct even with every host off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import grpc
from pulumi.runtime.proto import provider_pb2_grpc
from typing_extensions import override

from docker_api import Connection, Daemon, NotFoundError
from docker_schema import CONFIG, SERVICE, UNITS, Block, Problem, nanoseconds, sentence
from provider import (
    UNKNOWN,
    Call,
    Difference,
    Engine,
    Kind,
    PartialStateError,
    PluginError,
    Processes,
    Properties,
    ReadResult,
    ResourceProvider,
    ResourceType,
    serve,
)

VERSION = "5.2.0"
SETTINGS = {"host", "sshOpts", "version", "pluginDownloadURL"}
SYSCTL = ("taskSpec", "containerSpec", "sysctl")
FAILED_UPDATES = {
    "paused": "service update paused",
    "rollback_paused": "service rollback paused",
    "rollback_completed": "service rollback completed",
}
ENDED_TASKS = {"complete", "shutdown", "failed", "rejected", "remove", "orphaned"}

POLL_SECONDS = 0.2
DELETE_SECONDS = 5.0
UPDATE_ATTEMPTS = 3


class DockerType(ResourceType):
    """Base of services and configs: a table of inputs, and a generated name by default."""

    def __init__(self, table: Block, provider: DockerProvider) -> None:
        self.table = table
        self.provider = provider

    @override
    def check(self, name: str, inputs: Properties, olds: Properties, seed: bytes) -> tuple[Properties, list[str]]:
        problems = [sentence(name, problem) for problem in (*self.table.problems(inputs, ()), *self.rules(inputs))]
        if inputs.get("name") is not None:
            return inputs | {"__defaults": []}, problems
        # Kept for the resource's lifetime; for a replacement, the engine passes no old inputs.
        generated = olds.get("name") if "name" in (olds.get("__defaults") or []) else None
        return inputs | {"name": generated or f"{name}-{random_hex(seed)}", "__defaults": ["name"]}, problems

    def rules(self, inputs: Properties) -> Iterator[Problem]:
        """Yields the problems that involve several properties."""
        yield from ()

    @override
    def difference(self, olds: Properties, inputs: Properties) -> Difference:
        changes = list(self.table.changes(olds, self.table.plan(inputs, olds), ()))
        # A fixed name is free for the replacement only once the old resource is gone.
        named = "name" not in (inputs.get("__defaults") or [])
        return Difference(
            {path: kind for path, kind, _ in changes},
            frozenset(path for path, _, replaces in changes if replaces),
            named,
        )

    @override
    def preview(self, name: str, olds: Properties, inputs: Properties) -> tuple[str, Properties]:
        return "", self.table.plan(inputs, olds)


class Service(DockerType):
    """`docker:index/service:Service`."""

    @override
    def rules(self, inputs: Properties) -> Iterator[Problem]:
        """A global service has no replica count and no convergence to wait for."""
        mode = inputs.get("mode")
        if not isinstance(mode, dict) or mode.get("global") is not True:
            return
        conflict = "Conflicting configuration arguments."
        if inputs.get("convergeConfig") is not None:
            yield ("mode", "global"), f'{conflict} "mode.0.global": conflicts with converge_config.'
            yield ("convergeConfig",), f'{conflict} "converge_config": conflicts with mode.0.global.'
        if mode.get("replicated") is not None:
            yield ("mode", "replicated"), f'{conflict} "mode.0.replicated": conflicts with mode.0.global.'

    @override
    def difference(self, olds: Properties, inputs: Properties) -> Difference:
        """Compares by the table; an empty `sysctl`, which Docker drops, shows only alongside other changes."""
        difference = super().difference(olds, inputs)
        if difference.changes and container(inputs).get("sysctl") == {} and "sysctl" not in container(olds):
            difference.changes[SYSCTL] = Kind.ADD
        return difference

    @override
    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Creates the service and, if configured, waits for convergence; removes the service if that fails."""
        planned = SERVICE.plan(inputs, {})
        with self.provider.daemon().connect(call) as docker:
            identity = docker.send("POST", "/services/create", service_spec(planned))["ID"]
            # Docker drops an empty map, and so does the state.
            if container(planned).get("sysctl") == {}:
                del container(planned)["sysctl"]
            try:
                converge(docker, call, identity, planned)
            except NotConvergedError:
                remove_service(docker, call, identity, planned)
                raise
            except PluginError as error:
                # The service exists: unrecorded, it would block the next attempt.
                raise PartialStateError(str(error), identity, planned) from error
        return identity, planned

    @override
    def update(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> Properties:
        """Updates the service and, if configured, waits until all tasks are up to date."""
        planned = SERVICE.plan(inputs, olds)
        with self.provider.daemon().connect(call) as docker:
            send_update(docker, identity, service_spec(planned))
            try:
                converge(docker, call, identity, planned)
            except PluginError as error:
                call.engine.error(
                    call.urn, f"sdk-v2/provider2.go:571: sdk.helper_schema: {error}: provider=docker@{VERSION}"
                )
                reason = f"updating {call.urn}: 1 error occurred:\n\t* {error}\n\n"
                raise PartialStateError(reason, identity, planned) from error
        return planned

    @override
    def read(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> ReadResult:
        """Looks the service up by its id, then by its name."""
        with self.provider.daemon().connect(call) as docker:
            for reference in filter(None, (identity, olds.get("name"))):
                try:
                    service = docker.get(f"/services/{reference}")
                except NotFoundError:
                    continue
                seen = SERVICE.from_api(service["Spec"])
                return service["ID"], SERVICE.refreshed(olds or seen, seen), SERVICE.refreshed(inputs or seen, seen)
        return "", {}, {}

    @override
    def delete(self, call: Call, identity: str, olds: Properties) -> None:
        """Removes the service and waits until its containers are gone."""
        with self.provider.daemon().connect(call) as docker:
            remove_service(docker, call, identity, olds)


class ServiceConfig(DockerType):
    """`docker:index/serviceConfig:ServiceConfig`. Configs are immutable: every change replaces them."""

    @override
    def rules(self, inputs: Properties) -> Iterator[Problem]:
        """Requires the data in exactly one of two forms."""
        if (inputs.get("data") is None) == (inputs.get("dataRaw") is None):
            yield ("dataRaw",), "Set either 'dataRaw' or 'data' (base64)."

    @override
    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        planned = CONFIG.plan(inputs, {})
        data = planned.get("data") or base64.b64encode(planned["dataRaw"].encode()).decode()
        with self.provider.daemon().connect(call) as docker:
            return docker.send("POST", "/configs/create", CONFIG.to_api(planned) | {"Data": data})["ID"], planned

    @override
    def update(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> Properties:
        """Runs only after a failed create."""
        return CONFIG.plan(inputs, olds)

    @override
    def read(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> ReadResult:
        with self.provider.daemon().connect(call) as docker:
            try:
                seen = CONFIG.from_api(docker.get(f"/configs/{identity}")["Spec"])
            except NotFoundError:
                return "", {}, {}
        return identity, CONFIG.refreshed(olds or seen, seen), CONFIG.refreshed(inputs or seen, seen)

    @override
    def delete(self, call: Call, identity: str, olds: Properties) -> None:
        with self.provider.daemon().connect(call) as docker:
            try:
                docker.send("DELETE", f"/configs/{identity}")
            except NotFoundError:
                return


class NotConvergedError(PluginError):
    """A service did not converge in time."""


def container(properties: Properties) -> Properties:
    """Returns a service's container spec, empty if it is not known."""
    task = properties.get("taskSpec")
    spec = task.get("containerSpec") if isinstance(task, dict) else None
    return spec if isinstance(spec, dict) else {}


def random_hex(seed: bytes) -> str:
    """Returns seven hex digits, the same for the same seed."""
    return (hashlib.sha256(seed).hexdigest() if seed else secrets.token_hex(4))[:7]


def service_spec(planned: Properties) -> dict[str, Any]:
    """Returns a service in the API's format."""
    spec: dict[str, Any] = SERVICE.to_api(planned)
    mode = spec.get("Mode", {})
    if "Global" in mode:
        mode.pop("Replicated", None)
    return spec


def send_update(docker: Connection, identity: str, spec: dict[str, Any]) -> None:
    """Sends a service's new spec; retries if another update came in between."""
    for attempt in range(1, UPDATE_ATTEMPTS + 1):
        version = docker.get(f"/services/{identity}")["Version"]["Index"]
        try:
            docker.send("POST", f"/services/{identity}/update?version={version}", spec)
            return
        except PluginError as error:
            if "update out of sequence" not in str(error) or attempt == UPDATE_ATTEMPTS:
                raise


def converge(docker: Connection, call: Call, identity: str, planned: Properties) -> None:
    """Waits until every replica of a service runs its latest spec and the rollout is complete.

    Raises:
        NotConvergedError: It took longer than the convergence timeout.
        PluginError: Docker paused the rollout or rolled it back.
    """
    settings = planned.get("convergeConfig")
    if settings is None:
        return
    limit = nanoseconds(settings["timeout"]) or 0
    deadline = min(time.monotonic() + limit / UNITS["s"], call.deadline)
    shown = ""
    while True:
        service = docker.get(f"/services/{identity}")
        status = service.get("UpdateStatus") or {}
        state = status.get("State", "")
        if state in FAILED_UPDATES:
            raise PluginError(f"{FAILED_UPDATES[state]}: {status.get('Message', '')}")
        wanted = service["Spec"]["Mode"].get("Replicated", {}).get("Replicas", 0)
        # An update has no state until Docker begins it, so only tasks of the latest spec count.
        tasks = docker.get("/tasks", **{"service": [identity], "desired-state": ["running"], "_up-to-date": ["true"]})
        running = {task.get("Slot") for task in tasks if task["Status"]["State"] == "running"}
        if len(running) == wanted and state in ("", "completed"):
            return
        if shown != (shown := f"{len(running)} of {wanted} replicas are running"):
            call.engine.status(call.urn, shown)
        if time.monotonic() > deadline:
            raise NotConvergedError(f"Service with ID ({identity}) did not converge after {long_duration(limit)}")
        time.sleep(POLL_SECONDS)


def long_duration(length: int) -> str:
    """Formats nanoseconds as Go does: `30s`, `3m0s`, `1h0m0s`."""
    seconds = length / UNITS["s"]
    hours, minutes = int(seconds // 3600), int(seconds // 60 % 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds % 60:g}s"


def remove_service(docker: Connection, call: Call, identity: str, planned: Properties) -> None:
    """Removes a service and waits for its tasks to end, but not indefinitely."""
    try:
        tasks = docker.get("/tasks", service=[identity])
        docker.send("DELETE", f"/services/{identity}")
    except NotFoundError:
        return
    remaining = [task["ID"] for task in tasks if task["Status"]["State"] not in ENDED_TASKS]
    grace = (nanoseconds(container(planned).get("stopGracePeriod") or "0s") or 0) / UNITS["s"]
    deadline = min(time.monotonic() + grace + DELETE_SECONDS, call.deadline)
    while remaining and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        tasks = docker.get("/tasks", id=remaining)
        remaining = [task["ID"] for task in tasks if task["Status"]["State"] not in ENDED_TASKS]


class DockerProvider(ResourceProvider):
    """The provider and its settings: `host` and `sshOpts`."""

    def __init__(self, engine: Engine, processes: Processes) -> None:
        types = {
            "docker:index/service:Service": Service(SERVICE, self),
            "docker:index/serviceConfig:ServiceConfig": ServiceConfig(CONFIG, self),
        }
        super().__init__(VERSION, types, engine, processes)
        self._daemon: Daemon | None = None

    @override
    def check_config(self, inputs: Properties) -> list[str]:
        """Accepts an ssh host and ssh options only."""
        problems = [
            f"unknown provider setting '{key}': the bundled docker plugin knows host and sshOpts"
            for key in inputs
            if key not in SETTINGS and not key.startswith("__")
        ]
        host = inputs.get("host")
        if host is not UNKNOWN and not (isinstance(host, str) and host.startswith("ssh://")):
            problems.append(f"'host' is {host!r}: the bundled docker plugin needs an address like ssh://swarm-manager")
        if inputs.get("sshOpts") is not UNKNOWN and ssh_options(inputs.get("sshOpts")) is None:
            problems.append(f"'sshOpts' must be a list of strings; got {inputs.get('sshOpts')!r}")
        return problems

    @override
    def configure(self, inputs: Properties) -> None:
        host, options = inputs.get("host"), ssh_options(inputs.get("sshOpts"))
        self._daemon = Daemon(host, tuple(options or ())) if isinstance(host, str) else None

    def daemon(self) -> Daemon:
        """Returns the daemon named in the settings."""
        if self._daemon is None:
            raise PluginError("the docker provider has no 'host'")
        return self._daemon


def ssh_options(value: Any) -> list[str] | None:
    """Returns ssh's options, which arrive as JSON; None if they are not a list of strings."""
    try:
        options = json.loads(value) if isinstance(value, str) else value or []
    except ValueError:
        return None
    valid = isinstance(options, list) and all(isinstance(option, str) for option in options)
    return options if valid else None


def register(server: grpc.Server, engine: Engine, processes: Processes) -> None:
    """Adds this plugin to a server."""
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(DockerProvider(engine, processes), server)


if __name__ == "__main__":
    serve(register)

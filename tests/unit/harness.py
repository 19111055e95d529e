"""Runs components, or the real program, against mocks that record every request to the engine."""

import asyncio
import contextvars
import json
import os
import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pulumi
import pulumi_command as command
import pulumi_docker as docker
import yaml
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, rpc, set_all_config, set_mocks
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import Stack, run_pulumi_func

from components.contract import PACKAGE
from components.image import ImageRef
from components.scripts import Machine
from components.settings import REDIRECTING_VARIABLES, Node, ProxySettings, Settings, parse
from components.swarm import Cluster

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "tests" / "project"
"""The tests' own stack file and content: users may change those of the project."""
STACK_TYPE = "pulumi:pulumi:Stack"
COMMAND = "command:local:Command"
SERVICE = "docker:index/service:Service"
SERVICE_CONFIG = "docker:index/serviceConfig:ServiceConfig"
PROVIDER = "pulumi:providers:docker"

UNREMARKABLE = {
    *("type", "name", "parent", "custom", "object", "provider", "providers", "dependencies", "propertyDependencies"),
    *("deletedWith", "deleteBeforeReplace", "deleteBeforeReplaceDefined", "customTimeouts", "ignoreChanges"),
    *("acceptSecrets", "acceptResources", "supportsPartialValues", "supportsResultReporting"),
    *("version", "sourcePosition", "stackTrace", "hooks"),
}
"""Request fields that `Registered` covers, or that do not reflect the program's intent."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A resource as requested from the engine. References to other resources are names; an empty name means none."""

    type: str
    name: str
    urn: str
    custom: bool
    parent: str
    inputs: Mapping[str, Any]
    dependencies: frozenset[str]
    data_dependencies: frozenset[str]
    provider: str
    deleted_with: str
    delete_before_replace: bool
    timeouts: Mapping[str, str]
    ignore_changes: tuple[str, ...]
    other_options: frozenset[str]

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a Command."""
        variables: Mapping[str, str] = self.inputs.get("environment", {})
        return variables

    @property
    def own(self) -> Mapping[str, str]:
        """The environment of a Command without the variables common to all Commands."""
        common = {"WORK", "STEP", "NODE", "SCRIPT_HASH", "DELETE_SCRIPT"}
        return {key: value for key, value in self.environment.items() if key not in common}

    @property
    def step(self) -> str:
        """The step of a Command."""
        return self.environment["STEP"]

    @property
    def node(self) -> str:
        """The node of a Command."""
        return self.environment["NODE"]

    @property
    def scripts(self) -> Mapping[str, str]:
        """The paths of a Command's scripts below `templates/`, by `create` and `delete`."""
        texts = {verb: self.inputs.get(verb, "") for verb in ("create", "delete")}
        return {verb: text.rpartition("templates/")[2] for verb, text in texts.items() if "templates/" in text}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A program's resources, component outputs and exports, and the body's result with outputs resolved."""

    resources: Sequence[Registered]
    outputs: Mapping[str, Mapping[str, Any]]
    exports: Mapping[str, Any]
    returned: Any

    def __getitem__(self, name: str) -> Registered:
        matches = [resource for resource in self.resources if resource.name == name]
        assert len(matches) == 1, (
            f"{len(matches)} resources are named {name}; there are {[r.name for r in self.resources]}"
        )
        return matches[0]

    def of_type(self, type_: str) -> list[Registered]:
        return [resource for resource in self.resources if resource.type == type_]

    def within(self, component: str) -> list[Registered]:
        """Return a component and all its descendants."""
        inside = {component}
        while more := {r.name for r in self.resources if r.parent in inside} - inside:
            inside |= more
        return [resource for resource in self.resources if resource.name in inside]

    def inventory(self, component: str) -> set[tuple[str, str]]:
        """Return (type, name) of a component and all its descendants."""
        return {(resource.type, resource.name) for resource in self.within(component)}


class RecordingMocks(Mocks):
    """Answers as the providers would, only for the types the program uses."""

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"unexpected invoke: {args.token}")

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if args.typ.startswith(f"{PACKAGE}:index:"):
            return "", {}
        state = dict(args.inputs)
        if args.typ == COMMAND:
            state |= {"stdout": f"output of {args.name}", "stderr": ""}
        elif args.typ == SERVICE_CONFIG:
            state.setdefault("name", f"{args.name}-0a1b2c3")
        elif args.typ not in (SERVICE, PROVIDER):
            raise AssertionError(f"unexpected resource type: {args.typ}")
        return f"{args.name}-id", state


class RecordingMonitor(MockMonitor):
    """Records each request; like the engine, rejects two resources with the same URN."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.requests: dict[str, resource_pb2.RegisterResourceRequest] = {}
        self.registered_outputs: dict[str, Mapping[str, Any]] = {}

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        chain = parent.split("::")[2] if parent else STACK_TYPE
        qualified = type_ if chain == STACK_TYPE else f"{chain}${type_}"
        return "::".join([f"urn:pulumi:{pulumi.get_stack()}", pulumi.get_project(), qualified, name])

    def Invoke(self, request: resource_pb2.ResourceInvokeRequest) -> Any:  # noqa: N802
        with _event_loop():
            return super().Invoke(request)  # type: ignore[no-untyped-call]

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> Any:  # noqa: N802
        raise AssertionError(f"unexpected lookup: {request.type} {request.id}")

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:  # noqa: N802
        if request.type != STACK_TYPE:
            urn = self.make_urn(request.parent, request.type, request.name)
            assert urn not in self.requests, f"two resources have the URN {urn}"
            self.requests[urn] = request
        with _event_loop():
            return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: resource_pb2.RegisterResourceOutputsRequest) -> Any:  # noqa: N802
        name = _name(request.urn)
        assert name not in self.registered_outputs, f"{name} registers its outputs twice"
        with _event_loop():
            self.registered_outputs[name] = rpc.deserialize_properties(request.outputs)
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]

    def registered(self) -> list[Registered]:
        """Return all requests, in a deterministic order."""
        return sorted((self._registered(urn) for urn in self.requests), key=lambda one: one.urn)

    def _registered(self, urn: str) -> Registered:
        request = self.requests[urn]
        timeouts = request.customTimeouts
        data = [dependency for one in request.propertyDependencies.values() for dependency in one.urns]
        return Registered(
            type=request.type,
            name=request.name,
            urn=urn,
            custom=request.custom,
            parent="" if STACK_TYPE in request.parent.split("::")[2:3] else _name(request.parent),
            inputs=rpc.deserialize_properties(request.object),
            dependencies=frozenset(map(_name, request.dependencies)),
            data_dependencies=frozenset(map(_name, data)),
            provider=_name(request.provider),
            deleted_with=_name(request.deletedWith),
            delete_before_replace=request.deleteBeforeReplace,
            timeouts={field.name: value for field, value in timeouts.ListFields()},
            ignore_changes=tuple(request.ignoreChanges),
            other_options=frozenset(field.name for field, _ in request.ListFields()) - UNREMARKABLE,
        )


def run(
    body: Callable[[], Any],
    *,
    config: Mapping[str, Any] | None = None,
    stack: str = "dev",
    environment: Mapping[str, str] | None = None,
    parallel: int | None = None,
) -> Run:
    """Run a body and return everything it requested. Errors of the body or of a registration are raised.

    Args:
        body: function that creates resources; outputs in its result are resolved.
        config: values of the stack file by full key, as parsed from YAML.
        stack: stack name.
        environment: variables added to those of this process, from which Docker's and Pulumi's are removed.
        parallel: the engine's parallelism; None hides it from the program.
    """
    # The SDK keeps its state in context variables: a copy of the context isolates each run.
    return contextvars.copy_context().run(_run, body, config or {}, stack, environment or {}, parallel)


def _run(
    body: Callable[[], Any],
    config: Mapping[str, Any],
    stack: str,
    environment: Mapping[str, str],
    parallel: int | None,
) -> Run:
    monitor = RecordingMonitor(RecordingMocks())
    exports: dict[str, Any] = {}
    returned: list[Any] = []

    async def program() -> None:
        value = body()
        root = pulumi.runtime.get_root_resource()
        assert isinstance(root, Stack)
        returned.append(await pulumi.Output.from_input(value).future())
        exports.update(await pulumi.Output.from_input(root.outputs).future() or {})

    inherited = {name: value for name, value in os.environ.items() if not _is_removed(name)}
    SETTINGS.outputs = set()  # not reset by `set_mocks`
    with patch.dict(os.environ, {**inherited, **environment}, clear=True), _event_loop() as loop:
        set_mocks(RecordingMocks(), project=PACKAGE, stack=stack, preview=False, monitor=monitor)
        SETTINGS.parallel = parallel
        set_all_config({key: _as_engine_sends(value) for key, value in config.items()})
        loop.run_until_complete(run_pulumi_func(program))
    return Run(
        resources=monitor.registered(), outputs=monitor.registered_outputs, exports=exports, returned=returned[0]
    )


def run_program(
    config: Mapping[str, Any] | None = None,
    *,
    stack: str = "dev",
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run the real `__main__.py` with the tests' stack file.

    Args:
        config: overrides of the stack file, by key without the project name; None removes a key.
        stack: stack name.
        environment: see `run`.
    """
    changes = {f"{PACKAGE}:{key}": value for key, value in (config or {}).items()}
    values = {key: value for key, value in {**stack_config(OWN), **changes}.items() if value is not None}
    return run(_main, config=values, stack=stack, environment=environment)


def _main() -> None:
    runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")


def stack_config(folder: Path) -> dict[str, Any]:
    """Return the engine's input: the project file's values and defaults, then a folder's stack file for dev."""
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    assert project["name"] == PACKAGE
    values: dict[str, Any] = {}
    for key, entry in project.get("config", {}).items():
        if not isinstance(entry, dict):
            values[key] = entry
        elif "value" in entry:
            values[key] = entry["value"]
        elif "default" in entry:
            values[key] = entry["default"]
    full = {key if ":" in key else f"{PACKAGE}:{key}": value for key, value in values.items()}
    full.update(yaml.safe_load((folder / "Pulumi.dev.yaml").read_text()).get("config") or {})
    return full


def _as_engine_sends(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_removed(name: str) -> bool:
    return name in REDIRECTING_VARIABLES or name.startswith("PULUMI_")


def _name(reference: str) -> str:
    """Return the name in a URN or a provider reference (URN and id); empty if the reference is empty."""
    return reference.split("::")[3] if reference else ""


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Provide this thread with an event loop and close it afterwards; the SDK leaves its own loops open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    except BaseException:
        # A failure leaves futures nobody awaits; asyncio would warn about them later, during another test.
        loop.set_exception_handler(lambda *_: None)
        raise
    finally:
        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        asyncio.set_event_loop(None)


# --- stand-ins for other components ----------------------------------------------------------------------------------


def settings(values: Mapping[str, Any] | None = None, stack: str = "dev") -> Settings:
    """Return the settings of a stack file, with defaults filled in."""
    return parse(stack, {key: json.dumps(value) for key, value in (values or {}).items()}, {})


def nodes(count: int = 3, *, managers: int = 3, proxies: Sequence[int] = (2, 3), prefix: str = "core") -> list[Node]:
    """Return nodes as planned by the settings; `proxies` are node numbers."""
    return [
        Node(
            name=f"{prefix}-{number:02d}",
            address=f"192.168.56.{10 + number}",
            role="manager" if number <= managers else "worker",
            proxy=number in proxies,
            memory=512,
            cpus=1,
        )
        for number in range(1, count + 1)
    ]


def stand_in(name: str) -> command.local.Command:
    """Return a stand-in for another component's resource."""
    return command.local.Command(name, create="true")


def machines(planned: Sequence[Node]) -> list[Machine]:
    """Return machines whose resources are named `machine-NODE`."""
    return [Machine(node=node, resource=stand_in(f"machine-{node.name}")) for node in planned]


def provider() -> docker.Provider:
    return docker.Provider("manager", host="ssh://swarm-manager")


def image() -> ImageRef:
    """Return an image provided by the resource `image`."""
    return ImageRef(reference="localhost:1/site-nginx:1", provided=stand_in("image"))


def cluster(*active: str, timeout_factor: int = 1) -> Cluster:
    """Return a cluster with the named resources as activations."""
    return Cluster(
        provider=provider(),
        resource=stand_in("cluster"),
        active=[stand_in(name) for name in active or ("ready-core-02", "ready-core-03")],
        timeout_factor=timeout_factor,
    )


def proxy_settings(**changes: Any) -> ProxySettings:
    return ProxySettings.model_validate(changes)

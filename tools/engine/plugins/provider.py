"""What both resource plugins share: the server, the engine's property format, and the processes they start.

A plugin is a gRPC server in a process of its own. The engine starts it with its own address as last argument, reads
the port from the first line of its standard output, and talks to it until it says Cancel. A resource type here is a
`ResourceType`: plain Python values in, plain Python values out; `ResourceProvider` does the rest.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

# More than any parallelism in use: a Cancel must find a free thread while every other one waits for its Command.
WORKERS = 1024
MESSAGE_BYTES = 400 * 1024 * 1024
PARENT_POLL_SECONDS = 0.2
# The engine kills a plugin five seconds after its interrupt; what the plugin started must be gone before that.
END_SECONDS = 2.0

GRPC_OPTIONS = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]

# Property values as plain Python: None, bool, int, float, str, list, dict with str keys, or UNKNOWN.
Value = Any
Properties = dict[str, Value]
Path = tuple[str | int, ...]

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Kind = provider_pb2.PropertyDiff.Kind
WITH_REPLACE = {Kind.ADD: Kind.ADD_REPLACE, Kind.DELETE: Kind.DELETE_REPLACE, Kind.UPDATE: Kind.UPDATE_REPLACE}


class Unknown:
    """A value that only exists once something else was made: previews hold it, real operations never do."""

    def __repr__(self) -> str:
        """Shows in messages what the engine's own display shows."""
        return "output<unknown>"


UNKNOWN = Unknown()


class PluginError(Exception):
    """An operation that failed; its text is what the user reads."""


class PartialFailure(PluginError):
    """An operation that failed after it changed the resource: the engine is to remember the new state."""

    def __init__(self, message: str, identity: str, outputs: Properties) -> None:
        """Keeps what the engine is to write into the state.

        Args:
            message: What the user reads.
            identity: The resource's id.
            outputs: The resource's properties after the failure.
        """
        super().__init__(message)
        self.identity = identity
        self.outputs = outputs


def decode(struct: struct_pb2.Struct) -> tuple[Properties, frozenset[Path]]:
    """Turns the engine's format into plain values, and the paths at which they were secret."""
    secrets: set[Path] = set()

    def plain(value: struct_pb2.Value, path: Path) -> Value:
        kind = value.WhichOneof("kind")
        if kind == "string_value":
            return UNKNOWN if value.string_value == UNKNOWN_TEXT else value.string_value
        if kind == "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        if kind == "bool_value":
            return value.bool_value
        if kind == "list_value":
            return [plain(item, (*path, i)) for i, item in enumerate(value.list_value.values)]
        if kind != "struct_value":
            return None
        fields = value.struct_value.fields
        if SIGNATURE not in fields:
            return {key: plain(item, (*path, key)) for key, item in fields.items()}
        if fields[SIGNATURE].string_value != SECRET_SIGNATURE:
            raise PluginError(f"'{path_text(path)}' is an asset, an archive or a resource: not supported here")
        secrets.add(path)
        return plain(fields["value"], path)

    return {key: plain(value, (key,)) for key, value in struct.fields.items()}, frozenset(secrets)


def encode(properties: Mapping[str, Value], secrets: frozenset[Path] = frozenset()) -> struct_pb2.Struct:
    """Turns plain values into the engine's format; what stands at a path in `secrets` is marked secret again."""

    def wire(value: Value, path: Path) -> Value:
        if value is UNKNOWN:
            value = UNKNOWN_TEXT
        elif isinstance(value, Mapping):
            value = {key: wire(item, (*path, key)) for key, item in value.items()}
        elif isinstance(value, list):
            value = [wire(item, (*path, i)) for i, item in enumerate(value)]
        return {SIGNATURE: SECRET_SIGNATURE, "value": value} if path in secrets else value

    struct = struct_pb2.Struct()
    struct.update({key: wire(value, (key,)) for key, value in properties.items()})
    return struct


def path_text(path: Path) -> str:
    """Writes a property path as the engine does: `a.b[0]["odd-key"]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_$][\w$]*", step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def differences(old: Value, new: Value, path: Path = ()) -> Iterator[tuple[Path, Kind.ValueType]]:
    """Yields the innermost paths at which two values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in new:
                yield (*path, key), Kind.DELETE
            elif key not in old:
                yield (*path, key), Kind.ADD
            else:
                yield from differences(old[key], new[key], (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for i in range(max(len(old), len(new))):
            if i >= len(new):
                yield (*path, i), Kind.DELETE
            elif i >= len(old):
                yield (*path, i), Kind.ADD
            else:
                yield from differences(old[i], new[i], (*path, i))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield path, Kind.UPDATE


@dataclass
class Difference:
    """What a change of inputs would do to a resource."""

    changes: dict[Path, Kind.ValueType] = field(default_factory=dict)
    replaces: frozenset[Path] = frozenset()
    delete_first: bool = False

    def response(self) -> provider_pb2.DiffResponse:
        """Returns the engine's form of it."""
        response = provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if self.changes else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=sorted({str(path[0]) for path in self.changes}),
            replaces=sorted(path_text(path) for path in self.replaces),
            deleteBeforeReplace=self.delete_first,
            hasDetailedDiff=True,
        )
        for path, kind in self.changes.items():
            response.detailedDiff[path_text(path)].kind = WITH_REPLACE[kind] if path in self.replaces else kind
        return response


class Engine:
    """The engine that started this plugin: what the plugin has to say goes there."""

    def __init__(self, address: str) -> None:
        """Connects on first use.

        Args:
            address: The engine's own address, the last argument of every plugin.
        """
        self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, options=GRPC_OPTIONS))

    def status(self, urn: str, message: str) -> None:
        """Shows a line beside the resource for as long as it is being worked on."""
        self._log(urn, message, engine_pb2.INFO, ephemeral=True)

    def error(self, urn: str, message: str) -> None:
        """Shows a line among the errors of the run."""
        self._log(urn, message, engine_pb2.ERROR, ephemeral=False)

    def _log(self, urn: str, message: str, severity: engine_pb2.LogSeverity.ValueType, ephemeral: bool) -> None:
        request = engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=ephemeral)
        try:
            self._stub.Log(request, timeout=10)
        except grpc.RpcError as error:
            # Losing a line is no reason to lose the operation; the plugin's own output is kept by the engine.
            print(f"the engine did not take a log line: {error}", file=sys.stderr, flush=True)


class Processes:
    """The process groups of this plugin that are at work; all of them end with it."""

    def __init__(self) -> None:
        """Starts with none."""
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._closed = False

    def start(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Starts a program as the leader of a new process group.

        Args:
            arguments: The program and its arguments.
            options: Anything else for `subprocess.Popen`.

        Raises:
            PluginError: The run was cancelled already.
        """
        with self._lock:
            if self._closed:
                raise PluginError("the run was cancelled before this could start")
            process = subprocess.Popen(arguments, process_group=0, **options)
            self._running[process.pid] = process
            return process

    def done(self, process: subprocess.Popen[bytes]) -> None:
        """Forgets a group whose leader ended: what it left behind on purpose is not this plugin's."""
        with self._lock:
            self._running.pop(process.pid, None)

    def end_all(self) -> None:
        """Asks every group to end, kills what is left after two seconds, and lets nothing start any more."""
        with self._lock:
            self._closed = True
            groups = list(self._running)
        for sign, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS / 2)):
            for group in groups:
                signal_group(group, sign)
            deadline = time.monotonic() + seconds
            while groups and time.monotonic() < deadline:
                time.sleep(0.02)
                groups = [group for group in groups if self._alive(group)]

    def _alive(self, group: int) -> bool:
        process = self._running.get(group)
        if process is not None:
            process.poll()
        return signal_group(group, 0)


def signal_group(group: int, sign: int) -> bool:
    """Sends a signal to a process group, and says whether there is one."""
    try:
        os.killpg(group, sign)
    except ProcessLookupError:
        return False
    return True


@dataclass(frozen=True)
class Call:
    """One operation on one resource: what it is for, and what it may take."""

    urn: str
    engine: Engine
    processes: Processes
    seconds: float

    @property
    def name(self) -> str:
        """The name the program gave to the resource."""
        return self.urn.split("::")[-1]

    @property
    def deadline(self) -> float:
        """When the resource's custom timeout ends, on the monotonic clock."""
        return time.monotonic() + self.seconds if self.seconds else float("inf")


class ResourceType(ABC):
    """One resource type of a plugin. `check` and `difference` never connect to anything."""

    @abstractmethod
    def check(self, name: str, inputs: Properties, olds: Properties, seed: bytes) -> tuple[Properties, list[str]]:
        """Returns the inputs with what was left out filled in, and what is wrong with them.

        Args:
            name: The name the program gave to the resource.
            inputs: The program's inputs; some may be unknown.
            olds: The inputs in the state, empty for a new resource.
            seed: The engine's randomness for names, the same in preview and update.
        """

    @abstractmethod
    def difference(self, olds: Properties, inputs: Properties) -> Difference:
        """Compares the state's outputs with new inputs."""

    @abstractmethod
    def preview(self, name: str, olds: Properties, inputs: Properties) -> tuple[str, Properties]:
        """Returns the id (or nothing) and the outputs that a create or update would give, as far as they are known."""

    @abstractmethod
    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Makes the resource and returns its id and outputs."""

    @abstractmethod
    def update(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> Properties:
        """Changes the resource and returns its outputs."""

    @abstractmethod
    def read(
        self, call: Call, identity: str, olds: Properties, inputs: Properties
    ) -> tuple[str, Properties, Properties]:
        """Returns the living resource's id (nothing if it is gone), outputs and inputs."""

    @abstractmethod
    def delete(self, call: Call, identity: str, olds: Properties) -> None:
        """Takes the resource away; one that is gone already is fine."""


class ResourceProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The engine's side of a plugin: it speaks the protocol and hands plain values to the resource types."""

    def __init__(self, version: str, types: Mapping[str, ResourceType], engine: Engine, processes: Processes) -> None:
        """Serves some types of one package.

        Args:
            version: The version of the official plugin that this one stands for.
            types: The resource types by their tokens.
            engine: Where log lines go.
            processes: What has to end when the run is cancelled.
        """
        self.version = version
        self.types = types
        self.engine = engine
        self.processes = processes

    def check_config(self, inputs: Properties) -> list[str]:
        """Returns what is wrong with the provider's own settings."""
        return [
            f"unknown provider setting '{key}': this plugin has none"
            for key in inputs
            if key not in {"version", "pluginDownloadURL"} and not key.startswith("__")
        ]

    def configure(self, inputs: Properties) -> None:
        """Takes the provider's settings; connects to nothing."""

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Says what this plugin understands."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        """Says which version this is."""
        return plugin_pb2.PluginInfo(version=self.version)

    def CheckConfig(
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        """Checks the provider's settings."""
        with reported(context):
            inputs, _ = decode(request.news)
            failures = [provider_pb2.CheckFailure(reason=reason) for reason in self.check_config(inputs)]
            return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        """Compares the provider's settings: a change never replaces what the provider holds."""
        with reported(context):
            return Difference(dict(differences(decode(request.olds)[0], decode(request.news)[0]))).response()

    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        """Takes the provider's settings."""
        with reported(context):
            self.configure(decode(request.args)[0])
            return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        """Checks a resource's inputs."""
        with reported(context):
            inputs, secrets = decode(request.news)
            olds, _ = decode(request.olds)
            name = request.urn.split("::")[-1]
            inputs, problems = self._type(request.urn).check(name, inputs, olds, request.randomSeed)
            failures = [provider_pb2.CheckFailure(reason=reason) for reason in problems]
            return provider_pb2.CheckResponse(inputs=encode(inputs, secrets), failures=failures)

    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        """Says what new inputs would change."""
        with reported(context):
            return self._type(request.urn).difference(decode(request.olds)[0], decode(request.news)[0]).response()

    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        """Makes a resource, or says what it would be."""
        with reported(context):
            inputs, secrets = decode(request.properties)
            kind, call = self._type(request.urn), self._call(request)
            if request.preview:
                identity, outputs = kind.preview(call.name, {}, inputs)
            else:
                identity, outputs = kind.create(call, inputs)
            return provider_pb2.CreateResponse(id=identity, properties=encode(outputs, secrets))

    def Update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        """Changes a resource, or says what it would be."""
        inputs, secrets = decode(request.news)
        with reported(context, secrets):
            olds, _ = decode(request.olds)
            kind, call = self._type(request.urn), self._call(request)
            if request.preview:
                outputs = kind.preview(call.name, olds, inputs)[1]
            else:
                outputs = kind.update(call, request.id, olds, inputs)
            return provider_pb2.UpdateResponse(properties=encode(outputs, secrets))

    def Read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        """Looks at the living resource."""
        with reported(context):
            olds, secrets = decode(request.properties)
            inputs, input_secrets = decode(request.inputs)
            kind, call = self._type(request.urn), self._call(request)
            identity, outputs, inputs = kind.read(call, request.id, olds, inputs)
            if not identity:
                return provider_pb2.ReadResponse()
            return provider_pb2.ReadResponse(
                id=identity, properties=encode(outputs, secrets), inputs=encode(inputs, input_secrets)
            )

    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """Takes a resource away."""
        with reported(context):
            self._type(request.urn).delete(self._call(request), request.id, decode(request.properties)[0])
            return empty_pb2.Empty()

    def Invoke(self, request: provider_pb2.InvokeRequest, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        """Refuses functions: this plugin has none."""
        with reported(context):
            raise PluginError(f"this plugin has no function '{request.tok}': it only has resources")

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """Ends everything that is at work."""
        self.processes.end_all()
        return empty_pb2.Empty()

    def _type(self, urn: str) -> ResourceType:
        token = urn.split("::")[2].split("$")[-1]
        if token not in self.types:
            raise PluginError(f"this plugin does not know the resource type '{token}'; it has {', '.join(self.types)}")
        return self.types[token]

    def _call(self, request: Any) -> Call:
        return Call(request.urn, self.engine, self.processes, request.timeout)


@contextmanager
def reported(context: grpc.ServicerContext, secrets: frozenset[Path] = frozenset()) -> Iterator[None]:
    """Turns a failure inside the block into the engine's own form of an error.

    Args:
        context: The call that fails.
        secrets: Where a partial state holds secrets.
    """
    try:
        yield
    except PartialFailure as failure:
        state = provider_pb2.ErrorResourceInitFailed(
            id=failure.identity, properties=encode(failure.outputs, secrets), reasons=[str(failure)]
        )
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(failure))
        status.details.add().Pack(state)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNKNOWN, str(failure))
    except PluginError as failure:
        context.abort(grpc.StatusCode.UNKNOWN, str(failure))


def serve(register: Callable[[grpc.Server, Engine, Processes], None]) -> NoReturn:
    """Runs a plugin until the engine stops it, or is gone itself; then ends what the plugin started.

    Args:
        register: Adds the plugin's service to the server.
    """
    parent, stopped = os.getppid(), threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda *_: stopped.set())
    processes = Processes()
    server = grpc.server(ThreadPoolExecutor(max_workers=WORKERS), options=GRPC_OPTIONS)
    register(server, Engine(sys.argv[-1]), processes)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    while os.getppid() == parent and not stopped.wait(PARENT_POLL_SECONDS):
        pass
    processes.end_all()
    server.stop(grace=None)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that wait for an answer which never comes must not keep a plugin without an engine alive.
    os._exit(0)

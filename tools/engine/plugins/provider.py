"""Common code of both resource plugins: the server, the engine's property format, and child processes.

A plugin is a gRPC server in its own process. The engine starts it with the engine's address as the last argument, reads
the port from the first line of its standard output, and sends requests until Cancel. Each resource type is a
`ResourceType` with plain Python values in and out; `ResourceProvider` does the rest.
"""

from __future__ import annotations

import contextlib
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
from dataclasses import dataclass, field
from pathlib import Path
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
from typing_extensions import override

from callers import SameUserOnly

# More than any parallelism in use: Cancel needs a free thread while every other one waits for its Command.
WORKERS = 1024
MESSAGE_BYTES = 400 * 1024 * 1024
PARENT_POLL_SECONDS = 0.2
# The engine kills a plugin five seconds after interrupting it; the plugin's children must have exited by then.
END_SECONDS = 2.0
END_POLL_SECONDS = 0.05

GRPC_OPTIONS = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]

# Property values as plain Python: None, bool, int, float, str, list, dict with str keys, or UNKNOWN.
Value = Any
Properties = dict[str, Value]
PropertyPath = tuple[str | int, ...]
# An id (empty if the resource is gone), outputs and inputs.
ReadResult = tuple[str, Properties, Properties]

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Kind = provider_pb2.PropertyDiff.Kind
WITH_REPLACE = {Kind.ADD: Kind.ADD_REPLACE, Kind.DELETE: Kind.DELETE_REPLACE, Kind.UPDATE: Kind.UPDATE_REPLACE}


class Unknown:
    """A value known only once another resource exists; occurs in previews, never in real operations."""

    def __repr__(self) -> str:
        return "output<unknown>"


UNKNOWN = Unknown()


class PluginError(Exception):
    """A failed operation; its text is shown to the user."""


class PartialStateError(PluginError):
    """An operation that failed after changing the resource: the engine must record the new state."""

    def __init__(self, message: str, identity: str, outputs: Properties) -> None:
        super().__init__(message)
        self.identity = identity
        self.outputs = outputs


def decode(struct: struct_pb2.Struct) -> tuple[Properties, frozenset[PropertyPath]]:
    """Converts the engine's format to plain values, and the paths of the secret ones."""
    secrets: set[PropertyPath] = set()

    def plain(value: struct_pb2.Value, path: PropertyPath) -> Value:
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
            raise PluginError(f"'{path_text(path)}' is an asset, an archive or a resource, which is not supported")
        secrets.add(path)
        return plain(fields["value"], path)

    return {key: plain(value, (key,)) for key, value in struct.fields.items()}, frozenset(secrets)


def encode(properties: Mapping[str, Value], secrets: frozenset[PropertyPath] = frozenset()) -> struct_pb2.Struct:
    """Converts plain values to the engine's format; those at the paths in `secrets` are marked secret again."""

    def wire(value: Value, path: PropertyPath) -> Value:
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


def path_text(path: PropertyPath) -> str:
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


def differences(old: Value, new: Value, path: PropertyPath = ()) -> Iterator[tuple[PropertyPath, Kind.ValueType]]:
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
    """The effect of changed inputs on a resource."""

    changes: dict[PropertyPath, Kind.ValueType] = field(default_factory=dict)
    replaces: frozenset[PropertyPath] = frozenset()
    delete_first: bool = False

    def response(self) -> provider_pb2.DiffResponse:
        """Returns it in the engine's format."""
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
    """The engine that started this plugin; receives the plugin's log messages."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, options=GRPC_OPTIONS))

    def status(self, urn: str, message: str) -> None:
        """Shows a line next to the resource while its operation runs."""
        self._log(urn, message, engine_pb2.INFO, ephemeral=True)

    def error(self, urn: str, message: str) -> None:
        """Adds a line to the errors of the run."""
        self._log(urn, message, engine_pb2.ERROR, ephemeral=False)

    def _log(self, urn: str, message: str, severity: engine_pb2.LogSeverity.ValueType, ephemeral: bool) -> None:
        request = engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=ephemeral)
        try:
            self._stub.Log(request, timeout=10)
        except grpc.RpcError as error:
            # A lost line must not fail the operation; the engine keeps the plugin's own output.
            print(f"the engine did not accept a log line: {error}", file=sys.stderr, flush=True)


class Processes:
    """The plugin's running children; they all end with the plugin.

    Each child leads its own session, which its descendants share even if they create process groups (as `timeout`
    does). A daemon that leaves the session (`setsid`) is meant to stay, and does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: set[int] = set()
        self._closed = False

    def start(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Starts a program; `options` are those of `subprocess.Popen`.

        Raises:
            PluginError: The run was cancelled.
        """
        with self._lock:
            if self._closed:
                raise PluginError("the run was cancelled before this process could start")
            process = subprocess.Popen(arguments, start_new_session=True, **options)
            self._sessions.add(process.pid)
            return process

    def done(self, process: subprocess.Popen[bytes]) -> None:
        """Forgets a process that ended; whatever it deliberately left running is not this plugin's."""
        with self._lock:
            self._sessions.discard(process.pid)

    def end_all(self) -> None:
        """Terminates all children, kills the remaining ones after two seconds, and lets none start afterwards."""
        with self._lock:
            self._closed = True
            sessions = set(self._sessions)
        if not end_sessions(sessions, signal.SIGTERM, END_SECONDS):
            end_sessions(sessions, signal.SIGKILL, END_SECONDS / 2)


def end_sessions(sessions: set[int], signum: signal.Signals, seconds: float) -> bool:
    """Signals each process of the sessions once; returns whether all of them ended in time."""
    signalled: set[int] = set()
    deadline = time.monotonic() + seconds
    while members := session_members(sessions):
        # The leader first: a shell that outlives its child would report the child's end, not its own.
        for pid in sorted(members - signalled, key=lambda pid: pid not in sessions):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        signalled |= members
        if time.monotonic() > deadline:
            return False
        time.sleep(END_POLL_SECONDS)
    return True


def session_members(sessions: set[int]) -> set[int]:
    """Returns the live processes of the sessions."""
    members = set()
    for entry in Path("/proc").glob("[0-9]*/stat") if sessions else ():
        # A process may end while its entry is read.
        with contextlib.suppress(OSError):
            state, _, _, session, *_ = entry.read_text(errors="replace").rpartition(")")[2].split()
            if int(session) in sessions and state not in "ZX":
                members.add(int(entry.parent.name))
    return members


@dataclass(frozen=True)
class Call:
    """One operation on one resource, with its time limits."""

    urn: str
    engine: Engine
    processes: Processes
    timeout: float  # seconds, 0 for none
    deadline: float  # on the monotonic clock

    @property
    def name(self) -> str:
        """The name of the resource in the program."""
        return self.urn.split("::")[-1]


class ResourceType(ABC):
    """One resource type of a plugin. `check` and `difference` never connect to anything."""

    @abstractmethod
    def check(self, name: str, inputs: Properties, olds: Properties, seed: bytes) -> tuple[Properties, list[str]]:
        """Returns the inputs with defaults filled in, and the errors in them.

        `olds` are the inputs in the state, empty for a new resource; `seed` is the engine's random seed for names, the
        same in preview and update.
        """

    @abstractmethod
    def difference(self, olds: Properties, inputs: Properties) -> Difference:
        """Compares the state's outputs with new inputs."""

    @abstractmethod
    def preview(self, name: str, olds: Properties, inputs: Properties) -> tuple[str, Properties]:
        """Returns the id (empty if unknown) and the outputs of a create or update, as far as known."""

    @abstractmethod
    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Creates the resource and returns its id and outputs."""

    @abstractmethod
    def update(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> Properties:
        """Updates the resource and returns its outputs."""

    @abstractmethod
    def read(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> ReadResult:
        """Returns the resource as it is now: its id (empty if it is gone), outputs and inputs."""

    @abstractmethod
    def delete(self, call: Call, identity: str, olds: Properties) -> None:
        """Deletes the resource; one that is already gone is no error."""


class ResourceProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The engine-facing side of a plugin: speaks the protocol and passes plain values to the resource types.

    `types` maps tokens to resource types; `version` is that of the official plugin this one replaces.
    """

    def __init__(self, version: str, types: Mapping[str, ResourceType], engine: Engine, processes: Processes) -> None:
        self.version = version
        self.types = types
        self.engine = engine
        self.processes = processes

    def check_config(self, inputs: Properties) -> list[str]:
        """Returns the errors in the provider's own settings."""
        return [
            f"unknown provider setting '{key}': this plugin has no settings"
            for key in inputs
            if key not in {"version", "pluginDownloadURL"} and not key.startswith("__")
        ]

    def configure(self, inputs: Properties) -> None:
        """Stores the provider's settings; connects to nothing."""

    @override
    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    @override
    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self.version)

    @override
    def CheckConfig(
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        with reported(context):
            inputs, _ = decode(request.news)
            failures = [provider_pb2.CheckFailure(reason=reason) for reason in self.check_config(inputs)]
            return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    @override
    def DiffConfig(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        # Changed settings never replace the provider's resources.
        with reported(context):
            return Difference(dict(differences(decode(request.olds)[0], decode(request.news)[0]))).response()

    @override
    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        with reported(context):
            self.configure(decode(request.args)[0])
            return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    @override
    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        with reported(context):
            inputs, secrets = decode(request.news)
            olds, _ = decode(request.olds)
            name = request.urn.split("::")[-1]
            inputs, problems = self._type(request.urn).check(name, inputs, olds, request.randomSeed)
            failures = [provider_pb2.CheckFailure(reason=reason) for reason in problems]
            return provider_pb2.CheckResponse(inputs=encode(inputs, secrets), failures=failures)

    @override
    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        with reported(context):
            return self._type(request.urn).difference(decode(request.olds)[0], decode(request.news)[0]).response()

    @override
    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        with reported(context):
            inputs, secrets = decode(request.properties)
            kind, call = self._type(request.urn), self._call(request)
            if request.preview:
                identity, outputs = kind.preview(call.name, {}, inputs)
            else:
                identity, outputs = kind.create(call, inputs)
            return provider_pb2.CreateResponse(id=identity, properties=encode(outputs, secrets))

    @override
    def Update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        inputs, new_secrets = decode(request.news)
        olds, old_secrets = decode(request.olds)
        # An old value that stays also stays secret.
        secrets = new_secrets | old_secrets
        with reported(context, secrets):
            kind, call = self._type(request.urn), self._call(request)
            if request.preview:
                outputs = kind.preview(call.name, olds, inputs)[1]
            else:
                outputs = kind.update(call, request.id, olds, inputs)
            return provider_pb2.UpdateResponse(properties=encode(outputs, secrets))

    @override
    def Read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
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

    @override
    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        with reported(context):
            self._type(request.urn).delete(self._call(request), request.id, decode(request.properties)[0])
            return empty_pb2.Empty()

    @override
    def Invoke(self, request: provider_pb2.InvokeRequest, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        with reported(context):
            raise PluginError(f"this plugin has no function '{request.tok}': it provides only resources")

    @override
    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.processes.end_all()
        return empty_pb2.Empty()

    def _type(self, urn: str) -> ResourceType:
        token = urn.split("::")[2].split("$")[-1]
        if token not in self.types:
            raise PluginError(f"this plugin does not know the resource type '{token}'; it has {', '.join(self.types)}")
        return self.types[token]

    def _call(self, request: Any) -> Call:
        deadline = time.monotonic() + request.timeout if request.timeout else float("inf")
        return Call(request.urn, self.engine, self.processes, request.timeout, deadline)


@contextlib.contextmanager
def reported(context: grpc.ServicerContext, secrets: frozenset[PropertyPath] = frozenset()) -> Iterator[None]:
    """Reports a failure inside the block in the engine's error format; `secrets` are those of a partial state."""
    try:
        yield
    except PartialStateError as failure:
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
    """Runs a plugin until the engine stops it or disappears; then ends the plugin's children."""
    parent, stopped = os.getppid(), threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: stopped.set())
    processes = Processes()
    callers = SameUserOnly()
    server = grpc.server(ThreadPoolExecutor(max_workers=WORKERS), interceptors=[callers], options=GRPC_OPTIONS)
    register(server, Engine(sys.argv[-1]), processes)
    callers.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(callers.port, flush=True)
    while os.getppid() == parent and not stopped.wait(PARENT_POLL_SECONDS):
        pass
    processes.end_all()
    server.stop(grace=None)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads waiting for an answer that never comes must not keep the plugin alive.
    os._exit(0)

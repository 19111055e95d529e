"""The `command` plugin: `command:local:Command`, as the official version 1.2.1 does it.

A Command's text is run by an interpreter on this machine, in the project's folder. This process is the parent of each
of them. Its type's other inputs (`assetPaths`, `archivePaths`), `remote` commands and functions are refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import IO

import grpc
from pulumi.runtime.proto import provider_pb2_grpc
from typing_extensions import override

from provider import (
    UNKNOWN,
    Call,
    Difference,
    Engine,
    PluginError,
    Processes,
    Properties,
    PropertyPath,
    ReadResult,
    ResourceProvider,
    ResourceType,
    Value,
    differences,
    end_sessions,
    path_text,
    serve,
)

VERSION = "1.2.1"
DEFAULT_INTERPRETER = ("/bin/sh", "-c")
LOGGED = {"stdout": ("stdout",), "stderr": ("stderr",), "stdoutAndStderr": ("stdout", "stderr"), "none": ()}
TEXTS = ("create", "update", "delete", "stdin", "dir", "logging")
INPUTS = (*TEXTS, "environment", "interpreter", "triggers", "addPreviousOutputInEnv")

CHUNK_BYTES = 65536
LINE_BYTES = 64 * 1024
LINES_PER_SECOND = 20
# A child that was left in the background may hold the output open for ever; what it says later is not waited for.
LEFT_OPEN_SECONDS = 5.0
KILL_SECONDS = 5.0


class Command(ResourceType):
    """Runs `create`, `update` and `delete`; what they print are the outputs."""

    @override
    def check(self, name: str, inputs: Properties, olds: Properties, seed: bytes) -> tuple[Properties, list[str]]:
        inputs = {key: value for key, value in inputs.items() if value is not None}
        return {"addPreviousOutputInEnv": True, **inputs}, list(problems(inputs))

    @override
    def difference(self, olds: Properties, inputs: Properties) -> Difference:
        """Any change runs the command again; one of `triggers` makes a new resource."""
        changes = dict(differences({key: olds[key] for key in INPUTS if key in olds}, inputs))
        return Difference(changes, frozenset(path for path in changes if path[0] == "triggers"))

    @override
    def preview(self, name: str, olds: Properties, inputs: Properties) -> tuple[str, Properties]:
        """Knows everything but what the command will print."""
        return new_identity(name), {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}

    @override
    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        return new_identity(call.name), run(call, inputs.get("create"), inputs, {})

    @override
    def update(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> Properties:
        """Runs `update`, or `create` where there is none."""
        return run(call, inputs.get("update", inputs.get("create")), inputs, olds)

    @override
    def read(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> ReadResult:
        """Believes the state: there is nothing to look at."""
        return identity, olds, inputs

    @override
    def delete(self, call: Call, identity: str, olds: Properties) -> None:
        """Runs `delete` with the state's text, environment and input."""
        run(call, olds.get("delete"), olds, olds)


def new_identity(name: str) -> str:
    """Returns the name and eight random digits."""
    return name + secrets.token_hex(4)


def problems(inputs: Properties) -> Iterator[str]:
    """Yields a sentence for each input that can't be accepted."""
    for key, value in inputs.items():
        if key not in INPUTS:
            yield f"unknown input '{key}': the bundled command plugin knows {', '.join(sorted(INPUTS))}"
        elif key in TEXTS:
            yield from wrong_type(value, str, "a string", (key,))
        elif key == "addPreviousOutputInEnv":
            yield from wrong_type(value, bool, "a boolean", (key,))
        elif key == "environment":
            yield from wrong_type(value, dict, "a map of strings", (key,))
            for name in value if isinstance(value, dict) else ():
                yield from wrong_type(value[name], str, "a string", (key, name))
        else:
            yield from wrong_type(value, list, "a list", (key,))
            if key == "interpreter" and value == []:
                yield '\'interpreter\' is empty: name a program, for example ["/bin/bash", "-c"]'
            for i, item in enumerate(value if key == "interpreter" and isinstance(value, list) else ()):
                yield from wrong_type(item, str, "a string", (key, i))
    logging = inputs.get("logging", "none")
    if isinstance(logging, str) and logging not in LOGGED:
        yield f"'logging' is '{logging}': use one of {', '.join(LOGGED)}"


def wrong_type(value: Value, wanted: type, expected: str, path: PropertyPath) -> Iterator[str]:
    """Yields a sentence if a known value is not of the wanted type."""
    if value is not UNKNOWN and not isinstance(value, wanted):
        yield f"'{path_text(path)}' must be {expected}; got {value!r}"


def run(call: Call, text: str | None, inputs: Properties, olds: Properties) -> Properties:
    """Runs one text as `inputs` say and returns the resource's outputs; without a text the last ones stay.

    Raises:
        PluginError: It could not be started, ended with an error, or took longer than its timeout.
    """
    outputs = {key: inputs[key] for key in INPUTS if key in inputs}
    previous = {key: olds.get(key) or "" for key in ("stdout", "stderr")}
    if text is None:
        return outputs | previous
    environment = os.environ | inputs.get("environment", {})
    if inputs.get("addPreviousOutputInEnv", True):
        environment |= {f"PULUMI_COMMAND_{key.upper()}": value for key, value in previous.items() if value}
    interpreter = inputs.get("interpreter") or DEFAULT_INTERPRETER
    try:
        process = call.processes.start(
            [*interpreter, text],
            cwd=inputs.get("dir"),
            env=environment,
            stdin=subprocess.PIPE if inputs.get("stdin") else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise PluginError(f"{start_error(error, inputs)}: running {quoted(text)}:\n") from error
    printed = Printed(call, process, LOGGED[inputs.get("logging", "stdoutAndStderr")])
    feed(process, inputs.get("stdin") or "")
    late = threading.Event()
    timer = threading.Timer(call.timeout, kill, (process, late)) if call.timeout else None
    if timer:
        timer.start()
    process.wait()
    if timer:
        timer.cancel()
    call.processes.done(process)
    printed.finish()
    if process.returncode:
        note = f"\n(stopped after its timeout of {call.timeout:g} s)" if late.is_set() else ""
        raise PluginError(f"{ending(process.returncode)}: running {quoted(text)}:\n{as_text(printed.both)}{note}")
    return outputs | {"stdout": as_text(printed.stdout), "stderr": as_text(printed.stderr)}


def kill(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    """Kills a Command whose time is over, and all it started."""
    late.set()
    end_sessions({process.pid}, signal.SIGKILL, KILL_SECONDS)


def feed(process: subprocess.Popen[bytes], text: str) -> None:
    """Writes a text to a process's input without waiting for it to be read."""

    def write(stream: IO[bytes]) -> None:
        # A process that does not care for its input may close it.
        with contextlib.suppress(BrokenPipeError), stream:
            stream.write(text.encode())

    if process.stdin is not None:
        threading.Thread(target=write, args=(process.stdin,), daemon=True).start()


class Printed:
    """What a running Command prints: kept as a whole; the streams in `logged` are shown while it runs."""

    def __init__(self, call: Call, process: subprocess.Popen[bytes], logged: tuple[str, ...]) -> None:
        self.stdout, self.stderr, self.both = bytearray(), bytearray(), bytearray()
        self._lock = threading.Lock()
        self._readers: list[threading.Thread] = []
        for name, stream, kept in (("stdout", process.stdout, self.stdout), ("stderr", process.stderr, self.stderr)):
            assert stream is not None
            lines = Lines(call) if name in logged else None
            self._readers.append(threading.Thread(target=self._read, args=(stream, kept, lines), daemon=True))
            self._readers[-1].start()

    def finish(self) -> None:
        """Waits for the last of it, but not for a child in the background that keeps the streams open."""
        deadline = time.monotonic() + LEFT_OPEN_SECONDS
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))

    def _read(self, stream: IO[bytes], kept: bytearray, lines: Lines | None) -> None:
        with stream:
            while chunk := os.read(stream.fileno(), CHUNK_BYTES):
                with self._lock:
                    kept += chunk
                    self.both += chunk
                if lines:
                    lines.feed(chunk)
        if lines:
            lines.close()


class Lines:
    """Sends a stream's lines to the engine's display: a limited number a second, each of limited length."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._rest = b""
        self._second = 0
        self._sent = 0
        self._held_back = 0

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the stream."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._show(line)
        # What is over the limit is dropped here already: a stream without line ends must not grow in memory.
        self._rest = self._rest[:LINE_BYTES]

    def close(self) -> None:
        """Sends the last line if it had no end, and says how many were not shown."""
        if self._rest:
            self._show(self._rest)
        if self._held_back:
            self._call.engine.status(self._call.urn, f"({self._held_back} more lines were too quick to show)")

    def _show(self, line: bytes) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._sent = second, 0
        self._sent += 1
        if self._sent > LINES_PER_SECOND:
            self._held_back += 1
        else:
            self._call.engine.status(self._call.urn, line[:LINE_BYTES].decode(errors="replace"))


def start_error(error: OSError, inputs: Properties) -> str:
    """Says why a process could not be started, in the words of the official plugin."""
    reason = (error.strerror or str(error)).lower()
    if error.filename is not None and error.filename == inputs.get("dir"):
        return f"chdir {error.filename}: {reason}"
    program = (inputs.get("interpreter") or DEFAULT_INTERPRETER)[0]
    if isinstance(error, FileNotFoundError) and "/" not in program:
        return f'exec: "{program}": executable file not found in $PATH'
    return f"fork/exec {program}: {reason}"


def ending(code: int) -> str:
    """Says how a process ended, in the words of the official plugin."""
    return f"exit status {code}" if code > 0 else f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"


def as_text(output: bytearray) -> str:
    """Returns an output as text without its last line end."""
    return output.decode(errors="replace").removesuffix("\n")


def quoted(text: str) -> str:
    """Quotes a text as the official plugin does (Go's `%q`)."""
    named = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", "\\": "\\", '"': '"'}

    def escaped(character: str) -> str:
        code = ord(character)
        if character in named:
            return "\\" + named[character]
        if character.isprintable():
            return character
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return '"' + "".join(map(escaped, text)) + '"'


def register(server: grpc.Server, engine: Engine, processes: Processes) -> None:
    """Adds this plugin to a server."""
    provider = ResourceProvider(VERSION, {"command:local:Command": Command()}, engine, processes)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)


if __name__ == "__main__":
    serve(register)

"""The `command` plugin: `command:local:Command`, compatible with the official version 1.2.1.

An interpreter on this machine runs a Command's script in the project's folder, as a child of this process. The other
inputs of the type (`assetPaths`, `archivePaths`), `remote` commands and functions are rejected.
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
# How long to read on after a Command ended: a background child may keep its output open indefinitely.
DRAIN_SECONDS = 5.0
KILL_SECONDS = 5.0


class Command(ResourceType):
    """Runs `create`, `update` and `delete`; their output becomes the resource's outputs."""

    @override
    def check(self, name: str, inputs: Properties, olds: Properties, seed: bytes) -> tuple[Properties, list[str]]:
        inputs = {key: value for key, value in inputs.items() if value is not None}
        return {"addPreviousOutputInEnv": True, **inputs}, list(problems(inputs))

    @override
    def difference(self, olds: Properties, inputs: Properties) -> Difference:
        """Any change reruns the command; a change of `triggers` replaces the resource."""
        changes = dict(differences({key: olds[key] for key in INPUTS if key in olds}, inputs))
        return Difference(changes, frozenset(path for path in changes if path[0] == "triggers"))

    @override
    def preview(self, name: str, olds: Properties, inputs: Properties) -> tuple[str, Properties]:
        """Knows everything except the command's output."""
        return new_identity(name), {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}

    @override
    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        return new_identity(call.name), run(call, inputs.get("create"), inputs, {})

    @override
    def update(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> Properties:
        """Runs `update`, or `create` if there is no `update`."""
        return run(call, inputs.get("update", inputs.get("create")), inputs, olds)

    @override
    def read(self, call: Call, identity: str, olds: Properties, inputs: Properties) -> ReadResult:
        """Returns the state unchanged: a Command leaves nothing to inspect."""
        return identity, olds, inputs

    @override
    def delete(self, call: Call, identity: str, olds: Properties) -> None:
        """Runs `delete` with the script, environment and input from the state."""
        run(call, olds.get("delete"), olds, olds)


def new_identity(name: str) -> str:
    """Returns the name and eight random digits."""
    return name + secrets.token_hex(4)


def problems(inputs: Properties) -> Iterator[str]:
    """Yields an error for each invalid input."""
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


def wrong_type(value: Value, type_: type, expected: str, path: PropertyPath) -> Iterator[str]:
    """Yields an error if a known value has the wrong type."""
    if value is not UNKNOWN and not isinstance(value, type_):
        yield f"'{path_text(path)}' must be {expected}; got {value!r}"


def run(call: Call, script: str | None, inputs: Properties, olds: Properties) -> Properties:
    """Runs a script as `inputs` specify and returns the resource's outputs; without a script, keeps the previous ones.

    Raises:
        PluginError: The script could not be started, failed, or exceeded its timeout.
    """
    outputs = {key: inputs[key] for key in INPUTS if key in inputs}
    previous = {key: olds.get(key) or "" for key in ("stdout", "stderr")}
    if script is None:
        return outputs | previous
    environment = os.environ | inputs.get("environment", {})
    if inputs.get("addPreviousOutputInEnv", True):
        environment |= {f"PULUMI_COMMAND_{key.upper()}": value for key, value in previous.items() if value}
    interpreter = inputs.get("interpreter") or DEFAULT_INTERPRETER
    try:
        process = call.processes.start(
            [*interpreter, script],
            cwd=inputs.get("dir"),
            env=environment,
            stdin=subprocess.PIPE if inputs.get("stdin") else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise PluginError(f"{start_error(error, inputs)}: running {quoted(script)}:\n") from error
    output = CapturedOutput(call, process, LOGGED[inputs.get("logging", "stdoutAndStderr")])
    feed(process, inputs.get("stdin") or "")
    timed_out = threading.Event()
    timer = threading.Timer(call.timeout, kill, (process, timed_out)) if call.timeout else None
    if timer:
        timer.start()
    process.wait()
    if timer:
        timer.cancel()
    call.processes.done(process)
    output.finish()
    if process.returncode:
        note = f"\n(stopped after its timeout of {call.timeout:g} s)" if timed_out.is_set() else ""
        raise PluginError(f"{ending(process.returncode)}: running {quoted(script)}:\n{as_text(output.both)}{note}")
    return outputs | {"stdout": as_text(output.stdout), "stderr": as_text(output.stderr)}


def kill(process: subprocess.Popen[bytes], timed_out: threading.Event) -> None:
    """Kills a Command that exceeded its timeout, with all its children."""
    timed_out.set()
    end_sessions({process.pid}, signal.SIGKILL, KILL_SECONDS)


def feed(process: subprocess.Popen[bytes], text: str) -> None:
    """Writes text to a process's standard input without waiting until it is read."""

    def write(stream: IO[bytes]) -> None:
        # A process that ignores its input may close it.
        with contextlib.suppress(BrokenPipeError), stream:
            stream.write(text.encode())

    if process.stdin is not None:
        threading.Thread(target=write, args=(process.stdin,), daemon=True).start()


class CapturedOutput:
    """The complete output of a running Command; the streams in `logged` are also shown while it runs."""

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
        """Waits for the rest of the output, but not for a background child that keeps the streams open."""
        deadline = time.monotonic() + DRAIN_SECONDS
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
    """Sends a stream's lines to the engine's display, limited in length and in number per second."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._rest = b""
        self._second = 0
        self._sent = 0
        self._skipped = 0

    def feed(self, chunk: bytes) -> None:
        """Processes the next bytes of the stream."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._show(line)
        # Truncated here, not only when shown: a stream without newlines must not pile up in memory.
        self._rest = self._rest[:LINE_BYTES]

    def close(self) -> None:
        """Sends an unterminated last line, and the number of lines that were not shown."""
        if self._rest:
            self._show(self._rest)
        if self._skipped:
            self._call.engine.status(self._call.urn, f"({self._skipped} more lines were not shown)")

    def _show(self, line: bytes) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._sent = second, 0
        self._sent += 1
        if self._sent > LINES_PER_SECOND:
            self._skipped += 1
        else:
            self._call.engine.status(self._call.urn, line[:LINE_BYTES].decode(errors="replace"))


def start_error(error: OSError, inputs: Properties) -> str:
    """Returns why a process could not be started, worded as in the official plugin."""
    reason = (error.strerror or str(error)).lower()
    if error.filename is not None and error.filename == inputs.get("dir"):
        return f"chdir {error.filename}: {reason}"
    program = (inputs.get("interpreter") or DEFAULT_INTERPRETER)[0]
    if isinstance(error, FileNotFoundError) and "/" not in program:
        return f'exec: "{program}": executable file not found in $PATH'
    return f"fork/exec {program}: {reason}"


def ending(code: int) -> str:
    """Returns how a process ended, worded as in the official plugin."""
    return f"exit status {code}" if code > 0 else f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"


def as_text(output: bytearray) -> str:
    """Decodes output, without its trailing newline."""
    return output.decode(errors="replace").removesuffix("\n")


def quoted(text: str) -> str:
    """Quotes text as the official plugin does (Go's `%q`)."""
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

"""The Docker API over ssh: plain HTTP through `ssh … docker system dial-stdio`, one connection per operation."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from provider import Call, PluginError

# BatchMode: no terminal is attached to answer a password prompt.
SSH_OPTIONS = ("-o", "ConnectTimeout=30", "-o", "BatchMode=yes", "-T")
ANSWER_SECONDS = 60.0
END_SECONDS = 2.0


class NotFoundError(PluginError):
    """The daemon answered that the object does not exist."""


@dataclass(frozen=True)
class Daemon:
    """A Docker daemon reached over ssh."""

    host: str
    ssh_options: tuple[str, ...] = ()

    @contextlib.contextmanager
    def connect(self, call: Call) -> Iterator[Connection]:
        """Opens a connection for one operation.

        Raises:
            PluginError: ssh could not be started.
        """
        connection = Connection(self, call)
        try:
            yield connection
        finally:
            connection.close()

    def command(self) -> list[str]:
        """Returns the ssh command line that connects its standard streams to the daemon."""
        url = urlsplit(self.host)
        login = ["-l", url.username] if url.username else []
        port = ["-p", str(url.port)] if url.port else []
        target = [url.hostname or "", "--", "docker", "system", "dial-stdio"]
        return ["ssh", *self.ssh_options, *SSH_OPTIONS, *login, *port, *target]


class Connection:
    """An open connection. Paths carry no API version: the daemon then uses its latest one."""

    def __init__(self, daemon: Daemon, call: Call) -> None:
        self._daemon, self._call = daemon, call
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._ssh = call.processes.start(daemon.command(), stdin=theirs, stdout=theirs, stderr=self._stderr)
            except OSError as error:
                raise PluginError(f"error during connect: ssh can't be started: {error}") from error
        ours.settimeout(min(ANSWER_SECONDS, max(call.deadline - time.monotonic(), 0.1)))
        self._http = http.client.HTTPConnection("docker")
        self._http.auto_open = 0
        self._http.sock = ours

    def get(self, path: str, **filters: list[str]) -> Any:
        """Sends a GET request, with the API's own filters."""
        return self.send("GET", path + (f"?filters={quote(json.dumps(filters))}" if filters else ""))

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Sends a request and returns the daemon's answer.

        Raises:
            NotFoundError: The object does not exist.
            PluginError: The daemon can't be reached, or rejects the request.
        """
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            self._http.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._http.getresponse()
            text = response.read()
        except TimeoutError as error:
            raise PluginError(f"the Docker daemon at {self._daemon.host} does not answer") from error
        except (OSError, http.client.HTTPException) as error:
            raise PluginError(self._broken()) from error
        if response.status >= 400:
            kind = NotFoundError if response.status == 404 else PluginError
            raise kind(f"Error response from daemon: {message(text)}")
        return json.loads(text) if text else None

    def close(self) -> None:
        """Ends ssh."""
        self._http.close()
        try:
            self._ssh.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()
        self._call.processes.done(self._ssh)
        self._stderr.close()

    def _broken(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._ssh.wait(END_SECONDS)
        self._stderr.seek(0)
        stderr = self._stderr.read().decode(errors="replace").strip() or "no error output"
        return (
            f"error during connect: 'ssh {self._daemon.host}' ended with exit status {self._ssh.returncode}: {stderr}; "
            "check that the host is reachable and runs Docker 18.09 or later"
        )


def message(body: bytes) -> str:
    """Returns the message in an error response, or the whole body if it is not in Docker's format."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()

"""The program's nginx configurations, run on loopback: responses to visitors without a container or node."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from components.application import configuration as application_configuration
from components.contract import FOLDER_CONTENT
from components.proxy import configuration as proxy_configuration
from components.rendering import TEMPLATES
from components.service import START, Route, capacity
from components.settings import ContentSettings, ProxySettings

START_SECONDS = 10

ELSEWHERE = ("next", "previous/1")
"""Folders for files missing from the current release."""


def nginx() -> Path:
    """Return the nginx unpacked by set-up: it is never installed, so its files are next to it and not in /etc."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "swarm-site/nginx/usr/sbin"
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:{cache}:/usr/sbin")
    assert found, "there is no nginx to test configurations with; run: tools/setup check"
    return Path(found).resolve()


def free_port() -> int:
    """Return a port nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True)
class Answer:
    """A response; `headers` holds every header line, with lower-case names."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return the values of every header with a name."""
        return [value for key, value in self.headers if key == name.lower()]

    def __getitem__(self, name: str) -> str:
        """Return the value of the only header with a name; empty if there is none."""
        values = self.all(name)
        assert len(values) < 2, f"{name} is sent {len(values)} times"
        return values[0] if values else ""


@dataclass(frozen=True)
class Server:
    """A running nginx, with its folder for temporary files and its process."""

    port: int
    folder: Path
    pid: int

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send one request on a new connection; `_` in header names stands for `-`."""
        return fetch(self.port, path, method, headers)

    def raw(self, text: str, address: str = "127.0.0.1") -> bytes:
        """Send a request unchanged and return the response."""
        with socket.create_connection((address, self.port), timeout=10) as connection:
            connection.sendall(text.encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))

    @property
    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "nginx\n"]

    def memory(self) -> int:
        """Return the anonymous memory of the processes, in MB."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in (self.pid, *self.workers)]
        return sum(int(re.findall(r"RssAnon:\s+(\d+)", status)[0]) for status in statuses) // 1024

    def temporary_files(self) -> list[Path]:
        """Return temporary files, open or left over, below the folder for temporary files."""
        opened = [link.readlink() for pid in self.workers for link in Path(f"/proc/{pid}/fd").iterdir()]
        left = [path for path in (self.folder / "tmp").rglob("*") if path.is_file()]
        below = [path for path in (*opened, *left) if path.is_relative_to(self.folder / "tmp")]
        return [path for path in below if path.name not in ("log", "nginx.pid", "default.conf", "named.conf")]


def fetch(port: int, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
    """Send one request to a port of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers={key.replace("_", "-"): text for key, text in (headers or {}).items()})
        response = connection.getresponse()
        lines = [(key.lower(), value) for key, value in response.getheaders()]
        return Answer(response.status, lines, response.read())


@contextlib.contextmanager
def running(
    text: str, folder: Path, port: int, workers: int = 1, content: Path | None = None, output: int | None = None
) -> Iterator[Server]:
    """Run a configuration as in a container, with ports, accounts and folders replaced by those of the test.

    Args:
        text: configuration.
        folder: folder for all files of this nginx.
        port: port it listens on.
        workers: number of its processes.
        content: folder an application serves.
        output: descriptor of its output, instead of the file `log`.
    """
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    path = folder / "nginx.conf"
    log = folder / "log"
    moved = text.replace("/tmp/", f"{temporary}/")
    path.write_text(moved.replace(f"{FOLDER_CONTENT}/current", str(content)))
    start = (TEMPLATES / START).read_text().replace("/tmp/", f"{temporary}/")
    if os.getuid() == 0:  # root's nginx would run workers under an account without access to the test's folder
        start = start.replace('"daemon off;', '"daemon off; user root;').replace(
            "exec nginx", f"exec nginx -p {folder}"
        )
    environment = os.environ | {"PATH": f"{nginx().parent}:{os.environ['PATH']}"}
    with log.open("w") as file:
        command = ["sh", "-c", start, "start", str(workers), str(port), str(path)]
        stream = file if output is None else output
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment)
    try:
        wait_for(port, process, log)
        yield Server(port, folder, process.pid)
    finally:
        for pid in Server(port, folder, process.pid).workers:
            os.kill(pid, signal.SIGCONT)
        process.terminate()
        process.wait(10)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return


@contextlib.contextmanager
def application(
    content: Path, folder: Path, memory: int = 64, workers: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run an application that serves a folder."""
    bounds = capacity(memory, workers)
    text = application_configuration(ContentSettings.model_validate(settings or {}), FOLDER_CONTENT, ELSEWHERE, bounds)
    port = free_port()
    with running(text.replace("listen 80 ", f"listen {port} "), folder, port, workers, content) as server:
        yield server


@contextlib.contextmanager
def proxy(
    folder: Path,
    endpoint: int,
    *named: Route,
    others: Sequence[int] = (),
    workers: int = 1,
    output: int | None = None,
    **settings: object,
) -> Iterator[Server]:
    """Run a proxy with endpoints on this machine, given by their ports."""
    given = ProxySettings.model_validate({"port": free_port(), **settings})
    endpoints = [f"127.0.0.1:{port}" for port in (*others, endpoint)]
    text, _ = proxy_configuration(given, [Route(name="backend", hosts=[], endpoints=endpoints, read_timeout=2), *named])
    with running(text, folder, given.port, workers, output=output) as server:
        yield server


class Echo(BaseHTTPRequestHandler):
    """Answers with the request headers as JSON, by lower-case name."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({key.lower(): value for key, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """Run an application that returns the headers it receives from a proxy; yield its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

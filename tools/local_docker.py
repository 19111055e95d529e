"""The local Docker, for `tools.images`: requests with time limits, logged output, errors with a reason."""

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.utils import parse_repository_tag
from urllib3.exceptions import HTTPError

from tools.stack import ToolError

CONNECT_SECONDS = 20
ANSWER_SECONDS = 10
PULL_SECONDS = 900
REQUEST_SECONDS = 900
"""Time limit for the first byte of any other request."""
HANG_UP_SECONDS = 30
"""Time limit for Docker to end a build."""
SWEEP_TENTHS = 300
"""Time limit for Docker to end the build of a killed run, in tenths of a second."""
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class UnavailableError(Exception):
    """One way to an image failed; the text is the reason."""


FAILURES = (UnavailableError, DockerException, HTTPError, OSError)
"""Exceptions from one way to an image; `explain` returns the reason."""


def reason(output: str) -> str:
    """Return the line with a command's error: apt's first error, else the last line."""
    lines = [line.rstrip()[:400] for line in output.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("E: ")), lines[-1] if lines else "no output")


def explain(error: BaseException) -> str:
    """Return Docker's answer, or what prevented one."""
    if isinstance(error, APIError) and error.explanation:
        return str(error.explanation).strip()
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, UnavailableError) or getattr(cause, "strerror", None):
            return getattr(cause, "strerror", None) or str(cause)
        cause = cause.__context__
    return str(error)


def event_text(event: Mapping[str, Any]) -> str:
    """Return a Docker event as log text without colours; empty for a progress bar."""
    if "status" in event and not event.get("progressDetail"):
        return f"{event.get('id', '')}: {event['status']}\n".removeprefix(": ")
    return f"{event['error']}\n" if "error" in event else re.sub(r"\x1b\[\d*m", "", event.get("stream", ""))


@contextlib.contextmanager
def deadline(seconds: int, message: str) -> Iterator[None]:
    """Raise UnavailableError in the main thread after a time limit in seconds."""

    def ring(*_: object) -> NoReturn:
        raise UnavailableError(message)

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


class LocalDocker:
    """The local Docker, with the output of its work in a log. Methods raise one of FAILURES.

    Raises:
        ToolError: Docker does not answer.
    """

    def __init__(self, output: IO[str]) -> None:
        self.output = output
        self.line: socket.socket | None = None
        try:
            with deadline(CONNECT_SECONDS, f"no answer within {CONNECT_SECONDS} s"):
                self.client = docker.from_env(timeout=REQUEST_SECONDS)
            self.client.api.hooks["response"].append(self._remember)
        except FAILURES as error:
            place = os.environ.get("DOCKER_HOST", "its socket")
            advice = "What to do: start it (systemctl start docker, or as this machine starts it), then run again."
            raise ToolError(f"Docker does not answer on this machine: {place}: {explain(error)}\n{advice}") from None

    @property
    def folder(self) -> Path:
        """Return Docker's image folder; not necessarily visible to this process."""
        return Path(self.client.info()["DockerRootDir"])

    def has(self, reference: str) -> bool:
        """Return whether Docker has an image."""
        with contextlib.suppress(ImageNotFound):
            return bool(self.client.images.get(reference))
        return False

    def tag(self, found: str, reference: str) -> None:
        """Add a name to an image."""
        self.client.images.get(found).tag(*parse_repository_tag(reference))

    def load(self, file: Path, wanted: str) -> str:
        """Load an archive; return the wanted name if one of its images has it, else the last one's id."""
        with file.open("rb") as archive:
            images = self.client.images.load(archive)
        if not images:
            raise UnavailableError("it holds no image")
        last, server = images[-1], self.client.version()
        made_for, here = f"{last.attrs['Os']}/{last.attrs['Architecture']}", f"{server['Os']}/{server['Arch']}"
        if made_for != here:
            for image in images:
                self.client.images.remove(str(image.id), force=True)
            advice = f"docker pull --platform {here}, then save again"
            raise UnavailableError(f"it is for {made_for}, and this machine is {here} ({advice})")
        return wanted if any(wanted in image.tags for image in images) else str(last.id)

    def pull(self, reference: str) -> str:
        """Pull an image, with a short limit for a silent registry: Docker itself would wait minutes."""
        with deadline(ANSWER_SECONDS, f"no answer within {ANSWER_SECONDS} s"):
            # The first event arrives when the registry has answered.
            events: Iterator[Mapping[str, Any]] = self.client.api.pull(reference, stream=True, decode=True)
            self._follow([next(events, {})])
        with deadline(PULL_SECONDS, f"not complete within {PULL_SECONDS} s"):
            self._follow(events)
        return reference

    def digest(self, reference: str) -> str:
        """Return a pulled image's name with its digest, for which a registry always gives the same image."""
        names: list[str] = self.client.images.get(reference).attrs["RepoDigests"]
        repository, _ = parse_repository_tag(reference.partition("@")[0])
        return next((name for name in names if name.startswith(f"{repository}@")), ", ".join(names) or reference)

    def build(self, folder: Path, tag: str, arguments: Mapping[str, str], **options: Any) -> str:
        """Build an image with the builder that every Docker has and that sees local images."""
        proxies = {name: text for name, text in os.environ.items() if name.lower() in PROXIES}
        options |= {"buildargs": {**proxies, **arguments}, "rm": True, "forcerm": True, "decode": True}
        self._follow(self.client.api.build(str(folder), tag, **options))
        return tag

    def unpack(self, file: Path, tag: str, label: str) -> str:
        """Create an image from a root file system in a tar file."""
        repository, version = parse_repository_tag(tag)
        answer = self.client.api.import_image(str(file), repository, version, changes=[f"LABEL {label}"])
        self._follow(map(json.loads, answer.splitlines()))
        return tag

    def save(self, reference: str, file: Path) -> None:
        """Write an image's archive."""
        with file.open("wb") as archive:
            archive.writelines(self.client.api.get_image(reference))

    def sweep(self, base: str, label: str) -> None:
        """End a running build, then remove an image and a label's dangling images."""
        self._hang_up()
        filters = {"label": label, "dangling": True}
        for _ in range(SWEEP_TENTHS):
            with contextlib.suppress(*FAILURES):
                if self.has(base):
                    self.client.images.remove(base)  # no force: it would not wait for a container
                self.client.images.prune(filters)
                if not self.client.images.list(filters=filters):
                    return
            time.sleep(0.1)

    def _remember(self, response: Any, **_: object) -> None:
        """Keep a build's connection open when the SDK closes it, which a signal may cause at any time."""
        if "/build?" in response.url:
            self.line = socket.socket(fileno=os.dup(response.raw.fileno()))

    def _hang_up(self) -> None:
        """Close the sending side, which ends the build, and read to the end: Docker may be creating a container."""
        if self.line:
            with contextlib.suppress(OSError), self.line:
                self.line.settimeout(HANG_UP_SECONDS)
                self.line.shutdown(socket.SHUT_WR)
                while self.line.recv(2**16):
                    pass
            self.line = None

    def _follow(self, events: Iterable[Mapping[str, Any]]) -> None:
        output = ""
        for event in events:
            output += (text := event_text(event))
            self.output.write(text)
            if "error" in event:
                raise UnavailableError(reason(output))

"""A proxy that counts: it takes connections, keeps what they begin with, and closes them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

VARIABLES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "grpc_proxy")
"""Those by which programs find a proxy."""
EXCEPTIONS = ("no_proxy", "NO_PROXY", "no_grpc_proxy")
"""Those by which they leave one out."""


@dataclass
class Listener:
    """A listening socket; `heard` has the beginning of each connection."""

    listening: socket.socket
    heard: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """A user's environment that sends everything to it."""
        return dict.fromkeys(VARIABLES, f"http://127.0.0.1:{self.listening.getsockname()[1]}")

    def listen(self) -> None:
        """Take connections until the socket is shut down."""
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.heard.append(connection.recv(100).decode(errors="replace"))


@contextmanager
def listener() -> Iterator[Listener]:
    """A listener that ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = Listener(listening)
        thread = threading.Thread(target=found.listen)
        thread.start()
        try:
            yield found
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()

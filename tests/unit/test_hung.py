"""Endpoints that hang, pause or come back, behind a real proxy: what its visitors wait for."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit import servers
from tests.unit.servers import Server, application, free_port, proxy

AT_ONCE = 4
REQUESTS = 100
LONGEST = 2.5
"""Seconds that a visitor may wait for an endpoint that hangs."""
QUICK = 1.0
PAUSE = 1.0


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An application that answers."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "content").mkdir()
    (folder / "content/index.html").write_text("hello")
    with application(folder / "content", folder) as server:
        yield server


@contextlib.contextmanager
def hung() -> Iterator[int]:
    """An endpoint whose kernel accepts connections and whose program never answers, as on a paused machine."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def speaking(*parts: bytes, pause: float = 0) -> Iterator[tuple[int, list[bytes]]]:
    """An endpoint that answers each connection with these parts, with a pause before each; and the requests it got."""
    got: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    got.append(connection.recv(65536))
                    for part in parts:
                        time.sleep(pause)
                        connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], got
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def timed(server: Server, method: str = "GET") -> tuple[float, int]:
    """Send a request; return its duration and status."""
    begin = time.monotonic()
    status = server.get("/", method).status
    return time.monotonic() - begin, status


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hung_endpoint_delays_the_first_visitors_and_then_nobody(good: Server, tmp_path: Path, workers: int) -> None:
    with hung() as port, proxy(tmp_path, good.port, others=[port], workers=workers) as site:
        with ThreadPoolExecutor(AT_ONCE) as visitors:
            answers = list(visitors.map(lambda _: timed(site), range(REQUESTS)))
        later = [timed(site) for _ in range(REQUESTS)]
    assert {status for _, status in (*answers, *later)} == {200}
    slow = [seconds for seconds, _ in answers if seconds > QUICK]
    assert 0 < len(slow) <= AT_ONCE, "those that were on their way"
    assert max(slow) <= LONGEST
    assert max(seconds for seconds, _ in later) <= QUICK


def test_a_request_that_may_have_had_an_effect_is_not_repeated(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    with hung() as port, speaking(answer) as (other, got), proxy(tmp_path, other, others=[port]) as site:
        statuses = [timed(site, "POST")[1] for _ in range(2)]
    assert sorted(statuses) == [200, 504]
    assert len(got) == 1


def test_a_slow_answer_with_short_pauses_arrives_whole(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n"
    with speaking(head, b"12", b"34", b"56", pause=PAUSE) as (port, _), proxy(tmp_path, port) as site:
        assert site.get("/").body == b"123456"


def test_endpoints_that_were_all_skipped_answer_as_soon_as_one_is_back(
    good: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = free_port(), free_port()
    content = tmp_path / "content"
    content.mkdir()
    (content / "index.html").write_text("back")
    with proxy(tmp_path / "proxy", first, others=[second]) as site:
        assert {timed(site)[1] for _ in range(3)} == {502}
        monkeypatch.setattr(servers, "free_port", lambda: first)
        with application(content, tmp_path / "application"):
            assert {timed(site)[1] for _ in range(5)} == {200}

"""Logs never block an answer: nobody reads the output, and it is full; and a health check that finds a hung worker."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.proxy import STATE_PATH
from components.service import health_check
from tests.unit.sandbox import until
from tests.unit.servers import Server, application, proxy

PIPE_BYTES = 4096
LINES = 200
"""Log lines that fill such a pipe several times."""


@pytest.fixture
def unread() -> Iterator[int]:
    """The write end of a small pipe that nobody reads."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield write
    os.close(read)
    os.close(write)


@pytest.fixture
def good(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "content").mkdir()
    (tmp_path / "content/index.html").write_text("hello")
    with application(tmp_path / "content", tmp_path / "application") as server:
        yield server


def test_an_output_that_nobody_reads_blocks_no_answer(good: Server, tmp_path: Path, unread: int) -> None:
    with proxy(tmp_path / "proxy", good.port, output=unread) as site:
        assert {site.get(f"/{'x' * 500}{number}").status for number in range(LINES)} == {404}
        assert {site.get("/").status for _ in range(LINES)} == {200}


def test_what_is_logged_reaches_the_output(good: Server, tmp_path: Path) -> None:
    with proxy(tmp_path / "proxy", good.port) as site:
        assert site.get("/first").status == 404
        log = site.folder / "log"
        assert until(lambda: '"GET /first HTTP/1.1" 404' in log.read_text())


def test_a_log_that_nobody_reads_stays_small(good: Server, tmp_path: Path, unread: int) -> None:
    with proxy(tmp_path / "proxy", good.port, output=unread) as site:
        log = site.folder / "tmp/log"
        with log.open("ab") as file:
            file.write(b"x" * 1_100_000)
        assert until(lambda: log.stat().st_size < 1_000_000)


def is_healthy(check: str) -> bool:
    """Run a health check with the limit that Docker gives it."""
    try:
        return subprocess.run(["sh", "-c", check], timeout=2, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def test_a_worker_that_hangs_makes_a_proxy_unhealthy(good: Server, tmp_path: Path) -> None:
    with proxy(tmp_path / "proxy", good.port, workers=2) as site:
        check = health_check(f"http://127.0.0.1:{site.port}{STATE_PATH}", sockets=2)
        assert is_healthy(check)
        hung = site.workers[0]
        os.kill(hung, signal.SIGSTOP)
        assert not all(is_healthy(check) for _ in range(3))
        os.kill(hung, signal.SIGCONT)
        assert is_healthy(check)

"""Responses to visitors, requested over HTTP from the rendered configurations in a real nginx."""

import base64
import contextlib
import gzip
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.contract import HEALTH_PATH
from components.proxy import STATE_PATH
from components.rendering import TEMPLATES
from components.service import START, Route, capacity
from tests.unit.sandbox import until
from tests.unit.servers import Server, application, echo, proxy

FOREVER = "public, max-age=31536000, immutable"
LARGE = 100 * 1024 * 1024
TEXT = "The quick brown fox jumps over the lazy dog. " * 500
PAGES = {
    "index.html": "<h1>home</h1>",
    "404.html": "<h1>not here</h1>",
    "large.html": TEXT,
    "large.js": TEXT,
    "small.js": "1",
    "packed.css": TEXT,
    "docs/index.html": "<h1>docs</h1>",
    "a folder/ü/index.html": "<h1>ü</h1>",
    "empty/file.bin": "1",
}
PACKED = gzip.compress(b"precompressed", mtime=0)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("backend")
    content = write(folder / "content", PAGES)
    (content / "packed.css.gz").write_bytes(PACKED)
    with (content / "large.bin").open("wb") as file:
        file.truncate(LARGE)
    with application(content, folder) as server:
        yield server


@pytest.fixture(scope="module")
def site(backend: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The proxy in front of the backend."""
    with proxy(tmp_path_factory.mktemp("proxy"), backend.port) as server:
        yield server


@pytest.fixture(params=["backend", "site"])
def server(request: pytest.FixtureRequest) -> Server:
    """Backend or proxy: the proxy forwards the backend's responses."""
    found: Server = request.getfixturevalue(request.param)
    return found


# --- caches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/index.html", 200), ("/large.js", 200), ("/docs", 301), ("/docs/", 200), ("/nothing", 404)],
)
def test_a_cache_asks_each_time(server: Server, path: str, status: int) -> None:
    answer = server.get(path)
    assert (answer.status, answer["Cache-Control"]) == (status, "no-cache")


def test_an_unchanged_file_is_not_sent_again(server: Server) -> None:
    first = server.get("/large.js")
    for header in ({"If_None_Match": first["ETag"]}, {"If_Modified_Since": first["Last-Modified"]}):
        again = server.get("/large.js", **header)
        assert (again.status, again.body, again["Cache-Control"]) == (304, b"", "no-cache")


HASHED = [
    "app.0a1b2c3d.js",
    "main.073c9b0a.chunk.js",
    "runtime.0a1b2c3d.js.map",
    "0a1b2c3d4e5f60718293.css",
    "style.min.3f2504e04f8911d39a0c0305e82c3301aa5512cd0f6f2d1a9d2c7b4e6a5f8c9d.css",
    "logo-0a1b2c3d.png",
    "inter_0a1b2c3d4e5f6071.woff2",
    "index-BhX3kA1z.js",
    "index.BhX3kA1z.css",
    "inter-D1xP9_aB.woff2",
]
PLAIN = [
    "app.js",
    "report-20240101.pdf",
    "photo-20240101.jpg",
    "my-document.css",
    "jquery-3.7.1.min.js",
    "jquery-Version1.js",
    "photo-Summer24.jpg",
    "main-SNAPSHOT.js",
    "0a1b2c3d.html",
    "data.0a1b2c3d.json",
    "0a1b2c3/app.js",
    "0a1b2c3d/app.js",
    "default-deadbeef.css",
    "v1.0a1b2c3.js",
]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("named")
    with application(write(folder / "content", dict.fromkeys((*HASHED, *PLAIN), "1")), folder) as server:
        yield server


@pytest.mark.parametrize("name", HASHED)
def test_a_file_named_by_its_hash_is_kept(named: Server, name: str) -> None:
    answer = named.get(f"/{name}")
    assert (answer.status, answer["Cache-Control"]) == (200, FOREVER)
    assert named.get(f"/{name}", If_None_Match=answer["ETag"])["Cache-Control"] == FOREVER


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_that_only_looks_like_a_hash_is_not_kept(named: Server, name: str) -> None:
    answer = named.get(f"/{name}")
    assert (answer.status, answer["Cache-Control"]) == (200, "no-cache")


def test_a_file_that_is_missing_is_not_kept(named: Server) -> None:
    answer = named.get("/app.ffff0000.js")
    assert (answer.status, answer["Cache-Control"]) == (404, "no-cache")


def test_the_settings_change_what_a_cache_does(tmp_path: Path) -> None:
    content = write(tmp_path / "content", {"index.html": "1", "app.0a1b2c3d.js": "1"})
    policy = {"cache_control": "public, max-age=300", "cache_control_hashed": ""}
    with application(content, tmp_path, settings=policy) as server:
        assert server.get("/")["Cache-Control"] == "public, max-age=300"
        assert server.get("/app.0a1b2c3d.js").all("Cache-Control") == []
        assert server.get("/nothing")["Cache-Control"] == "no-cache"


# --- types ------------------------------------------------------------------------------------------------------------

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "cjs": "text/javascript; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
    "xml": "text/xml; charset=utf-8",
    "json": "application/json",
    "webmanifest": "application/manifest+json",
    "wasm": "application/wasm",
    "ttf": "font/ttf",
    "woff2": "font/woff2",
    "avif": "image/avif",
    "webp": "image/webp",
    "png": "image/png",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
    "gz": "application/gzip",
    "unknown": "application/octet-stream",
}


def test_a_file_has_the_type_of_its_name(tmp_path: Path) -> None:
    content = write(tmp_path / "content", {f"x.{ending}": "1" for ending in TYPES})
    with application(content, tmp_path) as server:
        assert {ending: server.get(f"/x.{ending}")["Content-Type"] for ending in TYPES} == TYPES


@pytest.mark.parametrize(
    ("charset", "expected"), [("iso-8859-1", "text/html; charset=iso-8859-1"), ("off", "text/html")]
)
def test_the_declared_encoding_is_a_setting(tmp_path: Path, charset: str, expected: str) -> None:
    with application(write(tmp_path / "content", PAGES), tmp_path, settings={"charset": charset}) as server:
        assert server.get("/")["Content-Type"] == expected


# --- compression ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/large.html", "/large.js"])
def test_text_is_compressed_for_whoever_takes_it(server: Server, path: str) -> None:
    packed, plain = server.get(path, Accept_Encoding="br, gzip"), server.get(path)
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body == TEXT.encode()
    assert len(packed.body) < len(plain.body) / 10
    assert plain.all("Content-Encoding") == []
    assert {answer["Vary"] for answer in (packed, plain)} == {"Accept-Encoding"}
    assert packed["Content-Type"] == plain["Content-Type"]
    assert server.get(path, Accept_Encoding="gzip", If_None_Match=packed["ETag"]).status == 304


def test_a_visitor_of_a_cdn_gets_compressed_text_too(server: Server) -> None:
    assert server.get("/large.js", Accept_Encoding="gzip", Via="1.1 cdn")["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("path", ["/small.js", "/large.bin"])
def test_what_is_not_worth_it_is_not_compressed(server: Server, path: str) -> None:
    answer = server.get(path, method="HEAD", Accept_Encoding="gzip")
    assert answer.all("Content-Encoding") == []


def test_a_precompressed_file_is_sent_as_it_is(server: Server) -> None:
    packed = server.get("/packed.css", Accept_Encoding="gzip")
    assert (packed["Content-Encoding"], packed.body) == ("gzip", PACKED)
    assert packed["Content-Type"] == "text/css; charset=utf-8"
    assert packed["Vary"] == "Accept-Encoding"
    assert server.get("/packed.css").body == TEXT.encode()


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nothing", "/nothing/", "/empty/", "/large.js/"])
def test_a_missing_page_is_the_sites_own(server: Server, path: str) -> None:
    answer = server.get(path)
    assert (answer.status, answer.body) == (404, PAGES["404.html"].encode())
    assert answer["X-Backend"]


@pytest.mark.parametrize("path", ["/", "/nothing", "/app.ffff0000.js"])
def test_a_site_without_pages_answers_with_nginxs_own(tmp_path: Path, path: str) -> None:
    with application(write(tmp_path / "content", {"file.txt": "1"}), tmp_path) as server:
        answer = server.get(path)
        assert answer.status == 404
        assert b"404 Not Found" in answer.body
        assert server.get("/file.txt").status == 200
        assert server.get(HEALTH_PATH).body == b"ok\n"


def test_the_path_of_the_products_own_does_not_depend_on_the_content(server: Server) -> None:
    assert (server.get(HEALTH_PATH).status, server.get(HEALTH_PATH).body) == (200, b"ok\n")


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "docs.example:8088", "[::1]:99"])
def test_a_redirect_stays_where_the_visitor_is(server: Server, host: str) -> None:
    answer = server.get("/docs?a=b", Host=host)
    assert (answer.status, answer["Location"]) == (301, "/docs/?a=b")


def test_a_redirect_is_a_valid_uri(server: Server) -> None:
    assert server.get("/a%20folder/%C3%BC")["Location"] == "/a%20folder/%C3%BC/"


@pytest.mark.parametrize("path", ["//evil.example/..//docs", "//docs"])
def test_no_redirect_leads_to_another_host(server: Server, path: str) -> None:
    answer = server.raw(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")
    assert re.findall(rb"(?m)^Location: (.*)\r$", answer) == [b"/docs/"]


# --- odd requests -----------------------------------------------------------------------------------------------------


def test_a_request_of_http_1_0_needs_no_host(server: Server) -> None:
    answer = server.raw("GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(PAGES["index.html"].encode())


@pytest.mark.parametrize("path", ["/large.js", "/index.html", "/large.bin"])
def test_a_range_that_a_file_does_not_have_is_refused_with_each_header_once(server: Server, path: str) -> None:
    answer = server.get(path, Range="bytes=999999999-")
    assert answer.status == 416
    names = [name for name, _ in answer.headers]
    assert sorted(names) == sorted(set(names))
    assert {"x-backend", "cache-control", "content-range"} <= set(names)


def test_a_range_is_sent(server: Server) -> None:
    answer = server.get("/large.js", Range="bytes=4-8")
    assert (answer.status, answer.body) == (206, b"quick")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_files_are_only_read(server: Server, method: str) -> None:
    assert server.get("/index.html", method=method).status == 405


def test_a_stranger_does_not_learn_the_proxys_state(site: Server, backend: Server, tmp_path: Path) -> None:
    inside = site.get(STATE_PATH)
    assert (inside.status, inside["Content-Type"]) == (200, "text/plain")
    assert re.fullmatch(rb"[0-9a-f]{12}\n", inside.body)
    with proxy(tmp_path, backend.port, trusted_networks=["127.0.0.0/8"]) as server:
        assert server.get(STATE_PATH).status == 200
        assert server.get(STATE_PATH, X_Forwarded_For="203.0.113.9").status == 403


def test_nobody_asks_for_the_state_by_its_inner_name(site: Server) -> None:
    assert site.get("/@state").status == 404


# --- visitor headers for applications ---------------------------------------------------------------------------------

LIES = {
    "X_Forwarded_For": "198.51.100.7",
    "X_Forwarded_Host": "evil.example",
    "X_Forwarded_Port": "1",
    "X_Forwarded_Proto": "https",
    "X_Forwarded_Prefix": "/evil",
    "X_Forwarded_Scheme": "https",
    "X_Forwarded_Server": "evil",
    "X_Forwarded_Ssl": "on",
    "Forwarded": "for=198.51.100.7",
    "X_Real_IP": "198.51.100.7",
}


def learned(server: Server, host: str = "docs.example:99", **headers: str) -> dict[str, Any]:
    """Return the headers about a visitor that an application receives."""
    found = json.loads(server.get("/", Host=host, **headers).body)
    return {key: value for key, value in found.items() if "forwarded" in key or key in ("x-real-ip", "host")}


def test_what_a_visitor_says_about_itself_is_replaced(tmp_path: Path) -> None:
    with echo() as port, proxy(tmp_path, port) as server:
        assert learned(server, **LIES) == {
            "host": "docs.example:99",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-host": "docs.example:99",
            "x-forwarded-port": str(server.port),
            "x-forwarded-proto": "http",
            "x-real-ip": "127.0.0.1",
        }


def test_a_stranger_is_not_believed_where_others_are(tmp_path: Path) -> None:
    with echo() as port, proxy(tmp_path, port, trusted_networks=["203.0.113.0/24", "2001:db8::/32"]) as server:
        assert learned(server, **LIES) == {
            "host": "docs.example:99",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-host": "docs.example:99",
            "x-forwarded-port": str(server.port),
            "x-forwarded-proto": "http",
            "x-real-ip": "127.0.0.1",
        }


def test_a_trusted_load_balancer_is_believed(tmp_path: Path) -> None:
    with echo() as port, proxy(tmp_path, port, trusted_networks=["127.0.0.0/8", "203.0.113.0/24"]) as server:
        visitor = {**LIES, "X_Forwarded_For": "198.51.100.7, 192.0.2.9, 203.0.113.4"}
        assert learned(server, **visitor) == {
            "host": "docs.example:99",
            "x-forwarded-for": "198.51.100.7, 192.0.2.9, 203.0.113.4, 127.0.0.1",
            "x-forwarded-host": "evil.example",
            "x-forwarded-port": "1",
            "x-forwarded-proto": "https",
            "x-forwarded-prefix": "/evil",
            "x-forwarded-scheme": "https",
            "x-forwarded-server": "evil",
            "x-forwarded-ssl": "on",
            "forwarded": "for=198.51.100.7",
            "x-real-ip": "192.0.2.9",
        }
        assert learned(server)["x-forwarded-for"] == "127.0.0.1"
        logged = until(lambda: (server.folder / "log").read_text())
        assert logged.startswith("192.0.2.9 - "), "the log has the visitor"


def test_an_application_gets_a_host_even_if_the_visitor_sends_none(tmp_path: Path) -> None:
    with echo() as port, proxy(tmp_path, port) as server:
        answer = server.raw("GET / HTTP/1.0\r\n\r\n")
        found = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert found["host"] == socket.gethostname()
        assert "x-forwarded-host" not in found


# --- IPv6 and workers -------------------------------------------------------------------------------------------------

HAS_IPV6 = Path("/proc/net/if_inet6").exists() and bool(Path("/proc/net/if_inet6").read_text())


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_visitors_of_ipv6_are_served_by_host_name_too(backend: Server, tmp_path: Path) -> None:
    with echo() as port:
        docs = Route(name="docs", hosts=["docs.example"], endpoints=[f"127.0.0.1:{port}"], read_timeout=2)
        with proxy(tmp_path, backend.port, docs) as server:
            answer = server.raw("GET / HTTP/1.0\r\n\r\n", address="::1")
            assert answer.endswith(PAGES["index.html"].encode())
            answer = server.raw("GET / HTTP/1.0\r\nHost: docs.example\r\n\r\n", address="::1")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["x-real-ip"] == "::1"
            assert b"200 OK" in server.raw(f"GET {STATE_PATH} HTTP/1.0\r\n\r\n", address="::1")


@pytest.mark.parametrize(("cpus", "bound", "workers"), [(64, 8, 8), (2, 8, 2), (1, 1, 1), (0, 4, 1)])
@pytest.mark.parametrize("addresses", ["", "00000000000000000000000000000001 01 80 10 80 lo\n", None])
def test_nginx_starts_with_what_its_node_has(
    tmp_path: Path, cpus: int, bound: int, workers: int, addresses: str | None
) -> None:
    for name, text in (("cpuinfo", "processor : 0\nflags : x\n" * cpus), ("net/if_inet6", addresses)):
        if text is not None:
            write(tmp_path / "proc", {name: text})
    write(tmp_path / "bin", {"nginx": '#!/bin/sh\nprintf "%s\\n" "$@"\n'})
    (tmp_path / "bin/nginx").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    script = (TEMPLATES / START).read_text().replace("/tmp/", f"{tmp_path}/tmp/").replace("/proc/", f"{tmp_path}/proc/")
    script = script.replace("follow &", ":")  # would keep the output open until somebody has noticed the end of nginx
    done = subprocess.run(
        ["sh", "-c", script, "start", str(bound), "8088", "/srv/nginx.conf"],
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["-c", "/srv/nginx.conf", "-g", f"daemon off; worker_processes {workers};"]
    listening = {path.name: path.read_text() for path in (tmp_path / "tmp").rglob("*.conf")}
    assert listening == (
        {
            "default.conf": "listen [::]:8088 reuseport default_server;\n",
            "named.conf": "listen [::]:8088;\n",
        }
        if addresses
        else {}
    )


# --- memory -----------------------------------------------------------------------------------------------------------

READERS = 100


@contextlib.contextmanager
def slow_readers(server: Server, path: str, count: int = READERS, headers: str = "") -> Iterator[list[socket.socket]]:
    """Open connections that request a file, read the first bytes and stop."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(small_window(server.port)) for _ in range(count)]
        for connection in connections:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        for connection in connections:
            assert connection.recv(1024).startswith(b"HTTP/1.1 200 OK\r\n")
        time.sleep(0.5)
        yield connections


def small_window(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", port))
    return connection


def test_slow_readers_of_a_large_file_fill_neither_memory_nor_files(site: Server, backend: Server) -> None:
    before = site.memory(), backend.memory()
    with slow_readers(site, "/large.bin"):
        assert site.temporary_files() == backend.temporary_files() == []
        assert site.memory() - before[0] <= READERS * 60 / 1024
        assert backend.memory() - before[1] <= 2
        assert site.get("/").status == 200


def test_slow_uploads_fill_neither_memory_nor_files(site: Server, backend: Server) -> None:
    before = site.memory()
    with contextlib.ExitStack() as stack:
        for _ in range(READERS):
            connection = stack.enter_context(small_window(site.port))
            connection.sendall(f"POST /large.bin HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n".encode())
            connection.sendall(b"x" * 16384)
        time.sleep(0.5)
        assert site.temporary_files() == backend.temporary_files() == []
        assert site.memory() - before <= READERS * 60 / 1024
        assert site.get("/").status == 200


def test_beyond_a_number_of_compressions_files_go_as_they_are(tmp_path: Path) -> None:
    content = write(tmp_path / "content", {"index.html": TEXT})
    # Random, or it would all fit into the kernel's buffers.
    (content / "large.txt").write_text(base64.b64encode(os.urandom(12 * 1024 * 1024)).decode())
    with application(content, tmp_path, memory=16) as server:
        most, before = capacity(16, 1).compressions, server.memory()
        with slow_readers(server, "/large.txt", most + 10, "Accept-Encoding: gzip\r\n"):
            answer = server.get("/", Accept_Encoding="gzip")
            assert (answer.status, answer.body, answer.all("Content-Encoding")) == (200, TEXT.encode(), [])
            assert answer["Cache-Control"] == "no-cache"
            assert server.get("/nothing.html", Accept_Encoding="gzip").status == 404
            assert server.memory() - before <= most / 2 + 5
        assert server.get("/", Accept_Encoding="gzip")["Content-Encoding"] == "gzip"


def test_beyond_a_number_of_requests_a_proxy_refuses_and_stays_healthy(backend: Server, tmp_path: Path) -> None:
    with proxy(tmp_path, backend.port, memory=16) as server:
        most = capacity(16, 1).requests
        with slow_readers(server, "/large.bin", most):
            answer = server.get("/")
            assert (answer.status, answer.body) == (503, b"503: too many requests at once; try again in a moment\n")
            assert answer["X-Proxy"]
            assert server.get(STATE_PATH).status == 200
            assert server.memory() <= 16
        assert server.get("/").status == 200


def test_idle_connections_leave_room_for_others(site: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
        before = site.memory()
        assert site.get("/").status == 200
        assert site.memory() - before <= 1

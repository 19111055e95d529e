"""The main job, in the order of a user's experience: each test continues where the previous one ended.

A test that runs alone brings the site up first: `tools/e2e -k reboot`.
"""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import stat
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.e2e.load import readers
from tests.e2e.site import DAEMON_SECONDS, NODE_SECONDS, PROJECT, UP_SECONDS, Site, docker, fetch, wait_until

pytestmark = pytest.mark.e2e

INDEX = "site/index.html"
PROXY_TEMPLATE = "templates/proxy/nginx.conf"
BACKEND_TEMPLATE = "templates/application/nginx.conf"
UNKNOWN_DIRECTIVE = "no_such_directive on;"
CONTENT_STEPS = {f"{step}-core-0{number}": "update" for step in ("content", "content-switch") for number in (1, 2, 3)}
SECRETS = re.compile(rb"SWMTKN-1-[0-9a-z]+|-----BEGIN [A-Z ]*PRIVATE KEY-----")
LARGE = 20 * 2**20


def index(site: Site) -> str:
    """Return the page as it is now in the clone."""
    return (site.clone / INDEX).read_text()


def wait_until_whole(site: Site) -> None:
    """Wait until every node and service is healthy."""
    wait_until("all nodes active, all services complete", site.is_whole)


def assert_nothing_is_left(site: Site) -> None:
    """Assert that nothing of the stack is left on this machine."""
    left = site.left()
    assert not left, "left over:\n" + "\n".join(left)


# --- refused before anything is touched -------------------------------------------------------------------------------


def test_wrong_settings_are_all_reported_before_any_change(site: Site) -> None:
    before = site.machines(), site.work.exists()
    site.configure({"colour": "blue", "swarm": {"managers": 2}, "backend": {"port": 0}})

    text = site.up(fails=True).text

    assert 'swarm-site:colour: "blue" is not a setting' in text
    assert "swarm-site:swarm.managers: 2 must be odd" in text
    assert "swarm-site:backend.port: 0" in text
    assert "Traceback" not in text
    assert (site.machines(), site.work.exists()) == before
    site.configure({})


@pytest.mark.parametrize("command", ["make up", "make down"])
def test_a_redirected_docker_client_is_refused_by_name(site: Site, command: str) -> None:
    before = site.machines(), site.work.exists()

    variables = {"DOCKER_HOST": "tcp://127.0.0.1:1"}
    text = site.run("redirected", command, seconds=NODE_SECONDS, fails=True, environment=variables).text

    assert "DOCKER_HOST" in text
    assert "unset DOCKER_HOST" in text
    assert "Traceback" not in text
    assert (site.machines(), site.work.exists()) == before


# --- up ---------------------------------------------------------------------------------------------------------------


def test_one_command_serves_the_page(site: Site) -> None:
    committed = {path: path.read_bytes() for path in site.clone.rglob("*") if path.is_file() and not path.is_symlink()}

    text = site.up().text

    url = site.outputs()["url"]
    for node in site.nodes:
        assert f"{node}: vagrant up (log: .work/{site.stack}/machines/{node}/log)" in text, "no progress is visible"
    assert f"{url} answers" in text
    assert "<h1>hello world</h1>" in text
    page = fetch(url)
    assert (page.status, page.text) == (200, index(site))
    assert page.headers.get_content_type() == "text/html"
    changed = [path for path, data in committed.items() if path.read_bytes() != data]
    assert [path.name for path in changed] in ([], [f"Pulumi.{site.stack}.yaml"]), "a file of the clone was changed"


def test_the_outputs_name_every_address(running: Site) -> None:
    outputs = running.outputs()

    assert outputs["nodes"] == {node: {"address": running.address(node), "role": "manager"} for node in running.nodes}
    assert outputs["backend_endpoints"] == [f"{running.address(node)}:8080" for node in running.nodes]
    assert outputs["proxy_urls"] == [running.proxy_url(node) for node in running.running("proxy")]
    assert outputs["url"] == outputs["proxy_urls"][0]
    assert outputs["release"] == running.releases("core-01")[0]


def test_a_second_up_reports_no_changes(running: Site) -> None:
    text = running.up().text

    assert re.search(r"Resources:\n +\d+ unchanged\n", text), text
    assert "answers" in text
    running.pulumi("preview --expect-no-changes")
    assert running.preview() == {}


def test_backends_and_proxies_are_spread_over_nodes_and_none_failed(running: Site) -> None:
    for service in ("backend", "proxy"):
        tasks = running.tasks(service)
        assert len(tasks) == 2, "a task that failed stays in the list"
        assert all(task.runs for task in tasks), tasks
        containers = running.containers(service)
        assert sorted(containers) == sorted(task.node for task in tasks)
        assert len(containers) == 2
        for node, container in containers.items():
            seen = running.inspect(node, container)
            assert seen["State"]["Health"]["Status"] == "healthy"
            assert seen["RestartCount"] == 0
            mounts = {mount["Destination"]: mount["RW"] for mount in seen["Mounts"] if mount["Type"] == "bind"}
            assert mounts == {f"/srv/swarm-site/{'content' if service == 'backend' else 'proxy'}": False}


def test_every_response_names_its_node(running: Site) -> None:
    backends, proxies = running.running("backend"), running.running("proxy")
    for node in running.nodes:
        own = fetch(running.backend_url(node))
        assert (own.status, own.backend) == ((200, node) if node in backends else (0, "")), own
        through = fetch(running.proxy_url(node))
        assert (through.status, through.proxy) == ((200, node) if node in proxies else (0, "")), through
    seen = {fetch(running.proxy_url(proxies[0])).backend for _ in range(20)}
    assert seen == set(backends), "a proxy passes visitors on to all backends"


def test_a_large_upload_is_streamed_to_the_backend(running: Site) -> None:
    place = (running.address(running.running("proxy")[0]), 80)
    part = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)
    with socket.create_connection(place, timeout=NODE_SECONDS) as visitor:
        visitor.sendall(b"POST / HTTP/1.1\r\nHost: site\r\nTransfer-Encoding: chunked\r\n\r\n" + part)
        # A proxy that buffers the body would not respond before the body ends.
        answer = visitor.recv(65536).decode()
        assert answer.startswith("HTTP/1.1 405 "), answer
        assert "X-Backend: core-0" in answer
        for _ in range(LARGE // 65536):
            visitor.sendall(part)

    for headers in ({"Content-Length": str(LARGE)}, {"Transfer-Encoding": "chunked"}):
        page = fetch(f"http://{place[0]}/", method="POST", body=b"x" * LARGE, headers=headers)
        assert (page.status, bool(page.backend)) == (405, True), page


def test_a_slow_visitor_is_served(running: Site) -> None:
    request = f"POST / HTTP/1.1\r\nHost: {running.stack}\r\nContent-Length: 40\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection((running.address(running.running("proxy")[0]), 80), timeout=NODE_SECONDS) as visitor:
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request + b"x" * 40:
            visitor.sendall(bytes([byte]))
            time.sleep(0.02)  # the slowness under test
        answer = b"".join(iter(lambda: visitor.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 405 "), answer


def test_the_logs_of_all_proxies_and_backends_name_their_nodes(running: Site) -> None:
    nodes = {service: running.running(service) for service in ("backend", "proxy")}
    for node in nodes["backend"]:
        fetch(running.backend_url(node))
    for node in nodes["proxy"]:
        fetch(running.proxy_url(node))

    tasks = [f"{service}\\.\\S+@{node}" for service in nodes for node in nodes[service]]

    def missing() -> list[str]:
        text = running.run("logs", "make logs", seconds=NODE_SECONDS).text
        return [task for task in tasks if not re.search(rf'\b{task} .*"GET / HTTP/1.1" 200', text)]

    wait_until("the requests of all tasks", lambda: not missing())


def test_a_node_pulls_images_without_a_proxy(running: Site) -> None:
    node, container = next(iter(running.containers("proxy").items()))
    running.on_node(node, "sh", "-c", f"! docker pull {running.outputs()['images']['nginx']}")
    log = running.on_node(node, "sh", "-c", f"docker logs {container} 2>&1")
    assert '"GET / HTTP/1.1" 200' in log
    assert "/v2/" not in log, "a proxy would take a backend that refuses this for dead"


# --- a second application -------------------------------------------------------------------------------------------


DOCS_URL = "http://{}:8081/"


def test_a_second_copy_of_the_site_is_one_value_and_every_tool_shows_it(running: Site) -> None:
    git = "git -c user.name=tests -c user.email=tests@example.invalid"
    running.run("git", f"git init -q && git add -A && {git} commit -qm base", seconds=NODE_SECONDS)
    before = {service: running.containers(service) for service in ("backend", "proxy")}
    docs = {"applications": {"docs": {"port": 8081, "hosts": ["docs.example"]}}}
    with running.watch("second application", pages=[index(running).encode()]) as record:
        running.configure(docs)
        report = running.run("pr-preview", "make pr-preview BASE=HEAD", seconds=UP_SECONDS).text
        assert "**Service `docs` added; proxies reconfigured.** Visitors notice nothing." in report
        record.mark("up")
        running.up()
    assert record.failed == 0, record
    assert {service: running.containers(service) for service in before} == before, "a container was restarted"
    nodes = running.running("docs")
    assert len(nodes) == 2
    for node in nodes:
        assert fetch(DOCS_URL.format(running.address(node))).text == index(running)
    routed = fetch(running.outputs()["url"], headers={"Host": "docs.example"})
    assert (routed.status, routed.text) == (200, index(running))
    assert re.search(r"^docs +2/2 ", running.run("status", "make status", seconds=UP_SECONDS).text, re.MULTILINE)
    wait_until(
        "its requests in the logs",
        lambda: re.search(
            rf'\bdocs\.\S+@{nodes[0]} .*"GET / ', running.run("logs", "make logs", seconds=NODE_SECONDS).text
        ),
    )

    running.swarm("service", "rm", "docs")
    wait_until("the end of its containers", lambda: not running.containers("docs"))
    status = running.run("status", "make status", seconds=UP_SECONDS, fails=True).text
    assert "service docs: is not in the swarm; make repair" in status
    assert running.run("repair", "make repair", seconds=UP_SECONDS).text.endswith("repaired\n")
    assert len(running.running("docs")) == 2
    assert running.preview() == {}

    running.configure({})
    report = running.run("pr-preview", "git add -A && make pr-preview BASE=HEAD", seconds=UP_SECONDS).text
    assert "**Nothing changes.**" in report, "the base has no such application either"
    running.up()
    assert fetch(DOCS_URL.format(running.address(nodes[0]))).status == 0
    assert running.swarm("config", "ls", "--filter", "label=swarm-site=docs", "-q") == ""
    wait_until_whole(running)


# --- content ----------------------------------------------------------------------------------------------------------


def test_new_content_goes_live_everywhere_unnoticed(running: Site) -> None:
    old = index(running)
    new = old.replace("hello world", "hello earth")
    assert len(new) == len(old), "two pages of one size, which only their times tell apart"
    (running.clone / "site/unchanged.txt").write_text("always the same\n")
    running.up()
    before = {service: running.containers(service) for service in ("backend", "proxy")}
    releases = {node: running.releases(node) for node in running.nodes}
    url = running.outputs()["url"]
    first = fetch(url)
    with running.watch("content", pages=[old.encode(), new.encode()]) as record:
        running.edit(INDEX, "hello world", "hello earth")
        assert running.preview() == CONTENT_STEPS
        text = running.run("preview", "make preview", seconds=UP_SECONDS).text
        assert re.search(r"~ 6 to update\n +\d+ unchanged", text), text
        record.mark("up")
        running.up()
        for node in before["backend"]:
            assert fetch(running.backend_url(node)).text == new
        second = fetch(url)
        dates = {node: running.dates(node) for node in running.nodes}

        record.mark("back")
        running.restore(INDEX)
        assert running.preview() == CONTENT_STEPS
        running.up()
        third = fetch(url)
    assert (first.text, second.text, third.text) == (old, new, old)
    assert record.failed == 0, record
    assert {service: running.containers(service) for service in before} == before, "a container was restarted"

    for node in running.nodes:
        current, kept = running.releases(node)
        assert current == releases[node][0]
        assert len(kept) == 3, "the releases before and in between stay"
        assert dates[node] == dates["core-01"], "browsers would load files again from another node"
        changed = {name for name, date in running.dates(node).items() if date != dates[node][name]}
        assert changed == {"index.html"}
    times = [parsedate_to_datetime(page.headers["Last-Modified"]) for page in (first, second, third)]
    assert times[0] < times[1] < times[2], "a browser, or a mirror, would keep an old page"
    assert len({page.headers["ETag"] for page in (first, second, third)}) == 3
    again = {"If-None-Match": second.headers["ETag"], "If-Modified-Since": second.headers["Last-Modified"]}
    assert fetch(url, headers=again).status == 200
    again = {"If-None-Match": third.headers["ETag"], "If-Modified-Since": third.headers["Last-Modified"]}
    assert fetch(url, headers=again).status == 304
    (running.clone / "site/unchanged.txt").unlink()
    running.up()


def write_page(site: Site, version: str) -> str:
    """Write a page that names an asset of its own version, the only asset; return the asset's path."""
    name = f"/assets/app.{hashlib.sha256(version.encode()).hexdigest()[:12]}.js"
    folder = site.clone / "site"
    shutil.rmtree(folder / "assets", ignore_errors=True)
    (folder / "assets").mkdir()
    (folder / name[1:]).write_text(version)
    (folder / "index.html").write_text(f'<script src="{name}"></script>\n')
    return name


def test_every_page_loads_its_own_assets_while_content_changes(running: Site) -> None:
    paths = [write_page(running, "version 0")]
    running.up()
    urls = [running.proxy_url(node) for node in running.running("proxy")]
    with readers(urls, re.compile(r'src="([^"]+)"')) as reading:
        for number in (1, 2, 3):
            paths.append(write_page(running, f"version {number}"))
            running.up()
        write_page(running, "version 1")
        running.up()
    print(f"{reading.loads} page loads, {len(reading.broken)} broken: {reading.broken[:10]}")
    assert reading.broken == []
    assert reading.loads > 500
    for node in running.containers("backend"):
        backend = running.backend_url(node)
        # An old tab still gets its asset; folders and index pages are always current.
        assert [fetch(f"{backend}{path[1:]}").status for path in paths] == [200] * 4
        assert fetch(f"{backend}assets/").status == 404
        assert fetch(f"{backend}assets/none.js").status == 404
    shutil.rmtree(running.clone / "site" / "assets")
    running.restore(INDEX)
    running.up()


# --- what breaks ------------------------------------------------------------------------------------------------------


def test_no_visitor_notices_a_dead_backend(running: Site) -> None:
    node, container = next(iter(running.containers("backend").items()))
    with running.watch("backend killed", pages=[index(running).encode()]) as record:
        wait_until("answers for everybody", record.goes_on)
        record.mark("kill")
        running.on_node(node, "docker", "kill", container)
        wait_until("another one", lambda: len(set(running.containers("backend").values()) - {container}) == 2)
        record.mark("again")
        wait_until("answers of both backends", lambda: len(record.backends("again")) == 2)
    assert record.of("GET").failed == 0, record
    wait_until_whole(running)


def test_no_visitor_notices_a_dead_node(running: Site) -> None:
    watched = running.running("proxy")[0]
    victim = next(node for node in running.running("backend") if node != watched)
    with running.watch("node killed", watched, pages=[index(running).encode()]) as record:
        wait_until("answers for everybody", record.goes_on)
        record.mark("kill")
        running.kill(victim)
        rest = [node for node in running.nodes if node != victim]
        wait_until("two backends on the rest", lambda: [n for n in running.running("backend") if n in rest] == rest)
        record.mark("moved")
        wait_until("answers of both", lambda: sorted(record.backends("moved")) == rest)
        record.mark("return")
        running.start(victim)
        wait_until_whole(running)
        record.mark("whole")
    assert record.of("GET").failed == 0, record
    assert running.preview() == {}


def test_without_backends_visitors_get_a_plain_page_until_they_recover(running: Site) -> None:
    url = running.outputs()["url"]
    running.swarm("service", "scale", "--detach", "backend=0")
    wait_until("no backend", lambda: not running.containers("backend"))

    page = fetch(url)

    assert (page.status, page.headers.get_content_type(), page.backend) == (502, "text/plain", ""), page
    assert page.text.startswith("502: no endpoint of backend answers")
    assert page.proxy
    running.swarm("service", "scale", "--detach", "backend=2")
    wait_until("the page again", lambda: fetch(url).status == 200)
    wait_until_whole(running)


def test_a_proxy_setting_that_nginx_refuses_reaches_no_node(running: Site) -> None:
    live = live_proxy_settings(running)
    before = running.containers("proxy")
    with running.watch("bad proxy setting", pages=[index(running).encode()]) as record:
        running.edit(PROXY_TEMPLATE, "  server_tokens off;", f"  {UNKNOWN_DIRECTIVE}")
        record.mark("up")
        text = running.up(fails=True).text
        record.mark("failed")
        running.restore(PROXY_TEMPLATE)
        running.up()
        record.mark("mended")
    assert f"nginx rejects the configuration rendered from {PROXY_TEMPLATE}" in text
    assert 'unknown directive "no_such_directive"' in text
    assert "make up failed; fix the error above and run it again" in text
    assert live_proxy_settings(running) == live
    assert running.containers("proxy") == before
    assert record.failed == 0, record
    assert running.preview() == {}


def test_a_proxy_setting_that_no_node_can_apply_is_rolled_back(running: Site) -> None:
    live = live_proxy_settings(running)
    before = running.containers("proxy")
    with running.watch("impossible proxy setting", pages=[index(running).encode()]) as record:
        running.edit(PROXY_TEMPLATE, "    listen ", "    listen 22;\n    listen ")
        record.mark("up")
        text = running.up(fails=True).text
        record.mark("failed")
        assert live_proxy_settings(running) == live
        running.restore(PROXY_TEMPLATE)
        running.up()
        record.mark("mended")
    for node in live:
        assert f"{node}: the new proxy configuration did not become live, the previous one stays" in text
    assert "bind() to 0.0.0.0:22 failed (98: Address already in use)" in text, "nginx's own words are missing"
    assert "make up failed; fix the error above and run it again" in text
    assert live_proxy_settings(running) == live
    assert running.containers("proxy") == before
    # The rollback reloads the previous configuration.
    assert record.lost_none(reloads=len(live)), record
    assert running.preview() == {}


def live_proxy_settings(site: Site) -> dict[str, str]:
    """Return the live configuration on each node with a proxy."""
    command = ["readlink", "/srv/swarm-site/proxy/current"]
    return {node: site.on_node(node, *command).strip() for node in site.running("proxy")}


def test_a_backend_setting_that_nginx_refuses_reaches_no_node(running: Site) -> None:
    before = running.containers("backend")
    with running.watch("bad backend setting", pages=[index(running).encode()]) as record:
        running.edit(BACKEND_TEMPLATE, "  server_tokens off;", f"  {UNKNOWN_DIRECTIVE}")
        record.mark("up")
        text = running.up(fails=True).text
        record.mark("failed")
        running.restore(BACKEND_TEMPLATE)
        running.up()
        record.mark("mended")
    assert f"nginx rejects the configuration rendered from {BACKEND_TEMPLATE}" in text
    assert 'unknown directive "no_such_directive"' in text
    assert "make up failed; fix the error above and run it again" in text
    assert running.containers("backend") == before
    assert record.failed == 0, record
    assert running.preview() == {}


def test_a_backend_that_never_gets_healthy_is_rolled_back(running: Site) -> None:
    with running.watch("unhealthy backend", pages=[index(running).encode()]) as record:
        running.edit(BACKEND_TEMPLATE, 'return 200 "ok\\n";', "return 503;")
        record.mark("up")
        text = running.up(fails=True).text
        record.mark("failed")
        wait_until_whole(running)
        running.restore(BACKEND_TEMPLATE)
        running.up()
        record.mark("mended")
    assert re.search(r"task backend\.\d on core-0\d: .*health", text), "the cause is not named"
    assert "make up failed; fix the error above and run it again" in text
    assert record.of("GET").failed == 0, record
    wait_until_whole(running)
    assert running.preview() == {}


def test_a_node_that_cannot_start_a_container_fails_the_run_with_dockers_message(running: Site) -> None:
    node = next(node for node in running.nodes if node not in running.running("proxy"))
    with running.watch("no runc", pages=[index(running).encode()]) as record:
        running.swarm("node", "update", "--availability", "drain", node)
        wait_until("no task there", lambda: node not in running.running("backend"))
        wait_until("two backends", lambda: len(running.running("backend")) == 2)
        running.on_node(node, "chmod", "-x", "/usr/sbin/runc")
        record.mark("up")
        try:
            text = running.up(fails=True).text
            record.mark("failed")
            assert "Drain" in running.members()[node], "a node that starts nothing was opened to tasks"
        finally:
            running.on_node(node, "chmod", "+x", "/usr/sbin/runc")
        running.up()
        record.mark("mended")
    assert f"{node}: can't start a container of localhost:1/site-nginx:" in text
    assert re.search(r"Error response from daemon: .*runc", text), "the engine's own words are missing"
    assert record.of("GET").failed == 0, record
    wait_until_whole(running)
    assert running.preview() == {}


# --- off and on -------------------------------------------------------------------------------------------------------


def test_a_preview_tells_the_truth_with_every_node_off_and_up_starts_them(running: Site) -> None:
    running.kill(*running.nodes)
    assert running.preview() == {}
    running.edit(INDEX, "hello world", "hello earth")
    assert running.preview() == CONTENT_STEPS
    assert running.preview(clone=running.second_clone()) == CONTENT_STEPS

    text = running.up().text

    assert all(f"{node} was stopped; starting it" in text for node in running.nodes)
    assert "hello earth" in index(running)
    assert index(running) in text, "make up ends with the page of a proxy that is back"
    url = running.outputs()["url"]
    wait_until("the page of the first proxy, which may be back later", lambda: fetch(url).text == index(running))
    running.restore(INDEX)
    running.up()
    wait_until_whole(running)


def test_the_page_recovers_from_a_reboot(running: Site) -> None:
    url = running.outputs()["url"]
    running.stop(*running.nodes)
    assert fetch(url).status == 0

    running.start(*running.nodes)

    wait_until("the page", lambda: fetch(url).text == index(running))
    wait_until_whole(running)
    assert re.search(r"Resources:\n +\d+ unchanged\n", running.up().text)


def test_the_page_recovers_from_a_restart_of_the_docker_daemon(running: Site) -> None:
    user = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    if not (Path(user) / PROJECT / "dockerd.pid").exists():
        pytest.skip("set-up has not started this machine's Docker daemon, so it is not the tests' to stop")
    if set(docker("ps", "--format", "{{.Names}}").split()) != set(running.machines()):
        pytest.skip("others use this machine's Docker daemon")
    owner = {"XDG_STATE_HOME": user}
    url = running.outputs()["url"]

    running.run("daemon", "tools/daemon stop --force", seconds=DAEMON_SECONDS, environment=owner)
    assert fetch(url).status == 0
    running.run("daemon", "docker info", seconds=NODE_SECONDS, fails=True)
    running.run("daemon", "tools/daemon start", seconds=DAEMON_SECONDS, environment=owner)

    wait_until("the page", lambda: fetch(url).text == index(running))
    wait_until_whole(running)
    assert running.preview() == {}


# --- down -------------------------------------------------------------------------------------------------------------


def test_down_leaves_nothing(running: Site) -> None:
    running.down()
    assert_nothing_is_left(running)


def test_plain_pulumi_works_and_no_secret_is_in_any_state_or_log(site: Site) -> None:
    flags = "--yes --skip-preview --logtostderr --logflow -v=9"
    command = f"tools/setup up && . ./.env && pulumi up {flags} --stack {site.stack}"
    site.run("plain-up", command, seconds=UP_SECONDS, quiet=True)
    site.is_up = True
    assert fetch(site.outputs()["url"]).text == index(site)
    token = site.swarm("swarm", "join-token", "-q", "worker")
    assert SECRETS.match(token.encode()), "this is what is looked for"

    site.pulumi("stack export --show-secrets", quiet=True)
    site.pulumi("stack output --json --show-secrets")
    (site.logs / "machines.json").write_text(docker("inspect", *site.machines()))

    key = site.work / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    telling = [str(path) for path in files_that_may_tell(site) if path != key and SECRETS.search(path.read_bytes())]
    assert not telling, "a token or a private key stands in:\n" + "\n".join(telling)
    assert not SECRETS.search("\n".join(site.processes().values()).encode())


def files_that_may_tell(site: Site) -> Iterator[Path]:
    """Yield every file that a command of this site may have written: state, logs and settings."""
    home = site.run("home", '. ./.env && echo "${PULUMI_HOME:-$HOME/.pulumi}"', seconds=NODE_SECONDS).text.strip()
    folders = [site.state, site.logs, Path(home) / "logs", Path(home) / "workspaces"]
    paths = [path for folder in folders for path in folder.rglob("*")] + list(site.clone.glob("Pulumi*.yaml"))
    yield from (path for path in paths if path.is_file() and not path.is_symlink())


def test_down_removes_nodes_that_are_all_dead(running: Site) -> None:
    running.kill(*running.nodes)
    running.down()
    assert_nothing_is_left(running)


@pytest.mark.parametrize("goal", ["down", "up"])
def test_up_succeeds_after_the_engine_was_killed(site: Site, goal: str) -> None:
    if site.machines():
        site.down()
    run = site.begin("killed-up", "make up")
    wait_until("the first machine", lambda: site.machines() or not run.is_alive(), seconds=UP_SECONDS)
    engines = site.engines()
    for pid in engines:
        with contextlib.suppress(ProcessLookupError):  # plugins exit with their engine
            os.kill(pid, signal.SIGKILL)
    assert run.wait(NODE_SECONDS).status != 0
    assert len(engines) >= 4, f"the engine, its language host and both plugins: {engines}"
    assert not list(site.state.rglob("*.attrs")), "notes on the state: one that a kill cuts off makes it unreadable"

    if goal == "up":
        site.up()
        assert fetch(site.outputs()["url"]).text == index(site)
        wait_until_whole(site)
    site.down()
    assert_nothing_is_left(site)

"""`tools.images` without Docker: names, sources, reasons, the order of attempts, messages."""

import http.server
import io
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from docker.errors import APIError, DockerException

from components.rendering import TEMPLATES
from tools import images
from tools.images import Job, debian_sources, file_stem, find_archive, mirrored, require_room
from tools.local_docker import LocalDocker, UnavailableError, deadline, event_text, explain, reason
from tools.stack import ToolError

IMAGE = "localhost:1/site-nginx:0123456789ab"


# --- names


def test_an_archive_is_named_after_its_image() -> None:
    assert file_stem("registry.example:5000/team/thing:1.2") == "registry.example_5000_team_thing_1.2"


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.zst"])
def test_an_archive_is_found_by_the_name_of_its_image(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"team_thing_1.2.{suffix}"
    file.touch()
    assert find_archive(tmp_path, "team/thing:1.2") == file
    assert find_archive(tmp_path, "team/thing:1.3") is None


def test_of_several_archives_the_unpacked_one_is_used(tmp_path: Path) -> None:
    for suffix in ("tar.zst", "tar.gz", "tar"):
        (tmp_path / f"thing_1.{suffix}").touch()
    assert find_archive(tmp_path, "thing:1") == tmp_path / "thing_1.tar"


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx:1.27-alpine", "mirror.example/hub/library/nginx:1.27-alpine"),
        ("nginx", "mirror.example/hub/library/nginx"),
        ("docker.io/library/nginx:1", "mirror.example/hub/library/nginx:1"),
        ("team/thing:1.2", "mirror.example/hub/team/thing:1.2"),
        ("registry.example/team/thing:1.2", None),
        ("registry:5000/thing:1.2", None),
        ("localhost/thing:1.2", None),
    ],
)
def test_a_mirror_has_the_images_of_docker_hub(reference: str, name: str | None) -> None:
    assert mirrored(reference, "mirror.example/hub/") == mirrored(reference, "mirror.example/hub") == name


def test_without_a_mirror_nothing_is_mirrored() -> None:
    assert mirrored("nginx", "") is None


# --- Debian sources

TARGETS = """\
Debian bookworm http://deb.example/debian/ main
Debian bookworm http://deb.example/debian/ main
Debian bookworm http://deb.example/debian/ contrib
Debian bookworm-security http://deb.example/debian-security/ main
Docker CE bookworm http://docker.example/linux/debian/ stable
"""


def test_sources_are_the_main_ones_of_debian_once_each() -> None:
    assert debian_sources(TARGETS) == [
        "deb http://deb.example/debian-security/ bookworm-security main\n",
        "deb http://deb.example/debian/ bookworm main\n",
    ]


@pytest.mark.parametrize(
    "targets",
    [
        "",
        "Debian trixie http://deb.example/debian/ main\n",
        "Debian bookworm-updates http://deb.example/debian/ main\n",
    ],
)
def test_sources_of_another_release_are_none(targets: str) -> None:
    assert debian_sources(targets) == []


# --- reasons


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            "Reading…\nE: Unable to locate package a\nE: No such b\nThe command failed\n",
            "E: Unable to locate package a",
        ),
        ("one\ntwo\n\n  \n", "two"),
        ("x" * 500, "x" * 400),
        ("", "no output"),
    ],
)
def test_the_reason_is_the_first_error_of_apt_or_the_last_line(output: str, line: str) -> None:
    assert reason(output) == line


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"status": "Pulling from library/nginx", "id": "1.27"}, "1.27: Pulling from library/nginx\n"),
        ({"status": "Digest: sha256:00"}, "Digest: sha256:00\n"),
        ({"status": "Pulling fs layer", "progressDetail": {}, "id": "00"}, "00: Pulling fs layer\n"),
        ({"status": "Downloading", "progressDetail": {"current": 1}, "progress": "[>]", "id": "00"}, ""),
        ({"stream": "\x1b[91mE: no\n\x1b[0m"}, "E: no\n"),
        ({"error": "it failed", "errorDetail": {"message": "it failed"}}, "it failed\n"),
        ({"aux": {"ID": "sha256:00"}}, ""),
    ],
)
def test_an_event_of_docker_is_logged_without_colours_and_progress(event: Mapping[str, Any], text: str) -> None:
    assert event_text(event) == text


def wrapped(cause: Exception) -> Exception:
    """Return an error as the SDK raises it: wrapped around two others."""
    try:
        try:
            raise cause
        except Exception as error:
            raise ConnectionError(f"('Connection aborted.', {error!r})") from error
    except ConnectionError as error:
        final = DockerException(f"Error while fetching server API version: {error}")
        final.__context__ = error
        return final


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (APIError("500 Server Error for http+docker://…", explanation="no such host\n"), "no such host"),
        (wrapped(PermissionError(13, "Permission denied")), "Permission denied"),
        (wrapped(UnavailableError("no answer within 20 s")), "no answer within 20 s"),
        (
            wrapped(NameError("no paramiko")),
            "Error while fetching server API version: ('Connection aborted.', NameError('no paramiko'))",
        ),
        (DockerException("invalid tag"), "invalid tag"),
    ],
)
def test_an_error_is_explained_by_what_the_system_or_docker_said(error: Exception, text: str) -> None:
    assert explain(error) == text


def test_a_deadline_interrupts_what_takes_too_long() -> None:
    with pytest.raises(UnavailableError, match="no answer"), deadline(60, "no answer"):
        signal.raise_signal(signal.SIGALRM)
    assert signal.alarm(0) == 0, "nothing rings later"


# --- the local Docker


def docker_with(monkeypatch: pytest.MonkeyPatch, **api: Any) -> tuple[LocalDocker, io.StringIO]:
    """Return a Docker client with fixed low-level responses, and its log."""
    client, log = SimpleNamespace(api=SimpleNamespace(**api, hooks={"response": []})), io.StringIO()
    monkeypatch.setattr(docker, "from_env", lambda **_: client)
    return LocalDocker(log), log


def test_a_build_gets_the_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def build(path: str, tag: str, **options: Any) -> Iterator[Mapping[str, str]]:
        asked.update(options, path=path, tag=tag)
        yield {"stream": "Step 1/1 : FROM scratch\n"}

    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    monkeypatch.setenv("GOPROXY", "http://go.example")
    local, log = docker_with(monkeypatch, build=build)
    assert local.build(Path("recipe"), IMAGE, {"BASE": "base"}) == IMAGE
    expected = {"BASE": "base", "https_proxy": "http://proxy.example:3128", "NO_PROXY": "10.0.0.0/8"}
    assert expected.items() <= asked["buildargs"].items()
    assert "GOPROXY" not in asked["buildargs"]
    assert (asked["path"], asked["tag"], asked["forcerm"]) == ("recipe", IMAGE, True)
    assert log.getvalue() == "Step 1/1 : FROM scratch\n"


def test_a_pull_that_fails_in_its_stream_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [{"status": "Pulling from team/thing", "id": "1.2"}, {"error": "unexpected EOF"}]
    local, log = docker_with(monkeypatch, pull=lambda *_, **__: iter(events))
    with pytest.raises(UnavailableError, match=r"^unexpected EOF$"):
        local.pull("team/thing:1.2")
    assert log.getvalue() == "1.2: Pulling from team/thing\nunexpected EOF\n"


def test_an_import_that_fails_in_its_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = '{"status":"Importing"}\r\n{"error":"no space left on device"}\r\n'
    local, _ = docker_with(monkeypatch, import_image=lambda *_, **__: answer)
    with pytest.raises(UnavailableError, match=r"^no space left on device$"):
        local.unpack(Path("base.tar"), "base:1", "site.recipe=x")


class Builder(http.server.BaseHTTPRequestHandler):
    """A Docker without images, whose build lasts until the client disconnects, and then takes a moment to end."""

    protocol_version = "HTTP/1.1"
    ended = threading.Event()

    def do_GET(self) -> None:
        answers = {"/version": b'{"ApiVersion": "1.41"}', "/v1.41/images/json": b"[]"}
        found = answers.get(urllib.parse.urlsplit(self.path).path)
        self.answer(200 if found else 404, found or b'{"message": "No such image"}')

    def do_POST(self) -> None:
        if not self.path.startswith("/v1.41/build"):
            return self.answer(200, b"{}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        event = b'{"stream": "now"}\r\n'
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.rfile.read()
        time.sleep(0.2)
        return self.ended.set()

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it
        """Log nothing to the tests' stderr."""


class Interrupted(io.StringIO):
    """A log whose writes are interrupted by the signal."""

    def write(self, text: str) -> int:
        raise SystemExit(143)


def test_a_build_that_is_interrupted_between_two_events_ends_before_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Builder) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        try:
            local = LocalDocker(Interrupted())
            responses: list[Any] = []
            local.client.api.hooks["response"].append(lambda response, **_: responses.append(response))
            with pytest.raises(SystemExit):
                local.build(tmp_path, IMAGE, {})
            local.sweep("base:1", "site.recipe=x")
            assert Builder.ended.is_set()
            # Frames of an exception in flight, here the list, keep the SDK's connection open.
            for response in responses:
                response.close()
            local.client.close()
        finally:
            server.shutdown()


# --- the order


class NoDocker:
    """A Docker with some images that cannot load, pull or build any."""

    def __init__(self, *present: str) -> None:
        self.folder = Path("/nowhere")
        self.present, self.calls = set(present), list[str]()

    def has(self, reference: str) -> bool:
        return reference in self.present

    def tag(self, found: str, reference: str) -> None:
        self.calls.append(f"tag {found} {reference}")

    def load(self, file: Path, wanted: str) -> str:
        self.calls.append(f"load {file.name} {wanted}")
        raise UnavailableError("it holds no image")

    def pull(self, reference: str) -> str:
        self.calls.append(f"pull {reference}")
        raise UnavailableError("no such host")

    def sweep(self, base: str, label: str) -> None:
        self.calls.append(f"sweep {base} {label}")


class Pulling(NoDocker):
    """A Docker that can pull."""

    def pull(self, reference: str) -> str:
        self.calls.append(f"pull {reference}")
        return reference

    def digest(self, reference: str) -> str:
        return f"{reference}@sha256:0"


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Restore the signal handlers: a job ignores signals while it cleans up and exits, but this process continues."""
    before = {signum: signal.getsignal(signum) for signum in images.SIGNALS}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


NewJob = Callable[..., Job]


@pytest.fixture
def new(tmp_path: Path) -> Iterator[NewJob]:
    """Return a factory of jobs with their own folders."""
    (tmp_path / "archives").mkdir()
    own = {"IMAGE": IMAGE, "XDG_CACHE_HOME": str(tmp_path / "cache"), "ARCHIVES": str(tmp_path / "archives")}
    with (tmp_path / "log").open("a", buffering=1) as output:
        yield lambda local, **inputs: Job({**own, **inputs}, output, local)


def refusal(one: Job) -> list[str]:
    """Return the lines of a job's error message, without the tail of the log."""
    with pytest.raises(ToolError) as raised:
        one.provide()
    lines = str(raised.value).splitlines()
    return [line for line in lines if not line.startswith(("The last lines of", "  | "))]


def test_an_image_that_exists_is_all_that_is_needed(
    new: NewJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = NoDocker(IMAGE)
    new(local, SOURCE="nginx:1").provide()
    assert (local.calls, capsys.readouterr().out) == ([], "")


def test_a_source_is_looked_for_in_order_and_the_message_lists_what_was_tried(
    new: NewJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = NoDocker()
    one = new(local, SOURCE="nginx:1", MIRROR="mirror.example")
    archives = tmp_path / "archives"
    (archives / "nginx_1.tar.gz").touch()
    assert refusal(one) == [
        f"Can't get the image {IMAGE}. Tried:",
        f"  - loading {archives}/localhost_1_site-nginx_0123456789ab.tar (or .tar.gz, .tar.zst): no such file",
        f"  - loading {archives}/nginx_1.tar.gz: it holds no image",
        "  - pulling mirror.example/library/nginx:1: no such host",
        "  - pulling nginx:1: no such host",
        "What to do: on a machine that reaches its registry, run",
        "    docker pull nginx:1",
        "    docker save --output nginx_1.tar nginx:1",
        f"copy that file into {archives}/ here, then run again.",
    ]
    assert local.calls == ["load nginx_1.tar.gz nginx:1", "pull mirror.example/library/nginx:1", "pull nginx:1"]
    steps = [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines()]
    assert steps == [
        f"site-nginx-0123456789ab: loading {archives}/nginx_1.tar.gz",
        "site-nginx-0123456789ab: pulling mirror.example/library/nginx:1",
        "site-nginx-0123456789ab: pulling nginx:1",
    ]


def test_the_digest_of_what_was_pulled_is_printed(new: NewJob, capsys: pytest.CaptureFixture[str]) -> None:
    local = Pulling()
    new(local, SOURCE="nginx:1", MIRROR="mirror.example").provide()
    assert local.calls == ["pull mirror.example/library/nginx:1", f"tag mirror.example/library/nginx:1 {IMAGE}"]
    assert "pulled mirror.example/library/nginx:1@sha256:0 (" in capsys.readouterr().out


def test_a_source_in_the_local_docker_gets_the_images_name(new: NewJob) -> None:
    local = NoDocker("nginx:1")
    new(local, SOURCE="nginx:1", MIRROR="mirror.example").provide()
    assert local.calls == [f"tag nginx:1 {IMAGE}"]


def test_a_recipe_without_a_base_says_what_both_ways_to_one_need(
    new: NewJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    local = NoDocker()
    lines = refusal(new(local, RECIPE="recipe"))
    assert "  - pulling debian:bookworm-slim: no such host" in lines
    missing = "the program mmdebstrap is not installed (apt-get install mmdebstrap)"
    assert f"  - unpacking Debian packages: {missing}" in lines
    assert "What to do: give this machine a Debian mirror; or, on a machine that has the image, run" in lines
    sweep = "sweep localhost/site/base:site-nginx-0123456789ab site.recipe=site-nginx-0123456789ab"
    assert local.calls == [sweep, "pull debian:bookworm-slim", sweep]
    assert not (tmp_path / "cache/swarm-site/work/site-nginx-0123456789ab").exists()


def test_an_archive_of_the_cache_that_does_not_load_is_named(new: NewJob) -> None:
    local = NoDocker()
    one = new(local, SOURCE="nginx:1")
    one.archive.parent.mkdir(parents=True)
    one.archive.touch()
    assert refusal(one) == [
        f"The archive {one.archive} is not one of {IMAGE}: loading {one.archive}: it holds no image",
        "What to do: remove that file, then run again.",
    ]
    assert local.calls == [f"load {one.archive.name} {IMAGE}"]


@pytest.mark.parametrize(("free", "refused"), [(2047, True), (2048, False)])
def test_a_recipe_is_refused_where_it_would_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, refused: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 2**20))
    require_room(Path("/nowhere"))
    if refused:
        with pytest.raises(
            ToolError, match=f"^Only 2047 MB are free in {tmp_path}; a recipe takes 2048 MB.\nWhat to do: "
        ):
            require_room(tmp_path)
    else:
        require_room(tmp_path)


@pytest.mark.parametrize(
    ("environment", "names"), [({"LOG": "log"}, "IMAGE"), ({"IMAGE": "a:1"}, "LOG"), ({}, "IMAGE and LOG")]
)
def test_an_input_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], names: str
) -> None:
    for name in ("IMAGE", "LOG"):
        monkeypatch.setenv(name, environment.get(name, ""))
    with pytest.raises(ToolError, match=f"^{names} must be set"):
        images.provide()


# --- programs


@pytest.fixture
def running(new: NewJob) -> Job:
    """A job in the middle of its work."""
    one = new(NoDocker())
    one.work.mkdir(parents=True)
    return one


def test_a_program_that_fails_gives_a_reason_and_its_output_is_in_the_log(running: Job) -> None:
    running.output.write("E: of an earlier program\n")
    with pytest.raises(UnavailableError, match=r"^E: no network$"):
        running._run("sh", "-c", "echo begins; echo E: no network >&2; echo ends; exit 3")
    assert running.log.read_text() == "E: of an earlier program\nbegins\nE: no network\nends\n"
    assert running.child is None


def test_a_program_ends_with_its_whole_group(running: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell ignores the signal, as mmdebstrap does; the program below it must get it."""

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        monkeypatch.undo()
        with deadline(10, "the program did not begin"):
            while "begins" not in running.log.read_text():
                pass
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        running._run("sh", "-c", 'trap : TERM; sh -c "echo begins; sleep 60"; echo ends')
    running._clean_up()
    assert running.child
    assert running.child.returncode == 143
    assert "ends" in running.log.read_text()


class Zstd:
    """Python's built-in module, available from 3.14 on."""

    @staticmethod
    def open(file: Path) -> io.BytesIO:
        return io.BytesIO(b"unpacked " + file.read_bytes())


def test_zst_is_unpacked_by_python_where_the_program_is_missing(
    running: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thing.tar.zst").write_bytes(b"thing")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "compression.zstd", Zstd)
    assert running._unzstd(tmp_path / "thing.tar.zst").read_bytes() == b"unpacked thing"
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(UnavailableError, match="the program zstd is not installed"):
        running._unzstd(tmp_path / "thing.tar.zst")


# --- programs in the base


def filled(root: Path, names: Sequence[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("content\n")


def test_a_base_is_trimmed_of_what_is_unwanted_and_of_what_each_machine_has_for_itself(tmp_path: Path) -> None:
    root, recipe = tmp_path / "a root", tmp_path / "a recipe"
    gone = ["usr/share/doc/a/copyright", "usr/share/locale/de/a", "var/lib/apt/lists/a", "var/log/dpkg.log"]
    kept = ["usr/share/locale.alias", "usr/bin/a", "etc/machine-id", "etc/ssh/sshd_config"]
    filled(root, [*gone, *kept, "etc/ssh/ssh_host_rsa_key", "var/lib/dbus/machine-id"])
    filled(recipe, ["packages"])
    (recipe / "unwanted").write_text("/usr/share/doc\n\n/\nusr/bin\n/usr/share/locale/*\n")
    subprocess.run(["sh", TEMPLATES / "images/base/trim", root, recipe], check=True)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == sorted(kept)
    assert (root / "etc/machine-id").read_text() == ""
    assert (root / "usr/share/locale").is_dir()

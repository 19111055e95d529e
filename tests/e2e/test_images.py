"""`tools.images` on the real Docker: every way to get an image, and what is left when none works."""

import contextlib
import gzip
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
NGINX_RECIPE = "templates/images/nginx"


def docker(*arguments: str) -> str:
    """Run docker and return its output; an error shows the command's output."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def identity(reference: str) -> str | None:
    """Return the id of a local image, or None if it does not exist."""
    ids = docker("images", "--quiet", "--no-trunc", reference).split()
    return ids[0] if ids else None


@dataclass(kw_only=True)
class Maker:
    """An image with a unique name, and with its own cache and archive folder."""

    folder: Path
    image: str = field(default_factory=lambda: f"localhost/site/test:{uuid.uuid4().hex[:12]}")

    @property
    def cache(self) -> Path:
        return self.folder / "cache/swarm-site"

    @property
    def archives(self) -> Path:
        return self.folder / "images"

    @property
    def name(self) -> str:
        return self.image.rpartition("/")[2].replace(":", "-")

    @property
    def archive(self) -> Path:
        return self.cache / f"images/{self.name}.tar"

    def start(self, **inputs: str) -> subprocess.Popen[str]:
        self.archives.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "ARCHIVES": str(self.archives),
            "LOG": str(self.folder / "logs/image.log"),
            "IMAGE": self.image,
            **inputs,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tools.images"],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        process = self.start(**inputs)
        output, errors = process.communicate(timeout=900)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def make(self, **inputs: str) -> str:
        """Run the tool, which must succeed, and return its output."""
        done = self.run(**inputs)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def leftovers(self) -> list[str]:
        """Return everything on disk and in Docker that a run should have removed."""
        label = f"label=site.recipe={self.name}"
        return [
            *[str(path) for path in (self.cache / "work").glob("*")],
            *[str(path) for path in (self.cache / "images").glob("*") if path != self.archive],
            *docker("ps", "--all", "--quiet", "--filter", label).split(),
            *docker("images", "--quiet", f"localhost/site/base:{self.name}").split(),
            *docker("images", "--quiet", "--filter", "dangling=true", "--filter", label).split(),
        ]

    def processes(self) -> dict[int, str]:
        """Return a run's live processes by process id, identified by the work folder in their environment."""
        mark, found = str(self.cache / "work").encode(), {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        return found

    def wait(self) -> None:
        """Wait until no run, and no process that outlives one, holds the image's lock."""
        subprocess.run(["flock", "--timeout", "60", str(self.cache / "locks" / self.name), "true"], check=True)

    def end(self) -> None:
        """Stop what a failed test left running: mmdebstrap has mounts below its work folder."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        if (self.cache / "locks" / self.name).exists():
            self.wait()

    def forget(self) -> None:
        if identity(self.image):
            docker("rmi", "--force", self.image)


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Maker]:
    one = Maker(folder=tmp_path)
    yield one
    one.end()
    one.forget()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """The recipe's image, built once, with its archive."""
    one = Maker(folder=tmp_path_factory.mktemp("nginx"))
    assert "ready" in one.make(RECIPE=NGINX_RECIPE, KEEP_ARCHIVE="1")
    yield one
    one.forget()


@pytest.fixture
def small(nginx: Maker) -> Iterator[str]:
    """The name of a local image that no registry has."""
    reference = f"example/small:{uuid.uuid4().hex[:8]}"
    docker("tag", nginx.image, reference)
    yield reference
    if identity(reference):
        docker("rmi", reference)


def recipe(folder: Path, dockerfile: str = "ARG BASE\nFROM ${BASE}\nCMD true\n") -> str:
    """Create a folder with a minimal recipe, and return its path."""
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "packages").write_text("busybox-static\n")
    return str(folder)


# --- the nginx image


def test_the_nginx_image_takes_at_most_15_megabytes(nginx: Maker) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", nginx.image)) <= 15_000_000


def test_the_nginx_image_accepts_what_proxies_and_backends_configure(nginx: Maker) -> None:
    configuration = """
        events {}
        http {
          upstream all { zone all 64k; server 127.0.0.1:8080 max_fails=1; keepalive 8; }
          server {
            listen 80 reuseport;
            set_real_ip_from 192.168.56.0/21;
            gzip on;
            location / { proxy_pass http://all; proxy_next_upstream error timeout http_502; }
            location /status { stub_status; }
          }
        }
    """
    docker("run", "--rm", nginx.image, "nginx", "-t")
    docker(
        *["run", "--rm", "--env", f"CONFIGURATION={configuration}", nginx.image],
        *["sh", "-c", 'echo "$CONFIGURATION" >/srv/nginx.conf && nginx -t -c /srv/nginx.conf'],
    )
    docker("run", "--rm", nginx.image, "nginx", "-V")


def test_the_nginx_image_serves_passes_its_health_check_logs_and_stops_gracefully(nginx: Maker) -> None:
    container = docker("run", "--detach", nginx.image)
    try:
        check = "until wget -q -O /dev/null http://127.0.0.1/; do :; done"
        docker("exec", container, "timeout", "20", "sh", "-c", check)
        docker("stop", "--time", "20", container)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
        logs = subprocess.run(["docker", "logs", container], capture_output=True, text=True)
        assert '"GET / HTTP/1.1" 200' in logs.stdout
        assert "gracefully shutting down" in logs.stderr
    finally:
        docker("rm", "--force", container)


def test_the_nginx_image_has_true_and_a_user_for_its_workers(nginx: Maker) -> None:
    docker("run", "--rm", nginx.image, "true")
    assert "nginx:x:101:" in docker("run", "--rm", nginx.image, "cat", "/etc/passwd")


# --- the order


def test_an_existing_image_is_kept_without_output(nginx: Maker) -> None:
    before = identity(nginx.image)
    assert nginx.make(RECIPE=NGINX_RECIPE, KEEP_ARCHIVE="1") == ""
    assert identity(nginx.image) == before
    assert nginx.leftovers() == []


def test_an_image_that_docker_lost_is_loaded_from_the_cache(nginx: Maker) -> None:
    before = identity(nginx.image)
    docker("rmi", nginx.image)
    output = nginx.make(RECIPE=NGINX_RECIPE, KEEP_ARCHIVE="1")
    assert f"loading {nginx.archive}" in output
    assert "building" not in output
    assert identity(nginx.image) == before


def test_a_broken_archive_in_the_cache_fails_the_run(maker: Maker) -> None:
    maker.archive.parent.mkdir(parents=True)
    maker.archive.write_text("no archive")
    done = maker.run(RECIPE=NGINX_RECIPE)
    assert done.returncode == 1
    assert f"The archive {maker.archive} is not one of {maker.image}: loading {maker.archive}: " in done.stderr
    assert "What to do: remove that file, then run again." in done.stderr
    assert identity(maker.image) is None


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.zst"])
def test_an_archive_named_after_the_source_is_loaded(maker: Maker, small: str, ending: str) -> None:
    before = identity(small)
    maker.archives.mkdir()
    plain = maker.archives / (re.sub("[/:]", "_", small) + ".tar")
    docker("save", "--output", str(plain), small)
    if ending == "tar.gz":
        plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes(), 1))
        plain.unlink()
    if ending == "tar.zst":
        subprocess.run(["zstd", "--quiet", "--rm", str(plain)], check=True)
    docker("rmi", small)
    output = maker.make(SOURCE=small, KEEP_ARCHIVE="1")
    assert f"loading {plain.with_suffix('.' + ending)}" in output
    assert identity(maker.image) == before
    assert maker.archive.is_file()
    assert maker.leftovers() == []


def test_an_archive_for_another_architecture_is_refused(maker: Maker, small: str) -> None:
    maker.archives.mkdir()
    unpacked = maker.folder / "unpacked"
    archive = maker.archives / (re.sub("[/:]", "_", small) + ".tar")
    docker("save", "--output", str(archive), small)
    shutil.unpack_archive(archive, unpacked)
    manifest = json.loads((unpacked / "manifest.json").read_text())
    config = json.loads((unpacked / manifest[0]["Config"]).read_text())
    text = json.dumps(config | {"architecture": "s390x"})
    foreign = f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    (unpacked / foreign).write_text(text)
    (unpacked / "manifest.json").write_text(json.dumps([manifest[0] | {"Config": foreign}]))
    with tarfile.open(archive, "w") as whole:
        whole.add(unpacked, arcname=".")
    docker("rmi", small)
    done = maker.run(SOURCE=small, MIRROR="127.0.0.1:9")
    assert done.returncode == 1
    assert f"  - loading {archive}: it is for linux/s390x, and this machine is linux/" in done.stderr
    assert "(docker pull --platform linux/" in done.stderr
    assert identity(small) is None


def test_a_source_in_the_local_docker_is_used(maker: Maker, small: str) -> None:
    assert "pulling" not in maker.make(SOURCE=small)
    assert identity(maker.image) == identity(small)


# --- registries


class Registry(http.server.ThreadingHTTPServer):
    """A registry that serves one image under every name, with just enough of the API for `docker pull`."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as whole:

            def content(name: str) -> bytes:
                member = whole.extractfile(name)
                assert member
                return member.read()

            saved = json.loads(content("manifest.json"))[0]
            config = content(saved["Config"])
            layers = [gzip.compress(content(name), 1) for name in saved["Layers"]]
        kind = "application/vnd.docker.distribution.manifest.v2+json"

        def described(blob: bytes, media: str) -> dict[str, object]:
            self.answers[f"sha256:{hashlib.sha256(blob).hexdigest()}"] = (media, blob)
            digest = hashlib.sha256(blob).hexdigest()
            return {"mediaType": media, "size": len(blob), "digest": f"sha256:{digest}"}

        self.answers: dict[str, tuple[str, bytes]] = {}
        self.asked: list[str] = []
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": described(config, "application/vnd.docker.container.image.v1+json"),
            "layers": [described(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip") for layer in layers],
        }
        self.manifest = (kind, json.dumps(manifest).encode())
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Registry

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind, blob = "application/json", b"{}"
        if "/manifests/" in self.path:
            kind, blob = self.server.manifest
        elif "/blobs/" in self.path:
            kind, blob = self.server.answers[self.path.rpartition("/")[2]]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(blob)))
        self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(blob).hexdigest()}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(blob)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it
        """Log nothing, to keep the tests' stderr clean."""


@pytest.fixture
def registry(nginx: Maker) -> Iterator[Registry]:
    with Registry(nginx.archive) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a registry that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("thing:1.2", "hub/library/thing"),
        ("docker.io/library/thing:1.2", "hub/library/thing"),
        ("someone/thing:1.2", "hub/someone/thing"),
    ],
)
def test_the_mirror_is_asked_for_an_image_of_docker_hub(
    maker: Maker, nginx: Maker, registry: Registry, source: str, asked: str
) -> None:
    output = maker.make(SOURCE=source, MIRROR=f"{registry.address}/hub/")
    assert f"pulling {registry.address}/{asked}:1.2" in output
    assert f"pulled {registry.address}/{asked}@sha256:{hashlib.sha256(registry.manifest[1]).hexdigest()} " in output
    assert identity(maker.image) == identity(nginx.image)
    docker("rmi", f"{registry.address}/{asked}:1.2")


def test_the_mirror_is_not_asked_for_an_image_of_another_registry(
    maker: Maker, nginx: Maker, registry: Registry
) -> None:
    source = f"{registry.address}/team/thing:1.2"
    output = maker.make(SOURCE=source, MIRROR="127.0.0.1:9/hub")
    assert "127.0.0.1:9" not in output
    assert identity(maker.image) == identity(nginx.image)
    docker("rmi", source)


def test_when_nothing_works_one_message_says_what_was_tried_and_what_to_do(maker: Maker) -> None:
    source = "registry.invalid/team/thing:1.2"
    done = maker.run(SOURCE=source)
    assert done.returncode == 1
    message = done.stderr[done.stderr.index("Can't get") :]
    assert message.startswith(f"Can't get the image {maker.image}. Tried:\n")
    archive = f"{maker.archives}/registry.invalid_team_thing_1.2.tar"
    assert f"  - loading {archive} (or .tar.gz, .tar.zst): no such file\n" in message
    assert re.search(f"  - pulling {source}: .*registry.invalid", message)
    assert f"    docker save --output registry.invalid_team_thing_1.2.tar {source}\n" in message
    assert message.endswith(f"copy that file into {maker.archives}/ here, then run again.\n")
    assert maker.leftovers() == []


def test_a_silent_registry_is_left_after_ten_seconds(maker: Maker, silent: str) -> None:
    done = maker.run(SOURCE=f"{silent}/thing:1.2")
    assert done.returncode == 1
    assert f"  - pulling {silent}/thing:1.2: no answer within 10 s\n" in done.stderr
    assert maker.leftovers() == []


# --- recipes


def test_the_packages_are_installed_on_an_image_of_debian(maker: Maker, tmp_path: Path) -> None:
    """The same recipe where Debian's image is available; here, an archive of another base stands in for it."""
    donor = Maker(folder=tmp_path / "donor")
    donor.folder.mkdir()
    had = identity("debian:bookworm-slim")
    try:
        telling = """'APT::Update::Pre-Invoke { "echo base sees $no_proxy"; };' >/etc/apt/apt.conf.d/telling"""
        donor.make(RECIPE=recipe(tmp_path / "donors", f"ARG BASE\nFROM ${{BASE}}\nRUN echo {telling}\n"))
        docker("tag", donor.image, "debian:bookworm-slim")
        maker.archives.mkdir()
        docker("save", "--output", str(maker.archives / "debian_bookworm-slim.tar"), "debian:bookworm-slim")
        recipe(tmp_path / "recipe", "ARG BASE\nFROM ${BASE}\nRUN echo recipe sees $no_proxy\nCMD true\n")
        (tmp_path / "recipe/packages").write_text("busybox-static\nnetcat-openbsd\n")
        (tmp_path / "recipe/unwanted").write_text("/usr/share/doc\n\n")
        output = maker.make(RECIPE=str(tmp_path / "recipe"), no_proxy="proxied.invalid")
        assert "installing packages on debian:bookworm-slim" in output
        probe = "test -x /bin/nc.openbsd && test ! -e /usr/share/doc && test ! -s /etc/machine-id && test ! -e /build"
        docker("run", "--rm", maker.image, "sh", "-c", probe)
        log = (maker.folder / "logs/image.log").read_text().splitlines()
        assert {"base sees proxied.invalid", "recipe sees proxied.invalid"} <= set(log)
        assert "proxied.invalid" not in docker("image", "inspect", maker.image)
        assert maker.leftovers() == []
    finally:
        donor.forget()
        if had:
            docker("tag", had, "debian:bookworm-slim")
        elif identity("debian:bookworm-slim"):
            docker("rmi", "--force", "debian:bookworm-slim")


def test_a_recipe_that_does_not_build_shows_the_end_of_the_log(maker: Maker, tmp_path: Path) -> None:
    broken = recipe(tmp_path / "recipe", "ARG BASE\nFROM ${BASE}\nRUN echo this is the output && false\n")
    done = maker.run(RECIPE=broken)
    assert done.returncode == 1
    assert "  | this is the output\n" in done.stderr
    assert f"docker build of {broken} failed.\nWhat to do: " in done.stderr
    assert maker.leftovers() == []


def until_step(process: subprocess.Popen[str], *steps: str) -> str:
    """Read a run's output up to the first of these steps, and return that step."""
    assert process.stdout
    for line in process.stdout:
        for step in steps:
            if step in line:
                return step
    pytest.fail(f"the run ended before one of {steps}")


def until_logged(log: Path, process: subprocess.Popen[str], text: str) -> None:
    """Follow a run's log until it contains the text; fail if the run ends first."""
    with subprocess.Popen(
        ["tail", f"--pid={process.pid}", "--lines=+1", "--follow=name", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as tail:
        assert tail.stdout
        found = any(text in line for line in tail.stdout)
        tail.terminate()
    assert found, f"the run ended before its log had {text!r}"


# The two ways to get a base; the reachable registries decide which one is used.
BASE = ("unpacking Debian packages", "installing packages on")


@pytest.mark.parametrize(
    ("steps", "signum"), [(BASE, signal.SIGINT), (BASE, signal.SIGHUP), (("building",), signal.SIGTERM)]
)
def test_an_interrupted_run_leaves_nothing_and_can_be_run_again(
    maker: Maker, tmp_path: Path, steps: tuple[str, ...], signum: signal.Signals
) -> None:
    slow = recipe(tmp_path / "recipe", "ARG BASE\nFROM ${BASE}\nRUN echo now && sleep 600\n")
    process = maker.start(RECIPE=slow, KEEP_ARCHIVE="1")
    until_step(process, *steps)
    if steps == ("building",):
        until_logged(maker.folder / "logs/image.log", process, "echo now")
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)  # returns only when no child holds the pipes open
    assert (process.returncode, errors) == (128 + signum, "")
    assert maker.processes() == {}
    assert maker.leftovers() == []
    assert not maker.archive.exists()
    assert identity(maker.image) is None
    maker.make(RECIPE=recipe(tmp_path / "recipe"), KEEP_ARCHIVE="1")
    assert maker.archive.is_file()
    assert maker.leftovers() == []


@pytest.mark.parametrize("steps", [BASE, ("building",)])
def test_the_run_after_a_killed_one_cleans_up_after_it(maker: Maker, tmp_path: Path, steps: tuple[str, ...]) -> None:
    slow = recipe(tmp_path / "recipe", "ARG BASE\nFROM ${BASE}\nRUN echo now && sleep 600\n")
    process = maker.start(RECIPE=slow)
    until_step(process, *steps)
    until_logged(maker.folder / "logs/image.log", process, "echo now" if steps == ("building",) else "I: ")
    process.kill()
    process.communicate()
    assert maker.leftovers() != []
    assert "ready" in maker.make(RECIPE=recipe(tmp_path / "recipe"))
    assert maker.leftovers() == []


def test_mmdebstrap_ends_when_its_run_is_killed(maker: Maker, tmp_path: Path) -> None:
    process = maker.start(RECIPE=recipe(tmp_path / "recipe"))
    if until_step(process, *BASE) != "unpacking Debian packages":
        process.terminate()
        process.communicate()
        pytest.skip("an image of Debian is within reach, so mmdebstrap does not run")
    log = maker.folder / "logs/image.log"
    until_logged(log, process, "I: ")
    assert any("mmdebstrap" in program for program in maker.processes().values())
    process.kill()
    process.communicate()
    maker.wait()
    assert "I: success" not in log.read_text(), "it was not ended, it ended by itself"
    assert maker.processes() == {}
    assert str(maker.cache) not in Path("/proc/mounts").read_text()


def test_mounts_left_by_mmdebstrap_are_removed_even_if_in_use(tmp_path: Path, small: str) -> None:
    """It fails to unmount, and fails, where anything on the machine has a file open there."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    maker = Maker(folder=folder)
    mount = maker.cache / "work" / maker.name / "mmdebstrap.0123456789/proc"
    mount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "proc", "proc", mount], check=True)
    try:
        with (mount / "version").open():
            maker.make(SOURCE=small)
            assert "mmdebstrap.0123456789" not in Path("/proc/mounts").read_text()
        assert maker.leftovers() == []
    finally:
        if mount.is_mount():
            subprocess.run(["umount", "--lazy", mount], check=True)
        maker.forget()


# --- two at once, and what a user gets wrong


def test_one_run_at_a_time_makes_an_image(maker: Maker, small: str) -> None:
    (maker.cache / "locks").mkdir(parents=True)
    with subprocess.Popen(
        ["flock", str(maker.cache / "locks" / maker.name), "sh", "-c", "echo locked; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == "locked\n"
        process = maker.start(SOURCE=small)
        assert process.stdout
        assert "waiting: another run is making this image" in process.stdout.readline()
        assert identity(maker.image) is None
        holder.stdin.write("\n")
        holder.stdin.flush()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert identity(maker.image) == identity(small)


def test_a_docker_that_does_not_answer_is_one_message(maker: Maker) -> None:
    done = maker.run(SOURCE="thing:1.2", DOCKER_HOST="unix:///nonexistent.sock")
    assert done.returncode == 1
    reason, advice = done.stderr.splitlines()
    place = "unix:///nonexistent.sock"
    assert reason == f"Docker does not answer on this machine: {place}: No such file or directory"
    assert advice.startswith("What to do: start it")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"IMAGE": ""}, "IMAGE must be set"),
        (
            {"IMAGE": "Not a name"},
            "Can't get the image Not a name: no such image: Not a name: invalid reference format",
        ),
        ({"LOG": "/proc/nowhere/image.log"}, "Can't get the image "),
        ({"XDG_CACHE_HOME": "/dev/null"}, "Not a directory"),
        ({"RECIPE": "no-recipe", "MIRROR": "127.0.0.1:9"}, "  - unpacking Debian packages: No such file or directory"),
    ],
)
def test_a_wrong_input_is_a_message_without_a_traceback(maker: Maker, inputs: dict[str, str], message: str) -> None:
    done = maker.run(**inputs)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert message in done.stderr

"""Provides one image in the local Docker. Prints a line per step; an error lists what was tried and what to do.

Uses the first that works: the local Docker, the cached archive, an archive in ARCHIVES, SOURCE from the local Docker,
the mirror or its registry, the recipe. Inputs (environment):

    IMAGE         full reference, such as localhost:1/site-nginx:0123456789ab; the tag identifies the content, so an
                  existing image is never rebuilt
    RECIPE        folder with a Dockerfile and `packages`, the Debian packages in its base; may be empty
    SOURCE        image to use instead, such as nginx:1.27-alpine; may be empty
    MIRROR        prefix of a Docker Hub mirror, such as mirror.example/hub; may be empty
    ARCHIVES      folder of `docker save` archives; default: images
    LOG           file for all long output
    KEEP_ARCHIVE  1: keep an archive of the image in the cache
"""

import ctypes
import fcntl
import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NoReturn

from tools.local_docker import FAILURES, LocalDocker, UnavailableError, deadline, explain, reason
from tools.stack import ToolError, main

DEBIAN = "bookworm"
BASE = Path("templates/images/base")
LOCK_SECONDS = 1200
ROOM_MEGABYTES = 2048
"""Space a recipe takes during the build, in Docker's folder and in the cache."""
MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
"""Without this hook, mmdebstrap installs all of Perl to merge /usr."""
GROUP = """trap 'trap "" TERM; kill 0; wait; exit 143' TERM; "$@" & wait $!"""
"""A shell that forwards SIGTERM to its process group: mmdebstrap ends only when all its processes receive it."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def file_stem(reference: str) -> str:
    """Return the name of an image's archive, without the suffix."""
    return re.sub("[/:]", "_", reference)


def find_archive(folder: Path, reference: str) -> Path | None:
    """Return the archive in a folder that is named after an image."""
    files = [folder / f"{file_stem(reference)}.{suffix}" for suffix in ("tar", "tar.gz", "tar.zst")]
    return next((file for file in files if file.is_file()), None)


def cache_folder(variables: Mapping[str, str]) -> Path:
    """Return the folder of the cache, which variables of the environment may move."""
    return Path(variables.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "swarm-site"


def archive_of(reference: str, variables: Mapping[str, str]) -> Path:
    """Return the path of an image's archive in the cache."""
    return cache_folder(variables) / "images" / f"{reference.rpartition('/')[2].replace(':', '-', 1)}.tar"


def mirrored(reference: str, mirror: str) -> str | None:
    """Return an image's name at a Docker Hub mirror; None without a mirror, or for another registry's image."""
    path = reference.removeprefix("docker.io/")
    first, slash, _ = path.partition("/")
    if not mirror or (slash and (first == "localhost" or re.search("[.:]", first))):
        return None
    return f"{mirror.rstrip('/')}/{path if slash else f'library/{path}'}"


def debian_sources(targets: str) -> list[str]:
    """Return sources.list lines for the Debian release of this machine's apt; none if it is another release.

    Args:
        targets: lines of `ORIGIN RELEASE URI COMPONENT`, as printed by `apt-get indextargets`.
    """
    found = re.findall(rf"^Debian ({DEBIAN}(?:-[a-z]+)?) (\S+) main$", targets, re.M)
    return sorted({f"deb {uri} {release} main\n" for release, uri in found}) if DEBIAN in dict(found) else []


def require_room(folder: Path) -> None:
    """Refuse to fill the disk.

    Raises:
        ToolError: a recipe takes more than is free in the folder.
    """
    free = shutil.disk_usage(folder).free // 2**20 if folder.is_dir() else ROOM_MEGABYTES
    if free < ROOM_MEGABYTES:
        advice = "What to do: make room (docker system df shows what Docker holds), then run again."
        raise ToolError(f"Only {free} MB are free in {folder}; a recipe takes {ROOM_MEGABYTES} MB.\n{advice}")


class Job:
    """Provision of one image, from inputs to cleanup."""

    def __init__(self, inputs: Mapping[str, str], output: IO[str], local: LocalDocker) -> None:
        self.image, self.output, self.log, self.docker = inputs["IMAGE"], output, Path(output.name), local
        self.recipe, self.source, self.mirror = (inputs.get(name, "") for name in ("RECIPE", "SOURCE", "MIRROR"))
        self.archives, self.keeps_archive = Path(inputs.get("ARCHIVES") or "images"), inputs.get("KEEP_ARCHIVE") == "1"
        self.name = self.image.rpartition("/")[2].replace(":", "-", 1)
        self.base, self.label = f"localhost/site/base:{self.name}", f"site.recipe={self.name}"
        cache = cache_folder(inputs)
        self.archive, self.work = archive_of(self.image, inputs), cache / "work" / self.name
        self.lock, self.start = cache / "locks" / self.name, time.monotonic()
        self.tried: list[str] = []
        self.child: subprocess.Popen[bytes] | None = None
        self.builds = False

    def provide(self) -> None:
        """Get the image and its archive, if missing, under a lock, with cleanup before and after.

        Raises:
            ToolError: no way to the image works.
        """
        for folder in (self.archive.parent, self.lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as lock:
            self._wait_for(lock.fileno())
            try:
                self._remove_work()
                self.work.mkdir(parents=True)
                self._provide()
            finally:
                self._clean_up()

    def advice(self) -> str:
        """Return what was tried, and what to do."""
        wanted, tried = self.source or self.image, "\n".join(f"  - {line}" for line in self.tried)
        todo = "give this machine a Debian mirror; or, on a machine that has the image, run"
        if self.source:
            todo = f"on a machine that reaches its registry, run\n    docker pull {wanted}"
        return (
            f"Can't get the image {self.image}. Tried:\n{tried}\nWhat to do: {todo}\n"
            f"    docker save --output {file_stem(wanted)}.tar {wanted}\n"
            f"copy that file into {self.archives}/ here, then run again."
        )

    def _provide(self) -> None:
        if not self.docker.has(self.image):
            self.output.truncate(0)
            self._take()
            self._say("ready")
        if self.keeps_archive and not self.archive.is_file():
            self.docker.save(self.image, self.work / "archive.tar")
            (self.work / "archive.tar").rename(self.archive)
            self._say(f"archived, {-(-self.archive.stat().st_size // 2**20)} MB")

    def _take(self) -> None:
        if self.archive.is_file():
            self._restore()
        elif found := self._from_archive(self.image) or (self._obtain(self.source) if self.source else None):
            self.docker.tag(found, self.image)
        elif not (self.recipe and self._make()):
            raise self._failure(self.advice())

    def _restore(self) -> None:
        """Load the cached archive, or fail: no other image may get its name."""
        held = self._try(f"loading {self.archive}", self._load, self.archive, self.image)
        if held != self.image:
            why = "it holds another image" if held else self.tried[-1]
            advice = "What to do: remove that file, then run again."
            raise ToolError(f"The archive {self.archive} is not one of {self.image}: {why}\n{advice}")

    def _from_archive(self, reference: str) -> str | None:
        if file := find_archive(self.archives, reference):
            return self._try(f"loading {file}", self._load, file, reference)
        stem = self.archives / file_stem(reference)
        self.tried.append(f"loading {stem}.tar (or .tar.gz, .tar.zst): no such file")
        return None

    def _obtain(self, reference: str) -> str | None:
        """Obtain an existing image; return its name in the local Docker."""
        if found := self._from_archive(reference):
            return found
        if self.docker.has(reference):
            return reference
        for place in filter(None, (mirrored(reference, self.mirror), reference)):
            if self._try(f"pulling {place}", self.docker.pull, place):
                self._say(f"pulled {self.docker.digest(place)}")
                return place
        return None

    def _load(self, file: Path, wanted: str) -> str:
        return self.docker.load(self._unzstd(file) if file.suffix == ".zst" else file, wanted)

    def _unzstd(self, file: Path) -> Path:
        plain = self.work / "unpacked.tar"
        if shutil.which("zstd"):
            self._run("zstd", "--decompress", "--quiet", "--force", "-o", str(plain), str(file))
            return plain
        try:
            zstd = importlib.import_module("compression.zstd")
        except ImportError:
            raise UnavailableError("the program zstd is not installed (apt-get install zstd)") from None
        with zstd.open(file) as packed, plain.open("wb") as target:
            shutil.copyfileobj(packed, target)
        return plain

    def _make(self) -> bool:
        """Build the image from the recipe; return False if its base can't be obtained."""
        require_room(self.docker.folder)
        require_room(self.work)
        self.builds = True
        self.docker.sweep(self.base, self.label)
        debian = self._obtain(f"debian:{DEBIAN}-slim")
        base = self._try(f"installing packages on {debian}", self._install, debian) if debian else None
        if not (base or self._try("unpacking Debian packages", self._bootstrap)):
            return False
        if not self._try("building", self.docker.build, Path(self.recipe), self.image, {"BASE": self.base}):
            advice = f"What to do: the log says at which step; correct {self.recipe}, then run again."
            raise self._failure(f"docker build of {self.recipe} failed.\n{advice}")
        return True

    def _install(self, debian: str) -> str:
        context, arguments = self.work / "context", {"BASE": debian, "NAME": self.name}
        shutil.copytree(BASE, context / "base")
        shutil.copytree(self.recipe, context / "recipe", symlinks=True)
        return self.docker.build(context, self.base, arguments, dockerfile="base/Dockerfile", network_mode="host")

    def _bootstrap(self) -> str:
        if not shutil.which("mmdebstrap"):
            raise UnavailableError("the program mmdebstrap is not installed (apt-get install mmdebstrap)")
        if os.geteuid() != 0:
            raise UnavailableError("mmdebstrap needs root (sudo)")
        packages, file = (Path(self.recipe) / "packages").read_text().split(), self.work / "base.tar"
        self._run(
            *("mmdebstrap", "--mode=root", "--variant=apt", "--format=tar", f"--include={','.join(packages)}"),
            *("--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"'),
            *([f"--hook-dir={MERGED_USR}"] if MERGED_USR.is_dir() else []),
            f'--customize-hook=sh {BASE / "trim"} "$1" {shlex.quote(self.recipe)}',
            *(DEBIAN, str(file), *self._sources()),
        )
        return self.docker.unpack(file, self.base, self.label)

    def _sources(self) -> list[str]:
        """Return the file with this machine's apt sources; empty if they are for another release."""
        form = "$(ORIGIN) $(RELEASE) $(REPO_URI) $(COMPONENT)"
        query = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
        targets = subprocess.run(query, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
        file = self.work / "sources.list"
        file.write_text("".join(debian_sources(targets)))
        return [str(file)] if file.stat().st_size else []

    def _try(self, step: str, way: Callable[..., str], *arguments: object) -> str | None:
        """Return the result of one way; None if it failed, which is recorded."""
        self._say(step)
        try:
            return way(*arguments)
        except FAILURES as error:
            self.tried.append(f"{step}: {explain(error)}")
            print(self.tried[-1], file=self.output)
            return None

    def _run(self, *command: str) -> None:
        """Run a program with its output in the log. It ends with this process, and holds the lock until then."""
        mark = self.log.stat().st_size
        self.child = subprocess.Popen(
            ["sh", "-c", GROUP, "sh", *command],
            env=os.environ | {"TMPDIR": str(self.work)},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            close_fds=False,
            start_new_session=True,
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        )
        status = self.child.wait()
        self.child = None
        if status != 0:
            raise UnavailableError(reason(self.log.read_bytes()[mark:].decode(errors="replace")))

    def _say(self, step: str) -> None:
        print(f"{self.name}: {step} ({time.monotonic() - self.start:.0f} s, log: {self.log})", flush=True)

    def _failure(self, message: str) -> ToolError:
        """Return the end of the log and the message as an error."""
        tail = [f"  | {line[:400]}" for line in self.log.read_text(errors="replace").splitlines()[-20:]]
        return ToolError("\n".join([f"The last lines of {self.log}:", *tail, message] if tail else [message]))

    def _wait_for(self, lock: int) -> None:
        """Take the image's lock; the kernel releases it once this run and its children have ended, however they end."""
        os.set_inheritable(lock, True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._say("waiting: another run is making this image")
            with deadline(LOCK_SECONDS, f"another run holds {self.lock} (fuser -v names it)"):
                fcntl.flock(lock, fcntl.LOCK_EX)

    def _clean_up(self) -> None:
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        if self.child:
            self.child.terminate()
            self.child.wait()
        if self.builds:
            self.docker.sweep(self.base, self.label)
        self._remove_work()

    def _remove_work(self) -> None:
        """Remove the work folder. mmdebstrap may have failed to unmount /proc and the like in it."""
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            mount = line.split()[4].replace(r"\040", " ")
            if mount.startswith(f"{self.work.resolve()}/"):
                subprocess.run(["umount", "--lazy", mount], check=False)
        subprocess.run(["rm", "-rf", "--one-file-system", self.work], check=False)


def stop(signum: int, _: object) -> NoReturn:
    """End this run with its cleanup."""
    raise SystemExit(128 + signum)


def provide() -> int:
    """Provide the image named by the environment.

    Raises:
        ToolError: no way to the image works.
    """
    os.umask(0o022)
    if missing := [name for name in ("IMAGE", "LOG") if not os.environ.get(name)]:
        raise ToolError(f"{' and '.join(missing)} must be set; the top of tools/images.py explains the inputs")
    for signum in SIGNALS:
        signal.signal(signum, stop)
    log = Path(os.environ["LOG"])
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", buffering=1) as output:
            Job(os.environ, output, LocalDocker(output)).provide()
    except FAILURES as error:
        advice = f"What to do: see {log}, then run again."
        raise ToolError(f"Can't get the image {os.environ['IMAGE']}: {explain(error)}\n{advice}") from None
    return 0


if __name__ == "__main__":
    main(provide)

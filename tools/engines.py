"""Chooses the engine: one on PATH, the official one or, on a closed network, the bundled one.

usage: python -m tools.engines   builds the bundled engine if no other can be available

Standard library only: tools/setup runs this before the project's environment exists.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import golang
from tools.steps import CACHE, ROOT, SetupError, run_step, say, try_step

MINIMUM = (3, 200, 0)
PLUGINS = ("command", "docker")

BUNDLED_PLUGINS = {"command": "1.2.1", "docker": "5.2.0"}
"""The plugin versions the bundled engine looks for; `tools/engine/plugins` replaces them."""
KEEP_OLD_PLUGINS_SECONDS = 7 * 86400

DOWNLOAD_SITE = "https://get.pulumi.com/install.sh"
"""The installer run by official_engine.py."""
REACH_SECONDS = 8
BLOCKED = CACHE / "downloads-blocked"
ASK_AGAIN_SECONDS = 86400


@dataclass(frozen=True)
class Engine:
    """A ready engine with its plugins."""

    kind: str
    """path, official or bundled."""
    version: str
    folder: Path
    """Folder to put on PATH."""
    home: Path | None = None
    """PULUMI_HOME; bundled engine only."""


def choose(notes: list[str]) -> Engine:
    """Return the first available engine, or the one named by SWARM_SITE_ENGINE.

    Args:
        notes: receives a line for each installation.

    Raises:
        SetupError: the named engine is not available.
        SystemExit: the build of the bundled engine failed; the user has been told.
    """
    _forget_our_own_variables()
    wanted = os.environ.get("SWARM_SITE_ENGINE")
    engines = {"path": on_path, "official": lambda: official(notes), "bundled": bundled}
    for kind, find in engines.items():
        if wanted in (None, "", kind) and (engine := find()):
            return engine
    raise SetupError(
        f"SWARM_SITE_ENGINE is '{wanted}', and that engine is not available. It may be path, official or bundled."
    )


def _forget_our_own_variables() -> None:
    # A sourced .env leaves the bundled engine's variables behind; they are not the user's choice.
    if os.environ.get("PULUMI_HOME", "").startswith(f"{CACHE}/"):
        del os.environ["PULUMI_HOME"]
        os.environ.pop("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", None)


# --- an engine on PATH ------------------------------------------------------------------------------------------------


def on_path() -> Engine | None:
    """Return the user's engine if it is new enough and has the plugins."""
    for pulumi in _others_on_path():
        version = _version(pulumi)
        if version is None:
            continue
        if _numbers(version) < MINIMUM:
            needed = ".".join(map(str, MINIMUM))
            say(f"pulumi {version} ({pulumi}) is passed over: {needed} or newer is needed.")
        elif has_plugins(pulumi):
            return Engine("path", version, pulumi.parent)
        else:
            say(f"pulumi {version} ({pulumi}) is passed over: its plugins are not installed and can't be fetched.")
    return None


def _others_on_path() -> Iterator[Path]:
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which("pulumi", path=folder)
        if found and not Path(found).resolve().is_relative_to(CACHE.resolve()):
            yield Path(found)


def _version(pulumi: Path) -> str | None:
    """Return an engine's version without the `v`; None if it does not run."""
    try:
        answer = subprocess.run(
            [pulumi, "version"],
            env=os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip().removeprefix("v")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


# --- the official engine ----------------------------------------------------------------------------------------------


def official(notes: list[str]) -> Engine | None:
    """Return the official engine, cached or downloaded; None on a closed network."""
    folder = _official_folder()
    pulumi = folder / "bin" / "pulumi"
    if not os.access(pulumi, os.X_OK):
        if not _download("official-engine", [sys.executable, ROOT / "tools" / "official_engine.py", folder], 900):
            return None
        notes.append("installed the official engine")
    version = _version(pulumi)
    return Engine("official", version, pulumi.parent) if version and has_plugins(pulumi) else None


def _official_folder() -> Path:
    return CACHE / f"pulumi-{pinned_version('pulumi')}"


def has_plugins(pulumi: Path) -> bool:
    """Return whether the plugins are where all engines but the bundled one look; fetch missing ones if possible."""
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    for name in PLUGINS:
        version = pinned_version(f"pulumi-{name}")
        folder = home / "plugins" / f"resource-{name}-v{version}"
        install = ["env", "PULUMI_SKIP_UPDATE_CHECK=true", str(pulumi), "plugin", "install", "resource", name, version]
        if not folder.is_dir() and not (_download(f"plugin-{name}", install, 150) and folder.is_dir()):
            return False
    return True


def pinned_version(package: str) -> str:
    """Return the pinned version of a Python package in requirements.txt.

    Raises:
        SetupError: the package is not pinned.
    """
    found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    if not found:
        raise SetupError(f"requirements.txt does not pin {package}; run: make lock")
    return found[1]


# --- a closed network -------------------------------------------------------------------------------------------------


def _download(step: str, command: Sequence[str | Path], seconds: int) -> bool:
    """Run a download from Pulumi's sites and return whether it succeeded. Retry a closed network once a day."""
    if downloads_are_blocked():
        return False
    succeeded = try_step(step, ["timeout", str(seconds), *command])
    if not succeeded:
        BLOCKED.touch()
    return succeeded


def downloads_are_blocked() -> bool:
    """Return whether a download failed within the last day."""
    return BLOCKED.exists() and time.time() - BLOCKED.stat().st_mtime < ASK_AGAIN_SECONDS


def only_the_bundled_engine_is_available() -> bool:
    """Return whether the engine certainly has to be built; the check takes up to REACH_SECONDS."""
    if wanted := os.environ.get("SWARM_SITE_ENGINE"):
        return wanted == "bundled"
    if any(_others_on_path()) or _official_folder().exists():
        return False
    if not downloads_are_blocked() and not _download_site_answers():
        BLOCKED.touch()
    return downloads_are_blocked()


def _download_site_answers() -> bool:
    # A separate process, because no Python timeout bounds name resolution.
    ask = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])"
    try:
        subprocess.run(
            [sys.executable, "-c", ask, DOWNLOAD_SITE], timeout=REACH_SECONDS, capture_output=True, check=True
        )
    except subprocess.SubprocessError:
        say("engine: Pulumi's download site can't be reached")
        return False
    return True


# --- the bundled engine -----------------------------------------------------------------------------------------------


def bundled() -> Engine:
    """Build the engine, and install the plugins of `tools/engine/plugins` for the current Python environment.

    Raises:
        SystemExit: the build failed; the user has been told.
    """
    binary = golang.engine().binary
    if not os.access(binary, os.X_OK):
        hint = "The engine is built from its Go modules: check the log and GOPROXY, then run the same command again."
        run_step("engine", hint, [sys.executable, "-m", "tools.golang", "engine"])
    home = CACHE / "engine" / "home"
    code = _keep_plugin_code()
    _write_launcher(binary.with_name("pulumi-language-python"), code, "language")
    for name, version in BUNDLED_PLUGINS.items():
        _write_launcher(home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}", code, name)
    return Engine("bundled", golang.ENGINE_VERSION, binary.parent, home)


def _keep_plugin_code() -> Path:
    """Copy the plugins to a folder named by content hash: the clone may be removed, and a run keeps its code."""
    sources = sorted((ROOT / "tools" / "engine" / "plugins").glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = CACHE / "engine" / f"plugins-{digest}"
    if not folder.is_dir():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for source in sources:
            shutil.copy(source, new)
        new.rename(folder)
    folder.touch()
    for old in folder.parent.glob("plugins-*"):
        if time.time() - old.stat().st_mtime > KEEP_OLD_PLUGINS_SECONDS:
            shutil.rmtree(old)
    return folder


def _write_launcher(file: Path, code: Path, plugin: str) -> None:
    """Write a plugin launcher. With a broken shebang, the engine would report the plugin as not found."""
    python, start = (shlex.quote(str(path)) for path in (Path(sys.prefix, "bin", "python"), code / "start.py"))
    text = f"""#!/bin/sh
# Written by tools/setup; run that again rather than change this.
if [ ! -x {python} ] || [ ! -f {start} ]; then
  echo 'the bundled Pulumi plugins or their Python environment are gone: run the set-up of the project again' >&2
  exit 1
fi
exec {python} -E -s {start} {plugin} "$@"
"""
    if file.exists() and file.read_text() == text:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(file)


def main() -> None:
    """Build the bundled engine in advance."""
    golang.end_on_signals()
    if only_the_bundled_engine_is_available():
        golang.build(golang.engine())


if __name__ == "__main__":
    main()

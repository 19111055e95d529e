"""Second half of set-up: links, the engine, `.env`, the stack. tools/setup runs it in the Python environment.

usage: python -m tools.environment GOAL [NOTE…]   GOAL as in tools/setup; each NOTE reports a finished action

environment: STACK, SWARM_SITE_ENGINE, SWARM_SITE_SECONDS (elapsed set-up time)
"""

import os
import shlex
import signal
import sys
import time
import urllib.parse
from pathlib import Path

from tools import engines, golang, state
from tools.engines import Engine
from tools.steps import CACHE, END_SIGNALS, ROOT, STATE, SetupError, ToolError, run_step, say

STACK = os.environ.get("STACK") or "dev"
ENV_FILE = ROOT / ".env"
LOOPBACK = "127.0.0.1,localhost,::1"
DEFAULT_SOCKETS = ("unix:///var/run/docker.sock", "unix:///run/docker.sock")
"""Values of DOCKER_HOST that change nothing; act and others set them anyway."""


def main(goal: str, *done: str) -> None:
    """Finish set-up for a goal, then report what was done or print `.env`."""
    began = time.monotonic() - int(os.environ.get("SWARM_SITE_SECONDS", "0"))
    notes = list(done)
    os.chdir(ROOT)
    make_link(ROOT / ".venv", Path(sys.prefix))
    make_link(ROOT / ".work", STATE / "work")
    if goal == "check":
        build_actionlint(notes)
    engine = engines.choose(notes)
    (CACHE / "built").touch()
    write_env_file(engine)
    if goal != "engine":
        select_stack()
    if goal == "env":
        print(ENV_FILE.read_text(errors="surrogateescape"), end="")
        return
    summary = ", ".join(notes) or "set-up is complete, nothing to do"
    say(f"ok: {summary} (engine: pulumi {engine.version}, {engine.kind}; {time.monotonic() - began:.0f} s)")


def make_link(link: Path, target: Path) -> None:
    """Point a link in the clone at a target.

    Raises:
        SetupError: a file or folder of the user has that name.
    """
    if link.is_symlink() and link.readlink() == target:
        return
    if link.exists() and not link.is_symlink():
        raise SetupError(f"{link} is in the way: set-up creates a link with this name. Move it elsewhere.")
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def build_actionlint(notes: list[str]) -> None:
    """Build the workflow linter if it is missing, and add a note."""
    if os.access(golang.actionlint().binary, os.X_OK):
        return
    hint = "actionlint is built from its Go modules: check the log and GOPROXY, then run the same command again."
    run_step("actionlint", hint, [sys.executable, "-m", "tools.golang", "actionlint"])
    notes.append("built actionlint")


# --- .env -------------------------------------------------------------------------------------------------------------


def write_env_file(engine: Engine) -> None:
    """Write `.env` atomically, unless it is up to date."""
    text = env_text(engine)
    if ENV_FILE.exists() and ENV_FILE.read_text(errors="surrogateescape") == text:
        return
    new = ENV_FILE.with_name(".env.new")
    new.write_text(text, errors="surrogateescape")
    new.replace(ENV_FILE)


def env_text(engine: Engine) -> str:
    """Return the variables plain pulumi needs, for sh and bash.

    The user's own values win at source time, not at write time, so `.env` holds none of their secrets.
    metadata=skip: the engine writes the state atomically, but not its attributes (size, type). Killed in between, it
    could no longer read the state.
    no_grpc_proxy: engine, plugins and program talk gRPC over loopback, and gRPC would use a proxy for it.
    DOCKER_HOST and DOCKER_CONTEXT override the docker provider's own arguments, whatever they name.
    PYTHONHOME and PYTHONPATH would mix another Python's modules into the program's.
    """
    front = [engine.folder, ROOT / ".venv" / "bin"]
    front += filter(Path.is_dir, (CACHE / "nginx" / "usr" / "sbin", golang.actionlint().binary.parent))
    return f"""\
# Written by tools/setup, for '. ./.env': what plain pulumi needs.
swarm_site_path={shlex.quote(os.pathsep.join(map(str, front)))}
case "$PATH:" in
  "$swarm_site_path:"*) ;;
  *) PATH="$swarm_site_path:$PATH" ;;
esac
unset swarm_site_path
export PATH
{_engine_variables(engine)}
[ -n "${{PULUMI_BACKEND_URL-}}" ] || PULUMI_BACKEND_URL={shlex.quote(own_backend())}
export PULUMI_BACKEND_URL
[ -n "${{PULUMI_CONFIG_PASSPHRASE_FILE-}}" ] || export PULUMI_CONFIG_PASSPHRASE="${{PULUMI_CONFIG_PASSPHRASE-}}"
export PULUMI_SKIP_UPDATE_CHECK=true
export PULUMI_PARALLEL="${{PULUMI_PARALLEL:-64}}"
case "${{DOCKER_HOST-}}" in
  {" | ".join(DEFAULT_SOCKETS)}) unset DOCKER_HOST ;;
esac
[ "${{DOCKER_CONTEXT-}}" != default ] || unset DOCKER_CONTEXT
unset PYTHONHOME PYTHONPATH
{_proxy_exceptions()}"""


def _proxy_exceptions() -> str:
    """Return the lines that extend each proxy exception list with loopback; a lone `*` already excepts everything."""
    return f"""\
[ -n "${{no_proxy-}}" ] || no_proxy="${{NO_PROXY-}}"
[ -n "${{NO_PROXY-}}" ] || NO_PROXY="$no_proxy"
for swarm_site_name in no_proxy NO_PROXY no_grpc_proxy; do
  eval "swarm_site_value=\\${{$swarm_site_name-}}"
  case ",$swarm_site_value," in
    ",*," | *,{LOOPBACK},*) ;;
    *) swarm_site_value="${{swarm_site_value:+$swarm_site_value,}}{LOOPBACK}" ;;
  esac
  eval "export $swarm_site_name=\\"\\$swarm_site_value\\""
done
unset swarm_site_name swarm_site_value
"""


def _engine_variables(engine: Engine) -> str:
    if engine.home:
        return f"""\
export PULUMI_HOME={shlex.quote(str(engine.home))}
export PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true"""
    # This shell may have sourced a bundled engine's .env before.
    return f"""\
case "${{PULUMI_HOME-}}" in
  {shlex.quote(str(CACHE))}/*) unset PULUMI_HOME PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION ;;
esac"""


def own_backend() -> str:
    """Return the URL of the states' folder, unless the user has a backend."""
    return f"{file_url(STATE / 'pulumi')}?metadata=skip"


def file_url(path: Path) -> str:
    """Return the `file://` URL of an absolute path."""
    return f"file://{urllib.parse.quote(os.fsencode(path))}"


# --- the stack --------------------------------------------------------------------------------------------------------


def select_stack() -> None:
    """Create the stack if it is missing, and select it for plain pulumi.

    Pulumi can't select a damaged stack, and would create a missing one without resources: both are restored first.
    """
    write_stack_file()
    os.environ["PULUMI_BACKEND_URL"] = os.environ.get("PULUMI_BACKEND_URL") or own_backend()
    if notice := state.restore(STACK):
        say(notice)
    hint = f"Can't create or select the stack '{STACK}': fix what pulumi names above, then run the same command again."
    pulumi = '. ./.env; exec pulumi --non-interactive stack select --create "$0"'
    run_step("stack", hint, ["sh", "-euc", pulumi, STACK])


def write_stack_file() -> None:
    """Add the empty passphrase's salt to the stack's file, unless it has a salt or the user has a passphrase.

    When Pulumi creates the stack, it does not change a file with a salt.

    Raises:
        SetupError: Pulumi.dev.yaml has no salt to copy.
    """
    if os.environ.get("PULUMI_CONFIG_PASSPHRASE") or os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        return
    file, dev = (ROOT / f"Pulumi.{name}.yaml" for name in (STACK, "dev"))
    text = file.read_text() if file.exists() else ""
    if _salts(text):
        return
    salts = _salts(dev.read_text()) if dev.exists() else []
    if not salts:
        raise SetupError("Pulumi.dev.yaml has no encryptionsalt; run: git checkout Pulumi.dev.yaml")
    new = file.with_name(f"{file.name}.new")
    new.write_text(f"{salts[0]}\n{text}")
    new.replace(file)


def _salts(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("encryptionsalt:")]


if __name__ == "__main__":
    for signum in END_SIGNALS:
        signal.signal(signum, signal.default_int_handler)
    try:
        main(*sys.argv[1:])
    except ToolError as error:
        say(f"setup: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("\nInterrupted. Run the same command again: it goes on from here.")
        sys.exit(130)

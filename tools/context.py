"""A Docker context of the stack, over ssh to the first manager that answers: for the docker command, from any folder.

usage: python -m tools.context          create it, or bring it up to date
       python -m tools.context remove   remove it

Docker runs the user's own ssh, so the stack gets an entry in the user's ssh configuration: one `Include` in its first
lines, of a file in the stack's folder.
"""

import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path

from components.contract import CONTEXT_FILE, PACKAGE, PROJECT, SSH_CONFIG_FILE, Step
from tools import folder, stack
from tools.stack import ToolError

NAME = f"{PACKAGE}-{stack.STACK}"
ALIAS = "swarm-manager"


def context() -> int:
    """Create or remove the context, as the command line says."""
    if sys.argv[1:] == ["remove"]:
        print(f"removed the context {NAME}" if remove() else f"there is no context {NAME}")
        return 0
    known = stack.recover()
    folder.derive(known)
    if not stack.commands(known, Step.CLUSTER):
        raise ToolError(f"stack {stack.STACK} has no swarm; run: make up")
    _write_entry()
    _include()
    verb = "update" if _exists() else "create"
    _docker("context", verb, NAME, "--docker", f"host=ssh://{NAME}", "--description", f"swarm of stack {stack.STACK}")
    print(f"ready, from any folder: docker --context {NAME} node ls")
    return 0


def refresh() -> None:
    """Bring the ssh entry up to date, if there is a context."""
    if _entry_file().exists():
        _write_entry()


def remove() -> bool:
    """Remove the context, its ssh entry and its line in the user's ssh configuration; return whether it was there."""
    config = _user_config()
    is_included = config.exists() and _line() in config.read_text()
    if not is_included and not _entry_file().exists():
        return False
    if _exists():
        _docker("context", "rm", "--force", NAME)
    if is_included:
        own = config.read_text().replace(_line(), "", 1)
        _replace(config, own) if own else config.unlink()
    _entry_file().unlink(missing_ok=True)
    return True


def entry(text: str) -> str:
    """Return the ssh entry of the alias `swarm-manager`, for the context's name and from any folder.

    Without the user's own settings, which the user's ssh reads anyway, and without shared connections, whose sockets
    would need a short path.
    """
    place = str(PROJECT).replace("%", "%%")
    own, is_of_hosts, _ = text.partition("\nMatch all\n")
    own = re.sub(r"^Match originalhost .*\n|^ *Control.*\n", "", f"{own.rstrip()}\n", flags=re.MULTILINE)
    if is_of_hosts:  # all is read again for the address: the user's own entries may be for that
        own += f"Match final originalhost {NAME}\n  LogLevel ERROR\n"
    own = own.replace(ALIAS, NAME).replace("env WORK=", f"env -C {shlex.quote(place)} WORK=")
    return re.sub(r"^( *IdentityFile) (\.work/.*)$", rf'\1 "{place}/\2"', own, flags=re.MULTILINE)


def _exists() -> bool:
    return NAME in _docker("context", "ls", "--format", "{{.Name}}").split()


def _write_entry() -> None:
    _entry_file().write_text(entry((stack.WORK / SSH_CONFIG_FILE.path).read_text()))


def _include() -> None:
    config = _user_config()
    text = config.read_text() if config.exists() else ""
    if _line() in text:
        return
    config.parent.mkdir(mode=0o700, exist_ok=True)
    # An Include below the first Host would only count for that host.
    _replace(config, _line() + text)


def _replace(config: Path, text: str) -> None:
    config = config.resolve()
    mode = config.stat().st_mode if config.exists() else 0o600
    draft = config.with_name(f"{config.name}.{PACKAGE}")
    draft.write_text(text)
    draft.chmod(mode & 0o777)
    draft.replace(config)


def _line() -> str:
    return f'Include "{_entry_file()}"\n'


def _entry_file() -> Path:
    return stack.WORK.resolve() / CONTEXT_FILE.path


def _user_config() -> Path:
    """Return where ssh looks, whatever HOME is."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir) / ".ssh" / "config"


def _docker(*arguments: str) -> str:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ToolError("the docker command is missing; install it (apt-get install docker.io)") from None
    if done.returncode != 0:
        raise ToolError(f"docker {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    stack.main(context)

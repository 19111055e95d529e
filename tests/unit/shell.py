"""Shared by the shell script tests: a machine in a folder, with stubs for nodes and daemons."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.contract import FOLDER_SITE, PROJECT
from components.scripts import bundle

SSH = r"""#!/usr/bin/env bash
# ssh: a node is this machine with the programs of `node/` first on PATH.
config="" control="" node=""
while (($# > 0)); do
  case $1 in
    -F) config=$2 && shift 2 ;;
    -O) control=$2 && shift 2 ;;
    -o) shift 2 ;;
    *) node=$1 && shift && break ;;
  esac
done
printf '%s: %s\n' "$node" "$*" >>"$STUBS/ssh.log"
[[ -e $config ]] || { echo "Can't open user config file $config" >&2 && exit 255; }
[[ -z $control ]] || { echo "Control socket connect: No such file or directory" >&2 && exit 255; }
[[ ! -e $STUBS/dead/$node ]] || { echo "ssh: connect to host $node port 22: No route to host" >&2 && exit 255; }
[[ ! -e /proc/self/fd/9 ]] || echo "$node: $*" >>"$STUBS/holds-the-lock"
# If a test gives nodes root folders, each node gets its own.
[[ ! -e $STUBS/roots ]] || mkdir -p "$STUBS/roots/$node"
# Like sshd: the arguments form one line for the user's shell.
line=$*
ON_NODE=$node PATH=$STUBS/node:$PATH exec bash -c "${line//"$STUBS/ROOT"/"$STUBS/roots/$node"}"
"""
SUDO = """#!/usr/bin/env bash
ROOT_ON_NODE=$ON_NODE exec "$@"
"""
RECORDER = r"""#!/usr/bin/env bash
# Stands for any program: records each call and answers as planned by the test.
name=${0##*/}
key="${ON_NODE:-here}: $name $*"
printf '%s\n' "$key" >>"$STUBS/calls"
line=0
while IFS=$'\t' read -r times status pattern output; do
  line=$((line + 1))
  # shellcheck disable=SC2053
  [[ $key == $pattern ]] || continue
  if ((times > 0)); then
    [[ ! -e $STUBS/used.$line ]] || continue
    touch "$STUBS/used.$line"
  fi
  printf '%b' "$output"
  exit "$status"
done <"$STUBS/answers"
echo "unplanned: $key" >&2
exit 97
"""
ROUTES = """#!/bin/sh
echo default via 172.17.0.1 dev eth0
echo 172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1
"""
# Sleeping only advances the clock.
NO_WAITING = "sleep() { SECONDS=$((SECONDS + ${A_SLEEP_COUNTS_AS:-60})); }\n"
TREE = {name: PROJECT / name for name in ("components", "templates", "tools")} | {".venv": Path(sys.prefix)}
"""Contents of the project folder, available to creates but not to deletes."""
QUESTIONS = re.compile(r": docker (node ls|node ps|service ls|service ps|info|\w+ inspect)\b")

Finished = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Answer:
    """A program's output and exit status for calls that match `pattern`; with `once`, only for the first one."""

    pattern: str
    output: str = ""
    status: int = 0
    once: bool = False


@dataclass(frozen=True)
class World:
    """A machine and its nodes, all in one folder."""

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / ".work" / "dev"

    @property
    def stubs(self) -> Path:
        return self.folder / "stubs"

    @property
    def tree(self) -> Path:
        return self.folder / "templates"

    def prepare(self) -> None:
        """Create a stack folder without nodes, and stubs without answers."""
        (self.work / "machines").mkdir(parents=True)
        (self.work / "locks").mkdir()
        (self.stubs / "dead").mkdir(parents=True)
        (self.stubs / "no-waiting").write_text(NO_WAITING)
        self.plan()
        self.stub("here", "ssh", SSH)
        self.stub("here", "sudo", SUDO)
        for name in ("docker", "vagrant"):
            self.stub("here", name, RECORDER)
        # A faulty script must not touch this machine's files.
        for name in ("rm", "mkdir", "mv", "ln", "curl", "docker"):
            self.stub("node", name, RECORDER)

    def nodes(self, *names: str, managers: int = 7) -> None:
        """Set the nodes of the settings, and create their machines."""
        roles = ["manager" if index < managers else "worker" for index in range(len(names))]
        lines = [f"{name} 192.0.2.{index + 11} {roles[index]}\n" for index, name in enumerate(names)]
        (self.work / "nodes").write_text("".join(lines))
        for name in names:
            self.create(name)

    def create(self, name: str) -> Path:
        """Create the folder of a complete machine."""
        folder = self.work / "machines" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ssh_config").write_text(f"Host {name}\n")
        (folder / "complete").touch()
        return folder

    def kill(self, name: str) -> None:
        (self.stubs / "dead" / name).touch()

    def plan(self, *answers: Answer) -> None:
        """Set the programs' answers from now on; the first match applies."""
        lines = [
            "\t".join([str(int(a.once)), str(a.status), a.pattern, a.output.replace("\\", "\\\\").replace("\n", "\\n")])
            for a in answers
        ]
        (self.stubs / "answers").write_text("".join(line + "\n" for line in lines))

    def stub(self, place: str, name: str, text: str) -> None:
        """Install a program on this machine (`here`) or on every node (`node`)."""
        path = self.stubs / place / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def free_disk(self, megabytes: int) -> None:
        """Set the free space reported by `df`, even for folders that do not exist here."""
        head = "echo Filesystem 1M-blocks Used Available"
        self.stub("here", "df", f"#!/bin/sh\n{head}\necho /dev/x 99999 0 {megabytes} 9% /\n")

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            "PATH": f"{self.stubs}/here:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "STUBS": str(self.stubs),
            "BASH_ENV": str(self.stubs / "no-waiting"),
            "WORK": ".work/dev",
            "STACK": "dev",
            "PROVIDER": "docker",
            **changes,
        }

    def run(self, *command: str, stdin: str = "", **environment: str) -> Finished:
        """Run a command in the folder, with the real tree available."""
        for name, target in TREE.items():
            if not (self.folder / name).exists():
                (self.folder / name).symlink_to(target)
        return self._run(*command, stdin=stdin, **environment)

    def script(self, path: str, *arguments: str, stdin: str = "", **environment: str) -> Finished:
        """Run a script of `templates/` as a create does: from the project folder."""
        return self.run(
            "/bin/sh", "-c", f'exec bash templates/{path} "$@"', "sh", *arguments, stdin=stdin, **environment
        )

    def delete(self, path: str, **environment: str) -> Finished:
        """Run a script of `templates/` as a delete does: from its text in the state, without the project folder."""
        text = bundle(path, self.environment(**environment)["PROVIDER"])
        return self.without_tree(text, path, **environment)

    def altered(self, path: str, changes: dict[str, str], **environment: str) -> Finished:
        """Run a script of `templates/` with parts replaced, such as a time limit or a folder."""
        return self.bash(self.altered_text(path, changes, **environment), **environment)

    def altered_text(self, path: str, changes: dict[str, str], **environment: str) -> str:
        text = bundle(path, self.environment(**environment)["PROVIDER"])
        for old, new in changes.items():
            assert old in text, f"{path} does not contain {old}"
            text = text.replace(old, new)
        return text

    def without_tree(self, text: str, path: str, *arguments: str, **environment: str) -> Finished:
        """Run a script's text as a delete does; `path` is its `$0`."""
        for name in TREE:
            (self.folder / name).unlink(missing_ok=True)
        command = f'exec bash -c "$DELETE_SCRIPT" templates/{path} "$@"'
        return self._run("/bin/sh", "-c", command, "sh", *arguments, **environment, DELETE_SCRIPT=text)

    def bash(self, text: str, *arguments: str, stdin: str = "", **environment: str) -> Finished:
        return self.run("bash", "-c", text, "script", *arguments, stdin=stdin, **environment)

    def lib(self, code: str, *arguments: str, source: str = "", stdin: str = "", **environment: str) -> Finished:
        """Run code in strict mode with the functions of lib.sh and, optionally, another file of `templates/`."""
        return self.bash(f"{library(source)}{code}", *arguments, stdin=stdin, **environment)

    def calls(self) -> list[str]:
        """Return the recorded calls, in order: `NODE: program arguments`."""
        path = self.stubs / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def orders(self) -> list[str]:
        """Return the recorded calls that change something."""
        return [call for call in self.calls() if not QUESTIONS.search(call)]

    def connections(self) -> list[str]:
        path = self.stubs / "ssh.log"
        return path.read_text().splitlines() if path.exists() else []

    def _run(self, *command: str, stdin: str = "", **environment: str) -> Finished:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            umask=0o077,  # the strictest: scripts must set the mode of files that others read
        )


@dataclass(frozen=True)
class Rooted:
    """Nodes with a folder each instead of `/srv/swarm-site`, and real programs."""

    world: World

    def root(self, node: str) -> Path:
        return self.world.stubs / "roots" / node

    def script(self, path: str, changes: Mapping[str, str] = {}, **environment: str) -> Finished:
        """Run a script of `templates/`, with parts replaced as in `World.altered`."""
        folder = {FOLDER_SITE: f"{self.world.stubs}/ROOT"}
        text = self.world.altered_text(path, {**folder, **changes}, **environment)
        assert "/srv" not in text.replace(str(self.world.stubs), "")
        return self.world.bash(text, **environment)

    def assert_readable(self, folder: Path) -> None:
        """Check that every user of a node can read the folder."""
        paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink() and "used" not in path.parts)]
        modes = {path: path.stat().st_mode & 0o7777 for path in paths}
        assert {mode for path, mode in modes.items() if path.is_file()} == {0o644}
        assert {mode for path, mode in modes.items() if path.is_dir()} == {0o755}


def library(source: str = "") -> str:
    """Return the lines that source lib.sh and, optionally, another file of `templates/`, in strict mode."""
    paths = ["lib.sh", source] if source else ["lib.sh"]
    return "set -euo pipefail\n" + "".join(f". templates/{path}\n" for path in paths)


def succeeded(done: Finished) -> str:
    """Check that a script succeeded and made no unplanned call; return its standard output."""
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    assert "unplanned" not in done.stderr
    return done.stdout


def refused(done: Finished) -> str:
    """Check that a script refused to continue (status 1) and made no unplanned call; return its standard error."""
    assert done.returncode == 1, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    assert "unplanned" not in done.stderr
    return done.stderr


# --- a swarm ----------------------------------------------------------------------------------------------------------

IMAGE = "localhost:1/site-nginx:0123456789ab"
NODES_OF = "{}: docker node ls --format {{{{.Hostname}}}} *"
GLOBAL_SERVICES = "{}: docker service ls --filter mode=global *"
REPLICATED_SERVICES = "{}: docker service ls --filter mode=replicated *"
HEALTHY = "core-01 Ready Active Leader\ncore-02 Ready Active Reachable\ncore-03 Ready Active Reachable\n"


DETAILS = "core-01 ready active false \ncore-02 ready active true \ncore-03 ready active true \n"


def manages(name: str) -> list[Answer]:
    """Answers of a manager of a healthy swarm with two proxies and two application tasks; every change succeeds."""
    return [
        Answer(f"{name}: docker node ls -q", "id1\nid2\nid3\n"),
        Answer(NODES_OF.format(name), HEALTHY),
        Answer(f"{name}: docker node inspect -f *", DETAILS),
        Answer(GLOBAL_SERVICES.format(name), "proxy\n"),
        Answer(f"{name}: docker service ps proxy *", "Running 2 minutes ago\nRunning 3 seconds ago\n"),
        Answer(REPLICATED_SERVICES.format(name), "backend 2/2\n"),
        Answer(f"{name}: docker node ps *", "Shutdown 1 second ago\n"),
        Answer(f"{name}: docker node update *"),
        Answer(f"{name}: docker node demote *"),
        Answer(f"{name}: docker node rm *"),
    ]


def no_manager(name: str) -> Answer:
    return Answer(f"{name}: docker node ls -q", status=1)


def entries(name: str, *listings: str) -> list[Answer]:
    """Return a manager's successive listings of node ids and names; the last one repeats."""
    pattern = f"{name}: docker node ls --format {{{{.ID}}}} {{{{.Hostname}}}}"
    return [Answer(pattern, listing, once=index < len(listings) - 1) for index, listing in enumerate(listings)]


# --- machines ---------------------------------------------------------------------------------------------------------

STACK_FOLDER = {
    "NODE": "",
    "NETWORK": "192.168.56.0/24",
    "NETMASK": "255.255.255.0",
    "GATEWAY": "192.168.56.1",
    "DHCP_FIRST": "192.168.56.2",
    "DHCP_LAST": "192.168.56.254",
    "NODES": "core-01 192.168.56.11 manager\ncore-02 192.168.56.12 manager",
    "IDENTITY": "ID ann@laptop",
    "MEMORY_WANTED": "1",
    "SSH_CONFIG": "Host swarm-manager\n",
}
"""Inputs of machines/stack_folder.sh."""
DAEMON_ANSWERS = Answer("here: docker info")
DOCKER_ROOT = Answer("here: docker info -f {{.DockerRootDir}}", "/\n")
NO_NETWORK = Answer("here: docker network inspect *", status=1)
NEW_NETWORK = Answer("here: docker network create --subnet 192.168.56.0/24 --label swarm-site.stack=dev swarm-site-dev")
NOTHING_EXISTS = [
    Answer("here: docker info"),
    Answer("here: docker container inspect *", status=1),
    Answer("here: docker volume inspect *", status=1),
    Answer("here: docker network inspect *", status=1),
]
"""The local Docker, with no resources of the stack."""

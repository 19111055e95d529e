"""The shell scripts, run as they are. Stubs play what a node or a daemon would answer: no network, no waiting."""

import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.config import folder_hash
from components.rendering import TEMPLATES, render

SSH = r"""#!/usr/bin/env bash
# ssh: a node is this machine with the programs of `node/` before all others.
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
# Where a test gives nodes a root folder, each has one of its own.
[[ ! -e $STUBS/roots ]] || { mkdir -p "$STUBS/roots/$node" && ln -sfn "roots/$node" "$STUBS/root"; }
# As sshd does: the words are one line for the shell of the user.
ON_NODE=$node PATH=$STUBS/node:$PATH exec bash -c "$*"
"""
SUDO = """#!/usr/bin/env bash
ROOT_ON_NODE=$ON_NODE exec "$@"
"""
RECORDER = r"""#!/usr/bin/env bash
# Any program: writes down how it was called, and answers as the test planned.
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
# Waiting is counted, not done.
NO_WAITING = "sleep() { SECONDS=$((SECONDS + ${A_SLEEP_COUNTS_AS:-60})); }\n"


@dataclass(frozen=True)
class Answer:
    """What a program says when it is called as `pattern` says; with `times`, only the first so many calls."""

    pattern: str
    output: str = ""
    status: int = 0
    once: bool = False


@dataclass(frozen=True)
class World:
    """A machine with nodes of its own, all of it in one folder."""

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / ".work" / "dev"

    @property
    def stubs(self) -> Path:
        return self.folder / "stubs"

    def nodes(self, *names: str, managers: int = 7) -> None:
        """Today's settings, and machines that are made."""
        roles = ["manager" if index < managers else "worker" for index in range(len(names))]
        lines = [f"{name} 192.0.2.{index + 11} {roles[index]}\n" for index, name in enumerate(names)]
        (self.work / "nodes").write_text("".join(lines))
        for name in names:
            self.make(name)

    def make(self, name: str) -> Path:
        folder = self.work / "machines" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ssh_config").write_text(f"Host {name}\n")
        (folder / "complete").touch()
        return folder

    def kill(self, name: str) -> None:
        (self.stubs / "dead" / name).touch()

    def plan(self, *answers: Answer) -> None:
        lines = [
            "\t".join([str(int(a.once)), str(a.status), a.pattern, a.output.replace("\\", "\\\\").replace("\n", "\\n")])
            for a in answers
        ]
        (self.stubs / "answers").write_text("".join(line + "\n" for line in lines))

    def stub(self, place: str, name: str, text: str) -> None:
        path = self.stubs / place / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            "PATH": f"{self.stubs}/here:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "STUBS": str(self.stubs),
            "BASH_ENV": str(self.stubs / "no-waiting"),
            "WORK": ".work/dev",
            "STACK": "dev",
            **changes,
        }

    def bash(self, text: str, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", text, "script", *arguments],
            cwd=self.folder,
            env=self.environment(**environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            umask=0o077,  # the strictest a user may have: what others must read is made readable by the script
        )

    def lib(self, code: str, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return self.bash(f"{render('lib.sh')}\n{code}", *arguments, stdin=stdin, **environment)

    def script(
        self, template: str, *, provider: str = "docker", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return self.bash(render(template, work=".work/dev", provider=provider), **environment)

    def calls(self) -> list[str]:
        path = self.stubs / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def connections(self) -> list[str]:
        path = self.stubs / "ssh.log"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    (made.work / "machines").mkdir(parents=True)
    (made.work / "locks").mkdir()
    (made.stubs / "dead").mkdir(parents=True)
    (made.stubs / "no-waiting").write_text(NO_WAITING)
    made.plan()
    made.stub("here", "ssh", SSH)
    made.stub("here", "sudo", SUDO)
    for name in ("docker", "vagrant"):
        made.stub("here", name, RECORDER)
    # A script that runs amok on a node must not reach this machine's files.
    for name in ("rm", "mkdir", "mv", "ln", "curl", "docker"):
        made.stub("node", name, RECORDER)
    return made


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    assert "unplanned" not in done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    assert "unplanned" not in done.stderr
    return done.stderr


def function(template: str, *names: str) -> str:
    """The text of functions of a script, without what the script does."""
    text = render(template)
    found = []
    for name in names:
        match = re.search(rf"(?ms)^{name}\(\) \{{(\n.*?^\}}|.*?\}})$", text)
        assert match, f"{template} has no function {name}"
        found.append(match[0])
    return "\n".join(found) + "\n"


# --- quote -----------------------------------------------------------------------------------------------------------

WORDS = [
    "",
    "word",
    "two words",
    "  ",
    "a\nb\n",
    "\n",
    "it's",
    "'",
    "''\"'\"''",
    '"$HOME"',
    "$(exit 1)`exit 1`",
    "\\",
    "\\'",
    "*",
    "~",
    "-n",
    "--",
    "!!",
    "a;b&c|d>e<f",
    "ünïcödé \U0001f600",
    "\x01\x7f\t",
    "@%{ }%@",
]


def through(shell: str, words: Sequence[str]) -> list[str]:
    """Quote words, and let another shell read them."""
    code = 'for word; do quote "$word"; printf " "; done'
    quoted = subprocess.run(
        ["bash", "-c", f"{render('lib.sh')}\n{code}", "quote", *words], capture_output=True, check=True
    ).stdout
    printed = subprocess.run([shell, "-c", b"printf '%s\\0' " + quoted], capture_output=True, check=True).stdout
    return [os.fsdecode(word) for word in printed.split(b"\0")[:-1]]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_quoted_word_is_read_as_it_was(shell: str) -> None:
    assert through(shell, WORDS) == WORDS


@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=8))
def test_any_quoted_words_are_read_as_they_were(words: list[str]) -> None:
    assert through("sh", words) == words


# --- on_node ---------------------------------------------------------------------------------------------------------


def test_arguments_arrive_on_a_node_as_they_were(world: World) -> None:
    world.nodes("core-01")
    done = world.lib('on_node core-01 printf "%s\\0" "$@"', *WORDS)
    assert succeeded(done).split("\0")[:-1] == WORDS


def test_a_function_is_sent_with_all_it_calls_and_gets_its_arguments(world: World) -> None:
    world.nodes("core-01")
    code = """
    inner() { printf '%s on %s\\n' "$1" "$ON_NODE"; }
    outer() { for word; do inner "$word"; done; }
    on_node core-01 outer "$@"
    """
    assert succeeded(world.lib(code, "a b", "it's", "$HOME")) == "a b on core-01\nit's on core-01\n$HOME on core-01\n"


def test_a_command_on_a_node_runs_as_root(world: World) -> None:
    world.nodes("core-01")
    assert succeeded(world.lib("on_node core-01 printenv ROOT_ON_NODE")) == "core-01\n"


def test_stdin_arrives_on_a_node(world: World) -> None:
    world.nodes("core-01")
    assert succeeded(world.lib("on_node core-01 cat", stdin="one\ntwo")) == "one\ntwo"
    assert succeeded(world.lib("f() { cat; }; on_node core-01 f <<<'three'")) == "three\n"


def test_a_function_on_a_node_ends_at_its_first_error(world: World) -> None:
    world.nodes("core-01")
    done = world.lib("f() { echo before; false; echo after; }; on_node core-01 f")
    assert (done.returncode, done.stdout) == (1, "before\n")
    done = world.lib("f() { false | true; echo after; }; on_node core-01 f")
    assert (done.returncode, done.stdout) == (1, "")
    done = world.lib('f() { echo "$no_such_name"; echo after; }; on_node core-01 f')
    assert (done.returncode, done.stdout) == (1, "")
    assert "no_such_name: unbound variable" in done.stderr


@pytest.mark.parametrize("caller", ["if {}; then :; fi; exit $?", "{} || exit $?", "words=$({}) || exit $?"])
def test_a_function_on_a_node_ends_at_its_first_error_whoever_calls_it(world: World, caller: str) -> None:
    world.nodes("core-01")
    world.lib('f() { false; touch "$STUBS/went-on"; }; ' + caller.format("on_node core-01 f"))
    assert not (world.stubs / "went-on").exists()


def test_the_exit_status_of_a_node_is_handed_on(world: World) -> None:
    world.nodes("core-01")
    assert world.lib("on_node core-01 exit 3").returncode == 3


def test_a_dead_node_is_a_failure_with_the_words_of_ssh(world: World) -> None:
    world.nodes("core-01")
    world.kill("core-01")
    done = world.lib("on_node core-01 true")
    assert (done.returncode, done.stderr) == (255, "ssh: connect to host core-01 port 22: No route to host\n")


def test_a_node_that_hangs_is_given_up_after_the_limit(world: World) -> None:
    world.nodes("core-01")
    assert world.lib("LIMIT=0.1 on_node core-01 tail -f /dev/null").returncode == 124


def test_a_limit_holds_for_one_call_alone(world: World) -> None:
    world.nodes("core-01")
    assert succeeded(world.lib('LIMIT=5 on_node core-01 true; echo "${LIMIT-none}"')) == "none\n"


def test_a_lock_is_not_handed_to_a_connection_that_may_live_longer(world: World) -> None:
    world.nodes("core-01")
    succeeded(world.lib('take_lock "$WORK/locks/x" 1; on_node core-01 true; [[ -e /proc/$$/fd/9 ]]'))
    assert not (world.stubs / "holds-the-lock").exists()


# --- nodes -----------------------------------------------------------------------------------------------------------


def test_the_peers_of_a_node_are_all_others_of_todays_settings(world: World) -> None:
    world.nodes("core-01", "core-02", "core-03")
    assert succeeded(world.lib("peers", NODE="core-02")) == "core-01\ncore-03\n"
    assert succeeded(world.lib("peers")) == "core-01\ncore-02\ncore-03\n"
    assert succeeded(world.lib("peers", NODE="core-09")) == "core-01\ncore-02\ncore-03\n"


def test_without_a_list_of_nodes_there_are_no_peers(world: World) -> None:
    assert succeeded(world.lib("peers", NODE="core-01")) == ""


def test_a_node_answers_if_it_is_made_and_not_dead(world: World) -> None:
    world.nodes("core-01", "core-02")
    world.kill("core-02")
    code = 'for name in core-01 core-02 core-03; do if answers "$name"; then echo "$name"; fi; done'
    done = world.lib(code)
    assert (succeeded(done), done.stderr) == ("core-01\n", "")


def test_words_and_failures_name_the_node_or_this_machine(world: World) -> None:
    assert succeeded(world.lib("say hello", NODE="core-01")) == "core-01: hello\n"
    assert succeeded(world.lib("say hello", NODE="")) == "this machine: hello\n"
    assert refused(world.lib("fail sorry; echo after", NODE="core-01")) == "core-01: sorry\n"


# --- wait_for --------------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_waited_for(world: World) -> None:
    assert succeeded(world.lib("wait_for 0 it true")) == ""


def test_a_wait_tells_every_ten_seconds_what_it_waits_for_and_ends_at_its_bound(world: World) -> None:
    code = 'begin=$SECONDS; wait_for 25 "the moon" false || echo "status $? after $((SECONDS - begin)) s"'
    words = succeeded(world.lib(code, A_SLEEP_COUNTS_AS="1", NODE=""))
    # A slow machine adds a second of its own here and there.
    assert re.fullmatch(
        r"(this machine: waiting for the moon, [12]\d s\n){2}status 1 after 2[5-9] s\n",
        words,
    )


def test_a_wait_ends_when_what_it_waits_for_is_there(world: World) -> None:
    code = """
    tries=0
    third() { [[ $1 == "an argument" ]] && (((tries += 1) == 3)); }
    wait_for 25 it third "an argument"
    echo "$tries"
    """
    assert succeeded(world.lib(code, A_SLEEP_COUNTS_AS="1")) == "3\n"


# --- take_lock -------------------------------------------------------------------------------------------------------


def test_a_lock_that_is_free_is_taken_without_a_word_and_given_back_at_the_end(world: World) -> None:
    for _ in range(2):
        assert succeeded(world.lib('take_lock "$WORK/locks/x" 0; echo mine')) == "mine\n"


def test_a_lock_that_stays_taken_is_a_failure_that_says_how_to_find_its_holder(world: World) -> None:
    with (world.work / "locks/x").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = world.lib('take_lock "$WORK/locks/x" 0; echo mine', NODE="core-01")
    assert done.stdout == "core-01: waiting for the lock .work/dev/locks/x\n"
    assert refused(done) == (
        "core-01: the lock .work/dev/locks/x was not free within 0 s; see who holds it: fuser -v .work/dev/locks/x\n"
    )


def test_a_lock_is_waited_for_until_its_holder_ends(world: World) -> None:
    with (world.work / "locks/x").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            ["bash", "-c", f"{render('lib.sh')}\n" + 'take_lock "$WORK/locks/x" 30; echo mine'],
            cwd=world.folder,
            env=world.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stdout
        assert waiting.stdout.readline() == "this machine: waiting for the lock .work/dev/locks/x\n"
    output, _ = waiting.communicate(timeout=20)
    assert (waiting.returncode, output) == (0, "mine\n")


# --- machines/workshop.sh --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("192.168.56.0/24", "192.168.56.0/24", True),
        ("192.168.56.0/24", "192.168.57.0/24", False),
        ("192.168.56.0/24", "192.168.56.128/25", True),
        ("192.168.56.0/24", "192.168.0.0/16", True),
        ("192.168.56.0/24", "192.169.0.0/16", False),
        ("192.168.56.0/24", "10.0.0.0/8", False),
        ("10.20.0.0/16", "10.20.255.255/32", True),
        ("10.20.0.0/16", "10.21.0.0/32", False),
        ("172.16.0.0/28", "172.16.0.16/28", False),
        ("192.168.56.0/24", "0.0.0.0/0", True),
        ("255.255.255.0/24", "255.255.255.255/32", True),
        ("128.0.0.0/16", "0.0.0.0/16", False),
    ],
)
def test_two_networks_overlap_where_the_shorter_prefix_is_equal(
    world: World, one: str, other: str, expected: bool
) -> None:
    functions = function("machines/vagrant.sh", "integer", "overlap")
    code = functions + 'if overlap "$1" "$2"; then echo yes; else echo no; fi'
    expected_words = "yes\n" if expected else "no\n"
    assert succeeded(world.lib(code, one, other)) == expected_words
    assert succeeded(world.lib(code, other, one)) == expected_words


WORKSHOP = {
    "NODE": "",
    "PROVIDER": "docker",
    "NETWORK": "192.168.56.0/24",
    "NODES": "core-01 192.168.56.11 manager\ncore-02 192.168.56.12 manager",
    "MEMORY_WANTED": "1",
    "SSH_CONFIG": "Host swarm-manager\n",
    "CONNECT": "echo connect\n",
}
DAEMON_ANSWERS = Answer("here: docker info")
DOCKER_ROOT = Answer("here: docker info -f {{.DockerRootDir}}", "/\n")
NO_NETWORK = Answer("here: docker network inspect *", status=1)
NEW_NETWORK = Answer("here: docker network create --subnet 192.168.56.0/24 --label swarm-site.stack=dev swarm-site-dev")
ROUTES = """#!/bin/sh
echo default via 172.17.0.1 dev eth0
echo 172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1
"""


def free_disk(world: World, megabytes: int) -> None:
    """What `df` says of every folder, also of one that this machine lacks."""
    world.stub(
        "here", "df", f"#!/bin/sh\necho Filesystem 1M-blocks Used Available\necho /dev/x 99999 0 {megabytes} 9% /\n"
    )


@pytest.fixture
def workshop(world: World) -> World:
    shutil.rmtree(world.work)
    free_disk(world, 2048)
    world.plan(DOCKER_ROOT, DAEMON_ANSWERS, NO_NETWORK, NEW_NETWORK)
    world.stub("here", "ip", ROUTES)
    return world


def test_the_workshop_makes_key_nodes_and_ssh_configuration(workshop: World) -> None:
    assert succeeded(workshop.script("machines/workshop.sh", **WORKSHOP)) == ""
    work = workshop.work
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    assert stat.S_IMODE((work / "key").stat().st_mode) == 0o600
    public = (work / "key.pub").read_text()
    assert public.startswith("ssh-ed25519 ")
    assert public.endswith(" swarm-site dev\n")
    assert (work / "authorized_keys/vagrant").read_text() == public
    assert stat.S_IMODE((work / "authorized_keys/vagrant").stat().st_mode) == 0o644
    assert (work / "nodes").read_text() == WORKSHOP["NODES"] + "\n"
    assert (work / "ssh_config").read_text() == WORKSHOP["SSH_CONFIG"]
    assert (work / "connect").read_text() == WORKSHOP["CONNECT"]
    assert (work / "provider").read_text() == "docker\n"
    assert (work / "machines").is_dir()
    assert (work / "locks").is_dir()


def test_the_workshop_keeps_the_key_when_the_nodes_change(workshop: World) -> None:
    succeeded(workshop.script("machines/workshop.sh", **WORKSHOP))
    key = (workshop.work / "key").read_text()
    succeeded(workshop.script("machines/workshop.sh", **{**WORKSHOP, "NODES": "core-01 192.168.56.11 manager"}))
    assert (workshop.work / "key").read_text() == key
    assert (workshop.work / "nodes").read_text() == "core-01 192.168.56.11 manager\n"


def test_the_workshop_makes_a_key_anew_that_a_killed_run_left_half_made(workshop: World) -> None:
    workshop.work.mkdir()
    (workshop.work / "key").write_text("half")
    succeeded(workshop.script("machines/workshop.sh", **WORKSHOP))
    assert (workshop.work / "key").read_text().startswith("-----BEGIN OPENSSH")


def test_a_network_that_this_machine_has_already_is_refused(workshop: World) -> None:
    done = workshop.script("machines/workshop.sh", **{**WORKSHOP, "NETWORK": "172.17.5.0/24"})
    assert refused(done) == (
        "this machine: the network 172.17.5.0/24 overlaps 172.17.0.0/16 on docker0 of this machine; "
        "give this stack another one: pulumi config set network 192.168.57.0/24\n"
    )
    assert not (workshop.work / "key").exists()


def test_the_workshop_makes_a_network_of_the_stacks_own(workshop: World) -> None:
    succeeded(workshop.script("machines/workshop.sh", **WORKSHOP))
    assert NEW_NETWORK.pattern in workshop.calls()


def test_the_stacks_own_network_is_no_obstacle(workshop: World) -> None:
    workshop.stub("here", "ip", f"{ROUTES}echo 192.168.56.0/24 dev br-0123456789ab proto kernel scope link\n")
    own = Answer("here: docker network inspect * swarm-site-dev", "192.168.56.0/24\n")
    workshop.plan(DOCKER_ROOT, DAEMON_ANSWERS, own)
    succeeded(workshop.script("machines/workshop.sh", **WORKSHOP))
    assert NEW_NETWORK.pattern not in workshop.calls()


def test_a_network_is_not_changed_under_the_machines_that_stand_in_it(workshop: World) -> None:
    workshop.plan(DOCKER_ROOT, DAEMON_ANSWERS, Answer("here: docker network inspect * swarm-site-dev", "10.9.0.0/24\n"))
    assert refused(workshop.script("machines/workshop.sh", **WORKSHOP)) == (
        "this machine: the machines of this stack stand in 10.9.0.0/24, and a network can't be changed under them; "
        "take them down first: make down\n"
    )


@pytest.mark.parametrize(("noted", "words"), [(None, "docker"), ("libvirt\n", "libvirt")])
def test_the_provider_is_not_changed_under_the_machines(workshop: World, noted: str | None, words: str) -> None:
    workshop.work.mkdir()
    (workshop.work / "nodes").touch()
    if noted:
        (workshop.work / "provider").write_text(noted)
    changed = {**WORKSHOP, "PROVIDER": "docker" if noted else "libvirt"}
    assert refused(workshop.script("machines/workshop.sh", **changed)) == (
        f"this machine: the machines of this stack are of the provider {words}, and it can't be changed under them; "
        "take them down first: make down\n"
    )
    assert workshop.calls() == []


def test_a_network_that_docker_refuses_is_refused_with_its_words(workshop: World) -> None:
    workshop.plan(
        DOCKER_ROOT, DAEMON_ANSWERS, NO_NETWORK, Answer("here: docker network create *", "Pool overlaps\n", status=1)
    )
    assert refused(workshop.script("machines/workshop.sh", **WORKSHOP)) == (
        "this machine: the network 192.168.56.0/24 can't be made: Pool overlaps; "
        "give this stack another one: pulumi config set network 192.168.57.0/24\n"
    )


def test_too_little_memory_is_refused_before_the_first_machine_and_not_later(workshop: World) -> None:
    greedy = {**WORKSHOP, "MEMORY_WANTED": "999999999"}
    words = refused(workshop.script("machines/workshop.sh", **greedy))
    assert re.fullmatch(
        r"this machine: the machines need 999999999 MB of memory and \d+ MB are free; "
        r"lower machines.memory or machines.count, or stop something\n",
        words,
    )
    workshop.make("core-01")
    succeeded(workshop.script("machines/workshop.sh", **greedy))


def test_too_little_disk_is_refused(workshop: World) -> None:
    free_disk(workshop, 100)
    assert refused(workshop.script("machines/workshop.sh", **WORKSHOP)) == (
        "this machine: the machines need 2048 MB of disk below / and 100 MB are free; make room\n"
    )


def test_a_daemon_that_does_not_answer_is_refused_with_what_to_run(workshop: World) -> None:
    workshop.plan(Answer("here: docker info", status=1))
    words = refused(workshop.script("machines/workshop.sh", **WORKSHOP))
    assert words == "this machine: the Docker daemon of this machine does not answer; run: tools/setup up\n"


def test_a_tool_that_is_missing_is_refused_by_name(workshop: World) -> None:
    (workshop.stubs / "here/vagrant").unlink()
    tools = workshop.folder / "tools"
    tools.mkdir()
    for name in ("bash", "ssh-keygen", "flock", "mkdir", "chmod", "ls", "awk"):
        program = shutil.which(name)
        assert program
        (tools / name).symlink_to(program)
    done = workshop.script("machines/workshop.sh", **WORKSHOP, PATH=f"{workshop.stubs}/here:{tools}")
    assert refused(done) == "this machine: vagrant is not installed; run: tools/setup up\n"


# --- swarm/connect.sh ------------------------------------------------------------------------------------------------

ANSWERING_SSH = """#!/usr/bin/env bash
# A node whose control port answers has a file of its name in `managers/`.
shift 4
if [[ $1 == -W ]]; then
  echo "tunnel to $2 of $3"
  exec cat
fi
echo "$1" >>"$STUBS/tried"
[[ -e $STUBS/managers/$1 ]] || exit 255
"""


@pytest.fixture
def managers(world: World) -> World:
    world.stub("here", "ssh", ANSWERING_SSH)
    (world.stubs / "managers").mkdir()
    return world


def test_the_alias_leads_to_the_first_manager_that_answers(managers: World) -> None:
    managers.nodes("core-01", "core-02", "core-03")
    for name in ("core-02", "core-03"):
        (managers.stubs / "managers" / name).touch()
    done = managers.bash(render("swarm/connect.sh", work=".work/dev"), stdin="the caller's bytes\n")
    assert succeeded(done) == "tunnel to localhost:22 of core-02\nthe caller's bytes\n"
    assert (managers.stubs / "tried").read_text() == "core-01\ncore-02\n"


def test_the_alias_tries_neither_workers_nor_machines_that_are_not_made(managers: World) -> None:
    managers.nodes("core-01", "core-02", "core-03", managers=2)
    (managers.work / "machines/core-01/ssh_config").unlink()
    done = managers.script("swarm/connect.sh")
    assert refused(done) == "no manager of the swarm answers (tried: core-02); run: make status\n"


# --- swarm/leave.sh --------------------------------------------------------------------------------------------------

NODES_OF = "{}: docker node ls --format {{{{.Hostname}}}} *"
GLOBAL_SERVICES = "{}: docker service ls --filter mode=global *"
REPLICATED_SERVICES = "{}: docker service ls --filter mode=replicated *"
WHOLE = "core-01 Ready Active Leader\ncore-02 Ready Active Reachable\ncore-03 Ready Active Reachable\n"


def manages(name: str) -> list[Answer]:
    """A manager whose orders are obeyed, of a swarm that is whole, with two proxies and two backends."""
    return [
        Answer(f"{name}: docker node ls -q", "id1\nid2\nid3\n"),
        Answer(NODES_OF.format(name), WHOLE),
        Answer(f"{name}: docker node inspect -f *", "ready active false\nready active true\nready active true\n"),
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
    pattern = f"{name}: docker node ls --format {{{{.ID}}}} {{{{.Hostname}}}}"
    return [Answer(pattern, listing, once=index < len(listings) - 1) for index, listing in enumerate(listings)]


LEFT = "id1 core-01\nid2 core-02\n"
HERE = LEFT + "id3 core-03\n"
STALE = HERE + "id4 core-03\n"
LEAVES = [
    Answer("core-03: docker info -f {{.Swarm.LocalNodeState}}", "active\n"),
    Answer("core-03: docker swarm leave --force"),
]


@pytest.fixture
def trio(world: World) -> World:
    world.nodes("core-01", "core-02", "core-03")
    (world.work / "swarm").touch()
    (world.work / "complete").touch()
    return world


def orders(world: World) -> list[str]:
    """What was changed, in order; questions left out."""
    asks = re.compile(r": docker (node ls|node ps|service ls|service ps|info|\w+ inspect)\b")
    return [call for call in world.calls() if not asks.search(call)]


def test_a_leave_of_a_run_that_takes_the_whole_swarm_away_asks_nobody(trio: World) -> None:
    (trio.work / "leaving").write_text(f"{os.getpid()}\n")
    done = trio.script("swarm/leave.sh", NODE="core-03")
    assert succeeded(done) == "core-03: the whole swarm goes; nothing to hand over\n"
    assert trio.connections() == []


def test_the_mark_of_another_run_does_not_count(trio: World) -> None:
    (trio.work / "leaving").write_text(f"{os.getpid()}0\n")
    trio.plan(*manages("core-01"), *entries("core-01", STALE, LEFT), *LEAVES)
    assert "left after" in succeeded(trio.script("swarm/leave.sh", NODE="core-03"))


def test_a_leave_drains_demotes_leaves_and_takes_every_entry_out_in_this_order(trio: World) -> None:
    trio.plan(*manages("core-01"), *entries("core-01", STALE), *LEAVES)
    done = trio.script("swarm/leave.sh", NODE="core-03")
    assert re.fullmatch(r"core-03: left after \d+ s\n", succeeded(done))
    assert orders(trio) == [
        "core-01: docker node update --availability drain core-03",
        "core-01: docker node demote core-03",
        "core-03: docker swarm leave --force",
        "core-01: docker node demote id3",
        "core-01: docker node rm --force id3",
        "core-01: docker node demote id4",
        "core-01: docker node rm --force id4",
    ]


@pytest.mark.parametrize(
    ("question", "answer", "lacking"),
    [
        (NODES_OF, "core-01 Ready Active Leader\n", "node core-02"),
        (NODES_OF, WHOLE.replace("core-02 Ready Active", "core-02 Down Active"), "node core-02"),
        (NODES_OF, WHOLE.replace("core-02 Ready Active", "core-02 Ready Drain"), "node core-02"),
        (NODES_OF, WHOLE.replace("Reachable\ncore-03", "Unreachable\ncore-03"), "node core-02"),
        (REPLICATED_SERVICES, "backend 1/2\nother 2/2\n", "service backend (1/2)"),
        ("{}: docker service ps proxy *", "Running 1 second ago\nStarting 1 second ago\n", "service proxy (1/2)"),
    ],
    ids=["missing", "down", "drained", "unreachable", "too few backends", "too few proxies"],
)
def test_a_leave_waits_for_all_others_and_names_what_is_not_whole(
    trio: World, question: str, answer: str, lacking: str
) -> None:
    trio.plan(Answer(question.format("core-01"), answer), *manages("core-01"), *entries("core-01", HERE))
    done = trio.script("swarm/leave.sh", NODE="core-03")
    assert refused(done) == f"core-03: can't leave: after 300 s these are not whole: {lacking}; run: make status\n"
    assert "core-03: waiting for all others to be whole, " in done.stdout
    assert orders(trio) == []


def test_a_leave_goes_on_as_soon_as_all_others_are_whole(trio: World) -> None:
    trio.plan(
        Answer(NODES_OF.format("core-01"), "core-01 Ready Active Leader\n", once=True),
        *manages("core-01"),
        *entries("core-01", HERE, LEFT),
        *LEAVES,
    )
    assert "left after" in succeeded(trio.script("swarm/leave.sh", NODE="core-03"))


@pytest.mark.parametrize(("state", "left"), [("active", ["core-03: docker swarm leave --force"]), ("inactive", [])])
def test_a_leave_that_was_cut_off_after_its_entry_went_hands_nothing_over_again(
    trio: World, state: str, left: list[str]
) -> None:
    trio.plan(
        Answer("core-03: docker info -f {{.Swarm.LocalNodeState}}", f"{state}\n"),
        *manages("core-01"),
        *entries("core-01", LEFT),
        *LEAVES,
    )
    assert "left after" in succeeded(trio.script("swarm/leave.sh", NODE="core-03"))
    assert orders(trio) == left


def test_a_node_that_goes_for_good_is_not_waited_for(trio: World) -> None:
    trio.nodes("core-01", "core-02")
    trio.make("core-04")
    trio.plan(*manages("core-01"), *entries("core-01", HERE, LEFT), *LEAVES)
    succeeded(trio.script("swarm/leave.sh", NODE="core-03"))


def test_a_dead_node_is_only_taken_out_of_the_list(trio: World) -> None:
    trio.kill("core-03")
    trio.plan(*manages("core-01"), *entries("core-01", STALE))
    assert succeeded(trio.script("swarm/leave.sh", NODE="core-03")).startswith(
        "core-03: does not answer; its entry is taken out\ncore-03: left after"
    )
    assert orders(trio) == [
        "core-01: docker node demote id3",
        "core-01: docker node rm --force id3",
        "core-01: docker node demote id4",
        "core-01: docker node rm --force id4",
    ]


def test_a_dead_manager_is_passed_over_for_the_next(trio: World) -> None:
    trio.kill("core-01")
    trio.plan(
        Answer(NODES_OF.format("core-02"), "core-01 Ready Active \ncore-02 Ready Active Leader\n"),
        *manages("core-02"),
        *entries("core-02", HERE, LEFT),
        *LEAVES,
    )
    succeeded(trio.script("swarm/leave.sh", NODE="core-03"))


def test_an_entry_that_does_not_go_is_a_failure_that_says_where_to_look(trio: World) -> None:
    trio.plan(
        Answer("core-01: docker node rm *", status=1),
        *manages("core-01"),
        *entries("core-01", STALE),
        *LEAVES,
    )
    assert refused(trio.script("swarm/leave.sh", NODE="core-03")).endswith(
        "core-03: left, but its entry is still in the swarm; look: make ssh NODE=core-01, then docker node ls\n"
    )


def test_the_last_manager_of_a_complete_cluster_refuses_to_leave(trio: World) -> None:
    trio.plan(no_manager("core-01"), no_manager("core-02"), *manages("core-03"))
    assert refused(trio.script("swarm/leave.sh", NODE="core-03")) == (
        "core-03: is the last manager, and without it the swarm is lost; first have three managers (swarm.managers), "
        "or take the whole stack down: make down\n"
    )
    assert orders(trio) == []
    assert (trio.work / "swarm").exists()


def test_the_last_manager_leaves_while_the_cluster_is_not_complete_and_the_swarm_is_forgotten(world: World) -> None:
    world.nodes("core-01")
    (world.work / "swarm").touch()
    assert "nobody to tell" in succeeded(world.script("swarm/leave.sh", NODE="core-01"))
    assert not (world.work / "swarm").exists()


def test_a_node_leaves_at_once_while_the_cluster_is_not_complete(trio: World) -> None:
    (trio.work / "complete").unlink()
    trio.plan(*manages("core-01"), *entries("core-01", HERE, LEFT), *LEAVES)
    succeeded(trio.script("swarm/leave.sh", NODE="core-03"))
    assert orders(trio) == ["core-01: docker node demote core-03", "core-03: docker swarm leave --force"]


def test_one_leave_waits_for_another(trio: World) -> None:
    script = render("swarm/leave.sh").replace('"$WORK/locks/leave" 1800', '"$WORK/locks/leave" 0')
    with (trio.work / "locks/leave").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = trio.bash(script, NODE="core-03")
    assert "the lock .work/dev/locks/leave was not free" in refused(done)
    assert trio.connections() == []


# --- swarm/join.sh ---------------------------------------------------------------------------------------------------

TOKEN = "SWMTKN-1-secret"
STATE = "docker info -f {{.Swarm.LocalNodeState}} *"
CURL = """#!/usr/bin/env bash
printf '%s: curl %s\\n' "$ON_NODE" "$*" >>"$STUBS/calls"
printf '%s\\n' "$(cat)" >>"$STUBS/bodies"
if [[ -e $STUBS/refusal ]]; then cat "$STUBS/refusal" && exit 22; fi
"""


def join(world: World, node: str, role: str = "manager") -> subprocess.CompletedProcess[str]:
    world.stub("node", "curl", CURL)
    return world.script("swarm/join.sh", NODE=node, NODE_ADDRESS=f"192.0.2.{10 + int(node[-1])}", ROLE=role)


def body(world: World) -> str:
    return (world.stubs / "bodies").read_text()


@pytest.fixture
def fresh(world: World) -> World:
    """Nodes that are no swarm yet."""
    world.nodes("core-01", "core-02", "core-03")
    return world


@pytest.fixture
def begun(fresh: World) -> World:
    """A swarm that was started, and whose members are still on their way."""
    (fresh.work / "swarm").touch()
    return fresh


@pytest.mark.parametrize("number", [1, 2])
def test_the_first_manager_that_is_up_starts_a_swarm_drained_and_remembers_it(fresh: World, number: int) -> None:
    node = f"core-0{number}"
    fresh.plan(
        Answer(f"{node}: {STATE}", "inactive false \n"),
        *(no_manager(f"core-0{other}") for other in (1, 2, 3) if other != number),
    )
    assert succeeded(join(fresh, node)) == f"{node}: started the swarm\n"
    own = f"192.0.2.{10 + number}"
    assert body(fresh) == (
        f'{{"ListenAddr":"{own}:2377","AdvertiseAddr":"{own}","DataPathAddr":"{own}","Availability":"drain"}}\n'
    )
    assert (fresh.work / "swarm").exists()
    assert any("--unix-socket /var/run/docker.sock" in call and "/swarm/init" in call for call in fresh.calls())


def test_a_node_joins_drained_through_a_living_manager_after_its_stale_entries_went(begun: World) -> None:
    begun.kill("core-01")
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        *manages("core-02"),
        *entries("core-02", "id2 core-02\nid9 core-03\n", "id2 core-02\n"),
        Answer("core-02: docker swarm join-token -q worker", f"{TOKEN}\n"),
    )
    assert "joined through core-02 after" in succeeded(join(begun, "core-03", "worker"))
    assert body(begun) == (
        '{"ListenAddr":"192.0.2.13:2377","AdvertiseAddr":"192.0.2.13","DataPathAddr":"192.0.2.13","Availability":"drain",'
        f'"RemoteAddrs":["192.0.2.12:2377"],"JoinToken":"{TOKEN}"}}\n'
    )
    removal = begun.calls().index("core-02: docker node rm --force id9")
    assert removal < next(index for index, call in enumerate(begun.calls()) if "/swarm/join" in call)


def test_a_manager_that_can_not_take_a_stale_entry_out_ends_the_join_with_its_words(begun: World) -> None:
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        Answer("core-01: docker node rm --force id9", "the node is not down\n", status=1),
        *manages("core-01"),
        *entries("core-01", "id9 core-03\n"),
    )
    words = refused(join(begun, "core-03"))
    assert "core-03: core-01 does not let this node in, for the cause that is said above; run again: make up\n" in words
    assert not (begun.stubs / "bodies").exists()


def test_the_token_stands_in_no_argument_and_in_no_words(begun: World) -> None:
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    done = join(begun, "core-03")
    assert TOKEN in body(begun)
    for words in (done.stdout, done.stderr, *begun.calls(), *begun.connections()):
        assert TOKEN not in words


def test_a_refused_join_is_a_failure_with_the_words_of_the_daemon_and_without_the_token(begun: World) -> None:
    (begun.stubs / "refusal").write_text('{"message":"no quorum"}')
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    words = refused(join(begun, "core-03"))
    assert words == 'core-03: swarm join failed: {"message":"no quorum"}; run again: make up\n'


def test_a_join_that_docker_goes_on_with_in_the_background_is_waited_for(begun: World) -> None:
    (begun.stubs / "refusal").write_text(
        "Timeout was reached. The attempt to join the swarm will continue in the background."
    )
    begun.plan(
        Answer(f"core-03: {STATE}", "inactive false \n"),
        Answer("core-03: docker info -f {{.Swarm.LocalNodeState}}", "pending\n", once=True),
        Answer("core-03: docker info -f {{.Swarm.LocalNodeState}}", "active\n"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    assert "joined through core-01" in succeeded(join(begun, "core-03"))


@pytest.mark.parametrize(("manages_itself", "role"), [("true", "manager"), ("false", "worker")])
def test_a_member_in_its_role_is_left_alone(begun: World, manages_itself: str, role: str) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", f"active {manages_itself} id2\n"),
        *manages("core-01"),
    )
    assert succeeded(join(begun, "core-02", role)) == ""
    assert orders(begun) == []


def test_a_manager_whose_swarm_this_machine_forgot_reminds_it(fresh: World) -> None:
    fresh.plan(
        Answer(f"core-02: {STATE}", "active true id2\n"),
        *manages("core-01"),
    )
    succeeded(join(fresh, "core-02"))
    assert (fresh.work / "swarm").exists()


def test_a_member_is_left_alone_while_no_other_manager_answers(begun: World) -> None:
    begun.plan(Answer(f"core-02: {STATE}", "active true id2\n"), no_manager("core-01"), no_manager("core-03"))
    assert succeeded(join(begun, "core-02")) == ""
    assert orders(begun) == []


MANAGES = "docker info -f {{.Swarm.ControlAvailable}}"
CHANGES = pytest.mark.parametrize(
    ("manages_itself", "role", "order"), [("false", "manager", "promote"), ("true", "worker", "demote")]
)


@CHANGES
def test_a_member_in_another_role_changes_it_through_another_manager_and_waits_until_it_did(
    begun: World, manages_itself: str, role: str, order: str
) -> None:
    begun.plan(
        Answer(f"core-01: docker node {order} core-02"),
        Answer(f"core-02: {STATE}", f"active {manages_itself} id2\n"),
        Answer(f"core-02: {MANAGES}", f"{manages_itself}\n", once=True),
        Answer(f"core-02: {MANAGES}", f"{str(role == 'manager').lower()}\n"),
        *manages("core-01"),
    )
    said = succeeded(join(begun, "core-02", role))
    assert re.fullmatch(rf"core-02: is a {role} now, after 6\d s\n", said), "it did not wait once"
    assert orders(begun) == [f"core-01: docker node {order} core-02"]


@CHANGES
def test_a_role_that_is_refused_or_never_changes_is_a_failure(
    begun: World, manages_itself: str, role: str, order: str
) -> None:
    answers = [
        Answer(f"core-02: {STATE}", f"active {manages_itself} id2\n"),
        Answer(f"core-02: {MANAGES}", f"{manages_itself}\n"),
        *manages("core-01"),
    ]
    begun.plan(Answer(f"core-01: docker node {order} core-02"), *answers)
    words = f"core-02: the swarm has not made this node a {role} within 90 s; run again: make repair\n"
    assert refused(join(begun, "core-02", role)) == words
    begun.plan(Answer(f"core-01: docker node {order} core-02", "no quorum\n", status=1), *answers)
    words = f"core-02: core-01 can't make this node a {role}: no quorum; run again: make up\n"
    assert refused(join(begun, "core-02", role)) == words


def test_a_member_that_the_swarm_has_forgotten_joins_it_anew(begun: World) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", "active true id2\n"),
        Answer("core-01: docker node ls -q", "id1\nid3\n"),
        Answer("core-02: docker swarm leave --force"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    assert "joined through core-01" in succeeded(join(begun, "core-02"))
    assert orders(begun)[0] == "core-02: docker swarm leave --force"


def test_a_question_that_got_no_answer_makes_no_member_leave(begun: World) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", "active true id2\n"),
        Answer("core-01: docker node ls -q", "id1\nid2\n", once=True),
        Answer("core-01: docker node ls -q", status=255),
        Answer("core-02: docker swarm leave --force"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    join(begun, "core-02")
    assert "core-02: docker swarm leave --force" not in begun.calls()


def test_a_member_of_a_swarm_that_it_lost_leaves_it_first(begun: World) -> None:
    begun.plan(
        Answer(f"core-02: {STATE}", "error false \n"),
        Answer("core-02: docker swarm leave --force"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    succeeded(join(begun, "core-02"))
    assert orders(begun)[0] == "core-02: docker swarm leave --force"


def test_a_second_swarm_is_never_started_beside_one_whose_manager_answers(fresh: World) -> None:
    fresh.plan(
        Answer(f"core-01: {STATE}", "inactive false \n"),
        *manages("core-02"),
        *entries("core-02", ""),
        Answer("core-02: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    assert "joined through core-02" in succeeded(join(fresh, "core-01"))


def test_a_second_swarm_is_never_started_beside_one_that_does_not_answer(fresh: World) -> None:
    (fresh.work / "swarm").touch()
    fresh.plan(Answer(f"core-01: {STATE}", "inactive false \n"), no_manager("core-02"), no_manager("core-03"))
    assert refused(join(fresh, "core-01")) == (
        "core-01: none of the swarm's managers answers, so nobody can let this node in; run: make repair\n"
    )
    assert not (fresh.stubs / "bodies").exists()


def test_a_manager_that_comes_while_another_one_starts_the_swarm_waits_for_it_and_joins(fresh: World) -> None:
    fresh.plan(
        Answer(f"core-02: {STATE}", "inactive false \n"),
        *manages("core-01"),
        *entries("core-01", ""),
        Answer("core-01: docker swarm join-token -q manager", f"{TOKEN}\n"),
    )
    # The lock is taken when it is tried, and is given back when the swarm is there.
    fresh.stub("here", "flock", '#!/bin/sh\n[ "$1" = -w ] && touch "$WORK/swarm"\n')
    assert "joined through core-01" in succeeded(join(fresh, "core-02"))
    assert not any("/swarm/init" in call for call in fresh.calls())


def test_a_worker_waits_for_a_swarm_and_gives_up_with_a_sentence(fresh: World) -> None:
    fresh.plan(Answer(f"core-02: {STATE}", "inactive false \n"))
    done = join(fresh, "core-02", "worker")
    assert refused(done) == "core-02: no manager has started the swarm within 180 s; run again: make up\n"
    assert "core-02: waiting for a manager to start the swarm, " in done.stdout


def test_a_node_that_does_not_answer_ends_a_join_with_the_words_of_ssh(fresh: World) -> None:
    fresh.kill("core-02")
    done = join(fresh, "core-02")
    assert done.returncode != 0
    assert "No route to host" in done.stderr


# --- swarm/cluster.sh, swarm/dissolve.sh -----------------------------------------------------------------------------


def test_a_cluster_is_there_once_its_swarm_was_started_and_the_mark_of_a_destroy_goes(trio: World) -> None:
    (trio.work / "leaving").touch()
    (trio.work / "complete").unlink()
    assert succeeded(trio.script("swarm/cluster.sh")) == ""
    assert not (trio.work / "leaving").exists()
    assert (trio.work / "complete").exists()


def test_without_a_swarm_there_is_no_cluster(fresh: World) -> None:
    assert refused(fresh.script("swarm/cluster.sh")) == "this machine: the swarm was not started; run again: make up\n"
    assert not (fresh.work / "complete").exists()


def test_when_the_cluster_goes_its_services_go_and_the_leaves_of_this_run_know(trio: World) -> None:
    trio.plan(
        Answer("core-01: docker node ls -q", "id1\n"),
        Answer("core-01: docker service ls -q --filter label=swarm-site", "s1\ns2\n"),
        Answer("core-01: docker service rm s1 s2"),
        Answer("core-01: docker config ls -q --filter name=backend-nginx", "c1\n"),
        Answer("core-01: docker config rm c1"),
    )
    assert succeeded(trio.script("swarm/dissolve.sh")) == ""
    assert (trio.work / "leaving").read_text() == f"{os.getpid()}\n"
    assert not (trio.work / "swarm").exists()
    assert not (trio.work / "complete").exists()
    assert orders(trio)[-1] == "core-01: docker config rm c1"
    assert "the whole swarm goes" in succeeded(trio.script("swarm/leave.sh", NODE="core-02"))


# --- swarm/ready.sh, swarm/running.sh --------------------------------------------------------------------------------

READY = {"NODE": "core-03", "PROXY": "true"}


OPEN = "docker node update --availability active --label-add swarm-site.proxy=true core-03"
NO_MANAGER = "This node is not a swarm manager."


def test_a_manager_is_opened_by_itself(trio: World) -> None:
    trio.plan(Answer(f"core-03: {OPEN}"))
    assert "ready after" in succeeded(trio.script("swarm/ready.sh", **READY))
    assert orders(trio) == [f"core-03: {OPEN}"]


def test_a_worker_is_opened_by_the_first_manager_that_answers(trio: World) -> None:
    trio.kill("core-01")
    trio.plan(Answer(f"core-03: {OPEN}", f"{NO_MANAGER}\n", status=1), Answer(f"core-02: {OPEN}"))
    assert "ready after" in succeeded(trio.script("swarm/ready.sh", **READY))
    assert orders(trio) == [f"core-03: {OPEN}", f"core-02: {OPEN}"]


def test_a_node_whose_entry_the_swarm_changes_in_the_same_moment_is_opened_all_the_same(trio: World) -> None:
    conflict = "Error response from daemon: rpc error: code = Unknown desc = update out of sequence\n"
    trio.plan(Answer(f"core-03: {OPEN}", conflict, status=1, once=True), Answer(f"core-03: {OPEN}"))
    assert "ready after" in succeeded(trio.script("swarm/ready.sh", **READY))
    assert orders(trio) == [f"core-03: {OPEN}"] * 2


def test_without_a_manager_no_node_is_opened_and_the_last_words_are_shown(trio: World) -> None:
    trio.plan(*(Answer(f"core-0{number}: {OPEN}", f"{NO_MANAGER}\n", status=1) for number in (1, 2, 3)))
    assert refused(trio.script("swarm/ready.sh", **READY)) == (
        f"core-03: no manager opens this node ({NO_MANAGER}); run: make status\n"
    )


RUNNING = {"NODE": "", "SERVICE": "proxy", "LABEL": "swarm-site.proxy", "PATIENCE": "120"}
ASKED = "core-01: docker service inspect proxy -f *"
TASKS = "core-01: docker service ps proxy --filter desired-state=running *"
ERRORS = Answer("core-01: docker service ps proxy --no-trunc *", "core-03: Rejected 3 seconds ago No such image\n")
LISTED = Answer("core-01: docker node ls -q", "id1\nid2\nid3\n")
INSPECTED = "core-01: docker node inspect -f *"
NODES = [
    LISTED,
    Answer(INSPECTED, "core-01 active ready false\ncore-02 active ready true\ncore-03 active ready true\n"),
]
BOTH = "core-02 Running 5 seconds ago\ncore-03 Running 5 seconds ago\n"


def test_a_service_that_is_being_updated_is_waited_for_although_old_tasks_run(trio: World) -> None:
    trio.plan(
        Answer(ASKED, "updating update in progress\n", once=True),
        Answer(ASKED, "completed update completed\n"),
        Answer(TASKS, BOTH),
        *NODES,
    )
    succeeded(trio.script("swarm/running.sh", **RUNNING))
    assert sum("service inspect" in call for call in trio.calls()) == 2


def test_a_service_runs_once_it_has_a_task_on_every_labelled_node(trio: World) -> None:
    trio.plan(
        Answer(ASKED, ""),
        Answer(TASKS, "core-02 Running 5 seconds ago\ncore-03 Starting 1 second ago\n", once=True),
        Answer(TASKS, BOTH),
        *NODES,
    )
    succeeded(trio.script("swarm/running.sh", **RUNNING))
    assert sum("service inspect" in call for call in trio.calls()) == 2


@pytest.mark.parametrize("node", ["core-03 drain ready true", "core-03 active down true", "core-03 active ready false"])
def test_a_node_that_is_closed_dead_or_without_the_label_needs_no_task(trio: World, node: str) -> None:
    trio.plan(
        Answer(ASKED, ""),
        Answer(TASKS, "core-02 Running 5 seconds ago\n"),
        LISTED,
        Answer(INSPECTED, f"core-02 active ready true\n{node}\n"),
    )
    succeeded(trio.script("swarm/running.sh", **RUNNING))


def test_a_service_that_stays_away_is_a_failure_with_its_tasks_own_errors(trio: World) -> None:
    trio.plan(Answer(ASKED, ""), Answer(TASKS, "core-02 Running 5 seconds ago\n"), ERRORS, *NODES)
    done = trio.script("swarm/running.sh", **RUNNING)
    assert refused(done) == (
        "this machine: proxy is missing after 120 s: core-03\ncore-03: Rejected 3 seconds ago No such image\n"
    )


def test_a_service_without_a_single_task_is_missed_on_every_labelled_node(trio: World) -> None:
    trio.plan(Answer(ASKED, ""), Answer(TASKS, ""), ERRORS, *NODES)
    assert "proxy is missing after 120 s: core-02, core-03\n" in refused(trio.script("swarm/running.sh", **RUNNING))


def test_a_question_that_docker_does_not_answer_is_no_sign_that_all_tasks_run(trio: World) -> None:
    trio.plan(Answer(ASKED, ""), Answer(TASKS, ""), ERRORS, LISTED, Answer(INSPECTED, status=1))
    assert trio.script("swarm/running.sh", **RUNNING).returncode == 1


@pytest.mark.parametrize("state", ["rollback_completed rollback completed", "paused update paused due to failure"])
def test_a_change_that_was_taken_back_is_a_failure_at_once(trio: World, state: str) -> None:
    trio.plan(Answer(ASKED, f"{state}\n"), Answer(TASKS, BOTH), ERRORS, *NODES)
    done = trio.script("swarm/running.sh", **RUNNING)
    assert refused(done) == (
        f"this machine: the change of proxy was taken back: {state}\ncore-03: Rejected 3 seconds ago No such image\n"
    )
    assert "waiting" not in done.stdout


# --- scripts that work below /srv/swarm-site of a node ---------------------------------------------------------------

NODES_OWN = "/srv/swarm-site"
IMAGE = "localhost:1/site-nginx:0123456789ab"


@dataclass(frozen=True)
class Rooted:
    """Nodes with a folder each in place of `/srv/swarm-site`, and real programs to work in it."""

    world: World

    def root(self, node: str) -> Path:
        return self.world.stubs / "roots" / node

    def script(self, template: str, **environment: str) -> subprocess.CompletedProcess[str]:
        text = render(template)
        assert NODES_OWN in text
        moved = text.replace(NODES_OWN, f"{self.world.stubs}/root")
        assert "/srv" not in moved.replace(str(self.world.stubs), "")
        return self.world.bash(moved, **environment)


@pytest.fixture
def rooted(world: World) -> Rooted:
    (world.stubs / "roots").mkdir()
    for name in ("rm", "mkdir", "mv", "ln"):
        (world.stubs / "node" / name).unlink()
    world.nodes("core-01", "core-02", "core-03")
    return Rooted(world)


def write_site(rooted: Rooted, text: str) -> str:
    """Another content on this machine; gives its release."""
    folder = rooted.world.folder / "site"
    (folder / "sub folder").mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(text)
    (folder / "sub folder" / "it's.txt").write_text("always the same")
    (folder / "index.html").chmod(0o600)
    (folder / "sub folder").chmod(0o700)
    return folder_hash(folder)


def assert_readable(folder: Path) -> None:
    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink() and "used" not in path.parts)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o644}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o755}


def release(rooted: Rooted, text: str, keep: int = 3) -> str:
    digest = write_site(rooted, text)
    done = send(rooted, digest, keep)
    assert succeeded(done) == f"core-01: serves release {digest[:12]}\n"
    return digest


def send(rooted: Rooted, digest: str, keep: int = 3) -> subprocess.CompletedProcess[str]:
    return rooted.script("content/release.sh", NODE="core-01", FOLDER="site", RELEASE=digest, KEEP=str(keep))


def content(rooted: Rooted) -> Path:
    return rooted.root("core-01") / "content"


def page(rooted: Rooted) -> tuple[int, int]:
    """What tells a page that was sent from one that was there."""
    found = (content(rooted) / "current/index.html").stat()
    return found.st_ino, found.st_ctime_ns


def test_a_release_arrives_whole_and_is_switched_to_by_one_relative_link(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    link = content(rooted) / "current"
    assert str(link.readlink()) == f"releases/{digest}"
    assert (link / "index.html").read_text() == "one"
    assert (link / "sub folder/it's.txt").read_text() == "always the same"
    assert folder_hash(link.resolve()) == digest


def test_a_release_can_be_read_by_everybody_and_has_one_time_on_every_node(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    there = [content(rooted) / "releases" / digest]
    there += there[0].rglob("*")
    assert len(there) == 4
    assert_readable(content(rooted))
    assert {path.stat().st_mtime for path in there} == {int(digest[:7], 16) + 1000000000}


def test_a_release_that_is_there_is_not_sent_again(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    before = page(rooted)
    (rooted.world.folder / "site").rename(rooted.world.folder / "elsewhere")
    succeeded(send(rooted, digest))
    assert page(rooted) == before


def test_a_node_that_has_a_release_may_hang_up_on_who_sends_it(rooted: Rooted) -> None:
    release(rooted, "x" * 10**6)
    release(rooted, "x" * 10**6)


def test_a_release_that_was_damaged_on_the_node_is_sent_again(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    (content(rooted) / "releases" / digest / "index.html").write_text("changed by hand")
    release(rooted, "one")
    assert (content(rooted) / "current/index.html").read_text() == "one"


def test_earlier_releases_stay_as_many_as_wanted_and_the_way_back_sends_nothing(rooted: Rooted) -> None:
    first, second, third = (release(rooted, text, keep=1) for text in ("one", "two", "three"))
    releases = content(rooted) / "releases"
    assert {path.name for path in releases.iterdir()} == {second, third}
    assert first not in {path.name for path in (content(rooted) / "used").iterdir()}
    before = (releases / second / "index.html").stat().st_ino
    assert release(rooted, "two", keep=1) == second
    assert page(rooted)[0] == before
    assert (content(rooted) / "current").resolve().name == second
    release(rooted, "four", keep=1)
    assert third not in {path.name for path in releases.iterdir()}


def test_what_a_run_that_was_cut_off_left_is_not_in_the_next_release(rooted: Rooted) -> None:
    (content(rooted) / "incoming").mkdir(parents=True)
    (content(rooted) / "incoming" / "left over").touch()
    release(rooted, "one")
    assert not (content(rooted) / "current/left over").exists()


def test_files_that_change_while_they_are_sent_make_no_release(rooted: Rooted) -> None:
    before = release(rooted, "one")
    write_site(rooted, "two")
    assert refused(send(rooted, "f" * 64)) == (
        "core-01: release ffffffffffff did not arrive: the files changed while they were sent; run again: make up\n"
    )
    assert (content(rooted) / "current").resolve().name == before


def test_a_node_that_does_not_answer_gets_no_release_and_that_is_said(rooted: Rooted) -> None:
    digest = write_site(rooted, "one")
    rooted.world.kill("core-01")
    words = refused(send(rooted, digest))
    assert words.startswith(f"core-01: release {digest[:12]} did not arrive: ")
    assert "No route to host" in words


SEED = {"NODE": "core-01", "CONFIGURATION": "http {\n  # plain 502\n}\n"}


def live(rooted: Rooted, node: str = "core-01") -> Path:
    return rooted.root(node) / "proxy/current/nginx.conf"


def give_configuration(rooted: Rooted, node: str, text: str) -> None:
    path = live(rooted, node)
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_proxys_node_begins_with_a_plain_page_where_no_peer_has_more(rooted: Rooted) -> None:
    rooted.world.kill("core-02")
    assert succeeded(rooted.script("proxy/seed.sh", **SEED)) == "core-01: begins with a plain 502 page\n"
    assert live(rooted).read_text().strip() == SEED["CONFIGURATION"].strip()
    assert str(live(rooted).parent.readlink()) == "releases/seed"
    assert_readable(rooted.root("core-01") / "proxy")


def test_a_proxys_node_begins_with_what_its_peers_serve(rooted: Rooted) -> None:
    (rooted.world.work / "complete").touch()
    rooted.world.kill("core-02")
    give_configuration(rooted, "core-03", "http {\n  # of a peer\n}\n")
    words = succeeded(rooted.script("proxy/seed.sh", **SEED))
    assert words == "core-01: begins with the proxy configuration of core-03\n"
    assert "of a peer" in live(rooted).read_text()


def test_before_the_cluster_is_complete_no_peer_is_asked(rooted: Rooted) -> None:
    give_configuration(rooted, "core-03", "http {\n  # of a peer\n}\n")
    assert succeeded(rooted.script("proxy/seed.sh", **SEED)) == "core-01: begins with a plain 502 page\n"


def test_a_proxys_node_that_has_a_configuration_keeps_it(rooted: Rooted) -> None:
    give_configuration(rooted, "core-01", "http {\n  # its own\n}\n")
    give_configuration(rooted, "core-02", "http {\n  # of a peer\n}\n")
    (rooted.world.work / "complete").touch()
    assert succeeded(rooted.script("proxy/seed.sh", **SEED)) == "core-01: keeps its proxy configuration\n"
    assert "its own" in live(rooted).read_text()


def test_before_the_cluster_is_complete_too_a_configuration_is_kept(rooted: Rooted) -> None:
    give_configuration(rooted, "core-01", "http {\n  # its own\n}\n")
    assert succeeded(rooted.script("proxy/seed.sh", **SEED)) == "core-01: keeps its proxy configuration\n"
    assert "its own" in live(rooted).read_text()


NO_PROXY = Answer("core-01: docker ps -q --filter label=swarm-site.part=proxy*")
PROXY_RUNS = [
    Answer("core-01: docker ps -q --filter label=swarm-site.part=proxy*", "c1\n"),
    Answer("core-01: docker kill -s HUP c1"),
    Answer("core-01: docker logs --since * c1", "nothing of interest\n[emerg] bind() failed\n"),
]


def configure(rooted: Rooted, state: str) -> subprocess.CompletedProcess[str]:
    return rooted.script(
        "proxy/configure.sh",
        NODE="core-01",
        STATE=state,
        STATE_URL="http://127.0.0.1/state",
        CONFIGURATION=f"http {{ # {state}\n}}\n",
    )


def serving(rooted: Rooted) -> str:
    return live(rooted).parent.readlink().name


def test_a_configuration_becomes_the_live_one_by_one_relative_link(rooted: Rooted) -> None:
    rooted.world.plan(NO_PROXY)
    assert succeeded(configure(rooted, "one")) == ""
    assert live(rooted).read_text() == "http { # one\n}\n"
    assert str(live(rooted).parent.readlink()) == "releases/one"
    assert_readable(rooted.root("core-01") / "proxy")


def test_running_proxies_are_told_and_asked_until_one_answers_with_the_new_state(rooted: Rooted) -> None:
    asked = "core-01: curl -s --max-time 1 http://127.0.0.1/state"
    rooted.world.plan(*PROXY_RUNS, Answer(asked, "zero\n", once=True), Answer(asked, "one\n"))
    succeeded(configure(rooted, "one"))
    assert serving(rooted) == "one"
    told = rooted.world.calls().index("core-01: docker kill -s HUP c1")
    assert [index > told for index, call in enumerate(rooted.world.calls()) if call == asked] == [True, True]


def test_a_configuration_that_no_proxy_takes_over_is_taken_back_with_the_words_of_nginx(rooted: Rooted) -> None:
    rooted.world.plan(*PROXY_RUNS, Answer("core-01: curl *", "one\n"))
    succeeded(configure(rooted, "one"))
    words = refused(configure(rooted, "two"))
    assert words == (
        "core-01: the proxy configuration is refused, the one before stays live: "
        "[emerg] bind() failed\nnginx did not take it over\n"
    )
    assert serving(rooted) == "one"
    assert rooted.world.calls().count("core-01: docker kill -s HUP c1") == 3


def test_the_last_four_configurations_stay_on_a_node_by_the_time_they_were_live(rooted: Rooted) -> None:
    rooted.world.plan(NO_PROXY)
    for state in ("one", "two", "three", "four", "one", "five"):
        succeeded(configure(rooted, state))
    left = {path.name for path in (rooted.root("core-01") / "proxy/releases").iterdir()}
    assert left == {"one", "three", "four", "five"}


# --- images/deliver.sh -----------------------------------------------------------------------------------------------

DELIVERY = {"NODE": "core-01", "IMAGE": IMAGE}


STARTS = Answer("core-01: docker run --rm *")


def archive(world: World, tag: str = "0123456789ab") -> Path:
    path = world.folder / f"cache/swarm-site/images/site-nginx-{tag}.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_an_image_that_is_there_is_not_sent(world: World) -> None:
    world.nodes("core-01")
    world.plan(Answer(f"core-01: docker image inspect {IMAGE}", "[]\n"), STARTS)
    assert re.fullmatch(
        rf"core-01: has {IMAGE} after \d+ s\n", succeeded(world.script("images/deliver.sh", **DELIVERY))
    )
    assert world.calls()[-1].endswith(f" --network none {IMAGE} true")


def test_an_image_of_which_no_container_starts_is_a_failure_that_shows_the_cause(world: World) -> None:
    world.nodes("core-01")
    world.plan(
        Answer("core-01: docker image inspect *"), Answer("core-01: docker run *", "exec format error\n", status=125)
    )
    assert refused(world.script("images/deliver.sh", **DELIVERY)) == (
        f"core-01: can't start a container of {IMAGE}: exec format error\n"
    )


def test_an_image_that_is_missing_is_sent_from_its_archive(world: World) -> None:
    world.nodes("core-01")
    archive(world).write_text("the layers")
    world.stub("node", "docker", '#!/bin/sh\ncase $1 in load) cat >"$STUBS/loaded" ;; image) exit 1 ;; esac\n')
    assert re.fullmatch(
        rf"core-01: loaded {IMAGE} after \d+ s\n", succeeded(world.script("images/deliver.sh", **DELIVERY))
    )
    assert (world.stubs / "loaded").read_text() == "the layers"


def test_an_archive_that_is_gone_is_a_failure_that_says_what_to_run(world: World) -> None:
    world.nodes("core-01")
    world.plan(Answer("core-01: docker image inspect *", status=1))
    words = refused(world.script("images/deliver.sh", **DELIVERY))
    assert words == f"core-01: the archive {archive(world)} of {IMAGE} is gone; make it again: make repair\n"


def test_a_node_that_takes_no_image_is_a_failure_with_its_own_words(world: World) -> None:
    world.nodes("core-01")
    archive(world).write_text("")
    world.stub("node", "docker", '#!/bin/sh\necho "no space left on device" >&2\nexit 1\n')
    words = refused(world.script("images/deliver.sh", **DELIVERY))
    assert words == f"core-01: docker load of {IMAGE} failed: no space left on device\n"


def test_an_image_that_is_new_on_a_node_makes_earlier_ones_go_that_no_container_has(world: World) -> None:
    world.nodes("core-01")
    archive(world).touch()
    world.plan(
        Answer("core-01: docker image inspect *", status=1),
        Answer("core-01: docker load"),
        Answer(
            "core-01: docker image ls localhost:1/site-nginx *",
            f"{IMAGE}\nlocalhost:1/site-nginx:1\nlocalhost:1/site-nginx:2\n",
        ),
        Answer("core-01: docker image rm localhost:1/site-nginx:1", status=1),
        Answer("core-01: docker image rm localhost:1/site-nginx:2"),
        STARTS,
    )
    succeeded(world.script("images/deliver.sh", **DELIVERY))
    assert [call for call in world.calls() if " rm " in call] == [
        "core-01: docker image rm localhost:1/site-nginx:1",
        "core-01: docker image rm localhost:1/site-nginx:2",
    ]


def test_a_rebuilt_node_also_gets_the_images_that_services_still_run(trio: World) -> None:
    archive(trio, "old").touch()
    trio.plan(
        Answer(f"core-03: docker image inspect {IMAGE}"),
        Answer(
            "core-01: docker service ls --format {{.Image}}",
            "localhost:1/site-nginx:old\nlocalhost:1/site-nginx:gone\n",
        ),
        Answer("core-03: docker image inspect *", status=1),
        Answer("core-03: docker load"),
        Answer("core-03: docker run --rm *"),
        *manages("core-01"),
    )
    assert succeeded(trio.script("images/deliver.sh", NODE="core-03", IMAGE=IMAGE)).endswith(
        "core-03: loaded localhost:1/site-nginx:old, which services still run\n"
    )
    assert trio.calls().count("core-03: docker load") == 1


# --- nginx/check.sh --------------------------------------------------------------------------------------------------

NGINX = r"""#!/usr/bin/env bash
echo "$*" >"$STUBS/asked"
cat >"$STUBS/configuration"
if grep -q bad "$STUBS/configuration"; then echo "[emerg] unknown directive" >&2 && exit 1; fi
"""


def test_a_configuration_is_handed_to_nginx_of_the_image_and_what_it_refuses_is_shown(world: World) -> None:
    world.stub("here", "docker", NGINX)
    check = {"NODE": "", "IMAGE": IMAGE, "TEMPLATE": "templates/proxy/nginx.conf"}
    assert succeeded(world.script("nginx/check.sh", **check, CONFIGURATION="good {\n}\n")) == ""
    assert (world.stubs / "configuration").read_text() == "good {\n}\n"
    asked = (world.stubs / "asked").read_text()
    assert f" --network none --read-only --tmpfs /tmp --entrypoint sh {IMAGE} -c " in asked
    assert refused(world.script("nginx/check.sh", **check, CONFIGURATION="bad")) == (
        "this machine: nginx refuses the configuration made from templates/proxy/nginx.conf, so no node got it: "
        "[emerg] unknown directive\n"
    )


# --- deletes ---------------------------------------------------------------------------------------------------------

GONE = [
    Answer("here: docker info"),
    Answer("here: docker container inspect *", status=1),
    Answer("here: docker volume inspect *", status=1),
    Answer("here: docker network inspect *", status=1),
]
STATES = ["dead", "half made", "gone"]
DELETES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "swarm/leave.sh": {
        "input": {"NODE": "core-01"},
        "says": dict.fromkeys(STATES, "core-01: no other manager answers; nobody to tell that this node leaves\n"),
    },
    "swarm/dissolve.sh": {
        "input": {"NODE": ""},
        "says": dict.fromkeys(STATES, "this machine: no manager answers; services go with their nodes\n"),
    },
    "machines/delete.sh": {
        "input": {"NODE": "core-01"},
        "says": dict.fromkeys(STATES, "core-01: gone after 0 s\n"),
    },
    "machines/sweep.sh": {
        "input": {"NODE": ""},
        "says": dict.fromkeys(("dead", "half made"), "core-01: left over, taken away\n"),
    },
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("template", DELETES)
def test_a_delete_bears_a_machine_that_is_not_there(world: World, template: str, state: str) -> None:
    folder = world.work / "machines/core-01"
    if state == "dead":
        world.nodes("core-01")
        world.kill("core-01")
        (folder / "Vagrantfile").touch()
    elif state == "half made":
        folder.mkdir()
        (folder / "Vagrantfile").touch()
    world.plan(
        *GONE, Answer("here: vagrant destroy -f"), Answer("here: docker ps -a --filter label=swarm-site.stack=dev *")
    )
    done = world.script(template, **DELETES[template]["input"])
    expected = DELETES[template]["says"].get(state, "")
    assert re.sub(r"after \d+ s", "after 0 s", succeeded(done)) == expected
    assert done.stderr == ""
    if template.startswith("machines/"):
        assert not folder.exists()
        assert ("here: vagrant destroy -f" in world.calls()) == (state != "gone")


def test_every_delete_is_tried_on_machines_that_are_not_there() -> None:
    used = re.findall(
        r'delete="(.*?)"', "".join(path.read_text() for path in (TEMPLATES.parent / "components").glob("*.py"))
    )
    assert set(used) == set(DELETES)


def test_a_machine_goes_with_its_container_volume_and_folder(world: World) -> None:
    world.make("core-01")
    (world.work / "machines/core-01/Vagrantfile").touch()
    world.plan(
        *(Answer(f"here: docker {words} swarm-site-dev-core-01") for words in ("container inspect", "rm -fv")),
        *(Answer(f"here: docker {words} swarm-site-dev-core-01") for words in ("volume inspect", "volume rm")),
        Answer("here: docker info"),
        Answer("here: vagrant destroy -f"),
    )
    succeeded(world.script("machines/delete.sh", NODE="core-01"))
    assert orders(world) == [
        "here: vagrant destroy -f",
        "here: docker rm -fv swarm-site-dev-core-01",
        "here: docker volume rm swarm-site-dev-core-01",
    ]
    assert not (world.work / "machines/core-01").exists()


def test_a_machine_that_vagrant_can_not_take_away_is_taken_away_directly_and_that_is_said(world: World) -> None:
    world.make("core-01")
    (world.work / "machines/core-01/Vagrantfile").touch()
    world.plan(*GONE, Answer("here: vagrant destroy -f", "it is broken\n", status=1))
    output = succeeded(world.script("machines/delete.sh", NODE="core-01"))
    assert "core-01: vagrant destroy failed (it is broken); its container is removed directly\n" in output


def test_a_machine_is_not_forgotten_while_the_daemon_does_not_answer(world: World) -> None:
    world.make("core-01")
    world.plan(Answer("here: docker info", status=1))
    words = refused(world.script("machines/delete.sh", NODE="core-01"))
    assert words == "core-01: the Docker daemon of this machine does not answer; run: tools/setup up\n"
    assert (world.work / "machines/core-01/ssh_config").exists()


def test_a_container_that_does_not_go_is_a_failure_and_its_folder_stays(world: World) -> None:
    world.make("core-01")
    world.plan(
        Answer("here: docker info"), Answer("here: docker container inspect *"), Answer("here: docker rm *", status=1)
    )
    assert world.script("machines/delete.sh", NODE="core-01").returncode == 1
    assert (world.work / "machines/core-01/ssh_config").exists()
    assert not (world.work / "machines/core-01/complete").exists(), "half gone, it would count as dead"


def test_the_sweep_takes_away_what_nobody_owns_and_then_the_folder(world: World) -> None:
    world.make("core-01")
    world.plan(
        Answer("here: docker ps -a --filter label=swarm-site.stack=dev *", "core-07\n"),
        Answer("here: docker container inspect swarm-site-dev-core-07"),
        Answer("here: docker rm -fv swarm-site-dev-core-07"),
        Answer("here: docker network inspect swarm-site-dev"),
        Answer("here: docker network rm swarm-site-dev"),
        *GONE,
    )
    assert succeeded(world.script("machines/sweep.sh", NODE="")) == (
        "core-01: left over, taken away\ncore-07: left over without a folder, taken away\n"
    )
    assert "here: docker rm -fv swarm-site-dev-core-07" in world.calls()
    assert world.calls()[-1] == "here: docker network rm swarm-site-dev"
    assert not world.work.exists()


# --- machines/create.sh ----------------------------------------------------------------------------------------------

MACHINE = {"NODE": "core-01", "PROVIDER": "docker", "VAGRANTFILE": "one\n", "SSH_CONFIG": "Host core-01\n"}
UP = "here: vagrant up --provider docker"
CREATED = [*GONE, Answer(UP), Answer("core-01: docker info")]


def test_a_machine_is_made_in_its_own_folder_and_waited_for(world: World) -> None:
    world.plan(*CREATED)
    assert re.search(r"core-01: up after \d+ s\n$", succeeded(world.script("machines/create.sh", **MACHINE)))
    folder = world.work / "machines/core-01"
    assert (folder / "Vagrantfile").read_text() == "one\n"
    assert (folder / "ssh_config").read_text() == "Host core-01\n"


def test_a_machine_that_is_there_is_started_and_not_made_anew(world: World) -> None:
    world.plan(*CREATED)
    succeeded(world.script("machines/create.sh", **MACHINE))
    (world.work / "machines/core-01/kept").touch()
    succeeded(world.script("machines/create.sh", **MACHINE))
    assert (world.work / "machines/core-01/kept").exists()
    assert "here: vagrant destroy -f" not in world.calls()


def test_a_machine_that_a_killed_run_left_half_made_is_made_anew(world: World) -> None:
    world.plan(Answer(UP, status=1, once=True), *CREATED, Answer("here: vagrant destroy -f"))
    assert refused(world.script("machines/create.sh", **MACHINE)).startswith("core-01: vagrant up failed")
    succeeded(world.script("machines/create.sh", **MACHINE))
    assert "here: vagrant destroy -f" in world.calls()


def test_a_machine_of_other_settings_is_made_anew(world: World) -> None:
    world.plan(*CREATED, Answer("here: vagrant destroy -f"))
    succeeded(world.script("machines/create.sh", **MACHINE))
    (world.work / "machines/core-01/old").touch()
    succeeded(world.script("machines/create.sh", **{**MACHINE, "VAGRANTFILE": "another\n"}))
    assert not (world.work / "machines/core-01/old").exists()
    assert (world.work / "machines/core-01/Vagrantfile").read_text() == "another\n"


def test_a_machine_that_does_not_come_up_is_a_failure_with_the_end_of_its_log(world: World) -> None:
    world.plan(*GONE, Answer(UP, "line one\nthe image is missing\n", status=1))
    words = refused(world.script("machines/create.sh", **MACHINE))
    assert words.startswith("core-01: vagrant up failed: line one\nthe image is missing\n")
    assert words.endswith("log: .work/dev/machines/core-01/log; run again: make up\n")


def test_a_machine_on_which_docker_does_not_answer_is_a_failure_that_says_how_to_look(world: World) -> None:
    world.plan(*GONE, Answer(UP), Answer("core-01: docker info", "no daemon\n", status=1))
    done = world.script("machines/create.sh", **MACHINE)
    assert refused(done) == (
        "core-01: Docker did not answer within 90 s; log: .work/dev/machines/core-01/log; "
        "look at it: make ssh NODE=core-01\n"
    )
    assert "no daemon" in (world.work / "machines/core-01/log").read_text()


# --- machines/power.sh -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Answer("here: docker container inspect -f * swarm-site-dev-core-01", "on\n"), "on\n"),
        (Answer("here: docker container inspect *", status=1), "none\n"),
    ],
)
def test_a_machine_is_on_or_off_or_not_there(world: World, answer: Answer, state: str) -> None:
    world.plan(answer)
    assert succeeded(world.script("machines/power.sh", NODE="core-01", WISH="state")) == state


@pytest.mark.parametrize(("wish", "order"), [("start", "start"), ("off", "kill")])
def test_a_machine_is_started_and_switched_off(world: World, wish: str, order: str) -> None:
    world.plan(Answer(f"here: docker {order} swarm-site-dev-core-01", "its name\n"))
    assert succeeded(world.script("machines/power.sh", NODE="core-01", WISH=wish)) == ""
    assert world.calls() == [f"here: docker {order} swarm-site-dev-core-01"]


# --- machines/ssh.sh: hosts that exist -------------------------------------------------------------------------------

HOST = {
    "NODE": "web-1",
    "HOST": "192.0.2.11 admin 22",
    "PORTS": "8080 80",
    "SSH_CONFIG": "Host web-1\n",
}
OWNED = "/srv/", "/etc/", "/var/lib/", "/proc/", "/sys/"
"""What a host has and this machine has too: a test's host has a folder of its own in place of each."""
# A test's host has the programs of `node/`, and no other; a link's parts are this machine's.
ONLY_ITS_OWN = """
command() {
  if [[ -n ${ON_NODE-} && $1 == -v ]]; then [[ -x $STUBS/node/$2 ]]; else builtin command "$@"; fi
}
"""
DEBIAN = 'ID=debian\nPRETTY_NAME="Debian 12"\n'
THERE = [
    Answer("web-1: uname -n", "web-1\n"),
    Answer("web-1: docker info"),
    Answer("web-1: docker info -f {{.Swarm.LocalNodeState}}", "inactive\n"),
    Answer("web-1: docker info -f {{.LiveRestoreEnabled}}", "false\n"),
    Answer("web-1: docker version -f *", "20.10\n"),
    Answer("web-1: docker network inspect docker_gwbridge", status=1),
    Answer("web-1: id -u", "1000\n"),
    Answer("web-1: id -nG admin", "admin sudo\n"),
    Answer("web-1: usermod -aG docker admin"),
]
INSTALLS = [
    Answer("web-1: apt-get * update"),
    Answer(
        "web-1: apt-get -s install --no-install-recommends *",
        "Inst libc6 [1] (2 Debian)\nInst runc (1 Debian)\nInst docker.io (20 Debian)\nConf docker.io (20 Debian)\n",
    ),
    Answer("web-1: dpkg-query -W * runc docker.io", status=1),
    Answer("web-1: dpkg --configure -a"),
    Answer("web-1: apt-get * install --no-install-recommends --no-upgrade runc docker.io"),
    Answer("web-1: getent group docker", status=2),
    Answer("web-1: systemctl -q enable --now docker.service"),
]


@dataclass(frozen=True)
class Existing:
    """A host that exists: its files in a folder, its programs stubs."""

    world: World

    @property
    def files(self) -> Path:
        return self.world.stubs / "host"

    def file(self, path: str, text: str = "") -> Path:
        file = self.files / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def without(self, *programs: str) -> None:
        for name in programs:
            (self.world.stubs / "node" / name).unlink()

    def script(self, template: str, **environment: str) -> subprocess.CompletedProcess[str]:
        text = re.sub(rf"(?<![\w.~])({'|'.join(OWNED)})", rf"{self.files}\1", render(template, provider="ssh"))
        return self.world.bash(text, **{**HOST, **environment})

    def adopt(self) -> subprocess.CompletedProcess[str]:
        return self.script("machines/create.sh")

    def give_back(self) -> subprocess.CompletedProcess[str]:
        return self.script("machines/delete.sh")

    @property
    def notes(self) -> Path:
        return self.files / "srv/swarm-site/host"

    def changes(self) -> list[str]:
        return [line.replace(str(self.files), "") for line in (self.notes / "changes").read_text().splitlines()]

    def orders(self) -> list[str]:
        """What was done to the host; questions left out."""
        asks = re.compile(
            r"web-1: (docker (info|version|network inspect|ps|image ls)|apt-get -s|dpkg-query|getent|id|uname)\b"
        )
        return [call.removeprefix("web-1: ") for call in self.world.calls() if not asks.match(call)]


APT = (
    "apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -o APT::Keep-Downloaded-Packages=false "
    "-o Dpkg::Options::=--force-confold"
)


@pytest.fixture
def existing(world: World) -> Existing:
    """A Debian with Docker and all else that is needed; its user is not in the group docker."""
    for name in ("rm", "mkdir", "mv", "ln"):
        (world.stubs / "node" / name).unlink()
    for name in (
        "apt-get",
        "curl",
        "docker",
        "dpkg",
        "dpkg-query",
        "getent",
        "gpasswd",
        "groupdel",
        "id",
        "ip",
        "iptables",
    ):
        world.stub("node", name, RECORDER)
    for name in ("iptables-restore", "iptables-save", "keepalived", "rsync", "systemctl", "uname", "usermod"):
        world.stub("node", name, RECORDER)
    world.stub("node", "sudo", SUDO)
    (world.stubs / "no-waiting").write_text(NO_WAITING + ONLY_ITS_OWN)
    (world.work / "key.pub").write_text("ssh-ed25519 THEKEY swarm-site dev\n")
    host = Existing(world)
    host.file("etc/os-release", DEBIAN)
    host.file(
        "proc/net/tcp",
        "  sl  local_address rem_address   st\n"
        "   0: 00000000:0016 00000000:0000 0A\n   1: 0100007F:0050 00000000:0000 01\n",
    )
    host.file("proc/sys/net/ipv4/ip_forward", "0\n")
    (host.files / "var/lib").mkdir(parents=True)
    (host.files / "srv").mkdir()
    world.plan(*THERE)
    return host


def test_a_host_with_docker_is_adopted_and_what_was_done_to_it_is_noted(existing: Existing) -> None:
    words = succeeded(existing.adopt())
    assert re.fullmatch(
        r"web-1: adopting it \(log: .work/dev/machines/web-1/log\)\n"
        r"web-1: Debian 12, Docker 20.10\nweb-1: up after \d+ s\n",
        words,
    )
    assert existing.changes() == ["member admin", "network docker_gwbridge"]
    assert (existing.notes / "owner").read_text() == "THEKEY web-1\n"
    assert re.fullmatch(r"stack dev of \w+@\S+\n", (existing.notes / "whose").read_text())
    assert existing.orders() == ["usermod -aG docker admin"]
    assert not (existing.files / "etc/docker").exists()


def test_a_host_without_docker_gets_it_and_every_new_package_is_noted(existing: Existing) -> None:
    existing.without("docker", "iptables")
    # It is there as soon as it is installed.
    existing.world.stub(
        "node",
        "apt-get",
        RECORDER.replace(
            "line=0", '[[ $* != *" install "* || $1 == -s ]] || cp "$STUBS/node/dpkg" "$STUBS/node/docker"\nline=0'
        ),
    )
    existing.world.plan(*INSTALLS, *THERE)
    succeeded(existing.adopt())
    assert existing.changes() == [
        "package runc",
        "package docker.io",
        "member admin",
        "group docker",
        *(f"file /etc/docker/{name}.json" for name in ("daemon", "key")),
        *(f"folder {path}" for path in ("/etc/docker", "/etc/cni", "/var/lib/docker", "/var/lib/containerd")),
        "forwarding 0",
        "policy ACCEPT",
    ]
    assert existing.orders() == [
        f"{APT} update",
        "dpkg --configure -a",
        f"{APT} install --no-install-recommends --no-upgrade runc docker.io",
        "systemctl -q enable --now docker.service",
        "usermod -aG docker admin",
    ]
    settings = json.loads((existing.files / "etc/docker/daemon.json").read_text())
    assert settings == json.loads((TEMPLATES / "images/node/files/etc/docker/daemon.json").read_text())


def test_an_adoption_that_was_cut_off_is_gone_on_with_by_its_notes(existing: Existing) -> None:
    existing.file("srv/swarm-site/host/owner", "THEKEY web-1\n")
    existing.file("srv/swarm-site/host/changes", "package runc\npackage docker.io\n")
    existing.world.plan(*INSTALLS, *THERE)
    succeeded(existing.adopt())
    assert existing.orders() == [
        "dpkg --configure -a",
        f"{APT} install --no-install-recommends --no-upgrade runc docker.io",
    ]
    existing.world.plan(Answer("web-1: dpkg-query -W * runc docker.io", "ii \nii \n"), *THERE)
    before = len(existing.orders())
    succeeded(existing.adopt())
    assert existing.orders()[before:] == []


def test_notes_that_were_cut_off_are_written_anew(existing: Existing) -> None:
    existing.file("srv/swarm-site/noting/changes", "package half")
    succeeded(existing.adopt())
    assert existing.changes() == ["member admin", "network docker_gwbridge"]


def test_all_that_speaks_against_a_host_is_said_at_once_and_nothing_is_touched(existing: Existing) -> None:
    existing.file("proc/net/tcp", "   0: 00000000:1F90 00000000:0000 0A\n   1: 0100007F:0050 00000000:0000 0A\n")
    existing.file("etc/os-release", "ID=fedora\n")
    existing.without("rsync")
    (existing.files / "srv/swarm-site").mkdir()
    existing.world.plan(
        Answer("web-1: uname -n", "www\n"),
        Answer("web-1: docker info -f {{.Swarm.LocalNodeState}}", "active\n"),
        Answer("web-1: docker info -f {{.LiveRestoreEnabled}}", "true\n"),
        *THERE,
    )
    words = refused(existing.adopt())
    assert words == (
        "web-1: can't be adopted: it calls itself www: a host has its own name in machines.hosts too; "
        "it has a /srv/swarm-site that is of no stack: move that away; "
        "it is fedora, and packages are installed on Debian and Ubuntu alone; install there: rsync; "
        "it is in a swarm that is not this stack's; "
        "its Docker keeps containers alive over restarts (live-restore), which no swarm allows; switch that off there; "
        "something listens on its port 8080; something listens on its port 80 "
        "(log: .work/dev/machines/web-1/log); put it right and run again: make up\n"
    ).replace("/srv/", f"{existing.files}/srv/")
    assert existing.orders() == []
    assert list((existing.files / "srv/swarm-site").iterdir()) == []


def test_data_of_a_docker_that_is_not_installed_is_not_taken_over(existing: Existing) -> None:
    existing.without("docker")
    existing.file("var/lib/docker/image")
    existing.world.plan(*INSTALLS, *THERE)
    assert "it has data of a Docker that is not installed" in refused(existing.adopt())
    assert existing.orders() == []


def test_a_docker_that_does_not_answer_is_refused_with_what_to_run(existing: Existing) -> None:
    existing.world.plan(Answer("web-1: docker info", status=1), *THERE)
    assert "its Docker does not answer; start it there: systemctl start docker" in refused(existing.adopt())


@pytest.mark.parametrize("owner", ["ANOTHER web-1\n", "THEKEY web-2\n"])
def test_a_host_that_belongs_to_somebody_else_is_refused_with_how_to_free_it(existing: Existing, owner: str) -> None:
    existing.file("srv/swarm-site/host/owner", owner)
    existing.file("srv/swarm-site/host/whose", "stack blue of ann@there\n")
    words = refused(existing.adopt())
    assert "web-1: can't be adopted: it belongs to stack blue of ann@there; take it down there, or, if that is" in words
    assert f"run on the host: sudo bash {existing.notes}/release" in words
    assert existing.orders() == []


def test_packages_that_can_not_be_had_are_a_failure_with_the_words_of_apt(existing: Existing) -> None:
    existing.without("rsync")
    existing.world.plan(Answer("web-1: apt-get * update", "E: no network\n", status=100), *THERE)
    assert "can't be adopted: apt-get update failed: E: no network (log: " in refused(existing.adopt())
    assert not existing.notes.exists()


SAYING = """#!/usr/bin/env bash
printf '%b' "$SSH_SAYS" >&2
exit 255
"""
STRICT = "and you have requested strict checking."
CHANGED = "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"


@pytest.mark.parametrize(
    ("host", "says", "advice"),
    [
        (
            "192.0.2.11 admin 22",
            f"No ED25519 host key is known for 192.0.2.11 {STRICT}\nHost key verification failed.\n",
            "the host key of 192.0.2.11 is not known to this user's ssh; look at the fingerprint and add it: "
            "ssh -p 22 admin@192.0.2.11 true",
        ),
        (
            "192.0.2.11 admin 2222 bastion",
            f"{CHANGED}\nHost key for [192.0.2.11]:2222 has changed {STRICT}\nHost key verification failed.\n",
            "forget the old one: ssh-keygen -R '[192.0.2.11]:2222', and add the new one: "
            "ssh -p 2222 -J bastion admin@192.0.2.11 true",
        ),
        (
            "192.0.2.11 admin 2222 bastion",
            f"{CHANGED}\nHost key for bastion has changed {STRICT}\nHost key verification failed.\n",
            "the host key of bastion is another one than this user's ssh knows: it was made anew, or something stands "
            "between. Find out which; if the new key is right, forget the old one: ssh-keygen -R 'bastion', and",
        ),
        (
            "192.0.2.11 admin 22",
            "admin@192.0.2.11: Permission denied (publickey).\n",
            "it takes none of this user's ssh keys; add one: ssh-copy-id -p 22 admin@192.0.2.11",
        ),
        (
            "192.0.2.11 admin 22 bastion",
            "admin@192.0.2.11: Permission denied (publickey).\n",
            "it takes none of this user's ssh keys; add one: ssh-copy-id -p 22 -o ProxyJump=bastion admin@192.0.2.11",
        ),
        (
            "192.0.2.11 admin 22 ann@bastion:2222",
            "ann@bastion: Permission denied (publickey).\n",
            "its jump host ann@bastion takes none of this user's ssh keys; add one there until this gets in: "
            "ssh -p 22 -J ann@bastion:2222 admin@192.0.2.11 true",
        ),
        (
            "192.0.2.11 admin 22",
            "ssh: connect to host 192.0.2.11 port 22: No route to host\n",
            "it does not answer; see why: ssh -p 22 admin@192.0.2.11 true",
        ),
    ],
)
def test_a_host_that_ssh_does_not_get_into_is_refused_with_what_to_do(
    existing: Existing, host: str, says: str, advice: str
) -> None:
    existing.world.stub("here", "ssh", SAYING)
    words = refused(existing.script("machines/create.sh", HOST=host, SSH_SAYS=says))
    assert words.startswith("web-1: can't be adopted: ")
    assert advice in words
    assert words.endswith(f"({says.rstrip()})\n"), "the words of ssh itself"


def test_a_user_who_needs_a_password_for_root_is_refused_with_what_to_do(existing: Existing) -> None:
    existing.world.stub("node", "sudo", "#!/bin/sh\necho 'a password is required' >&2\nexit 1\n")
    existing.world.stub("here", "sudo", "#!/bin/sh\nexit 1\n")
    assert refused(existing.adopt()) == (
        "web-1: can't be adopted: its user needs sudo without a password; let it, there: "
        "echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/swarm-site\n"
    ).replace("/etc/", f"{existing.files}/etc/")


def test_root_needs_no_sudo_to_get_it_installed(existing: Existing) -> None:
    existing.without("sudo")
    existing.world.stub("here", "sudo", "#!/bin/sh\nexit 127\n")
    existing.world.plan(
        Answer("web-1: id -u", "0\n"),
        Answer("web-1: apt-get -s install --no-install-recommends sudo", "Inst sudo (1 Debian)\n"),
        Answer("web-1: dpkg-query -W * sudo", status=1),
        Answer("web-1: apt-get * install --no-install-recommends --no-upgrade sudo"),
        *INSTALLS,
        *THERE,
    )
    succeeded(existing.script("machines/create.sh", HOST="192.0.2.11 root 22"))
    assert existing.changes() == ["package sudo", "network docker_gwbridge"]


GIVES_BACK = [
    Answer("web-1: id -u", "1000\n"),
    Answer("web-1: docker version", "20\n"),
    Answer("web-1: docker swarm leave --force", once=True),
    Answer("web-1: docker swarm leave --force", "Error: This node is not part of a swarm\n", status=1),
    Answer("web-1: docker ps -aq --filter label=swarm-site.part", "c1\nc2\n", once=True),
    Answer("web-1: docker rm -fv c1 c2", "removal of container c1 is already in progress\n", status=1),
    Answer("web-1: docker ps -aq --filter label=swarm-site.part"),
    Answer(
        "web-1: docker image ls --filter reference=localhost/site/\\* --filter reference=localhost:1/site-\\* *",
        "localhost:1/site-nginx:1\n",
    ),
    Answer("web-1: docker image rm -f localhost:1/site-nginx:1"),
    Answer("web-1: docker network inspect docker_gwbridge"),
    Answer("web-1: docker network rm docker_gwbridge"),
    Answer("web-1: id -nG admin", "admin docker\n"),
    Answer("web-1: gpasswd -d admin docker"),
    Answer("web-1: dpkg-query -s *"),
    Answer("web-1: apt-get -s purge runc docker.io", "Purg docker.io [20]\nPurg runc [1]\n"),
    Answer("web-1: apt-get * remove runc docker.io"),
    Answer("web-1: apt-get * purge runc docker.io"),
    Answer("web-1: systemctl *"),
    Answer(
        "web-1: iptables-save ",
        ":FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:DOCKER_OUTPUT - [0:0]\n"
        "-A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -j ACCEPT\n-A INPUT -j ACCEPT\n",
    ),
    Answer("web-1: getent group docker", "docker:x:1:\n"),
    Answer("web-1: groupdel docker"),
]


def adopted(existing: Existing) -> None:
    """A host that was adopted, with what the steps after it put there."""
    succeeded(existing.adopt())
    existing.file("srv/swarm-site/content/index.html")
    (existing.world.stubs / "calls").unlink()
    existing.world.plan(*GIVES_BACK)


def test_a_host_with_docker_is_given_back_with_all_that_is_its_owners(existing: Existing) -> None:
    adopted(existing)
    assert re.fullmatch(r"web-1: gone after \d+ s\n", succeeded(existing.give_back()))
    assert existing.orders() == [
        *["docker swarm leave --force"] * 2,
        "docker rm -fv c1 c2",
        "docker image rm -f localhost:1/site-nginx:1",
        "docker network rm docker_gwbridge",
        "gpasswd -d admin docker",
    ]
    assert list((existing.files / "srv").iterdir()) == []
    assert not (existing.world.work / "machines/web-1").exists()


def test_a_leave_that_docker_has_not_ended_is_waited_for_and_said_if_it_lasts(existing: Existing) -> None:
    adopted(existing)
    existing.file("proc/net/tcp6", "   0: 00000000000000000000000000000000:1F0A 0:0000 0A\n")
    words = succeeded(existing.script("machines/delete.sh", A_SLEEP_COUNTS_AS="0"))
    said = (
        "web-1: its Docker has left the swarm, and still listens on port 2377 or 7946; it ends when Docker is restarted"
    )
    assert words.count(said) == 1
    assert not existing.notes.exists()


def test_a_docker_that_was_installed_goes_with_its_packages_data_and_traces(existing: Existing) -> None:
    adopted(existing)
    lines = ["package runc", "package docker.io", "group docker", "file /etc/docker/daemon.json", "folder /etc/docker"]
    lines += ["data /var/lib/docker 751", "folder /var/lib/containerd", "forwarding 0", "policy ACCEPT"]
    (existing.notes / "changes").write_text("".join(f"{line.replace(' /', f' {existing.files}/')}\n" for line in lines))
    for path in ("etc/docker/daemon.json", "etc/docker/key.json", "var/lib/docker/image/x", "var/lib/containerd/x"):
        existing.file(path)
    existing.file("proc/sys/net/ipv4/ip_forward", "1\n")
    (existing.files / "sys/class/net/docker0").mkdir(parents=True)
    existing.world.stub("node", "iptables-restore", '#!/bin/sh\ncat >"$STUBS/rules"\n')
    existing.world.plan(Answer("web-1: ip link delete docker0"), *GIVES_BACK)
    succeeded(existing.give_back())
    assert [order for order in existing.orders() if not order.startswith("docker ")] == [
        "systemctl cat docker.service",
        "systemctl stop docker.socket docker.service containerd.service",
        "ip link delete docker0",
        "iptables-save ",
        f"{APT} remove runc docker.io",
        f"{APT} purge runc docker.io",
        "groupdel docker",
    ]
    assert (existing.world.stubs / "rules").read_text() == (
        ":FORWARD ACCEPT [0:0]\n:DOCKER_OUTPUT - [0:0]\n-A INPUT -j ACCEPT\n"
    )
    assert not (existing.files / "etc/docker").exists()
    assert list((existing.files / "var/lib").iterdir()) == [existing.files / "var/lib/docker"]
    assert stat.S_IMODE((existing.files / "var/lib/docker").stat().st_mode) == 0o751
    assert (existing.files / "proc/sys/net/ipv4/ip_forward").read_text() == "0\n"


def test_packages_that_others_need_by_now_stay_and_that_is_said(existing: Existing) -> None:
    adopted(existing)
    (existing.notes / "changes").write_text("package runc\npackage docker.io\n")
    existing.world.plan(
        Answer("web-1: apt-get -s purge *", "Purg owners-thing [1]\nPurg docker.io [20]\nPurg runc [1]\n"), *GIVES_BACK
    )
    words = succeeded(existing.give_back())
    assert "web-1: these packages stay, because owners-thing would go with them: runc docker.io\n" in words
    assert not [order for order in existing.orders() if "apt-get" in order]


@pytest.mark.parametrize("owner", ["ANOTHER web-1\n", None])
def test_a_host_that_is_not_the_stacks_is_not_given_back_by_it(existing: Existing, owner: str | None) -> None:
    (existing.world.make("web-1") / "adopted").touch()
    if owner:
        existing.file("srv/swarm-site/host/owner", owner)
    succeeded(existing.give_back())
    assert existing.orders() == []
    assert existing.notes.exists() == bool(owner)
    assert not (existing.world.work / "machines/web-1").exists()


def test_a_host_that_is_dead_does_not_hold_up_a_delete_which_says_what_stays_there(existing: Existing) -> None:
    adopted(existing)
    existing.world.kill("web-1")
    words = succeeded(existing.give_back())
    assert words.startswith(
        "web-1: does not answer (ssh: connect to host web-1 port 22: No route to host); "
        "what the stack put on it stays, until this runs there: sudo bash "
    )
    assert existing.orders() == []
    assert not (existing.world.work / "machines/web-1").exists()


def test_a_host_that_was_never_let_in_is_not_asked_again(existing: Existing) -> None:
    existing.world.kill("web-1")
    refused(existing.adopt())
    asked = len(existing.world.connections())
    assert re.fullmatch(r"web-1: gone after \d+ s\n", succeeded(existing.give_back()))
    assert len(existing.world.connections()) == asked


@pytest.mark.parametrize("says", ["admin@web-1: Permission denied (publickey).", "Host key verification failed."])
def test_a_host_that_lives_and_lets_nobody_in_is_not_forgotten(existing: Existing, says: str) -> None:
    adopted(existing)
    existing.world.stub("here", "ssh", SAYING)
    words = refused(existing.script("machines/delete.sh", SSH_SAYS=says))
    assert words == (
        f"web-1: can't be given back: it answers, and does not let this user in ({says}); "
        "make ssh get in, and run again: make down\n"
    )
    assert (existing.world.work / "machines/web-1/adopted").exists()


def test_the_script_on_the_host_gives_it_back_by_itself(existing: Existing) -> None:
    adopted(existing)
    text = (existing.notes / "release").read_text()
    done = existing.world.bash(f"export PATH=$STUBS/node:$PATH ON_NODE=web-1\n{text}")
    assert done.returncode == 0, done.stderr
    assert "docker swarm leave --force" in existing.orders()
    assert list((existing.files / "srv").iterdir()) == []


def test_a_host_that_can_not_be_given_back_is_a_failure_that_can_be_run_again(existing: Existing) -> None:
    adopted(existing)
    existing.world.plan(Answer("web-1: docker swarm leave --force", "it is stuck\n", status=1), *GIVES_BACK)
    words = refused(existing.give_back())
    assert words.startswith("web-1: can't be given back: it is stuck (log: .work/dev/machines/web-1/log); put it right")
    assert existing.notes.exists()
    existing.world.plan(*GIVES_BACK)
    succeeded(existing.give_back())
    assert not existing.notes.exists()


def test_hosts_leave_the_swarm_one_after_another(existing: Existing) -> None:
    adopted(existing)
    with (existing.world.work / "locks/hosts").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        script = render("machines/delete.sh", provider="ssh").replace("flock -w 600 8", "flock -w 0 8")
        done = existing.world.bash(script, **HOST)
    assert "others have not left the swarm within 600 s" in refused(done)
    assert existing.orders() == []


def test_the_sweep_gives_back_every_host_that_no_other_resource_gave_back(existing: Existing) -> None:
    adopted(existing)
    assert succeeded(existing.script("machines/sweep.sh", NODE="")) == "web-1: left over, taken away\n"
    assert list((existing.files / "srv").iterdir()) == []
    assert not existing.world.work.exists()


def test_a_host_is_neither_started_nor_switched_off(existing: Existing) -> None:
    assert succeeded(existing.script("machines/power.sh", WISH="state")) == "unknown\n"
    assert succeeded(existing.script("machines/power.sh", WISH="off")) == ""
    assert existing.world.calls() == []


def test_the_workshop_for_hosts_needs_neither_vagrant_nor_a_network(workshop: World) -> None:
    (workshop.stubs / "here/vagrant").unlink()
    environment = {key: value for key, value in WORKSHOP.items() if key not in ("NETWORK", "MEMORY_WANTED")}
    succeeded(workshop.script("machines/workshop.sh", provider="ssh", **{**environment, "PROVIDER": "ssh"}))
    assert workshop.calls() == ["here: docker info"]
    assert (workshop.work / "provider").read_text() == "ssh\n"


# --- what the stubs themselves must do -------------------------------------------------------------------------------


@pytest.fixture
def calls_before(world: World) -> Iterator[World]:
    yield world
    assert world.calls() == ["here: docker whoami"]


def test_a_program_that_is_called_as_nobody_planned_is_a_failure(calls_before: World) -> None:
    done = calls_before.bash("docker whoami")
    assert (done.returncode, done.stderr) == (97, "unplanned: here: docker whoami\n")

"""Commands are interrupted at random moments, and the same command succeeds when run again.

Each of CHAOS_N rounds (default 2) interrupts `make up` from nothing, a rebuild of all machines and `make down`, once
each, alternating between Ctrl-C and a kill of the engine alone. With CHAOS_FAULTS, a random fault follows each
interruption. CHAOS_SEED reproduces moments and faults.
"""

import os
import random
import re
import secrets
import signal
import time
from dataclasses import dataclass

import pytest

from tests.e2e.life import state_file
from tests.e2e.site import PROJECT, UP_SECONDS, Background, Site, docker, fetch, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

ROUNDS = int(os.environ.get("CHAOS_N") or 2)
SEED = os.environ.get("CHAOS_SEED") or str(secrets.randbelow(10**6))
WITH_FAULTS = bool(os.environ.get("CHAOS_FAULTS"))
MEMORY = 512
MORE_MEMORY = 16
LINGER_SECONDS = 30
"""How long a killed run's scripts and ssh connections may take to end by themselves."""
FINISHED = re.compile(r"^ *\S+ +\S+:\S+ (\S+) (created|updated|deleted|replaced)\b", re.MULTILINE)


def running_machines(site: Site) -> list[str]:
    """Return the stack's machines that are on."""
    return docker("ps", "--filter", f"name=^{PROJECT}-{site.stack}-", "--format", "{{.Names}}").split()


def switch_off(site: Site, numbers: random.Random) -> None:
    """Switch a machine off without warning."""
    docker("kill", "--signal=KILL", numbers.choice(running_machines(site)))


def stop_docker(site: Site, numbers: random.Random) -> None:
    """Kill Docker on a machine until systemd no longer starts it, if it has been started."""
    script = (
        "for i in {1..100}; do ! systemctl is-failed -q docker.service || exit 0; pkill -9 -x dockerd; sleep 0.2; done"
    )
    docker("exec", numbers.choice(running_machines(site)), "bash", "-c", script)


def damage_state(site: Site, numbers: random.Random) -> None:
    """Cut off the stack's state file."""
    path = state_file(site)
    data = path.read_bytes()
    path.write_bytes(data[: numbers.randrange(len(data))])


def forget_folder(site: Site, numbers: random.Random) -> None:
    """Remove what the stack's folder has beside the machines and the keys that they mount."""
    for path in site.work.iterdir():
        if path.is_file() and path.name not in ("key", "key.pub") and numbers.random() < 0.5:
            path.unlink()


FAULTS = (switch_off, stop_docker, damage_state, forget_folder)


@dataclass(frozen=True)
class Cut:
    """Which command is interrupted, when and how, and which fault follows.

    The moment is `delay` seconds after the fraction `progress` of the command's steps is done.
    """

    round: int
    goal: str
    by: str
    progress: float
    delay: float
    fault: int

    def __str__(self) -> str:
        return f"round {self.round}: {self.goal}, {self.by} after {self.progress:.0%} and {self.delay:.1f} s"

    def cause_fault(self, site: Site) -> None:
        """Cause the fault, if there is still something that it can happen to."""
        numbers = random.Random(self.fault)
        fault = numbers.choice(FAULTS if running_machines(site) else (damage_state, forget_folder))
        print(f"then: {fault.__name__}")
        fault(site, numbers)


def plan() -> list[Cut]:
    """Return all interruptions of this run; the same seed gives the same ones."""
    numbers = random.Random(SEED)
    return [
        Cut(
            round=number,
            goal=goal,
            # Half of each, alternating, so that two rounds interrupt every goal in both ways.
            by=("Ctrl-C", "kill")[(number + offset) % 2],
            progress=numbers.random(),
            delay=numbers.uniform(0, 2.5),
            fault=numbers.randrange(2**32),
        )
        for number in range(1, ROUNDS + 1)
        for offset, goal in enumerate(("up", "rebuild", "down"))
    ]


@pytest.mark.parametrize("cut", plan(), ids=lambda cut: f"{cut.round}-{cut.goal}-{cut.by}")
def test_an_interrupted_command_succeeds_when_run_again(site: Site, cut: Cut) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_N={ROUNDS}: {cut}")
    memory = MEMORY + MORE_MEMORY * cut.round
    if cut.goal == "up":
        assert not site.machines(), "this is about an up from nothing"
        site.configure({})
    elif not site.is_up:
        site.up()
    if cut.goal == "rebuild":
        site.configure({"machines": {"memory": memory}})
    interrupt(site, cut)
    if WITH_FAULTS:
        cut.cause_fault(site)

    if cut.goal == "down":
        site.down()
    elif WITH_FAULTS:
        heal(site)
    else:
        site.up()
    if cut.goal != "down":
        assert fetch(site.outputs()["url"]).text == (site.clone / "site" / "index.html").read_text()
        wait_until("all nodes active, all services complete", site.is_whole)
        assert site.preview() == {}
        assert_nothing_is_doubled(site)
        if cut.goal == "rebuild":
            assert {machine_memory(site, node) for node in site.nodes} == {memory}
    wait_until("no process is left", lambda: not site.processes(), seconds=LINGER_SECONDS)
    assert not list(site.state.rglob("locks/organization/**/*.json")), "a lock is left"
    if cut.goal == "down":
        assert site.left() == []


def heal(site: Site) -> None:
    """Run `make up`; where it fails, do what it says: `make repair`, then `make up`."""
    for command in ("make up", "make repair", "make up"):
        call = site.begin("heal", command).wait(UP_SECONDS)
        if call.status == 0:
            return
    raise AssertionError(f"not healed: {call.text}")


def interrupt(site: Site, cut: Cut) -> None:
    """Run the command and interrupt it at its moment."""
    command = "make down" if cut.goal == "down" else "make up"
    total = steps(site, cut)
    begin = time.monotonic()
    run = site.begin(f"cut-{cut.goal}", command)
    wanted = int(cut.progress * total)
    engine = wait_for_engine(site, run)
    wait_until(f"{wanted} of {total} steps", lambda: not run.is_alive() or finished(run) >= wanted, seconds=UP_SECONDS)
    moment = time.monotonic() + cut.delay
    while time.monotonic() < moment and run.is_alive():
        time.sleep(0.05)  # a fixed delay, since the moment is under test
    late = not run.is_alive()
    print(f"interrupted after {time.monotonic() - begin:.1f} s, {finished(run)} of {total} steps")
    try:
        if cut.by == "Ctrl-C":
            os.killpg(run.pid, signal.SIGINT)
        else:
            os.kill(engine, signal.SIGKILL)
    except ProcessLookupError:
        late = True
    call = run.wait(UP_SECONDS)
    # The engine may miss a Ctrl-C in its first or last moments, and the command then succeeds.
    assert late or cut.by == "Ctrl-C" or call.status != 0 or finished(run) >= total, "nobody missed the engine"
    site.is_up = cut.goal != "down"


def steps(site: Site, cut: Cut) -> int:
    """Return the number of steps that the command will report; a replacement is three."""
    if cut.goal == "down":
        return site.pulumi("stack export", quiet=True).text.count('"urn": ')
    return sum(3 if "replace" in op else 1 for op in site.preview().values())


def wait_for_engine(site: Site, run: Background) -> int:
    """Wait for the engine that runs the command's operation, and return its process id."""
    part = re.compile(r"(\S*/)?pulumi (up|destroy) ")

    def engine() -> int:
        found = [pid for pid, args in site.engines().items() if part.match(args)]
        return next(iter(found), 0 if run.is_alive() else -1)

    pid = wait_until("the engine", engine)
    assert pid > 0, f"it ended before its engine began: {run.text()}"
    return pid


def finished(run: Background) -> int:
    """Return the number of steps that the command has reported so far."""
    return len(set(FINISHED.findall(run.text())))


def machine_memory(site: Site, node: str) -> int:
    """Return the actual memory of a machine in MB."""
    return int(docker("inspect", "-f", "{{.HostConfig.Memory}}", site.container(node))) // 2**20


def assert_nothing_is_doubled(site: Site) -> None:
    """Assert that each node has one machine and one swarm entry, and that only the two services exist."""
    assert sorted(site.machines()) == sorted(site.container(node) for node in site.nodes)
    assert sorted(site.swarm("node", "ls", "--format", "{{.Hostname}}").split()) == list(site.nodes)
    assert sorted(site.swarm("service", "ls", "--format", "{{.Name}}").split()) == ["backend", "proxy"]
    folders = sorted(path.name for path in (site.state / PROJECT / "work" / site.stack / "machines").iterdir())
    assert folders == list(site.nodes)

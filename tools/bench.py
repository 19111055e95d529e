"""Figures, each against a yardstick of the same run.

up: the whole stack from nothing, against tests/bench/baseline.sh; second up: `pulumi up` without a change, against
that of an empty program; content change: from the start of `pulumi up` until all nodes have it, against the same;
preview: of a new stack of 100 nodes, against one of 10, in seconds and in memory (the most that engine, plugins and
program hold at once, each with what it shares with others).

Everything happens in a copy of the tree with a state folder, a stack and networks of its own, and is taken away at the
end. Progress goes to stderr, the figures to stdout.
"""

import argparse
import contextlib
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.table import Table

from components.config import folder_hash
from components.rendering import TEMPLATES
from tests.e2e.site import CONTENT, UP_SECONDS, Site, alone
from tools import stack
from tools.stack import ToolError

STACK = "bench"
NETWORK = "192.168.64.0/24"
ROUNDS = 3
BASELINE = stack.ROOT / "tests" / "bench" / "baseline.sh"
UP = ". ./.env && python -m tools.up"
PULUMI_UP = f". ./.env && pulumi up --yes --skip-preview --suppress-outputs --stack {STACK}"
EMPTY = "swarm-site-bench-empty"
EMPTY_UP = f". ./.env && pulumi up --yes --skip-preview --suppress-outputs --stack {STACK} --cwd ../{EMPTY}"
PREVIEW = f". ./.env && pulumi preview --json --stack {STACK}"
FEW, MANY = 10, 100
MEMORY_SECONDS = 0.05
DIGITS = {"s": 2, "MB": 0}
QUIET_LOAD = 1.0
TABLE_WIDTH = 90

# On a node, without a process for each look: until the link leads to the release.
WATCH = f"exec 9<> <(:); until [[ {CONTENT}/current -ef {CONTENT}/releases/$0 ]]; do read -rt 0.02 -u 9 || :; done"


@dataclass
class Figure:
    """Samples of what is measured and of its yardstick, round by round; the target is for one of their relations."""

    name: str
    yardstick: str
    unit: str = "s"
    samples: list[float] = field(default_factory=list)
    against: list[float] = field(default_factory=list)
    most_ratio: float | None = None
    most_difference: float | None = None

    @property
    def median(self) -> float:
        """The median of what is measured."""
        return statistics.median(self.samples)

    @property
    def yardstick_median(self) -> float:
        """The median of its yardstick."""
        return statistics.median(self.against)

    @property
    def ratio(self) -> float:
        """How many times its yardstick it is."""
        return self.median / self.yardstick_median

    @property
    def difference(self) -> float:
        """How much more than its yardstick it is."""
        return self.median - self.yardstick_median

    @property
    def target(self) -> str:
        """The target in words."""
        if self.most_ratio is not None:
            return f"≤ {self.most_ratio:.2f}"
        if self.most_difference is not None:
            return f"≤ {self.most_difference:g} {self.unit}"
        return "none"

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.most_ratio is not None:
            return self.ratio <= self.most_ratio
        if self.most_difference is not None:
            return self.difference <= self.most_difference
        return None


def bench() -> int:
    """Measure, round by round, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each figure (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    loads = [os.getloadavg()[0]]
    if loads[0] > QUIET_LOAD:
        say(f"this machine is busy (load {loads[0]:.1f}), and the figures show it")
    try:
        with alone(STACK), site() as place:
            figures = measure(place, options.rounds, loads)
    except AssertionError as error:
        raise ToolError(str(error)) from error
    except KeyboardInterrupt:
        say("interrupted; everything is taken away")
        return 130
    if options.json:
        print(json.dumps({"load": loads, "figures": [as_json(figure) for figure in figures]}, indent=2))
    else:
        console = Console()
        console.width = max(console.width, TABLE_WIDTH)  # cut off figures are none
        console.print(table(figures))
    return 0


def measure(place: Site, rounds: int, loads: list[float]) -> Sequence[Figure]:
    """Take all samples, each beside its yardstick's; `loads` gets the machine's load after each round."""
    up = Figure("up", "shell script", most_ratio=1.10)
    again = Figure("second up", "empty program")
    change = Figure("content change", "empty program", most_difference=2.0)
    preview = Figure(f"preview, {MANY} nodes", f"{FEW} nodes", most_ratio=MANY / FEW)
    memory = Figure("its memory", f"{FEW} nodes", unit="MB", most_ratio=MANY / FEW)
    say("once without a clock, so that images and engine are there")
    with quietly():
        place.up()
        make_empty_program(place)
        place.down()
    for number in range(1, rounds + 1):
        up.against.append(baseline(place))
        with quietly():
            place.run("setup", "tools/setup up", seconds=UP_SECONDS)
        for count, times, peaks in (
            (FEW, preview.against, memory.against),
            (MANY, preview.samples, memory.samples),
        ):
            place.configure({"machines": {"count": count}})
            times.append(timed(place, PREVIEW, peaks))
        place.configure({})
        up.samples.append(timed(place, UP))
        again.against.append(timed(place, EMPTY_UP))
        again.samples.append(timed(place, PULUMI_UP))
        change.against.append(timed(place, EMPTY_UP))
        change.samples.append(change_content(place, number))
        with quietly():
            place.down()
        loads.append(os.getloadavg()[0])
        pairs = [
            f"{figure.name} {figure.samples[-1]:.{DIGITS[figure.unit]}f} : "
            f"{figure.against[-1]:.{DIGITS[figure.unit]}f} {figure.unit}"
            for figure in (up, again, change, preview, memory)
        ]
        say(f"round {number} of {rounds}: {', '.join(pairs)}")
    return up, again, change, preview, memory


# --- what is measured -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A site of this run's own; nothing of it is left, however the run ends."""
    with tempfile.TemporaryDirectory(prefix="swarm-site-bench-", ignore_cleanup_errors=True) as folder:
        place = Site(Path(folder), Path(folder) / "logs", STACK, NETWORK)
        place.sweep()
        try:
            yield place
        except BaseException:
            with undisturbed():
                say("taking everything away")
                with contextlib.suppress(Exception), quietly():
                    place.down()
            raise
        finally:
            with undisturbed():
                place.sweep()
                forget_empty_program()


def baseline(place: Site) -> float:
    """The seconds in which the plain script does the work of `up`; takes away what it made."""
    log = place.logs / "baseline.log"
    environment = place.environment | baseline_inputs() | {"BASELINE_FOLDER": str(place.folder / "baseline")}
    try:
        return seconds_of([str(BASELINE)], place.clone, environment, log)
    finally:
        with undisturbed():
            seconds_of([str(BASELINE), "down"], place.clone, environment, log)


def baseline_inputs() -> dict[str, str]:
    """The images of the product, so that the script spends no time on their names."""
    node, nginx = (folder_hash(TEMPLATES / "images" / name)[:12] for name in ("node", "nginx"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / stack.PROJECT
    return {
        "NODE_IMAGE": f"localhost/site/node:{node}",
        "NGINX_IMAGE": f"localhost:1/site-nginx:{nginx}",
        "NGINX_ARCHIVE": str(cache / "images" / f"site-nginx-{nginx}.tar"),
    }


def timed(place: Site, command: str, peaks: list[float] | None = None) -> float:
    """The seconds that a line of bash takes in the copy; `peaks` gets the most memory it held."""
    return seconds_of(["bash", "-c", command], place.clone, place.environment, place.logs / "timed.log", peaks)


def change_content(place: Site, number: int) -> float:
    """The seconds from the start of `pulumi up` until every node serves a new release."""
    (place.clone / "site" / "index.html").write_text(f"hello world, round {number}\n")
    release = folder_hash(place.clone / "site")

    def seen(node: str) -> float:
        place.on_node(node, "bash", "-c", WATCH, release)
        return time.monotonic()

    with ThreadPoolExecutor() as pool:
        moments = [pool.submit(seen, node) for node in place.nodes]
        time.sleep(1)  # until all of them watch
        begin = time.monotonic()
        timed(place, PULUMI_UP)
        return max(moment.result() for moment in moments) - begin


def make_empty_program(place: Site) -> None:
    """Make a Python program without resources that runs as the product's does: same engine, same environment."""
    folder = place.folder / EMPTY
    folder.mkdir()
    (folder / "__main__.py").touch()
    environment = json.dumps(str((stack.ROOT / ".venv").resolve()))
    (folder / "Pulumi.yaml").write_text(
        f"name: {EMPTY}\nruntime:\n  name: python\n  options:\n    virtualenv: {environment}\n"
    )
    place.run("empty", f". ./.env && pulumi stack init --cwd ../{EMPTY} {STACK}", seconds=UP_SECONDS)
    place.run("empty", EMPTY_UP, seconds=UP_SECONDS)


def forget_empty_program() -> None:
    """Remove what the engine keeps in its own folder of the empty program; its state is in the site's."""
    for log in Path(os.environ.get("PULUMI_HOME", "~/.pulumi")).expanduser().glob(f"logs/*+{EMPTY}+*"):
        log.unlink()


# --- commands ---------------------------------------------------------------------------------------------------------


def seconds_of(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, peaks: list[float] | None = None
) -> float:
    """Run a command to its end; ends it and all its children if this tool is interrupted.

    Args:
        words: the command.
        folder: where it runs.
        environment: its variables.
        log: what it says.
        peaks: gets the most memory that it and its children held at once, in MB.

    Returns:
        How long it took; `subprocess` waits for one with a time limit in steps of 50 ms, so there is none.

    Raises:
        ToolError: it failed; with the end of what it said.
    """
    with log.open("w") as output:
        begin = time.monotonic()
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        ended, most = threading.Event(), [0.0]
        watch = threading.Thread(target=watch_memory, args=(process.pid, ended, most))
        if peaks is not None:
            watch.start()
        try:
            status = process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            ended.set()
        seconds = time.monotonic() - begin
    if peaks is not None:
        watch.join()
        peaks.append(most[0])
    if status != 0:
        raise ToolError(f"{words[-1]} failed:\n{log.read_text(errors='replace')[-4000:]}")
    return seconds


def watch_memory(session: int, ended: threading.Event, most: list[float]) -> None:
    """Keep in `most` the largest sum of the resident memory, in MB, of the processes of a session until it ended."""
    while not ended.wait(MEMORY_SECONDS):
        pages = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(folder.name)) == session:
                    pages += int((folder / "statm").read_text().split()[1])
        most[0] = max(most[0], pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What is printed is shown only if it ends in a failure, and on stderr."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    except Exception:
        say(said.getvalue())
        raise


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C waits until what was made is taken away."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda *_: say("taking everything away; a moment")) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def interrupt(*_: object) -> NoReturn:
    """Treat a signal as Ctrl-C."""
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Progress goes to stderr: stdout belongs to the figures."""
    print(text, file=sys.stderr, flush=True)


# --- figures ----------------------------------------------------------------------------------------------------------


def table(figures: Sequence[Figure]) -> Table:
    """The figures as a table for a person."""
    result = Table("", "median", "yardstick", "median", "ratio", "more", "target", box=box.SIMPLE_HEAD, show_edge=False)
    for column in result.columns:
        column.no_wrap = True
    verdicts = {True: " met", False: " missed", None: ""}
    for figure in figures:
        result.add_row(
            figure.name,
            f"{figure.median:.{DIGITS[figure.unit]}f} {figure.unit}",
            figure.yardstick,
            f"{figure.yardstick_median:.{DIGITS[figure.unit]}f} {figure.unit}",
            f"{figure.ratio:.2f}",
            f"{figure.difference:+.{DIGITS[figure.unit]}f} {figure.unit}",
            figure.target + verdicts[figure.is_met],
        )
    return result


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure with its samples."""
    return {
        "name": figure.name,
        "yardstick": figure.yardstick,
        "unit": figure.unit,
        "samples": figure.samples,
        "yardstick_samples": figure.against,
        "median": figure.median,
        "yardstick_median": figure.yardstick_median,
        "ratio": figure.ratio,
        "difference": figure.difference,
        "target": figure.target,
        "met": figure.is_met,
    }


if __name__ == "__main__":
    stack.main(bench)

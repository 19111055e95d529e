"""Measure the product, each figure against a yardstick of the same run: `make bench`.

up: the whole stack from nothing, against tests/bench/baseline.sh; second up: `pulumi up` without a change, against
that of an empty program; content change: from the start of `pulumi up` until all nodes have it, against the same; one
byte of 2 GB, one of 5,000 files: an `up` after such a change of a large site, against one without a change, in seconds
and in memory; preview: of a new stack of 100 nodes, against one of 10, in seconds and in memory. Memory is the peak of
engine, plugins and program together, shared pages counted for each.

It works in a copy of the tree with its own state folder, stack and networks, and removes everything at the end.
Progress goes to stderr, the figures to stdout.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
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

from components.contract import PROJECT
from components.release import release_hash
from tests.bench import inputs
from tests.e2e.site import CONTENT, UP_SECONDS, Site, alone
from tools import stack
from tools.stack import ToolError

STACK = "bench"
NETWORK = "192.168.64.0/24"
ROUNDS = 3
BASELINE = Path(__file__).parent / "baseline.sh"
UP = ". ./.env && python -m tools.up"
PULUMI_UP = f". ./.env && pulumi up --yes --skip-preview --suppress-outputs --stack {STACK}"
EMPTY = "swarm-site-bench-empty"
EMPTY_UP = f". ./.env && pulumi up --yes --skip-preview --suppress-outputs --stack {STACK} --cwd ../{EMPTY}"
PREVIEW = f". ./.env && pulumi preview --json --stack {STACK}"
FEW, MANY = 10, 100
LARGE_BYTES, FILES = 2 * 10**9, 5000
MEMORY_SECONDS = 0.05
DIGITS = {"s": 2, "MB": 0}
QUIET_LOAD = 1.0
TABLE_WIDTH = 90

# Runs on a node until the link points to the release; starts no process while it polls.
WATCH = f"exec 9<> <(:); until [[ {CONTENT}/current -ef {CONTENT}/releases/$0 ]]; do read -rt 0.02 -u 9 || :; done"


@dataclass
class Figure:
    """Samples of a figure and of its yardstick, round by round; the target bounds their ratio or their difference."""

    name: str
    yardstick: str
    unit: str = "s"
    samples: list[float] = field(default_factory=list)
    against: list[float] = field(default_factory=list)
    most_ratio: float | None = None
    most_difference: float | None = None

    @property
    def median(self) -> float:
        """The median of the figure."""
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
        """The target as text."""
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
    """Measure round by round and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each figure (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupt)
    loads = [os.getloadavg()[0]]
    if loads[0] > QUIET_LOAD:
        say(f"this machine is busy (load {loads[0]:.1f}); the figures will show it")
    try:
        with alone(STACK), site() as place:
            figures = measure(place, options.rounds, loads)
    except AssertionError as error:
        raise ToolError(str(error)) from error
    except KeyboardInterrupt:
        say("interrupted; everything was removed")
        return 130
    if options.json:
        print(json.dumps({"load": loads, "figures": [as_json(figure) for figure in figures]}, indent=2))
    else:
        console = Console()
        console.width = max(console.width, TABLE_WIDTH)  # a narrow table would truncate figures
        console.print(table(figures))
    return 0


def measure(place: Site, rounds: int, loads: list[float]) -> Sequence[Figure]:
    """Take all samples, each next to its yardstick's; appends the machine's load after each round to `loads`."""
    up = Figure("up", "shell script", most_ratio=1.10)
    again = Figure("second up", "empty program")
    change = Figure("content change", "empty program", most_difference=2.0)
    preview = Figure(f"preview, {MANY} nodes", f"{FEW} nodes", most_ratio=MANY / FEW)
    memory = Figure("its memory", f"{FEW} nodes", unit="MB", most_ratio=MANY / FEW)
    byte = Figure("one byte of 2 GB", "no change", most_difference=2.0)
    file = Figure(f"one of {FILES:,} files", "no change", most_difference=2.0)
    byte_memory = Figure("memory, one byte", "no change", unit="MB", most_difference=150)
    file_memory = Figure("memory, one file", "no change", unit="MB", most_difference=150)
    figures = up, again, change, byte, byte_memory, file, file_memory, preview, memory
    say("warming up: images and engine")
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
        large, last = enlarge_content(place)
        for changed, seconds, megabytes in ((large, byte, byte_memory), (last, file, file_memory)):
            seconds.against.append(timed(place, PULUMI_UP, megabytes.against))
            change_byte(changed, number)
            seconds.samples.append(timed(place, PULUMI_UP, megabytes.samples))
        with quietly():
            place.down()
        shutil.rmtree(large.parent)
        loads.append(os.getloadavg()[0])
        pairs = [
            f"{figure.name} {figure.samples[-1]:.{DIGITS[figure.unit]}f} : "
            f"{figure.against[-1]:.{DIGITS[figure.unit]}f} {figure.unit}"
            for figure in figures
        ]
        say(f"round {number} of {rounds}: {', '.join(pairs)}")
    return figures


# --- what is measured -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A site of this run's own; it is removed however the run ends."""
    with tempfile.TemporaryDirectory(prefix="swarm-site-bench-", ignore_cleanup_errors=True) as folder:
        place = Site(Path(folder), Path(folder) / "logs", STACK, NETWORK)
        place.sweep()
        try:
            yield place
        except BaseException:
            with undisturbed():
                say("removing everything")
                with contextlib.suppress(Exception), quietly():
                    place.down()
            raise
        finally:
            with undisturbed():
                place.sweep()
                forget_empty_program()


def baseline(place: Site) -> float:
    """The seconds that the plain script takes for the work of `up`; its machines are removed afterwards."""
    log = place.logs / "baseline.log"
    given = inputs.write(place.folder / "rendered")  # the script spends no time on what is the product's
    environment = place.environment | given | {"BASELINE_FOLDER": str(place.folder / "baseline")}
    try:
        return seconds_of([str(BASELINE)], place.clone, environment, log)
    finally:
        with undisturbed():
            seconds_of([str(BASELINE), "down"], place.clone, environment, log)


def timed(place: Site, command: str, peaks: list[float] | None = None) -> float:
    """The seconds that a line of bash takes in the copy; appends its peak memory in MB to `peaks`."""
    return seconds_of(["bash", "-c", command], place.clone, place.environment, place.logs / "timed.log", peaks)


def change_content(place: Site, number: int) -> float:
    """The seconds from the start of `pulumi up` until every node serves a new release."""
    (place.clone / "site" / "index.html").write_text(f"hello world, round {number}\n")
    release = release_hash(place.clone / "site")

    def served(node: str) -> float:
        place.on_node(node, "bash", "-c", WATCH, release)
        return time.monotonic()

    with ThreadPoolExecutor() as pool:
        moments = [pool.submit(served, node) for node in place.nodes]
        time.sleep(1)  # until all of them poll
        begin = time.monotonic()
        timed(place, PULUMI_UP)
        return max(moment.result() for moment in moments) - begin


def enlarge_content(place: Site) -> tuple[Path, Path]:
    """Deliver a large file and many small ones; return that file and one of the others."""
    folder = place.clone / "site" / "large"
    folder.mkdir()
    block = os.urandom(2**20)
    with (folder / "archive").open("wb") as file:
        while (left := LARGE_BYTES - file.tell()) > 0:
            file.write(block[:left])
    for number in range(FILES):
        (folder / f"{number}.html").write_text(f"page {number}\n")
    timed(place, PULUMI_UP)
    return folder / "archive", folder / f"{FILES - 1}.html"


def change_byte(path: Path, number: int) -> None:
    """Change the first byte of a file."""
    with path.open("r+b") as file:
        file.write(bytes([number]))


def make_empty_program(place: Site) -> None:
    """Create a Python program without resources that runs like the product's: same engine, same environment."""
    folder = place.folder / EMPTY
    folder.mkdir()
    (folder / "__main__.py").touch()
    environment = json.dumps(str((PROJECT / ".venv").resolve()))
    (folder / "Pulumi.yaml").write_text(
        f"name: {EMPTY}\nruntime:\n  name: python\n  options:\n    virtualenv: {environment}\n"
    )
    place.run("empty", f". ./.env && pulumi stack init --cwd ../{EMPTY} {STACK}", seconds=UP_SECONDS)
    place.run("empty", EMPTY_UP, seconds=UP_SECONDS)


def forget_empty_program() -> None:
    """Remove the engine's logs of the empty program; its state goes with the site's."""
    for log in Path(os.environ.get("PULUMI_HOME", "~/.pulumi")).expanduser().glob(f"logs/*+{EMPTY}+*"):
        log.unlink()


# --- commands ---------------------------------------------------------------------------------------------------------


def seconds_of(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, peaks: list[float] | None = None
) -> float:
    """Run a command to its end; kill it with all its children if this tool is interrupted.

    There is no time limit: with one, `subprocess` would poll in steps of 50 ms.

    Args:
        command: its arguments.
        folder: where it runs.
        environment: its variables.
        log: the file for its output.
        peaks: gets the peak memory of the command and its children together, in MB.

    Returns:
        How long it took, in seconds.

    Raises:
        ToolError: it failed; with the end of its output.
    """
    with log.open("w") as output:
        begin = time.monotonic()
        process = subprocess.Popen(
            command,
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
        raise ToolError(f"{command[-1]} failed:\n{log.read_text(errors='replace')[-4000:]}")
    return seconds


def watch_memory(session: int, ended: threading.Event, most: list[float]) -> None:
    """Keep in `most` the peak of a session's resident memory in MB, until `ended` is set."""
    while not ended.wait(MEMORY_SECONDS):
        pages = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(folder.name)) == session:
                    pages += int((folder / "statm").read_text().split()[1])
        most[0] = max(most[0], pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Hold back stdout; on a failure, print it to stderr."""
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(held):
            yield
    except Exception:
        say(held.getvalue())
        raise


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C until everything is removed."""
    signums = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(signum, lambda *_: say("still removing everything")) for signum in signums]
    try:
        yield
    finally:
        for signum, handler in zip(signums, before, strict=True):
            signal.signal(signum, handler)


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

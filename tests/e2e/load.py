"""Visitors that send requests while a test changes the site: every response is recorded, every failure reported."""

import http.client
import itertools
import json
import re
import select
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ANSWER_SECONDS = 15
"""How long a visitor waits for a response before the request counts as failed."""
PAUSE_SECONDS = 0.03
"""The pause between a visitor's requests: the load watches the site, it does not benchmark it."""
LONGEST_SECONDS = 400
MOST_REQUESTS = 100_000
A_FEW = 10
FAILURES_SHOWN = 10
HUNG_UP = ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError")
"""The errors of a request sent just as the proxy closes an idle connection."""


@dataclass(frozen=True)
class Visitor:
    """A client that sends requests repeatedly, on one connection or on a new one each time."""

    method: str
    kept_alive: bool

    @property
    def name(self) -> str:
        """The visitor's name in the record."""
        return f"{'kept-alive' if self.kept_alive else 'fresh'} {self.method}"


GETTERS = (Visitor("GET", False), Visitor("GET", True)) * 2
EVERYBODY = (*GETTERS, Visitor("POST", False), Visitor("POST", True))


@dataclass(frozen=True)
class Answer:
    """The result of one request. `at` is in seconds since the load began; `error` is empty on success."""

    at: float
    seconds: float
    visitor: str
    url: str
    status: int
    error: str
    backend: str = ""
    proxy: str = ""


@dataclass
class Record:
    """All requests, and the marks set meanwhile."""

    name: str
    kinds: int = 0
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0
    answers: list[Answer] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    _zero: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self._zero

    def mark(self, what: str) -> None:
        """Record that something was done to the site now."""
        self.marks.append((self.now(), what))

    def of(self, method: str) -> "Record":
        """Return the part of the record for one method."""
        answers = [answer for answer in self.answers if answer.visitor.endswith(f" {method}")]
        return Record(f"{self.name}, {method}", self.kinds, self.begun, self.seconds, answers, self.marks)

    def goes_on(self) -> bool:
        """Whether every kind of visitor has a few responses since the last mark."""
        begin = self.marks[-1][0] if self.marks else 0.0
        counts = Counter((answer.visitor, answer.url) for answer in self.answers if answer.at >= begin)
        return len(counts) == self.kinds and min(counts.values()) >= A_FEW

    @property
    def sent(self) -> int:
        """The number of requests."""
        return len(self.answers)

    @property
    def failures(self) -> Sequence[Answer]:
        """The failed requests."""
        return [answer for answer in self.answers if answer.error]

    @property
    def failed(self) -> int:
        """The number of failed requests."""
        return len(self.failures)

    def lost_none(self, reloads: int) -> bool:
        """Whether no request was lost while `reloads` proxies each reloaded their configuration once.

        On a reload, nginx closes idle connections, even if the next request is already on its way: once per
        connection. Any browser retries on a new connection; these visitors record a failure.
        """
        hung_up = [a for a in self.failures if a.visitor.startswith("kept-alive") and a.error.startswith(HUNG_UP)]
        methods = {answer.visitor.split()[1] for answer in self.answers}
        kept = sum(visitor.kept_alive and visitor.method in methods for visitor in EVERYBODY)
        return self.failed == len(hung_up) <= kept * reloads

    @property
    def longest_gap(self) -> float:
        """The longest time without a successful response, in seconds."""
        good = sorted(answer.at + answer.seconds for answer in self.answers if not answer.error)
        return max(after - before for before, after in itertools.pairwise([0, *good, max(self.seconds, *good, 0)]))

    @property
    def slowest(self) -> float:
        """The longest time that any request took, in seconds."""
        return max((answer.seconds for answer in self.answers), default=0)

    def backends(self, since: str | None = None) -> Counter[str]:
        """Count the responses of each backend, since a mark or from the start."""
        begin = max((at for at, what in self.marks if what == since), default=0.0)
        return Counter(answer.backend for answer in self.answers if answer.backend and answer.at >= begin)

    def __repr__(self) -> str:
        statuses = dict(Counter(answer.status for answer in self.answers))
        lines = [
            f"{self.name}: {self.sent} sent, {self.failed} failed, longest gap {self.longest_gap:.2f} s, slowest "
            f"{self.slowest:.2f} s, {self.seconds:.0f} s in all, statuses {statuses}, backends {dict(self.backends())}",
            *(f"  {at:.2f} s: {what}" for at, what in self.marks),
            *(f"  {a.at:.2f} s: {a.visitor} {a.url}: {a.error}" for a in self.failures[:FAILURES_SHOWN]),
        ]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write the record as JSON, from which responses per second can be plotted."""
        data = {
            "name": self.name,
            "begun": self.begun.isoformat(),
            "seconds": round(self.seconds, 3),
            "sent": self.sent,
            "failed": self.failed,
            "longest_gap": round(self.longest_gap, 3),
            "slowest": round(self.slowest, 3),
            "statuses": Counter(answer.status for answer in self.answers),
            "backends": self.backends(),
            "proxies": Counter(answer.proxy for answer in self.answers if answer.proxy),
            "marks": [{"at": round(at, 3), "what": what} for at, what in self.marks],
            "answers": [
                {
                    "at": round(a.at, 3),
                    "seconds": round(a.seconds, 4),
                    "visitor": a.visitor,
                    "status": a.status,
                    "error": a.error,
                    "backend": a.backend,
                    "proxy": a.proxy,
                }
                for a in sorted(self.answers, key=lambda a: a.at)
            ],
        }
        (folder / f"load-{self.name.replace(' ', '-')}.json").write_text(json.dumps(data))


@contextmanager
def load(
    name: str,
    urls: Sequence[str],
    *,
    folder: Path,
    pages: Collection[bytes] = (),
    visitors: Sequence[Visitor] = EVERYBODY,
) -> Iterator[Record]:
    """Send requests to all urls repeatedly until the block ends.

    Args:
        name: name of the record and its file.
        urls: the URLs; each gets its own visitors.
        folder: the folder for the record, `load-NAME.json`.
        pages: the complete bodies that a GET may return; any body if empty.
        visitors: the visitors for each URL.

    Raises:
        AssertionError: the load reached its time or request limit before the block ended, so the rest went unwatched.
    """
    record = Record(name, len(urls) * len(set(visitors)))
    stop = threading.Event()
    threads = [
        threading.Thread(target=_visit, args=(visitor, url, record, frozenset(pages), stop), daemon=True)
        for url in urls
        for visitor in visitors
    ]
    for thread in threads:
        thread.start()
    try:
        yield record
    finally:
        unwatched = not all(thread.is_alive() for thread in threads)
        stop.set()
        for thread in threads:
            thread.join(2 * ANSWER_SECONDS)
        record.seconds = record.now()
        record.write(folder)
        print(record)
    assert not unwatched, f"the load ended before what it was to watch: {record}"


@dataclass
class Reading:
    """Page loads that include the file a page names; `broken` describes each incomplete one."""

    loads: int = 0
    broken: list[str] = field(default_factory=list)


@contextmanager
def readers(urls: Sequence[str], named: re.Pattern[str]) -> Iterator[Reading]:
    """Load pages, each with the file it names, until the block ends.

    Args:
        urls: the URLs; each gets two visitors.
        named: a pattern whose first group is the path of that file in a page.
    """
    reading, stop = Reading(), threading.Event()
    threads = [
        threading.Thread(target=_read, args=(url, named, reading, stop), daemon=True) for url in urls for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        yield reading
    finally:
        stop.set()
        for thread in threads:
            thread.join(2 * ANSWER_SECONDS)


def _read(url: str, named: re.Pattern[str], reading: Reading, stop: threading.Event) -> None:
    while not stop.is_set() and reading.loads < MOST_REQUESTS:
        path = "/"
        try:
            page = _get(url, path)
            found = named.search(page)
            path = found[1] if found else "a page that names nothing"
            _get(url, path)
        except (OSError, http.client.HTTPException) as fault:
            reading.broken.append(f"{url} {path}: {type(fault).__name__}: {fault}")
        reading.loads += 1
        stop.wait(PAUSE_SECONDS)


def _get(url: str, path: str) -> str:
    """Fetch a file on a new connection, so that the next one may come from another backend."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    finally:
        connection.close()
    if response.status != 200:
        raise http.client.HTTPException(f"status {response.status} of {response.headers.get('X-Backend')}")
    return text


def _visit(visitor: Visitor, url: str, record: Record, pages: frozenset[bytes], stop: threading.Event) -> None:
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=ANSWER_SECONDS)
    try:
        while not stop.is_set() and record.now() < LONGEST_SECONDS and record.sent < MOST_REQUESTS:
            if _has_hung_up(connection):
                connection.close()
            answer = _ask(visitor, connection, place.path or "/", url, record, pages)
            record.answers.append(answer)
            if answer.error or not visitor.kept_alive:
                connection.close()
            stop.wait(PAUSE_SECONDS)
    finally:
        connection.close()


def _has_hung_up(connection: http.client.HTTPConnection) -> bool:
    """Whether the server closed the idle connection: any client checks before it reuses one, and opens a new one."""
    return connection.sock is not None and bool(select.select([connection.sock], [], [], 0)[0])


def _ask(
    visitor: Visitor,
    connection: http.client.HTTPConnection,
    path: str,
    url: str,
    record: Record,
    pages: frozenset[bytes],
) -> Answer:
    begin = record.now()
    try:
        # No body: a file server responds before reading it, and nginx then closes the connection on a client that still
        # sends.
        connection.request(visitor.method, path, headers={"Content-Length": "0"} if visitor.method == "POST" else {})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as fault:
        return Answer(begin, record.now() - begin, visitor.name, url, 0, f"{type(fault).__name__}: {fault}")
    backend, proxy = response.headers.get("X-Backend", ""), response.headers.get("X-Proxy", "")
    # The backend serves files and rejects a POST itself: that is a response, so no request was lost.
    expected = 200 if visitor.method == "GET" else 405
    error = ""
    if response.status != expected or not backend or not proxy:
        error = f"status {response.status}, X-Backend {backend!r}, X-Proxy {proxy!r}: {body[:80]!r}"
    elif visitor.method == "GET" and pages and body not in pages:
        error = f"a page that nobody wrote: {body[:80]!r}"
    return Answer(begin, record.now() - begin, visitor.name, url, response.status, error, backend, proxy)

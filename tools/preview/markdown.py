"""Markdown for untrusted text: it can't mention anyone, link anywhere or close a block. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from tools.preview.comparison import natural

SHOWN_NAMES = 12
CUT_LINE = "… cut off here"


def ranges(names: Iterable[str]) -> Sequence[Sequence[str]]:
    """Return sorted names in runs; three or more consecutive numbers become the first and the last."""
    runs: list[list[str]] = []
    for name in sorted(set(names), key=natural):
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return [part for run in runs for part in ([run[:1], run[1:]] if len(run) == 2 else [[run[0], run[-1]][: len(run)]])]


def _follows(before: str, after: str) -> bool:
    left, right = (re.fullmatch(r"(.*?)(\d+)", name) for name in (before, after))
    return bool(left and right and left[1] == right[1] and int(left[2]) + 1 == int(right[2]))


def listed(names: Iterable[str], most: int = SHOWN_NAMES) -> str:
    """Return names as code spans, at most `most` of them."""
    runs = [" to ".join(map(code, run)) for run in ranges(names)]
    more = [f"{len(runs) - most} more"] if len(runs) > most else []
    return ", ".join([*runs[:most], *more])


def code(text: str) -> str:
    """Return an untrusted name as a code span."""
    return f"`{re.sub(r'[^0-9A-Za-z._/: -]', '_', text)[:80]}`"


def fence(text: str, language: str = "text") -> str:
    """Return untrusted text in a code fence it can't close."""
    text = printable(text).rstrip("\n")
    marks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{marks}{language}\n{text}\n{marks}\n"


def printable(text: str) -> str:
    """Return a text with control and formatting characters, which hide or reorder others, as code points.

    Long runs of backticks are replaced too: they would need an even longer fence.
    """

    def shown(found: re.Match[str]) -> str:
        hidden = unicodedata.category(found[0]) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        return f"\\u{ord(found[0]):04x}" if hidden else found[0]

    text = re.sub(r"[^\n\t -~]", shown, text)
    return re.sub("`{20,}", lambda run: f"({len(run[0])} backticks)", text)


def cut(text: str, size: int) -> str:
    """Return the lines that fit into `size` bytes, and CUT_LINE if some do not."""
    text = printable(text)
    if len(text.encode()) <= size:
        return text
    kept = text.encode()[:size].decode(errors="ignore")
    return f"{kept.rpartition(chr(10))[0] or kept}\n{CUT_LINE}"


def folded(summary: str, text: str) -> str:
    """Return a collapsed text that expands on click."""
    return f"<details>\n<summary>{summary}</summary>\n\n{text}\n</details>\n"

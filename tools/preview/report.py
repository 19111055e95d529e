"""The effect of a change on a stack, in Markdown for a pull request.

Pure. Everything from the previewed tree (names, values, files, errors) is untrusted: it goes into code fences and code
spans, where it can't mention anyone, link anywhere or close a block.
"""

import re
from collections.abc import Iterator, Sequence

from tools.preview.comparison import (
    Change,
    FileDiff,
    InputChange,
    Kind,
    Resources,
    any_node,
    compare,
    file_diffs,
    file_name,
)
from tools.preview.effects import Effects, effects, verb
from tools.preview.markdown import CUT_LINE, cut, fence, folded, listed, printable, ranges

LIMIT = 65_000
"""Size limit of a report in bytes. GitHub accepts 65,536 characters; the rest is for the poster's own text."""
RESERVE = 800
"""Bytes for the report's headings and the line that names what was cut."""
MIN_DIFFERENCE = 1500
"""Minimum bytes per difference, however many there are."""
SHOWN_VALUE = 160
"""Maximum characters shown of a value."""
KINDS: Sequence[Kind] = ("added", "replaced", "updated", "removed")
HASH = re.compile(r"[0-9a-f]{64}")


def report(old: Resources | None, new: Resources, about: str, *, base_error: str = "", limit: int = LIMIT) -> str:
    """Return the whole comment.

    Args:
        old: resources of the base; None if there is nothing to compare with.
        new: resources of the change.
        about: last line: what was compared.
        base_error: output of the base's preview, if it failed.
        limit: size limit in bytes of UTF-8.
    """
    changes = compare(old or {}, new)
    meaning = effects(old or {}, new, changes)
    first = verdict(meaning)
    if base_error:
        first = (
            "**The preview of the base fails, that of this change works.** With nothing to compare, this is the whole "
            f"stack of the change. The error of the base:\n\n{fence(cut(base_error, limit // 8))}"
        )
    elif old is None:
        first = f"**A new stack:** {'; '.join(meaning.headline)}."
    notes = "\n".join(f"- {note}" for note in meaning.notes if not meaning.blocked)
    front = "\n\n".join(filter(None, [first, notes, _counts(old or {}, new, changes)]))
    diffs = file_diffs(old, new, changes) if old else []
    return _bounded(cut(front, limit // 4) + "\n", list(entries(changes, diffs)), diffs, about, limit)


def verdict(meaning: Effects) -> str:
    """Return the line a person can decide on."""
    if not meaning.headline:
        return "**Nothing changes.** A stack like the base stays as it is."
    what = "; ".join(meaning.headline)
    what = what[0].upper() + what[1:]
    if meaning.blocked:
        why = "; ".join(meaning.blocked)
        return f"**{what}. Needs `make down` first**, run on the base: {why}. No page until the next `make up`."
    visible = f"Visitors notice: {'; '.join(meaning.visible)}." if meaning.visible else "Visitors notice nothing."
    return f"**{what}.** {visible}"


def refusal(error: str, about: str, *, base_error: str = "", limit: int = LIMIT) -> str:
    """Return the comment on a change whose preview fails.

    Args:
        error: output of the engine and the program.
        about: last line: what was compared.
        base_error: output of the base's preview, if it fails too.
        limit: size limit in bytes of UTF-8.
    """
    parts = [
        f"**Refused.** The preview of this change fails, and so would `make up`:\n\n{fence(cut(error, limit // 2))}"
    ]
    if base_error:
        parts.append(f"The preview of the base fails too:\n\n{fence(cut(base_error, limit // 4))}")
    return "\n".join([*parts, about]) + "\n"


def entries(changes: Sequence[Change], diffs: Sequence[FileDiff]) -> Iterator[str]:
    """Yield what happens to each resource; resources with the same change share an entry."""
    groups: dict[tuple[str, ...], list[tuple[Change, Sequence[str]]]] = {}
    for change in changes:
        lines = [_line(change, changed, diffs) for changed in change.inputs]
        key = change.kind, *(any_node(line, change.resource.node) for line in lines)
        groups.setdefault(key, []).append((change, lines))
    for (kind, *common), members in groups.items():
        own = members[0][1]
        shown = own if all(lines == own for _, lines in members) else common
        names = ", ".join(" to ".join(run) for run in ranges(change.resource.name for change, _ in members))
        yield "\n".join([f"{kind:<9} {names}", *(f"            {line}" for line in shown)])


def _line(change: Change, changed: InputChange, diffs: Sequence[FileDiff]) -> str:
    name = file_name(change.resource, changed.path)
    if changed.replaced:
        return f"{changed.path}: {', '.join(changed.replaced)} {verb(changed.replaced, 'is', 'are')} replaced"
    if changed.is_text:
        holders = (i for i, diff in enumerate(diffs, 1) if change.resource.name in diff.files.get(name, ()))
        return f"{changed.path}: difference {next(holders, 'not shown')}"
    if all(side and HASH.fullmatch(side) for side in (changed.old, changed.new)) and change.kind == "replaced":
        return f"{changed.path}: new hash"
    return f"{changed.path}: {_value(changed.old)} → {_value(changed.new)}"


def _value(value: str | None) -> str:
    if not value:
        return "(none)" if value is None else "(empty)"
    text = f"{value[:12]}…" if HASH.fullmatch(value) else value.replace("\n", "\\n")
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}…"


def _counts(old: Resources, new: Resources, changes: Sequence[Change]) -> str:
    kinds = [(kind, sum(change.kind == kind for change in changes)) for kind in KINDS]
    stay = len(old.keys() | new.keys()) - len(changes)
    return f"Resources: {', '.join([*(f'{number} {kind}' for kind, number in kinds if number), f'{stay} unchanged'])}."


def _bounded(front: str, listing: Sequence[str], diffs: Sequence[FileDiff], about: str, limit: int) -> str:
    """Return the report within its limit: at most half the room for resources, a fair share per difference."""
    left = limit - len(f"{front}{about}".encode()) - RESERVE
    parts, short = [front], []
    if listing:
        text = printable("\n".join(listing))
        shown = cut(text, left // 2 if diffs else left)
        parts.append(folded("Resources that change", fence(shown)))
        left -= len(parts[-1].encode())
        if shown != text:
            short.append("the list of resources")
    sizes = [len(_block(i, diff, diff.texts[0]).encode()) for i, diff in enumerate(diffs, 1)]
    share = max(_share(sizes, left), MIN_DIFFERENCE)
    blocks, whole = [], 0
    for i, (diff, size) in enumerate(zip(diffs, sizes, strict=True), 1):
        text = cut(diff.texts[0], share - len(_block(i, diff, CUT_LINE).encode())) if size > share else diff.texts[0]
        block = _block(i, diff, text)
        left -= len(block.encode())
        if left < 0:
            break
        blocks.append(block)
        whole += text == diff.texts[0]
    if blocks:
        parts.append(folded("Rendered files that change", "\n".join(blocks)))
    if whole < len(diffs):
        short.append(f"{len(diffs) - whole} of {len(diffs)} differences")
    if short:
        parts.append(f"Shortened to fit into a comment: {' and '.join(short)}.\n")
    return "\n".join([*parts, about]) + "\n"


def _share(sizes: Sequence[int], room: int) -> int:
    """Return the size to cut larger items to, so that all of them fit."""
    for i, size in enumerate(sorted(sizes)):
        fair = room // (len(sizes) - i)
        if size > fair:
            return fair
        room -= size
    return max(sizes, default=0)


def _block(number: int, diff: FileDiff, text: str) -> str:
    names = [name for holders in diff.files.values() for name in holders]
    own = ", each with its own name and address" if len(diff.texts) > 1 else ""
    return f"Difference {number}: {listed(diff.files, 4)} of {listed(names, 4)}{own}\n\n{fence(text, 'diff')}"

"""What a change does to a stack, in Markdown for a pull request.

Pure. Everything that comes from the tree that is looked at (names, values, files, errors) is foreign: it stands in
code fences and code spans, where it can mention nobody, link nowhere and end nothing.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tools.comparison import (
    SERVICE,
    Change,
    FileDiff,
    InputChange,
    Kind,
    Resources,
    any_node,
    compare,
    file_diffs,
    file_name,
    natural,
)

LIMIT = 65_000
"""Bytes of a report. GitHub takes 65,536 characters of a comment; the rest is for who posts it."""
RESERVE = 800
LEAST = 1500
SHOWN_VALUE = 160
SHOWN_NAMES = 12
KINDS: Sequence[Kind] = ("added", "replaced", "updated", "removed")
HASH = re.compile(r"[0-9a-f]{64}")
CUT_LINE = "… cut off here"


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the resources of a preview say of the site."""

    addresses: Mapping[str, str]
    managers: Sequence[str]
    proxies: Sequence[str]
    port: str
    backends: int
    network: str
    provider: str

    @classmethod
    def of(cls, resources: Resources) -> "Site":
        """Read it out of the inputs; what a program does not have is empty."""
        commands = [(resource, resource.inputs) for resource in resources.values() if resource.node]
        members = [(resource.node, inputs) for resource, inputs in commands if resource.component == "Swarm"]
        proxies = {resource.node: inputs for resource, inputs in commands if resource.component == "Proxy"}
        ports = [re.search(r":(\d+)/", inputs.get("environment.STATE_URL", "")) for inputs in proxies.values()]
        every = [inputs for resource in resources.values() for inputs in [resource.inputs]]
        made_by = [re.search(r'vm\.provider "(\w+)"', inputs.get("environment.VAGRANTFILE", "")) for inputs in every]
        counts = [inputs["mode.replicated.replicas"] for inputs in every if "mode.replicated.replicas" in inputs]
        return cls(
            addresses={node: inputs.get("environment.NODE_ADDRESS", "") for node, inputs in members},
            managers=[node for node, inputs in members if inputs.get("environment.ROLE") == "manager"],
            proxies=sorted(proxies, key=natural),
            port=next((port[1] for port in ports if port), "80"),
            backends=int(counts[0]) if counts and counts[0].isdigit() else 0,
            network=next((inputs["environment.NETWORK"] for inputs in every if "environment.NETWORK" in inputs), ""),
            provider=next((found[1] for found in made_by if found), ""),
        )

    def url(self, node: str) -> str:
        """The address of a node's proxy, which visitors may use."""
        return f"http://{self.addresses.get(node, node)}{'' if self.port == '80' else f':{self.port}'}/"


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a change means.

    Attributes:
        headline: what happens, in a few words each.
        blocked: why it can't be done to a stack that stands.
        felt: what visitors notice.
        notes: how it is done.
    """

    headline: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    felt: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# --- what it means ----------------------------------------------------------------------------------------------------


def effects(old: Resources, new: Resources, changes: Sequence[Change]) -> Effects:
    """What the changes mean for the stack and its visitors."""
    result = Effects()
    before, after = Site.of(old), Site.of(new)
    if old:
        _blocked(result, before, after, changes)
    _machines(result, before, after, changes)
    _services(result, before, after, changes)
    _files(result, changes)
    if old:
        stay = {after.url(node) for node in after.proxies}
        lost = [before.url(node) for node in before.proxies if before.url(node) not in stay]
        if lost:
            result.felt.append(f"{listed(lost)} {_verb(lost, 'answers', 'answer')} no more")
    if changes and not result.headline:
        result.headline.append(_count(len(changes), "step", "changed"))
    return result


def _blocked(result: Effects, before: Site, after: Site, changes: Sequence[Change]) -> None:
    for what, was, becomes in (
        ("network", before.network, after.network),
        ("provider of the machines", before.provider, after.provider),
    ):
        if was and becomes and was != becomes:
            result.blocked.append(f"the {what} changes from {code(was)} to {code(becomes)}")
            return
    owners = {address: node for node, address in before.addresses.items() if address}
    renamed = [node for node, address in after.addresses.items() if owners.get(address, node) != node]
    if renamed:
        result.blocked.append(f"{listed(renamed)} {_verb(renamed, 'gets', 'get')} the address of another machine")
    leaving = [node for kind in ("replaced", "removed") for node in _nodes(changes, kind)]
    if len(before.managers) == 1 and before.managers[0] in leaving:
        result.blocked.append(f"{code(before.managers[0])} is the only manager, and the swarm would be lost with it")


def _machines(result: Effects, before: Site, after: Site, changes: Sequence[Change]) -> None:
    rebuilt, removed, added = (_nodes(changes, kind) for kind in ("replaced", "removed", "added"))
    for nodes, word in ((rebuilt, "rebuilt"), (removed, "removed"), (added, "added")):
        if nodes:
            result.headline.append(f"{_count(len(nodes), 'machine', word)} ({listed(nodes)})")
    stay = before.addresses.keys() & after.addresses.keys()
    for what, was, becomes in (("manager", before.managers, after.managers), ("proxy", before.proxies, after.proxies)):
        new, gone = stay & set(becomes) - set(was), stay & set(was) - set(becomes)
        if new:
            result.headline.append(f"new {what} on {listed(new)}")
        if gone:
            result.headline.append(f"no {what} on {listed(gone)} any more")
    if rebuilt:
        result.notes.append("Machines are rebuilt one at a time; none leaves before all others are whole.")
        silent = [node for node in rebuilt if node in before.proxies and node in after.proxies]
        if silent and len(before.proxies) == 1:
            result.felt.append(f"no page while {listed(silent)}, the machine of the only proxy, is rebuilt")
        elif silent:
            urls = [before.url(node) for node in silent]
            result.felt.append(f"{listed(urls)} {_verb(urls, 'is', 'are')} silent while the machine there is rebuilt")
    if removed:
        result.notes.append("A machine that goes leaves the swarm in turn; its tasks move to others first.")
    if added and before.addresses:
        result.notes.append("A new machine is opened to tasks when image and content are on it.")
    if (rebuilt or removed) and before.backends == 1:
        result.felt.append("no page for a moment if the only backend runs on a machine that leaves")


def _services(result: Effects, before: Site, after: Site, changes: Sequence[Change]) -> None:
    for change in changes:
        if change.resource.type != SERVICE:
            continue
        name = code(change.resource.inputs.get("name", change.resource.name))
        result.headline.append(f"service {name} {change.kind}")
        paths = [i.path for i in change.inputs]
        is_global = "mode.global" in change.resource.inputs
        if change.kind in ("replaced", "removed"):
            result.felt.append(f"no page while {name} is {'made anew' if change.kind == 'replaced' else 'gone'}")
        elif any(path.startswith(("taskSpec", "endpointSpec")) for path in paths) and is_global:
            result.notes.append(
                f"Each task of {name} is replaced in turn, the new one first; kept-alive connections may be closed."
            )
        elif any(path.startswith(("taskSpec", "endpointSpec")) for path in paths):
            result.notes.append(f"Each task of {name} is replaced in turn; the others answer meanwhile.")
            if min(before.backends, after.backends) < 2:
                result.felt.append(f"no page for a moment: {name} has one task, and it is restarted")
            if any(path.startswith("endpointSpec.ports") for path in paths):
                result.felt.append(f"errors until proxies and {name} agree on the port")
        if "mode.replicated.replicas" in paths:
            result.notes.append(f"{name} changes from {before.backends} to {after.backends} tasks; the others stay.")


def _files(result: Effects, changes: Sequence[Change]) -> None:
    changed = {(c.resource.component, i.path) for c in changes if c.resource.node for i in c.inputs}
    if ("Proxy", "environment.CONFIGURATION") in changed:
        result.headline.append("proxies reconfigured")
        result.notes.append("nginx tests the proxies' new configuration; then each of them reloads.")
    if ("Content", "environment.RELEASE") in changed:
        result.headline.append("new content")
        result.felt.append("the new pages")
        result.notes.append("The release is switched in one step on every node; no container is restarted.")
    again = [c for c in changes if c.kind == "updated" and any(i.path.endswith("_SCRIPT") for i in c.inputs)]
    if again:
        result.notes.append(f"{_count(len(again), 'step', 'run')} again because of a changed script.")


def _nodes(changes: Sequence[Change], kind: str) -> Sequence[str]:
    return [
        c.resource.node for c in changes if c.kind == kind and c.resource.component == "Machines" and c.resource.node
    ]


def _count(number: int, word: str, what: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'} {what}"


def _verb(items: Sequence[str], one: str, many: str) -> str:
    return one if len(items) == 1 else many


# --- Markdown ---------------------------------------------------------------------------------------------------------


def report(old: Resources | None, new: Resources, about: str, *, base_words: str = "", limit: int = LIMIT) -> str:
    """The whole comment.

    Args:
        old: the resources of the base; None if there is nothing to compare with.
        new: the resources of the change.
        about: what was compared, as the last line.
        base_words: what was said when the preview of the base failed.
        limit: how many bytes of UTF-8 it may have.
    """
    changes = compare(old or {}, new)
    meaning = effects(old or {}, new, changes)
    first = verdict(meaning)
    if base_words:
        first = (
            "**The preview of the base fails, that of this change does not.** There is nothing to compare with; "
            f"the whole stack of this change:\n\n{fence(cut(base_words, limit // 8))}"
        )
    elif old is None:
        first = f"**A new stack:** {'; '.join(meaning.headline)}."
    notes = "\n".join(f"- {note}" for note in meaning.notes if not meaning.blocked)
    front = "\n\n".join(filter(None, [first, notes, _counts(old or {}, new, changes)]))
    diffs = file_diffs(old, new, changes) if old else []
    return _bounded(cut(front, limit // 4) + "\n", list(entries(changes, diffs)), diffs, about, limit)


def verdict(meaning: Effects) -> str:
    """The line that a person can decide on."""
    if not meaning.headline:
        return "**Nothing changes.** A stack that is as the base says stays as it is."
    what = "; ".join(meaning.headline)
    what = what[0].upper() + what[1:]
    if meaning.blocked:
        why = "; ".join(meaning.blocked)
        return f"**{what}. Needs `make down` first**, with the version before: {why}. No page until the next `make up`."
    felt = f"Visitors notice: {'; '.join(meaning.felt)}." if meaning.felt else "Visitors notice nothing."
    return f"**{what}.** {felt}"


def refusal(words: str, about: str, *, base_words: str = "", limit: int = LIMIT) -> str:
    """The comment on a change whose preview fails.

    Args:
        words: what the engine and the program said.
        about: what was compared, as the last line.
        base_words: the same of the base, if its preview fails too.
        limit: how many bytes of UTF-8 it may have.
    """
    parts = [
        f"**Refused.** The preview of this change fails, and so would `make up`:\n\n{fence(cut(words, limit // 2))}"
    ]
    if base_words:
        parts.append(f"The preview of the base fails too:\n\n{fence(cut(base_words, limit // 4))}")
    return "\n".join([*parts, about]) + "\n"


def entries(changes: Sequence[Change], diffs: Sequence[FileDiff]) -> Iterator[str]:
    """What happens to each resource; those to which the same happens stand together."""
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
    if changed.anew:
        return f"{changed.path}: {', '.join(changed.anew)} {_verb(changed.anew, 'is', 'are')} made anew"
    if changed.is_text:
        holders = (i for i, diff in enumerate(diffs, 1) if change.resource.name in diff.files.get(name, ()))
        return f"{changed.path}: difference {next(holders, 'not shown')}"
    if all(side and HASH.fullmatch(side) for side in (changed.old, changed.new)) and change.kind == "replaced":
        return f"{changed.path}: another hash"
    return f"{changed.path}: {_value(changed.old)} → {_value(changed.new)}"


def _value(value: str | None) -> str:
    if not value:
        return "(none)" if value is None else "(empty)"
    text = f"{value[:12]}…" if HASH.fullmatch(value) else value.replace("\n", "\\n")
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}…"


def ranges(names: Iterable[str]) -> Sequence[Sequence[str]]:
    """Names in their order; of three or more that count on, the first and the last."""
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
    """Names as code spans, a few of them if there are many."""
    words = [" to ".join(map(code, run)) for run in ranges(names)]
    more = [f"{len(words) - most} more"] if len(words) > most else []
    return ", ".join([*words[:most], *more])


def code(text: str) -> str:
    """A foreign word as a code span."""
    return f"`{re.sub(r'[^0-9A-Za-z._/: -]', '_', text)[:80]}`"


def fence(text: str, language: str = "text") -> str:
    """Foreign lines in a code fence that they can't end."""
    text = visible(text).rstrip("\n")
    marks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{marks}{language}\n{text}\n{marks}\n"


def visible(text: str) -> str:
    """Lines without characters that hide or turn round what stands there; they are written as their numbers.

    A long run of backticks would need fences as long.
    """

    def shown(found: re.Match[str]) -> str:
        hidden = unicodedata.category(found[0]) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        return f"\\u{ord(found[0]):04x}" if hidden else found[0]

    text = re.sub(r"[^\n\t -~]", shown, text)
    return re.sub("`{20,}", lambda run: f"({len(run[0])} backticks)", text)


def cut(text: str, size: int) -> str:
    """The lines that have room in so many bytes, and a word if that is not all."""
    text = visible(text)
    if len(text.encode()) <= size:
        return text
    kept = text.encode()[:size].decode(errors="ignore")
    return f"{kept.rpartition(chr(10))[0] or kept}\n{CUT_LINE}"


def _counts(old: Resources, new: Resources, changes: Sequence[Change]) -> str:
    kinds = [(kind, sum(change.kind == kind for change in changes)) for kind in KINDS]
    stay = len(old.keys() | new.keys()) - len(changes)
    return f"Resources: {', '.join([*(f'{number} {kind}' for kind, number in kinds if number), f'{stay} unchanged'])}."


def _bounded(front: str, listing: Sequence[str], diffs: Sequence[FileDiff], about: str, limit: int) -> str:
    """Everything that has room: at most half of it for the resources, and a fair share for each difference."""
    left = limit - len(f"{front}{about}".encode()) - RESERVE
    parts, short = [front], []
    if listing:
        text = visible("\n".join(listing))
        shown = cut(text, left // 2 if diffs else left)
        parts.append(_folded("Resources that change", fence(shown)))
        left -= len(parts[-1].encode())
        if shown != text:
            short.append("the list of resources")
    sizes = [len(_block(i, diff, diff.texts[0]).encode()) for i, diff in enumerate(diffs, 1)]
    share = max(_share(sizes, left), LEAST)
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
        parts.append(_folded("Rendered files that change", "\n".join(blocks)))
    if whole < len(diffs):
        short.append(f"{len(diffs) - whole} of {len(diffs)} differences")
    if short:
        parts.append(f"Too long for a comment; cut short: {' and '.join(short)}.\n")
    return "\n".join([*parts, about]) + "\n"


def _share(sizes: Sequence[int], room: int) -> int:
    """The size to which the larger ones have to be cut, so that all together have room."""
    for i, size in enumerate(sorted(sizes)):
        fair = room // (len(sizes) - i)
        if size > fair:
            return fair
        room -= size
    return max(sizes, default=0)


def _folded(summary: str, text: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{text}\n</details>\n"


def _block(number: int, diff: FileDiff, text: str) -> str:
    names = [name for holders in diff.files.values() for name in holders]
    own = ", each with its own name and address" if len(diff.texts) > 1 else ""
    return f"Difference {number}: {listed(diff.files, 4)} of {listed(names, 4)}{own}\n\n{fence(text, 'diff')}"

"""The manual is true: its links resolve, its commands run, and the messages it quotes are in the sources."""

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.settings import SECTIONS
from tests.e2e.benchmark import CHECKS
from tests.unit.harness import ROOT
from tools import docs

README_LINES = 160
FRAGMENT_LETTERS = 12
"""Shorter fragments of a message could match anywhere."""
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("images/*.md")])
SOURCES = ("templates", "components", "tools")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MESSAGE = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
ASSIGNMENTS = re.compile(r"""([A-Z][A-Z0-9_]*=("[^"]*"|'[^']*'|\S*) )*""")
COMMAND = re.compile(r"make \S|tools/|python -m |pulumi config set ")
PATH = re.compile(r"(components|templates|tools|tests|site|docs|images|\.github|\.ci)/\S*")


def name_of(page: Path) -> str:
    """Return the test id of a page."""
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Return GitHub's anchors of the headings of a page."""
    seen = Counter[str]()
    found = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", LINK.sub("", heading).lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken_links(page: Path) -> list[str]:
    """Return the broken relative links of a page."""
    text = SPAN.sub("", FENCE.sub("", page.read_text()))
    return [link for link in LINK.findall(text) if "://" not in link and not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text()))


@every_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_to_no_file_or_no_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# The `end`, at last\n[a](#the-end-at-last) [b](#end) [c](no.md) [d](page.md#x) [e](https://a.example)\n"
    )
    assert broken_links(page) == ["#end", "no.md", "page.md#x"]


def test_the_readme_is_short_and_its_index_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= README_LINES
    index = readme.partition("\n## Documentation\n")[2].partition("\n## ")[0]
    assert {name_of(page) for page in ROOT.glob("docs/*.md")} - set(LINK.findall(index)) == set()


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a page, from fenced blocks and code spans."""
    lines = [line.strip().removeprefix("$ ") for block in FENCE.findall(text) for line in block.splitlines()[1:-1]]
    spans = [span for span in SPAN.findall(FENCE.sub("", text)) if not PATH.fullmatch(span)]
    for line in [*lines, *spans]:
        for command in line.partition(" # ")[0].split(" && "):
            if COMMAND.match(ASSIGNMENTS.sub("", command)):
                yield command.strip()


def complaint(command: str) -> str:
    """Return the fault of a command; empty if it runs as written."""
    words = shlex.split(command)
    variables = {word.partition("=")[0] for word in words if re.match(r"[A-Z][A-Z0-9_]*=", word)}
    words = [word for word in words if word.partition("=")[0] not in variables]
    if unknown := variables - known_variables():
        return f"nothing reads {', '.join(sorted(unknown))}"
    match words:
        case ["make", *targets]:
            missing = set(targets) - set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            return f"the Makefile has no target {', '.join(missing)}" if missing else ""
        case ["python", "-m", module, *_]:
            return "" if (ROOT / f"{module.replace('.', '/')}.py").is_file() else f"there is no module {module}"
        case ["pulumi", "config", "set", *arguments]:
            return _complaint_about_setting(arguments)
        case _:
            return "" if os.access(ROOT / words[0], os.X_OK) else f"{words[0]} is not executable"


def known_variables() -> set[str]:
    """Return the variables read by the Makefile, the tools and the tests on real nodes."""
    files = [ROOT / "Makefile", *ROOT.glob("tools/*"), *ROOT.glob("tools/*/*.py"), *ROOT.glob("tests/e2e/*.py")]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    return set(re.findall(r'(?:\$[({]?|environ(?:\.get\(|\[)")([A-Z][A-Z0-9_]*)', text))


def _complaint_about_setting(arguments: Sequence[str]) -> str:
    key, text = [word for word in arguments if not word.startswith("--")]
    section, *path = key.split(".")
    if path and "--path" not in arguments:
        return f"without --path, {key} is one key"
    value: Any = int(text) if text.isdigit() else text
    for name in reversed(path):
        value = {name: value}
    try:
        SECTIONS[section].validate_python(value)
    except KeyError:
        return f"{section} is no section"
    except ValidationError as error:
        return str(error)
    return ""


@every_page
def test_every_command_can_be_run_as_it_stands(page: Path) -> None:
    assert {command: words for command in commands(page.read_text()) if (words := complaint(command))} == {}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make nothing", "the Makefile has no target nothing"),
        ("make up COLOUR=blue", "nothing reads COLOUR"),
        ("COLOUR='dark blue' make e2e", "nothing reads COLOUR"),
        ('COLOUR="dark blue" make e2e', "nothing reads COLOUR"),
        ("tools/nothing up", "tools/nothing is not executable"),
        ("tools/stack.py up", "tools/stack.py is not executable"),
        ("python -m tools.nothing", "there is no module tools.nothing"),
        ("pulumi config set machines.count 5", "without --path"),
        ("pulumi config set --path machine.count 5", "machine is no section"),
        ("pulumi config set --path machines.number 5", "Extra inputs are not permitted"),
        ("pulumi config set --path machines.count 0", "greater than or equal to 1"),
        ("pulumi config set network 192.0.2.0/24", "must be a private IPv4 network"),
    ],
)
def test_a_command_that_can_not_be_run_is_found(command: str, words: str) -> None:
    text = f"```\n. ./.env && {command}   # a comment\n```\nor `{command}`\n"
    assert list(commands(text)) == [command, command]
    assert words in complaint(command)


@every_page
def test_every_path_in_a_code_span_exists(page: Path) -> None:
    spans = [span for span in SPAN.findall(FENCE.sub("", page.read_text())) if PATH.fullmatch(span)]
    spans = [span for span in spans if span != "site/"]  # the user's content
    assert [span for span in spans if not any(ROOT.glob(re.sub(r"<\w+>", "*", span)))] == []


# --- settings and messages --------------------------------------------------------------------------------------------


def test_the_settings_that_the_readme_shows_have_the_defaults_that_it_says() -> None:
    every = {setting.key: setting for section in SECTIONS for setting in docs.settings(section)}
    table = (ROOT / "README.md").read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", table, re.MULTILINE)
    assert len(rows) == 10
    assert {key: default.strip("`") for key, default in rows} == {key: every[key].default for key, _ in rows}


def quoted_messages() -> list[str]:
    """Return the first column of the troubleshooting tables."""
    return MESSAGE.findall((ROOT / "docs" / "troubleshooting.md").read_text())


def test_every_row_about_a_message_quotes_it_once_and_at_some_length() -> None:
    rows = re.findall(r"^\| (?!message |--- )", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(quoted_messages()))
    assert [message for message in quoted_messages() if len(message) < FRAGMENT_LETTERS] == []


@pytest.mark.parametrize("message", quoted_messages())
def test_a_quoted_message_is_in_the_sources(message: str) -> None:
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert any(message.encode() in path.read_bytes() for path in files if path.suffix != ".pyc")


# --- security ---------------------------------------------------------------------------------------------------------


def test_every_check_that_the_manual_calls_tested_is_run_and_no_other_is() -> None:
    rows = re.findall(r"^\| ([\d., ]+) \|.*\| `make e2e` \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
    assert sorted(number for row in rows for number in row.split(", ")) == sorted(CHECKS)

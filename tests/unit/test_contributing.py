"""CONTRIBUTING.md lists every file a change touches: the lists match the examples they name."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.harness import ROOT

SECTIONS = ("A new setting", "A new service", "A new step", "A new provider of machines")
WHERE = (
    "__main__.py",
    "Pulumi.yaml",
    "components",
    "templates",
    "tools",
    "tests",
    "docs/settings.md",
    "docs/stack-folder.md",
)
"""The scope of the lists: everything but prose, and tests that only use the example."""


def section(title: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"CONTRIBUTING.md has no section {title}"
    return found[1]


def examples(title: str) -> list[str]:
    line = re.search(r"^Example: (.*)$", section(title), re.MULTILINE)
    assert line, f"section {title} names no example"
    return re.findall(r"`([^`]+)`", line[1])


def listed(title: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+[./][^`]+)` \|", section(title), re.MULTILINE))


def git(*arguments: str) -> set[str]:
    """Return the paths git prints, limited to the scope of the lists."""
    done = subprocess.run(["git", *arguments, "--", *WHERE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return {path for path in done.stdout.splitlines() if (ROOT / path).exists()}


def mentioning(names: list[str]) -> set[str]:
    """Return the files that mention an example or are named after it."""
    patterns = [argument for name in names for argument in ("-e", name)]
    spellings = {spelling for name in names for spelling in (name, name.replace(".", "/"))}
    paths = git("ls-files", "--cached", "--others", "--exclude-standard")
    own = {path for path in paths if any(spelling in path for spelling in spellings)}
    return git("grep", "--untracked", "-lF", *patterns) | own


@pytest.mark.parametrize("title", SECTIONS)
def test_the_list_of_a_section_is_what_its_example_touches(title: str) -> None:
    assert listed(title) == mentioning(examples(title)) - {str(Path(__file__).relative_to(ROOT))}


def test_an_example_that_nothing_mentions_touches_nothing() -> None:
    assert mentioning(["no-such-example-" + "anywhere"]) == set()

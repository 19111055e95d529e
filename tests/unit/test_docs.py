"""The settings' manual in README.md and Pulumi.yaml: written from the models, never stale."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import PACKAGE
from components.config import DEFAULTS, RULES, SECTIONS
from tools import docs, stack
from tools.stack import ToolError

MANUALS = ("README.md", "Pulumi.yaml")
KEYS = [setting.key for section in SECTIONS for setting in docs.settings(section)]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of the two files, which the tool takes for the project's."""
    for name in MANUALS:
        shutil.copy(stack.ROOT / name, tmp_path)
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["docs"])
    return tmp_path


def declared() -> dict[str, Any]:
    """What Pulumi.yaml says of the project's own keys."""
    config = yaml.safe_load((stack.ROOT / "Pulumi.yaml").read_text())["config"]
    return {key.removeprefix(f"{PACKAGE}:"): value for key, value in config.items() if not key.startswith("pulumi:")}


def test_the_manual_in_both_files_is_what_the_models_say() -> None:
    assert docs.stale(stack.ROOT) == {}, "run: make docs"


def test_pulumi_yaml_declares_exactly_the_settings_with_their_defaults() -> None:
    assert {key: value["default"] for key, value in declared().items()} == {
        key: DEFAULTS.get(key, {}) for key in SECTIONS
    }
    assert {key: value["type"] for key, value in declared().items()} == {
        key: "string" if key in DEFAULTS else "object" for key in SECTIONS
    }


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_has_one_line_in_each_file(key: str) -> None:
    section, _, name = key.partition(".")
    assert len(re.findall(rf"^\| `{re.escape(key)}` \|", (stack.ROOT / "README.md").read_text(), re.MULTILINE)) == 1
    if name:
        assert len(re.findall(rf"^{re.escape(name)} \(", declared()[section]["description"], re.MULTILINE)) == 1


def test_a_line_tells_type_default_rule_and_example() -> None:
    table = docs.reference()
    assert "| `machines.count` | integer | `3` | 1 to 200 | Number of machines. | `3` |\n" in table, (
        "a default that is a value"
    )
    assert (
        "| `swarm.managers` | integer | 3, or 1 below three machines | 1 to 7 "
        "| Number of managers, odd; they are the first machines. | `3` |\n" in table
    ), "a default in words"
    assert "| `machines.overrides.NAME.memory` | integer | machines.memory | 384 to 262144 " in table
    assert '| `content.folder` | string | `"site"` | not empty ' in table
    assert '| `proxy.max_body_size` | string | `"0"` | digits, then k, m, g or nothing ' in table


def test_every_rule_across_settings_is_in_the_manual() -> None:
    for rule in RULES:
        assert rule.__doc__
        assert f"- {rule.__doc__}\n" in docs.reference()


def test_a_stale_file_is_named_with_what_to_run_and_then_written(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = {name: (clone / name).read_text() for name in MANUALS}
    for name in MANUALS:
        (clone / name).write_text(fresh[name].replace("Number of machines.", "How many."))
    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    with pytest.raises(
        ToolError, match=r"^the settings' manual is stale in README\.md and Pulumi\.yaml; run: make docs$"
    ):
        docs.docs()
    assert "How many." in (clone / "README.md").read_text(), "a check writes nothing"

    monkeypatch.setattr(sys, "argv", ["docs"])
    assert docs.docs() == 0
    assert capsys.readouterr().out == "written: README.md, Pulumi.yaml\n"
    assert {name: (clone / name).read_text() for name in MANUALS} == fresh

    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    assert docs.docs() == 0


@pytest.mark.parametrize("name", MANUALS)
def test_a_file_without_its_marks_is_refused_and_left_alone(clone: Path, name: str) -> None:
    text = (clone / name).read_text().replace("settings: written by", "settings written by")
    (clone / name).write_text(text)
    with pytest.raises(ToolError, match=f"^{re.escape(name)} has to hold the lines"):
        docs.docs()
    assert (clone / name).read_text() == text

"""The text `make docs` generates from models and contract is never stale."""

import re
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from components.contract import PACKAGE, PROJECT
from components.settings import DEFAULTS, RULES, SECTIONS
from tools import docs
from tools.stack import ToolError

FILES = ("docs/settings.md", "docs/stack-folder.md", "Pulumi.yaml", "templates/contract.sh")
KEYS = [setting.key for section in SECTIONS for setting in docs.settings(section)]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of the files, which the tool treats as the project."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    monkeypatch.setattr(docs, "PROJECT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["docs"])
    return tmp_path


def declared() -> dict[str, Any]:
    """Return the declarations of the project's keys in Pulumi.yaml."""
    config = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["config"]
    return {key.removeprefix(f"{PACKAGE}:"): value for key, value in config.items() if not key.startswith("pulumi:")}


def test_both_files_match_the_models() -> None:
    assert docs.stale(PROJECT) == {}, "run: make docs"


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
    assert len(re.findall(rf"^\| `{re.escape(key)}` \|", (PROJECT / "docs/settings.md").read_text(), re.MULTILINE)) == 1
    if name:
        assert len(re.findall(rf"^{re.escape(name)} \(", declared()[section]["description"], re.MULTILINE)) == 1


def test_a_line_tells_type_default_rule_and_example() -> None:
    table = docs.reference()
    assert "| `machines.count` | integer | `3` | 1 to 200 | Number of machines. | `3` |\n" in table, (
        "a default that is a value"
    )
    assert (
        "| `swarm.managers` | integer | 3, or 1 below three machines | 1 to 7 "
        "| Number of managers; must be odd. The first machines are the managers. | `3` |\n" in table
    ), "a default in prose"
    assert "| `machines.overrides.NAME.memory` | integer | machines.memory | 384 to 262144 " in table
    assert '| `content.folder` | string | `"site"` | not empty ' in table
    assert '| `proxy.max_body_size` | string | `"0"` | digits, optionally followed by k, m or g ' in table


def test_every_rule_across_settings_is_in_the_reference() -> None:
    for rule in RULES:
        assert rule.__doc__
        assert f"- {rule.__doc__}\n" in docs.reference()


def test_a_stale_file_is_named_with_what_to_run_and_then_written(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = {name: (clone / name).read_text() for name in FILES}
    for name in FILES:
        (clone / name).write_text(fresh[name].replace("Number of machines.", "How many.").replace("LOCKS", "LOCK"))
    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    with pytest.raises(
        ToolError, match=r"^docs/settings\.md, Pulumi\.yaml, templates/contract\.sh: stale; run: make docs$"
    ):
        docs.docs()
    assert "How many." in (clone / "docs/settings.md").read_text(), "a check writes nothing"

    monkeypatch.setattr(sys, "argv", ["docs"])
    assert docs.docs() == 0
    assert capsys.readouterr().out == "written: docs/settings.md, Pulumi.yaml, templates/contract.sh\n"
    assert {name: (clone / name).read_text() for name in FILES} == fresh

    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    assert docs.docs() == 0


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".sh")])
def test_a_file_without_its_marks_is_refused_and_left_alone(clone: Path, name: str) -> None:
    text = (clone / name).read_text().replace(": written by", " written by")
    (clone / name).write_text(text)
    with pytest.raises(ToolError, match=f"^{re.escape(name)} must contain the lines"):
        docs.docs()
    assert (clone / name).read_text() == text


# --- models outside the settings --------------------------------------------------------------------------------------


class Tls(BaseModel):
    """How visitors are encrypted."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["off", "own"] = Field("off", description="Where certificates come from.", examples=["own"])
    names: list[str] = Field(default_factory=list, description="Names in the certificate.", examples=[["a.example"]])
    days: int | None = Field(
        None,
        ge=1,
        le=90,
        description="Lifetime in days.",
        examples=[30],
        json_schema_extra={"computed_default": "30, or 7 with mode own"},
    )


class Route(BaseModel):
    """Where requests go."""

    path: str = Field(description="Prefix of the requests.", examples=["/api"])
    tls: Tls | None = Field(None, description="Its own encryption.", examples=[{"mode": "own"}])


class Edge(BaseModel):
    """A made-up section."""

    tls: Tls = Field(default_factory=Tls, examples=[{"mode": "own"}])
    routes: dict[str, Route] = Field(default_factory=dict, description="Routes by name.", examples=[{}])
    labels: dict[str, str] = Field(default_factory=dict, description="Labels.", examples=[{"a": "b"}])


class Undescribed(BaseModel):
    """A made-up section."""

    depth: Tls


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> dict[str, docs.Setting]:
    """The reference of a made-up section, by key."""
    monkeypatch.setattr(docs, "SECTIONS", {"edge": TypeAdapter(Edge)})
    return {setting.key: setting for setting in docs.settings("edge")}


def test_settings_of_a_nested_section_have_their_whole_path(edge: dict[str, docs.Setting]) -> None:
    assert list(edge) == [
        "edge.tls",
        "edge.tls.mode",
        "edge.tls.names",
        "edge.tls.days",
        "edge.routes",
        "edge.routes.NAME.path",
        "edge.routes.NAME.tls",
        "edge.routes.NAME.tls.mode",
        "edge.routes.NAME.tls.names",
        "edge.routes.NAME.tls.days",
        "edge.labels",
    ]


def test_a_nested_section_is_an_object_described_by_its_field_or_else_by_its_model(
    edge: dict[str, docs.Setting],
) -> None:
    assert (edge["edge.tls"].type, edge["edge.tls"].default) == ("object", "{}")
    assert edge["edge.tls"].description == "How visitors are encrypted."
    assert edge["edge.routes.NAME.tls"].description == "Its own encryption."
    assert edge["edge.tls"].example == '{"mode": "own"}'


def test_a_default_is_a_value_or_prose(edge: dict[str, docs.Setting]) -> None:
    told = {key: (setting.default, setting.in_prose) for key, setting in edge.items()}
    assert told["edge.tls.mode"] == ('"off"', False)
    assert told["edge.tls.names"] == ("[]", False), "an empty list, not an empty object"
    assert told["edge.tls.days"] == ("30, or 7 with mode own", True)
    assert told["edge.routes.NAME.path"] == ("none, required", True)
    assert told["edge.routes.NAME.tls"] == ("none", True)


def test_nested_settings_are_in_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "SECTIONS", {"edge": TypeAdapter(Edge)})
    assert '| `edge.tls.mode` | string | `"off"` | "off" or "own" | Where certificates come from. |' in docs.reference()
    assert '\n      tls.mode (string; "off" or "own"; default "off"): Where certificates come from.\n' in (
        docs.declarations()
    )


def test_a_field_that_lacks_something_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "SECTIONS", {"edge": TypeAdapter(Undescribed)})
    with pytest.raises(ToolError, match=r"^edge\.depth has no examples; add it to the setting's Field"):
        docs.settings("edge")


def test_a_section_that_is_a_map_lists_the_settings_of_its_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    routes: TypeAdapter[object] = TypeAdapter(Annotated[dict[str, Route], Field(description="Routes.")])
    monkeypatch.setattr(docs, "SECTIONS", {"routes": routes})
    assert [setting.key for setting in docs.settings("routes")][:2] == ["routes.NAME.path", "routes.NAME.tls"]
    assert docs.reference().startswith("### `routes`\n\nRoutes.\n\n| key |")

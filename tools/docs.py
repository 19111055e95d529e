"""Generate the settings reference, the stack folder's table, and the names shared with the shell.

Sources: components/settings/models.py and components/contract.py. `--check` writes nothing and fails if a file is
stale.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.contract import (
    PACKAGE,
    PROJECT,
    MachineFile,
    StackFile,
    Step,
    shell_text,
    stack_files,
)
from components.settings import DEFAULTS, RULES, SECTIONS
from tools import stack
from tools.stack import ToolError

TABLE_MARKS = ("<!-- files: written by `make docs` -->\n", "<!-- end of files -->\n")
STEP_MARKS = ("<!-- steps: written by `make docs` -->\n", "<!-- end of steps -->\n")
REFERENCE_MARKS = ("<!-- settings: written by `make docs` -->\n", "<!-- end of settings -->\n")
PROJECT_MARKS = ("  # settings: written by `make docs`\n", "  # end of settings\n")
EMPTY: Mapping[str, str] = {"array": "[]", "object": "{}"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A row of the reference. `example` is JSON; so is `default` unless `in_prose` is set."""

    key: str
    type: str
    default: str
    in_prose: bool
    rule: str
    description: str
    example: str


def docs() -> int:
    """Update the generated files; with `--check`, fail if one is stale."""
    old = stale(PROJECT)
    if "--check" in sys.argv[1:] and old:
        raise ToolError(f"{', '.join(old)}: stale; run: make docs")
    for name, text in old.items():
        (PROJECT / name).write_text(text)
    print(f"written: {', '.join(old)}" if old else "everything generated is up to date")
    return 0


def stale(root: Path) -> Mapping[str, str]:
    """Return the stale files below `root` by name, each with its correct text.

    Raises:
        ToolError: a file has lost the markers around its generated part.
    """
    generated = {
        "docs/settings.md": [(REFERENCE_MARKS, "\n" + reference() + "\n")],
        "docs/stack-folder.md": [(TABLE_MARKS, "\n" + file_table() + "\n"), (STEP_MARKS, "\n" + step_list() + "\n")],
        "Pulumi.yaml": [(PROJECT_MARKS, declarations())],
    }
    texts = {name: (root / name).read_text() for name in generated}
    wanted = {name: _put(name, texts[name], parts) for name, parts in generated.items()}
    shell = root / "templates/contract.sh"
    texts["templates/contract.sh"] = shell.read_text() if shell.exists() else ""
    wanted["templates/contract.sh"] = shell_text()
    return {name: text for name, text in wanted.items() if text != texts[name]}


def file_table() -> str:
    """Return the table of the stack's folder, in Markdown."""
    rows = [("file", "kind", "meaning"), ("---",) * 3, *map(_file_row, stack_files().values())]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _file_row(file: StackFile) -> tuple[str, str, str]:
    folder = "machines/NAME/" if isinstance(file, MachineFile) else ""
    return f"`{folder}{file.path}`", file.kind, file.meaning


def step_list() -> str:
    """Return the steps of the flow, in order."""
    return "".join(f"1. `{step}`\n" for step in Step)


def _put(name: str, text: str, parts: Sequence[tuple[tuple[str, str], str]]) -> str:
    for (begin, end), generated in parts:
        if [text.count(mark) for mark in (begin, end)] != [1, 1] or text.index(begin) > text.index(end):
            lines = f"{begin.strip()!r} and {end.strip()!r}"
            raise ToolError(f"{name} must contain the lines {lines} once each; restore them")
        text = text[: text.index(begin)] + begin + generated + text[text.index(end) :]
    return text


def settings(section: str) -> list[Setting]:
    """Return all settings of one of `SECTIONS`; nested ones by full path, such as `machines.hosts[].name`.

    Raises:
        ToolError: a model field lacks what the reference needs; the message names the key.
    """
    schema = SECTIONS[section].json_schema()
    if section in DEFAULTS:
        return [_setting(section, schema | {"default": DEFAULTS[section]}, required=False)]
    return list(_below(section, schema, schema.get("$defs", {})))


def _below(path: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Setting]:
    for name, field in schema.get("properties", {}).items():
        key, resolved = f"{path}.{name}", _resolved(field, definitions)
        yield _setting(key, resolved, required=name in schema.get("required", []))
        yield from _below(key, resolved, definitions)
    for kind, part in (("additionalProperties", ".NAME"), ("items", "[]")):
        if isinstance(schema.get(kind), Mapping):  # a boolean only allows or forbids other keys
            yield from _below(f"{path}{part}", _resolved(schema[kind], definitions), definitions)


def _resolved(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the field with its type's schema merged in; optional fields and models only reference it."""
    value = next(option for option in field.get("anyOf", [field]) if option.get("type") != "null")
    if "$ref" in value:
        value = definitions[value["$ref"].removeprefix("#/$defs/")]
    return {**value, **field}


def _setting(key: str, field: Mapping[str, Any], *, required: bool) -> Setting:
    default, in_prose = _default(key, field, required=required)
    return Setting(
        key=key,
        type=_needed(key, field, "type"),
        default=default,
        in_prose=in_prose,
        rule=_rule(field),
        description=_needed(key, field, "description"),
        example=json.dumps(_needed(key, field, "examples")[0]),
    )


def _needed(key: str, field: Mapping[str, Any], name: str) -> Any:
    if name not in field:
        raise ToolError(f"{key} has no {name}; add it to the setting's Field, then run: make docs")
    return field[name]


def _default(key: str, field: Mapping[str, Any], *, required: bool) -> tuple[str, bool]:
    """Return the default and whether it is prose: it depends on other settings, or there is none."""
    if "computed_default" in field:
        return field["computed_default"], True
    if required:
        return "none, required", True
    if "default" not in field and field.get("type") in EMPTY:  # from a default_factory
        return EMPTY[field["type"]], False
    value = _needed(key, field, "default")
    return ("none", True) if value is None else (json.dumps(value), False)


def _rule(value: Mapping[str, Any]) -> str:
    if "const" in value or "enum" in value:
        return " or ".join(json.dumps(word) for word in value.get("enum", [value.get("const")]))
    if "minimum" in value:
        return f"{value['minimum']} to {value['maximum']}"
    if "minLength" in value:
        return "not empty"
    return str(value.get("format", ""))


def reference() -> str:
    """Return the reference in Markdown: a table per section, then the rules across settings."""
    parts = [_table(section) for section in SECTIONS]
    rules = [f"- {(rule.__doc__ or '').splitlines()[0]}\n" for rule in RULES]
    return "\n".join([*parts, "### Rules across settings\n\n" + "".join(rules)])


def _about(section: str) -> str:
    """Return a one-sentence description of a section; empty for a single value, described by its only setting."""
    if section in DEFAULTS:
        return ""
    about: str = _needed(section, SECTIONS[section].json_schema(), "description")
    return about.splitlines()[0]


def _table(section: str) -> str:
    rows = [("key", "type", "default", "rule", "what it is", "example"), ("---",) * 6]
    for setting in settings(section):
        rows.append(
            (
                f"`{setting.key}`",
                setting.type,
                setting.default if setting.in_prose else f"`{setting.default}`",
                setting.rule,
                setting.description,
                f"`{setting.example}`",
            )
        )
    table = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)
    return "\n\n".join(part for part in (f"### `{section}`", _about(section), table) if part)


def declarations() -> str:
    """Return the reference as declared in Pulumi.yaml: type, default and description of each top-level key."""
    return "".join(_declaration(section) for section in SECTIONS)


def _declaration(section: str) -> str:
    schema = SECTIONS[section].json_schema()
    lines = [
        f"{PACKAGE}:{section}:",
        f"  type: {schema['type']}",
        f"  default: {DEFAULTS.get(section, '{}')}",
        "  description: |-",
    ]
    if section not in DEFAULTS:
        lines.append(f"    {_about(section)}")
    for setting in settings(section):
        facts = "; ".join(fact for fact in (setting.type, setting.rule, f"default {setting.default}") if fact)
        name = setting.key.removeprefix(f"{section}.")
        text = setting.description if name == section else f"{name} ({facts}): {setting.description}"
        lines.append(f"    {text}")
    return "".join(f"  {line}\n" for line in lines)


if __name__ == "__main__":
    stack.main(docs)

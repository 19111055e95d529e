"""How a setting is refused: one line that names key, value, rule and a valid example."""

import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pydantic import TypeAdapter

from components.contract import PACKAGE
from components.settings.models import DEFAULTS

RULES_OF_TYPES: Mapping[str, str] = {
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "list_type": "must be a list",
    "dict_type": "must be an object of settings",
    "model_type": "must be an object of settings",
    "literal_error": "must be {expected}",
    "extra_forbidden": "is not a setting of this section",
    "value_error": "{error}",
}
"""Pydantic's types of errors, as the rule that the value breaks."""


class SettingsError(pulumi.RunError):
    """What is wrong with the settings, one line a fault: key, value, rule and a valid example."""


def fault(key: str, value: object, rule: str, example: object) -> str:
    """The line that refuses a value.

    Args:
        key: without the project's name.
        value: as it was given.
        rule: what it breaks; begins with a verb.
        example: a valid value; None where there is none.
    """
    return _line(key, f"{json.dumps(value)} {rule}", example)


def section_fault(section: str, adapter: TypeAdapter[Any], error: Mapping[str, Any]) -> str:
    """The line for one of Pydantic's errors in a section."""
    location = list(error["loc"])
    is_key = location[-1:] == ["[key]"]  # of a mapping, not the value behind it
    key = ".".join([section, *map(str, location[: len(location) - is_key])])
    example = None if error["type"] == "extra_forbidden" else _example(section, adapter, location)
    if error["type"] == "missing":
        return _line(key, "is required", example)
    rule = RULES_OF_TYPES[error["type"]].format_map(error.get("ctx", {}))
    return fault(key, error["input"], rule, example)


def _line(key: str, text: str, example: object) -> str:
    hint = "" if example is None else f"; for example {json.dumps(example)}"
    # A fault stays on its line, whatever characters the key has.
    return f"{PACKAGE}:{json.dumps(key)[1:-1]}: {text}{hint}"


def _example(section: str, adapter: TypeAdapter[Any], location: list[str | int]) -> object:
    """A valid value for a place in a section; for the section itself, its first setting."""
    if section in DEFAULTS:
        return DEFAULTS[section]
    schema = adapter.json_schema()
    definitions = schema.get("$defs", {})
    fields: list[Mapping[str, Any]] = [schema]
    for part in location:
        # The key of a mapping follows its own name: its rule is the mapping's, not the value's.
        fields.append(fields[-2]["propertyNames"] if part == "[key]" else _inner(fields[-1], str(part), definitions))
    return _first_example(fields[-1], definitions)


def _inner(field: Mapping[str, Any], part: str, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of what an object, a list or a mapping holds under a key; empty if it holds no such thing."""
    field = _resolved(field, definitions)
    inner = field.get("properties", {}).get(part) or field.get("items") or field.get("additionalProperties") or {}
    return inner if isinstance(inner, dict) else {}


def _first_example(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> object:
    if "examples" in field:
        return field["examples"][0]
    properties = _resolved(field, definitions).get("properties")
    if not properties:
        return None
    required = _resolved(field, definitions).get("required") or list(properties)[:1]
    return {name: properties[name]["examples"][0] for name in required}


def _resolved(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The field's own schema: of an optional one, and behind a reference."""
    option = next((option for option in field.get("anyOf", []) if option.get("type") != "null"), field)
    name = str(option.get("$ref", "")).rpartition("/")[2]
    return definitions[name] if name else option

"""Refusals of settings: one line with key, value, rule and a valid example."""

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
"""Pydantic's error types, by the rule the value breaks."""


class SettingsError(pulumi.RunError):
    """The faults of the settings, one per line: key, value, rule and a valid example."""


def fault(key: str, value: object, rule: str, example: object) -> str:
    """Return the line that refuses a value.

    Args:
        key: key without the project name.
        value: value from the stack file.
        rule: broken rule, beginning with a verb.
        example: valid value; None if there is none.
    """
    return _line(key, f"{json.dumps(value)} {rule}", example)


def section_fault(section: str, adapter: TypeAdapter[Any], error: Mapping[str, Any]) -> str:
    """Return the line for one of Pydantic's errors in a section."""
    location = list(error["loc"])
    is_key = location[-1:] == ["[key]"]  # the key of a mapping, not its value
    key = ".".join([section, *map(str, location[: len(location) - is_key])])
    example = None if error["type"] == "extra_forbidden" else _example(section, adapter, location)
    if error["type"] == "missing":
        return _line(key, "is required", example)
    rule = RULES_OF_TYPES[error["type"]].format_map(error.get("ctx", {}))
    return fault(key, error["input"], rule, example)


def _line(key: str, text: str, example: object) -> str:
    hint = "" if example is None else f"; for example {json.dumps(example)}"
    # Keep the fault on one line, whatever characters the key contains.
    return f"{PACKAGE}:{json.dumps(key)[1:-1]}: {text}{hint}"


def _example(section: str, adapter: TypeAdapter[Any], location: list[str | int]) -> object:
    """Return a valid value for a location in a section; for the section itself, its first setting."""
    if section in DEFAULTS:
        return DEFAULTS[section]
    schema = adapter.json_schema()
    definitions = schema.get("$defs", {})
    fields: list[Mapping[str, Any]] = [schema]
    for part in location:
        # A mapping's key follows its name in the location; its rule is the mapping's, not the value's.
        fields.append(fields[-2]["propertyNames"] if part == "[key]" else _inner(fields[-1], str(part), definitions))
    return _first_example(fields[-1], definitions)


def _inner(field: Mapping[str, Any], part: str, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of an object's, list's or mapping's member; empty if there is none."""
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
    """Return the schema of a field, with references and optional types resolved."""
    option = next((option for option in field.get("anyOf", []) if option.get("type") != "null"), field)
    name = str(option.get("$ref", "")).rpartition("/")[2]
    return definitions[name] if name else option

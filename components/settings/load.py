"""Reads and checks a stack's settings; the only reader of `pulumi.Config`."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pulumi
import pulumi.runtime
from pydantic import ValidationError

from components.contract import PACKAGE
from components.settings.faults import SettingsError, fault, section_fault
from components.settings.models import APPLICATIONS, DEFAULTS, SECTIONS
from components.settings.plan import Settings, computed_defaults, plan
from components.settings.rules import RULES
from components.settings.types import host_label

RESOURCES_AT_ONCE = 4
"""Resources per machine that the engine must process in parallel, or a rebuild of all machines hangs."""
REDIRECTING_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION")
"""Environment variables that override the docker provider's arguments."""


def load() -> Settings:
    """Read and check the settings of the running stack.

    Raises:
        SettingsError: at least one setting is wrong; the message names all of them.
    """
    prefix = f"{PACKAGE}:"
    values = {key.removeprefix(prefix): text for key, text in all_config().items() if key.startswith(prefix)}
    if pulumi.runtime.is_dry_run():  # a preview makes no connections
        return parse(pulumi.get_stack(), values, {})
    return parse(pulumi.get_stack(), values, os.environ, pulumi.runtime.settings.SETTINGS.parallel)


def all_config() -> Mapping[str, str]:
    """Return every configuration value of the stack as text, in every namespace.

    `pulumi.Config` only answers for known keys; unknown ones appear only in the whole map.
    """
    return {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}


def parse(
    stack: str, values: Mapping[str, str], environment: Mapping[str, str], parallel: int | None = None
) -> Settings:
    """Check values as in the stack file (objects as JSON text) and fill in the defaults.

    Args:
        stack: stack name.
        values: text by key, without the project name.
        environment: environment variables of this process; empty in a preview.
        parallel: number of resources the engine processes in parallel; None in a preview.

    Raises:
        SettingsError: at least one value is wrong; the message names all of them.
    """
    faults = [*_environment_faults(environment), *_stack_faults(stack)]
    faults += [
        fault(key, _value(values[key]), f"is not a setting; settings are {', '.join(SECTIONS)}", None)
        for key in sorted(values.keys() - SECTIONS.keys())
    ]
    sections, refused = _sections({key: _value(text) for key, text in values.items()})
    faults += refused
    for rule, needed in RULES.items():
        if all(name in sections for name in needed):
            faults += rule(*(sections[name] for name in needed))
    if parallel and "machines" in sections:
        faults += _parallel_faults(parallel, sections["machines"].total)
    if faults:
        raise SettingsError("the settings are refused:\n" + "\n".join(f"  - {line}" for line in faults))
    return plan(stack, sections)


def _sections(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """Return the valid sections by name, and one line per fault of the others."""
    sections: dict[str, Any] = {}
    faults: list[str] = []
    computed: Mapping[str, Mapping[str, Any]] = {}
    # The machines come first: defaults of other sections depend on their number.
    for key in sorted(SECTIONS, key=lambda key: key != "machines"):
        try:
            given = _with_defaults(key, values.get(key, DEFAULTS.get(key, {})), computed.get(key, {}))
            sections[key] = SECTIONS[key].validate_python(given)
        except ValidationError as error:
            faults += [section_fault(key, SECTIONS[key], dict(e)) for e in error.errors()]
        if key == "machines" and key in sections:
            computed = computed_defaults(sections[key])
    return sections, faults


def _with_defaults(section: str, given: Any, defaults: Mapping[str, Any]) -> Any:
    """Return a section with its computed defaults, applied to each application. Null counts as unset."""
    if not isinstance(given, dict):
        return given
    if section == APPLICATIONS:
        return {name: _with_defaults(name, value, defaults) for name, value in given.items()}
    return {**defaults, **{key: value for key, value in given.items() if value is not None}}


def _value(text: str) -> Any:
    """Return a value as in YAML: objects, numbers and booleans arrive as JSON text, anything else is a word."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _environment_faults(environment: Mapping[str, str]) -> Iterator[str]:
    for name in REDIRECTING_VARIABLES:
        if environment.get(name):
            yield (
                f"environment variable {name}: {json.dumps(environment[name])} would redirect the docker provider "
                f"away from this stack's swarm; run `unset {name}` first"
            )


def _parallel_faults(parallel: int, machines: int) -> Iterator[str]:
    needed = machines * RESOURCES_AT_ONCE
    if parallel < needed:
        yield (
            f"environment variable PULUMI_PARALLEL: {parallel} is too small for {machines} machines: while each waits "
            f"for its turn to leave the swarm, nothing else would move; run `export PULUMI_PARALLEL={needed}` first"
        )


def _stack_faults(stack: str) -> Iterator[str]:
    try:
        host_label(stack)
    except ValueError as error:
        yield f'stack name: {json.dumps(stack)} {error}; for example "dev"'

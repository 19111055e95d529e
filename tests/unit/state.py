"""A stack's state, written by hand: what tools read of it."""

from collections.abc import Mapping
from typing import Any

from components.contract import Step
from tools.stack import COMMAND, SERVICE, Resource, Resources


def command(step: Step, name: str, node: str = "", **environment: str) -> Resource:
    """A Command of the state; one that works on a node carries its name at the end of its own, as the program's do."""
    return {
        "urn": f"urn:pulumi:dev::swarm-site::swarm-site:index:Component${COMMAND}::{name}",
        "type": COMMAND,
        "inputs": {"create": "true", "environment": {"STEP": step.value, "NODE": node, **environment}},
    }


def service(name: str, mode: Mapping[str, Any]) -> Resource:
    """A service of the state."""
    return {
        "urn": f"urn:pulumi:dev::swarm-site::swarm-site:index:Component${SERVICE}::{name}-service",
        "type": SERVICE,
        "inputs": {"name": name, "mode": mode},
    }


def outputs(**values: Any) -> Resource:
    """The stack itself, with its outputs."""
    return {
        "urn": "urn:pulumi:dev::swarm-site::pulumi:pulumi:Stack::s",
        "type": "pulumi:pulumi:Stack",
        "outputs": values,
    }


def state(*resources: Resource) -> Resources:
    """The state of a stack that has these resources."""
    return {resource["urn"]: resource for resource in resources}

"""A hand-written stack state, as tools read it."""

from collections.abc import Mapping
from typing import Any

from components.contract import Step
from tools.stack import COMMAND, SERVICE, Resource, Resources


def command(step: Step, name: str, node: str = "", **environment: str) -> Resource:
    """Return a Command of the state; as in the program, the name of a per-node one ends with the node."""
    return {
        "urn": f"urn:pulumi:dev::swarm-site::swarm-site:index:Component${COMMAND}::{name}",
        "type": COMMAND,
        "inputs": {"create": "true", "environment": {"STEP": step.value, "NODE": node, **environment}},
    }


def service(name: str, mode: Mapping[str, Any]) -> Resource:
    """Return a service of the state."""
    return {
        "urn": f"urn:pulumi:dev::swarm-site::swarm-site:index:Component${SERVICE}::{name}-service",
        "type": SERVICE,
        "inputs": {"name": name, "mode": mode},
    }


def outputs(**values: Any) -> Resource:
    """Return the stack resource with its outputs."""
    return {
        "urn": "urn:pulumi:dev::swarm-site::pulumi:pulumi:Stack::s",
        "type": "pulumi:pulumi:Stack",
        "outputs": values,
    }


def state(*resources: Resource) -> Resources:
    """Return the state of a stack with these resources."""
    return {resource["urn"]: resource for resource in resources}

"""The Commands of one recorded operation, as described in PROGRAM.

In an environment, `@name` is the output of another Command, and `!text` a secret.
"""

import json
import os
from typing import Any

import pulumi
import pulumi_command

commands: dict[str, pulumi_command.local.Command] = {}


def value(text: str) -> pulumi.Input[str]:
    """Reads a variable's value."""
    if text.startswith("@"):
        return commands[text[1:]].stdout
    return pulumi.Output.secret(text[1:]) if text.startswith("!") else text


def options(given: dict[str, Any]) -> pulumi.ResourceOptions:
    """Reads a resource's options."""
    if "custom_timeouts" in given:
        given["custom_timeouts"] = pulumi.CustomTimeouts(**given["custom_timeouts"])
    if "depends_on" in given:
        given["depends_on"] = [commands[name] for name in given["depends_on"]]
    if "deleted_with" in given:
        given["deleted_with"] = commands[given["deleted_with"]]
    return pulumi.ResourceOptions(**given)


for name, command in json.loads(os.environ["PROGRAM"]).items():
    arguments = command.get("args", {})
    if "environment" in arguments:
        arguments["environment"] = {key: value(text) for key, text in arguments["environment"].items()}
    commands[name] = pulumi_command.local.Command(name, opts=options(command.get("opts", {})), **arguments)

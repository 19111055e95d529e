"""Resources as described in PROGRAM, without an SDK's types, so invalid ones are possible.

`fail` raises an error with that text; `show` exports what the program knows about its run.
"""

import json
import os

import pulumi

# The engine looks plugins up by version.
VERSIONS = {"command": "1.2.1", "docker": "5.2.0"}

program = json.loads(os.environ["PROGRAM"])
providers: dict[str, pulumi.ProviderResource] = {}


def fail(text: str) -> None:
    """Fails two calls deep."""
    raise ValueError(text)


for package, settings in program.get("providers", {}).items():
    options = pulumi.ResourceOptions(version=VERSIONS[package])
    providers[package] = pulumi.ProviderResource(package, "explicit", settings, options)
for name, resource in program.get("resources", {}).items():
    package = resource["type"].split(":")[0]
    timeouts = pulumi.CustomTimeouts(**resource.get("timeouts", {}))
    options = pulumi.ResourceOptions(
        version=VERSIONS[package], provider=providers.get(package), custom_timeouts=timeouts
    )
    pulumi.CustomResource(resource["type"], name, resource["args"], options)
if "fail" in program:
    fail(program["fail"])
if program.get("show"):
    pulumi.export("organization", pulumi.get_organization())
    pulumi.export("project", pulumi.get_project())
    pulumi.export("stack", pulumi.get_stack())
    pulumi.export("dry run", pulumi.runtime.is_dry_run())
    pulumi.export("plain", pulumi.Config().require("plain"))
    pulumi.export("secret", pulumi.Config().require_secret("hidden"))
    pulumi.export("is secret", pulumi.runtime.is_config_secret("contract:hidden"))

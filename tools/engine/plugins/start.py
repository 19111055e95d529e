"""Starts a plugin: start.py NAME ARGUMENT….

A plugin needs only the gRPC stubs of the Pulumi SDK. Importing the whole SDK would take longer than the rest of a
plugin's start, and the engine starts three plugins one after another.
"""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

MODULES = {"docker": "docker_plugin"}
"""Plugins whose module is named differently: `docker` is the Docker SDK."""


def main() -> None:
    """Makes the stubs importable without the rest of the SDK, and runs the plugin."""
    spec = importlib.util.find_spec("pulumi")
    if spec and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0])
        for name in ("pulumi", "pulumi.runtime", "pulumi.runtime.proto"):
            package = ModuleType(name)
            package.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = package
    name = sys.argv.pop(1)
    runpy.run_module(MODULES.get(name, name), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

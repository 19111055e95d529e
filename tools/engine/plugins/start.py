"""Starts a plugin: start.py NAME ARGUMENT….

A plugin needs the gRPC stubs of the Pulumi SDK and nothing else of it. The import of the whole SDK takes longer than
all else that a plugin does before its first answer, and the engine waits for three of them one after another.
"""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

MODULES = {"docker": "docker_plugin"}
"""Plugins whose module has another name: `docker` is the Docker SDK's."""


def main() -> None:
    """Makes the stubs importable without what stands around them, and runs the plugin."""
    found = importlib.util.find_spec("pulumi")
    if found and found.submodule_search_locations:
        folder = Path(found.submodule_search_locations[0])
        for name in ("pulumi", "pulumi.runtime", "pulumi.runtime.proto"):
            package = ModuleType(name)
            package.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = package
    name = sys.argv.pop(1)
    runpy.run_module(MODULES.get(name, name), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""Before a run: the state and the swarm get to agree on which services and configs exist."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.contract import PACKAGE
from components.scripts import bundle
from tools import stack
from tools.stack import Resource, Resources, ToolError

CONFIG = "docker:index/serviceConfig:ServiceConfig"
PROVIDER = "pulumi:providers:docker"
QUIET = ("--yes", "--skip-preview", "--suppress-outputs")
LIST_SECONDS = 15


def reconcile(manager: str, known: Resources, excluded: Sequence[str]) -> Resources:
    """Adopt services that the state lacks, as they run, and drop those that the swarm lacks, to be created again.

    Removes configs that neither knows: a config can't be adopted, so an adopted service gets another one.

    Args:
        manager: name of a living manager.
        known: resources of the state.
        excluded: the engine's arguments that exclude dead nodes.

    Returns:
        The resources of the state.

    Raises:
        ToolError: the manager or the engine failed.
    """
    services, configs, used = _in_swarm(manager)
    kinds = {stack.SERVICE: services, CONFIG: configs}
    gone = [found for found in known.values() if found["type"] in kinds and found["id"] not in kinds[found["type"]]]
    if gone:
        names = ", ".join(stack.name_of(resource) for resource in gone)
        print(f"in the state but not in the swarm, so created again: {names}", flush=True)
        _run("refresh", *stack.targets(gone))
        known = stack.resources()
    kept = {resource.get("id") for resource in known.values()}
    if unused := configs - used - kept:
        stack.on_node(manager, "docker", "config", "rm", *unused)
    lost = {id_: name for id_, name in services.items() if id_ not in kept}
    return _adopt(manager, known, lost, excluded) if lost else known


def _in_swarm(manager: str) -> tuple[dict[str, str], set[str], set[str]]:
    """Return the names of the stack's services by id, the ids of its configs, and those that services use."""
    listing = bundle("status/services.sh")
    done = stack.on_node(manager, "bash", "--norc", "-c", listing, "services", seconds=LIST_SECONDS)
    if done.returncode != 0:
        raise ToolError(f"{manager} can't list the services: {stack.words(done)}; run again: make up")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    named = [row[1:] for row in rows if row[0] == "service"]
    return (
        {id_: name for id_, name, _ in named},
        {row[1] for row in rows if row[0] == "config"},
        {config for _, _, config in named},
    )


def _adopt(manager: str, known: Resources, lost: Mapping[str, str], excluded: Sequence[str]) -> Resources:
    """Import services, given as names by id; remove those that no application has today."""
    print(f"running but not in the state, so adopted: {', '.join(sorted(lost.values()))}", flush=True)
    if not _provider(known) or not all(_parent(known, name) for name in lost.values()):
        # What they belong to comes first, without them.
        endings = [f"{name}-{part}" for name in lost.values() for part in ("service", "nginx", "running")]
        excludes = [argument for ending in endings for argument in ("--exclude", f"**::{ending}")]
        _run("up", *excludes, *excluded)
        known = stack.resources()
    for id_, name in lost.items():
        if not _parent(known, name):
            print(f"{name} is no application of this stack any more; removing it", flush=True)
            stack.on_node(manager, "docker", "service", "rm", id_)
    wanted = {id_: name for id_, name in lost.items() if _parent(known, name)}
    if not wanted:
        return known
    document = {
        "nameTable": {name: _parent(known, name) for name in wanted.values()} | {"docker": _provider(known)},
        "resources": [
            {"type": stack.SERVICE, "name": f"{name}-service", "id": id_, "parent": name, "provider": "docker"}
            for id_, name in wanted.items()
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "services.json"
        file.write_text(json.dumps(document))
        _run("import", "--file", str(file), "--generate-code=false", "--protect=false")
    return stack.resources()


def _parent(known: Resources, service: str) -> str:
    """Return the URN of a service's component; empty if the state lacks it."""
    return _urn([r for r in known.values() if r["type"].startswith(f"{PACKAGE}:") and stack.name_of(r) == service])


def _provider(known: Resources) -> str:
    return _urn([resource for resource in known.values() if resource["type"] == PROVIDER])


def _urn(found: Sequence[Resource]) -> str:
    return str(found[0]["urn"]) if found else ""


def _run(operation: str, *arguments: str) -> None:
    if stack.pulumi(operation, *QUIET, *arguments) != 0:
        raise ToolError("the state and the swarm's services differ; fix the error above and run again: make up")

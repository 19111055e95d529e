"""Show nodes, services and findings on one screen, with remedies. `--json` prints the same for programs."""

import json
import sys
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tools import stack
from tools.observe import Member, Observation, observe, service_of

WIDTH = 500
"""Characters per line; a narrow terminal wraps lines instead of truncating them."""
VERDICTS = {0: "healthy", 1: "degraded", 2: "down"}


def status() -> int:
    """Show the status and return 0: healthy; 1: degraded; 2: down, no page is served."""
    seen = observe()
    if "--json" in sys.argv[1:]:
        print(json.dumps(as_document(seen), indent=2))
    else:
        show(seen)
    return seen.code


def as_document(seen: Observation) -> dict[str, object]:
    """Return the observation as plain values."""
    return {
        "stack": stack.STACK,
        "code": seen.code,
        "url": seen.outputs.get("url"),
        "release": seen.outputs.get("release"),
        "manager": seen.manager,
        "nodes": {
            entry.name: asdict(entry)
            | {"answers": entry.name in seen.facts, "drained": member.drained if member else ""}
            for entry in seen.entries
            for member in [seen.members.get(entry.name)]
        },
        "services": {name: row[1] for name, row in seen.services.items()},
        "tasks": [{"name": row[0], "node": row[1], "state": row[2]} for row in seen.tasks],
        "findings": [
            {"part": finding.part, "what": finding.what, "remedy": finding.remedy} for finding in seen.findings
        ],
    }


def show(seen: Observation) -> None:
    """Print one screen for a person."""
    console = Console(highlight=False, soft_wrap=True, width=WIDTH)
    if seen.entries:
        console.print(node_table(seen), "")
    if seen.services:
        console.print(service_table(seen), "")
    for finding in seen.findings:
        console.print(f"[yellow]{escape(finding.part)}[/]: {escape(finding.what)}; [bold]{escape(finding.remedy)}[/]")
    colour = ("green", "yellow", "red")[seen.code]
    where = "".join([f" at {url}" for url, fault in seen.pages.items() if not fault][:1])
    console.print(f"[{colour}]stack {stack.STACK}: {VERDICTS[seen.code]}{where}[/]")


def node_table(seen: Observation) -> Table:
    """Return a table with one line per node."""
    table = plain_table("node", "address", "role", "swarm", "runs", "release")
    for entry in seen.entries:
        member = seen.members.get(entry.name, Member(entry.name, "unknown", "", ""))
        tasks = [service_of(task[0]) for task in seen.tasks if task[1] == entry.name and task[2].startswith("Running")]
        facts = seen.facts.get(entry.name, {})
        swarm = ", ".join(text for text in (member.status.lower(), member.availability.lower(), member.drained) if text)
        table.add_row(
            entry.name,
            entry.address,
            entry.role,
            swarm if facts else "does not answer",
            ", ".join(tasks),
            facts.get("release", "")[:12],
        )
    return table


def service_table(seen: Observation) -> Table:
    """Return a table with one line per service."""
    table = plain_table("service", "running", "on")
    for name, row in sorted(seen.services.items()):
        nodes = [task[1] for task in seen.tasks if service_of(task[0]) == name and task[2].startswith("Running")]
        table.add_row(name, row[1], ", ".join(sorted(nodes)))
    return table


def plain_table(*names: str) -> Table:
    """Return an empty table with narrow columns."""
    columns = (Column(name, no_wrap=True) for name in names)
    return Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


if __name__ == "__main__":
    stack.main(status)

"""Bring back what is dead, missing or changed by hand: each part's own script is run once more.

`NODE=core-01` makes that machine anew.
"""

import os
import time
from collections.abc import Sequence

from tools import stack, up
from tools.observe import Finding, observe
from tools.stack import Resources, ToolError

TASK_SECONDS = 20


def repair() -> int:
    """Put right what `status` names, and only that."""
    known = stack.recover()
    node = os.environ.get("NODE", "")
    if not known:
        raise ToolError(f"stack {stack.STACK} is not up, so there is nothing to repair; run: make up")
    dead = up.wake(up.made_entries(known))
    form_again(dead)
    if node:
        rebuild(known, node, [name for name in dead if name != node])
    before = observe()
    for name in commands_to_run(before.findings):
        stack.run_again(name)
    if any(finding.refresh for finding in before.findings):
        changed("refresh", "--yes", "--skip-preview", "--target", "**-service", "--suppress-outputs")
        changed("up", "--yes", "--skip-preview", "--suppress-outputs")
    after = observe()
    # Tasks of a node that was just opened take a moment.
    deadline = time.monotonic() + stack.patience(TASK_SECONDS)
    while any(finding.part.startswith("service ") for finding in after.findings) and time.monotonic() < deadline:
        time.sleep(0.5)
        after = observe()
    for finding in after.findings:
        print(f"{finding.part}: {finding.what}; {finding.remedy}")
    print(
        "nothing had to be repaired"
        if not before.findings and not node
        else "repaired"
        if after.code == 0
        else "not all is well yet"
    )
    return after.code


def commands_to_run(findings: list[Finding]) -> list[str]:
    """Commands in the order of the flow: members first, a node is opened last."""
    names = {name for finding in findings for name in finding.again}
    flow = ("swarm-", "nginx-image-", "content-", "proxy-", "ready-")
    return sorted(names, key=lambda name: next(index for index, prefix in enumerate(flow) if name.startswith(prefix)))


def form_again(dead: Sequence[str]) -> None:
    """Where no manager has a quorum any more, make the first living one the only manager; services and tasks stay."""
    entries = stack.nodes()
    living = [entry for entry in entries if entry.name not in dead]
    if not entries or stack.elected_manager(living):
        return
    for entry in living:
        state = stack.on_node(
            entry.name, "docker", "info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}"
        )
        if state.stdout.split() == ["active", "true"]:
            print(f"the quorum is lost; {entry.name} forms the swarm again, with its services")
            done = stack.on_node(
                entry.name,
                "docker",
                "swarm",
                "init",
                "--force-new-cluster",
                "--advertise-addr",
                entry.address,
                seconds=60,
            )
            if done.returncode != 0:
                raise ToolError(f"{entry.name} can't form the swarm again: {done.stderr.strip()}")
            forget_managers(entry.name)
            return
    raise ToolError(
        "no manager of the swarm is left to form it again; the machines have to be made anew: make down, then make up"
    )


def forget_managers(survivor: str) -> None:
    """Take out the entries of managers that are no part of the swarm formed again; those that live join anew."""
    listing = stack.on_node(survivor, "docker", "node", "ls", "--filter", "role=manager", "--format", "{{.Hostname}}")
    for name in listing.stdout.split():
        if name != survivor:
            stack.on_node(survivor, "docker", "node", "rm", "--force", name)


def rebuild(known: Resources, node: str, dead: Sequence[str]) -> None:
    """Make one machine anew, and everything on it; what belongs to other dead ones is left out."""
    if f"machines-{node}" not in known:
        raise ToolError(f"NODE={node} is no machine of stack {stack.STACK}; make status lists them")
    changed(
        "up",
        "--yes",
        "--skip-preview",
        "--suppress-outputs",
        "--replace",
        known[f"machines-{node}"]["urn"],
        *up.replaces(known),
        *up.excludes(dead),
    )


def changed(*arguments: str) -> None:
    """Run pulumi or end with what to do."""
    if stack.pulumi(*arguments) != 0:
        raise ToolError("the repair is not done; what failed is said above; put it right and run again: make repair")


if __name__ == "__main__":
    stack.main(repair)

"""Fix what is dead, missing or changed by hand by rerunning each part's own script.

`NODE=core-01` rebuilds that machine.
"""

import os
import time
from collections.abc import Sequence

from components.contract import Step
from tools import folder, stack, up, wake
from tools.observe import Finding, observe
from tools.stack import Resource, Resources, ToolError

TASK_SECONDS = 20


def repair() -> int:
    """Fix what `status` reports, and nothing else."""
    known = stack.recover()
    node = os.environ.get("NODE", "")
    if not known:
        raise ToolError(f"stack {stack.STACK} is not up, so there is nothing to repair; run: make up")
    folder.require_key(known)
    folder.derive(known)
    folder.provide_sources(known, Step.STACK_FOLDER, *((Step.BOX, Step.IMAGE) if node else ()))
    dead = list(wake.wake(wake.created_entries(known)))
    recreate_swarm(dead)
    if node:
        rebuild(known, node, [name for name in dead if name != node])
    before = observe()
    for command in commands_to_run(before.findings):
        stack.run_again(command)
    if any(finding.refresh for finding in before.findings):
        services = stack.targets(stack.services(before.resources))
        run_pulumi("refresh", "--yes", "--skip-preview", "--suppress-outputs", *services)
        run_pulumi("up", "--yes", "--skip-preview", "--suppress-outputs")
    after = observe()
    # The tasks of a newly activated node take a moment.
    deadline = time.monotonic() + stack.scaled(TASK_SECONDS)
    while any(finding.part.startswith("service ") for finding in after.findings) and time.monotonic() < deadline:
        time.sleep(0.5)
        after = observe()
    for finding in after.findings:
        print(f"{finding.part}: {finding.what}; {finding.remedy}")
    if after.code != 0:
        print("some problems remain")
    elif before.findings or node:
        print("repaired")
    else:
        print("nothing to repair")
    return after.code


def commands_to_run(findings: Sequence[Finding]) -> list[Resource]:
    """Return the Commands in flow order, with activation last, when the node has all it needs."""
    commands = {command["urn"]: command for finding in findings for command in finding.again}
    order = [*(step for step in Step if step != Step.ACTIVATION), Step.ACTIVATION]
    return sorted(commands.values(), key=lambda command: (order.index(stack.step_of(command)), command["urn"]))


def recreate_swarm(dead: Sequence[str]) -> None:
    """If no manager has a quorum, make the first living one the only manager; services and tasks stay."""
    entries = stack.nodes()
    living = [entry for entry in entries if entry.name not in dead]
    if not entries or stack.elected_manager(living):
        return
    for entry in living:
        state = stack.on_node(
            entry.name, "docker", "info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}"
        )
        if state.stdout.split() == ["active", "true"]:
            print(f"the quorum is lost; re-creating the swarm, with its services, from {entry.name}")
            flags = ("--force-new-cluster", "--advertise-addr", entry.address)
            done = stack.on_node(entry.name, "docker", "swarm", "init", *flags, seconds=60)
            if done.returncode != 0:
                raise ToolError(f"{entry.name} can't re-create the swarm: {stack.words(done)}; run: make status")
            forget_managers(entry.name)
            return
    raise ToolError("no swarm manager is left to re-create the swarm from; rebuild the stack: make down, then make up")


def forget_managers(survivor: str) -> None:
    """Remove the entries of managers outside the re-created swarm; living ones rejoin it."""
    listing = stack.on_node(survivor, "docker", "node", "ls", "--filter", "role=manager", "--format", "{{.Hostname}}")
    for name in listing.stdout.split():
        if name != survivor:
            stack.on_node(survivor, "docker", "node", "rm", "--force", name)


def rebuild(known: Resources, node: str, dead: Sequence[str]) -> None:
    """Rebuild one machine and everything on it; exclude the resources of other dead nodes."""
    machine = stack.commands(known, Step.MACHINE, node)
    if not machine:
        raise ToolError(f"NODE={node} is no machine of stack {stack.STACK}; to list them, run: make status")
    run_pulumi(
        "up",
        "--yes",
        "--skip-preview",
        "--suppress-outputs",
        "--replace",
        machine[0]["urn"],
        *wake.replaces(known),
        *up.excludes(known, dead),
    )


def run_pulumi(*arguments: str) -> None:
    """Run pulumi; an error says what to do next."""
    if stack.pulumi(*arguments) != 0:
        raise ToolError("the repair failed; fix the error above and run again: make repair")


if __name__ == "__main__":
    stack.main(repair)

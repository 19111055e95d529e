"""The Commands `make repair` reruns, and their order."""

import random

from hypothesis import given
from hypothesis import strategies as st

from components.contract import Step
from tests.unit.state import command
from tools import stack
from tools.observe import Finding
from tools.repair import commands_to_run
from tools.stack import Resource

ON_THIS_MACHINE = (
    *(Step.STACK_FOLDER, Step.BOX, Step.CLUSTER, Step.IMAGE, Step.CONFIGURATION_TEST, Step.SERVICE_TASKS),
)
PER_NODE = tuple(step for step in Step if step not in ON_THIS_MACHINE)
COMMANDS = [
    *(command(step, f"{part}-{step}") for step in Step if step not in PER_NODE for part in ("one", "another")),
    *(
        command(step, f"{part}-{step}-{node}", node)
        for step in PER_NODE
        for part in ("one", "another")
        for node in ("core-01", "core-02")
    ),
]
"""Two Commands per step: a second image, a second application, including steps with only one so far."""


@given(st.lists(st.lists(st.sampled_from(COMMANDS), max_size=5), max_size=8))
def test_any_commands_run_once_in_the_order_of_the_flow_with_activation_last(chosen: list[list[Resource]]) -> None:
    findings = [Finding("part", "is missing", again=tuple(commands)) for commands in chosen]
    order = commands_to_run(findings)
    wanted = {command["urn"] for commands in chosen for command in commands}
    assert sorted(command["urn"] for command in order) == sorted(wanted)
    steps = [stack.step_of(command) for command in order]
    flow = [step for step in Step if step is not Step.ACTIVATION]
    before = [step for step in steps if step is not Step.ACTIVATION]
    assert before == sorted(before, key=flow.index)
    assert set(steps[len(before) :]) <= {Step.ACTIVATION}


def test_every_step_has_its_place() -> None:
    shuffled = random.Random(1).sample(COMMANDS, len(COMMANDS))
    order = commands_to_run([Finding("everything", "is missing", again=tuple(shuffled))])
    steps = list(dict.fromkeys(stack.step_of(command) for command in order))
    assert steps == [*(step for step in Step if step is not Step.ACTIVATION), Step.ACTIVATION]
    assert len(order) == len(COMMANDS)


def test_a_node_is_activated_only_after_its_proxys_configuration() -> None:
    activation = command(Step.ACTIVATION, "ready-core-01", "core-01")
    configuration = command(Step.PROXY_CONFIGURATION, "proxy-core-01", "core-01")
    findings = [Finding("core-01", "is set to drain", again=(activation,)), Finding("x", "y", again=(configuration,))]
    assert commands_to_run(findings) == [configuration, activation]

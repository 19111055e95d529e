"""Replays the recordings of the official `command` plugin against the installed one."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.contract.replay import NewStage, recording, replay_command

pytestmark = pytest.mark.e2e

CASES = recording("command")
PARALLEL = 4

Replays = Mapping[str, "Future[list[str]]"]


@pytest.fixture(scope="module")
def replays(command_stage: NewStage, request: pytest.FixtureRequest) -> Iterator[Replays]:
    """Every selected case, replayed in parallel: in sequence, they would take minutes."""
    names = {item.name for item in request.session.items}
    selected = [case for case in CASES if f"{test_the_plugin_behaves_as_recorded.__name__}[{case}]" in names]
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield {case: pool.submit(replay_command, command_stage(case), CASES[case]) for case in selected}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES)
def test_the_plugin_behaves_as_recorded(case: str, replays: Replays) -> None:
    assert replays[case].result() == []

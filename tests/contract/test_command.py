"""The recordings of the official `command` plugin, against the one that is installed."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.contract.replay import NewStage, recording, replay_command

CASES = recording("command")
SIDE_BY_SIDE = 4

Played = Mapping[str, "Future[list[str]]"]


@pytest.fixture(scope="module")
def played(command_stage: NewStage, request: pytest.FixtureRequest) -> Iterator[Played]:
    """Every chosen case, begun side by side: one after another they would take minutes."""
    names = {item.name for item in request.session.items}
    chosen = [case for case in CASES if f"{test_the_recording.__name__}[{case}]" in names]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {case: pool.submit(replay_command, command_stage(case), CASES[case]) for case in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES)
def test_the_recording(case: str, played: Played) -> None:
    assert played[case].result() == []

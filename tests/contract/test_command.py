"""The recordings of the official `command` plugin, against the one that is installed."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.contract.replay import Stage, recording, replay_command

CASES = recording("command")
SIDE_BY_SIDE = 4

Played = Mapping[str, "Future[list[str]]"]


@pytest.fixture(scope="module")
def played(command_stage: Callable[[str], Stage], request: pytest.FixtureRequest) -> Iterator[Played]:
    """Every chosen case, begun side by side: one after another they would take minutes."""
    chosen = [item.callspec.params["case"] for item in request.session.items if is_case(item)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {case: pool.submit(replay_command, command_stage(case), CASES[case]) for case in chosen}
        pool.shutdown(cancel_futures=True)


def is_case(item: pytest.Item) -> bool:
    """Says whether a test is one of this file's cases."""
    return isinstance(item, pytest.Function) and item.originalname == test_the_recording.__name__


@pytest.mark.parametrize("case", CASES)
def test_the_recording(case: str, played: Played) -> None:
    assert played[case].result() == []

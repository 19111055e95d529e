"""The site under test, for the tests in this folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.life import INDEX, wait_until_whole
from tests.e2e.site import Site, alone


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for command logs and load records, by module: E2E_LOGS, or pytest's temporary folder."""
    chosen = os.environ.get("E2E_LOGS")
    return Path(chosen).resolve() if chosen else tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for the tests of one module, removed completely afterwards.

    With E2E_SITE, the site is in that folder and stays there, for inspection or the next run.
    """
    chosen = os.environ.get("E2E_SITE")
    folder = Path(chosen).resolve() if chosen else tmp_path_factory.mktemp("a site")
    site = Site(folder, logs / request.path.stem)
    with alone(site.stack):
        if chosen:
            yield site
        else:
            site.sweep()
            yield site
            site.sweep()


@pytest.fixture
def running(site: Site) -> Site:
    """The site, brought up with its current settings if it is not up."""
    if not site.is_up:
        site.up()
    return site


@pytest.fixture
def trio(site: Site, request: pytest.FixtureRequest) -> Site:
    """A healthy site of three nodes, created from scratch after a failed test."""
    if site.is_up and request.session.testsfailed:
        site.sweep()
        site.is_up = False
    if not site.is_up:
        site.count = 3
        site.configure({})
        site.restore(INDEX)
        site.up()
        wait_until_whole(site)
    return site

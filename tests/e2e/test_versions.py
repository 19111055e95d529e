"""The current version changes and removes a stack that an earlier version brought up."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.site import ROOT, UP_SECONDS, Site, docker, fetch, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

INDEX = "site/index.html"


def git(*args: str) -> str:
    """Return git's output for this tree, empty if git fails."""
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def earlier_commit() -> str:
    """Return E2E_BASE if set; else the last commit if this tree has uncommitted changes; else the commit before it."""
    chosen = os.environ.get("E2E_BASE")
    if chosen:
        commit = git("rev-parse", "--verify", "--quiet", f"{chosen}^{{commit}}")
        assert commit, f"E2E_BASE={chosen} is no commit of this repository"
        return commit
    return git("rev-parse", "--verify", "--quiet", "HEAD" if git("status", "--porcelain") else "HEAD~1")


@pytest.fixture
def older_clone(site: Site) -> Path:
    """A clone of the earlier commit, with the same stack file and image archives."""
    commit = earlier_commit()
    if not commit:
        pytest.skip("no earlier commit is available (a clone needs a depth of 2)")
    print(git("log", "-1", "--format=brought up by %h: %s", commit))
    folder = site.folder / "an older clone"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    shutil.copy2(site.clone / f"Pulumi.{site.stack}.yaml", folder)
    for image in (site.clone / "images").glob("*.tar*"):
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / image.name).symlink_to(image.resolve())
    return folder


def test_this_version_updates_and_destroys_a_stack_of_the_earlier_one(site: Site, older_clone: Path) -> None:
    site.run("older-up", "make up", seconds=UP_SECONDS, clone=older_clone)
    page = fetch(f"http://{site.address('core-02')}/")
    assert (page.status, page.text) == (200, (older_clone / INDEX).read_text())
    swarm = swarm_id(site, older_clone)

    site.edit(INDEX, "hello world", "hello tomorrow")
    site.configure({"machines": {"overrides": {"core-02": {"memory": 640}}}})
    site.up()

    assert fetch(site.outputs()["url"]).text == (site.clone / INDEX).read_text()
    assert docker("inspect", "-f", "{{.HostConfig.Memory}}", site.container("core-02")).strip() == str(640 * 2**20)
    assert swarm_id(site, site.clone) == swarm
    wait_until("all nodes active, all services complete", site.is_whole)
    assert site.preview() == {}

    site.down()
    assert site.left() == []


def swarm_id(site: Site, clone: Path) -> str:
    """Return the id of the swarm, queried from a clone."""
    command = "tools/ssh core-03 sudo docker info -f '{{.Swarm.Cluster.ID}}'"
    return site.run("swarm", command, seconds=UP_SECONDS, clone=clone).text.strip()

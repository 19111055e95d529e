"""A stack that an earlier version of the program brought up is changed and taken down by today's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.site import ROOT, UP_SECONDS, Site, docker, fetch, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.life]

INDEX = "site/index.html"


def git(*words: str) -> str:
    """What git says of this tree; nothing where it has no answer."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def earlier_commit() -> str:
    """E2E_BASE; or what was committed last if this tree is another one by now; or else the commit before that."""
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
        pytest.skip("there is no earlier commit to be had (a clone needs a depth of 2)")
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


def test_todays_program_changes_and_destroys_what_an_earlier_one_made(site: Site, older_clone: Path) -> None:
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
    """The identity of the swarm, asked through a clone."""
    command = "tools/ssh core-03 sudo docker info -f '{{.Swarm.Cluster.ID}}'"
    return site.run("swarm", command, seconds=UP_SECONDS, clone=clone).text.strip()

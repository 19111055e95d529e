"""The plain script that `make bench` compares with still works: it shares files with the product, which may change."""

import subprocess

import pytest

from tests.e2e.site import ROOT, UP_SECONDS, Site

pytestmark = pytest.mark.e2e

SCRIPT = ROOT / "tests" / "bench" / "baseline.sh"


def test_the_plain_script_serves_the_page_and_leaves_nothing(running: Site) -> None:
    assert running.is_up, "the images are made by an up"
    begun = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=UP_SECONDS, check=False)
    ended = subprocess.run([SCRIPT, "down"], capture_output=True, text=True, timeout=UP_SECONDS, check=False)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    assert begun.stdout.endswith("http://192.168.63.12/ answers\n")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    left = ["docker", "ps", "-aq", "--filter", "label=swarm-site.stack=baseline"]
    assert subprocess.run(left, capture_output=True, text=True, check=True).stdout == ""

"""The script text a Command carries: everything the script needs, and nothing else."""

import re
import subprocess

import pytest

from components.contract import PROJECT, shell_names
from components.rendering import TEMPLATES
from components.scripts import bundle, in_place

PROVIDERS = sorted(path.stem for path in (TEMPLATES / "machines/providers").glob("*.sh") if path.stem != "vagrant")
PROGRAMS = sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.sh") if path.read_text()[:2] == "#!")
EVERY = [
    (path, provider)
    for path in PROGRAMS
    for provider in (PROVIDERS if "$PROVIDER.sh" in (TEMPLATES / path).read_text() else [""])
    if (path, provider) not in [("machines/box.sh", "docker"), ("machines/box.sh", "ssh")]
]
DELETES = sorted(
    path
    for source in (PROJECT / "components").glob("*.py")
    for path in re.findall(r'delete="(.*?)"', source.read_text())
)
LIMITS = {
    "firewall/dismiss.sh": 4000,
    "machines/delete.sh": 4000,
    "machines/sweep.sh": 4500,
    "swarm/leave.sh": 6500,
    "swarm/dissolve.sh": 4000,
}
"""Maximum bytes per delete. The state holds it twice per resource: 15 nodes carry 15 machine deletes and 15 leaves."""
LIMIT_OF_HOSTS = 6000
"""Maximum bytes of deletes with provider ssh, which connect to the host themselves."""


def as_bash_reads(text: str) -> list[str]:
    """Return a script as bash prints it after parsing: without comments, in bash's layout."""
    done = subprocess.run(
        ["bash", "-c", f"script() {{\n{text}\n}}\ndeclare -f script"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def without(lines: list[str], names: set[str]) -> list[str]:
    """Return the lines without assignments of these names."""
    return [line for line in lines if line.strip().partition("=")[0] not in names]


@pytest.mark.parametrize(("path", "provider"), EVERY)
def test_bash_reads_a_bundle_as_it_reads_the_whole_script(path: str, provider: str) -> None:
    """Only comments, empty lines and assignments of unused shared names are dropped."""
    whole, bundled = in_place(path, provider), bundle(path, provider)
    dropped = {name for name in shell_names() if f"\n{name}=" in whole and f"\n{name}=" not in bundled}
    assert without(as_bash_reads(whole), dropped) == as_bash_reads(bundled)
    assert [name for name in dropped if re.search(rf"\b{name}\b", bundled)] == []


@pytest.mark.parametrize(("path", "provider"), EVERY)
def test_a_bundle_has_no_line_for_readers_only(path: str, provider: str) -> None:
    assert [line for line in bundle(path, provider).splitlines() if not line.strip() or line.strip()[0] == "#"] == []


def test_a_line_that_only_looks_like_a_comment_would_be_noticed() -> None:
    text = "cat <<END\n# a heading\n\nEND\n"
    assert as_bash_reads(text) != as_bash_reads(text.replace("# a heading\n", ""))


def test_every_delete_has_a_limit() -> None:
    assert set(DELETES) == set(LIMITS)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("path", sorted(LIMITS))
def test_a_delete_is_short(path: str, provider: str) -> None:
    limit = LIMIT_OF_HOSTS if provider == "ssh" and path.startswith("machines/") else LIMITS[path]
    assert len(bundle(path, provider).encode()) < limit


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("path", sorted(LIMITS))
def test_a_delete_names_nothing_of_the_tree(path: str, provider: str) -> None:
    assert (
        re.findall(r".*(?:templates|tools|\.venv)/.*", bundle(path, provider).replace("run: tools/setup up", "")) == []
    )

"""templates/content/: releases of the content on a node."""

import random
import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from components.release import release_hash
from tests.unit.shell import Finished, Rooted, refused, succeeded


def write_site(rooted: Rooted, text: str) -> str:
    """Change the content on this machine; return its release."""
    folder = rooted.world.folder / "site"
    (folder / "sub folder").mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(text)
    (folder / "sub folder" / "it's.txt").write_text("always the same")
    (folder / "index.html").chmod(0o600)
    (folder / "sub folder").chmod(0o700)
    return release_hash(folder)


def release(rooted: Rooted, text: str, keep: int = 3) -> str:
    digest = deliver(rooted, text, keep)
    assert succeeded(switch(rooted, digest, keep)) == f"core-01: serves release {digest[:12]}\n"
    return digest


def deliver(rooted: Rooted, text: str, keep: int = 3) -> str:
    digest = write_site(rooted, text)
    assert succeeded(send(rooted, digest, keep)) == f"core-01: has release {digest[:12]}\n"
    return digest


def send(rooted: Rooted, digest: str, keep: int = 3) -> Finished:
    return rooted.script("content/deliver.sh", NODE="core-01", FOLDER="site", RELEASE=digest, KEEP=str(keep))


def switch(rooted: Rooted, digest: str, keep: int = 3) -> Finished:
    return rooted.script("content/switch.sh", NODE="core-01", RELEASE=digest, KEEP=str(keep))


def served(rooted: Rooted) -> dict[str, str]:
    """Return the target of each link."""
    folder = content(rooted)
    links = [
        path for path in folder.rglob("*") if path.is_symlink() and "releases" not in path.relative_to(folder).parts
    ]
    return {str(path.relative_to(folder)): path.resolve().name for path in links}


def content(rooted: Rooted) -> Path:
    return rooted.root("core-01") / "content"


def sent(rooted: Rooted) -> int:
    """Return the number of transfers to nodes so far."""
    return len([line for line in rooted.world.connections() if "rsync --server" in line])


def page(rooted: Rooted) -> tuple[int, int]:
    """Return the properties that distinguish a newly sent page from an existing one."""
    found = (content(rooted) / "current/index.html").stat()
    return found.st_ino, found.st_ctime_ns


def test_a_release_arrives_whole_and_one_relative_link_switches_to_it(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    link = content(rooted) / "current"
    assert str(link.readlink()) == f"releases/{digest}"
    assert (link / "index.html").read_text() == "one"
    assert (link / "sub folder/it's.txt").read_text() == "always the same"
    assert release_hash(link.resolve()) == digest


@pytest.mark.parametrize("name", ["web site", "8080:html", "-site"])
def test_a_folder_elsewhere_or_with_an_odd_name_is_sent(rooted: Rooted, tmp_path: Path, name: str) -> None:
    for folder in (str(tmp_path / "elsewhere" / name), name):
        path = rooted.world.folder / folder
        path.mkdir(parents=True)
        (path / "index.html").write_text(folder)
        digest = release_hash(path)
        succeeded(rooted.script("content/deliver.sh", NODE="core-01", FOLDER=folder, RELEASE=digest, KEEP="3"))
        succeeded(switch(rooted, digest))
        assert (content(rooted) / "current/index.html").read_text() == folder


def test_a_release_is_readable_for_all_users(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    paths = [content(rooted) / "releases" / digest]
    paths += paths[0].rglob("*")
    assert len(paths) == 4
    rooted.assert_readable(content(rooted))


def test_what_is_no_part_of_a_release_is_not_sent(rooted: Rooted) -> None:
    folder = rooted.world.folder / "site"
    for path in (".git/config", ".env", "index.html~", ".well-known/acme"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    release(rooted, "one")
    sent = {str(path.relative_to(content(rooted) / "current")) for path in (content(rooted) / "current").rglob("*")}
    assert sent == {".well-known", ".well-known/acme", "index.html", "sub folder", "sub folder/it's.txt"}


def test_a_release_that_the_node_has_is_not_sent_again(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    before = page(rooted)
    transfers = sent(rooted)
    succeeded(send(rooted, digest))
    assert page(rooted) == before
    assert sent(rooted) == transfers


def test_a_damaged_release_is_sent_again(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    (content(rooted) / "releases" / digest / "index.html").write_text("changed by hand")
    release(rooted, "one")
    assert (content(rooted) / "current/index.html").read_text() == "one"


def test_as_many_earlier_releases_stay_as_wanted_and_returning_to_one_sends_nothing(rooted: Rooted) -> None:
    first, second, third = (release(rooted, text, keep=1) for text in ("one", "two", "three"))
    releases = content(rooted) / "releases"
    assert {path.name for path in releases.iterdir()} == {second, third}
    assert first not in {path.name for path in (content(rooted) / "used").iterdir()}
    transfers = sent(rooted)
    assert release(rooted, "two", keep=1) == second
    assert sent(rooted) == transfers
    assert (content(rooted) / "current").resolve().name == second
    release(rooted, "four", keep=1)
    assert third not in {path.name for path in releases.iterdir()}


def test_a_node_that_serves_a_release_goes_on_with_it_until_it_is_told_to_switch(rooted: Rooted) -> None:
    first = deliver(rooted, "one")
    assert served(rooted) == {"current": first, "next": first}, "a node without any serves it at once"
    second = deliver(rooted, "two")
    assert served(rooted) == {"current": first, "next": second}
    assert (content(rooted) / "next/index.html").read_text() == "two"
    succeeded(switch(rooted, second))
    assert served(rooted) == {"current": second, "next": second, "previous/1": first}


def test_earlier_releases_are_found_with_the_last_one_first(rooted: Rooted) -> None:
    one, two, three = (release(rooted, text, keep=2) for text in ("one", "two", "three"))
    assert served(rooted) == {"current": three, "next": three, "previous/1": two, "previous/2": one}
    # Rolling back moves only the previously served release: a visitor of `one` finds its files throughout.
    assert release(rooted, "one", keep=2) == one
    assert served(rooted) == {"current": one, "next": one, "previous/1": three, "previous/2": two, "previous/3": one}
    four = release(rooted, "four", keep=2)
    assert served(rooted) == {"current": four, "next": four, "previous/1": one, "previous/2": three}
    assert {path.name for path in (content(rooted) / "releases").iterdir()} == {one, three, four}


@pytest.mark.parametrize("back", [False, True])
def test_no_link_leaves_a_release_without_a_place_for_a_moment(rooted: Rooted, back: bool) -> None:
    kept = [release(rooted, text, keep=2) for text in ("one", "two", "three")]
    digest = deliver(rooted, "two" if back else "four", keep=2)
    code = (
        'lead() { ln -sfn "x/$2" "$1.new"; mv -T "$1.new" "$1"; readlink current previous/* | tr "\\n" " "; echo; }\n'
        f"cd {content(rooted)}; switch {digest} 2"
    )
    for name in ("current", "previous/1", "previous/2"):
        link = content(rooted) / name
        target = link.resolve().name
        link.unlink()
        link.symlink_to(f"x/{target}")
    done = rooted.world.lib(code, source="content/links.sh")
    moments = [{Path(link).name for link in line.split()} for line in succeeded(done).splitlines()]
    oldest = set() if back else {kept[0]}
    assert len(moments) == 4
    assert all(moment >= set(kept) - oldest for moment in moments)


def test_a_release_that_was_never_served_is_removed_with_the_next_switch(rooted: Rooted) -> None:
    first = release(rooted, "one")
    never = deliver(rooted, "never")
    second = release(rooted, "two")
    assert {path.name for path in (content(rooted) / "releases").iterdir()} == {first, second}
    assert never not in served(rooted).values()


def test_a_release_that_is_not_there_is_not_switched_to(rooted: Rooted) -> None:
    before = release(rooted, "one")
    assert refused(switch(rooted, "f" * 64)) == (
        "core-01: can't switch to release ffffffffffff: the release is not there; run again: make up\n"
    )
    assert served(rooted)["current"] == before


def test_a_stack_of_before_finds_what_it_kept(rooted: Rooted) -> None:
    one, two = release(rooted, "one"), release(rooted, "two")
    folder = content(rooted)
    (folder / "next").unlink()
    (folder / "previous/1").unlink()
    (folder / "previous").rmdir()
    three = release(rooted, "three")
    assert served(rooted) == {"current": three, "next": three, "previous/1": two, "previous/2": one}


def test_files_of_an_interrupted_run_are_not_in_the_next_release(rooted: Rooted) -> None:
    for path in ("leftover", "index.html/was a folder", "a/b/c"):
        (content(rooted) / "incoming" / path).parent.mkdir(parents=True, exist_ok=True)
        (content(rooted) / "incoming" / path).touch()
    digest = release(rooted, "one")
    assert release_hash((content(rooted) / "current").resolve()) == digest


def test_files_that_change_before_they_are_sent_make_no_release(rooted: Rooted) -> None:
    before = release(rooted, "one")
    write_site(rooted, "two")
    assert refused(send(rooted, "f" * 64)) == (
        "core-01: release ffffffffffff was not delivered: the files changed during this run; run again: make up\n"
    )
    assert (content(rooted) / "current").resolve().name == before


def test_files_that_change_while_they_are_sent_make_no_release(rooted: Rooted) -> None:
    before = release(rooted, "one")
    digest = write_site(rooted, "two")
    rsync = shutil.which("rsync")
    rooted.world.stub("here", "rsync", f'#!/bin/sh\necho changed >site/index.html\nexec {rsync} "$@"\n')
    error = refused(send(rooted, digest))
    assert error.endswith(" was not delivered: the files changed during this run; run again: make up\n")
    assert (content(rooted) / "current").resolve().name == before


def test_a_node_that_does_not_answer_fails_its_delivery(rooted: Rooted) -> None:
    digest = write_site(rooted, "one")
    rooted.world.kill("core-01")
    error = refused(send(rooted, digest))
    assert error.startswith(f"core-01: release {digest[:12]} was not delivered: ")
    assert "No route to host" in error


# --- dates, and what travels ---


def dates(rooted: Rooted, node: str = "core-01") -> dict[str, int]:
    """Return the dates of the files a node serves, in Unix seconds."""
    folder = (rooted.root(node) / "content/current").resolve()
    stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
    assert all(found.st_mtime_ns % 10**9 == 0 for found in stats.values())
    return {name: int(found.st_mtime) for name, found in stats.items()}


SAME = "sub folder/it's.txt"


def test_an_unchanged_file_keeps_its_date_and_a_changed_one_is_never_older(rooted: Rooted) -> None:
    begin = int(time.time())
    release(rooted, "one")
    found = [dates(rooted)]
    for text in ("two", "one", "three", "two"):  # faster than the clock's seconds
        release(rooted, text)
        found.append(dates(rooted))
    assert {each[SAME] for each in found} == {found[0][SAME]}
    times = [each["index.html"] for each in found]
    assert begin <= times[0] <= int(time.time())
    assert times == sorted(set(times)), "each later than the one before, also where earlier bytes return"


def test_a_moved_clock_makes_no_release_older(rooted: Rooted) -> None:
    release(rooted, "one")
    before = dates(rooted)["index.html"]
    rooted.world.stub("here", "date", "#!/bin/sh\necho 1000000000\n")
    release(rooted, "two")
    assert dates(rooted)["index.html"] == before + 1


def test_dates_are_equal_on_all_nodes_also_on_one_that_joins_later(rooted: Rooted) -> None:
    release(rooted, "one")
    digest = release(rooted, "two")
    before = dates(rooted)
    # Another run, on a clone with other times.
    rooted.world.stub("here", "date", "#!/bin/sh\necho 4000000000\n")
    (rooted.world.work / "release").unlink()
    (rooted.world.folder / "site/index.html").touch()
    succeeded(rooted.script("content/deliver.sh", NODE="core-02", FOLDER="site", RELEASE=digest, KEEP="3"))
    assert dates(rooted, "core-02") == before


def test_a_delivery_that_reached_some_nodes_ends_with_equal_dates(rooted: Rooted) -> None:
    release(rooted, "one")
    digest = deliver(rooted, "two")  # to the first node only; then the run is interrupted
    rooted.world.stub("here", "date", "#!/bin/sh\necho 4000000000\n")
    (rooted.world.work / "release").unlink()
    succeeded(rooted.script("content/deliver.sh", NODE="core-02", FOLDER="site", RELEASE=digest, KEEP="3"))
    succeeded(switch(rooted, digest))
    assert dates(rooted, "core-02") == dates(rooted)


def test_unchanged_files_are_hard_links_and_do_not_travel(rooted: Rooted) -> None:
    first = release(rooted, "one")
    second = release(rooted, "two")
    releases = content(rooted) / "releases"
    assert (releases / first / SAME).samefile(releases / second / SAME)
    assert not (releases / first / "index.html").samefile(releases / second / "index.html")
    assert (releases / first / "index.html").read_text() == "one"
    transfers = sent(rooted)
    (rooted.world.folder / "site" / SAME).rename(rooted.world.folder / "site/moved [0.0 1].txt")
    shutil.copy(rooted.world.folder / "site/index.html", rooted.world.folder / "site/copy.html")
    digest = release_hash(rooted.world.folder / "site")
    succeeded(send(rooted, digest))
    succeeded(switch(rooted, digest))
    assert sent(rooted) == transfers, "the node has these bytes"
    assert release_hash((content(rooted) / "current").resolve()) == digest


def test_a_file_changed_on_the_node_is_not_linked(rooted: Rooted) -> None:
    release(rooted, "one")
    (content(rooted) / "current" / SAME).write_text("changed by hand")
    release(rooted, "two")
    assert (content(rooted) / "current" / SAME).read_text() == "always the same"


CUT_CONNECTION = f"""#!{sys.executable}
import os
left = 1_500_000
while left > 0 and (data := os.read(0, 65536)):
    left -= os.write(1, data)
"""


def test_an_interrupted_delivery_goes_on_where_it_was(rooted: Rooted) -> None:
    release(rooted, "one")
    folder = rooted.world.folder / "site"
    for number in range(3):
        (folder / f"large-{number}").write_bytes(random.Random(number).randbytes(10**6))
    digest = release_hash(folder)
    rsync = shutil.which("rsync")
    # The connection ends within the second large file.
    ssh = rooted.world.stubs / "here/ssh"
    ssh.rename(ssh.with_name("whole-ssh"))
    rooted.world.stub("here", "through", CUT_CONNECTION)
    rooted.world.stub(
        "here",
        "ssh",
        '#!/bin/bash\nif [[ $* == *rsync* ]]; then through | whole-ssh "$@"; else exec whole-ssh "$@"; fi\n',
    )
    assert "was not delivered: " in refused(send(rooted, digest))
    incoming = content(rooted) / "incoming"
    assert (incoming / "large-0").read_bytes() == (folder / "large-0").read_bytes()
    statistics = rooted.world.folder / "statistics"
    rooted.world.stub("here", "rsync", f'#!/bin/sh\nexec {rsync} --stats --log-file={statistics} "$@"\n')
    ssh.with_name("whole-ssh").rename(ssh)
    (folder / "index.html").write_text("edited meanwhile")
    digest = release_hash(folder)
    succeeded(send(rooted, digest))
    succeeded(switch(rooted, digest))
    assert release_hash((content(rooted) / "current").resolve()) == digest
    (literal,) = re.findall(r"Literal data: ([\d,]+)", statistics.read_text())
    assert int(literal.replace(",", "")) < 2_000_000, "of three million"


@pytest.mark.parametrize(
    "name", ["two words", "ünïcödé\u2028.html", "-n", "#no comment", ";x", 'it\'s "$(id)" *?[a]', ":a:b"]
)
def test_any_name_is_delivered(rooted: Rooted, name: str) -> None:
    folder = rooted.world.folder / "site"
    (folder / name).mkdir(parents=True)
    (folder / name / name).write_text("text")
    for text in ("one", "two"):
        digest = release(rooted, text)
        assert release_hash((content(rooted) / "current").resolve()) == digest


def test_a_long_transfer_shows_how_far_it_is(rooted: Rooted) -> None:
    digest = write_site(rooted, "one")
    progress = r"\r    104.86M  21%%    9.54MB/s    0:00:39 \r    209.72M  42%%    9.53MB/s    0:00:29 \r"
    rsync = shutil.which("rsync")
    shown = f"[[ $1 == --server ]] || printf '{progress}'"
    rooted.world.stub("here", "rsync", f'#!/bin/bash\n{shown}\nexec {rsync} "$@"\n')
    done = rooted.script(
        "content/deliver.sh",
        changes={"shown=$SECONDS\n": "shown=-10\n"},
        NODE="core-01",
        FOLDER="site",
        RELEASE=digest,
        KEEP="3",
    )
    assert f"core-01: sent 104.86M of release {digest[:12]} (21%, 9.54MB/s)\n" in succeeded(done)

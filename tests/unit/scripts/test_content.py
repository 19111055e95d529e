"""templates/content/: releases of the content on a node."""

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


def test_a_release_is_readable_for_all_users_and_has_the_same_time_on_every_node(rooted: Rooted) -> None:
    digest = release(rooted, "one")
    paths = [content(rooted) / "releases" / digest]
    paths += paths[0].rglob("*")
    assert len(paths) == 4
    rooted.assert_readable(content(rooted))
    assert {path.stat().st_mtime for path in paths} == {int(digest[:7], 16) + 1000000000}


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
    (rooted.world.folder / "site").rename(rooted.world.folder / "elsewhere")
    succeeded(send(rooted, digest))
    assert page(rooted) == before


def test_a_node_that_has_a_release_may_close_the_pipe_early(rooted: Rooted) -> None:
    release(rooted, "x" * 10**6)
    release(rooted, "x" * 10**6)


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
    before = (releases / second / "index.html").stat().st_ino
    assert release(rooted, "two", keep=1) == second
    assert page(rooted)[0] == before
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
    (content(rooted) / "incoming").mkdir(parents=True)
    (content(rooted) / "incoming" / "leftover").touch()
    release(rooted, "one")
    assert not (content(rooted) / "current/leftover").exists()


def test_files_that_change_while_they_are_sent_make_no_release(rooted: Rooted) -> None:
    before = release(rooted, "one")
    write_site(rooted, "two")
    assert refused(send(rooted, "f" * 64)) == (
        "core-01: release ffffffffffff was not delivered: the files changed during the transfer; run again: make up\n"
    )
    assert (content(rooted) / "current").resolve().name == before


def test_a_node_that_does_not_answer_fails_its_delivery(rooted: Rooted) -> None:
    digest = write_site(rooted, "one")
    rooted.world.kill("core-01")
    error = refused(send(rooted, digest))
    assert error.startswith(f"core-01: release {digest[:12]} was not delivered: ")
    assert "No route to host" in error


@pytest.mark.parametrize("name", ["index.html", "two words", "ünïcödé", "a\nb", "-n"])
def test_a_folder_has_the_same_hash_in_shell_and_python(rooted: Rooted, name: str) -> None:
    folder = rooted.world.folder / "site/sub"
    folder.mkdir(parents=True)
    for path in (folder / name, folder / "B", folder.parent / "a"):
        path.write_text(f"text of {path.name}")
    done = rooted.world.lib("hash_of site", source="content/hash.sh")
    assert succeeded(done) == f"{release_hash(folder.parent)}\n"

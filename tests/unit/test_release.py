"""A release's manifest, and the facts of files that are kept between runs."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import file_facts as module
from components.file_facts import file_facts, keep_facts
from components.release import manifest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache/swarm-site/files"
    forget()


def forget() -> None:
    """Forget what this process knows, as a new one would."""
    module._kept.cache_clear()
    module._used.cache_clear()


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the paths of files read from now on."""
    paths: list[Path] = []
    read = module._read

    def recorded(path: Path) -> tuple[str, bool]:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(module, "_read", recorded)
    return paths


def settle(path: Path) -> None:
    """Wait until a change of the file is old enough to be kept."""
    monotonic = time.monotonic() + 10
    while time.time_ns() - path.stat().st_ctime_ns <= module.SETTLED_SECONDS * 10**9:
        assert time.monotonic() < monotonic
        time.sleep(0.05)


def test_a_file_is_read_again_only_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, times = tmp_path / "page", (1700000000, 1700000000)
    page.write_text("one")
    os.utime(page, times)
    settle(page)
    read = reads(monkeypatch)
    one = file_facts(page)
    assert file_facts(page) == one
    keep_facts()
    forget()
    assert file_facts(page) == one
    assert read == [page]
    page.write_text("two")
    os.utime(page, times)  # same size, same date
    assert file_facts(page).hash != one.hash
    assert read == [page, page]


def test_the_facts_of_a_file_that_has_just_changed_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page"
    page.write_text("one")
    read = reads(monkeypatch)
    monkeypatch.setattr(module, "SETTLED_SECONDS", 3600)
    for _ in range(2):
        file_facts(page)
        keep_facts()
        forget()
    assert read == [page, page]


def test_a_damaged_cache_and_one_that_can_not_be_written_are_ignored(tmp_path: Path, cache: Path) -> None:
    page = tmp_path / "page"
    page.write_text("one")
    settle(page)
    before = file_facts(page)
    keep_facts()
    (kept,) = cache.iterdir()
    for text in ("", "[]", '{"a": 1}', json.dumps({str(page): ["0" * 64]})):
        kept.write_text(text)
        forget()
        assert file_facts(page) == before
    kept.unlink()
    cache.rmdir()
    cache.write_text("a file")
    keep_facts()


def test_a_manifest_has_a_date_for_each_file(tmp_path: Path) -> None:
    for name in ("same", "changed", "new", "moved"):
        (tmp_path / name).write_text(f"text of {name}")
    facts = {name: file_facts(tmp_path / name).hash for name in ("same", "changed", "new", "moved")}
    before = (
        f"100\n{facts['same']} 50 12 ./same\n{'0' * 64} 60 3 ./changed\n"
        f"{facts['moved']} 70 13 ./before\n{'1' * 64} 80 1 ./gone\n"
    )
    assert manifest(tmp_path, before, 200) == (
        f"200\n{facts['changed']} 200 15 ./changed\n{facts['moved']} 200 13 ./moved\n"
        f"{facts['new']} 200 11 ./new\n{facts['same']} 50 12 ./same\n"
    )
    first = manifest(tmp_path, "", 200)
    assert {line.split(" ")[1] for line in first.splitlines()[1:]} == {"200"}
    assert manifest(tmp_path, first, 300).split("\n", 1)[1] == first.split("\n", 1)[1]


def test_a_manifest_of_names_with_a_line_separator_of_unicode_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "a\u2028b\x85c").write_text("x")
    first = manifest(tmp_path, "", 100)
    assert manifest(tmp_path, first, 200).splitlines()[1].split(" ")[1] == "100"

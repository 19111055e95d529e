"""Selection of a box from a public catalogue."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from components.contract import PROJECT
from tools.box_catalogue import newest


def box(name: str, **more: str) -> Mapping[str, str]:
    return {"name": name, "url": f"https://boxes.example/{name}/{more.get('architecture', 'any')}", **more}


def catalogue(*versions: tuple[str, list[Mapping[str, str]]]) -> Mapping[str, Any]:
    return {"versions": [{"version": version, "providers": boxes} for version, boxes in versions]}


CATALOGUE = catalogue(
    ("12.2", [box("one", architecture="amd64"), box("other", architecture="arm64")]),
    ("12.1", [box("other", architecture="amd64")]),
    ("12.0", [box("other")]),
)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("one", ("12.2", "https://boxes.example/one/amd64")),
        ("other", ("12.1", "https://boxes.example/other/amd64")),
        ("third", None),
    ],
)
def test_the_newest_box_of_this_architecture_is_chosen(provider: str, expected: tuple[str, str] | None) -> None:
    assert newest(CATALOGUE, provider) == expected


@pytest.mark.parametrize("more", [{}, {"architecture": "unknown"}])
def test_a_box_of_no_architecture_counts(more: Mapping[str, str]) -> None:
    found = newest(catalogue(("1", [box("other", **more)])), "other")
    assert found
    assert found[0] == "1"


def run(text: str, provider: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.box_catalogue", provider]
    return subprocess.run(command, cwd=PROJECT, input=text, capture_output=True, text=True, check=False)


def test_it_prints_version_and_url() -> None:
    done = run(json.dumps(CATALOGUE), "other")
    assert (done.stdout, done.stderr) == ("12.1 https://boxes.example/other/amd64\n", "")


def test_a_catalogue_without_a_box_fails_with_a_message() -> None:
    done = run(json.dumps(CATALOGUE), "third")
    assert (done.stdout, done.stderr, done.returncode) == ("", "the catalogue has no box for third\n", 1)


def test_what_is_no_catalogue_fails() -> None:
    assert run("<html>", "other").returncode != 0
    assert run('{"errors": []}', "other").returncode != 0

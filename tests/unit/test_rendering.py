"""Rendering: the files of `templates/` as text, without undefined names."""

from pathlib import Path

import pytest
from jinja2 import FileSystemLoader, TemplateNotFound, UndefinedError

from components import rendering
from components.rendering import TEMPLATES, render


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rendering._environment, "loader", FileSystemLoader(tmp_path))
    return tmp_path


def test_the_same_arguments_give_the_same_text() -> None:
    first, second, other = (render("swarm/ssh_config", work=work, timeout_factor=1) for work in ("a", "a", "b"))
    assert first == second != other


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'work' is undefined"):
        render("swarm/ssh_config")


def test_an_attribute_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="has no attribute 'name'"):
        render("machines/Vagrantfile", stack="dev", node=object(), box="", network=object())


def test_a_template_that_is_not_there_is_an_error() -> None:
    with pytest.raises(TemplateNotFound, match="no/such"):
        render("no/such")


def test_a_template_outside_of_the_folder_is_out_of_reach() -> None:
    assert (TEMPLATES / "../Pulumi.yaml").exists()
    with pytest.raises(TemplateNotFound):
        render("../Pulumi.yaml")


def test_what_shell_docker_and_nginx_write_stays_as_it_is(templates: Path) -> None:
    text = "${#name} ${name%%text} {{.Node.Hostname}} {% if %} {# %} $host <&>\"'\n"
    (templates / "file").write_text(text)
    assert render("file") == text


def test_a_line_that_only_steers_leaves_no_line(templates: Path) -> None:
    (templates / "file").write_text("a\n  @% if yes %@\nb @{ value }@\n  @% endif %@\n@# a remark #@\nc\n\n")
    assert render("file", yes=True, value="<&>") == "a\nb <&>\nc\n\n"
    assert render("file", yes=False) == "a\nc\n\n"


def test_an_included_file_is_rendered_with_the_same_values(templates: Path) -> None:
    (templates / "lib").write_text("one @{ value }@\n")
    (templates / "file").write_text('@% include "lib" %@\ntwo\n')
    assert render("file", value="1") == "one 1\ntwo\n"

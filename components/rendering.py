"""Turns the files of `templates/` into text. Pure: the same arguments give the same text."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components import contract

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"

# Nothing here is HTML; the settings refuse hostile values.
# Jinja's own marks collide with the shell's `${#name}` and `${name%%text}` and with Docker's `{{.Name}}`.
_environment = Environment(
    variable_start_string="@{",
    variable_end_string="}@",
    block_start_string="@%",
    block_end_string="%@",
    comment_start_string="@#",
    comment_end_string="#@",
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,
)
_environment.globals["contract"] = contract


def render(template: str, **values: object) -> str:
    """Render one file of `templates/`.

    Args:
        template: the file's path below `templates/`.
        values: what the template names; a name without a value is an error.

    Raises:
        jinja2.UndefinedError: the template names a value that was not given.
        jinja2.TemplateNotFound: there is no such file.
    """
    return _environment.get_template(template).render(**values)

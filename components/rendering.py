"""Renders the files of `templates/`. Pure: the same arguments return the same text."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components import contract

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"

# Nothing here is HTML; the settings refuse hostile values.
# Jinja's default delimiters collide with the shell's `${#name}` and `${name%%text}` and with Docker's `{{.Name}}`.
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
        template: path relative to `templates/`.
        values: values of the template's names; a missing one is an error.

    Raises:
        jinja2.UndefinedError: the template uses a name without a value.
        jinja2.TemplateNotFound: the file does not exist.
    """
    return _environment.get_template(template).render(**values)

"""The template, and the only user of jinja2: from the flat view to one HTML text that needs nothing else."""

import base64
import hashlib
import re
from importlib.resources import files

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from weighin_analysis.report.view import Page

_UNIT = re.compile(r"(?<=\d) (?=(?:%|s|ms|GB|GiB|MiB|KiB|GHz|GB/s|GFLOP/s|tokens|models?)(?:\W|$))")


def render(page: Page) -> str:
    """Return the page as HTML. Every text of the view is escaped; the only style is ours, named by its hash."""
    style = _read("page.css")
    environment = Environment(
        loader=BaseLoader(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_keep_units,
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = environment.from_string(_read("page.html.jinja"))
    return template.render(page=page, style=Markup(style), style_hash=digest)  # noqa: S704 our own file


def _keep_units(value: object) -> object:
    """Return a text with its numbers tied to their units, so that no line breaks between them."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", value) if type(value) is str else value


def _read(name: str) -> str:
    return (files("weighin_analysis.report") / "templates" / name).read_text(encoding="utf-8")

"""The template, and the only user of jinja2: from the view to one HTML text that needs nothing else."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from weighin_analysis.report.view import Page

_UNIT = re.compile(r"(?<=\d) (?=(?:%|s|ms|GB|GiB|MiB|KiB|GHz|GB/s|GFLOP/s|tokens|models?)(?:\W|$))")
_PALETTE = re.compile(r"--([a-z-]+): (#[0-9a-f]{3,6})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A chart as SVG, for a desktop and for a phone."""

    wide: str
    narrow: str


def render(page: Page, drawings: Mapping[str, Drawing]) -> str:
    """Return the page as HTML; ``drawings`` are the charts by the anchor of their figure.

    Every text of the view is escaped; style and script are ours alone, named by their hashes.
    """
    style, script = _read("page.css"), _read("page.js")
    environment = Environment(
        loader=BaseLoader(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_keep_units,
    )
    template = environment.from_string(_read("page.html.jinja"))
    return template.render(
        page=page,
        # The drawing library has escaped every text in a chart; the other two are our own files.
        drawings={
            anchor: {"wide": Markup(one.wide), "narrow": Markup(one.narrow)}  # noqa: S704
            for anchor, one in drawings.items()
        },
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        style_hash=_digest(style),
        script_hash=_digest(script),
    )


@cache
def light_palette() -> Mapping[str, str]:
    """Return the colours of the page by name, as they are on light paper."""
    return dict(_PALETTE.findall(_read("page.css").split("@media", maxsplit=1)[0]))


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _keep_units(value: object) -> object:
    """Return a text with its numbers tied to their units, so that no line breaks between them."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", value) if type(value) is str else value


def _read(name: str) -> str:
    return (files("weighin_analysis.report") / "templates" / name).read_text(encoding="utf-8")

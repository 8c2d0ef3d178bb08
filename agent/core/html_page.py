"""HTML pages that stand alone: nothing is loaded, every value is escaped, only the page's own script may run."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from agent.core.writing import writing

_STYLE, _SCRIPT = Path(__file__).with_name("page.css"), Path(__file__).with_name("page.js")


def write_page(template: Path, path: Path, **values: Any) -> None:
    """Render a Jinja template to a file; it gets ``style``, ``script`` and ``policy`` besides ``values``.

    Raises
    ------
    UsageError, NotWritable
        The file cannot be written.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style, script = (file.read_text(encoding="utf-8") for file in (_STYLE, _SCRIPT))
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    page = environment.from_string(template.read_text(encoding="utf-8")).render(
        # both are files of this package
        style=Markup(style),
        script=Markup(script),
        policy=policy,
        **values,
    )
    with writing(path):
        path.write_text(page, encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

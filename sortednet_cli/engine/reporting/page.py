"""The page of a report: its template, style and script, the plotting library and the data.

Vega-Lite draws the plots. With all it needs it takes 0.9 MB, a fifth of plotly, and its SVG can be
described to screen readers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sortednet_cli.errors import RequestError, install_line
from sortednet_cli.storage.files import require_creatable, write_text

_SUFFIX = ".html"
_SCRIPTS = ("choice.js", "tables.js", "plots.js", "report.js")
_PARTS = files("sortednet_cli.engine.reporting") / "page"


def check_page(out: Path | None) -> None:
    """Check what can be told before the work begins.

    Raises:
        RequestError: the plotting library is missing, or no report can be written to `out`.
    """
    check_library("report")
    if out is None:
        return
    if out.suffix != _SUFFIX:
        raise RequestError(f"--out {out}: the name must end in {_SUFFIX}")
    require_creatable(out)
    if not out.absolute().parent.is_dir():
        raise RequestError(f"--out {out}: there is no folder {out.absolute().parent}")


def check_library(what: str) -> None:
    """RequestError if the plotting library is missing, which `what` needs."""
    if find_spec("vl_convert") is None:
        raise RequestError(f"{what} needs: {install_line('report')}")


def write_page(document: Mapping[str, Any], out: Path) -> None:
    """Write the page of a document; WorkError if it cannot be written."""
    data = json.dumps(document, separators=(",", ":"), allow_nan=False)
    parts = {
        "style": _part("report.css"),
        "library": _library(),
        "script": "\n".join(map(_part, _SCRIPTS)),
        "data": data.replace("<", r"\u003c"),
    }
    # In one pass, so that nothing in the data is taken for a placeholder.
    write_text(out, re.sub(r"\{\{ (\w+) \}\}", lambda at: parts[at[1]], _part("report.html")))


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Make one script of Vega-Embed, Vega and Vega-Lite; this takes seconds."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", r"<\/script")

"""Formats that cannot hold a model: which operation they lack, and which other formats have it."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from torch import nn

from sortednet_cli.engine.export.formats import DEFAULT_FORMAT, Format, find_format, own_formats
from sortednet_cli.errors import RequestError, SortednetError, listed, reason_of
from sortednet_cli.families import Inputs
from sortednet_cli.machine.memory import lack_of_memory

_OPERATION = re.compile(r"\b(?:aten|prims|torchvision|higher_order)[.:]{1,2}\w+|fx node \w+")
"""How exporters name an operation in their errors."""


@contextmanager
def told_operations(further: Format, module: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Tell an exporter's error in one message.

    Raises:
        RequestError: it names the operation, if the exporter did, and the formats that can hold
            the model, which are tried.
    """
    # With its error torch prints all of the graph that it had traced.
    with redirect_stderr(io.StringIO()):
        try:
            yield
        except (SortednetError, OSError):
            raise
        except Exception as error:
            if lack_of_memory(error):
                raise
            can = [DEFAULT_FORMAT, *_able(further, module, inputs)]
            raise RequestError(
                f"--format {further.name} cannot hold this model: {_operation(error)};"
                f" {listed(can)} can"
            ) from error


def _operation(error: BaseException) -> str:
    """Name the operation that an exporter lacks, or tell its error if it names none."""
    each: BaseException | None = error
    while each is not None:
        if found := _OPERATION.search(str(each)):
            return f"it has no {found[0].replace('fx node ', '')}"
        each = each.__cause__ or each.__context__
    return reason_of(error)


def _able(further: Format, module: nn.Module, inputs: Inputs) -> Iterator[str]:
    """Yield the installed formats of this package that write the model without an error."""
    kind = "text" if isinstance(inputs, dict) else "image"
    for name in own_formats():
        other = find_format(name)
        if other is None or name == further.name or other.lossy:
            continue
        try:
            other.check(kind)
            with tempfile.TemporaryDirectory() as folder:
                other.write(module, inputs, Path(folder) / other.file)
        except Exception:
            continue
        yield name

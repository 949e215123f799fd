"""Tables that print as text, show as HTML in a notebook, and are drawn by rich."""

import html
import io
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table


class Tabular:
    """Has a header, rows of cells and a caption."""

    header: ClassVar[Sequence[str]]

    @property
    def caption(self) -> str:
        raise NotImplementedError

    def cells(self) -> list[list[str]]:
        """The table's body."""
        raise NotImplementedError

    def __rich__(self) -> Table:
        table = Table(*self.header, caption=self.caption, caption_justify="left")
        for column in table.columns:
            column.overflow = "fold"  # a narrow terminal shows all of it, in more lines
        for cells in self.cells():
            table.add_row(*cells)
        return table

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=120, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.cells())
        return f"<table><caption>{html.escape(self.caption)}</caption>{row(self.header, 'th')}{body}</table>"


def name_of(rule: Any) -> str:
    """What a table calls a rule: its class, and its baseline if it has one."""
    baseline = getattr(rule, "baseline", None)
    name = type(rule).__name__
    if baseline is None:
        return name
    return f"{name}({getattr(baseline, '__name__', None) or type(baseline).__name__})"

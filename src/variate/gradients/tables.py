"""Tables that print as text, show as HTML in a notebook, and are drawn by rich."""

import dataclasses
import html
import io
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table

from variate import checks


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
    """What a table calls a rule: its class, its baseline, and those of its numbers that are not what they are unasked.

    The first is written as it is, those after one that is left out with their names.
    """
    parts, named = [], False
    for each in dataclasses.fields(rule) if dataclasses.is_dataclass(rule) else ():
        value = getattr(rule, each.name)
        if not each.repr:  # it is not the user's
            continue
        if value is not None and (each.name == "baseline" or value != each.default):
            parts.append(f"{each.name}={_shown(value)}" if named else _shown(value))
        else:
            named = True
    return checks.name_of(type(rule)) + (f"({', '.join(parts)})" if parts else "")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        inside = ", ".join(map(_shown, value))
        return inside if len(value) == 1 else f"({inside})"
    if isinstance(value, bool | int | float | str):
        return str(value)
    return checks.name_of(value) if callable(value) else name_of(value)

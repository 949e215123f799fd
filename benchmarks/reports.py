"""Rows of a benchmark: on the screen, and in files that name the machine and the versions."""

import json
import math
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from timing import Pair

import variate

COLUMNS = ("program", "what", "ours", "peer", "ratio", "95%", "bound", "ok")
PACKAGES = ("jax", "jaxlib", "numpyro", "scipy", "chaospy", "salib", "torch", "storchastic", "pyro-ppl", "pot", "ray")


class Row(NamedTuple):
    """One comparison; its bound is on the ratio, or on ours where there is no peer."""

    program: str
    what: str
    ours: float
    peer: float | None
    unit: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None

    @classmethod
    def of(cls, program: str, what: str, pair: Pair, bound: float | None) -> "Row":
        return cls(program, what, 1e3 * pair.ours, 1e3 * pair.peer, "ms", pair.ratio, pair.low, pair.high, bound)

    @property
    def ok(self) -> bool | None:
        if self.bound is None:
            return None
        return (self.ours if self.ratio is None else self.ratio) <= self.bound

    def cells(self) -> list[str]:
        ratio = "" if self.ratio is None else _ratio(self.ratio)
        interval = "" if self.low is None or self.high is None else f"{_ratio(self.low)}–{_ratio(self.high)}"
        unit = f" {self.unit}" if self.ratio is None and self.unit else ""
        bound = "" if self.bound is None else f"≤ {self.bound:g}{unit}"
        ok = {True: "yes", False: "NO", None: ""}[self.ok]
        return [self.program, self.what, self._amount(self.ours), self._amount(self.peer), ratio, interval, bound, ok]

    def _amount(self, value: float | None) -> str:
        if value is None:
            return ""
        return (f"{value:,.0f} {self.unit}" if value >= 1000 else f"{value:.3g} {self.unit}").rstrip()


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


class Section(NamedTuple):
    """A table under a heading of its own; its rows have a program, cells and whether they are ok, as `Row` has."""

    title: str
    columns: tuple[str, ...]
    rows: list[Any]


def table(rows: list[Any], columns: tuple[str, ...] = COLUMNS) -> Table:
    shown = Table(*columns, box=box.SIMPLE)
    for column in shown.columns[2:]:
        column.justify, column.no_wrap = "right", True
    for row, before in zip(rows, [None, *rows], strict=False):
        name, *cells = row.cells()
        same = before is not None and before.program == row.program
        shown.add_row("" if same else name, *cells, style="red" if row.ok is False else None)
    return shown


def finish(rows: list[Row], name: str, title: str, quick: bool, console: Console) -> int:
    """Show them and write `results/<name>`; a smoke run does not, and judges no speed. 1 where a bound was missed."""
    rows = [row._replace(bound=None) for row in rows] if quick else rows
    console.print(table(rows))
    if not quick:
        write(rows, Path(__file__).parent / "results" / name, title)
    return int(any(row.ok is False for row in rows))


def machine() -> dict[str, Any]:
    """What was measured on; no names of hosts."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "variate": variate.__version__,
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write(rows: list[Row], path: Path, title: str) -> None:
    """`path` with .json and with .md."""
    about = machine()
    found = {"machine": about, "rows": [{**row._asdict(), "ok": row.ok} for row in rows]}
    _write(found, [f"# {title}", "", _said(about), "", *_lines(rows, COLUMNS)], path)


def write_sections(sections: list[Section], path: Path, title: str, words: str, **more: str) -> None:
    """The same for several tables, after some words; `more` is what else was measured on."""
    about = {**machine(), **more}
    found = {"machine": about, "sections": {each.title: [_record(row) for row in each.rows] for each in sections}}
    lines = [f"# {title}", "", _said(about), "", words]
    for each in sections:
        lines += ["", f"## {each.title}", "", *_lines(each.rows, each.columns)]
    _write(found, lines, path)


def _record(row: Any) -> dict[str, Any]:
    found = {**(row.record() if hasattr(row, "record") else row._asdict()), "ok": row.ok}
    # JSON has no numbers that are none.
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in found.items()}


def _said(about: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in about.items()) + "."


def _lines(rows: list[Any], columns: tuple[str, ...]) -> list[str]:
    rule = "|---|---|" + "--:|" * (len(columns) - 2)
    return [f"| {' | '.join(columns)} |", rule, *(f"| {' | '.join(row.cells())} |" for row in rows)]


def _write(found: dict[str, Any], lines: list[str], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")

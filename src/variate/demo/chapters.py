"""What the demo has to say of each part: for the terminal as rich prints it, for the report as HTML."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

import variate as vt
from variate.demo import figures
from variate.demo.comparison import Comparison
from variate.demo.discontinuity import DEADLINE, FINE, SPEED
from variate.demo.findings import Findings
from variate.gradients import Explanation

EXPLAINED = ("draw", "distribution", "rule", "why", "biased", "reaches", "share")


@dataclass(frozen=True)
class Chapter:
    """A title, a paragraph, a table with a note, an explanation of the gradient, and pictures by name."""

    title: str
    text: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str
    explanation: Explanation | None
    pictures: Mapping[str, figures.Draw]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | Table]:
        yield Text(self.title, style="bold")
        yield Text(self.text)
        yield _table(self.header, self.rows)
        yield Text(self.note)
        if self.explanation is not None:
            cells = [(draw.partition(" (")[0], *rest) for draw, _, *rest in self.explanation.cells()]
            yield _table((EXPLAINED[0], *EXPLAINED[2:]), cells)
            yield Text(f"vt.explain: {self.explanation.caption}")

    def html(self, image: Callable[[str], str]) -> str:
        """As HTML; `image` makes an address of a picture's name."""
        pictures = "".join(f'<img src="{image(name)}" alt="{escape(name)}">' for name in self.pictures)
        found = self.explanation
        explained = _html_table(EXPLAINED, found.cells(), f"vt.explain: {found.caption}") if found else ""
        return (
            f"<section><h2>{escape(self.title)}</h2><p>{escape(self.text)}</p>"
            f"{_html_table(self.header, self.rows, self.note)}{pictures}{explained}</section>"
        )


def _html_table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<table>{line(header, "th")}{body}</table><p class="note">{escape(caption)}</p>'


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """Narrow enough for 80 columns, and nothing cut off."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, *cells in zip(header, *rows, strict=True):
        table.add_column(name, overflow="fold", no_wrap=max(map(len, cells)) <= 24)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def autoencoder(findings: Findings) -> Chapter | None:
    found = findings.training
    if found is None or not found.held_out:
        return None
    done, after = found.held_out[-1]
    rows = [
        ("before training", str(found.held_out[0][1])),
        (f"after {done} passes over the training images", str(after)),
        ("independent pixels, for comparison", f"{found.independent:.2f}"),
    ]
    pictures = {"training": figures.training(found)}
    pictures |= {"digits": figures.digits(found.album)} if found.album else {}
    return Chapter(
        "1. An autoencoder with 64 Bernoulli latents in two layers, trained by vt.value_and_grad",
        "Its 64 latents are bits, which have no derivative; the gradient of their expectation has one.",
        ("360 held-out images", "bound, nats per image"),
        rows,
        "The error bars are those of the drawn latents.",
        findings.explanations.get("autoencoder"),
        pictures,
    )


def rules(findings: Findings) -> Chapter | None:
    found = findings.comparison
    if found is None or not found.entries:
        return None
    return Chapter(
        "2. The same gradient by every legal rule, against the exact one",
        f"A small autoencoder has only {2 ** len(found.exact):,} outcomes, so its gradient for one image can be "
        f"summed exactly; beside it, that of {found.num_samples:,} runs by each rule.",
        ("rule", "derivative", "max |z|", "variance", "µs", "product"),
        [("exact", f"{found.exact[_largest(found)]:.5f}", "", "", "", ""), *_entries(found)],
        "Derivative: the largest in the encoder's 10 biases. Max |z|: the worst of the 10 against the exact gradient, "
        f"in standard errors; unbiased, it exceeds {found.furthest_expected:.1f} once in 20. Variance: of a run, over "
        f"the 10; beside it the time of a run, and the product of the two. Pathwise is refused: {found.refusal}",
        findings.explanations.get("rules"),
        {"rules": figures.rules(found)},
    )


def _largest(found: Comparison) -> int:
    return int(np.argmax(np.abs(found.exact)))


def _entries(found: Comparison) -> list[tuple[str, ...]]:
    i = _largest(found)
    return [
        (
            entry.rule,
            str(vt.Estimate(entry.value[i], entry.stderr[i], found.num_samples)).partition(" (")[0],
            f"{np.max(np.abs(entry.deviations(found.exact))):.1f}",
            f"{entry.variance:.3g}",
            f"{1e6 * entry.seconds:.2g}",
            f"{1e6 * entry.variance_times_time:,.3g}",
        )
        for entry in found.entries
    ]


def discontinuity(findings: Findings) -> Chapter | None:
    found = findings.discontinuity
    if found is None:
        return None
    exact, plain, ours = found.example
    costs = {name: figures.exact(path[-1:])[0][0] for name, path in found.paths.items()}
    return Chapter(
        "3. Where plain JAX is wrong, and sure of it",
        f"A machine's cost is its speed squared, plus a fine of {FINE:g} if a job takes more than {DEADLINE:g} hours. "
        "The derivative of one run does not know that a faster machine is fined less often.",
        (f"at speed {SPEED}", "derivative of the expected cost"),
        [
            ("exact", f"{exact:.3f}"),
            ("jax.grad, mean of runs", str(plain)),
            ("vt.grad with Pathwise", f"BiasedGradientError: {found.refusal}"),
            ("vt.grad", str(ours)),
        ],
        "Descending each from there ends at an expected cost of "
        + " and ".join(f"{cost:.1f} with {name}" for name, cost in costs.items())
        + ".",
        findings.explanations.get("discontinuity"),
        {"discontinuity": figures.discontinuity(found)},
    )


def pictures(chapters: list[Chapter]) -> dict[str, Any]:
    """What draws each picture, the summary of all of them first if they are all there."""
    parts = {name: draw for chapter in chapters for name, draw in chapter.pictures.items()}
    summary = {"demo": figures.summary(list(parts.values()))} if len(parts) == 4 else {}
    return {**summary, **parts}

"""What the demo has to say of each part: for the terminal as rich prints it, for the report as HTML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

import variate as vt
from variate.demo import figures
from variate.demo.comparison import Comparison
from variate.demo.discontinuity import DEADLINE, FINE, SPEED
from variate.demo.findings import Findings
from variate.gradients import Explanation


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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, style="bold")
        yield Text(self.text)
        table = Table(*self.header, show_header=any(self.header))
        for row in self.rows:
            table.add_row(*map(Text, row))
        yield table
        yield Text(self.note)
        if self.explanation is not None:
            yield self.explanation.__rich__()

    def html(self, image: Callable[[str], str]) -> str:
        """As HTML; `image` makes an address of a picture's name."""

        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        head = line(self.header, "th") if any(self.header) else ""
        pictures = "".join(f'<img src="{image(name)}" alt="{escape(name)}">' for name in self.pictures)
        explained = "" if self.explanation is None else self.explanation._repr_html_()
        return (
            f"<section><h2>{escape(self.title)}</h2><p>{escape(self.text)}</p>"
            f"<table>{head}{''.join(line(row, 'td') for row in self.rows)}</table>"
            f"<p>{escape(self.note)}</p>{pictures}{explained}</section>"
        )


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
        f"A small autoencoder has only 1,024 outcomes, so its gradient for one image can be summed exactly; "
        f"beside it, that of {found.num_samples:,} runs by each rule.",
        ("rule", "largest derivative", "furthest of 10", "variance", "time a run", "variance × time"),
        [("exact", f"{found.exact[_largest(found)]:.5f}", "", "", "", ""), *_entries(found)],
        f"'Furthest' is in standard errors, the worst of the encoder's 10 biases: without a bias it exceeds "
        f"{found.furthest_expected:.1f} once in 20. {found.refusal}",
        findings.explanations.get("rules"),
        {"rules": figures.rules(found)},
    )


def _largest(found: Comparison) -> int:
    return int(np.argmax(np.abs(found.exact)))


def _entries(found: Comparison) -> list[tuple[str, ...]]:
    best, i = min(entry.variance_times_time for entry in found.entries), _largest(found)
    return [
        (
            entry.rule,
            str(vt.Estimate(entry.value[i], entry.stderr[i], found.num_samples)),
            f"{np.max(np.abs(entry.deviations(found.exact))):.1f}",
            f"{entry.variance:.3g}",
            f"{1e6 * entry.seconds:.2g} µs",
            f"{entry.variance_times_time / best:.3g} × the best",
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
        f"A machine's cost is its speed squared, plus a fine of {FINE:g} when a job takes more than {DEADLINE:g} hours. The "
        "derivative of one run does not know that a faster machine is fined less often.",
        (f"derivative at speed {SPEED}", ""),
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

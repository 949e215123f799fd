"""The demo from end to end: its parts one after the other, and what they say."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import variate as vt
from variate.demo import chapters, comparison, discontinuity, report, training
from variate.demo.autoencoder import negative_elbo
from variate.demo.chapters import Chapter
from variate.demo.findings import Findings


class Effort(NamedTuple):
    """How much is done."""

    epochs: int  # of training
    num_samples: int  # of each rule's gradient


FULL, QUICK = Effort(256, 4096), Effort(16, 512)


def run(out: Path, seed: int, quick: bool, console: Console) -> Findings:
    """Run every part and write the report into the folder `out`; after Ctrl-C, write what there is."""
    start = time.perf_counter()
    findings = Findings(seed, *(QUICK if quick else FULL))
    console.print(f"Variate {vt.__version__} on scikit-learn's 1,797 handwritten digits, seed {seed}", style="bold")
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}")
    for part, key in zip(PARTS, jax.random.split(jax.random.key(seed), len(PARTS)), strict=True):
        try:
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task(part.name, total=1.0, note="")
                for done, note in part.steps(key, findings):
                    progress.update(task, completed=done, note=note)
        except KeyboardInterrupt:
            findings.interrupted = part.name
        if chapter := part.chapter(findings):
            console.print()
            console.print(chapter)
        if findings.interrupted:
            console.print(f"\n{findings.status}: writing what there is", style="bold red")
            break
    findings.seconds = time.perf_counter() - start
    page, others = report.write(findings, [chapter for part in PARTS if (chapter := part.chapter(findings))], out)
    console.print(f"\n[bold]{page}[/] opens in any browser, without a network; beside it {', '.join(others)}")
    console.print(f"{findings.status} after {findings.seconds:.0f} s")
    return findings


def train(key: Key[Array, ""], findings: Findings) -> Iterator[tuple[float, str]]:
    key_data, key_model, key_train, key_album, key_explain = jax.random.split(key, 5)
    data = training.digits(key_data)
    findings.training = found = training.start(key_model, data, findings.epochs)
    for done, bound in enumerate(training.advance(key_train, found, data)):
        yield done / findings.epochs, f"held-out bound {bound}"
    found.album = training.album(key_album, found.model, data.held_out[:10])
    findings.explanations["autoencoder"] = vt.explain(negative_elbo)(key_explain, found.model, data.held_out[0])


def compare_rules(key: Key[Array, ""], findings: Findings) -> Iterator[tuple[float, str]]:
    key_data, key_compare, key_explain = jax.random.split(key, 3)
    image = training.digits(key_data).held_out[0]
    for done, found in enumerate(comparison.compare(key_compare, image, findings.num_samples)):
        findings.comparison = found
        yield done / len(comparison.RULES), ""
    if found := findings.comparison:
        findings.explanations["rules"] = vt.explain(negative_elbo)(key_explain, found.model, image)


def miss_deadlines(key: Key[Array, ""], findings: Findings) -> Iterator[tuple[float, str]]:
    key_compare, key_explain = jax.random.split(key)
    yield 0.0, ""
    findings.discontinuity = discontinuity.compare(key_compare)
    yield 0.8, ""
    speed = jnp.asarray(discontinuity.SPEED, jnp.float32)
    findings.explanations["discontinuity"] = vt.explain(discontinuity.cost)(key_explain, speed)


class Part(NamedTuple):
    """What fills in some of the findings, yielding how far it is and a note on that; and what tells of them."""

    name: str
    steps: Callable[[Key[Array, ""], Findings], Iterator[tuple[float, str]]]
    chapter: Callable[[Findings], Chapter | None]


PARTS = (
    Part("training the autoencoder", train, chapters.autoencoder),
    Part("comparing gradient rules", compare_rules, chapters.rules),
    Part("differentiating a discontinuity", miss_deadlines, chapters.discontinuity),
)

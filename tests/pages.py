"""Runs the code of a documentation page as a reader would, and compares what it prints with what the page says."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from layout import ROOT
from markdown_it import MarkdownIt
from xla import FLAGS


@dataclass(frozen=True)
class Block:
    """A python fence: the line of its first statement, and the output that the page shows for it, if any."""

    line: int
    code: str
    output: str | None


def blocks(text: str) -> list[Block]:
    """The python fences of a page. A text fence is the output of the python fence before it, and must have one."""
    found: list[Block] = []
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence" and token.map]
    for token in fences:
        if token.info == "python":
            found.append(Block(token.map[0] + 2, token.content, None))
        elif token.info == "text":
            if not found or found[-1].output is not None:
                raise ValueError(f"line {token.map[0] + 1}: an output without a python block before it")
            found[-1] = Block(found[-1].line, found[-1].code, token.content)
    if len(found) != sum(line.strip().startswith("```python") for line in text.splitlines()):
        raise ValueError("a python block that would not be run: it is indented, or its fence says more than python")
    return found


# Each page is read by a copy of a process that has only imported the library. That takes 2 s of processor time, and a
# copy 0.1 s, as it leaves what it shares alone. One namespace a page; blank lines in front, so that tracebacks and
# `vt.explain` give the page's own line numbers.
_READ = """
import contextlib, gc, io, json, os, sys
import variate
gc.freeze()
for request in sys.stdin:
    folder, page, blocks = json.loads(request)
    if reader := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]), flush=True)
        continue
    os.chdir(folder)
    os.dup2(os.open("errors.txt", os.O_WRONLY | os.O_CREAT), 2)
    namespace, outputs = {"__name__": "__main__"}, []
    for line, code in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile("\\n" * (line - 1) + code, page, "exec"), namespace)
        outputs.append(printed.getvalue())
    with open("outputs.json", "w") as file:
        json.dump(outputs, file)
    break
"""


@contextmanager
def reading() -> Iterator[Callable[[str, str, Path], list[str]]]:
    """Gives `disagreements(page, text, folder)`: what is wrong on a page, run in `folder` with JAX's own defaults."""
    # A terminal's width and colours are the reader's own; the pages show a plain one, 100 wide.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "PYTEST_"))}
    plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg"}
    alone = {"OPENBLAS_NUM_THREADS": "1"}  # a process with threads cannot be copied
    # As `variate.compiling` has it: what pages print is the same, and most of their time is compiling.
    sooner = {"XLA_FLAGS": FLAGS}
    with subprocess.Popen(
        [sys.executable, "-c", _READ],
        env=kept | plain | alone | sooner | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdin
        assert process.stdout

        def disagreements(page: str, text: str, folder: Path, rounded: bool = False) -> list[str]:
            found = blocks(text)
            copy = folder / Path(page).name  # where tracebacks and `inspect` look for the source
            copy.write_text(text, encoding="utf-8")
            print(
                json.dumps([str(folder), copy.name, [(block.line, block.code) for block in found]]),
                file=process.stdin,
                flush=True,
            )
            if (status := process.stdout.readline().strip()) != "0":
                return [f"{page} ended with {status}\n" + (folder / "errors.txt").read_text(encoding="utf-8")]
            return [
                f"{page}:{block.line}: the page says\n{block.output}\nbut the code prints\n{printed}"
                for block, printed in zip(found, json.loads((folder / "outputs.json").read_text()), strict=True)
                if block.output is not None
                and _lines(block.output) != _lines(printed)
                and not (rounded and alike(block.output, printed))
            ]

        yield disagreements


NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def alike(said: str, printed: str) -> bool:
    """The same words, and means within five of their standard errors: all that holds where another rounding leads
    chains elsewhere. Other numbers, of effective draws say, need only be there."""
    ones, others = ([" ".join(part.split()) for part in NUMBER.split(text)] for text in (said, printed))
    if ones != others:
        return False
    pairs = [
        (float(a.replace(",", "")), float(b.replace(",", "")))
        for a, b in zip(*map(NUMBER.findall, (said, printed)), strict=True)
    ]
    return all(
        abs(pairs[i][0] - pairs[i][1]) <= 5 * math.hypot(*pairs[i + 1])
        for i, between in enumerate(ones[1:-1])
        if between == "±"
    )


def _lines(output: str) -> list[str]:
    """Spaces at the ends of lines, which tables are padded with, cannot be seen on a page."""
    return [line.rstrip() for line in output.rstrip().splitlines()]

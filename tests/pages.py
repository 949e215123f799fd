"""Runs the code of a documentation page as a reader would, and compares what it prints with what the page says."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from layout import ROOT
from markdown_it import MarkdownIt


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


# One namespace a page; blank lines in front, so that tracebacks and `vt.explain` give the page's own line numbers.
_RUN = """
import contextlib, io, json, sys
page, blocks = json.load(sys.stdin)
namespace, outputs = {"__name__": "__main__"}, []
for line, code in blocks:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile("\\n" * (line - 1) + code, page, "exec"), namespace)
    outputs.append(printed.getvalue())
json.dump(outputs, sys.stdout)
"""


def disagreements(page: str, text: str, folder: Path) -> list[str]:
    """What is wrong on a page, run in `folder` by a fresh interpreter with JAX's own defaults, on the CPU."""
    found = blocks(text)
    copy = folder / Path(page).name  # where tracebacks and `inspect` look for the source
    copy.write_text(text, encoding="utf-8")
    # A terminal's width and colours are the reader's own; the pages show a plain one, 100 wide.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "PYTEST_"))}
    plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg"}
    run = subprocess.run(
        [sys.executable, "-c", _RUN],
        input=json.dumps([copy.name, [(block.line, block.code) for block in found]]),
        env=kept | plain | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"},
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
    )
    if run.returncode:
        return [run.stderr]
    return [
        f"{page}:{block.line}: the page says\n{block.output}\nbut the code prints\n{printed}"
        for block, printed in zip(found, json.loads(run.stdout), strict=True)
        if block.output is not None and _lines(block.output) != _lines(printed)
    ]


def _lines(output: str) -> list[str]:
    """Spaces at the ends of lines, which tables are padded with, cannot be seen on a page."""
    return [line.rstrip() for line in output.rstrip().splitlines()]

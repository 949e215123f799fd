"""The files that the demo leaves: pictures, numbers, and a page that holds all of it."""

import base64
import json
from html import escape
from pathlib import Path

from variate.demo.chapters import Chapter, pictures
from variate.demo.figures import png
from variate.demo.findings import Findings

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; border-radius: 6px; background: white; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; display: block; overflow-x: auto; }
.note { opacity: 0.75; font-size: 0.9rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.7rem; border-bottom: 1px solid #8885; }
td { font-variant-numeric: tabular-nums; } th { font-weight: 600; }
footer { margin-top: 3rem; opacity: 0.75; font-size: 0.9rem; } .status { color: #d1495b; font-weight: 600; }
"""


def write(findings: Findings, chapters: list[Chapter], out: Path) -> tuple[Path, list[str]]:
    """Write everything; the path of the page, and the names of the other files."""
    images = {}
    for name, draw in pictures(chapters).items():
        size = (16, 9) if name == "demo" else (9.6, 5.2)
        images[name] = png(draw, *size)
        (out / f"{name}.png").write_bytes(images[name])
    (out / "results.json").write_text(json.dumps(findings.numbers(), indent=1), encoding="utf-8")
    page = out / "report.html"
    page.write_text(_page(findings, chapters, images), encoding="utf-8")
    return page, ["results.json", *(f"{name}.png" for name in images)]


def _page(findings: Findings, chapters: list[Chapter], images: dict[str, bytes]) -> str:
    def image(name: str) -> str:
        return "data:image/png;base64," + base64.b64encode(images[name]).decode()

    numbers = findings.numbers()
    versions = ", ".join(f"{name} {version}" for name, version in numbers["versions"].items())
    settings = ", ".join(f"{name} {value}" for name, value in numbers["settings"].items())
    status = "" if findings.status == "complete" else f'<p class="status">{escape(findings.status)}: what there is</p>'
    body = "".join(chapter.html(image) for chapter in chapters)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Variate: the demo</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        "<h1>Variate: every number with its error bar</h1>"
        "<p>scikit-learn's 1,797 handwritten digits of 8 × 8 pixels, each ink or no ink (half the range decides); "
        f"1,437 to train on, 360 held out.</p>{status}{body}"
        f"<footer>{escape(settings)}; {findings.seconds:.0f} s; {escape(versions)}</footer></body></html>\n"
    )

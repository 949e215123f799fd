"""The page of claims: a table for each section, and what its rows come to."""

from collections.abc import Sequence
from typing import Any

import diffusion_measures
from claim import Claim

HEAD = "\n| paper | headline | measured here | holds |\n|---|---|---|---|\n"

PAGE = """# Reproduced claims

What papers say of their methods, beside what those did here at a small scale. `python benchmarks/claims.py` measures
it all again and writes this page. Variances of gradients are summed over coordinates.
"""

SECTIONS = {"": "", diffusion_measures.SECTION: diffusion_measures.WORDS}


def page(claims: Sequence[Claim], machine: dict[str, Any]) -> str:
    """Tables by section."""
    text = PAGE
    for section, words in SECTIONS.items():
        rows = [claim for claim in claims if claim.section == section]
        text += f"\n## {section}\n\n{words}\n" if section else ""
        text += HEAD + "".join("| " + " | ".join(claim[:-1]) + " |\n" for claim in rows)
    return f"{text}\nMeasured on {', '.join(f'{name}: {value}' for name, value in machine.items())}.\n"

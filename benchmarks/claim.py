"""What a row of the claims page says."""

from typing import NamedTuple


class Claim(NamedTuple):
    """A paper, what it says, what was measured here, and whether that agrees."""

    paper: str
    headline: str
    measured: str
    holds: str
    section: str = ""  # of the page


def verdict(holds: bool, note: str = "") -> str:
    return ("yes" if holds else "no") + (f"; {note}" if note else "")

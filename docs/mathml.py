"""Formulas as MathML, which browsers set by themselves: no script, no font and no network."""

import html
import logging
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_log = logging.getLogger("mkdocs.hooks.mathml")


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Set what pymdownx.arithmatex has marked; a formula that cannot be set fails the strict build."""

    def set_formula(match: re.Match[str]) -> str:
        formula = html.unescape(match[2])
        mathml = convert(formula, display="block" if match[1] == "div" else "inline")
        if "\\" in mathml or "<mi>&</mi>" in mathml:  # a command or a column mark that was not understood
            _log.warning("%s: this formula cannot be set: $%s$", page.file.src_uri, formula)
        return mathml

    return _FORMULA.sub(set_formula, content)

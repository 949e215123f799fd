"""Every example of the documentation runs and prints what the page says, and every export has its entry."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import layout
import pages
import pytest

PAGES = sorted(path for path in [layout.ROOT / "README.md", *(layout.ROOT / "docs").rglob("*.md")] if path.exists())
ROOMS = sorted(path.parent.name for path in (layout.ROOT / "src" / "variate").glob("*/__init__.py"))


def name(path: Path) -> str:
    return path.relative_to(layout.ROOT).as_posix()


# These train or measure for half a minute, or show chains, which another rounding sends elsewhere: newer
# interpreters are spared them, and the others show what those print.
SLOW = {
    f"docs/{page}.md"
    for page in "distances estimates failed-run kernels levels mcmc modes relaxations subsets tuning".split()
}
# Of these, other processors are asked only for what rounding leaves alone.
ROUNDED = {f"docs/{page}.md" for page in "distances failed-run mcmc modes".split()}


Disagreements = Callable[..., list[str]]


@pytest.fixture(scope="module")
def disagreements() -> Iterator[Disagreements]:
    with pages.reading() as found:
        yield found


def marked(page: Path) -> Any:
    slow = name(page) in SLOW or page.parent.name == "examples"
    return pytest.param(page, id=name(page), marks=[pytest.mark.slow] if slow else [])


@pytest.mark.page
@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_the_page_does_what_it_says(page: Path, tmp_path: Path, disagreements: Disagreements) -> None:
    assert disagreements(name(page), page.read_text(), tmp_path, name(page) in ROUNDED) == []


def test_of_rounding_only_means_within_their_errors_are_forgiven() -> None:
    said = "tau  3.648 ± 0.061 (n=4,000)\n[0.5 ± ?, -1e-3]"
    assert pages.alike(said, "tau 3.691 ± 0.073 (n=4,100)\n[0.25 ± ?, 2e-3]")
    for wrong in (said.replace("3.648", "4.648"), said.replace("tau", "mu"), said + "1", said.replace("?", "0.1")):
        assert not pages.alike(said, wrong)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "demo"])
def test_every_export_has_a_line_on_the_page_of_its_room(room: str) -> None:
    tree = ast.parse((layout.ROOT / "src" / "variate" / room / "__init__.py").read_text())
    exports = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    page = (layout.ROOT / "docs" / "api" / f"{room}.md").read_text()
    assert set(re.findall(rf"^::: variate\.{room}\.(\w+)$", page, re.MULTILINE)) == exports


def test_the_version_is_the_same_everywhere() -> None:
    source, citation, changes = (
        layout.ROOT / path for path in ("src/variate/version.py", "CITATION.cff", "CHANGELOG.md")
    )
    version = re.findall(r'^__version__ = "(.+)"$', source.read_text(), re.MULTILINE)
    assert re.findall(r"^version: (.+)$", citation.read_text(), re.MULTILINE) == version
    assert re.findall(r"^## (\S+)", changes.read_text(), re.MULTILINE)[:1] == version


GOOD = """
```python
x = 1
print("a ")
```

It prints

```text
a
```

- and in a list, where `x` is still known:

  ```python
  print(x)
  print(__import__("jax").numpy.ones(()).dtype)
  ```

  ```text
  1
  float32
  ```

```sh
not python
```
"""


def test_a_page_that_is_right_passes(tmp_path: Path, disagreements: Disagreements) -> None:
    assert disagreements("page.md", GOOD, tmp_path) == []


@pytest.mark.parametrize("said", ["b", "a\na", "", " a", "A"])
def test_another_output_is_found(said: str, tmp_path: Path, disagreements: Disagreements) -> None:
    (wrong,) = disagreements("page.md", f'```python\nprint("a")\n```\n```text\n{said}\n```\n', tmp_path)
    assert "page.md:2" in wrong


def test_an_error_is_found_with_its_line(tmp_path: Path, disagreements: Disagreements) -> None:
    (wrong,) = disagreements("page.md", "```python\nx = 1\n```\n\n```python\nx = 2\nx / 0\n```\n", tmp_path)
    assert 'File "page.md", line 7' in wrong
    assert "    x / 0" in wrong


@pytest.mark.parametrize(
    "page",
    [
        "```text\na\n```\n",
        "```python\nprint(1)\n```\n```text\n1\n```\n```text\n1\n```\n",
        "!!! note\n\n    ```python\n    print(1)\n    ```\n",
        "```python title='x'\nprint(1)\n```\n",
    ],
)
def test_what_would_not_be_run_or_compared_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="python block"):
        pages.blocks(page)

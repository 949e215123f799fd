"""The house keeps its rules, and each rule catches what breaks it."""

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

import layout
import pytest
from layout import File


def each(rule: Callable[[File], Iterable[str]]) -> Callable[[list[File]], Iterable[str]]:
    return lambda files: [complaint for file in files for complaint in rule(file)]


RULES = {
    "imports go downwards": each(layout.import_direction),
    "one owner": each(layout.single_owners),
    "no private JAX": each(layout.no_private_jax),
    "dependencies are declared": each(layout.declared_dependencies),
    "an __init__ only re-exports": each(layout.init_only_exports),
    "known rooms": each(layout.known_rooms),
    "furnished rooms": layout.furnished_rooms,
    "says what it is for": each(layout.says_what_it_is_for),
    "short files": each(layout.short),
    "nothing silenced": each(layout.nothing_silenced),
    "no string options": each(layout.no_string_options),
    "examples run": each(layout.examples_run),
}

ROOM = "src/variate/gradients/"
PRIVATE = "jax." + "_src"  # in two pieces, since this file is read too
BROKEN = [
    ("imports go downwards", "src/variate/estimates/a.py", "from variate.gradients import grad"),
    ("imports go downwards", "src/variate/estimates/a.py", "from variate import gradients"),
    ("imports go downwards", "src/variate/estimates/a.py", "def f():\n    from ..gradients.base import rule"),
    ("imports go downwards", "src/variate/trees.py", "from variate.checks import check"),
    ("imports go downwards", "src/variate/protocols.py", "from variate.estimates import Estimate"),
    ("imports go downwards", "src/variate/trees.py", "if TYPE_CHECKING:\n    from variate.estimates import Estimate"),
    ("imports go downwards", ROOM + "a.py", "import variate.running.loop"),
    ("imports go downwards", ROOM + "a.py", "import variate as vt"),
    ("imports go downwards", ROOM + "a.py", "from variate import draw"),
    ("imports go downwards", ROOM + "a.py", "from variate.demo import digits"),
    ("imports go downwards", "src/variate/__init__.py", "from variate.cli import app"),
    ("imports go downwards", "src/variate/demo/a.py", "from variate.cli import app"),
    ("one owner", ROOM + "a.py", "from jax.extend.core import Primitive"),
    ("one owner", ROOM + "a.py", "from jax import interpreters"),
    ("one owner", ROOM + "a.py", "import jax\n\nx = jax.interpreters.ad"),
    ("one owner", ROOM + "a.py", "import jax as j\n\nmesh = j.make_mesh((2,), ('x',))"),
    ("one owner", ROOM + "a.py", "def f():\n    import ray"),
    ("one owner", ROOM + "a.py", "def f():\n    import matplotlib.pyplot as plt"),
    ("one owner", "src/variate/cli.py", "def f():\n    from matplotlib import pyplot"),
    ("no private JAX", "tests/test_a.py", f"from {PRIVATE} import core"),
    ("no private JAX", "benchmarks/a.py", f"import {PRIVATE}.core as core"),
    ("no private JAX", ROOM + "a.py", "from jax import _src"),
    ("no private JAX", ROOM + "a.py", f"import jax\n\nx = {PRIVATE}.core"),
    ("no private JAX", ROOM + "a.py", f"import importlib\n\nx = importlib.import_module('{PRIVATE}.core')"),
    ("dependencies are declared", ROOM + "a.py", "import sklearn.datasets"),
    ("dependencies are declared", "src/variate/diagnostics/plots.py", "from matplotlib import pyplot"),
    ("dependencies are declared", ROOM + "a.py", "class A:\n    import optax"),
    ("an __init__ only re-exports", ROOM + "__init__.py", "import jax"),
    ("an __init__ only re-exports", ROOM + "__init__.py", "from jax.numpy import sin"),
    ("an __init__ only re-exports", ROOM + "__init__.py", "def grad(): ..."),
    ("known rooms", "src/variate/helpers/a.py", "x = 1"),
    ("known rooms", "src/variate/utils.py", "x = 1"),
    ("furnished rooms", ROOM + "__init__.py", '"""An empty room."""'),
    ("furnished rooms", ROOM + "a.py", "x = 1"),  # no __init__
    ("furnished rooms", ROOM + "a.py", '"""A file with nothing in it."""'),
    ("says what it is for", ROOM + "a.py", "x = 1"),
    ("says what it is for", ROOM + "a.py", '"""Helpers"""'),
    ("says what it is for", "tests/test_a.py", "# Not a docstring."),
    ("short files", ROOM + "a.py", "x = 1\n" * 301),
    ("nothing silenced", ROOM + "a.py", "x = 1  # type" + ": ignore[assignment]"),
    ("nothing silenced", "tests/test_a.py", "x = 1  # pyright" + ": ignore"),
    ("nothing silenced", "tests/test_a.py", "import pytest\n\n@pytest.mark.skip\ndef test(): ..."),
    ("nothing silenced", "tests/test_a.py", "import pytest\n\n@pytest.mark.xfail(strict=True)\ndef test(): ..."),
    ("nothing silenced", "tests/test_a.py", "from pytest import importorskip"),
    ("no string options", ROOM + "a.py", "def f(key, kind: Literal['a', 'b']): ..."),
    ("no string options", ROOM + "a.py", "def f(key, *, kind: str = 'fast'): ..."),
    ("no string options", ROOM + "a.py", "class A:\n    kind: typing.Literal['a']"),
    ("no string options", ROOM + "a.py", "class A:\n    def __init__(self, x, kind='a'): ..."),
    ("examples run", ROOM + "a.py", 'def f():\n    """Does it.\n\n    >>> f()\n    """'),
    ("examples run", ROOM + "a.py", 'class A:\n    """Does it.\n\n    ```python\n    A()\n    ```\n    """'),
]

# Code that touches every rule and breaks none.
PLOTS = '''"""Plots of draws."""

from typing import TYPE_CHECKING, ClassVar

import jax
from numpyro.distributions import Normal

from variate.estimates import Estimate
from variate.trees import ravel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

unit: str = "nats"


class Trace:
    """A trace of $x_t$."""

    title: ClassVar[str] = "trace"
    name: str = "x"
    _marker: str = "o"

    def draw(self, key: Float[Array, "n d"], name: str = "trace") -> "Figure":
        from matplotlib import pyplot

        return pyplot.figure()  # pyright: ignore[reportReturnType]


def _choose(kind="a"): ...
'''
INTERFACES = '"""Interfaces."""\n\nif TYPE_CHECKING:\n    from variate.estimates import Estimate\n\nclass Fold: ...'
SOUND = [
    File("src/variate/diagnostics/plots.py", PLOTS),
    File("src/variate/diagnostics/__init__.py", '"""Diagnoses."""\n\nfrom .plots import Trace\n\n__all__ = ["Trace"]'),
    File("src/variate/protocols.py", INTERFACES),
    File("src/variate/__init__.py", '"""All."""\n\nfrom variate.estimates import Estimate\n\n__version__ = "1"'),
]


@pytest.mark.spared
@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_the_rule(rule: str) -> None:
    assert list(RULES[rule](layout.house())) == []


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_the_rule_catches(rule: str, path: str, text: str) -> None:
    assert list(RULES[rule]([File(path, text)]))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_shown_to_catch_something(rule: str) -> None:
    assert rule in {broken for broken, _, _ in BROKEN}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_lets_sound_code_pass(rule: str) -> None:
    assert list(RULES[rule](SOUND)) == []


def test_what_is_tested_is_the_checkout() -> None:
    spec = importlib.util.find_spec("variate")
    assert spec is not None
    assert Path(str(spec.origin)) == layout.ROOT / "src" / "variate" / "__init__.py"

"""The command line: `variate demo` and `variate explain`."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn

import jax
import typer
from rich.console import Console
from rich.text import Text

import variate as vt

app = typer.Typer(
    help="Random sampling on JAX: every number with an error bar.", no_args_is_help=True, add_completion=False
)
DEMO_MODULES = ("matplotlib", "optax", "sklearn")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder to write the report, the pictures and the numbers to.")] = Path(
        "variate-demo"
    ),
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Train less, draw less.")] = False,
) -> None:
    """Train an autoencoder of handwritten digits with Bernoulli latents, and compare gradients with exact ones."""
    missing = [name for name in DEMO_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        _fail(f"the demo needs {', '.join(missing)}: pip install 'variate[demo]'")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _fail(f"--out: cannot write to {out}: {error.strerror}")
    from variate.demo import run

    findings = run(out, seed, quick, Console())
    raise typer.Exit(130 if findings.interrupted else 0)


@app.command()
def explain(
    target: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="A program f(key, *args), and its file.")],
    args: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="Example arguments: a Python expression in the names of the file, one value or a tuple of them. "
            "Left out, the function's own defaults.",
        ),
    ] = None,
    argnums: Annotated[
        list[int] | None,
        typer.Option(help="Differentiate in these arguments; 1 is the first after the key."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the pilot.")] = 0,
    num_samples: Annotated[int, typer.Option(help="Runs in the pilot that measures variance; 1 for none.")] = 256,
) -> None:
    """Show the rule by which each draw of a program contributes to its gradient, and why."""
    path, _, name = target.rpartition(":")
    if not (path and name):
        _fail(f"expected FILE.py:FUNCTION, got {target!r}")
    module = _load(Path(path))
    function = getattr(module, name, None)
    if not callable(function):
        _fail(f"{path} has no function {name!r}; it has {', '.join(_functions(module)) or 'none'}")
    arguments = _defaults(name, function) if args is None else _evaluate(args, module)
    try:
        table = vt.explain(function, argnums or [1], num_samples=num_samples)(jax.random.key(seed), *arguments)
    except (TypeError, ValueError) as error:
        _fail(str(error))
    Console().print(table)


def _load(path: Path) -> ModuleType:
    """Run a file as a module, with the files beside it in reach."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        _fail(f"no such Python file: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # where dataclasses look for the names in their annotations
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        _fail(f"{path} does not run: {type(error).__name__}: {error}")
    return module


def _functions(module: ModuleType) -> list[str]:
    functions = inspect.getmembers(module, inspect.isfunction)
    return [name for name, function in functions if function.__module__ == module.__name__]


def _defaults(name: str, function: Callable[..., Any]) -> tuple[Any, ...]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    without = [p.name for p in positional if p.default is p.empty]
    if without:
        _fail(f"{name} has no default for {', '.join(without)}: give example arguments, --args '0.3' say")
    return tuple(p.default for p in positional)


def _evaluate(expression: str, module: ModuleType) -> tuple[Any, ...]:
    try:
        value = eval(expression, vars(module))
    except Exception as error:
        _fail(f"--args {expression!r} does not evaluate: {type(error).__name__}: {error}")
    return value if isinstance(value, tuple) else (value,)


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(Text(f"error: {message}"), soft_wrap=True)
    raise typer.Exit(2)

"""The rules of the house that no linter knows, each a function from files to complaints."""

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]

# From the top down. A room imports from the lines below its own; "variate" is the package's own `__init__`.
LINES = (
    ("cli",),
    ("demo",),
    ("variate",),
    ("diffusion", "sequences", "decisions"),
    ("particles", "subsets", "variational"),
    ("mcmc", "gradients", "diagnostics", "running"),
    ("estimates",),
    ("programs",),
    ("protocols", "trees", "checks", "version"),
    ("closures", "compiling"),
)
SIDEWAYS = {("mcmc", "running")}
DEPTH = {room: depth for depth, line in enumerate(LINES) for room in line}

OWNERS = {
    ("jax.extend", "jax.interpreters"): ("programs/",),
    ("jax.sharding", "jax.make_mesh", "jax.set_mesh", "jax.shard_map", "jax.distributed", "ray"): ("running/",),
    ("jax.experimental.mesh_utils", "jax.experimental.shard_map"): ("running/",),
    ("matplotlib",): ("diagnostics/plots.py", "demo/"),
}
DEPENDENCIES = {
    re.split(r"\W", requirement)[0]
    for requirement in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
}
MOST_LINES = 300
SWITCHED_OFF = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b")


@dataclass(frozen=True)
class File:
    """A Python file: its path from the root of the repository, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def place(self) -> str | None:
        """The path inside the package, or None outside it."""
        return self.path.removeprefix("src/variate/") if self.path.startswith("src/variate/") else None

    @cached_property
    def room(self) -> str | None:
        if self.place is None:
            return None
        name = PurePosixPath(self.place).parts[0].removesuffix(".py")
        return "variate" if name == "__init__" else name

    @cached_property
    def names(self) -> list[tuple[ast.AST, str]]:
        """Every dotted name that is imported, or reached through an import."""
        bound: dict[str, str] = {}
        found: list[tuple[ast.AST, str]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    bound[alias.asname or top] = alias.name if alias.asname else top
                    found.append((node, alias.name))
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    bound[alias.asname or alias.name] = f"{self._module(node)}.{alias.name}"
                    found.append((node, bound[alias.asname or alias.name]))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                head, _, rest = ast.unparse(node).partition(".")
                if head in bound:
                    found.append((node, f"{bound[head]}.{rest}"))
        return found

    def _module(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = PurePosixPath(self.path).with_suffix("").parts[1 : -node.level]
        return ".".join([*package, *([node.module] if node.module else [])])

    def complain(self, node: ast.AST | int, what: str) -> str:
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {what}"


@cache
def house() -> list[File]:
    """Every Python file of the repository."""
    paths = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
    return [File(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


def _within(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


def _typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def import_direction(file: File) -> Iterator[str]:
    """Imports inside the package go downwards. The protocols may name what is above them, never load it."""
    types = [node for node in file.tree.body if _typing_only(node)] if file.room == "protocols" else []
    named = {node for block in types for node in ast.walk(block)}
    for node, name in file.names if file.room in DEPTH else ():
        if node in named or not _within(name, "variate"):
            continue
        target = ".".join(name.split(".")[1:2])
        target = target if target in DEPTH else "variate"
        if target != file.room and DEPTH[target] <= DEPTH[file.room] and (file.room, target) not in SIDEWAYS:
            yield file.complain(node, f"{file.room} may not import {target}")


def single_owners(file: File) -> Iterator[str]:
    """What has one owner is used nowhere else in the package."""
    for modules, owners in OWNERS.items():
        if file.place is None or file.place.startswith(owners):
            continue
        for node, name in file.names:
            if any(_within(name, module) for module in modules):
                yield file.complain(node, f"{name} belongs to {' and '.join(owners)}")


def no_private_jax(file: File) -> Iterator[str]:
    """JAX's `_src` is used nowhere, by import or by name."""
    for node, name in file.names:
        if name.split(".")[:2] == ["jax", "_src"]:
            yield file.complain(node, f"{name} is private")
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Constant) and re.fullmatch(r"jax\._src(\.\w+)*", str(node.value)):
            yield file.complain(node, f"{node.value} is private")


def declared_dependencies(file: File) -> Iterator[str]:
    """The package imports only its dependencies when it is imported; what an extra brings, when it is used."""
    for node in _at_import(file.tree.body) if file.place is not None else ():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [file._module(node)]
        for top in (name.partition(".")[0] for name in names):
            if top not in DEPENDENCIES | sys.stdlib_module_names | {"variate"}:
                yield file.complain(node, f"{top} is not a dependency; import it in the function that uses it")


def _at_import(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _at_import(node.orelse if _typing_only(node) else ast.iter_child_nodes(node))


def init_only_exports(file: File) -> Iterator[str]:
    """An `__init__` of the package re-exports and does no work."""
    for node in file.tree.body if file.place is not None and file.path.endswith("/__init__.py") else ():
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        exports = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__version__")
        inside = isinstance(node, ast.ImportFrom) and _within(file._module(node), "variate")
        if not (docstring or exports or inside):
            yield file.complain(node, "an __init__ only re-exports")


def known_rooms(file: File) -> Iterator[str]:
    """Every room has its place in the order of imports."""
    if file.room is not None and file.room not in DEPTH:
        yield file.complain(1, f"{file.room} is in no line of tests/layout.py")


def furnished_rooms(files: list[File]) -> Iterator[str]:
    """Every room has an `__init__` and something behind it, and every module defines something."""
    inside = [file for file in files if file.place is not None]
    for folder in sorted({file.path.rpartition("/")[0] for file in inside}):
        names = {file.path.rpartition("/")[2] for file in inside if file.path.rpartition("/")[0] == folder}
        if "__init__.py" not in names:
            yield f"{folder}: no __init__.py"
        if names == {"__init__.py"}:
            yield f"{folder}: an empty room"
    for file in inside:
        defined = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
        if not file.path.endswith("/__init__.py") and not any(isinstance(node, defined) for node in file.tree.body):
            yield file.complain(1, "defines nothing")


def says_what_it_is_for(file: File) -> Iterator[str]:
    """Every file begins with a sentence that says what it is for."""
    if not (ast.get_docstring(file.tree) or "").partition("\n")[0].endswith("."):
        yield file.complain(1, "its docstring should begin with one sentence, on one line, that says what it is for")


def short(file: File) -> Iterator[str]:
    """No file is long."""
    if (lines := len(file.text.splitlines())) > MOST_LINES:
        yield file.complain(MOST_LINES, f"{lines} lines, over {MOST_LINES}")


def nothing_silenced(file: File) -> Iterator[str]:
    """No type error is ignored without its name, and no test is switched off."""
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        comment = token.string if token.type == tokenize.COMMENT else ""
        if re.search(r"type:\s*ignore|pyright:\s*ignore(?!\[)", comment):
            yield file.complain(token.start[0], "a type error is ignored")
    for node, name in file.names:
        if SWITCHED_OFF.match(name):
            yield file.complain(node, f"{name} switches a test off")


def no_string_options(file: File) -> Iterator[str]:
    """Options are objects with fields: no public signature has a string to choose by. A name is not a choice."""
    for node in _public(file.tree.body) if file.place not in (None, "cli.py") else ():
        if isinstance(node, ast.AnnAssign):
            fields = [(ast.unparse(node.target), node.annotation, node.value)]
        else:
            positional, given = [*node.args.posonlyargs, *node.args.args], node.args.defaults
            defaults = [*[None] * (len(positional) - len(given)), *given, *node.args.kw_defaults]
            arguments = [*positional, *node.args.kwonlyargs]
            fields = [(a.arg, a.annotation, d) for a, d in zip(arguments, defaults, strict=True)]
        for name, annotation, default in fields:
            chosen = isinstance(default, ast.Constant) and isinstance(default.value, str) and default.value
            if (chosen and name != "name") or (annotation and re.search(r"\bLiteral\[", ast.unparse(annotation))):
                yield file.complain(node, f"{name} is an option given as a string")


def _public(body: list[ast.stmt], fields: bool = False) -> Iterator[ast.FunctionDef | ast.AnnAssign]:
    for node in body:
        if isinstance(node, ast.AnnAssign):
            if fields and not ast.unparse(node).startswith("_") and "ClassVar" not in ast.unparse(node.annotation):
                yield node
        elif isinstance(node, ast.ClassDef | ast.FunctionDef) and not re.match(r"_(?!_init__|_call__)", node.name):
            yield from _public(node.body, fields=True) if isinstance(node, ast.ClassDef) else [node]


def examples_run(file: File) -> Iterator[str]:
    """Examples stand on the pages of the documentation, whose code is run; none stands in a docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(file.tree) if file.place is not None else ():
        if isinstance(node, documented) and re.search(r"^\s*(>>>|```)", ast.get_docstring(node) or "", re.MULTILINE):
            yield file.complain(node, "an example that is not run; it belongs in docs/")

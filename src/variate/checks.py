"""Every check of what a user passes in: each names the argument, what was expected and what came."""

import inspect
import math
import operator
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

_MAKE_A_KEY = "jax.random.key(seed) makes one"


def check_key(key: Any) -> None:
    """Raise unless `key` is one typed PRNG key, as `jax.random.key` makes them."""
    dtype = getattr(key, "dtype", None)
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(
                f"key must be one key, got a batch of shape {key.shape}: pick one, keys[0] say, "
                "or map over all of them with jax.vmap"
            )
    elif dtype == np.uint32 and key.ndim:
        raise TypeError(
            f"key must be a typed key, got a raw uint32 one of shape {key.shape}: "
            f"{_MAKE_A_KEY}, and jax.random.wrap_key_data(key) makes this one typed"
        )
    else:
        raise TypeError(f"the first argument must be the key, got {describe(key)}; {_MAKE_A_KEY}")


def check_callable(name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be a function of (key, *args), got {describe(value)}")


def check_arguments(f: Any, args: tuple[Any, ...], named: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Raise unless `f` can be called as `f(key, *args, **named)`."""
    if bad := _refused(f, (None, *args), named):
        given = ", ".join(["key", *map(describe, args), *(f"{name}={describe(x)}" for name, x in named.items())])
        raise TypeError(f"{bad[0]} cannot be called with ({given}): {bad[1]}; the key comes first, then the arguments")


def check_takes(name: str, f: Any, args: tuple[Any, ...], what: str) -> None:
    """Raise unless `f(*args)` can be called; `what` says what the arguments are."""
    if bad := _refused(f, args, {}):
        raise TypeError(f"{name} must be a function of {what}, {len(args)} in all, got {bad[0]}: {bad[1]}")


def _refused(f: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[str, str] | None:
    """How `f` is written and why it cannot be called so; None where it can, and of some callables written in C."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return None if callable(f) else (describe(f), "it cannot be called")
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        takes = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
        return f"{name_of(f)}{takes}", str(error)
    return None


def check_hashable(leaves: tuple[Any, ...]) -> None:
    """Raise unless what is no number among a program's arguments can key the cache of compiled programs."""
    for leaf in leaves:
        try:
            hash(leaf)
        except TypeError:
            raise TypeError(
                f"arguments must be pytrees of arrays, numbers and hashable objects, got {describe(leaf)}"
            ) from None


def check_result(f: Any, result: PyTree) -> None:
    """Raise unless a program returned what can be averaged: a pytree of real numbers."""
    leaves = jax.tree_util.tree_leaves_with_path(result)
    if not leaves:
        raise TypeError(f"{name_of(f)} must return real numbers to average, got {describe(result)}")
    for path, leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and isinstance(leaf, bool | int | float | complex):
            dtype = np.dtype(type(leaf))
        kinds = (np.bool_, np.integer, np.floating)
        if dtype is None or not any(jnp.issubdtype(dtype, kind) for kind in kinds):
            where = f" at result{jax.tree_util.keystr(path)}" if path else ""
            is_complex = dtype is not None and jnp.issubdtype(dtype, np.complexfloating)
            hint = ": return the real and the imaginary part as two results" if is_complex else ""
            raise TypeError(f"{name_of(f)} must return real numbers to average, got {describe(leaf)}{where}{hint}")


def check_positive_int(name: str, value: Any, at_most: int = 2**31 - 1) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool | np.bool_) or not 1 <= number <= at_most:
        raise _wrong_number(name, f"a positive integer up to {at_most}", value)
    return number


def check_at_least(name: str, value: Any, least: int) -> int:
    number = check_positive_int(name, value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def check_positive(name: str, value: Any) -> float:
    number = _number(value)
    if not 0 < number < math.inf:
        raise _wrong_number(name, "a positive number", value)
    return number


def check_number(name: str, value: Any) -> float:
    number = _number(value)
    if not math.isfinite(number):
        raise _wrong_number(name, "a finite number", value)
    return number


def check_fraction(name: str, value: Any) -> float:
    number = _number(value)
    if not 0 < number < 1:
        raise _wrong_number(name, "between 0 and 1, both excluded", value)
    return number


def describe(value: Any) -> str:
    """What an object is, in the words of an error message."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value)
    return f"an object of type {type(value).__name__}"


def name_of(f: Any) -> str:
    return getattr(f, "__name__", None) or type(f).__name__


def _number(value: Any) -> float:
    """A host number, or NaN, which no check lets pass."""
    if isinstance(value, bool | str | Tracer):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _wrong_number(name: str, expected: str, value: Any) -> Exception:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    error = ValueError if is_number else TypeError
    return error(f"{name} must be {expected}, got {describe(value)}")


def check_distribution(value: Any) -> None:
    for method in ("sample", "log_prob"):
        if not callable(getattr(value, method, None)):
            raise TypeError(
                "distribution must have sample(key) and log_prob(x), as NumPyro's and FlowJAX's do, "
                f"got {describe(value)}"
            )
    if isinstance(value, type):
        raise TypeError(f"distribution must be an instance, got the class {value.__name__} itself")
    leaves = jax.tree.leaves(value)
    if leaves and leaves[0] is value:
        raise TypeError(
            f"distribution must be a pytree, so that a program can carry its arrays, got {describe(value)}: make it a "
            "NamedTuple or an Equinox module, or register it with jax.tree_util.register_dataclass"
        )


def check_name(name: Any) -> None:
    if not (name is None or isinstance(name, str)):
        raise TypeError(f"name must be a string, got {describe(name)}")


def check_names(argument: str, names: Any) -> tuple[str, ...]:
    """One name or several."""
    found = (names,) if isinstance(names, str) else names
    if not isinstance(found, tuple | list) or not found or not all(isinstance(name, str) for name in found):
        raise TypeError(f"{argument} must be names of values of the program, got {describe(names)}")
    return tuple(found)


def check_rule(name: str, rule: Any) -> None:
    """Raise unless `rule` is a gradient rule; the bottom of the house knows one by what it can do."""
    owed = all(callable(getattr(rule, method, None)) for method in ("refuse", "bias", "draw"))
    if isinstance(rule, type) or not owed:
        what = f"the class {rule.__name__} itself" if isinstance(rule, type) else describe(rule)
        raise TypeError(f"{name} must be a rule, vt.gradients.Score() say, got {what}")
    check_hashable((rule,))


def check_rules(rules: Any) -> dict[str, Any]:
    if rules is None:
        return {}
    if not hasattr(rules, "items"):
        raise TypeError(f"rules must be a dictionary from names of draws to rules, got {describe(rules)}")
    for name, rule in rules.items():
        if not isinstance(name, str):
            raise TypeError(f"rules must be keyed by names of draws, got {describe(name)}")
        check_rule(f"rules[{name!r}]", rule)
    return dict(rules)


def check_candidates(candidates: Any, legal: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Rules to try by the name of the draw, from rules for each or for all of the draws in `legal`."""
    given: Any = candidates
    by_name: dict[str, Any] = dict(given) if hasattr(given, "items") else dict.fromkeys(legal, given)
    for name, rules in by_name.items():
        if name not in legal:
            raise ValueError(f"candidates: no draw to be tuned is called {name!r}; there are {sorted(legal)}")
        if not isinstance(rules, list | tuple) or not rules:
            raise TypeError(f"candidates[{name!r}] must be a list of rules, got {describe(rules)}")
        for i, rule in enumerate(rules):
            check_rule(f"candidates[{name!r}][{i}]", rule)
    return {name: list(rules) for name, rules in by_name.items()}


def check_argnums(argnums: Any) -> tuple[int, ...]:
    positions = tuple(argnums) if isinstance(argnums, tuple | list) else (argnums,)
    for position in positions:
        if isinstance(position, bool) or not isinstance(position, int | np.integer) or position < 1:
            raise ValueError(
                f"argnums must be positions from 1 on (the key is 0, and has no derivative), got {describe(argnums)}"
            )
    if not positions:
        raise ValueError("argnums must name an argument, got none")
    return tuple(int(position) for position in positions)


def check_differentiated(args: tuple[Any, ...], positions: tuple[int, ...]) -> None:
    """Raise unless the arguments at these positions hold arrays, and real ones only."""
    for position in positions:
        if position > len(args):
            raise ValueError(f"argnums: there is no argument {position}, only {len(args)} beside the key were given")
        found = False
        for path, leaf in jax.tree_util.tree_leaves_with_path(args[position - 1]):
            if isinstance(leaf, bool) or not (hasattr(leaf, "dtype") or isinstance(leaf, int | float | complex)):
                continue
            found = True
            dtype = getattr(leaf, "dtype", None) or np.dtype(type(leaf))
            if not jnp.issubdtype(dtype, jnp.floating):
                raise TypeError(
                    f"argnums: argument {position}{jax.tree_util.keystr(path)} must be real to be differentiated, got "
                    f"{describe(leaf)}: make it a float, or leave its argument out of argnums"
                )
        if not found:
            what = describe(args[position - 1])
            raise TypeError(f"argnums: argument {position} holds no array to differentiate, got {what}")


def check_pair(f: Any, result: Any) -> tuple[Any, Any]:
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"{name_of(f)} must return (result, auxiliary) with has_aux=True, got {describe(result)}")
    return result


def check_differentiable_result(f: Any, result: PyTree) -> None:
    """Raise unless a program returned real arrays, which have a derivative."""
    leaves = jax.tree_util.tree_leaves_with_path(result)
    if not leaves:
        raise TypeError(f"{name_of(f)} must return a real number to differentiate, got {describe(result)}")
    for path, leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            where = f" at result{jax.tree_util.keystr(path)}" if path else ""
            raise TypeError(
                f"{name_of(f)} must return real numbers to differentiate, got {describe(leaf)}{where}; "
                "cast counts and flags with .astype(float)"
            )


def check_leading_axis(name: str, tree: PyTree) -> int:
    """The length of the first axis, which all arrays of a tree have to share."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"{name} must be arrays that share a first axis, got shapes {shapes}")
    return lengths.pop()


def check_column(name: str, values: Any, length: int) -> np.ndarray:
    """Positive numbers, one for each item; ones if left out."""
    column = np.ones(length) if values is None else np.asarray(values, float)
    if column.shape != (length,):
        raise ValueError(f"{name} must have one number for each of {length} items, got shape {column.shape}")
    if not np.all(np.isfinite(column) & (column > 0)):
        raise ValueError(f"{name} must be positive and finite, got {values}")
    return column

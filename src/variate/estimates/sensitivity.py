"""Sobol' indices: how much of a result's variance each draw of a program brings."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from variate import checks
from variate.programs.runs import Wishes, run_with
from variate.programs.uniforms import Layout, layout
from variate.trees import as_float, split

from .designs.base import uniform
from .estimate import Estimate
from .expectation import expect
from .folding import run_keys
from .sampling import Invalid, opened, raise_if_invalid, staged


def sensitivity(
    f: Callable[..., PyTree], names: Any = None, *, num_samples: int = 10_000, block_size: int = 256
) -> Callable[..., Estimate]:
    r"""Sobol' indices of a program's draws: a function `(key, *args)` returning the `Estimate` of two for each name.

    The value is `{"first": {name: S}, "total": {name: T}}`, each S and T of the structure of the result: of the
    variance of $Y = f(\cdot)$, the share $S = \mathrm{Var}\,E[Y | X] / \mathrm{Var}\,Y$ that the draw X brings by
    itself, and $T = E\,\mathrm{Var}[Y | X_{\mathrm{rest}}] / \mathrm{Var}\,Y$ with all others. Draws of one name are
    one X. Nothing in the program is rewritten: two runs A and B share their uniforms with a third for each name, which
    has that draw from B and the rest from A,
    $T = \overline{(Y_A - Y_{AB})^2} / \overline{(Y_A - Y_B)^2}$ and
    $S = 1 - \overline{(Y_B - Y_{AB})^2} / \overline{(Y_A - Y_B)^2}$, with the error bars of the delta method.

    A draw that depends on another's value is the noise that it adds to it: the X is its uniforms. Whatever else is
    random is one of the others. A sample is two runs and one more for each name. The wrong choice for a result without
    variance, whose shares are not numbers.

    Args:
        names: of draws; all whose quantiles are known when not given, those without a name by the place that draws.
        num_samples: pairs of runs A and B.
        block_size: samples at a time.

    Raises:
        TypeError: the key is not typed, or results are no real numbers.
        ValueError: no draw has that name or its quantiles are not known, a draw is inside a `while_loop`, or a
            distribution's parameters are out of range (under a caller's `jit` they show as numbers not finite).

    Source: Jansen (1999), Analysis of variance designs for model output, Comput. Phys. Commun. 117, 35-43; Saltelli et
    al. (2010), Variance based sensitivity analysis of model output, 181, 259-270, table 2.
    """
    checks.check_callable("f", f)
    wanted = None if names is None else checks.check_names("names", names)

    def pair(key: Key[Array, ""], args: tuple[Any, ...]) -> tuple[PyTree[Array], Invalid]:
        numbers, static = split((f, args))
        program, shape = staged(static, key, numbers)
        plan = layout(program, {})
        groups = _groups(plan, wanted)
        first, second, own, others = jax.random.split(key, 4)
        a, b = uniform(first, (plan.dimension,)), uniform(second, (plan.dimension,))

        def result(uniforms: Float[Array, " d"], key: Key[Array, ""]) -> tuple[PyTree[Array], Invalid]:
            run = run_with(program, [jax.random.clone(key), *numbers], plan.split(uniforms), Wishes())
            bad = sum(run.invalid.values(), jnp.zeros((), int)) > 0
            outputs = [jnp.where(bad, jnp.nan, as_float(output)) for output in run.outputs]
            return jax.tree.unflatten(jax.tree.structure(shape), outputs), run.invalid

        (y_a, of_a), (y_b, of_b) = result(a, own), result(b, others)
        mixed = {name: result(jnp.where(jnp.asarray(of), b, a), own) for name, of in groups.items()}
        differences = {name: jax.tree.map(jnp.subtract, y, y_a) for name, (y, _) in mixed.items()}
        products = {
            "variance": jax.tree.map(lambda x, y: (x - y) ** 2 / 2, y_a, y_b),
            "total": jax.tree.map(lambda d: d**2 / 2, differences),
            "both": {name: jax.tree.map(lambda d, x, y: d * (y - x), of, y_a, y_b) for name, of in differences.items()},
        }
        return products, jax.tree.map(lambda *times: sum(times), of_a, of_b, *(of for _, of in mixed.values()))

    row = functools.wraps(f, updated=())(lambda key, *args: pair(key, args)[0])
    shares = expect(row, function=_shares, num_samples=num_samples, block_size=block_size)

    @functools.wraps(f, updated=())
    def estimate(key: Any = None, *args: Any) -> Estimate:
        call = opened(f, key, args)
        found = shares(key, *args)
        if call.known and int(found.nonfinite):  # only then is it asked why
            keys = run_keys(jax.random.clone(key), jnp.arange(num_samples))
            met = jax.lax.map(lambda key: pair(key, args)[1], keys, batch_size=min(block_size, num_samples))
            raise_if_invalid(call, key, jax.tree.map(jnp.sum, met))
        return found

    return estimate


def _shares(means: dict[str, Any]) -> dict[str, Any]:
    """With D = Y_AB - Y_A the square of (Y_B - Y_A) - D is multiplied out, which leaves nothing to cancel."""

    def of(numerator: Callable[[Array, Array], Array]) -> dict[str, PyTree[Array]]:
        return {
            name: jax.tree.map(
                lambda both, total, variance: numerator(both, total) / variance,
                means["both"][name],
                means["total"][name],
                means["variance"],
            )
            for name in means["total"]
        }

    return {"first": of(lambda both, total: both - total), "total": of(lambda both, total: total)}


def _groups(plan: Layout, names: tuple[str, ...] | None) -> dict[str, list[bool]]:
    """By name, which uniforms are of its draws."""
    labels = plan.labels
    if not labels:
        raise ValueError("f has no draw whose quantiles are known, which is what is mixed of two runs")
    for name in names or ():
        if name not in labels:
            raise ValueError(f"names: no draw with known quantiles is called {name!r}, there are {sorted(set(labels))}")
    return {name: [label == name for label in labels] for name in names or dict.fromkeys(labels)}

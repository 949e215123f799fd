"""`black_box`: gradients of the expectation of a function that is only evaluated."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax

from variate import checks, trees
from variate.compiling import traced
from variate.estimates import Estimate
from variate.gradients.perturbations.perturbation import Perturbation, Request, run
from variate.gradients.staged import staged
from variate.programs import validity


def black_box(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 1,
    *,
    method: Perturbation,
    num_samples: int = 16,
    block_size: int | None = None,
) -> "BlackBox":
    r"""Estimate $E f$ and $\nabla_\theta E f$ from values of $f$ alone, at $\theta \pm c\,\Delta$ in random directions.

    $$\hat g = \frac{1}{S} \sum_s \frac{f(k_s, \theta + c\Delta_s) - f(k_s, \theta - c\Delta_s)}{2c}\,\Delta_s$$

    Both evaluations of a sample get the same key, so the noise that they share cancels. Nothing is asked of $f$ but
    that JAX can run it under `jit` and `vmap`: its draws need no rule, and it may jump, or loop as long as it likes.

    The gradient is biased, and its `Estimate` says so; the bias is of order $c^2$ and stands beside each method. The
    value is the mean over both evaluations, so it has the bias of $E f(\theta + c\Delta)$; `vt.expect` has none. Error
    bars tell of the noise alone. Its variance grows with the number of parameters, since one number a sample tells of
    all of them: the wrong choice wherever `vt.grad` serves.

    Args:
        f: a program `f(key, *args)` that returns one real number (an `Estimate` counts as its value).
        argnums: which arguments to perturb, by Python's position, the key being 0. Arrays, or pytrees whose arrays are
            all real; what is not an array in them stays as it is and has None in the gradient.
        method: `SPSA(scale)` or `EvolutionStrategies(scale)`, or any `Perturbation`. One scale serves all arguments:
            give those of other units in units of their own.
        num_samples: how many directions, of two evaluations each.
        block_size: how many at once. Memory is that of one block, whatever `num_samples`: as many runs, and several
            copies of the perturbed arguments for each. Directions are made again from their keys and never kept, so
            with a block of 1 it is some ten copies in all. Left out, 64, or fewer where the arguments are large.

    Returns:
        A function of `(key, *args)` that returns `(value, gradient)`, two `Estimate`s. JAX does not differentiate it.

    Raises:
        ValueError: a count or a position out of range; called outside of `jit` also a `scale` that is lost in rounding
            (under `jit` the estimates are then not `converged`), and parameters of a distribution out of range.
        TypeError: an argument that is not real, a result that is not one real number, a key that is not one typed key.

    Source: each method's; keys in place of directions by Malladi et al. (2023), MeZO.
    """
    checks.check_callable("f", f)
    if isinstance(method, type) or not callable(getattr(method, "direction", None)):
        what = f"the class {method.__name__} itself" if isinstance(method, type) else checks.describe(method)
        raise TypeError(f"method must be a perturbation, vt.gradients.SPSA(scale=0.01) say, got {what}")
    request = Request(
        positions=checks.check_argnums(argnums),
        single=isinstance(argnums, int),
        num_samples=checks.check_positive_int("num_samples", num_samples),
        block_size=None if block_size is None else checks.check_positive_int("block_size", block_size),
    )
    return BlackBox(f, method, request)


class BlackBox(eqx.Module):
    """A transformed function: called with `(key, *args)`, it estimates."""

    f: Callable[..., Any]
    method: Perturbation
    request: Request = eqx.field(static=True)

    def __call__(self, key: Any, *args: Any) -> tuple[Estimate, Estimate]:
        checks.check_key(key)
        checks.check_arguments(self.f, args)
        checks.check_differentiated(args, self.request.positions)
        numbers, static = trees.split((self.f, args))
        checks.check_hashable(static.leaves)
        eager = not traced(key, numbers, self.method)
        result, lost, invalid = run(self.request, static, eager, key, self.method, numbers)
        if eager and lost:
            raise ValueError(
                f"scale must be larger than the rounding of what it perturbs, got {self.method.scale}: a number of "
                f"argnums={self.request.positions} stays the same when it is added"
            )
        if eager and any(invalid.values()):
            validity.raise_invalid(staged(static, key, numbers).program, [jax.random.clone(key), *numbers], invalid)
        return result

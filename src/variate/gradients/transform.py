"""`grad` and `value_and_grad`: derivatives of expectations, as transformations of programs."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax

from variate import checks, trees
from variate.compiling import traced
from variate.gradients.base import Rule
from variate.gradients.blocks import differentiate, mean_surrogate
from variate.gradients.staged import Request, staged
from variate.programs import validity

DEFAULT_BLOCK = 64


def value_and_grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 1,
    *,
    num_samples: int = 16,
    rules: Mapping[str, Rule] | None = None,
    has_aux: bool = False,
    stderr: bool = True,
    allow_bias: bool = False,
    block_size: int | None = None,
    order: int = 1,
) -> "Gradient":
    r"""Estimate $E f$ and $\nabla_\theta E f$ from the same runs, unbiased through every draw.

    Args:
        f: a program `f(key, *args)` that returns a real number, or a pytree of real arrays; its `Estimate`s count as
            their values, so that `vt.grad(vt.grad(f))` is the second derivative.
        argnums: which arguments to differentiate in, by Python's position, the key being 0. Arrays, or pytrees whose
            arrays are all real; what is not an array in them (an Equinox module's functions) stays as it is and has
            None in the gradient.
        num_samples: how many runs.
        rules: the rule of a draw by its name; the others are chosen (see `vt.explain`).
        has_aux: `f` returns `(result, auxiliary)`; the auxiliary comes back with a leading axis of samples.
        stderr: whether to estimate standard errors, which takes one gradient a sample; without, only their sum.
        allow_bias: take a named rule even where its gradient is biased; the estimate then says so.
        block_size: how many runs at once, which is what memory grows with; 64 if left out.
            A leave-one-out baseline is taken within a block.
        order: the order of the derivatives that will be taken in all, 2 if the result is differentiated once more.
            `vt.grad(vt.grad(f))` sets it by itself.

    Returns:
        A function of `(key, *args)` that returns `(value, gradient)`, two `Estimate`s (`((value, auxiliary), gradient)`
        with `has_aux`). For a result that is not one number the gradient is the Jacobian, as of `jax.jacobian`.

    Raises:
        BiasedGradientError: a named rule, or any rule there is, would be biased in silence.
        ValueError: a rule that cannot serve its draw, an unknown name in `rules`, two draws of one name; called outside
            of `jit` also parameters of a distribution out of range (under `jit` they show as non-finite numbers).
        TypeError: an argument that is not real, a result that is not, a key that is not one typed key.

    Run under the caller's `jit` it costs what the same estimator costs when written by hand.
    """
    checks.check_callable("f", f)
    num_samples = checks.check_positive_int("num_samples", num_samples)
    request = Request(
        positions=checks.check_argnums(argnums),
        single=isinstance(argnums, int),
        num_samples=num_samples,
        rules=tuple(checks.check_rules(rules).items()),
        has_aux=has_aux,
        stderr=stderr,
        allow_bias=allow_bias,
        block_size=checks.check_positive_int("block_size", DEFAULT_BLOCK if block_size is None else block_size),
        certified=isinstance(f, Gradient),
        order=checks.check_positive_int("order", order),
    )

    return Gradient(f, request)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(request: Request, static: trees.Static, checked: bool, key: Any, numbers: list[Any]) -> Any:
    return differentiate(request, static, key, numbers, checked)


class Gradient(eqx.Module):
    """A transformed program: called with `(key, *args)`, it estimates."""

    f: Callable[..., Any]
    request: Request = eqx.field(static=True)
    with_value: bool = eqx.field(static=True, default=True)

    def check(self, key: Any, args: tuple[Any, ...]) -> None:
        """Raise what is wrong with a call before anything runs."""
        checks.check_key(key)
        checks.check_arguments(self.f, args)
        checks.check_differentiated(args, self.request.positions)

    def __call__(self, key: Any, *args: Any) -> Any:
        self.check(key, args)
        numbers, static = trees.split((_for_order(self.f, self.request.order + 1), args))
        checks.check_hashable(static.leaves)
        eager = not traced(key, numbers)
        result, invalid = _run(self.request, static, eager, key, numbers)
        if eager and any(invalid.values()):
            validity.raise_invalid(staged(static, key, numbers).program, [jax.random.clone(key), *numbers], invalid)
        if self.with_value:
            return result
        value, gradient = result
        return (gradient, value[1]) if self.request.has_aux else gradient


def _for_order(f: Callable[..., Any], order: int) -> Callable[..., Any]:
    """A gradient that will be differentiated again has to choose rules that stay right when it is."""
    return replace(f, request=f.request._replace(order=order)) if isinstance(f, Gradient) else f


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 1, **options: Any) -> Gradient:
    r"""Estimate $\nabla_\theta E f$: `value_and_grad` without the value, with the same options.

    With `has_aux` the result is `(gradient, auxiliary)`.
    """
    return replace(value_and_grad(f, argnums, **options), with_value=False)


def surrogate_loss(
    f: Callable[..., Any], *, num_samples: int = 16, rules: Mapping[str, Rule] | None = None, order: int = 2
) -> Callable[..., Any]:
    r"""A function whose value is an estimate of $E f$ and whose derivatives by JAX, to `order`, are unbiased.

    For `jax.grad`, `jax.hessian`, `jax.jvp` and whatever else differentiates: returns a function of `(key, *args)`
    with the result of `f`, a mean over `num_samples` runs. It has no error bars: `vt.grad` has them. Derivatives of a
    higher order than `order` are wrong; draws that have no rule for it are refused. Raises what `vt.grad` raises.

    Source: Foerster et al. (2018), DiCE.
    """
    gradient = value_and_grad(f, num_samples=num_samples, rules=rules, order=order, block_size=num_samples)
    request = gradient.request._replace(positions=())

    def loss(key: Any, *args: Any) -> Any:
        checks.check_key(key)
        checks.check_arguments(f, args)
        numbers, static = trees.split((gradient.f, args))
        checks.check_hashable(static.leaves)
        return mean_surrogate(request, static, key, numbers)

    return loss

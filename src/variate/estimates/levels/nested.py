"""Functions of conditional expectations: inner means of a few draws are biased, and this says by how much."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from variate import checks
from variate.estimates.estimate import Estimate
from variate.estimates.expectation import expect
from variate.estimates.function_of_means import values_of


class Nested(eqx.Module):
    """The runs of a nested expectation by levels, for `multilevel` and `debiased`; `expect` is that of one level."""

    outer: Callable[..., Any]
    inner: Callable[..., PyTree]
    function: Callable[..., PyTree]
    inner_samples: int = eqx.field(static=True)

    def __call__(self, key: Key[Array, ""], level: int, *args: Any) -> tuple[PyTree, PyTree | None]:
        """$g$ of the mean of all inner draws of a level, and the mean of $g$ of the means of their halves."""
        outside, inside = jax.random.split(key)
        checks.check_takes("outer", self.outer, (key, *args), "a key and the arguments")
        x = self.outer(outside, *args)
        if self.inner_samples * 2**level >= 2**31:
            raise ValueError(
                f"level must be one of fewer than 2^31 inner draws, got {self.inner_samples} times 2^{level}"
            )
        keys = jax.random.split(inside, self.inner_samples * 2**level)

        def draw(key: Key[Array, ""]) -> PyTree[Array]:
            what = "a key, what outer returns, and the arguments"
            return values_of("inner", self.inner, (key, x, *args), what)

        draws = jax.vmap(draw)(keys)
        fine = self._of(jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), draws), x)
        if level == 0:
            return fine, None
        halves = jax.tree.map(lambda leaf: jnp.mean(leaf.reshape(2, -1, *leaf.shape[1:]), axis=1), draws)
        coarse = jax.vmap(lambda mean: self._of(mean, x))(halves)
        return fine, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), coarse)

    def _of(self, mean: PyTree[Array], x: Any) -> PyTree[Array]:
        what = "the mean of what inner returns, and what outer does"
        return values_of("function", self.function, (mean, x), what)

    def expect(self, level: int, *, num_samples: int = 10_000, block_size: int = 256) -> Callable[..., Estimate]:
        r"""The plain nested estimator, of $2^l$ times the inner draws: biased, and saying by how much.

        Its bias is of order one over the inner draws, so that their halves have twice as much, and the mean of what
        they differ by is the `bias` of the estimate, by which its interval is longer at both ends.

        Raises `ValueError` when there are no halves, or a distribution's parameters are out of range.
        """
        checks.check_positive_int("level", level)

        def both(key: Key[Array, ""], *args: Any) -> tuple[PyTree, PyTree]:
            fine, coarse = self(key, level, *args)
            return fine, jax.tree.map(jnp.subtract, coarse, fine)

        run = expect(both, num_samples=num_samples, block_size=block_size)

        def estimate(key: Any = None, *args: Any) -> Estimate:
            found = run(key, *args)
            assert found.stderr is not None
            bias = jax.tree.map(jnp.abs, found.value[1])
            return dataclasses.replace(
                found, value=found.value[0], stderr=found.stderr[0], biased=True, method="Nested", bias=bias
            )

        return estimate


def nested(
    outer: Callable[..., Any], inner: Callable[..., PyTree], function: Callable[..., PyTree], *, inner_samples: int = 1
) -> Nested:
    r"""Levels of $E\,g(E[Y | X], X)$, for `multilevel(nested(...), rmse=...)` and `debiased(nested(...))`.

    `outer(key, *args)` draws X, `inner(key, x, *args)` a Y given it, and `function(mean, x)` is g. Whatever the number
    of inner draws, g of their mean is biased, by about
    $E[\mathrm{tr}(g''\, \mathrm{Var}[Y | X])] / (2 n)$ for n of them. Of level l there are $n = n_0 2^l$, and what is
    coarse is the mean of g of the means of their halves: where g is linear the two do not differ at all, where it is
    smooth their variance falls as $4^{-l}$, where it has a kink as $2^{-3l/2}$, both faster than the cost rises. So
    `multilevel` takes as many draws as a plain expectation would for the error, up to a factor, and `debiased` is
    unbiased. The plain estimator is `nested(...).expect(level)`, with its bias stated.

    With a kink the weights of `debiased` leave no third moment, and its intervals are too short unless runs are very
    many: `multilevel` is the right choice. Neither is where g jumps, as of a probability that a conditional expectation
    is above a threshold: variances then fall as $2^{-l/2}$ only, `debiased` has no error bar and `multilevel` takes
    long.

    Args:
        inner_samples: $n_0$, of level 0.

    Raises:
        TypeError: one of the three is no function.
        ValueError: `inner_samples` is not positive.

    Source: Bujok, Hambly and Reisinger (2015), Multilevel simulation of functionals of Bernoulli random variables with
    application to basket credit derivatives, Methodol. Comput. Appl. Probab. 17, 579-604, section 3 (the halves);
    Giles and Haji-Ali (2019), Multilevel nested simulation for efficient risk estimation, SIAM/ASA J. Uncertain.
    Quantif. 7(2), 497-525.
    """
    for name, given in (("outer", outer), ("inner", inner), ("function", function)):
        checks.check_callable(name, given)
    return Nested(outer, inner, function, checks.check_positive_int("inner_samples", inner_samples))

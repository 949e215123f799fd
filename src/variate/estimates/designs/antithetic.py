"""Antithetic pairs: a run and its mirror image."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp

from .base import Sets, uniform


class Antithetic(eqx.Module):
    r"""Pairs of runs made of the uniform numbers $u$ and $1 - u$, so that errors of opposite sign cancel.

    The mean of a pair has the variance $\sigma^2 (1 + \rho) / 2$, $\rho$ the correlation of $f(u)$ and $f(1 - u)$: what
    is odd about the centre (a linear function of symmetric draws) has no error left, and where the result is monotone
    in every draw $\rho \le 0$. The wrong choice for what is even about it, whose variance doubles.

    Source: Hammersley and Morton (1956), A new Monte Carlo technique: antithetic variates, Proc. Camb. Phil. Soc.
    52(3), 449-475; Owen (2013), Monte Carlo theory, methods and examples, section 8.2.
    """

    def sets(self, labels: Sequence[str], num_samples: int) -> Sets:
        return Sets(2, None, lambda key: uniform(key, (len(labels),)), lambda u, i: jnp.where(i == 0, u, 1 - u))

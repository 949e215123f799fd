"""Functions of densities whose derivatives of every order are right, at the places too where JAX's are not."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, ArrayLike
from numpyro.distributions.util import clamp_probs


def together(*arrays: ArrayLike) -> Array:
    """Stacked, as floating point: a special function takes long to compile, however many numbers it is then given."""
    return jnp.stack([jnp.asarray(x, jnp.result_type(*arrays, float)) for x in jnp.broadcast_arrays(*arrays)])


def log_choose(n: ArrayLike, x: ArrayLike) -> Array:
    n, x = jnp.asarray(n), jnp.asarray(x)
    whole, chosen, rest = gammaln(together(n + 1, x + 1, n - x + 1))
    return whole - chosen - rest


def clamp(probs: ArrayLike) -> Array:
    """Away from 0 and 1 in value, as NumPyro does, but with the derivative of the probability itself."""
    probs = jnp.asarray(probs)
    return probs + lax.stop_gradient(clamp_probs(probs) - probs)


def hold(held: ArrayLike, p: ArrayLike, most: float = 1.0) -> Array:
    """`p`, or where it is raised to the power 0 a constant near it, by which no derivative is divided."""
    limits = jnp.finfo(jnp.result_type(p, float))
    return jnp.where(held, lax.stop_gradient(jnp.clip(p, limits.tiny, most - limits.eps)), p)


def trials(n: ArrayLike, x: ArrayLike, probs: ArrayLike) -> Array:
    n, x, probs = jnp.asarray(n), jnp.asarray(x), clamp(probs)
    return x * jnp.log(hold(x == 0, probs)) + (n - x) * jnp.log1p(-hold(x == n, probs))


@jax.jit  # so that its many operations are traced once for all who call it with such arguments
def betaln(a: ArrayLike, b: ArrayLike) -> Array:
    """JAX's takes a short series from 8 on, and has a kink in its derivative where the arguments tie."""
    first, second = together(a, b)
    # Either order is right where they tie, in derivatives too, but not half of each, as of a minimum.
    low, high = jnp.where(first <= second, first, second), jnp.where(first <= second, second, first)
    of_low, of_high, of_sum = gammaln(together(low, high, low + high))
    # From where the series is as good as the difference of large numbers.
    least = 300 if high.dtype == jnp.float64 else 8
    large = jnp.where(high >= least, high, least)
    series = _stirling(large) - _stirling(low + large) - (low + large - 0.5) * jnp.log1p(low / large)
    series -= low * (jnp.log(large) - 1)
    return of_low + jnp.where(high >= least, series, of_high - of_sum)


def _stirling(x: Array) -> Array:
    r"""$\log\Gamma(x) - (x - 1/2)\log x + x - \log(2\pi)/2$, to single precision from 8 on, to double from 300."""
    square = x**-2
    return (1 / 12 - square * (1 / 360 - square / 1260)) / x


def log_sum(terms: Array, weights: Array) -> Array:
    r"""$\log\sum_k w_k e^{t_k}$ along the last axis; `logsumexp` has no derivative in a weight that is 0."""
    top = lax.stop_gradient(jnp.max(jnp.where(weights > 0, terms, -jnp.inf), axis=-1, keepdims=True))
    top = jnp.where(jnp.isneginf(top), 0, top)
    most = math.log(float(jnp.finfo(terms.dtype).max)) / 2  # for a term that the weight 0 keeps out of the sum
    return jnp.log(jnp.sum(weights * jnp.exp(jnp.minimum(terms - top, most)), axis=-1)) + top[..., 0]


def log_sinhc(u: ArrayLike) -> Array:
    r"""$\log(\sinh(u)/u)$ with its derivatives, at 0 too."""
    s = jnp.square(u)
    small = s < 0.04
    t = jnp.where(small, s, 0)
    series = t / 6 - t**2 / 180 + t**3 / 2835 - t**4 / 37800 + t**5 / 467775
    r = jnp.sqrt(jnp.where(small, 1, s))
    return jnp.where(small, series, r + jnp.log1p(-jnp.exp(-2 * r)) - jnp.log(2 * r))

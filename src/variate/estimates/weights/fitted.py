"""Student's and normal distributions of the unconstrained coordinates of a draw, fitted to weighted draws."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import gammaln, ndtri
from jaxtyping import Array, Float, Key
from numpyro.distributions.transforms import IdentityTransform, biject_to

from variate.programs import distributions
from variate.programs.quantiles import Transport, transport

_LOST = 1e4  # a log density over which any other is 0


class Fitted(eqx.Module):
    r"""A proposal, $t_\nu(\mu, L L^\top)$ of the coordinates of a draw in which its support is $R^d$.

    The coordinates are those of NumPyro's bijection onto the support, the draw itself where none is known. `degrees`:
    $\nu$, None for the normal distribution.
    """

    loc: Float[Array, "*k d"]
    scale_tril: Float[Array, "*k d d"]
    degrees: float | None = eqx.field(static=True)

    def __call__(self, own: Any) -> "Placed":
        return placed(self, own)

    def log_density(self, y: Float[Array, " d"]) -> Float[Array, ""]:
        """At coordinates y."""
        d, nu = self.loc.size, self.degrees
        r = jax.scipy.linalg.solve_triangular(self.scale_tril, y - self.loc, lower=True)
        square, log_det = jnp.sum(r**2), jnp.sum(jnp.log(jnp.diag(self.scale_tril)))
        if nu is None:
            return -0.5 * (square + d * math.log(2 * math.pi)) - log_det
        constant = gammaln(0.5 * (nu + d)) - gammaln(0.5 * nu) - 0.5 * d * math.log(nu * math.pi)
        return constant - log_det - 0.5 * (nu + d) * jnp.log1p(square / nu)

    def coordinates(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """A draw of them."""
        first, second = jax.random.split(key)
        z = jax.random.normal(first, self.loc.shape, self.loc.dtype)
        if self.degrees is not None:
            z = z / jnp.sqrt(2 / self.degrees * jax.random.gamma(second, self.degrees / 2, dtype=z.dtype))
        return self.loc + self.scale_tril @ z


class Placed(NamedTuple):
    """`Fitted` on the support of a draw."""

    fitted: Any
    onto: Any
    shape: tuple[int, ...]
    dtype: Any

    def sample(self, key: Key[Array, ""]) -> Array:
        return self._value(self.fitted.coordinates(key))

    def log_prob(self, x: Array) -> Float[Array, ""]:
        """Where a draw was rounded to the end of its support it is so large that the weight is 0."""
        y = self.beside(x)
        lost = ~jnp.all(jnp.isfinite(y))
        y = jnp.where(lost, 0, y)
        with distributions.numpyro_promotion():
            flat = y.reshape(self.onto.inverse_shape(self.shape)).astype(self.dtype)
            slope = jnp.sum(self.onto.log_abs_det_jacobian(flat, x))
        return jnp.where(lost, _LOST, self.fitted.log_density(y) - slope.astype(float))

    def beside(self, x: Array) -> Float[Array, " d"]:
        """The coordinates of a draw."""
        with distributions.numpyro_promotion():
            return jnp.ravel(self.onto.inv(x)).astype(float)

    def transport(self, shape: tuple[int, ...], dtype: Any) -> Transport | None:
        """One uniform for each coordinate, before them one for Student's denominator."""
        of, d = self.fitted, self.fitted.loc.size
        if of.degrees is None:
            return Transport((d,), lambda u: self._value(of.loc + of.scale_tril @ ndtri(u.astype(of.loc.dtype))))
        chi2 = transport(dist.Gamma(of.degrees / 2, of.degrees / 2), (), of.loc.dtype)
        assert chi2 is not None

        def value(u: Float[Array, " n"]) -> Array:
            z = ndtri(u[1:].astype(of.loc.dtype)) / jnp.sqrt(chi2.value(u[0]))
            return self._value(of.loc + of.scale_tril @ z)

        return Transport((1 + d,), value)

    def _value(self, y: Float[Array, " d"]) -> Array:
        with distributions.numpyro_promotion():
            x = self.onto(y.reshape(self.onto.inverse_shape(self.shape)))
        return x.astype(self.dtype)


class Fit(eqx.Module):
    """A mixture of K `Fitted`, their parameters stacked."""

    shares: Float[Array, " K"]
    loc: Float[Array, "K d"]
    scale_tril: Float[Array, "K d d"]
    degrees: float | None = eqx.field(static=True)

    @property
    def components(self) -> Fitted:
        return Fitted(self.loc, self.scale_tril, self.degrees)

    def log_densities(self, y: Float[Array, " d"]) -> Float[Array, " K"]:
        """Of the components, times their shares."""
        return jnp.log(self.shares) + jax.vmap(lambda one: one.log_density(y))(self.components)

    def log_density(self, y: Float[Array, " d"]) -> Float[Array, ""]:
        return jax.nn.logsumexp(self.log_densities(y))

    def coordinates(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        pick, rest = jax.random.split(key)
        chosen = jax.random.choice(pick, self.shares.size, p=self.shares)
        return jax.tree.map(lambda leaf: leaf[chosen], self.components).coordinates(rest)

    def improved(self, y: Float[Array, "n d"], weights: Float[Array, " n"]) -> "Fit":
        r"""One step of expectation and maximization towards weighted draws, which lowers $KL(\pi \| q)$.

        A covariance counts as d + 1 draws of its old one besides, so that few effective draws do not collapse it.

        Source: Cappé, Douc, Guillin, Marin and Robert (2008), Adaptive importance sampling in general mixture classes,
        Statistics and Computing 18, 447-459, section 3 (normal) and 4 (Student).
        """
        d, nu = self.loc.shape[1], self.degrees
        logs = jax.vmap(self.log_densities)(y)
        of_component = weights[:, None] * jax.nn.softmax(logs, axis=1)  # [n, K]
        shares = jnp.sum(of_component, axis=0)
        effective = shares**2 / jnp.maximum(jnp.sum(of_component**2, axis=0), jnp.finfo(float).tiny)

        def one(rho: Array, share: Array, m: Array, old: Fitted) -> tuple[Array, Array]:
            r = jax.scipy.linalg.solve_triangular(old.scale_tril, (y - old.loc[None]).T, lower=True)
            pull = rho if nu is None else rho * (nu + d) / (nu + jnp.sum(r**2, axis=0))
            loc = pull @ y / jnp.maximum(jnp.sum(pull), jnp.finfo(float).tiny)
            loc = jnp.where(share > 0, loc, old.loc)
            far = y - loc[None]
            found = (pull[:, None] * far).T @ far / jnp.where(share > 0, share, 1)
            covariance = (m * found + (d + 1) * old.scale_tril @ old.scale_tril.T) / (m + d + 1)
            return loc, jnp.linalg.cholesky(covariance)

        loc, tril = jax.vmap(one, (1, 0, 0, 0))(of_component, shares, effective, self.components)
        shares = jnp.maximum(shares, 0.01 / shares.size)
        return Fit(shares / jnp.sum(shares), loc, tril, nu)


def onto_support(own: Any) -> Any:
    """The bijection from the unconstrained coordinates of a draw to its value."""
    try:
        return biject_to(own.support)
    except (AttributeError, AssertionError, NotImplementedError):
        return IdentityTransform()


def placed(fitted: Fitted | Fit, own: Any) -> Placed:
    """On the support of draws like those of `own`."""
    with distributions.numpyro_promotion():
        drawn = jax.eval_shape(own.sample, jax.random.key(0))
    return Placed(fitted, onto_support(own), drawn.shape, drawn.dtype)

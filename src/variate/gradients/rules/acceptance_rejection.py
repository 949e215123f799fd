"""Acceptance-rejection: a gamma moves as its sampler's proposal does, and a score corrects for what was accepted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Key

from variate.gradients.base import Facts, fixed_sample
from variate.gradients.rules.pathwise import Pathwise
from variate.gradients.rules.score import Score
from variate.programs import distributions, generator
from variate.programs.primitive import Lane, over_lanes, traced_once
from variate.programs.program import Site
from variate.programs.structure import Structure


@dataclass(frozen=True)
class AcceptanceRejection(Pathwise, Score):
    r"""$\nabla_\theta E f(x) = E\,[\nabla_\theta f(h_\theta(\epsilon)) + (f(x) - b)\,\nabla_\theta \log
    \pi_\theta(\epsilon)]$ for gammas $x = h_\theta(\epsilon)$ and what is made of them.

    Marsaglia and Tsang propose $h_a(\epsilon) = (a - \frac13)(1 + \epsilon / \sqrt{9a - 3})^3$ for a gamma of
    concentration $a$; what they accept has the density $\pi_a(\epsilon) = p_a(h_a(\epsilon))\, h_a'(\epsilon)$. Any
    exact draw has such an $\epsilon$, so that the draws are those of every other rule. $\epsilon$ is nearly normal
    whatever $a$ is, so the correction by $\nabla \log \pi$ is small, and smaller for a larger $a$: $x$ is seen as
    $x_B \prod_{i=1}^B u_i^{1 / (a + i - 1)}$ with a gamma $x_B$ of concentration $a + B$ and uniform $u_i$. Draws that
    are quotients of gammas get a total that is independent of them.

    Serves Gamma, Chi2, InverseGamma, Beta, BetaProportion, Dirichlet and StudentT, over a smooth path, with derivatives
    of every order; `Pathwise` has only the first, by their distribution functions, with less noise, and is the better
    choice for it. The correction knows nothing of where the cost comes from: it is the wrong choice where a draw
    reaches much that it hardly moves.

    Args:
        baseline: $b$, as of `Score`; left out, leave-one-out with two samples or more.
        augmentation: $B$. With 0 all concentrations must be one or more: one below makes values that are not finite.

    Source: Naesseth, Ruiz, Linderman and Blei (2017), Reparameterization gradients through acceptance-rejection
    sampling algorithms, eq. 5 and sec. 5; Marsaglia and Tsang (2000).
    """

    augmentation: int = 2

    def __post_init__(self) -> None:
        if isinstance(self.augmentation, bool) or not isinstance(self.augmentation, int) or self.augmentation < 0:
            raise ValueError(f"augmentation must be a number of steps, 0 or more, got {self.augmentation!r}")

    def refuse(self, facts: Facts) -> str | None:
        if facts.law not in FAMILIES:
            known = ", ".join(sorted(law.__name__ for law in FAMILIES))
            return f"{facts.law.__name__} is not known to be made of gammas; {known} are"
        if facts.unbounded:
            return "it is inside a while_loop, which reverse mode cannot pass"
        return facts.shared_key

    def bias(self, facts: Facts) -> str | None:
        return super().bias(replace(facts, rough={}))

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        (value,) = fixed_sample(site, operands)
        moving = traced_once(_moving, site.structure, site.lanes, self.augmentation)
        moved, log_density = moving(value, *operands)
        return [moved], log_density


def _moving(
    structure: Structure, lanes: tuple[Lane, ...], augmentation: int, value: Array, *operands: Array
) -> tuple[Array, Float[Array, ""]]:
    def one(value: Array, key: Array, *arrays: Array) -> tuple[Array, Array]:
        auxiliary = jax.random.fold_in(jax.random.clone(key), _AUXILIARY)
        with distributions.numpyro_promotion():
            law = distributions.innermost(structure.build(arrays))
            return reparameterized(law, value, noise(law, value, auxiliary, augmentation))

    moved, log_densities = over_lanes(one, lanes, 1)(value, *operands)
    return moved, jnp.sum(log_densities)


class Noise(NamedTuple):
    """Random numbers beside a drawn value: with them it has the law of all that the gammas behind it were made of."""

    total: Array  # of the gammas, or whatever else makes them known
    exponentials: Float[Array, "augmentation ..."]  # what is added to each gamma, step by step


class Family(NamedTuple):
    """How a law is made of standard gammas, along a last axis."""

    concentrations: Callable[[Any], Array]
    total: Callable[[Any, Array], Array] | None  # the concentration of a standard gamma, given the value
    gammas: Callable[[Any, Array, Array], Array]  # of the value and the total
    value: Callable[[Any, Array, Array], Array]  # of a value whose gammas are multiplied by these ratios


def noise(law: Any, value: Array, key: Key[Array, ""], augmentation: int) -> Noise:
    """What is drawn to a value, none of which is differentiated."""
    family = FAMILIES[type(law)]
    for_total, for_steps = jax.random.split(key)
    total = jnp.ones((), value.dtype)
    if family.total is not None:
        concentration = lax.stop_gradient(family.total(law, value)).astype(value.dtype)
        total = jax.random.gamma(generator.plain(for_total), concentration, dtype=value.dtype)
    shape = jax.eval_shape(lambda: family.gammas(law, value, total)).shape
    return Noise(total, jax.random.exponential(for_steps, (augmentation, *shape), value.dtype))


def reparameterized(law: Any, value: Array, noise: Noise) -> tuple[Array, Array]:
    r"""A drawn value that moves with the parameters of its law, and $\log \pi(\epsilon)$ of each gamma behind it."""
    family = FAMILIES[type(law)]
    gammas = lax.stop_gradient(family.gammas(law, value, noise.total)).astype(value.dtype)
    smallest = jnp.finfo(value.dtype).tiny  # a gamma of a small concentration may be zero after rounding
    concentrations = family.concentrations(law).astype(value.dtype)
    logs, log_densities = _followed(concentrations, jnp.maximum(gammas, smallest), noise.exponentials)
    moved = family.value(law, value, jnp.exp(logs - lax.stop_gradient(logs))).astype(value.dtype)
    return value + (moved - lax.stop_gradient(moved)), log_densities


def _followed(a: Array, gammas: Array, exponentials: Array) -> tuple[Array, Array]:
    r"""$\log x$ of standard gammas $x$ with their noise held, and $\log \pi(\epsilon)$ of it."""
    below = jnp.concatenate([gammas[None], gammas + jnp.cumsum(exponentials, axis=0)])
    steps = a + jnp.arange(len(exponentials), dtype=a.dtype).reshape(-1, *(1,) * gammas.ndim)
    log_uniforms = lax.stop_gradient(-steps * jnp.diff(jnp.log(below), axis=0))
    gammas, a = below[-1], a + len(exponentials)
    a = a * jnp.where(a < 1, jnp.nan, 1)  # where the sampler is not one
    held, d = lax.stop_gradient(a) - 1 / 3, a - 1 / 3
    start = jnp.cbrt(gammas / held)
    root = start + (start - 1) * (jnp.sqrt(held / d) - 1)  # $1 + \epsilon / \sqrt{9a - 3}$
    return jnp.sum(log_uniforms / steps, axis=0) + jnp.log(d) + 3 * jnp.log(root), log_density(a, root)


def log_density(a: Array, root: Array) -> Array:
    r"""$\log \pi_a(\epsilon)$ by $1 + \epsilon / \sqrt{9a - 3}$."""
    d = a - 1 / 3
    return _log_gamma_density(a, d * root**3) + log_slope(d, root)


def _log_gamma_density(a: Array, x: Array) -> Array:
    return (a - 1) * jnp.log(x) - x - gammaln(a)


def log_slope(d: Array, root: Array) -> Array:
    r"""$\log h'(\epsilon)$."""
    return 0.5 * jnp.log(d) + 2 * jnp.log(root)


def _held(x: Any) -> Array:
    return lax.stop_gradient(jnp.asarray(x))


def _one(x: Any) -> Array:
    return jnp.asarray(x)[..., None]


def _relative(parts: Array, ratios: Array) -> Array:
    """Shares of a whole, each of which grows by its ratio."""
    grown = parts * ratios
    return grown / jnp.sum(grown, axis=-1, keepdims=True)


def _pair(x: Array) -> Array:
    return jnp.stack([x, 1 - x], axis=-1)


def _beta_concentrations(law: Any) -> Array:
    return jnp.stack(jnp.broadcast_arrays(law.concentration1, law.concentration0), axis=-1)


def _squared_student(law: Any, x: Array) -> Array:
    return jnp.square((x - _held(law.loc)) / _held(law.scale))


_GAMMA = Family(
    concentrations=lambda law: _one(law.concentration),
    total=None,
    gammas=lambda law, x, total: _one(x * law.rate),
    value=lambda law, x, ratios: x * ratios[..., 0] * (_held(law.rate) / law.rate),
)
_INVERSE_GAMMA = Family(
    concentrations=lambda law: _one(law.concentration),
    total=None,
    gammas=lambda law, x, total: _one(law.rate / x),
    value=lambda law, x, ratios: x / ratios[..., 0] * (law.rate / _held(law.rate)),
)
_BETA = Family(
    concentrations=_beta_concentrations,
    total=lambda law, x: jnp.broadcast_to(law.concentration1 + law.concentration0, x.shape),
    gammas=lambda law, x, total: _pair(x) * _one(total),
    value=lambda law, x, ratios: _relative(_pair(x), ratios)[..., 0],
)
_DIRICHLET = Family(
    concentrations=lambda law: jnp.asarray(law.concentration),
    total=lambda law, x: jnp.broadcast_to(jnp.sum(law.concentration, axis=-1), x.shape[:-1]),
    gammas=lambda law, x, total: x * _one(total),
    value=lambda law, x, ratios: _relative(x, ratios),
)
# $x = z \sqrt{n / 2 g}$ with a standard normal $z$, which is held, and a gamma $g$ of concentration $n / 2$. Given $x$,
# $g (1 + x^2 / n)$ is a gamma of concentration $(n + 1) / 2$.
_STUDENT = Family(
    concentrations=lambda law: _one(law.df) / 2,
    total=lambda law, x: jnp.broadcast_to((law.df + 1) / 2, x.shape),
    gammas=lambda law, x, total: _one(total / (1 + _squared_student(law, x) / law.df)),
    value=lambda law, x, ratios: (
        law.loc + law.scale * _held((x - law.loc) / law.scale) * jnp.sqrt(law.df / _held(law.df) / ratios[..., 0])
    ),
)
FAMILIES: dict[type, Family] = {
    dist.Gamma: _GAMMA,
    dist.Chi2: _GAMMA,
    dist.InverseGamma: _INVERSE_GAMMA,
    dist.Beta: _BETA,
    dist.BetaProportion: _BETA,
    dist.Dirichlet: _DIRICHLET,
    dist.StudentT: _STUDENT,
}
_AUXILIARY = 0xA11E  # what tells the key of the noise from any that a sampler makes of the same key

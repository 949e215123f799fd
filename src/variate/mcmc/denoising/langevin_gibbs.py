"""Denoising Langevin-Gibbs: a noisy position and its noise move, and the noise is taken away in every step."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Bool, Float, Key

from variate.checks import check_at_least, check_fraction
from variate.mcmc.base import Info, LogDensity, check_scale, given, unbound
from variate.mcmc.mala import MALA
from variate.mcmc.random_walk import State

from .cloud import without_nan


class DenoisingLangevinGibbs(eqx.Module):
    r"""Denoising Langevin-Gibbs: a Langevin step of $y = x + \sigma z$, a new $\sigma$ given y, and a new x given both.

    Of x with density $\pi$, $\sigma$ one of `sigmas`, each as likely, and y normal around x, the law of y given
    $\sigma$ is the target smoothed, $p_\sigma(y) = E\,\pi(y + \sigma z)$, which joins modes that are about $\sigma$
    apart. A step draws $\sigma$ and noises $z_1, \dots, z_n$, and begins at $y = x - \sigma z_1$; all noises together
    stand for $p_\sigma(y)$ by $\hat p_\sigma(y) = \sum_i \pi(y + \sigma z_i) / n$. Then, with all $z_i$ held, y makes
    a step of `MALA` under $\hat p_\sigma$; $\sigma$ is drawn with probability proportional to $\hat p_\sigma(y)$; and
    i in proportion to $\pi(y + \sigma z_i)$, for $x = y + \sigma z_i$. Each of these leaves the law of all together
    invariant, in which x has the density $\pi$: for every n, steps and `sigmas`. It is not reversible.

    The paper has a learnt score in place of $p_\sigma$, no accept step, a classifier that guesses $\sigma$, and a
    discretized reverse diffusion that takes the noise away: none of these is exact, and none is needed where the
    density can be evaluated. Its chain is y and $\sigma$; here they are drawn anew in every step, for $\hat p_\sigma$
    of few noises says little of any $\sigma$ but the last.

    Choose it for modes that are apart in a few dimensions: the largest `sigmas` should reach from one to the other. The
    wrong choice in many dimensions, where none of n points meets another mode, and for one mode, as a step evaluates
    the density n times for each of `sigmas`, and twice more.

    Raises:
        ValueError: sigmas that are not positive, fewer than two points, a step size that is not positive, or an
            acceptance that is not between 0 and 1.

    Sources: Kim and Ye (2023), Denoising MCMC for accelerating diffusion-based generative models, ICML, PMLR 202,
    section 3; the noises, one of which is kept: Andrieu, Doucet and Holenstein (2010), Particle Markov chain Monte
    Carlo methods, J. R. Stat. Soc. B 72(3), 269-342, section 4.5, here of one step.
    """

    sigmas: Float[Array, " levels"]  # in units of the position
    num_samples: int = eqx.field(static=True, default=100)  # n
    step_size: float | Float[Array, ""] | None = None  # of the Langevin step, in units of sigma
    acceptance: float = eqx.field(static=True, default=0.574)  # at which a step size is aimed that is to be found
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("sigmas", self.sigmas)
        check_at_least("num_samples", self.num_samples, 2)
        check_scale("step_size", self.step_size)
        check_fraction("acceptance", self.acceptance)

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_before, key_noises, key_start, key_move, key_sigma, key_point = jax.random.split(key, 6)
        sigmas = jnp.asarray(self.sigmas, state.position.dtype)
        before = jax.random.choice(key_before, sigmas)
        noisy, noises = self.noised(key_noises, state.position, before)

        def log_smoothed(y: Float[Array, " d"]) -> Float[Array, ""]:
            return logsumexp(without_nan(jax.vmap(self.log_density)(y[None] + before * noises)))

        kernel = MALA(given("step_size", self.step_size), before, log_density=log_smoothed)
        moved, info = kernel.step(key_move, kernel.init(key_start, noisy))
        points = moved.position[None, None] + sigmas[:, None, None] * noises[None]
        # Where nothing moves, the first point is what it was, but for rounding.
        same = ~info.accepted & (sigmas == before)
        points = points.at[:, 0].set(jnp.where(same[:, None], state.position[None], points[:, 0]))
        raw = jax.vmap(jax.vmap(self.log_density))(points)
        log_densities = without_nan(raw)
        level = jax.random.categorical(key_sigma, self.log_odds(log_densities))
        point = jax.random.categorical(key_point, log_densities[level])
        accepted: Bool[Array, ""] = ~(same[level] & (point == 0))
        divergent = info.divergent | jnp.any(jnp.isnan(raw))
        info = Info(info.acceptance, accepted, divergent, self.num_samples * (2 + len(sigmas)))
        return State(points[level, point], log_densities[level, point]), info

    def noised(
        self, key: Key[Array, ""], position: Float[Array, " d"], sigma: Float[Array, ""]
    ) -> tuple[Float[Array, " d"], Float[Array, "n d"]]:
        """The position without the first of n noises, and all of them."""
        noises = jax.random.normal(key, (self.num_samples, position.size), position.dtype)
        return position - sigma * noises[0], noises

    def log_odds(self, log_densities: Float[Array, "levels n"]) -> Float[Array, " levels"]:
        """Of each sigma, given all noises and where y is."""
        return logsumexp(log_densities, axis=1)

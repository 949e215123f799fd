"""Multilevel splitting: particles that have climbed far are copied, moved, and climb on."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from variate import checks

_GOAL = 0.3  # of the proposed moves, the share that should be accepted
_ANEW = 0.25  # of the moves, the share that draws anew what is made of keys, which has no small steps


class Score(NamedTuple):
    """What a run came to: its number, and whether that is not one; by draw, how often parameters were out of range."""

    value: Float[Array, "*n"]
    broken: Int[Array, "*n"]
    invalid: dict[int, Int[Array, "*n"]]


class Ladder(NamedTuple):
    """Levels, each a score and a uniform number that orders equal scores, and the size of the moves at each."""

    scores: Float[Array, " levels"]
    ties: Float[Array, " levels"]
    scales: Float[Array, " levels"]
    length: Int[Array, ""]
    arrived: Bool[Array, ""]  # whether the next level would be beyond the threshold


class Climb(NamedTuple):
    """One estimate of the probability, and what `Score` counts, of all its runs."""

    probability: Float[Array, ""]
    broken: Int[Array, ""]
    invalid: dict[int, Int[Array, ""]]


class _Particles(NamedTuple):
    """Normal numbers, keys of what is not made of them, scores, and uniforms that order equal scores."""

    z: Float[Array, "n d"]
    keys: Key[Array, " n"]
    scores: Float[Array, " n"]
    ties: Float[Array, " n"]

    def above(self, score: Float[Array, ""], tie: Float[Array, ""]) -> Bool[Array, " n"]:
        return (self.scores > score) | ((self.scores == score) & (self.ties > tie))


Run = Callable[[Array, Any], Score]  # of normal numbers and a key


@dataclasses.dataclass(frozen=True)
class Splitting:
    r"""$\hat p = \prod_l \tfrac{1}{n} \#\{s_i > a_l\}$ over rising levels, averaged over replicates.

    At each level the n particles with a score s above it are copied over the others, and all are moved at random by
    steps that keep their distribution above the level. Particles are the uniforms that the draws are made of, as normal
    numbers, and steps $z' = \sqrt{1 - c^2} z + c \xi$. Levels and c are learnt from a pilot, the adaptive subset
    simulation of Au and Beck, and then fixed, which makes the estimate of each replicate unbiased and the replicates
    independent; the error bar is Student's. Equal scores are ordered by a uniform number, so that scores with jumps are
    no exception.

    A probability p takes $\log p / \log(\mathrm{kept})$ levels, where independent runs are a multiple of 1/p. The wrong
    choice where the score leads away from what matters, and, in single precision, for events in the upper tail of one
    draw rarer than $10^{-6}$, which its uniform cannot tell from 1.

    Args:
        particles: n.
        kept: the share of particles that is above the next level.
        moves: steps of a particle at a level.
        replicates: independent repetitions, beside the pilot.
        max_levels: where the pilot gives up, and the estimate is not converged.

    Raises:
        ValueError: a count is not positive, there are fewer than two replicates, or no particle would be kept.

    Source: Au and Beck (2001), Estimation of small failure probabilities in high dimensions by subset simulation,
    Probab. Eng. Mech. 16(4), 263-277; the steps: Papaioannou, Betz, Zwirglmaier and Straub (2015), MCMC algorithms for
    subset simulation, 41, 89-103; that fixed levels leave no bias, and adaptive ones of order 1/n: Cérou, Del Moral,
    Furon and Guyader (2012), Sequential Monte Carlo for rare event estimation, Stat. Comput. 22, 795-808.
    """

    particles: int = 1_000
    kept: float = 0.25
    moves: int = 10
    replicates: int = 16
    max_levels: int = 100

    def __post_init__(self) -> None:
        for name in ("particles", "moves", "max_levels"):
            checks.check_positive_int(name, getattr(self, name))
        checks.check_at_least("replicates", self.replicates, 2)
        checks.check_fraction("kept", self.kept)
        if not 1 <= round(self.kept * self.particles) < self.particles:
            raise ValueError(f"kept must be a share of at least one of {self.particles} particles, got {self.kept}")

    def ladder(
        self, run: Run, dimension: int, threshold: Float[Array, ""], key: Key[Array, ""]
    ) -> tuple[Ladder, Climb]:
        """Levels that the share `kept` of the particles is above, as long as they are below the threshold."""
        first, rest = jax.random.split(key)
        particles, climb = self._start(run, dimension, first)
        empty = jnp.zeros(self.max_levels)
        start = Ladder(empty, empty, empty, jnp.zeros((), int), jnp.zeros((), bool))
        last = self.particles - round(self.kept * self.particles) - 1

        def goes_on(state: tuple[Any, ...]) -> Array:
            ladder = state[1]
            return ~ladder.arrived & (ladder.length < self.max_levels)

        def level(state: tuple[Any, ...]) -> tuple[Any, ...]:
            particles, ladder, climb, scale = state
            place = jnp.lexsort((particles.ties, particles.scores))[last]
            floor = particles.scores[place], particles.ties[place]
            arrived = floor[0] > threshold
            moved, accepted, climb = self._climbed(run, particles, floor, scale, climb, _at(rest, ladder.length))
            put = lambda values, new: values.at[ladder.length].set(new)  # noqa: E731
            ladder = Ladder(
                put(ladder.scores, floor[0]),
                put(ladder.ties, floor[1]),
                put(ladder.scales, scale),
                ladder.length + (~arrived).astype(int),
                arrived,
            )
            return moved, ladder, climb, jnp.clip(scale * jnp.exp(2 * (accepted - _GOAL)), 1e-3, 1.0)

        state = jax.lax.while_loop(goes_on, level, (particles, start, climb, jnp.ones(())))
        return state[1], state[2]

    def climb(
        self, run: Run, dimension: int, threshold: Float[Array, ""], ladder: Ladder, key: Key[Array, ""]
    ) -> Climb:
        """One replicate, up the ladder and to the threshold."""
        first, rest = jax.random.split(key)

        def level(index: Array, state: tuple[_Particles, Climb]) -> tuple[_Particles, Climb]:
            floor = ladder.scores[index], ladder.ties[index]
            moved, _, climb = self._climbed(run, state[0], floor, ladder.scales[index], state[1], _at(rest, index))
            return moved, climb

        particles, climb = jax.lax.fori_loop(0, ladder.length, level, self._start(run, dimension, first))
        return climb._replace(probability=climb.probability * jnp.mean(particles.scores > threshold, dtype=float))

    def _start(self, run: Run, dimension: int, key: Key[Array, ""]) -> tuple[_Particles, Climb]:
        first, second, third = jax.random.split(key, 3)
        z, keys = jax.random.normal(first, (self.particles, dimension)), jax.random.split(second, self.particles)
        found = jax.vmap(run)(z, keys)
        particles = _Particles(z, keys, found.value, jax.random.uniform(third, (self.particles,)))
        return particles, _counted(Climb(jnp.ones(()), jnp.zeros((), int), {}), found)

    def _climbed(
        self,
        run: Run,
        particles: _Particles,
        floor: tuple[Array, Array],
        scale: Float[Array, ""],
        climb: Climb,
        key: Key[Array, ""],
    ) -> tuple[_Particles, Float[Array, ""], Climb]:
        """Those above the floor, copied over the others and moved; the share of moves accepted; the estimate so far."""
        parents, moving = jax.random.split(key)
        alive = particles.above(*floor)
        order = jnp.argsort(~alive)  # the living first
        count = jnp.sum(alive)
        chosen = order[jax.random.randint(parents, alive.shape, 0, jnp.maximum(count, 1))]
        copies = jax.tree.map(lambda leaf: leaf[jnp.where(alive, jnp.arange(alive.size), chosen)], particles)
        climb = climb._replace(probability=climb.probability * (count / alive.size))

        def move(state: tuple[_Particles, Climb], key: Key[Array, ""]) -> tuple[tuple[_Particles, Climb], Array]:
            now, climb = state
            proposed, found = self._proposed(run, now, scale, key)
            above = proposed.above(*floor)
            kept = jax.tree.map(lambda new, old: _where(above, new, old), proposed, now)
            return (kept, _counted(climb, found)), jnp.mean(above, dtype=float)

        (copies, climb), accepted = jax.lax.scan(move, (copies, climb), jax.random.split(moving, self.moves))
        return copies, jnp.mean(accepted), climb

    def _proposed(
        self, run: Run, now: _Particles, scale: Float[Array, ""], key: Key[Array, ""]
    ) -> tuple[_Particles, Score]:
        noise, whole, fresh, ties = jax.random.split(key, 4)
        z = jnp.sqrt(1 - scale**2) * now.z + scale * jax.random.normal(noise, now.z.shape)
        anew = jax.random.bernoulli(whole, _ANEW, now.keys.shape)
        keys = _where(anew, jax.random.split(fresh, now.keys.size), now.keys)
        found = jax.vmap(run)(z, keys)
        return _Particles(z, keys, found.value, jax.random.uniform(ties, now.ties.shape)), found


def _counted(climb: Climb, found: Score) -> Climb:
    met = {site: climb.invalid.get(site, 0) + jnp.sum(times) for site, times in found.invalid.items()}
    return climb._replace(broken=climb.broken + jnp.sum(found.broken), invalid=met)


def _at(key: Key[Array, ""], index: Array) -> Key[Array, ""]:
    return jax.random.fold_in(key, index.astype(jnp.uint32))


def _where(flags: Bool[Array, " n"], new: Array, old: Array) -> Array:
    if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
        data = _where(flags, jax.random.key_data(new), jax.random.key_data(old))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(new))
    return jnp.where(flags.reshape(flags.shape + (1,) * (new.ndim - 1)), new, old)

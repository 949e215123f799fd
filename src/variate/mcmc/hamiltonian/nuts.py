"""The no-U-turn sampler: Hamiltonian paths that are followed until they turn back, whatever that takes."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from variate.checks import check_fraction
from variate.mcmc.base import Info, LogDensity, Scale, check_scale, given, unbound

from . import leapfrog
from .leapfrog import LOST, State

_MOST = 12  # doublings: 4,095 steps of a path


class NUTS(eqx.Module):
    r"""Hamiltonian Monte Carlo whose paths double in length, back or forth, until they make a U-turn.

    The path from (x, p), $p \sim N(0, I)$ in coordinates $S^{-1} x$, grows by $2^j$ leapfrog steps of size $\epsilon$
    for j = 0, 1, ..., in a direction that a fair coin chooses. It ends where the sum $\rho$ of the momenta of the whole
    or of any half, quarter, ... of it has $\rho \cdot p \le 0$ at one of its ends, or that of one half and the nearest
    state of the other has; where its energy is lost; or at `max_doublings`. Within each new half, a state is chosen
    with a probability proportional to $\pi(x, p)$, and it replaces that of the old half with probability
    $\min(1, w_{new} / w_{old})$. This leaves $\pi$ invariant for every $\epsilon$ and S.

    The kernel for densities with gradients of which nothing else is known. Wrong for densities with edges inside of
    their support; and for thousands of chains at once, where each waits for the longest path of all.

    Raises:
        ValueError: a step size or scale that is not positive, an acceptance that is not between 0 and 1, or more than
            12 doublings.

    Sources: Hoffman and Gelman (2014), The no-U-turn sampler, JMLR 15, 1593-1623; the choice of a state and the
    criterion: Betancourt (2017), A conceptual introduction to Hamiltonian Monte Carlo, arXiv:1701.02434, appendix A;
    without recursion: Phan, Pradhan and Jankowiak (2019), arXiv:1912.11554, algorithm 2.
    """

    step_size: float | Float[Array, ""] | None = None  # epsilon, in units of S
    scale: Scale | None = None  # S: about the standard deviation of each coordinate, or a lower triangle
    max_doublings: int | Int[Array, ""] = 10
    acceptance: float = eqx.field(static=True, default=0.8)  # at which a step size is aimed that is to be found
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        check_scale("step_size", self.step_size)
        check_scale("scale", self.scale)
        check_fraction("acceptance", self.acceptance)
        if isinstance(self.max_doublings, int) and not 1 <= self.max_doublings <= _MOST:
            raise ValueError(f"max_doublings must be from 1 to {_MOST}, got {self.max_doublings}")

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return leapfrog.at(self.log_density, position)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_momentum, key_path = jax.random.split(key)
        momentum = jax.random.normal(key_momentum, state.position.shape, state.position.dtype)
        path = _begun(state, momentum)
        energy = 0.5 * momentum @ momentum - state.log_density
        path = lax.while_loop(lambda path: path.going, lambda path: self._grown(key_path, path, energy), path)
        moved = jnp.any(path.chosen.position != state.position)
        acceptance = path.acceptance / path.steps.astype(energy.dtype)
        return path.chosen, Info(acceptance, moved, path.lost, path.steps, energy)

    def _grown(self, key: Key[Array, ""], path: "_Path", energy: Float[Array, ""]) -> "_Path":
        """By one step, and where this completes a doubling, by a new half."""
        turn, take, prefer = jax.random.uniform(jax.random.fold_in(key, path.steps), (3,), energy.dtype)
        first = path.leaf == 0
        forward = jnp.where(first, turn < 0.5, path.forward)
        near, far = _where(forward, (path.right, path.left), (path.left, path.right))
        step_size = jnp.where(forward, 1.0, -1.0).astype(energy.dtype) * given("step_size", self.step_size)
        scale = given("scale", self.scale)
        end = leapfrog.leapfrog(self.log_density, scale, step_size, *_where(first, near, path.end))
        state, p = end

        log_weight = energy + state.log_density - 0.5 * p @ p
        lost = ~(log_weight > -LOST)
        log_weight = jnp.where(lost, -jnp.inf, log_weight)
        half = path.half.joined(first, log_weight, state, p, jnp.log(take))
        corners, turned = path.corners.passed(path.leaf, path.end[1], p, half.total)
        broken = lost | turned
        done = (path.leaf + 1 == 2**path.doublings) & ~broken

        total = path.total + half.total
        turned = (
            _turned(far[1], p, total)
            | _turned(far[1], corners.momenta[0], path.total + corners.momenta[0])
            | _turned(near[1], p, half.total + near[1])
        )
        doublings = jnp.where(done, path.doublings + 1, path.doublings)
        preferred = done & (jnp.log(prefer) < half.log_weight - path.log_weight)
        return _Path(
            left=_where(done & ~forward, end, path.left),
            right=_where(done & forward, end, path.right),
            chosen=State(*_where(preferred, half.state, path.chosen)),
            log_weight=jnp.where(done, jnp.logaddexp(path.log_weight, half.log_weight), path.log_weight),
            total=jnp.where(done, total, path.total),
            half=half,
            end=end,
            corners=corners,
            forward=forward,
            leaf=jnp.where(done, 0, path.leaf + 1),
            doublings=doublings,
            going=~broken & ~(done & (turned | (doublings >= jnp.asarray(self.max_doublings, doublings.dtype)))),
            lost=lost,
            steps=path.steps + 1,
            acceptance=path.acceptance + jnp.exp(jnp.minimum(log_weight, 0)),
        )


class _Half(NamedTuple):
    """The new half of a path: its weight, the state that was chosen of it, and the sum of its momenta."""

    log_weight: Float[Array, ""]
    state: State
    total: Float[Array, " d"]

    def joined(
        self, first: Bool[Array, ""], log_weight: Float[Array, ""], state: State, p: Float[Array, " d"], log_u: Array
    ) -> "_Half":
        """By a state, which is the choice with the probability of its weight in all."""
        together = jnp.where(first, log_weight, jnp.logaddexp(self.log_weight, log_weight))
        chosen = State(*_where(first | (log_u < log_weight - together), state, self.state))
        return _Half(together, chosen, jnp.where(first, 0, self.total) + p)


class _Corners(NamedTuple):
    """Of the parts of the new half that are not complete, the largest first: where they began.

    The i-th is the part that begins with the leaf whose binary digits but the last have i ones, the latest such leaf.
    """

    momenta: Float[Array, "most d"]
    before: Float[Array, "most d"]  # the momentum of the leaf before it
    total: Float[Array, "most d"]  # the sum of all momenta before it

    def passed(
        self, leaf: Int[Array, ""], before: Float[Array, " d"], p: Float[Array, " d"], total: Float[Array, " d"]
    ) -> tuple["_Corners", Bool[Array, ""]]:
        """With one leaf more, and whether a part that it completes has turned."""
        index, even = lax.population_count(leaf >> 1), leaf % 2 == 0
        p, before, total = p[None], before[None], total[None]
        levels = jnp.arange(_MOST, dtype=leaf.dtype)
        at = (levels == index)[:, None] & even
        corners = _Corners(*(jnp.where(at, new, old) for new, old in zip((p, before, total - p), self, strict=True)))
        ones = lax.population_count(leaf ^ (leaf + 1)) - 1  # that the digits end with: so many parts are complete
        complete = (levels <= index) & (levels > index - ones)
        inner = _Corners(*(jnp.roll(x, -1, axis=0) for x in corners))  # the second half of each
        across = _turned(corners.momenta, inner.momenta, inner.total + inner.momenta - corners.total)
        across |= _turned(inner.before, p, total - inner.total + inner.before)
        turned = _turned(corners.momenta, p, total - corners.total) | (across & (levels < index))
        return corners, jnp.any(turned & complete)


class _Path(NamedTuple):
    left: tuple[State, Array]
    right: tuple[State, Array]
    chosen: State
    log_weight: Float[Array, ""]  # of all its states, that of the first being 0
    total: Float[Array, " d"]  # the sum of its momenta
    half: _Half
    end: tuple[State, Array]  # of the new half, as far as it goes
    corners: _Corners
    forward: Bool[Array, ""]
    leaf: Int[Array, ""]  # of the new half
    doublings: Int[Array, ""]
    going: Bool[Array, ""]
    lost: Bool[Array, ""]
    steps: Int[Array, ""]
    acceptance: Float[Array, ""]  # their sum


def _begun(state: State, momentum: Float[Array, " d"]) -> _Path:
    zero, end = jnp.zeros((), momentum.dtype), (state, momentum)
    none, false = jnp.zeros((_MOST, momentum.size), momentum.dtype), jnp.asarray(False)
    count = jnp.zeros((), jnp.int32)
    half, corners = _Half(zero, state, jnp.zeros_like(momentum)), _Corners(none, none, none)
    return _Path(
        end, end, state, zero, momentum, half, end, corners, false, count, count, jnp.asarray(True), false, count, zero
    )


def _turned(left: Float[Array, "..."], right: Float[Array, "..."], total: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a path whose momenta have this sum turns back at an end; the same in both directions of time."""
    return (jnp.sum(left * total, -1) <= 0) | (jnp.sum(right * total, -1) <= 0)


def _where(condition: Bool[Array, ""], new: tuple, old: tuple) -> tuple:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), new, old)

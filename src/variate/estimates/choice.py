"""The method of an expectation, chosen by the variances that a pilot shows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree
from scipy import special

from variate.compiling import sooner
from variate.programs.program import Program
from variate.programs.uniforms import layout
from variate.trees import Static

from .base import Integration, Methods
from .conditional import Conditional
from .controlled import Controlled, ControlledMoments
from .designs import Antithetic, Design, LatinHypercube, Lattice, Sets, Sobol
from .designs.independent import Independent
from .estimate import Estimate
from .moments import Moments
from .plan import Plan
from .rules import Both, Pair
from .sampling import sampler, staged
from .scores import Scores
from .stopping import StdErr, is_tolerance

PILOT = 1_024  # runs for each design
_WORTH = 0.7  # of plain sampling's variance: what promises less of a gain may be the pilot's noise
_CLOSE = 16.0  # ratio of variances up to which designs that grow are compared on larger sets
_DEGREES = 8  # of freedom, below which a few sets with controls tell too little of their own variance
_LOOK = 0.0025  # beyond a quantile of Student's by whose square variances of few sets compare
_SHARE = 4.0  # of the runs that are to come, what such a comparison may take: one in so many
_MARGIN = 2.0  # by which intervals that are looked at again and again are longer than two standard errors


class Choice(NamedTuple):
    """What was chosen, and its variance over that of plain sampling, of the coordinate that gains least."""

    methods: Methods
    ratio: float | None  # None: nothing was measured


_DESIGNS: tuple[Design, ...] = (Independent(), Antithetic(), LatinHypercube(), Sobol(), Lattice())


def choose(static: Static, key: Key[Array, ""], numbers: list[Any], plan: Plan) -> Choice:
    r"""The legal method of least variance in a pilot of 1,024 runs for each design, with and without `Scores`.

    Of the variances of several numbers the ratio to plain sampling's that is worst counts. Sets that grow gain on it as
    they do: of quasi-Monte Carlo's, whose error falls faster, the ratio is credited with a fall as $n^{-1/2}$ from the
    pilot's runs to those that plain sampling would take. A method is taken only where its ratio in the pilot is below
    0.7, so that a program which no method serves loses the pilot and nothing else.

    Errors of two kinds of sets that grow fall at different rates, so small sets do not tell which are better when
    large. Where the best is one of them and others are near, they are compared again on sets of four times the size,
    and again, while that takes at most a quarter of the runs that are still to come if the variance falls as $n^{-2}$.
    Sets go with no more scores than leave 8 degrees of freedom to the pilot's variance; where they grow, the length
    that fewer degrees give to their intervals counts.

    Draws whose mean serves as well (`Conditional(limit=1)`) are made under none of these: that costs nothing, and by
    the law of total variance it makes no variance larger, whatever the design of the others. Methods are then taken
    where their ratio is below 0.7 of that of `Conditional` alone.
    """
    program, _ = staged(static, key, numbers)
    integration = _integration(program)
    if integration is not None:
        first, second = jax.random.split(jax.random.clone(key))
        (plain,) = Pilot(static, None, None, ()).run(_DESIGNS[:1], PILOT, first, numbers)
        found = _best(static, program, integration, plain, second, numbers, plan)
        if found is not None:
            return found
    return _best(static, program, None, None, key, numbers, plan) or Choice(Methods(), None)


def _best(
    static: Static,
    program: Program,
    integration: Integration | None,
    plain: PyTree[Array],
    key: Key[Array, ""],
    numbers: list[Any],
    plan: Plan,
) -> Choice | None:
    """The best of all that go with this; None where there is nothing to try, or means are not finite."""
    gone = integration.integrated(program).means if integration else frozenset()
    try:
        labels = tuple(layout(program, {}, gone).labels)
    except ValueError:  # a random number of draws
        labels = ()
    if not (labels or integration):
        return None
    controls = _controls(program, gone) if plan.function is None else None
    runs = Pilot(static, controls, integration, labels)
    first, second = jax.random.split(jax.random.clone(key))
    designs = _serving(labels)
    rows = runs.run(designs, PILOT, first, numbers)
    plain = rows[0] if integration is None else plain
    alone = _DESIGNS[0].sets(labels, PILOT)
    variances, own = (_variances(of, alone, False) for of in (plain, rows[0]))
    if integration is not None and not np.all(np.isfinite(own)):
        return None
    base = _worst_ratio(own, variances)
    of_plain = _runs_of_plain(plain, plan)
    contenders = [
        each
        for design, of_design in zip(designs, rows, strict=True)
        for each in _contenders(runs, design, of_design, PILOT, variances)
    ]
    growing = [each for each in contenders if _grows(each, labels)]
    credit = (PILOT / of_plain) ** 0.5
    worth = [(each.ratio * (credit if each in growing else 1.0), each) for each in contenders]
    worth = [(ratio, each) for ratio, each in worth if each.ratio < _WORTH * base]
    credited, best = min(worth, key=lambda each: each[0], default=(base, None))
    if best is None or credited >= base:
        return Choice(Methods(integration=integration), base)
    if best not in growing:
        return best.choice
    near = [each for each in growing if each.ratio < _CLOSE * best.ratio]
    return _raced(runs, best.choice, near, variances, of_plain, second, numbers, plan)


def _raced(
    runs: "Pilot",
    best: Choice,
    growing: list["_Contender"],
    variances: np.ndarray,
    of_plain: float,
    key: Key[Array, ""],
    numbers: list[Any],
    plan: Plan,
) -> Choice:
    """The best of the contenders on sets that grow while that pays."""
    size = PILOT
    designs = tuple({type(design): design for each in growing if (design := each.choice.methods.design)}.values())
    while len(designs) > 1:
        to_come = float(plan.num_samples)
        if is_tolerance(plan.until):
            to_come = min(to_come, _MARGIN * ((best.ratio or 0.0) * size * of_plain) ** 0.5)
        if _SHARE * len(designs) * 4 * size > to_come:
            break
        size, (key, own) = 4 * size, jax.random.split(key)
        found: list[_Contender] = []
        for design, rows in zip(designs, runs.run(designs, size, own, numbers), strict=True):
            found += _contenders(runs, design, rows, size, variances * (PILOT / size))
        first = min(found, key=lambda each: each.ratio)
        near = {type(each.choice.methods.design) for each in found if each.ratio < _CLOSE * first.ratio}
        best, designs = first.choice, tuple(design for design in designs if type(design) in near)
    return best


class _Contender(NamedTuple):
    ratio: float  # of variances, by which it is compared: longer intervals of fewer degrees of freedom are in it
    choice: Choice


def _contenders(
    runs: "Pilot", design: Design, rows: PyTree[Array], size: int, variances: np.ndarray
) -> list[_Contender]:
    """A design with and without controls, by its rows of so many runs, of which plain ones have these variances."""
    found, sets = [], design.sets(runs.labels, size)
    for used in (None, runs.controls) if runs.controls else (None,):
        longer, number = 1.0, size // sets.size
        if used is not None:
            degrees = number - 1 - rows.controls.shape[-1]
            if degrees < _DEGREES:
                continue
            if sets.count is not None:  # others will be as many as it takes
                longer = float((special.stdtrit(degrees, _LOOK) / special.stdtrit(number - 1, _LOOK)) ** 2)
        ratio = _worst_ratio(_variances(rows, sets, used is not None), variances)
        named = None if isinstance(design, Independent) else design
        found.append(_Contender(longer * ratio, Choice(Methods(named, used, None, runs.integration), ratio)))
    return found


def _serving(labels: tuple[str, ...]) -> tuple[Design, ...]:
    """The designs that have so many coordinates; where there is none, independent runs alone."""
    found: list[Design] = []
    for design in _DESIGNS if labels else _DESIGNS[:1]:
        try:
            design.sets(labels, PILOT)
        except ValueError:
            continue
        found.append(design)
    return tuple(found)


def _grows(contender: _Contender, labels: tuple[str, ...]) -> bool:
    design = contender.choice.methods.design
    return design is not None and design.sets(labels, PILOT).count is not None


def _integration(program: Program) -> Integration | None:
    free = Conditional(limit=1)
    try:
        free.integrated(program)
    except ValueError:
        return None
    return free


def _controls(program: Program, gone: frozenset[int]) -> Scores | None:
    scores = Scores(16)  # each costs a degree of freedom, of which a few sets of points have few
    try:
        return scores if scores.wishes(program).scores.keys() - gone else None
    except ValueError:
        return None


class Pilot(NamedTuple):
    """Of which program, with what, and what its uniform numbers are called."""

    static: Static
    controls: Scores | None
    integration: Integration | None
    labels: tuple[str, ...]

    def run(
        self, designs: tuple[Design, ...], size: int, key: Key[Array, ""], numbers: list[Any]
    ) -> list[PyTree[Array]]:
        """For each design so many runs, those of a set side by side; `_rows` is compiled once for all of them."""
        first, second = jax.random.split(key)
        blocks = _points(designs, self.labels, size, first)
        keys = jax.random.split(second, len(blocks))
        rows = [_rows(self, key, uniforms, numbers) for key, uniforms in zip(keys, blocks, strict=True)]
        each = size // PILOT

        def joined(i: int) -> PyTree[Array]:
            return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *rows[i * each : (i + 1) * each])

        return [joined(i) for i in range(len(designs))]


@sooner(static_argnums=0)
def _rows(runs: Pilot, key: Key[Array, ""], uniforms: Array, numbers: list[Any]) -> PyTree[Array]:
    methods = Methods(Independent() if runs.labels else None, runs.controls, None, runs.integration)
    key, own = jax.random.split(key)
    row = sampler(methods, runs.static, PILOT, own, numbers, False).row
    return jax.vmap(row)(jax.random.split(key, PILOT), uniforms)[0]


@sooner(once=True, static_argnums=(0, 1, 2))
def _points(designs: tuple[Design, ...], labels: tuple[str, ...], size: int, key: Key[Array, ""]) -> list[Array]:
    """In blocks of the pilot's size, those of a design one after the other."""

    def points(sets: Sets, key: Key[Array, ""]) -> Array:
        made = sets.randomize(key)
        return jax.vmap(lambda i: sets.point(made, i))(jnp.arange(sets.size))

    found: list[Array] = []
    for design, own in zip(designs, jax.random.split(key, len(designs)), strict=True):
        sets = design.sets(labels, size)
        each = jax.vmap(lambda key, sets=sets: points(sets, key))(jax.random.split(own, size // sets.size))
        found += list(each.reshape(size // PILOT, PILOT, len(labels)))
    return found


def _variances(rows: PyTree[Array], sets: Sets, controlled: bool) -> np.ndarray:
    """Of the estimates, one for each number of the result."""
    _, stderr = _estimate(sets.size, controlled, rows)
    return np.concatenate([np.square(np.asarray(leaf, float)).ravel() for leaf in jax.tree.leaves(stderr)])


# As one function: operation by operation, compiling it was a third of a choice's time.
@sooner(once=True, static_argnums=(0, 1))
def _estimate(size: int, controlled: bool, rows: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
    """The value, and its standard error, by sets of so many rows."""
    means = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] // size, size, *leaf.shape[1:]).mean(axis=1), rows)
    found: Estimate
    if controlled:
        found = ControlledMoments.of_rows(means).read()
    else:
        found = Moments.of_rows(means.value if isinstance(means, Controlled) else means).read()
    return found.value, found.stderr


def _runs_of_plain(rows: PyTree[Array], plan: Plan) -> float:
    """How many independent runs the tolerance will take, for the number that takes most."""
    if isinstance(plan.until, Pair):
        each = [_runs_of_plain(rows, plan._replace(until=rule)) for rule in (plan.until.first, plan.until.second)]
        return max(each) if isinstance(plan.until, Both) else min(each)
    if not isinstance(plan.until, StdErr):
        return float(plan.num_samples)
    runs = float(PILOT)
    for value, stderr in zip(*map(jax.tree.leaves, _estimate(1, False, rows)), strict=True):
        allowed = np.maximum(plan.until.absolute or 0.0, (plan.until.relative or 0.0) * np.abs(np.asarray(value)))
        with np.errstate(divide="ignore", invalid="ignore"):
            runs = np.fmax(runs, np.fmax.reduce(np.ravel(PILOT * (np.asarray(stderr) / allowed) ** 2), initial=PILOT))
    return float(min(runs, plan.num_samples))


def _worst_ratio(variances: np.ndarray, plain: np.ndarray) -> float:
    if not (np.all(np.isfinite(variances)) and np.all(np.isfinite(plain))):
        return 1.0
    varying = plain > 0
    return float(np.max(variances[varying] / plain[varying], initial=0.0)) if varying.any() else 1.0

"""The method of an expectation, chosen by the variances that a pilot shows."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

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
from .sampling import sampler, staged
from .scores import Scores
from .stopping import StdErr

PILOT = 1_024  # runs for each design
_WORTH = 0.7  # of plain sampling's variance: what promises less of a gain may be the pilot's noise


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

    Draws whose mean serves as well (`Conditional(limit=1)`) are made under none of these: that costs nothing, and by
    the law of total variance it makes no variance larger, whatever the design of the others. Methods are then taken
    where their ratio is below 0.7 of that of `Conditional` alone.
    """
    program, _ = staged(static, key, numbers)
    integration = _integration(program)
    if integration is not None:
        first, second = jax.random.split(jax.random.clone(key))
        (plain,) = _pilot(static, None, None, (), first, numbers)
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
    rows = _pilot(static, controls, integration, labels, key, numbers)
    plain = rows[0] if integration is None else plain
    alone = _DESIGNS[0].sets(labels, PILOT)
    variances, own = (_variances(of, alone, False) for of in (plain, rows[0]))
    if integration is not None and not np.all(np.isfinite(own)):
        return None
    base = _worst_ratio(own, variances)
    credit = (PILOT / _runs_of_plain(plain, plan)) ** 0.5
    found = [(base, Choice(Methods(integration=integration), base))]
    for design, of_design in zip(_DESIGNS, rows, strict=False):
        sets = design.sets(labels, PILOT)
        for used in (None, controls) if controls else (None,):
            ratio = _worst_ratio(_variances(of_design, sets, used is not None), variances)
            named = None if isinstance(design, Independent) else design
            if ratio < _WORTH * base:
                credited = ratio if sets.count is None else ratio * credit
                found.append((credited, Choice(Methods(named, used, None, integration), ratio)))
    return min(found, key=lambda each: each[0])[1]


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


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _pilot(
    static: Static,
    controls: Scores | None,
    integration: Integration | None,
    labels: tuple[str, ...],
    key: Key[Array, ""],
    numbers: list[Any],
) -> list[PyTree[Array]]:
    """For each design its runs, those of a set side by side; compiled once for all of them."""
    designs = _DESIGNS if labels else _DESIGNS[:1]
    methods = Methods(Sobol() if labels else None, controls, None, integration)
    row = sampler(methods, static, PILOT, key, numbers, False).row

    def points(sets: Sets, key: Key[Array, ""]) -> Array:
        made = sets.randomize(key)
        return jax.vmap(lambda i: sets.point(made, i))(jnp.arange(sets.size))

    keys = jax.random.split(key, 1 + len(designs))
    uniforms = []
    for design, own in zip(designs, keys[1:], strict=True):
        sets = design.sets(labels, PILOT)
        each = jax.vmap(lambda key, sets=sets: points(sets, key))(jax.random.split(own, PILOT // sets.size))
        uniforms.append(each.reshape(PILOT, len(labels)))
    several = jax.random.split(keys[0], (len(designs), PILOT))
    rows = jax.lax.map(lambda of: jax.vmap(row)(*of)[0], (several, jnp.stack(uniforms)))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], rows) for i in range(len(designs))]


def _variances(rows: PyTree[Array], sets: Sets, controlled: bool) -> np.ndarray:
    """Of the estimates, one for each number of the result."""
    means = jax.tree.map(lambda leaf: leaf.reshape(-1, sets.size, *leaf.shape[1:]).mean(axis=1), rows)
    found: Estimate
    if controlled:
        found = ControlledMoments.of_rows(means).read()
    else:
        found = Moments.of_rows(means.value if isinstance(means, Controlled) else means).read()
    return np.concatenate([np.square(np.asarray(leaf, float)).ravel() for leaf in jax.tree.leaves(found.stderr)])


def _runs_of_plain(rows: PyTree[Array], plan: Plan) -> float:
    """How many independent runs the tolerance will take, for the number that takes most."""
    if not isinstance(plan.until, StdErr):
        return float(plan.num_samples)
    found = Moments.of_rows(rows.value if isinstance(rows, Controlled) else rows).read()
    runs = float(PILOT)
    for value, stderr in zip(jax.tree.leaves(found.value), jax.tree.leaves(found.stderr), strict=True):
        allowed = np.maximum(plan.until.absolute or 0.0, (plan.until.relative or 0.0) * np.abs(np.asarray(value)))
        with np.errstate(divide="ignore", invalid="ignore"):
            runs = np.fmax(runs, np.fmax.reduce(np.ravel(PILOT * (np.asarray(stderr) / allowed) ** 2)))
    return float(min(runs, plan.num_samples))


def _worst_ratio(variances: np.ndarray, plain: np.ndarray) -> float:
    if not (np.all(np.isfinite(variances)) and np.all(np.isfinite(plain))):
        return 1.0
    varying = plain > 0
    return float(np.max(variances[varying] / plain[varying], initial=0.0)) if varying.any() else 1.0

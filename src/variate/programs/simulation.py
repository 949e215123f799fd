"""`simulate`: a run with its draws and their log probabilities; `replay`: the same run with some draws overridden."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate import checks
from variate.programs import distributions
from variate.programs.interpretation import Records, run
from variate.programs.primitive import Event, Lane, over_lanes, sample_leaves, traced_once
from variate.programs.program import Factor, Operation, Program, Site, one_lane
from variate.programs.recognition import Index
from variate.programs.staging import stage_whole
from variate.programs.structure import Structure
from variate.programs.validity import while_summing


class Drawn(NamedTuple):
    """The value of a draw, a leading axis for each scan around it, and its log probability, summed over a step."""

    value: Any
    log_prob: Float[Array, "..."]


class Simulation(NamedTuple):
    """A run: what the program returned, and its draws by name (by source line where they have none)."""

    result: Any
    draws: dict[str, Drawn]


class At(NamedTuple):
    """A value for one element of a draw; its index counts scan steps first, then the axes of the value."""

    index: tuple[int | Array, ...]
    value: Any


def log_prob(site: Site, values: Sequence[Array], operands: Sequence[Array]) -> Float[Array, ""]:
    """The log probability of a drawn value, summed over lanes and elements."""
    return traced_once(_log_prob, site.structure, site.lanes, site.event, site.binary)(values, operands)


def element_log_probs(site: Site, values: Sequence[Array], operands: Sequence[Array]) -> Float[Array, "..."]:
    """The log probability of each element of a drawn value: lanes, then batch."""
    return traced_once(_element_log_probs, site.structure, site.lanes, site.event, site.binary)(values, operands)


def _log_prob(*arguments: Any, checked: bool = False) -> Float[Array, ""]:
    each = _log_probs(_as_it_is, *arguments, checked=checked)
    return jnp.sum(each) if each.ndim else each


def _element_log_probs(*arguments: Any, checked: bool = False) -> Float[Array, "..."]:
    return _log_probs(distributions.elementwise, *arguments, checked=checked)


def _as_it_is(distribution: Any) -> Any:
    return distribution


def _log_probs(
    form: Callable[[Any], Any],
    structure: Structure,
    lanes: tuple[Lane, ...],
    event: Event,
    binary: bool,
    values: Sequence[Array],
    operands: Sequence[Array],
    checked: bool = False,
) -> Float[Array, "..."]:
    def one(*arguments: Array) -> Array:
        drawn = jax.tree.unflatten(event.tree, arguments[: len(event.leaves)])
        distribution = form(structure.build(arguments[len(event.leaves) + 1 :]))
        return distributions.drawn_log_prob(distribution, drawn, checked)

    values = _as_factors(values, operands) if binary else values
    return over_lanes(one, lanes, len(values))(*values, *operands)


def _as_factors(coins: Sequence[Array], operands: Sequence[Array]) -> Sequence[Array]:
    """Zeros and ones as floats, cast as in `interpretation.bind`."""
    dtype = jnp.result_type(float, *operands[1:])
    return [(coin != 0).astype(dtype) for coin in coins]


def log_prob_in(index: Index, draw: Operation, by_element: bool = False) -> int | None:
    """Where a program of this index, which makes the draw, computes the log probability of what was drawn as well."""
    site = draw.site
    if site is None or site.lanes:
        return None
    function = _element_log_probs if by_element else _log_prob
    values, operands = [jax.ShapeDtypeStruct(*leaf) for leaf in site.event.leaves], one_lane(draw)
    for checked in (False, True):  # as it is written by hand, and as NumPyro writes it
        density = functools.partial(function, site.structure, (), site.event, False, checked=checked)
        what = (by_element, checked, site.structure, site.event, tuple(operands))
        place = index.find(what, density, (values, operands), [*draw.outputs, *draw.inputs])
        if place is not None:
            return place
    return None


def simulate(f: Callable[..., Any]) -> Callable[..., Simulation]:
    """Run `f(key, *args)` once and keep its draws.

    Returns a function of `(key, *args)`. A branch that is not taken leaves zeros. Raises TypeError for a draw inside a
    `while_loop`, whose number of draws is not known before the run.
    """

    @functools.wraps(f, updated=())
    def simulated(key: Any, *args: Any) -> Simulation:
        checks.check_key(key)
        program, shape = stage(f, key, args)
        outputs, records = run(program, [key, *jax.tree.leaves(args)], _Keeping())
        trees = {site.index: site.event.tree for site in program.sites}
        draws = {
            name: Drawn(jax.tree.unflatten(trees[i], records[i][0]), records[i][1])
            for name, i in names_of(program).items()
        }
        return Simulation(jax.tree.unflatten(jax.tree.structure(shape), outputs), draws)

    return simulated


def replay(f: Callable[..., Any], overrides: Mapping[str, Any]) -> Callable[..., Any]:
    """Run `f(key, *args)` with some of its draws replaced and every other random number as the key has it.

    `overrides` maps the name of a draw (its source line where it has none) to its value, of the shape that `simulate`
    gives, or to `At(index, value)` for one element of it. Raises ValueError for a name that no draw has, a draw whose
    value is not one array, and a value of another shape.
    """

    @functools.wraps(f, updated=())
    def replayed(key: Any, *args: Any) -> Any:
        checks.check_key(key)
        program, shape = stage(f, key, args)
        names, sites = names_of(program), {site.index: site for site in program.sites}
        for name in overrides:
            if name not in names:
                raise ValueError(f"overrides: no draw is called {name!r}; the draws are {sorted(names)}")
        replacing = {names[name]: _replacement(name, sites[names[name]], value) for name, value in overrides.items()}
        outputs, _ = run(program, [key, *jax.tree.leaves(args)], _Replacing(replacing))
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return replayed


def stage(f: Callable[..., Any], key: Any, args: tuple[Any, ...]) -> tuple[Program, Any]:
    """The program of the key and the leaves of the arguments, and the shapes of its result."""
    leaves, treedef = jax.tree.flatten(args)
    return stage_whole(lambda key, *leaves: f(key, *jax.tree.unflatten(treedef, leaves)), key, *leaves)


def names_of(program: Program) -> dict[str, int]:
    """The index of every draw by its name, or by its source line where it has none."""
    names: dict[str, int] = {}
    for site in program.sites:
        same = [name for name in names if name.split("#")[0] == site.label]
        if same and site.name is not None:
            raise ValueError(f"name: two draws are called {site.name!r}")
        names[f"{site.label}#{len(same) + 1}" if same else site.label] = site.index
    return names


def steps_of(site: Site | Factor) -> tuple[int, ...]:
    """How often each scan around it runs."""
    return tuple(loop.length for loop in site.loops if loop.kind == "scan" and loop.length is not None)


def shape_of(site: Site, event: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Of what a draw makes, or would make of events of another shape: scan steps, lanes, event."""
    lanes = tuple(lane.size for lane in reversed(site.lanes))
    return (*steps_of(site), *lanes, *(site.event.leaves[0][0] if event is None else event))


def _replacement(name: str, site: Site, value: Any) -> At:
    if len(site.event.leaves) != 1:
        raise ValueError(f"overrides: the draw {name!r} is not one array, so it cannot be replaced")
    index, value = value if isinstance(value, At) else ((), value)
    expected = shape_of(site)
    if len(index) > len(expected) or jnp.shape(value) != expected[len(index) :]:
        at = f" at index {tuple(index)}" if index else ""
        raise ValueError(
            f"overrides: the draw {name!r} has shape {expected}, so its value{at} must have shape "
            f"{expected[len(index) :]}, got {jnp.shape(value)}"
        )
    return At(tuple(index), jnp.asarray(value))


class _Keeping:
    """Keeps every draw."""

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        values = sample_leaves(site.structure, site.lanes)(*operands)
        return values, (values, log_prob(site, values, operands))

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        source = operation.sites[0].source
        raise TypeError(
            f"the draw at {source} is inside a while_loop, whose number of draws is not known before the run"
        )


class _Replacing:
    """Replaces the draws that it was given."""

    def __init__(self, replacing: Mapping[int, At]):
        self.replacing = replacing

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        values = sample_leaves(site.structure, site.lanes)(*operands)
        if site.index in self.replacing:
            where, value = self.replacing[site.index]
            depth = len(index)
            here = [jnp.asarray(a == b) for a, b in zip(index, where[:depth], strict=False)]
            new = value[tuple(index[len(where) :])] if len(where) < depth else value
            changed = values[0].at[tuple(where[depth:])].set(new.astype(values[0].dtype))
            values = [jnp.where(jnp.stack(here).all(), changed, values[0]) if here else changed]
        return values, None

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        return while_summing(run, operation, inputs)

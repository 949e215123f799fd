"""`predict`: what a model would observe, its draws as they were found or as it makes them itself."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Key

from variate import checks
from variate.programs import distributions
from variate.programs.densities import given_by_name, labels_of
from variate.programs.interpretation import Handler, Records, run
from variate.programs.primitive import over_lanes, sample_leaves
from variate.programs.program import Factor, Operation, Program, Site
from variate.programs.simulation import names_of, stage, steps_of
from variate.programs.validity import while_summing


class Prediction(NamedTuple):
    """A run: what the model returned, its draws, and new values of all that it observes, by name or source line."""

    result: Any
    draws: dict[str, Any]
    observed: dict[str, Any]


def predict(model: Callable[..., Any], values: Any = None) -> Callable[..., Prediction]:
    r"""One run of a model that draws what it observes anew, $\tilde y \sim p(y \mid x)$, x being its draws.

    Returns a function of `(key, *args)`, the model's own arguments, of which those that are observed tell no more than
    their shapes. Draws without a value are made by the model, given those before them: without any this is a run of the
    prior, with those of the posterior (`draws.predict`) one of the posterior predictive law. A branch that is not taken
    leaves zeros. It goes through `jit` and `vmap`.

    Args:
        model: a program, called as `model(key, *args)`.
        values: a dictionary, of draws by name, of the shapes that `vt.density` takes.

    Raises:
        TypeError: a value is of another structure or type than the draw.
        ValueError: a name is not of a draw, or a value is of the wrong shape.

    Wrong for draws without a value that what was observed should have a say in: they are those of the prior.
    """
    checks.check_callable("model", model)
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(
            f"values must be a dictionary from names of draws to their values, got {checks.describe(values)}"
        )

    @functools.wraps(model, updated=())
    def predicted(key: Any, *args: Any) -> Prediction:
        checks.check_key(key)
        key_run, key_observed = jax.random.split(key)
        program, shape = stage(model, key_run, args)
        names, sites = names_of(program), {site.index: site for site in program.sites}
        given = given_by_name(program, values or {}, some=True)
        _refuse_unkept(values or {}, names, sites)
        _refuse_weighed(program, set(names.values()) - given.keys())
        observations = [factor for factor in program.factors if factor.structure is not None]
        keys = {each.index: _keys(each, jax.random.fold_in(key_observed, each.index)) for each in observations}
        outputs, records = run(program, [key_run, *jax.tree.leaves(args)], _Predicting(given, keys))
        labels = labels_of(program, {index: name for name, index in names.items()})
        trees = {
            **{i: site.event.tree for i, site in sites.items()},
            **{each.index: each.tree for each in observations},
        }
        found = {index: jax.tree.unflatten(tree, records[index]) for index, tree in trees.items() if index in records}
        return Prediction(
            jax.tree.unflatten(jax.tree.structure(shape), outputs),
            {labels[index]: value for index, value in found.items() if index in sites},
            {labels[index]: value for index, value in found.items() if index not in sites},
        )

    return predicted


def _refuse_unkept(values: Mapping[str, Any], names: Mapping[str, int], sites: Mapping[int, Site]) -> None:
    for name in values:
        if any(loop.kind == "while" for loop in sites[names[name]].loops):
            raise TypeError(
                f"values: {name!r} is inside a while_loop, whose number of draws is not known before the run"
            )


def _refuse_weighed(program: Program, free: set[int]) -> None:
    for factor in program.factors:
        if factor.structure is None and free:
            raise TypeError(
                f"values must be given for all draws, since the factor {factor.label!r} ({factor.source}) weighs those "
                "that the model would make itself, as if there were none"
            )


def _keys(factor: Factor, key: Key[Array, ""]) -> Key[Array, "..."]:
    """For each step of the scans around it, then for each of its lanes."""
    return jax.random.split(key, (*steps_of(factor), *(lane.size for lane in reversed(factor.lanes))))


@dataclass(frozen=True)
class _Predicting:
    """A handler that takes the values that it was given, and draws what is observed."""

    given: Mapping[int, list[Array]]
    keys: Mapping[int, Key[Array, "..."]]

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        values = self.given.get(site.index) or sample_leaves(site.structure, site.lanes)(*operands)
        return values, values

    def weigh(self, factor: Factor, operands: Sequence[Array]) -> list[Array] | None:
        structure = factor.structure
        if structure is None:
            return None
        count = factor.tree.num_leaves

        def one(key: Key[Array, ""], *operands: Array) -> list[Array]:
            distribution = structure.build(operands[count:])
            like = jax.tree.leaves(jax.eval_shape(distributions.sample, distribution, key))
            more = operands[0].shape[: operands[0].ndim - like[0].ndim]
            # More axes in front are independent observations.
            keys = jax.random.split(key, math.prod(more))
            drawn = jax.tree.leaves(jax.vmap(lambda key: distributions.sample(distribution, key))(keys))
            return [x.reshape(*more, *x.shape[1:]).astype(y.dtype) for x, y in zip(drawn, operands, strict=False)]

        return over_lanes(one, factor.lanes, 1)(self.keys[factor.index], *operands)

    def stepped(self, body: Program) -> tuple[Any, Callable[[Any], Handler]]:
        given = {site.index: self.given[site.index] for site in body.sites if site.index in self.given}
        keys = {each.index: self.keys[each.index] for each in body.factors if each.index in self.keys}
        return (given, keys), lambda own: _Predicting({**self.given, **own[0]}, {**self.keys, **own[1]})

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        # How many draws there are is not known, so none is kept.
        return while_summing(run, operation, inputs)[0], {}

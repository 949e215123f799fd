"""Runs of a program under the rules of its draws, and replays of a run in which one draw is another."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.gradients import loops
from variate.gradients.base import Alternatives, Rule, fixed_sample
from variate.gradients.plan import Plan
from variate.gradients.rules.pathwise import Pathwise
from variate.gradients.rules.rebar import Controlled, Rebar
from variate.gradients.rules.relax import Relax
from variate.programs.interpretation import Records, evaluate, one_hot, read
from variate.programs.program import Operation, Site
from variate.programs.simulation import element_log_probs


class Estimating:
    """The handler of a run that is to be differentiated."""

    def __init__(self, plan: Plan, replacing: tuple | None = None, redrawn: Array | None = None):
        self.plan, self.replacing, self.redrawn = plan, replacing, redrawn
        self.watched = plan.watched if replacing is None else {}

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        rule = self.plan.rules.get(site.index)
        if self.redrawn is not None:
            key = operands[0]
            operands = [jnp.where(self.redrawn == site.index, _another(key), key), *operands[1:]]
        if rule is None or site.index in self.plan.computed:
            return fixed_sample(site, operands), None
        if self.replacing is None and site.index in self.plan.credits:
            values = fixed_sample(site, operands)
            return values, self.plan.credits[site.index].summed(element_log_probs(site, values, operands), len(index))
        if self.replacing is not None:
            return self.again(rule, site, index, operands), None
        return rule.draw(site, operands)

    def again(self, rule: Rule, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> list[Array]:
        """A draw in a replay."""
        assert self.replacing is not None
        values = rule.draw(site, operands)[0] if isinstance(rule, Pathwise) else fixed_sample(site, operands)
        target, place, replacement = self.replacing
        if isinstance(self.plan.rules[target], Rebar):
            if isinstance(rule, Rebar):
                values.append(self.weights(rule, site, index, operands, values[0]))
        elif site.index == target:
            *steps, element = place
            changed = _override(values, element, replacement)
            values = [jnp.where(_same(index, steps), new, old) for new, old in zip(changed, values, strict=True)]
        return values

    def weights(
        self, rule: Rebar, site: Site, index: tuple[Array, ...], operands: Sequence[Array], value: Array
    ) -> Array:
        """Of the values of a draw in a run in which one draw is relaxed, and those after it with it."""
        assert self.replacing is not None
        target, place, replacement = self.replacing
        afresh = rule.afresh(site, operands)
        drawn = one_hot(site, value, afresh.dtype)
        weights = afresh if site.index > target else jnp.where(_after(index, place), afresh, drawn)
        return jnp.where(_same(index, place), replacement, weights) if site.index == target else weights

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        return loops.while_with_draws(run, operation, inputs)


def _same(index: Sequence[Array], place: Sequence[Array]) -> Array:
    return jnp.all(jnp.asarray([a == b for a, b in zip(index, place, strict=True)], bool))


def _after(index: Sequence[Array], place: Sequence[Array]) -> Array:
    """Whether a step of loops comes after another, as far as both are in the same."""
    after, same = jnp.asarray(False), jnp.asarray(True)
    for here, there in zip(index, place, strict=False):
        after, same = after | (same & (here > there)), same & (here == there)
    return after


def _override(values: Sequence[Array], element: Array, replacement: Array) -> list[Array]:
    """A drawn value with one of its elements replaced."""
    (value,) = values
    flat = value.reshape(-1, *replacement.shape)
    return [flat.at[element].set(replacement.astype(value.dtype)).reshape(value.shape)]


def _another(key: Array) -> Array:
    """Keys of as many draws, independent of those that `key` makes."""
    flat = jax.vmap(lambda one: jax.random.fold_in(one, 1))(jax.random.clone(key).reshape(-1))
    return flat.reshape(key.shape)


def replay(
    plan: Plan, inputs: Sequence[Any], site: int, record: Alternatives, redrawn: Array | None, totals: list[Array]
) -> list[Array]:
    r"""What each replayed element contributes, to each output: $\sum_k w_k (f(x_k) - f(x))$, of value zero."""
    shape = record.log_prob.shape
    again = [jax.random.clone(inputs[0]), *inputs[1:]]  # a replay uses the run's key once more, on purpose
    places = [place.reshape(-1) for place in jnp.indices(shape)]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(shape) :]), record)

    def one(place: list[Array], value: Array) -> list[Array]:
        return rerun(plan, again, Estimating(plan, (site, place, value), redrawn))[0]

    results = jax.vmap(jax.vmap(one, (None, 0)), (0, 0))(places, flat.values)
    contributions = []
    for result, own in zip(results, totals, strict=True):
        # To the first order only the weights matter: nothing is carried back through the replays then.
        change = result - jnp.expand_dims(own, (0, 1))
        change = lax.stop_gradient(change) if plan.order == 1 else change
        weights = flat.weights.reshape(*flat.weights.shape, *(1,) * own.ndim).astype(result.dtype)
        contributions.append(jnp.sum(excess(weights) * change, axis=1))
    return contributions


def controlled(
    plan: Plan, inputs: Sequence[Any], site: int, record: Controlled, redrawn: Array | None, totals: list[Array]
) -> list[Array]:
    r"""What each step of a draw with a control variate contributes, to each output; of value zero."""
    rule, shape = plan.rules[site], record.log_prob.shape
    places = [place.reshape(-1) for place in jnp.indices(shape)]
    log_probs, perturbed = (x.reshape(-1, *x.shape[len(shape) :]) for x in record)
    if isinstance(rule, Rebar):
        again = lax.stop_gradient([jax.random.clone(inputs[0]), *inputs[1:]])

        def one(place: list[Array], perturbed: Array) -> list[Array]:
            replacing = (site, place, rule.relaxed(perturbed))
            return [rule.scale * x for x in rerun(plan, again, Estimating(plan, replacing, redrawn))[0]]

        controls = jax.vmap(one)(places, perturbed)
    else:
        assert isinstance(rule, Relax)
        # z moves with the arguments, and what else the control makes of them is the same given what was drawn.
        args = plan.arguments(lax.stop_gradient(list(inputs[1:])))
        number = jax.vmap(lambda z: jnp.asarray(rule.control(z, *args)))(perturbed)
        if number.ndim != 1:
            raise ValueError(f"control: the function should return one number, got shape {number.shape[1:]}")
        controls = [
            jnp.broadcast_to(number.reshape(-1, *(1,) * total.ndim), (len(number), *total.shape)).astype(total.dtype)
            for total in totals
        ]
    contributions = []
    for control, total in zip(controls, totals, strict=True):
        score = excess(log_probs).reshape(-1, *(1,) * total.ndim).astype(control.dtype)
        contributions.append(score * lax.stop_gradient(total[None] - control) + excess(control))
    return contributions


def rerun(plan: Plan, inputs: Sequence[Any], handler: Estimating) -> tuple[list[Array], Records]:
    """Of a run, the outputs that are differentiated, and the records."""
    environment, records = evaluate(plan.program, inputs, handler)
    return [jnp.asarray(read(environment, output)) for output in plan.program.outputs[: plan.outputs]], records


def excess(x: Array) -> Array:
    """Zero, with the derivatives of x."""
    return x - lax.stop_gradient(x)

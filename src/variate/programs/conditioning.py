"""`condition`: a program with observations as a target for samplers, in coordinates that may be any real numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key
from numpyro.distributions import constraints

from variate import checks, trees
from variate.programs import generator
from variate.programs.coordinates import Latent, as_coordinates, latent, to_coordinates
from variate.programs.densities import Call, Joint, given_by_name, joint_of
from variate.programs.program import Operation, Program, every_operation
from variate.programs.simulation import names_of
from variate.programs.summable import Summed, discrete_draws, summed_draws
from variate.programs.summation import drawn_given, summed_joint
from variate.programs.supports import support_before
from variate.programs.weighing import Reading, as_values

_TRIES = 100


def condition(model: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Conditioned":
    r"""The target of a program given its arguments: what its draws are, given what it observes.

    $\log \pi(u) = \log p(x(u), y) + \log |\partial x / \partial u|$ over positions u, real numbers without bounds, one
    array by name of draw; x(u) is NumPyro's bijection to the support of each. It is a pytree of the numbers among the
    arguments: a function compiled for it serves other data of the same shapes.

    Args:
        model: a program; it is called as `model(key, *args, **kwargs)`.
        args: its arguments, data among them.
        kwargs: those given by name.

    Discrete draws of finitely many values are summed out, $\sum_k p(x(u), k, y)$: element by element where all that
    depends on them does so element by element, over all values together where it does not, and step after step, by the
    forward algorithm, in scans, several series each by itself. `complete` draws them, given the others.

    Raises:
        TypeError: a draw has no real coordinates: it has an atom, is inside a branch or a `while_loop`, is no single
            array, or its support is not known; it is discrete and cannot be summed out, for it has infinitely or too
            many values, or the scan around it carries or stacks more than its last value; or it depends on random
            numbers that no draw makes.
        ValueError: two draws have one name.

    Wrong for the density of discrete values themselves: use `vt.density`.
    """
    return _refusing(*_target(model, args, kwargs, lambda index, found: False))


def mixed(model: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Conditioned":
    r"""`condition` with those discrete draws kept that cannot be summed out: coordinates that are numbers of values.

    A draw of K values has the coordinates 0, 1, ..., K - 1 in place of the first, second, ... of them, as real numbers,
    and where they are others the density is zero. `vt.sample` moves them, unless told otherwise, by `vt.mcmc.HeatBath`
    in turn with `vt.mcmc.NUTS` for all others. The draws that are kept are those of too many values for their elements
    together, and all discrete ones if the rest cannot be summed out either.

    Args:
        model: as for `condition`.
        args: as for `condition`.
        kwargs: as for `condition`.

    Raises:
        TypeError: as `condition`, but for discrete draws of too many values, and of a scan that carries or stacks them.
        ValueError: two draws have one name.

    Wrong where `condition` does it, which is exact; for kernels that know gradients only; and where discrete draws hold
    each other, of which one at a time is moved.
    """
    try:
        return _refusing(*_target(model, args, kwargs, lambda index, found: found.problem is not None))
    except TypeError:
        return _refusing(*_target(model, args, kwargs, lambda index, found: True))


def _target(
    model: Callable[..., Any], args: tuple, kwargs: dict, kept: Callable[[int, Summed], bool]
) -> tuple["Conditioned", Program, dict[int, Summed]]:
    """And what its discrete draws can be, were none of them kept."""
    checks.check_callable("model", model)
    call = Call.of(model, args, kwargs)
    program, digest = call.staged()
    names = {index: name for name, index in names_of(program).items()}
    summed, _ = summed_draws(program, call.numbers)
    counts = {i: found.count if found.count and kept(i, found) else 0 for i, found in summed.items()}
    draws = [(op, op.site.index) for op in _draws(program) if op.site]
    latents = [latent(op, names, counts.get(i, 0)) for op, i in draws if i not in summed or counts[i]]
    return Conditioned(call.numbers, call.static, tuple(latents), digest), program, summed


def _refusing(target: "Conditioned", program: Program, summed: dict[int, Summed]) -> "Conditioned":
    """The target of the program, unless there are draws that cannot be summed out: raises TypeError for those."""
    names = {index: name for name, index in names_of(program).items()}
    if target.kept:
        summed, _ = summed_draws(program, target.numbers, target.kept)
    for index, found in summed.items():
        if found.problem is not None:
            more = "; vt.programs.mixed keeps it, for kernels of discrete coordinates" if found.count else ""
            what = f"cannot be summed out: it is {found.problem}{more}"
            raise TypeError(f"the draw {names[index]!r} is discrete and {what}")
    if summed:
        nowhere = {latent.name: jax.ShapeDtypeStruct(latent.shape, latent.dtype) for latent in target.latents}
        jax.eval_shape(target.log_density, nowhere)  # where it cannot be done, that is said at once
    return target


class Conditioned(eqx.Module):
    """A program given its arguments, a `Target`: `vt.condition` makes it.

    A position is a dictionary from names of draws to unbounded real arrays, values are what the program would draw.
    """

    numbers: list[Any]
    static: trees.Static = eqx.field(static=True)
    latents: tuple[Latent, ...] = eqx.field(static=True)
    digest: str = eqx.field(static=True)  # of what the model closes over, which may be another when it is called again

    @property
    def names(self) -> tuple[str, ...]:
        """Of the draws, in the order of the program."""
        return tuple(latent.name for latent in self.latents)

    @property
    def supports(self) -> dict[str, constraints.Constraint]:
        """By name; `constraints.dependent` where the edges depend on other draws or on arrays among the arguments."""
        program = Call(self.numbers, self.static).program()
        names = {index: name for name, index in names_of(program).items()}
        latents = {latent.index for latent in self.latents}
        found = {op.site.index: support_before(op) for op in _draws(program) if op.site and op.site.index in latents}
        return {names[index]: support for index, support in found.items() if support is not None}

    @property
    def kept(self) -> frozenset[int]:
        """The discrete draws that are not summed out, by index."""
        return frozenset(latent.index for latent in self.latents if latent.count)

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """Of a position: how many values each coordinate numbers, 0 for real ones."""
        return {latent.name: np.full(latent.shape, latent.count) for latent in self.latents}

    @property
    def constants(self) -> dict[str, tuple[int, ...]]:
        """Of values: the elements that are the same at every position, by name and place in the flat array."""
        return {latent.name: latent.constants for latent in self.latents}

    def given(self, *args: Any, **kwargs: Any) -> "Conditioned":
        """The target of the same model given other arguments: next to nothing where they are of the same shapes."""
        model = trees.join(self.numbers, self.static)[0]
        call = Call.of(model, args, kwargs)
        shapes = [[(jnp.shape(x), jnp.result_type(x)) for x in numbers] for numbers in (call.numbers, self.numbers)]
        if call.static != self.static or shapes[0] != shapes[1]:
            return (mixed if self.kept else condition)(model, *args, **kwargs)
        return Conditioned(call.numbers, self.static, self.latents, self.digest)

    def log_density(self, position: Mapping[str, Any]) -> Float[Array, ""]:
        """Of a position, the change of volume included; NaN where a parameter of a distribution is out of range."""
        return _joint(self, dict(position)).log_density

    def log_prob(self, values: Mapping[str, Any]) -> Float[Array, ""]:
        """The joint log density of values in their supports, as `vt.density` gives it, with no change of volume."""
        return _joint_of_values(self, dict(values)).log_density

    def constrain(self, position: Mapping[str, Any]) -> dict[str, Array]:
        """The values of a position."""
        return _joint(self, dict(position)).values

    def unconstrain(self, values: Mapping[str, Any]) -> dict[str, Array]:
        """The position of values; raises ValueError for one that is not inside its support, where that is known."""
        found = _joint_of_values(self, dict(values))
        for name in self.names:
            piece = found.pieces[name]
            if not isinstance(piece, Tracer) and not jnp.isfinite(piece):
                raise ValueError(
                    f"values: {name!r} must be inside the support of its draw, whose log density is {piece}"
                )
        return found.values

    def complete(self, key: Key[Array, ""], values: Mapping[str, Any]) -> dict[str, Array]:
        r"""The values with those of the discrete draws that were summed out, drawn given them: $k \sim p(k \mid x, y)$.

        `draws.predict(key, target.complete)` does so for every draw of a run, which are then draws of the joint
        posterior. Wrong for values of no density, which tell nothing of the others.
        """
        checks.check_key(key)
        return _completed(self, key, dict(values))

    def start(self, key: Key[Array, ""]) -> dict[str, Array]:
        """A position of positive density and finite gradient: uniform numbers between -2 and 2, tried 100 times.

        Raises ValueError if there was none, naming what was not finite; under a caller's `jit`, returns the last.
        """
        checks.check_key(key)
        position, good = _start(self, generator.flat(key))
        if not isinstance(good, Tracer) and not good:
            joint = _joint(self, position)
            wrong = [f"{label!r} has {piece}" for label, piece in joint.pieces.items() if not jnp.isfinite(piece)]
            invalid = [f"{label!r} has parameters out of range" for label, count in joint.invalid.items() if count]
            what = "; ".join([*wrong, *invalid]) or "the gradient is not finite"
            raise ValueError(f"no start of positive density in {_TRIES} tries; log densities at the last: {what}")
        return position


@jax.jit
def _joint(target: Conditioned, position: dict[str, Any]) -> Joint:
    program = Call(target.numbers, target.static).program()
    _check_names(target, position)
    given = {latent.index: [_part(latent, position[latent.name])] for latent in target.latents}
    return _joint_in(program, target, given, as_coordinates)


@jax.jit
def _joint_of_values(target: Conditioned, values: dict[str, Any]) -> Joint:
    program = Call(target.numbers, target.static).program()
    given = given_by_name(program, values, discrete_draws(program).keys() - target.kept)
    return _joint_in(program, target, given, to_coordinates)


@jax.jit
def _completed(target: Conditioned, key: Key[Array, ""], values: dict[str, Any]) -> dict[str, Array]:
    program = Call(target.numbers, target.static).program()
    summed, plates = summed_draws(program, target.numbers, target.kept)
    given = given_by_name(program, values, summed)
    names = {index: name for name, index in names_of(program).items()}
    found = drawn_given(key, program, target.numbers, given, as_values, summed, plates)
    return {**values, **{names[index]: value for index, value in found.items()}}


def _joint_in(program: Program, target: Conditioned, given: dict[int, list[Array]], reading: Reading) -> Joint:
    summed, plates = summed_draws(program, target.numbers, target.kept)
    if not summed:
        return joint_of(program, target.numbers, given, reading)
    return summed_joint(program, target.numbers, given, reading, summed, plates)


@jax.jit
def _start(target: Conditioned, key: Key[Array, ""]) -> tuple[dict[str, Array], Bool[Array, ""]]:
    def attempt(key: Key[Array, ""]) -> tuple[dict[str, Array], Bool[Array, ""]]:
        keys = jax.random.split(key, max(len(target.latents), 1))
        position = {latent.name: latent.start(own) for latent, own in zip(target.latents, keys, strict=False)}
        return position, trees.all_finite(jax.value_and_grad(target.log_density)(position))

    def again(state: tuple) -> tuple:
        count, key, _ = state
        key, own = jax.random.split(key)
        return count + 1, key, attempt(own)

    def missing(state: tuple) -> Array:
        return (state[0] < _TRIES) & ~state[2][1]

    nowhere = {latent.name: jnp.zeros(latent.shape, latent.dtype) for latent in target.latents}
    return lax.while_loop(missing, again, (jnp.asarray(0), key, (nowhere, jnp.asarray(False))))[2]


def _check_names(target: Conditioned, position: Mapping[str, Any]) -> None:
    if set(position) != set(target.names):
        raise ValueError(f"position must have the names {list(target.names)}, got {sorted(position)}")


def _part(latent: Latent, part: Any) -> Array:
    if jnp.shape(part) != latent.shape:
        raise ValueError(f"position: {latent.name!r} must have shape {latent.shape}, got {jnp.shape(part)}")
    return jnp.asarray(part).astype(latent.dtype)


def _draws(program: Program) -> list[Operation]:
    return [operation for operation in every_operation(program) if operation.site]

"""Baselines: what is taken off a cost before a score weighs it, and must not depend on the draw."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate import checks
from variate.gradients.base import Facts


class Baseline:
    """What a baseline is given and owes.

    `names`: the values of the program that it looks at, as `jax.ad_checkpoint.checkpoint_name(value, name)` calls them.
    They are known before the draw is made, or the baseline is refused. `shared`: whether it makes the samples of a
    block each other's baselines. `least`: how many samples a block has to have. `axes`: how many axes it sees of what
    is not an axis of charges: one, in which all are merged, or two, of which the last is the last of the named value.
    """

    names: tuple[str, ...] = ()
    shared: bool = False
    least: int = 1
    axes: int = 1

    def refuse(self, facts: Facts) -> str | None:
        """Why it cannot serve that draw; None if it can."""
        if self.names and facts.unbounded:
            return "its baseline looks at values inside a while_loop"
        return None

    def values(
        self,
        charges: Float[Array, "samples *elements"],
        seen: Sequence[Float[Array, "samples *elements features"]],
        args: Sequence[Any],
    ) -> Float[Array, "samples *elements"] | None:
        """What to take off each charge; None for nothing. `seen` are the named values, `args` those of the program."""
        raise NotImplementedError


@dataclass(frozen=True)
class NoBaseline(Baseline):
    """The cost as it is."""

    def values(self, charges: Array, seen: Sequence[Array], args: Sequence[Any]) -> None:
        return None


@dataclass(frozen=True)
class LeaveOneOut(Baseline):
    r"""$b_s = \frac{1}{S-1}\sum_{r\ne s} f_r$: the mean cost of the other samples (Kool, van Hoof and Welling 2019)."""

    shared = True
    least = 2

    def values(self, charges: Array, seen: Sequence[Array], args: Sequence[Any]) -> Array:
        return (jnp.sum(charges, axis=0, keepdims=True) - charges) / (len(charges) - 1)


@dataclass(frozen=True)
class MovingAverage(Baseline):
    r"""$b$ is an argument of the program, in which the user keeps the mean cost of the steps before.

    `average.update(old, value)` makes the next one, $d \cdot \text{old} + (1 - d) \cdot \text{value}$. The wrong choice
    with many samples a step, where `LeaveOneOut` knows the mean of now.

    Args:
        argument: which argument of the program it is, by Python's position, the key being 0.
        decay: $d$, between 0 and 1.

    Source: Williams (1992), sec. 3.
    """

    argument: int
    decay: float = 0.9

    def __post_init__(self) -> None:
        checks.check_positive_int("argument", self.argument)
        checks.check_fraction("decay", self.decay)

    def values(self, charges: Array, seen: Sequence[Array], args: Sequence[Any]) -> Array:
        if self.argument > len(args):
            raise ValueError(f"argument: the program has {len(args)} arguments beside the key, got {self.argument}")
        return _spread(args[self.argument - 1], charges)

    def update(self, old: Float[Array, ""], value: Float[Array, ""]) -> Float[Array, ""]:
        """The average after a step whose costs had this mean."""
        return self.decay * old + (1 - self.decay) * value


@dataclass(frozen=True)
class Given(Baseline):
    """$b$ is a value of the program with this name: known in closed form, say, as the expected cost of a token is.

    Of a draw that is charged by element the value needs an entry for each element.
    """

    name: str

    def __post_init__(self) -> None:
        checks.check_name(self.name)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def values(self, charges: Array, seen: Sequence[Array], args: Sequence[Any]) -> Array:
        if seen[0].shape[-1] != 1:
            raise ValueError(f"baseline: {self.name!r} should be one number for each charge, got {seen[0].shape[-1]}")
        return seen[0][..., 0].astype(charges.dtype)


@dataclass(frozen=True)
class Linear(Baseline):
    r"""$b_s = \hat\alpha_{-s} + \hat\beta_{-s} \cdot x_s$: the cost of the other samples regressed on features $x$.

    Every charged element has a regression of its own, over the samples of a block, so that features which say little
    cost about $F / S$ of the variance; a ridge keeps it from costing more. Without features it is `LeaveOneOut`.

    Args:
        names: of the features, values of the program.
        ridge: the penalty on a standardized coefficient, in samples.

    Source: leave-one-out residuals of a ridge regression in closed form (Allen 1974).
    """

    names: tuple[str, ...] | str
    ridge: float = 1.0

    shared = True
    least = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", checks.check_names("names", self.names))
        checks.check_positive("ridge", self.ridge)

    def values(self, charges: Array, seen: Sequence[Array], args: Sequence[Any]) -> Array:
        features = jnp.concatenate([x.astype(charges.dtype) for x in seen], axis=-1)
        elements = charges.shape[1:]
        flat = features.reshape(len(charges), -1, features.shape[-1])
        found = jax.vmap(self.regressed, (1, 1), 1)(charges.reshape(len(charges), -1), flat)
        return found.reshape(len(charges), *elements)

    def regressed(self, cost: Float[Array, " samples"], features: Float[Array, "samples features"]) -> Array:
        n = len(cost)
        # Rounding makes a constant neither constant nor centred, and the formula holds only for centred features.
        rounding = 4 * jnp.finfo(features.dtype).eps * jnp.max(jnp.abs(features), axis=0, keepdims=True)
        x = features - jnp.mean(features, axis=0, keepdims=True)
        x = x - jnp.mean(x, axis=0, keepdims=True)
        spread = jnp.sqrt(jnp.mean(x**2, axis=0, keepdims=True))
        x = jnp.where(spread > rounding, x / jnp.where(spread > rounding, spread, 1), 0)
        gram = x.T @ x + self.ridge * jnp.eye(x.shape[1], dtype=x.dtype)
        hat = 1 / n + jnp.sum(x * jnp.linalg.solve(gram, x.T).T, axis=1)
        fitted = jnp.mean(cost) + x @ jnp.linalg.solve(gram, x.T @ (cost - jnp.mean(cost)))
        return cost - (cost - fitted) / (1 - hat)


@dataclass(frozen=True)
class Learned(Baseline):
    r"""$b = $ `function(*features, *args)`: of named values of the program and of its arguments.

    The function gets each named value as a vector, and the arguments of the program (the key left out), among them the
    parameters that it learns, an Equinox module say; it returns a number. `baseline_loss` is what they are to minimise;
    until then, a baseline brings no bias, however bad it is.

    Args:
        function: $b$.
        names: of the features, values of the program.

    Source: Mnih and Gregor (2014), sec. 2.3.
    """

    function: Callable[..., Any]
    names: tuple[str, ...] | str

    def __post_init__(self) -> None:
        checks.check_callable("function", self.function)
        object.__setattr__(self, "names", checks.check_names("names", self.names))

    def values(self, charges: Array, seen: Sequence[Array], args: Sequence[Any]) -> Array:
        flat = [x.reshape(-1, x.shape[-1]) for x in seen]
        found = jax.vmap(lambda *features: jnp.asarray(self.function(*features, *args)))(*flat)
        if found.size != charges.size:
            raise ValueError(f"baseline: the function should return one number, got shape {found.shape[1:]}")
        return found.reshape(charges.shape).astype(charges.dtype)


@dataclass(frozen=True)
class Optimal(Baseline):
    r"""$b_i = E[f\, h_i^2] / E[h_i^2]$, $h = \nabla_\theta \log p_\theta(x)$: the best number for each coordinate.

    The ratio is estimated from the other samples of a block, so the gradient stays unbiased. It takes a second
    derivative of the log probabilities, and all samples' gradients one by one. The wrong choice with few samples, where
    estimating the ratio costs more than it saves.

    Source: Weaver and Tao (2001); by coordinate Peters and Schaal (2008), eq. 17.
    """

    least = 3

    def refuse(self, facts: Facts) -> str | None:
        return "with an optimal baseline only its first derivative is available" if facts.order > 1 else None

    def values(self, charges: Array, seen: Sequence[Array], args: Sequence[Any]) -> None:
        return None  # it is taken off the gradients themselves


def from_arguments(function: Callable[..., Any], charges: Array, args: Sequence[Any]) -> Array:
    """A baseline that is a function of the arguments of the program alone."""
    return _spread(function(*args), charges)


def _spread(number: Any, charges: Array) -> Array:
    number = jnp.asarray(number)
    if number.ndim:
        raise ValueError(f"baseline: expected one number, got shape {number.shape}")
    return jnp.broadcast_to(number.astype(charges.dtype), charges.shape)

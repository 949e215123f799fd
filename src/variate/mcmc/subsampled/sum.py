"""Targets that are a sum over data, whose items can be looked at one by one."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from variate import checks, trees
from variate.programs import LogDensity
from variate.running.steps import Flat


class Sum(LogDensity):
    r"""The target $\log \pi(x) = \log p(x) + \sum_{i=1}^n \ell(x, y_i)$, over any pytree x of real arrays.

    A `Target` as any other, whose values are its positions without bounds; the kernels of `vt.mcmc.subsampled` look at
    a few of its items in a step instead of all n. It is a pytree of the numbers in `data` and `start`, so what is
    compiled for one serves another with other data of the same shapes.

    Args:
        prior: $\log p$ up to a constant, a function of the position.
        item: $\ell$, a function of the position and of one item of the data.
        data: a pytree of arrays with the n items along their leading axis.
        start: a position of positive density, where chains start; its shapes are those of all positions.

    Raises:
        TypeError: `prior` or `item` is not callable or does not return one real number, `start` holds anything but real
            arrays.
        ValueError: the leaves of `data` are not as many items, or the density at `start` is not finite.

    Wrong where items depend on each other given the position; write them as one density then (`LogDensity`).
    """

    def __init__(self, prior: Callable[[Any], Any], item: Callable[[Any, Any], Any], data: PyTree, start: PyTree):
        for name, f in (("prior", prior), ("item", item)):
            if not callable(f):
                raise TypeError(f"{name} must be a log density, got {checks.describe(f)}")
        data = jax.tree.map(jnp.asarray, data)
        if len(sizes := {leaf.shape[:1] for leaf in jax.tree.leaves(data)}) != 1 or sizes & {(), (0,)}:
            shapes = jax.tree.map(jnp.shape, data)
            raise ValueError(f"data must be arrays with one leading axis of items, got shapes {shapes}")
        super().__init__(_added, start, prior, item, data)

    @property
    def size(self) -> int:
        """n."""
        return jax.tree.leaves(self._parts()[2])[0].shape[0]

    def prior(self, position: PyTree[Array]) -> Float[Array, ""]:
        """Of a position."""
        return _prior(self._parts()[0], position)

    def items(self, position: PyTree[Array], indices: Int[Array, " m"] | None = None) -> Float[Array, " m"]:
        """Of a position and some items, all if left out."""
        _, item, data = self._parts()
        if indices is not None:
            data = jax.tree.map(lambda leaf: leaf[indices], data)
        return _items(item, position, data)

    def _parts(self) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any], PyTree[Array]]:
        return trees.join(self.numbers, self.static)[2]


def _added(
    position: PyTree[Array], prior: Callable[[Any], Any], item: Callable[[Any, Any], Any], data: PyTree[Array]
) -> Float[Array, ""]:
    return _prior(prior, position) + jnp.sum(_items(item, position, data))


def _prior(prior: Callable[[Any], Any], position: PyTree[Array]) -> Float[Array, ""]:
    return _real("prior", prior(position))


def _items(item: Callable[[Any, Any], Any], position: PyTree[Array], data: PyTree[Array]) -> Float[Array, " m"]:
    return jax.vmap(lambda datum: _real("item", item(position, datum)))(data)


def _real(name: str, found: Any) -> Array:
    if not trees.is_real_number(found):
        raise TypeError(f"{name} must return one real number, got {checks.describe(found)}")
    return jnp.asarray(found)


class Parts(eqx.Module):
    """A sum over data, of positions as vectors."""

    target: Sum

    @staticmethod
    def of(log_density: Any) -> "Parts":
        """What a kernel was given as its density; raises TypeError unless it is known as a sum."""
        target = log_density.target if isinstance(log_density, Flat) else log_density
        if not isinstance(target, Sum):
            raise TypeError(
                "log_density must be a sum over data, vt.mcmc.Sum(prior, item, data, start), for a kernel that looks "
                f"at a few of its items, got {checks.describe(target)}"
            )
        return Parts(target)

    @property
    def size(self) -> int:
        return self.target.size

    def prior(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.target.prior(self._position(x))

    def items(self, x: Float[Array, " d"], indices: Int[Array, " m"] | None = None) -> Float[Array, " m"]:
        return self.target.items(self._position(x), indices)

    def _position(self, x: Float[Array, " d"]) -> PyTree[Array]:
        return ravel_pytree(self.target.start())[1](x)

"""Implicit reparameterization: a draw moves as its distribution function says, whatever its sampler does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jaxtyping import Array, PyTree

from variate.gradients.base import Facts, fixed_sample
from variate.gradients.rules.pathwise import Pathwise
from variate.programs import cdfs, distributions
from variate.programs.primitive import Lane, over_lanes, traced_once
from variate.programs.program import Site
from variate.programs.structure import Structure, take_apart


@dataclass(frozen=True)
class ImplicitReparameterization(Pathwise):
    r"""$\nabla_\theta E f(x) = E\, f'(x)\, \nabla_\theta x$ with $\nabla_\theta x = -\nabla_\theta F_\theta(x) /
    p_\theta(x)$.

    $F_\theta$ is the distribution function: $F_\theta(x)$ is held as $\theta$ moves. Serves what `Pathwise` cannot
    because the sampler rejects, chooses or compares: mixtures, in their weights too; truncated normals, Laplaces,
    logistics, Cauchys, Student's t and Gammas, whose bounds may move; the power law between two bounds; von Mises. The
    others whose distribution function is known are served as well. Of a vector, in a mixture over independent elements,
    each element is held given those before it: $\nabla_\theta x$ solves a triangular system.

    Chosen unasked where `Pathwise` is not legal, save for what its noise has no bound for. It is the wrong choice for

    - weights of a mixture whose components lie apart: what moves from one to the other crosses a place that is hardly
      ever drawn, where $1 / p_\theta(x)$ is large. Rare samples carry the gradient, and error bars without them are too
      short. Vectors have this even where their weights are fixed. `Score` is chosen for them.
    - a von Mises draw with its mode near $\pm\pi$, where NumPyro cuts the circle. No draw crosses the cut, so that a
      function need not be periodic; each is slowed down for it by $p_\theta(\pi) / p_\theta(x)$. `Score` is chosen.
    - a broken path, as for `Pathwise`.

    Raises ValueError for a law or a parameter whose distribution function it does not know, and for a key that serves
    more than the draw: what depends on that key in other ways would not move along.

    Source: Figurnov, Mohamed and Mnih (2018), eq. 5 and sec. 4; weights of mixtures: Graves (2016).
    """

    def refuse(self, facts: Facts) -> str | None:
        law = _law(facts.site)
        unknown = cdfs.unknown(law, lambda part: bool(_operands(part) & facts.moved), facts.order)
        return super().refuse(facts) or unknown or facts.shared_key

    def bias(self, facts: Facts) -> str | None:
        return super().bias(replace(facts, rough={}))

    def unasked(self, facts: Facts) -> bool:
        """Whether its noise has a bound that holds wherever the parameters are, so that it may be chosen unasked."""
        law = _law(facts.site)
        if isinstance(law, cdfs.MIXTURES):
            return not law.event_shape and not _operands(law.mixing_distribution) & facts.moved
        return not isinstance(law, dist.VonMises)

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        (value,) = fixed_sample(site, operands)
        return [traced_once(_moving, site.structure, site.lanes)(value, *operands)], None


def _law(site: Site) -> Any:
    """The law of the elements of a draw, in the place of each array which operand of the draw it is."""
    with jax.ensure_compile_time_eval():
        places = [jnp.asarray(1 + i) for i in range(len(site.structure.leaves))]
        return distributions.innermost(site.structure.build(places))


def _operands(part: Any) -> set[int]:
    return {int(leaf) for leaf in jax.tree.leaves(part) if isinstance(leaf, jax.Array)}


def _moving(structure: Structure, lanes: tuple[Lane, ...], value: Array, *operands: Array) -> Array:
    def one(value: Array, key: Array, *arrays: Array) -> Array:
        return follow(structure.build(arrays), value)

    return over_lanes(one, lanes, 1)(value, *operands)


def follow(d: PyTree, value: Array) -> Array:
    """A value that was drawn from `d`, with derivatives of every order in what `d` is made of."""
    arrays, structure = take_apart(d)

    @jax.custom_jvp
    def moving(value: Array, arrays: list[Array]) -> Array:
        return value

    @moving.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        x = moving(*primals)  # which moves as well when this derivative is differentiated again
        _, change = jax.jvp(lambda a: _standardized(structure, a, x), primals[1:], tangents[1:])
        return x, -_solve(structure, primals[1], x, change).astype(x.dtype)

    return moving(lax.stop_gradient(value), arrays)


def _standardized(structure: Structure, arrays: Sequence[Array], x: Array) -> Array:
    return cdfs.standardized(distributions.innermost(structure.build(arrays)), x)


def _solve(structure: Structure, arrays: Sequence[Array], x: Array, change: Array) -> Array:
    """By how much each element of $x$ has to move for a change of what it is standardized to."""
    law = distributions.innermost(structure.build(arrays))
    if not law.event_shape:
        return change / density(law, x)
    units = jnp.eye(x.shape[-1], dtype=x.dtype)

    def along(unit: Array) -> Array:
        return jax.jvp(lambda x: _standardized(structure, arrays, x), (x,), (jnp.broadcast_to(unit, x.shape),))[1]

    jacobian = jax.vmap(along, out_axes=-1)(units)
    solved = lax.linalg.triangular_solve(jacobian, change[..., None], left_side=True, lower=True)
    return solved[..., 0]


def density(law: Any, x: Array) -> Array:
    """Of each element."""
    return jnp.exp(distributions.drawn_log_prob(law, x))

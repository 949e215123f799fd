"""Structured relaxation: a drawn mask or matrix with the derivatives of a soft one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from variate import checks
from variate.gradients.base import Facts, fixed_sample
from variate.gradients.rules.relaxation import Relaxation, held_at, why_not_passed
from variate.programs import distributions
from variate.programs.primitive import over_lanes
from variate.programs.program import Site


@runtime_checkable
class Relaxable(Protocol):
    """A distribution over real arrays of zeros and ones that knows soft ones in their place."""

    def relaxed(self, key: Key[Array, ""], temperature: float, /) -> PyTree[Array]:
        """What moves with the parameters, from the noise of `sample(key)`, to which it tends as `temperature` falls."""
        ...


@dataclass(frozen=True)
class StructuredRelaxation(Relaxation):
    r"""$x + s - \mathrm{stop}(s)$, or $s$ itself, where $s = s_\theta(\epsilon, \tau)$ is the distribution's own
    relaxation of the draw $x$ that it makes of the same noise $\epsilon$.

    Serves distributions of real arrays with a method `relaxed(key, temperature)`: `TopK` (successive softmax),
    `PermutationMatrix` (Gumbel-Sinkhorn) and `NMMask` (Gumbel-softmax) of `vt.subsets`, or one's own. The program may
    do anything smooth with the value; refused are comparisons, casts to integers and branches on it, and derivatives
    after the first.

    Hard, the value stays that of the program, and the bias of the gradient falls with $\tau$ for results that are
    linear in the draw; a result that bends is differentiated at the wrong place, and that bias stays. Soft, the value
    is biased too, and says so; both biases vanish with $\tau$ for smooth results. The variance of either grows as
    $1 / \tau$. The wrong choice where a biased gradient is not good enough (`Score`), and for results linear in a mask,
    where `MarginalStraightThrough` is exact.

    Args:
        temperature: $\tau$.
        soft: whether the program is given the soft value.

    Source: of the relaxations as the distributions say; held at what was drawn as in Bengio, Léonard and Courville
    (2013).
    """

    temperature: float
    soft: bool = False

    def __post_init__(self) -> None:
        checks.check_positive("temperature", self.temperature)
        if not isinstance(self.soft, bool):
            raise TypeError(f"soft must be True or False, got {checks.describe(self.soft)}")

    def refuse(self, facts: Facts) -> str | None:
        return why_not_moved(facts, Relaxable, "method relaxed(key, temperature)")

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        def one(key: Array, *arrays: Array) -> list[Array]:
            with distributions.numpyro_promotion():
                return jax.tree.leaves(site.structure.build(arrays).relaxed(key, self.temperature))

        key, *arrays = operands
        soft = over_lanes(one, site.lanes)(jax.random.clone(key), *arrays)
        if self.soft:
            return soft, None
        return [held_at(x, s) for x, s in zip(fixed_sample(site, operands), soft, strict=True)], None


def why_not_moved(facts: Facts, protocol: type, owed: str) -> str | None:
    """Why no derivative can pass the value of a draw of a distribution that fulfils a protocol; None if one can."""
    structure = facts.site.structure
    if not isinstance(structure.treedef.unflatten(structure.leaves), protocol):
        return f"{facts.site.distribution} has no {owed}"
    if not all(jnp.issubdtype(dtype, jnp.floating) for _, dtype in facts.site.event.leaves):
        return "it does not draw real numbers"
    return why_not_passed(facts)

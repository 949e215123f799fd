"""Importance sampling from several proposals at once, weighted by the balance heuristic."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from variate import checks
from variate.programs import distributions
from variate.programs.program import Program
from variate.programs.quantiles import Transport, transports
from variate.programs.uniforms import Proposals

from .importance import check_own, check_proposal, check_sites, made, maker


class Mixture(eqx.Module):
    r"""$w = p(x) / \sum_k \alpha_k q_k(x)$ with x from the mixture of proposals, the balance heuristic.

    Each named draw picks one of its proposals, at random with the probabilities $\alpha$ or by a uniform number of a
    design, for the whole of the draw (each step of a loop and each lane for itself). Its own distribution is the last
    of them with a share of `own`, so that no weight exceeds 1/own: the error bar holds whatever the others miss.

    With `regressed` the components are control variates, $q_k / \sum_j \alpha_j q_j$, whose means are 1: the variance
    is then at most that of any one proposal with its share $\alpha_k$ of the runs; the value has a bias of order 1/n.
    The wrong choice where one proposal alone is known to be good.

    Args:
        proposals: for the name of a draw, distributions or functions from its own distribution to one.
        shares: for the name of a draw, numbers in proportion to the $\alpha$ of its proposals; equal if left out.
        own: the share of a draw's own distribution; 0 leaves it out.
        self_normalized: divide by the sum of the weights (`Importance`).
        regressed: take the components as control variates.
        runs: how many it was learnt from (`adapt` says so).

    Raises:
        ValueError: no draw has that name, or a proposal draws something of another shape or type.

    Source: Veach and Guibas (1995), Optimally combining sampling techniques for Monte Carlo rendering, SIGGRAPH,
    section 3.3; the distribution itself as a component: Hesterberg (1995), Weighted average importance sampling and
    defensive mixture distributions, Technometrics 37(2); control variates: Owen and Zhou (2000), Safe and effective
    importance sampling, JASA 95(449), 135-143.
    """

    given: dict[str, tuple[Any, ...]]
    shares: dict[str, Float[Array, " k"]]
    own: float = eqx.field(static=True)
    self_normalized: bool = eqx.field(static=True)
    regressed: bool = eqx.field(static=True)
    runs: int
    smoothed = False  # no weight exceeds 1/own
    defensive = 0.0  # it is not runs that are the program's own but draws

    def __init__(
        self,
        proposals: Mapping[str, Any],
        *,
        shares: Mapping[str, Sequence[float | int]] | None = None,
        own: float | int = 0.1,
        self_normalized: bool = False,
        regressed: bool = False,
        runs: int = 0,
    ):
        if not isinstance(proposals, Mapping):
            raise TypeError(f"proposals must be a dictionary from names of draws, got {checks.describe(proposals)}")
        for name, several in proposals.items():
            checks.check_name(name)
            if not isinstance(several, list | tuple) or not several:
                raise TypeError(f"proposals[{name!r}] must be several proposals, got {checks.describe(several)}")
            for proposal in several:
                check_proposal(proposal)
        own = check_own(own)
        if regressed and self_normalized:
            raise ValueError("regressed: control variates go with weights of the mean 1, not with self-normalised ones")
        if unknown := sorted(set(shares or {}) - set(proposals)):
            raise ValueError(f"shares: there are no proposals for {unknown[0]!r}, only for {sorted(proposals)}")
        self.given = {name: tuple(several) for name, several in proposals.items()}
        self.shares = {name: _shares(name, (shares or {}).get(name), len(self.given[name]), own) for name in self.given}
        self.own, self.self_normalized, self.regressed = own, bool(self_normalized), bool(regressed)
        self.runs = runs

    def proposals(self, program: Program) -> Proposals:
        check_sites(program, self.given)
        return {name: self._mixed(name) for name in self.given}

    def _mixed(self, name: str) -> Callable[[Any], Any]:
        several = [maker(proposal) for proposal in self.given[name]]

        def mixed(own: Any) -> Mixed:
            components = [made(f"proposals[{name!r}][{i}]", one, own) for i, one in enumerate(several)]
            return Mixed((*components, own) if self.own else tuple(components), self.shares[name], self.regressed)

        return mixed


class Mixed(NamedTuple):
    """A mixture of distributions of like draws, whatever their shapes say of batches."""

    components: tuple[Any, ...]
    shares: Float[Array, " k"]
    regressed: bool = False

    def sample(self, key: Key[Array, ""]) -> PyTree[Array]:
        pick, *keys = jax.random.split(key, 1 + len(self.components))
        chosen = jax.random.choice(pick, len(self.components), p=self.shares)
        return _chosen(chosen, [distributions.sample(one, k) for one, k in zip(self.components, keys, strict=True)])

    def log_probs(self, x: PyTree) -> Float[Array, " k"]:
        """Of each component."""
        return jnp.stack([distributions.supported_log_prob(one, x) for one in self.components])

    def log_prob(self, x: PyTree) -> Float[Array, ""]:
        each = self.log_probs(x)
        return jax.nn.logsumexp(each + jnp.log(self.shares).astype(each.dtype))

    def beside(self, x: PyTree) -> Float[Array, " k"] | None:
        """What has the mean 0: the components over the mixture, less 1, without the last, which the others give."""
        if not self.regressed:
            return None
        each = self.log_probs(x)
        return jnp.exp(each - self.log_prob(x))[:-1] - 1

    def transport(self, shape: tuple[int, ...], dtype: Any) -> Transport | None:
        """The first uniform picks the component, the others are what it is made of."""
        each = transports(self.components, shape, dtype)
        if each is None:
            return None

        def value(u: Float[Array, " n"]) -> Array:
            return _chosen(jnp.sum(u[0] >= jnp.cumsum(self.shares)[:-1].astype(u.dtype)), each.values(u[1:]))

        return Transport((1 + each.size,), value)


def _chosen(index: Array, values: Sequence[PyTree[Array]]) -> PyTree[Array]:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves)[index], *values)


def _shares(name: str, given: Sequence[float | int] | None, number: int, own: float) -> Float[Array, " k"]:
    column = jnp.asarray(checks.check_column(f"shares[{name!r}]", given, number), float)
    column = (1 - own) * column / jnp.sum(column)
    return jnp.append(column, own) if own else column

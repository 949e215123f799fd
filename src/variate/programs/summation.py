"""Summation: the density of a program without its finite discrete draws, whose values are all taken along."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from variate.programs.densities import Joint, joint_from
from variate.programs.plates import Plates
from variate.programs.program import Program, Site
from variate.programs.simulation import shape_of, steps_of
from variate.programs.summable import Summed
from variate.programs.tensors import total
from variate.programs.weighing import Reading, Weighing
from variate.programs.worlds import Worlds


def summed_joint(
    program: Program,
    numbers: Sequence[Any],
    given: Mapping[int, list[Array]],
    reading: Reading,
    draws: Mapping[int, Summed],
    plates: Plates,
) -> Joint:
    r"""The joint density where `given` stands for the other draws, $\log \sum_k p(x, k)$ over all values k of these.

    What depends on some of these draws is computed for all of their values; the tables of log weights are then added
    and summed over one draw after another (variable elimination), element by element where the elements are alone. A
    scan is run by the forward algorithm: what it carries depends on the draws of the last step alone.

    Raises `TypeError` where that is not so, where the support of another draw depends on these, and where anything
    depends on more than 4,096 values.

    Source: Rabiner (1989), A tutorial on hidden Markov models and selected applications in speech recognition, Proc.
    IEEE 77(2), 257-286, equations 19-21; Obermeyer, Bingham, Jankowiak, Pradhan, Chiu, Rush and Goodman (2019), Tensor
    variable elimination for plated factor graphs, ICML, PMLR 97, 4871-4880, algorithm 1.
    """
    inputs = [jax.random.key(0), *numbers]
    apart = {index for index, links in plates.links.items() if any(links.values())}
    worlds = Worlds(draws, plates, Weighing(given, reading, apart))
    found = worlds.run(program, inputs, [()] * len(inputs))
    return joint_from(program, found.pieces, total(worlds.summed(found.tables, ())), omitted=draws.keys())


def drawn_given(
    key: Key[Array, ""],
    program: Program,
    numbers: Sequence[Any],
    given: Mapping[int, list[Array]],
    reading: Reading,
    draws: Mapping[int, Summed],
    plates: Plates,
) -> dict[int, Array]:
    r"""A draw of all that `summed_joint` sums out, $k \sim p(k \mid x)$, by index.

    The derivative of $\log \sum_k w_k$ is the law of k. A draw of that law in its place, in every sum on the way back,
    makes the derivative of the whole by the weights of a draw's values a draw of them: backward sampling.

    Source: Rush (2020), Torch-Struct: deep structured prediction library, ACL: system demonstrations, 335-342, section
    5; for chains: Frühwirth-Schnatter (1994), Data augmentation and dynamic linear models, J. Time Ser. Anal. 15(2),
    183-202.
    """
    sites = {site.index: site for site in program.sites if site.index in draws}
    apart = {index for index, links in plates.links.items() if any(links.values())}

    def weighed(weights: dict[int, Array]) -> Array:
        each = {**given, **{index: [weight] for index, weight in weights.items()}}
        worlds = Worlds(draws, plates, Weighing(each, reading, apart), key)
        inputs = [jax.random.key(0), *numbers]
        return total(worlds.summed(worlds.run(program, inputs, [()] * len(inputs)).tables, ()))

    found = {}
    for index, chosen in jax.grad(weighed)({i: _weights(site, draws[i]) for i, site in sites.items()}).items():
        values, axis = jnp.asarray(draws[index].values), len(steps_of(sites[index]))
        each = jnp.sum(jnp.where(chosen > 0.5, values, jnp.zeros_like(values)), axis)
        found[index] = each.astype(values.dtype)
    return found


def _weights(site: Site, draw: Summed) -> Array:
    """Zeros for the values of every step, and of every element that is alone."""
    assert draw.values is not None
    steps = steps_of(site)
    alone = [size if axis in draw.alone else 1 for axis, size in enumerate(shape_of(site)[len(steps) :])]
    return jnp.zeros((*steps, len(draw.values), *alone))

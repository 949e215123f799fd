"""Adaptive multiple importance sampling: each round learns from the draws of all."""

from .population_monte_carlo import PopulationMonteCarlo


class AdaptiveMultiple(PopulationMonteCarlo):
    r"""Each round fits the next mixture to the draws of all rounds, weighted by $\pi(x) / \sum_l q_l(x)$ over rounds l.

    Source: Cornuet, Marin, Mira and Robert (2012), Adaptive multiple importance sampling, Scand. J. Stat. 39(4),
    798-812.
    """

    recycled = True
    steps = 5

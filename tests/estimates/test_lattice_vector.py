"""The lattice's generating vector is good for every power of two."""

import numpy as np
import pytest

from variate.estimates.designs.lattice_vector import VECTOR


def worst_doubling(vector: list[int]) -> float:
    """What a doubling of the points leaves at most of the squared error of lattices, pairs of coordinates counted."""

    def squared(size: int) -> float:
        x = np.array([[k * z % size for z in vector] for k in range(size)]) / size
        omega = 2 * np.pi**2 * (x**2 - x + 1 / 6)
        single = omega.sum(axis=1)
        return float(np.mean(single + (single**2 - (omega**2).sum(axis=1)) / 2))

    errors = np.array([squared(2**k) for k in range(4, 13)])
    return float(np.max(errors[1:] / errors[:-1]))


@pytest.mark.parametrize("dimension", [2, 3, 8])
def test_lattices_get_better_whenever_their_points_double(dimension: int) -> None:
    """By theory a quarter is left in the long run. Powers of the multiplier 17797 stand still at some sizes."""
    assert worst_doubling(list(VECTOR[:dimension])) < 2 / 3
    assert worst_doubling([17797**j for j in range(dimension)]) > 3 / 4

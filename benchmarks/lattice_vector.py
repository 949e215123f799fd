"""The search that found the generating vector of `Lattice`: component by component, for all powers of two at once.

python benchmarks/lattice_vector.py    # some four minutes; prints `VECTOR` of designs/lattice_vector.py

A lattice of n points with the generating vector z has, in a space of periodic functions, the squared error

    E_n(z) = mean over k < n of  e_1(k) + e_2(k) + e_3(k) / 10,

where e_l is the elementary symmetric polynomial of degree l of the numbers omega(k z_j / n) over the coordinates j, and
omega(x) = 2 pi^2 (x^2 - x + 1/6). So pairs of coordinates count as they are and triples for a tenth, whatever their
numbers: nothing is known of which draws matter. Components are chosen one after the other, each
among 2,000 random odd numbers as the one for which the worst of E_n over the least that was seen for this n is least,
over n = 2^4 to 2^14 (Cools, Kuo and Nuyens 2006). Of the digits from there to 2^20 the best of 12 random choices is
taken in the same way; those beyond are random.
"""

import numpy as np

DIMENSION, FEWEST, SEARCHED, EXTENDED, TRIPLES = 250, 4, 14, 20, 0.1


def omega(x: np.ndarray) -> np.ndarray:
    return 2 * np.pi**2 * (x * x - x + 1 / 6)


def reversed_digits(digits: int) -> np.ndarray:
    """Of 0, 1, ... in base 2, so that the first n of them over all are the multiples of 1 / n."""
    found, numbers = np.zeros(2**digits, np.int64), np.arange(2**digits)
    for place in range(digits):
        found |= ((numbers >> place) & 1) << (digits - 1 - place)
    return found


class Search:
    """Components so far, as the sums over coordinates and over pairs of them, for the lattices of 2^first to 2^last."""

    def __init__(self, first: int, last: int):
        self.places, self.mask = reversed_digits(last), 2**last - 1
        self.table = omega(np.arange(2**last) / 2**last)
        self.sizes = 2 ** np.arange(first, last + 1)
        self.single, self.pairs = self._values(1), np.zeros(2**last)

    def _values(self, component: int) -> np.ndarray:
        return self.table[(self.places * component) & self.mask]

    def best(self, candidates: np.ndarray) -> int:
        weight = 1 + self.single + TRIPLES * self.pairs
        starts = [0, *self.sizes[:-1]]
        sums = [np.add.reduceat(self._values(c) * weight, starts).cumsum() / self.sizes for c in candidates]
        found = np.array(sums)
        return int(candidates[np.argmin(np.max(found / found.min(axis=0), axis=1))])

    def take(self, component: int) -> None:
        values = self._values(component)
        self.pairs += values * self.single
        self.single += values


def main() -> None:
    random, vector = np.random.default_rng(1), [1]
    search = Search(FEWEST, SEARCHED)
    while len(vector) < DIMENSION:
        vector.append(search.best(2 * random.integers(0, 2 ** (SEARCHED - 1), 2000) + 1))
        search.take(vector[-1])
    search, low = Search(SEARCHED, EXTENDED), vector
    for i in range(1, DIMENSION):
        digits = random.integers(0, 2 ** (EXTENDED - SEARCHED), 12) << SEARCHED
        vector[i] = search.best(low[i] + digits)
        search.take(vector[i])
    beyond = random.integers(0, 2 ** (32 - EXTENDED), DIMENSION) << EXTENDED
    print([1, *(int(z) for z in np.array(vector)[1:] + beyond[1:])])


if __name__ == "__main__":
    main()

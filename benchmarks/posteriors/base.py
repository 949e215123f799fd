"""What the posteriors share: where their data are, what is known of them, and how a flat prior is written."""

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import variate as vt

FOLDER = Path(__file__).parents[3] / "shared" / "posteriordb"


class Moments(NamedTuple):
    """The mean and the standard deviation of a number, from so many independent draws: infinitely many, if exact."""

    mean: float
    sd: float
    draws: float = math.inf


class Posterior(NamedTuple):
    """A target, what is asked of its values, and the moments of that by name.

    `quantities` maps values, with any axes in front, to arrays by name; the numbers of a vector are `name[1]` and on.
    `program` and `data` are what the target was made of, if of a program.
    """

    target: Any
    moments: dict[str, Moments]
    quantities: Callable[[dict[str, Any]], dict[str, Any]] = dict
    program: str = ""
    data: tuple[Any, ...] = ()

    def named(self, values: dict[str, Any]) -> dict[str, np.ndarray]:
        """The numbers that have moments, of values with axes of chains and draws."""
        found = {}
        for name, array in self.quantities(values).items():
            array = np.asarray(array)
            if array.ndim == 2:
                found[name] = array
            else:
                found |= {f"{name}[{i + 1}]": array[:, :, i] for i in range(array.shape[2])}
        return {name: found[name] for name in self.moments}


def posed(program: Callable, data: tuple[Any, ...], moments: dict[str, Moments], quantities: Any = dict) -> Posterior:
    return Posterior(vt.condition(program, *data), moments, quantities, program.__name__, data)


def found() -> bool:
    """Whether the data are there: they are no part of the project."""
    return FOLDER.is_dir()


def data(name: str) -> dict[str, Any]:
    """By name, numbers as they are and lists as real arrays."""
    path = FOLDER / f"{name}.json"
    if path.exists():
        read = json.loads(path.read_text())
    else:
        with zipfile.ZipFile(f"{path}.zip") as archive:
            read = json.loads(archive.read(path.name))
    return {key: jnp.asarray(value, float) if isinstance(value, list) else value for key, value in read.items()}


def reference(posterior: str) -> dict[str, Moments]:
    """Moments of reference draws, which are all but independent."""
    read: Mapping[str, Any] = json.loads((FOLDER / "reference.json").read_text())[posterior]
    return {name: Moments(each["mean"], each["sd"], each["n"]) for name, each in read.items()}


def flat(distribution: Any) -> dist.Distribution:
    """A draw whose density counts as 1 wherever `distribution` may be: a flat prior on its support, proper or not."""
    return distribution.mask(False)

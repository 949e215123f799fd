"""What fitted solvers share: they know the model that their numbers are of, and are written to files."""

import abc
import json
import os
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from variate.checks import describe

from ..denoisers.base import Denoiser

Self = TypeVar("Self", bound="Saved")  # typing's own is unknown to checkers of single methods
Told = dict[str, Any]
Tables = dict[str, np.ndarray]


class Saved(eqx.Module):
    """Something that was learned, and is written to a file."""

    @abc.abstractmethod
    def _written(self) -> tuple[Told, Tables]:
        """What goes to a file: what JSON can say, and arrays."""

    @classmethod
    @abc.abstractmethod
    def _read(cls, told: Told, tables: Tables) -> Any:
        """From what was written."""

    def save(self, path: str | Path | Any) -> None:
        """To a file of NumPy's, of this name whatever it ends with."""
        _check_path(path)
        told, tables = self._written()
        written: dict[str, Any] = {"told": json.dumps({"solver": type(self).__name__} | told)} | tables
        with open(path, "wb") as file:
            np.savez(file, **written)

    @classmethod
    def load(cls: type[Self], path: str | Path | Any) -> Self:
        """What `save` wrote; whether a solver is of the model and times that it is used with is looked at then."""
        _check_path(path)
        wrong = ValueError(f"path must be a file that save wrote of {cls.__name__}, got {path}")
        try:
            with open(path, "rb") as file, np.load(file) as parts:
                tables = {name: parts[name] for name in parts.files}
                told = json.loads(str(tables["told"]))
            if told["solver"] == cls.__name__:
                return cls._read(told, tables)
        except (EOFError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise wrong from error
        raise wrong


def _check_path(path: Any) -> None:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be the name of a file, got {describe(path)}")


class Learned(Saved):
    """A solver with numbers that were learned from one model."""

    times: eqx.AbstractVar[tuple[float, ...]]  # that it was fitted for
    probe: eqx.AbstractVar[tuple[float, ...]]  # what the model says of a point, to know it by

    def check_model(self, model: Denoiser, event: tuple[int, ...]) -> None:
        same = np.prod(event) == len(self.probe)
        if not (same and np.allclose(probed(model, self.times, event), self.probe, rtol=1e-3, atol=1e-3)):
            raise ValueError("solver: it was fitted to another model than this one, and has to be fitted anew")

    def check_times(self, times: np.ndarray) -> None:
        """Raise ValueError unless these are they, of a solver that is for no others."""
        if len(times) != len(self.times) or not np.allclose(times, self.times, rtol=1e-9, atol=0):
            own = list(self.times)
            raise ValueError(f"times must be those that the solver was fitted for, {own}, got {np.asarray(times)}")


def probed(model: Denoiser, times: Any, event: tuple[int, ...]) -> np.ndarray:
    """What a model says of one point, the same for all, at the time nearest to where there is as much noise as signal.

    With little noise all models say that the data are the point; with hardly any signal, many say the same mean.
    """
    inside = [time for time in times if time > 0]
    time = float(np.clip(model.process.time_of(0.0), min(inside), max(inside)))
    with jax.ensure_compile_time_eval():  # also where the run itself is traced
        point = jnp.asarray(np.sin(np.arange(1.0, 1.0 + np.prod(event))).reshape(event), float)
        return np.asarray(model.data(point, time), np.float64).ravel()

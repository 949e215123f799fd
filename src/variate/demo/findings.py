"""What the demo found, as far as it came, and as numbers that any program reads."""

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

import variate as vt
from variate.demo.comparison import Comparison
from variate.demo.discontinuity import SPEED, Discontinuity
from variate.demo.training import Training
from variate.gradients import Explanation

LIBRARIES = ("jax", "jaxlib", "numpyro", "equinox", "optax", "scikit-learn", "numpy")


@dataclass
class Findings:
    """Filled in part by part; a part that was not reached is None."""

    seed: int
    epochs: int
    num_samples: int  # of each rule's gradient
    interrupted: str | None = None  # what was being done
    seconds: float = 0.0
    training: Training | None = None
    comparison: Comparison | None = None
    discontinuity: Discontinuity | None = None
    explanations: dict[str, Explanation] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return f"interrupted while {self.interrupted}" if self.interrupted else "complete"

    def numbers(self) -> dict[str, Any]:
        """All of it as JSON's types; times are apart, since only they differ between two runs with one seed."""
        versions = {"python": platform.python_version(), "variate": vt.__version__}
        versions |= {name: version(name) for name in LIBRARIES}
        return {
            "status": self.status,
            "settings": {"seed": self.seed, "epochs": self.epochs, "num_samples": self.num_samples},
            "autoencoder": self.training and _training(self.training),
            "rules": self.comparison and _comparison(self.comparison),
            "discontinuity": self.discontinuity and _discontinuity(self.discontinuity),
            "explanations": {name: [vars(row) for row in found.rows] for name, found in self.explanations.items()},
            "times": {"total": self.seconds, "run_of_rule": self.comparison and _times(self.comparison)},
            "versions": versions,
        }


def _estimate(estimate: vt.Estimate) -> dict[str, Any]:
    value, stderr = (np.asarray(x, float).tolist() for x in (estimate.value, estimate.stderr))
    return {"value": value, "stderr": stderr, "num_samples": np.asarray(estimate.num_samples).tolist()}


def _training(found: Training) -> dict[str, Any]:
    looks = [{"epochs": epochs, **_estimate(bound)} for epochs, bound in found.held_out]
    return {
        "unit": "nats per image",
        "train_bounds": found.train_bounds,
        "held_out_bounds": looks,
        "held_out_independent_pixels": found.independent,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "exact": found.exact.tolist(),
        "entries": [
            {
                "rule": entry.rule,
                "value": entry.value.tolist(),
                "stderr": entry.stderr.tolist(),
                "variance": entry.variance,
                "z": entry.deviations(found.exact).tolist(),
            }
            for entry in found.entries
        ],
        "pathwise": found.refusal,
    }


def _discontinuity(found: Discontinuity) -> dict[str, Any]:
    return {
        "speed": SPEED,
        "speeds": found.speeds.tolist(),
        "exact": found.exact.tolist(),
        "plain_jax": _estimate(found.plain),
        "variate": _estimate(found.gradient),
        "pathwise": found.refusal,
        "speed_after_descent": {"plain_jax": float(found.plain_descent[-1]), "variate": float(found.descent[-1])},
    }


def _times(found: Comparison) -> dict[str, float]:
    return {entry.rule: entry.seconds for entry in found.entries}

"""The posteriors of real data that samplers are tried on are what their formulas say, written here once more in SciPy.

Their data are no part of the project: where they are not beside it, there is nothing to test.
"""

import importlib
import itertools
import json
import math
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats
from scipy.special import logsumexp

ROOT = Path(__file__).parents[2]
FOLDER = ROOT.parent / "shared" / "posteriordb"
if FOLDER.is_dir() and (ROOT / "benchmarks").is_dir():
    # Not for longer than that: benchmarks have names that folders of tests have too.
    sys.path.append(str(ROOT / "benchmarks"))
    posteriors = importlib.import_module("posteriors")
    sys.path.remove(str(ROOT / "benchmarks"))
    TABLE = posteriors.TABLE
else:
    TABLE = {}
normal, cauchy = stats.norm.logpdf, stats.halfcauchy.logpdf


def data(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.json"
    text = path.read_text() if path.exists() else zipfile.ZipFile(f"{path}.zip").read(path.name)
    return {key: np.asarray(value, float) for key, value in json.loads(text).items()}


def centered(v: dict, d: dict) -> float:
    own = normal(d["y"], v["theta"], d["sigma"]).sum() + normal(v["theta"], v["mu"], v["tau"]).sum()
    return own + normal(v["mu"], 0, 5) + cauchy(v["tau"], scale=5) + np.log(v["tau"])


def noncentered(v: dict, d: dict) -> float:
    return centered({**v, "theta": v["mu"] + v["tau"] * v["z"]}, d) + 8 * np.log(v["tau"])


def regression(v: dict, x: list, y: np.ndarray) -> float:
    mean = v["beta"][0] + sum(b * column for b, column in zip(v["beta"][1:], x, strict=True))
    return normal(y, mean, v["sigma"]).sum() + np.log(v["sigma"])


def earnings(v: dict, d: dict) -> float:
    return regression(v, [d["height"]], np.log(d["earn"]))


def kidiq(v: dict, d: dict) -> float:
    return regression(v, [d["mom_iq"]], d["kid_score"]) + cauchy(v["sigma"], scale=2.5)


def mesquite(v: dict, d: dict) -> float:
    sizes = [np.log(d[name]) for name in ("diam1", "diam2", "canopy_height", "total_height", "density")]
    return regression(v, [*sizes, d["group"]], np.log(d["weight"]))


def ar(v: dict, d: dict) -> float:
    total = normal(v["alpha"], 0, 10) + normal(v["beta"], 0, 10).sum() + cauchy(v["sigma"], scale=2.5)
    for t in range(5, 200):
        mean = v["alpha"] + sum(v["beta"][k - 1] * d["y"][t - k] for k in range(1, 6))
        total += normal(d["y"][t], mean, v["sigma"])
    return total + np.log(v["sigma"])


def mixture(v: dict, d: dict) -> float:
    (m1, m2), (s1, s2), theta = v["mu"], v["sigma"], v["theta"]
    low, high = np.log(theta) + normal(d["y"], m1, s1), np.log(1 - theta) + normal(d["y"], m2, s2)
    prior = normal(v["mu"], 0, 2).sum() + stats.halfnorm.logpdf(v["sigma"], scale=2).sum()
    volume = np.log(m2 - m1) + np.log(s1 * s2) + np.log(theta * (1 - theta))
    return logsumexp([low, high], axis=0).sum() + prior + stats.beta.logpdf(theta, 5, 5) + volume


def gp(v: dict, d: dict) -> float:
    rho, alpha, sigma = v["rho"], v["alpha"], v["sigma"]
    apart = np.subtract.outer(d["x"], d["x"])
    covariance = alpha**2 * np.exp(-(apart**2) / (2 * rho**2)) + sigma * np.eye(11)
    prior = stats.gamma.logpdf(rho, 25, scale=1 / 4) + stats.halfnorm.logpdf(alpha, scale=2)
    seen = stats.multivariate_normal.logpdf(d["y"], np.zeros(11), covariance)
    return seen + prior + stats.halfnorm.logpdf(sigma) + np.log(rho * alpha * sigma)


def diamonds(v: dict, d: dict) -> float:
    x = d["X"][:, 1:]
    seen = normal(d["Y"], v["Intercept"] + (x - x.mean(0)) @ v["b"], v["sigma"]).sum()
    prior = normal(v["b"], 0, 1).sum() + stats.t.logpdf(v["Intercept"], 3, 8, 10)
    return seen + prior + stats.t.logpdf(v["sigma"], 3, 0, 10) + np.log(v["sigma"])


BY_HAND: dict[str, tuple[Callable, str]] = {
    "eight_schools-eight_schools_noncentered": (noncentered, "eight_schools"),
    "eight_schools-eight_schools_centered": (centered, "eight_schools"),
    "earnings-logearn_height": (earnings, "earnings"),
    "kidiq-kidscore_momiq": (kidiq, "kidiq"),
    "mesquite-logmesquite": (mesquite, "mesquite"),
    "arK-arK": (ar, "arK"),
    "low_dim_gauss_mix-low_dim_gauss_mix": (mixture, "low_dim_gauss_mix"),
    "gp_pois_regr-gp_regr": (gp, "gp_pois_regr"),
    "diamonds-diamonds": (diamonds, "diamonds"),
}


def centre(posterior: Any) -> dict[str, jax.Array]:
    """The values whose quantities are the means."""
    found: dict[str, Any] = {}
    for name, moments in posterior.moments.items():
        found.setdefault(name.partition("[")[0], []).append(moments.mean)
    found = {name: jnp.asarray(each if len(each) > 1 else each[0]) for name, each in found.items()}
    if "z" in posterior.target.names:
        found["z"] = (found.pop("theta") - found["mu"]) / found["tau"]
    return found


def differences(name: str, posterior: Any, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Of log densities near the middle and further off, to that of the middle: the target's, and those by hand."""
    target, (by_hand, where) = posterior.target, BY_HAND[name]
    middle, read = target.unconstrain(centre(posterior)), data(where)
    flat, unravel = ravel_pytree(middle)
    away = jax.random.normal(key, (6, flat.size)) * jnp.repeat(jnp.array([0.01, 0.3]), 3)[:, None]
    positions = [middle, *(unravel(flat + each) for each in away)]
    values = [jax.tree.map(np.asarray, target.constrain(position)) for position in positions]
    ours = np.array([float(target.log_density(position)) for position in positions])
    theirs = np.array([by_hand(each, read) for each in values])
    return ours[1:] - ours[0], theirs[1:] - theirs[0]


def agree(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return np.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.wide
@pytest.mark.parametrize("name", TABLE)
def test_its_density_is_that_of_the_formula_and_the_change_of_volume(name: str, key: jax.Array) -> None:
    assert agree(*differences(name, TABLE[name](), key))


def backwards(*columns: jax.Array) -> jax.Array:
    return jnp.stack([jnp.ones_like(columns[0]), *columns[::-1]], axis=1)


MUTANTS = {
    "a flat prior is that of its stand-in": ("earnings-logearn_height", "regressions", "flat", lambda d: d),
    "a flat prior on ordered numbers is too": ("low_dim_gauss_mix-low_dim_gauss_mix", "mixture", "flat", lambda d: d),
    "columns are in another order": ("mesquite-logmesquite", "regressions", "design", backwards),
}


@pytest.mark.wide
@pytest.mark.parametrize("mutant", MUTANTS if TABLE else ())
def test_a_wrong_program_is_seen(mutant: str, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    name, module, function, wrong = MUTANTS[mutant]
    right = TABLE[name]()
    monkeypatch.setattr(importlib.import_module(f"posteriors.{module}"), function, wrong)
    jax.clear_caches()
    seen = not agree(*differences(name, right._replace(target=TABLE[name]().target), key))
    jax.clear_caches()  # of what was traced of the wrong program
    assert seen


class NoVolume:
    """A target that forgets how its coordinates change volume."""

    def __init__(self, target: Any):
        self.target, self.names = target, target.names
        self.constrain, self.unconstrain = target.constrain, target.unconstrain

    def log_density(self, position: Any) -> jax.Array:
        return self.target.log_prob(self.constrain(position))


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith(("gp", "low"))])
def test_a_missing_change_of_volume_is_seen(name: str, key: jax.Array) -> None:
    posterior = TABLE[name]()
    assert not agree(*differences(name, posterior._replace(target=NoVolume(posterior.target)), key))


@pytest.mark.wide
@pytest.mark.parametrize("name", TABLE)
def test_it_starts_where_there_is_a_gradient(name: str, key: jax.Array) -> None:
    posterior = TABLE[name]()
    starts = jax.vmap(posterior.target.start)(jax.random.split(key, 8))
    slopes = jax.vmap(jax.grad(posterior.target.log_density))(starts)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
    values = jax.vmap(posterior.target.constrain)(starts)
    named = posterior.named(jax.tree.map(lambda x: jnp.reshape(x, (4, 2, *x.shape[1:])), values))
    assert {each.shape for each in named.values()} == {(4, 2)}
    assert named.keys() == json.loads((FOLDER / "reference.json").read_text())[name].keys()


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("earnings")])
def test_closed_moments_are_those_of_the_density_by_quadrature(name: str) -> None:
    """By the trapezoidal rule in whitened coordinates, whose error on a Gaussian is 1e-25 at a step of 0.58."""
    posterior = TABLE[name]()
    read = data("earnings")
    x = np.stack([np.ones(1192), read["height"]], 1)
    mean, sd = (np.array([getattr(m, what) for m in posterior.moments.values()]) for what in ("mean", "sd"))
    root = np.linalg.cholesky(np.linalg.inv(x.T @ x) * mean[2] ** 2)
    grid = np.array(list(itertools.product(np.linspace(-7, 7, 25), repeat=3)))
    beta = mean[:2] + grid[:, :2] @ root.T
    position = {"beta": jnp.asarray(beta), "sigma": jnp.log(mean[2]) + jnp.asarray(grid[:, 2] * sd[2] / mean[2])}
    log_density = np.asarray(jax.lax.map(posterior.target.log_density, position, batch_size=625))
    weights = np.exp(log_density - log_density.max())
    points = np.column_stack([beta, np.exp(position["sigma"])])
    found = weights @ points / weights.sum()
    spread = np.sqrt(weights @ (points - found) ** 2 / weights.sum())
    np.testing.assert_allclose(found, mean, rtol=1e-9)
    np.testing.assert_allclose(spread, sd, rtol=1e-9)


def closed_and_by_quadrature(name: str, log_prior: Callable[[float], float]) -> tuple[np.ndarray, np.ndarray]:
    """Moments of a regression with flat coefficients: its own, and those by a sum over sigma with a density of it."""
    posterior = TABLE[name]()
    x, y = posterior.target.numbers
    names = [each for each in posterior.moments if each != "sigma"]
    given_scale = importlib.import_module("posteriors.given_scale")
    found = given_scale.regression(x, y, np.zeros((len(names), len(names))), log_prior, names)
    return np.array(list(posterior.moments.values()))[:, :2], np.array(list(found.values()))[:, :2]


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith(("earnings", "mesquite"))])
def test_quadrature_over_the_scale_gives_the_closed_moments(name: str) -> None:
    np.testing.assert_allclose(*closed_and_by_quadrature(name, lambda s: 0.0), rtol=1e-8)
    closed, other = closed_and_by_quadrature(name, lambda s: -np.log(s))
    assert not np.allclose(closed, other, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in TABLE if not name.startswith(("low", "gp", "diamonds"))])
def test_exact_means_are_those_of_the_reference_draws(name: str) -> None:
    """Each by a z-test at 1e-6; there are 41 of them."""
    limit = -stats.norm.ppf(0.5e-6)
    reference = json.loads((FOLDER / "reference.json").read_text())[name]
    for number, moments in TABLE[name]().moments.items():
        apart = abs(reference[number]["mean"] - moments.mean) / (moments.sd / math.sqrt(reference[number]["n"]))
        assert apart < limit, number

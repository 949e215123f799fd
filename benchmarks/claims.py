"""Headlines of papers beside what their methods did here, at a small scale.

python benchmarks/claims.py            # some minutes; rewrites benchmarks/results/claims.json and docs/claims.md
python benchmarks/claims.py --quick    # that everything runs
python benchmarks/claims.py --only polar_slices    # one of them, and the page with it
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import optax
import reports
from claim import Claim, verdict
from claims_chains import polar_slices
from claims_denoising import denoising_langevin_gibbs, log_concave_chain, reverse_diffusion
from claims_diffusion import CLAIMS as OF_FLOWS
from claims_diffusion_adaptive import CLAIMS as OF_ADAPTIVE_SOLVERS
from claims_diffusion_augmented import CLAIMS as OF_VELOCITIES
from claims_diffusion_errors import CLAIMS as OF_ERRORS
from claims_diffusion_fitted import CLAIMS as OF_FITTED_SAMPLERS
from claims_diffusion_models import CLAIMS as OF_MODELS
from claims_diffusion_noise import CLAIMS as OF_NOISE
from claims_diffusion_training import CLAIMS as OF_TRAINING
from claims_expectations import CLAIMS as OF_EXPECTATIONS
from claims_flows import CLAIMS as OF_AUTOREGRESSIVE_FLOWS
from claims_page import page
from claims_walks import self_repellent

import variate as vt
from variate.gradients import (
    AcceptanceRejection,
    DisARM,
    GumbelRao,
    GumbelStraightThrough,
    ImplicitDiffusion,
    LeaveOneOut,
    NoBaseline,
    Pathwise,
    Rebar,
    ReinMax,
    Score,
    StraightThrough,
)

jax.config.update("jax_enable_x64", True)
ROOT = Path(__file__).parents[1]
KEY = jax.random.key(0)


def variance(program: Callable, rules: dict, args: tuple, samples: int, replicates: int) -> tuple[float, float]:
    """Of a gradient of so many samples, summed over coordinates, and the standard error of that."""
    gradient = vt.grad(program, num_samples=samples, rules=rules)
    keys = jax.random.split(KEY, replicates)
    rows = jax.jit(lambda keys: jax.lax.map(lambda key: jnp.ravel(gradient(key, *args).value), keys))(keys)
    squares = jnp.sum((rows - jnp.mean(rows, axis=0)) ** 2, axis=1) * replicates / (replicates - 1)
    return float(jnp.mean(squares)), float(jnp.std(squares) / replicates**0.5)


def better(ours: tuple[float, float], other: tuple[float, float], times: float = 1.0) -> bool:
    """Whether a variance is less than another, by more than three standard errors of the difference."""
    return other[0] - times * ours[0] > 3 * (other[1] ** 2 + (times * ours[1]) ** 2) ** 0.5


def ratio(ours: tuple[float, float], other: tuple[float, float]) -> str:
    value = other[0] / ours[0]
    error = value * ((ours[1] / ours[0]) ** 2 + (other[1] / other[0]) ** 2) ** 0.5
    return f"{value:.3g} ± {error:.1g}"


def acceptance_rejection(replicates: int) -> Claim:
    def dirichlet(key: jax.Array, a: jax.Array) -> jax.Array:
        x = vt.draw(key, dist.Dirichlet(a), name="x")
        return jnp.sum(jnp.array([3.0, 1.0, 5.0, 2.0, 4.0]) * jnp.log(x))

    args = (jnp.array([1.5, 2.0, 1.0, 3.0, 2.5]),)
    found = {
        rule: variance(dirichlet, {"x": rule}, args, 16, replicates)
        for rule in (AcceptanceRejection(), Score(LeaveOneOut()), Score(NoBaseline()), Pathwise())
    }
    ours, leave, none, path = found.values()
    return Claim(
        "Naesseth et al. (2017), RSVI",
        "significantly lower gradient variance than other methods",
        f"a Dirichlet of five: {ratio(ours, none)} times less variance than the score, {ratio(ours, leave)} than the "
        f"score with leave-one-out; but {ratio(path, ours)} times that of the implicit gradient of 2018",
        verdict(better(ours, none) and better(ours, leave), "against the methods of its time"),
    )


def disarm(replicates: int) -> Claim:
    weights = jax.random.normal(jax.random.key(5), (100,)) / 10

    def coins(key: jax.Array, t: jax.Array) -> jax.Array:
        b = vt.draw(key, dist.Bernoulli(logits=t), name="b").astype(t.dtype)
        return jax.nn.sigmoid(jnp.sum(weights * b) * 2) + 0.1 * jnp.sum(weights * b) ** 2

    args = (jnp.zeros(100),)
    two = variance(coins, {"b": DisARM()}, args, 1, replicates)
    leave = variance(coins, {"b": Score(LeaveOneOut())}, args, 2, replicates)
    four, eight = (variance(coins, {"b": Score(LeaveOneOut())}, args, n, replicates) for n in (4, 8))
    twice, thrice = (variance(coins, {"b": DisARM()}, args, n, replicates) for n in (2, 4))
    return Claim(
        "Dong, Mnih and Tucker (2020), DisARM",
        "less variance than ARM and than leave-one-out with two samples",
        f"100 coins, at 2, 4 and 8 runs in all: {ratio(two, leave)}, {ratio(twice, four)} and {ratio(thrice, eight)} "
        "times less than leave-one-out",
        verdict(better(two, leave), f"with eight runs {'still' if better(thrice, eight) else 'no longer'}"),
    )


def rebar(replicates: int) -> Claim:
    def toy(key: jax.Array, t: jax.Array) -> jax.Array:
        return (vt.draw(key, dist.Bernoulli(logits=t), name="b") - 0.45) ** 2

    args = (jnp.array(0.0),)
    ours = variance(toy, {"b": Rebar(0.5)}, args, 1, replicates)
    none = variance(toy, {"b": Score(NoBaseline())}, args, 1, replicates)
    return Claim(
        "Tucker et al. (2017), REBAR",
        "lower variance than the score at no bias, on E (b - 0.45)^2",
        f"{ratio(ours, none)} times less variance than the score at a logit of 0",
        verdict(better(ours, none)),
    )


def gumbel_rao(replicates: int) -> Claim:
    table = jax.random.normal(jax.random.key(3), (10,))

    def die(key: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.sum((jax.nn.one_hot(vt.draw(key, dist.Categorical(logits=t), name="x"), 10) - table) ** 2)

    args = (jnp.linspace(-1, 1, 10),)
    plain = variance(die, {"x": GumbelStraightThrough(0.1)}, args, 1, replicates)
    ours = variance(die, {"x": GumbelRao(0.1, 100)}, args, 1, replicates)
    return Claim(
        "Paulus, Maddison and Krause (2021), Gumbel-Rao",
        "less variance than straight-through Gumbel-softmax, at the same mean",
        f"one of ten values, temperature 0.1, 100 replicates: {ratio(ours, plain)} times less variance",
        verdict(better(ours, plain)),
    )


def reinmax(_: int) -> Claim:
    logits, matrix = jnp.linspace(-1, 1, 6), jax.random.normal(jax.random.key(4), (6, 6))

    def exact(t: jax.Array) -> jax.Array:
        return jnp.sum(jax.nn.softmax(t) * jnp.diag(matrix @ matrix.T))

    def program(key: jax.Array, t: jax.Array) -> jax.Array:
        row = jax.nn.one_hot(vt.draw(key, dist.Categorical(logits=t), name="x"), 6, dtype=t.dtype) @ matrix
        return jnp.sum(row**2)

    truth = jax.grad(exact)(logits)
    errors = {}
    for rule in (ReinMax(), StraightThrough()):
        found = vt.grad(program, num_samples=200_000, block_size=2_000, rules={"x": rule})(KEY, logits)
        errors[rule] = float(jnp.linalg.norm(found.value - truth) / jnp.linalg.norm(truth))
    second, first = errors.values()
    return Claim(
        "Liu et al. (2023), ReinMax",
        "second-order accurate where straight-through is first-order",
        f"a quadratic of one of six: relative error {second:.1%}, of which 1% is noise, straight-through {first:.0%}",
        verdict(second < 0.03 < first),
    )


def implicit_diffusion(replicates: int) -> Claim:
    """Langevin particles at a Gaussian mixture whose means are to be moved so that draws land at 1."""

    def log_density(x: jax.Array, means: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(-0.5 * (x - means) ** 2 / 0.25)

    def cost(x: jax.Array, means: jax.Array) -> jax.Array:
        return (x - 1.0) ** 2

    loop = ImplicitDiffusion(log_density, cost, optax.adam(2e-2), 2e-2)
    start = loop.init(jax.random.normal(KEY, (512,)), jnp.array([-1.0, 0.5]))
    run = jax.jit(loop.run, static_argnums=2)
    _, values = run(KEY, start, min(2_000, 10 * replicates))
    return Claim(
        "Marion et al. (2024), Implicit diffusion",
        "one loop of sampling and optimization converges",
        f"a mixture of two on a line: expected cost from {float(values[0]):.2f} to {float(values[-50:].mean()):.3f} in "
        f"{len(values)} steps of 512 particles; the least that such a mixture has is 0.25",
        verdict(float(values[-50:].mean()) < 0.3),
    )


def implicit_differentiation(_: int) -> Claim:
    generator = jax.random.split(KEY, 2)
    x, y = jax.random.normal(generator[0], (60, 8)), jax.random.normal(generator[1], (60,))

    def loss(w: jax.Array, penalty: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum((x @ w - y) ** 2) + 0.5 * jnp.exp(penalty) * jnp.sum(w**2)

    @vt.implicit(vt.gradients.stationary(loss))
    def solve(penalty: jax.Array) -> jax.Array:
        step = lambda w, _: (w - 0.01 * jax.grad(loss)(w, penalty), None)  # noqa: E731
        return jax.lax.scan(step, jnp.zeros(8), None, 2_000)[0]

    def closed(penalty: jax.Array) -> jax.Array:
        return jnp.linalg.solve(x.T @ x + jnp.exp(penalty) * jnp.eye(8), x.T @ y)

    at = jnp.array(0.3)
    error = float(jnp.max(jnp.abs(jax.jacobian(solve)(at) - jax.jacobian(closed)(at))))
    return Claim(
        "Blondel et al. (2022), Implicit differentiation",
        "recovers known implicit derivatives, on top of any solver",
        f"ridge regression by gradient descent: derivative in the penalty within {error:.0e} of the closed form",
        verdict(error < 1e-8),
    )


def allocation(replicates: int) -> Claim:
    items = jnp.linspace(-4.0, 4.0, 40)

    def accepted(key: jax.Array, difficulty: jax.Array, t: jax.Array) -> jax.Array:
        return vt.draw(key, dist.Bernoulli(logits=t - 2 * difficulty), name="accepted").astype(t.dtype)

    rules = {"accepted": Score(LeaveOneOut())}
    split = vt.allocate(accepted, budget=2_000.0, pilot=32, rules=rules)(KEY, items, jnp.array(0.5))
    return Claim(
        "Yao et al. (2025), GVM",
        "two to four times faster than equal shares of draws",
        f"acceptance of 40 items, easy to hard: {split.equal / split.variance:.2f} times less variance at equal draws",
        verdict(split.equal / split.variance > 2, "as far as items differ"),
    )


CLAIMS = (
    *OF_EXPECTATIONS,
    acceptance_rejection,
    disarm,
    rebar,
    gumbel_rao,
    reinmax,
    implicit_diffusion,
    implicit_differentiation,
    allocation,
    polar_slices,
    reverse_diffusion,
    log_concave_chain,
    denoising_langevin_gibbs,
    self_repellent,
    *OF_FLOWS,
    *OF_FITTED_SAMPLERS,
    *OF_NOISE,
    *OF_MODELS,
    *OF_ERRORS,
    *OF_VELOCITIES,
    *OF_TRAINING,
    *OF_ADAPTIVE_SOLVERS,
    *OF_AUTOREGRESSIVE_FLOWS,
)


def measured(replicates: int, only: Sequence[str] = ()) -> Iterator[Claim]:
    for claim in CLAIMS:
        if not only or claim.__name__ in only:
            yield claim(replicates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--only", nargs="*", default=(), help="functions of claims; the page keeps what it says of others"
    )
    wanted, results = parser.parse_args(), ROOT / "benchmarks" / "results" / "claims.json"
    before = [Claim(**claim) for claim in json.loads(results.read_text())["claims"]] if wanted.only else []
    rows = {claim.paper: claim for claim in before}
    for claim in measured(20 if wanted.quick else 4_000, wanted.only):
        print(" | ".join(claim))
        rows[claim.paper] = claim
    if wanted.quick:
        return
    found = list(rows.values())
    machine: dict[str, Any] = reports.machine()
    results.write_text(
        json.dumps({"machine": machine, "claims": [claim._asdict() for claim in found]}, indent=2) + "\n"
    )
    (ROOT / "docs" / "claims.md").write_text(page(found, machine))


if __name__ == "__main__":
    main()

"""The claims of papers on expectations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from claim import Claim, verdict
from sklearn.datasets import load_digits

import variate as vt
from variate.estimates import (
    AdaptiveMultiple,
    ControlVariates,
    EmpiricalBernstein,
    Hoeffding,
    Mixture,
    ReusableHoldout,
    adapt,
    certify,
)


def spread(run: Callable, replicates: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the numbers that `run(key)` returns, and their variances."""
    rows = np.stack([np.asarray(run(key)) for key in jax.random.split(jax.random.key(7), replicates)])
    return rows.mean(axis=0), rows.var(axis=0, ddof=1)


def shared(program: Callable, name: str, runs: int, components: int = 1) -> Callable[[jax.Array], jax.Array]:
    """Of several expectations from one sample: half of the runs to learn, half to estimate, with its controls."""
    scheme = AdaptiveMultiple(components=components, rounds=4, num_samples=runs // 10, spread=1.0)
    learn = adapt(program, name, scheme=scheme)

    def run(key: jax.Array) -> jax.Array:
        learning, using = jax.random.split(key)
        learnt = learn(learning)
        method = Mixture(
            {name: list(learnt.given[name])}, shares={name: learnt.shares[name][:-1].tolist()}, regressed=True
        )
        return vt.expect(program, method=method, num_samples=runs // 2, block_size=2_000)(using).value

    return run


PAPER = "Demange-Chryst, Bachoc and Morio (2023), several expectations"
RUNS = 20_000


def moments_at_once(replicates: int) -> Claim:
    """Their first test case, with their runs and their weights: squared relative errors, summed."""
    powers = 2.0 * jnp.arange(1, 11)
    truth = np.cumprod(np.arange(1, 20, 2.0))

    def program(key: jax.Array) -> jax.Array:
        return vt.draw(key, dist.Normal(0.0, 1.0), name="x") ** powers

    replicates = min(replicates, 200)
    mean, ours = spread(shared(program, "x", RUNS, components=2), replicates)
    _, plain = spread(lambda key: vt.expect(program, num_samples=RUNS, block_size=2_000)(key).value, replicates)
    off = float(np.max(np.abs(mean - truth) / np.sqrt(ours / replicates)))
    gain = float(np.sum(plain / truth**2) / np.sum(ours / truth**2))
    return Claim(
        PAPER,
        "far less summed variance than plain runs on the even moments of a normal number, unbiased",
        f"ten moments, {RUNS:,} runs in all: {gain:.3g} times less, means within {off:.1f} standard errors",
        verdict(gain > 10 and off < 4),
    )


def indices_at_once(replicates: int) -> Claim:
    """As their example does, on a function of ours: a product of lognormal inputs, whose shares have a closed form.

    Of Y and of Yi, which shares its input i with Y alone, the means of Y, Y^2 and all Y Yi are from one sample.
    """
    powers = jnp.array([1.0, 0.7, 0.4])
    truth = np.expm1(powers**2) / np.expm1(np.sum(powers**2))

    def program(key: jax.Array) -> jax.Array:
        x, others = vt.draw(key, dist.Normal(jnp.zeros((2, len(powers))), 1.0), name="x")
        y = jnp.exp(powers @ x)
        frozen = jnp.exp(powers * (x - others) + powers @ others)
        return jnp.concatenate([jnp.stack([y, y**2]), y * frozen])

    def shares(means: jax.Array) -> jax.Array:
        return (means[2:] - means[0] ** 2) / (means[1] - means[0] ** 2)

    replicates = min(replicates, 200)
    run, simple = shared(program, "x", RUNS, components=4), vt.expect(program, num_samples=RUNS, block_size=2_000)
    mean, ours = spread(lambda key: shares(run(key)), replicates)
    _, plain = spread(lambda key: shares(simple(key).value), replicates)
    off = float(np.max(np.abs(mean - truth) / np.sqrt(ours / replicates)))
    gain = float(np.sum(plain) / np.sum(ours))
    return Claim(
        f"{PAPER}: Sobol' indices",
        "a significant improvement in sensitivity analysis",
        f"a product of three lognormal inputs, first indices, {RUNS:,} runs in all: {gain:.3g} times less summed "
        f"variance than pick and freeze, means within {off:.1f} standard errors",
        verdict(gain > 10 and off < 4) + "; on a function of our own",
    )


def reused_holdout(replicates: int) -> Claim:
    """Their experiment, at a fifth of its size: labels that are coins, or that twenty features tell something of."""
    n, features, keys = 2_000, 2_000, jax.random.split(jax.random.key(5), min(replicates, 30))

    def sample(key: jax.Array, signal: float) -> dict[str, jax.Array]:
        first, second = jax.random.split(key)
        y = jax.random.rademacher(first, (n,), jnp.float32)
        x = jax.random.normal(second, (n, features), jnp.float32)
        return {"x": x.at[:, :20].add(y[:, None] * jnp.float32(signal)), "y": y}

    def agree(rows: dict[str, jax.Array]) -> jax.Array:
        return jnp.mean(rows["x"] * rows["y"][:, None] > 0, axis=0)

    def right(rows: dict[str, jax.Array], weights: jax.Array) -> jax.Array:
        return jnp.mean((rows["x"] @ weights) * rows["y"] > 0)

    def vote(of_train: jax.Array, of_holdout: jax.Array) -> jax.Array:
        a, b = of_train - 0.5, of_holdout - 0.5
        both = (a * b > 0) & (jnp.minimum(jnp.abs(a), jnp.abs(b)) > 0.5 / n**0.5)
        best = jnp.argsort(-jnp.where(both, jnp.abs(a), 0.0))[:40]
        return jnp.where(both, jnp.sign(a), 0.0) * jnp.zeros(features).at[best].set(1.0)

    def once(key: jax.Array, signal: float) -> jax.Array:
        *three, start, asking, last = jax.random.split(key, 6)
        train, holdout, fresh = (sample(one, signal) for one in three)
        naive = vote(agree(train), agree(holdout))
        reusable = ReusableHoldout(
            train, holdout, threshold=2 / n**0.5, noise=5e-4, queries=features + 1, budget=features
        )

        def ask(state: Any, of: Any) -> Any:
            return reusable.ask(of[0], state, lambda row: row["x"][of[1]] * row["y"] > 0)

        of_features = jax.random.split(asking, features), jnp.arange(features)
        state, answers = jax.lax.scan(ask, reusable.start(start), of_features)
        guarded = vote(agree(train), answers.value)
        _, answer = reusable.ask(last, state, lambda row: (row["x"] @ guarded) * row["y"] > 0)
        naively = right(holdout, naive), right(fresh, naive)
        return jnp.stack([*naively, answer.value, right(fresh, guarded)])

    said, apart = [], []
    for name, signal in (("no signal", 0.0), ("a signal in twenty features", 6 / n**0.5)):
        rows = np.asarray(jax.jit(lambda keys, s=signal: jax.lax.map(lambda key: once(key, s), keys))(keys))
        mean, off = rows.mean(axis=0), np.abs(rows[:, [0, 2]] - rows[:, [1, 3]])
        said.append(
            f"{name}: holdout used again {mean[0]:.3f} where {mean[1]:.3f} is right, off by {off[:, 0].mean():.3f}; "
            f"reusable {mean[2]:.3f} where {mean[3]:.3f} is right, off by {off[:, 1].mean():.3f}"
        )
        apart.append(off[:, 0].mean() - off[:, 1].mean() > 3 * np.std(off[:, 0] - off[:, 1]) / len(off) ** 0.5)
    return Claim(
        "Dwork et al. (2015), reusable holdout",
        "a holdout set asked again and again overfits, Thresholdout's answers do not",
        f"{features:,} features asked one by one, {n:,} rows, threshold {2 / n**0.5:.3f}, accuracies of a vote of "
        f"those that stand out; {'; '.join(said)}",
        verdict(apart[0], f"with a signal {'also' if apart[1] else 'no nearer: what is left is below the threshold'}"),
    )


def sliced_controls(replicates: int) -> Claim:
    """Variances over keys of estimates from a hundred directions."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    places = random.normal(size=(2, 5, 25)) * 2
    clouds = [places[i][random.integers(5, size=200)] + random.normal(size=(200, 25)) for i in range(2)]
    pairs = {"mixtures of five normals": clouds, "threes and eights": [images[labels == k][:150] / 16 for k in (3, 8)]}
    keys, said, gains = jax.random.split(jax.random.key(6), min(replicates, 1_000)), [], []
    for name, (one, other) in pairs.items():
        x, y = jnp.asarray(one), jnp.asarray(other)
        d, shift = x.shape[1], jnp.mean(x, axis=0) - jnp.mean(y, axis=0)
        spread_of = jnp.cov(x.T, bias=True) + jnp.cov(y.T, bias=True)

        def direction(z: jax.Array) -> jax.Array:
            return z / jnp.linalg.norm(z)

        def program(key: jax.Array, x: jax.Array = x, y: jax.Array = y, d: int = d) -> jax.Array:
            theta = direction(vt.draw(key, dist.Normal(jnp.zeros(d), 1.0), name="z"))
            return jnp.mean((jnp.sort(x @ theta) - jnp.sort(y @ theta)) ** 2)

        def lower(draws: dict[str, jax.Array], shift: jax.Array = shift) -> jax.Array:
            return (direction(draws["z"]) @ shift) ** 2

        def upper(draws: dict[str, jax.Array], of: Any = (lower, spread_of)) -> jax.Array:
            return of[0](draws) + direction(draws["z"]) @ of[1] @ direction(draws["z"])

        near, far = shift @ shift / d, (shift @ shift + jnp.trace(spread_of)) / d
        runs = {
            "plain": vt.expect(program, method=(), num_samples=100),
            "lower": vt.expect(program, method=ControlVariates(lower, near), num_samples=100),
            "upper": vt.expect(program, method=ControlVariates(upper, far), num_samples=100),
            "our three": vt.diagnostics.sliced_wasserstein(x, y, num_samples=100),
        }
        found = {
            label: np.asarray(jax.jit(lambda keys, run=run: jax.lax.map(lambda key: run(key).value, keys))(keys))
            for label, run in runs.items()
        }
        plain = np.var(found.pop("plain"), ddof=1)
        times = {label: plain / np.var(of, ddof=1) for label, of in found.items()}
        said.append(f"{name} {', '.join(f'{label} {of:.3g}' for label, of in times.items())}")
        gains.append(min(times["lower"], times["upper"]))
    error = (4 / len(keys)) ** 0.5  # of a ratio of two variances of normal numbers
    return Claim(
        "Nguyen and Ho (2024), sliced Wasserstein with control variates",
        "considerably smaller variance than plain directions, at the same order of cost",
        f"times less variance from 100 directions over {len(keys):,} keys, to {100 * error:.0f}%, by control: "
        f"{'; '.join(said)}",
        verdict(min(gains) > 1 + 3 * error),
    )


def variance_aware_certificates(_: int) -> Claim:
    """On digits, with the classifier of the page on certification."""
    images, labels = (jnp.asarray(each) for each in load_digits(return_X_y=True))
    images = images / 16
    middles = jnp.stack([images[:1400][labels[:1400] == digit].mean(axis=0) for digit in range(10)])

    def classify(image: jax.Array) -> jax.Array:
        return jax.nn.softmax(-8.0 * jnp.sum((image - middles) ** 2, axis=1))

    keys = jax.random.split(jax.random.key(0), 200)
    bounds: tuple[Any, ...] = (EmpiricalBernstein(0, 1), Hoeffding(0, 1))
    found = {}
    for samples in (1_000, 10_000):
        for interval in bounds:
            run = certify(classify, 0.25, interval=interval, num_samples=samples)
            label, radius = jax.jit(
                lambda keys, run=run: jax.lax.map(lambda at: run(*at)[:2], (keys, images[1400:1600]))
            )(keys)
            right = label == labels[1400:1600]
            found[samples, type(interval)] = [float(jnp.mean(right & (radius >= r))) for r in (0.1, 0.3, 0.5)]
    said = [
        f"{samples:,} samples, up to 0.1, 0.3 and 0.5: {_shares(found[samples, EmpiricalBernstein])} with the "
        f"variance, {_shares(found[samples, Hoeffding])} without"
        for samples in (1_000, 10_000)
    ]
    return Claim(
        "Delattre et al. (2024), Lipschitz-variance-margin tradeoff",
        "better certified accuracy by bounds that see the variance",
        f"200 digits, each certificate at 99.9%; {'; '.join(said)}",
        verdict(
            found[10_000, EmpiricalBernstein][2] > found[10_000, Hoeffding][2],
            "at large radii and with many samples; on digits, not on the paper's images",
        ),
    )


def _shares(each: list[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in each)


CLAIMS = (moments_at_once, indices_at_once, variance_aware_certificates, reused_holdout, sliced_controls)

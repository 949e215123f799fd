"""Make the pictures of the documentation: `python docs/pictures.py`."""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
from jax.scipy.stats import norm

import variate as vt
from variate.diagnostics import MaxSliced, Sliced, max_sliced_wasserstein, plot_tuning, two_sample_test
from variate.estimates import Antithetic, Scores, Sobol
from variate.programs import At, replay, simulate
from variate.running import Runner
from variate.subsets import ConditionalPoisson, TopK

IMAGES = Path(__file__).parent / "images"
INK, BLUE, ORANGE, GREEN = "#222222", "#2b6cb0", "#d9622b", "#2f855a"


def axes(xlabel: str, ylabel: str) -> plt.Axes:
    mpl.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    figure, one = plt.subplots(figsize=(8, 4), dpi=150, layout="constrained")
    figure.patch.set_facecolor("white")
    one.set(xlabel=xlabel, ylabel=ylabel)
    return one


def programs() -> None:
    def walk(key, drift):
        def step(position, key):
            position = position + vt.draw(key, dist.Normal(drift, 1.0), name="step")
            return position, position

        return jax.lax.scan(step, 0.0, jax.random.split(key, 60))[1]

    key = jax.random.key(1)
    one = axes("step", "position")
    for value in (-12.0, -6.0, 6.0, 12.0):
        one.plot(replay(walk, {"step": At((20,), value)})(key, 0.1), color=ORANGE, alpha=0.6, lw=1.2)
    one.plot(simulate(walk)(key, 0.1).result, color=BLUE, lw=2)
    one.axvline(20, color=INK, lw=0.8, ls=":")
    one.text(21, one.get_ylim()[1] * 0.93, "step 20 replaced", color=ORANGE)
    one.figure.savefig(IMAGES / "programs.png")


def estimates() -> None:
    paths, block, looks = 400, 32, 160
    samples = jax.random.bernoulli(jax.random.key(3), 0.2, (paths, looks * block)).astype(jnp.float32)
    n = block * np.arange(1, looks + 1)
    mean = np.cumsum(samples, axis=1)[:, n - 1] / n
    spread = np.sqrt(mean * (1 - mean) / n)
    rule = vt.StdErr(1e-9, min_samples=1)
    widened = jax.vmap(lambda m, s, k: rule.assess(vt.Estimate(m, s, k)).stderr)
    sequence = np.asarray(widened(jnp.asarray(mean[0]), jnp.asarray(spread[0]), jnp.asarray(n))) / spread[0]
    one = axes("draws", "runs whose interval has missed so far")
    for name, width, colour in (
        ("95% interval, looked at again and again", 1.0, ORANGE),
        ("vt.StdErr", sequence, BLUE),
    ):
        missed = np.abs(mean - 0.2) > 1.96 * width * spread
        one.plot(n, np.maximum.accumulate(missed, axis=1).mean(axis=0), color=colour, lw=2, label=name)
    one.axhline(0.05, color=INK, lw=0.8, ls=":")
    one.set(xscale="log", ylim=(0, None))
    one.legend(frameon=False, loc="upper left")
    one.figure.savefig(IMAGES / "estimates.png")


def gradients() -> None:
    def probability(key, mu):
        return jnp.where(vt.draw(key, dist.Normal(mu, 1.0)) > 0, 1.0, 0.0)

    def plain(mu, key):
        return jnp.where(mu + jax.random.normal(key) > 0, 1.0, 0.0)

    places = jnp.linspace(-3, 3, 25)
    keys = jax.random.split(jax.random.key(0), len(places))
    found = jax.vmap(vt.grad(probability, num_samples=1000))(keys, places)
    fine = np.linspace(-3.2, 3.2, 200)
    one = axes(r"$\mu$", r"$\frac{d}{d\mu}\,P(z > 0)$")
    one.plot(fine, norm.pdf(fine), color=INK, lw=1.2, label="exact")
    one.errorbar(places, found.value, 1.96 * found.stderr, fmt="o", color=BLUE, ms=4, lw=1.2, label="vt.grad, 95%")
    one.plot(places, jax.vmap(jax.grad(plain))(places, keys), "x", color=ORANGE, ms=6, label="jax.grad")
    one.legend(frameon=False)
    one.figure.savefig(IMAGES / "gradients.png")


def tuning() -> None:
    def linked(key, logits):
        k1, k2 = jax.random.split(key)
        a = vt.draw(k1, dist.Bernoulli(logits=logits[0]), name="a").astype(float)
        n = vt.draw(k2, dist.Poisson(jnp.exp(logits[1] + a)), name="n").astype(float)
        return (a + n - 1.5) ** 2

    candidates = {
        "a": [vt.gradients.Score(), vt.gradients.DisARM()],
        "n": [vt.gradients.Score(), vt.gradients.Coupled()],
    }
    search = vt.tune(linked, candidates=candidates, progress=False)
    one = plot_tuning(search(jax.random.key(0), jnp.array([0.1, -0.2])), axes("", ""))
    one.figure.savefig(IMAGES / "tuning.png")


def subsets() -> None:
    items, draws = jnp.arange(1, 21), 2000
    one = axes("item", "inclusion probability")
    for law, colour in ((TopK, ORANGE), (ConditionalPoisson, BLUE)):
        choose = law(items / 4, 5)
        one.plot(items, choose.inclusion_probabilities(), color=colour, lw=1.5, label=law.__name__)
        found = jax.vmap(choose.sample)(jax.random.split(jax.random.key(5), draws)).mean(axis=0)
        bars = 1.96 * np.sqrt(found * (1 - found) / draws)
        one.errorbar(items, found, bars, fmt="o", color=colour, ms=4, lw=1.2)
    one.set(xticks=np.arange(1, 21), ylim=(0, 1))
    one.legend(frameon=False, loc="upper left")
    one.figure.savefig(IMAGES / "subsets.png")


def designs() -> None:
    def asian(key):
        moves = vt.draw(key, dist.Normal(jnp.zeros(12), 1.0))
        prices = 100 * jnp.exp(jnp.cumsum(0.2 / 12**0.5 * moves - 0.2**2 / 24))
        return jnp.maximum(prices.mean() - 100, 0)

    one = axes("runs", "error")
    truth = vt.expect(asian, method=Sobol(64), num_samples=2**22, block_size=2**14)(jax.random.key(1)).value
    sizes = 2 ** np.arange(7, 15)
    for method, name, colour in (
        (None, "independent", INK),
        (Antithetic(), "Antithetic", GREEN),
        (Scores(), "Scores", ORANGE),
        (Sobol(), "Sobol", BLUE),
    ):
        keys = jax.random.split(jax.random.key(2), 64)
        found = [jax.vmap(vt.expect(asian, method=method, num_samples=int(n), block_size=1024))(keys) for n in sizes]
        error = [np.sqrt(np.mean((np.asarray(f.value) - truth) ** 2)) for f in found]
        one.plot(sizes, error, "o-", color=colour, ms=4, lw=1.5, label=name)
        one.plot(sizes, [np.sqrt(np.mean(np.asarray(f.stderr) ** 2)) for f in found], ":", color=colour, lw=1.2)
    one.set(xscale="log", yscale="log")
    one.legend(frameon=False)
    one.figure.savefig(IMAGES / "designs.png")


def running() -> None:
    def walk(key):
        steps = jnp.cumsum(vt.draw(key, dist.Normal(jnp.zeros(64), 0.125)))
        return jnp.maximum(jnp.max(jnp.exp(steps)) - 1.5, 0.0)

    def estimate(**wanted):
        return vt.expect(walk, num_samples=30 * 2**12, runner=Runner(piece=2**12, **wanted))(jax.random.key(0))

    found = []
    with tempfile.TemporaryDirectory() as folder:
        while not found or not found[-1].converged:
            found.append(estimate(checkpoint=Path(folder) / "walk.npz", seconds=1e-9))
    n, value, error = (np.array([getattr(e, name) for e in found]) for name in ("num_samples", "value", "stderr"))
    whole = float(estimate().value)
    one = axes("samples", "expected payoff")
    one.errorbar(n, value, 1.96 * error, fmt="o", ms=4, lw=1, color=BLUE, label="interrupted, and gone on from")
    one.axhline(whole, color=ORANGE, lw=1.5, zorder=0, label=f"never interrupted: {whole!r}")
    one.plot(n[-1], value[-1], "o", ms=9, mfc="none", color=INK, label=f"the last of them: {float(value[-1])!r}")
    one.legend(frameon=False)
    one.figure.savefig(IMAGES / "running.png")


def mcmc() -> None:
    """Eight schools with scaled effects and with the effects themselves: where the draws are, and what diverges."""
    effects = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def schools(key, y, law):
        k1, k2, k3 = jax.random.split(key, 3)
        mu = vt.draw(k1, dist.Normal(0.0, 5.0), name="mu")
        tau = vt.draw(k2, dist.HalfCauchy(5.0), name="tau")
        vt.observe(dist.Normal(law(k3, mu, tau), errors), y)

    def scaled(key, mu, tau):
        return mu + tau * vt.draw(key, dist.Normal(0.0, 1.0).expand([8]), name="z")

    def themselves(key, mu, tau):
        return vt.draw(key, dist.Normal(mu, tau).expand([8]), name="theta")

    one = axes("mu", "tau")
    for law, color, name in ((scaled, BLUE, "effects scaled"), (themselves, ORANGE, "the effects themselves")):
        draws = vt.sample(jax.random.key(2), vt.condition(schools, effects, law))
        mu, tau, lost = (np.asarray(x) for x in (draws.values["mu"], draws.values["tau"], draws.divergent))
        doubt = "in doubt" if draws.doubts() else "nothing to doubt"
        one.plot(mu.ravel(), tau.ravel(), ".", ms=2, alpha=0.35, color=color)
        one.plot(mu[lost], tau[lost], "x", ms=6, mew=1.5, color=INK)
        one.plot([], [], "o", color=color, label=f"{name}: {doubt}, the least tau {tau.min():.3f}")
    one.set(yscale="log")
    one.legend(frameon=False, loc="lower left")
    one.figure.savefig(IMAGES / "mcmc.png")


def modes() -> None:
    """Where chains are, draw by draw: of four alone, and of one that is tempered."""
    means, weights = jnp.array([[-10.0, -10.0], [10.0, 10.0], [10.0, -10.0]]), jnp.array([0.5, 0.3, 0.2])

    def log_density(x):
        return jax.nn.logsumexp(jnp.log(weights) - 0.5 * jnp.sum((x - means) ** 2, -1))

    tempering = vt.mcmc.ParallelTempering(vt.mcmc.HMC(0.4, 5, 1.0), dist.Normal(0.0, 10.0).expand([2]))
    one = axes("draw", "first coordinate plus second")
    for kernel, color, name in ((None, ORANGE, "chains alone"), (tempering, BLUE, "a tempered chain")):
        draws = vt.sample(jax.random.key(1), log_density, jnp.zeros(2), kernel=kernel, num_samples=300)
        sums = np.asarray(draws.values).sum(-1)
        for chain in sums if kernel is None else sums[:1]:
            one.plot(chain, ".-", lw=0.4, ms=4, alpha=0.8, color=color)
        one.plot([], [], "o", color=color, label=name)
    one.set(ylim=(-28, 34))
    one.legend(frameon=False, loc="upper left", ncols=2)
    one.figure.savefig(IMAGES / "modes.png")


def denoising() -> None:
    """Draws of one target by taking noise away: exactly, and by the mean of what measurements leave open."""
    means, weights = jnp.array([[-10.0, -10.0], [10.0, 10.0], [10.0, -10.0]]), jnp.array([0.5, 0.3, 0.2])

    def smoothed(y, sigma):
        return jax.nn.logsumexp(jnp.log(weights) - 0.5 * jnp.sum((y - means) ** 2, -1) / (1 + sigma**2))

    exact = vt.mcmc.DenoisingLangevinGibbs(jnp.array([1.0, 20.0]), num_samples=300)
    biased = vt.mcmc.LogConcaveChain(15.0, 50, smoothed=smoothed, allow_bias=True)
    one = axes("first coordinate", "second")
    for kernel, color, name in ((exact, BLUE, "DenoisingLangevinGibbs"), (biased, ORANGE, "LogConcaveChain, biased")):
        draws = vt.sample(jax.random.key(2), lambda x: smoothed(x, 0), jnp.zeros(2), kernel=kernel, num_samples=250)
        one.plot(*np.asarray(draws.values).reshape(-1, 2).T, ".", ms=3, alpha=0.6, color=color)
        one.plot([], [], "o", color=color, label=name)
    one.set(xlim=(-18, 18), ylim=(-14, 14))
    one.legend(frameon=False, loc="upper left")
    one.figure.savefig(IMAGES / "denoising.png")


def distances() -> None:
    """Of one sample and others of which one coordinate of thirty is wider and wider."""
    x, y = np.random.default_rng(0).normal(size=(2, 400, 30)).astype(np.float32)
    scales, key = np.linspace(1, 2, 6), jax.random.key(1)
    wider = [np.concatenate([scale * y[:, :1], y[:, 1:]], axis=1) for scale in scales]
    one = axes("spread of one coordinate of thirty", "farthest line: W² at least")
    found = [max_sliced_wasserstein(x, each)(key).distance for each in wider]
    value, stderr = (np.array([float(getattr(each, what)) for each in found]) for what in ("value", "stderr"))
    one.errorbar(scales, value, 1.645 * stderr, fmt="o", ms=5, color=BLUE, label="the half that did not find the line")
    one.plot(np.linspace(1, 2), (np.linspace(1, 2) - 1) ** 2, color=INK, lw=1.5, label="the truth")
    statistics = {"Sliced": Sliced(), "MaxSliced": MaxSliced()}
    tests = {name: [two_sample_test(x, each, statistic=s)(key) for each in wider] for name, s in statistics.items()}
    seen = [float(test.distance) for test in tests["MaxSliced"]]
    one.plot(scales, seen, "x", ms=7, mew=2, color=ORANGE, label="all have, the maximum of the samples")
    for row, (name, found) in enumerate(tests.items()):
        for scale, test in zip(scales, found, strict=True):
            one.text(scale, -1.1 - 0.22 * row, f"{float(test.p_value):.3f}", ha="center", color=INK, fontsize=9)
        one.text(0.94, -1.1 - 0.22 * row, f"p, {name}", ha="right", color=INK, fontsize=9)
    one.set(xlim=(0.68, 2.06), ylim=(-1.45, None))
    one.legend(frameon=False, loc="upper left")
    one.figure.savefig(IMAGES / "distances.png")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for picture in (
        programs,
        estimates,
        designs,
        gradients,
        tuning,
        subsets,
        running,
        mcmc,
        modes,
        denoising,
        distances,
    ):
        picture()

"""Make the pictures of the examples, by their own code: `python docs/example_pictures.py`, or with names of pages."""

import contextlib
import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import variate as vt
from variate.gradients import GumbelSoftmax, NoBaseline, Score, SumAndSample

DOCS = Path(__file__).parent
INK, BLUE, ORANGE, GREEN, GREY = "#222222", "#2b6cb0", "#d9622b", "#2f855a", "#8a8a8a"
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
Page = dict[str, Any]


def run(name: str) -> Page:
    """All that the code of a page defines."""
    page: Page = {"__name__": name}
    with contextlib.redirect_stdout(io.StringIO()):
        for code in FENCE.findall(next(DOCS.rglob(f"{name}.md")).read_text(encoding="utf-8")):
            exec(compile(code, f"{name}.md", "exec"), page)
    return page


def panels(*widths: float, height: float = 3.6) -> tuple[plt.Figure, list[plt.Axes]]:
    mpl.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    ratios = {"width_ratios": widths}
    figure, axes = plt.subplots(1, len(widths), figsize=(9, height), dpi=150, layout="constrained", gridspec_kw=ratios)
    figure.patch.set_facecolor("white")
    return figure, list(axes)


def show(axes: plt.Axes, image: np.ndarray, **options: Any) -> None:
    axes.imshow(image, cmap="Greys", **options)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#cccccc")


def digits_categorical(page: Page) -> plt.Figure:
    rules = page["rules"] | {
        "Score(NoBaseline)": Score(NoBaseline()),
        "SumAndSample(2)": SumAndSample(2),
        "GumbelSoftmax(0.5)": GumbelSoftmax(0.5),
    }
    model, batch = page["trained"]["Enumerate"][0], page["batches"](3, 1)[0]
    colours = dict(zip(page["rules"], (INK, BLUE, GREEN, ORANGE), strict=True))
    figure, (left, right) = panels(1, 1, height=4)
    for name, rule in rules.items():
        gradient = page["gradients"].get(name) or page["gradient"](rule)
        _, variance, biased = page["measure"](gradient, model)
        spent = min(seconds(lambda g=gradient: g(jax.random.key(0), model, batch)) for _ in range(40))
        x, y, colour = (
            1e6 * spent / (page["BATCH"] * page["SAMPLES"]),
            float(np.sqrt(variance)),
            colours.get(name, GREY),
        )
        left.plot(x, y, "o", color=colour, ms=7, mfc="white" if biased else colour)
        across, up, side = PLACES.get(name, (9, 0, "left"))
        options = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 9}
        left.annotate(name, (x, y), xytext=(across, up), color=colour, **options)
    times = np.geomspace(1, 40, 20)
    for product in 10.0 ** np.arange(-1, 8):
        left.plot(times, np.sqrt(product / times), color=GREY, lw=0.5, ls=":", zorder=0)
    left.set(xscale="log", yscale="log", xlim=(1, 25), ylim=(0.7, 120))
    left.set(xlabel="microseconds a run", ylabel="noise of a run's gradient", xticks=(1, 2, 5, 10, 20))
    left.xaxis.set_major_formatter("{x:.0f}")
    left.xaxis.set_minor_formatter("")
    for name, gradient in page["gradients"].items():
        curve = bounds(page, gradient, 800)
        smooth = np.convolve(curve, np.ones(40) / 40, mode="valid")
        right.plot(np.arange(len(smooth)) + 20, smooth, color=colours[name], lw=1.5, label=name)
    right.set(xlabel="step", ylabel="negative bound, nats", ylim=(None, 24))
    right.legend(frameon=False)
    return figure


# Where the names of points that lie close to each other go.
PLACES = {
    "Rebar": (9, 4, "left"),
    "Score(LeaveOneOut)": (-9, 2, "right"),
    "GumbelSoftmax(0.5)": (-9, 4, "right"),
    "StraightThrough": (-9, -4, "right"),
}


def seconds(f: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f())
    return time.perf_counter() - start


def bounds(page: Page, gradient: Callable[..., Any], steps: int) -> list[float]:
    model, state, found = page["start"], page["optimizer"].init(page["start"]), []
    for n, batch in enumerate(page["batches"](1, steps)):
        bound, slopes = gradient(jax.random.key(n), model, batch)
        model, state = page["improve"](model, state, slopes.value)
        found.append(float(np.mean(bound.value)))
    return found


def epidemic(page: Page) -> plt.Figure:
    figure, (left, middle, right) = panels(1, 1, 1)
    days = np.arange(1, page["DAYS"] + 1)
    rates, _ = page["fits"][0]
    keys = jax.random.split(jax.random.key(9), 60)
    for curve in jax.vmap(page["epidemic"], in_axes=(0, None))(keys, rates):
        left.plot(days, curve, color=BLUE, alpha=0.12, lw=1)
    left.plot(days, page["outbreaks"][0], "o", color=ORANGE, ms=4)
    left.set(xlabel="day", ylabel="ill")
    found = np.array([fit[0] for fit in page["fits"]])
    errors = np.array([fit[1] for fit in page["fits"]])
    low, high = (np.exp(found) - np.exp(found + sign * 2 * errors) for sign in (-1, 1))
    middle.errorbar(*np.exp(found).T, xerr=(low[:, 0], -high[:, 0]), yerr=(low[:, 1], -high[:, 1]), fmt="o", color=BLUE)
    for bars in middle.containers[0].lines[2]:
        bars.set(linewidth=0.8, alpha=0.6)
    middle.plot(*np.exp(page["truth"]), "*", color=ORANGE, ms=14, zorder=5)
    middle.set(xlabel="infections a day", ylabel="recoveries a day")
    for name, slopes, number, colour in (
        ("Score", page["score"], 512, BLUE),
        ("Coupled", page["coupled"], 256, GREEN),
    ):
        right.plot(days, np.sqrt(number * np.sum(slopes.stderr**2, axis=1)), "o-", ms=4, color=colour, label=name)
    right.set(yscale="log", ylim=(0.3, None), xlabel="day", ylabel="noise of the slope")
    right.legend(frameon=False, loc="lower right")
    return figure


def sub_sampling(page: Page) -> plt.Figure:
    random = [page["mean_error"](choice, page["held_out_products"]) for choice in choices(2000, page["SENSORS"])]
    figure, (left, right) = panels(1.25, 1)
    left.hist(random, bins=40, color="#cccccc")
    marks = (("greedy", page["stepwise"], INK), ("learned", page["through"], BLUE))
    left.set_ylim(0, 1.35 * left.get_ylim()[1])
    for row, (name, value, colour) in enumerate((*marks, ("learned by Enumerate", page["enumerated"], ORANGE))):
        left.axvline(value, color=colour, lw=1.5)
        place, side = left.get_ylim()[1] * (0.97 - 0.08 * row), "right" if row < 2 else "left"
        left.text(value + (0.02 if side == "left" else -0.02), place, name, color=colour, va="top", ha=side)
    left.set(xlabel="error of held-out images", ylabel="random choices of 2000", xlim=(1.8, None))
    right.axis("off")
    pixels = page["learned"][page["StraightThrough"]()][0]
    mean = page["images"][:1400].mean(axis=0)
    inner = right.get_subplotspec().subgridspec(3, 4, height_ratios=(1.9, 1, 1))
    top = figure.add_subplot(inner[0, 1:3])
    show(top, page["train"].var(axis=0).reshape(8, 8))
    top.plot(pixels % 8, pixels // 8, "s", color=BLUE, ms=6, mfc="none", mew=1.8)
    for column, digit in enumerate((3, 11, 28, 60)):
        x = page["held_out"][digit]
        for row, shown in enumerate((x, x[pixels] @ best_map(page["train"], pixels))):
            show(figure.add_subplot(inner[1 + row, column]), (shown + mean).reshape(8, 8), vmin=0, vmax=1)
    return figure


def choices(number: int, size: int) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.choice(64, size, replace=False) for _ in range(number)]


def best_map(train: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(train[:, pixels], train, rcond=None)[0]


def sparsity(page: Page) -> plt.Figure:
    networks = [page["trained"](jax.random.key(seed)) for seed in range(1, 11)]
    figure, axes = panels(1, 1)
    dense = np.mean([page["accuracy"](network, np.ones((64, page["HIDDEN"]))) for network in networks])
    for one, keep in zip(axes, (2, 1), strict=True):
        found = [page["accuracies"](network, keep) for network in networks]
        for place, (name, colour) in enumerate(zip(found[0], (BLUE, GREEN, ORANGE, GREY), strict=True)):
            values = np.array([float(each[name]) for each in found])
            one.hlines(values.mean(), place - 0.35, place + 0.35, color=colour, lw=2)
            one.plot(place + np.linspace(-0.2, 0.2, len(values)), values, "o", color=colour, ms=3.5, alpha=0.6, mew=0)
            one.text(place, 0.43, f"{values.mean():.2f}", ha="center", color=colour)
        one.axhline(dense, color=INK, lw=0.8, ls=":")
        one.set(ylim=(0.4, 1), xlim=(-0.5, 3.5), xticks=range(4), ylabel="held-out accuracy")
        one.set_xticklabels(found[0])
        one.set_title(f"{keep} of 4 weights kept; dotted: all", loc="left", fontsize=10)
    return figure


def reward_to_go(page: Page) -> plt.Figure:
    figure, (left, right) = panels(1, 1)
    styles = ((page["episode"], "reward to go", BLUE), (page["whole_return"], "whole return", ORANGE))
    for f, name, colour in styles:
        lengths = np.array([page["train"](f, seed, 100)[1] for seed in range(10)])
        left.fill_between(range(100), lengths.min(axis=0), lengths.max(axis=0), color=colour, alpha=0.15, lw=0)
        left.plot(lengths.mean(axis=0), color=colour, lw=2, label=name)
    left.set(xlabel="step of training", ylabel="length of an episode", ylim=(0, 102))
    left.legend(frameon=False, loc="lower right")
    steps = range(0, 61, 10)
    policies = [page["train"](page["episode"], 0, n)[0] if n else page["policy"] for n in steps]
    for f, name, colour in styles:
        right.plot(steps, [page["variance"](f, policy) for policy in policies], "o-", color=colour, label=name)
    right.set(yscale="log", xlabel="step of training (reward to go)", ylabel="variance of an episode's gradient")
    return figure


def topics(page: Page) -> plt.Figure:
    figure, (left, right) = panels(1.3, 1, height=3)
    left.axis("off")
    inner = left.get_subplotspec().subgridspec(2, 4)
    stages = [(n, page["train"](page["gradients"]["Pathwise"], page["start"], n)[0]) for n in (1, 50, 150, 400, 1000)]
    for place, row in enumerate(np.asarray(jax.nn.softmax(stages[-1][1][0]))):
        show(figure.add_subplot(inner[place // 4, place % 4]), row.reshape(8, 8))
    for (name, gradient), colour in zip(page["gradients"].items(), (BLUE, GREEN, ORANGE), strict=True):
        noise = [page["noise"](gradient, model) for _, model in stages]
        right.plot([n for n, _ in stages], noise, "o-", color=colour, label=name, ms=4)
    right.set(xscale="log", ylim=(0, None), xlabel="step of training", ylabel="noise of a run's gradient")
    right.legend(frameon=False)
    return figure


def failure(page: Page) -> plt.Figure:
    figure, (left, right) = panels(1, 1.2)
    z, margin = page["z"], page["margin"]
    left.contourf(z, z, margin, levels=[-20, -2, 0], colors=[ORANGE, "#f2c9b4"])
    normal = np.asarray(jax.random.normal(jax.random.key(2), (2000, 2)))
    left.plot(*normal.T, ".", color=INK, ms=1)
    left.set(xlim=(-7, 7), ylim=(-7, 7), aspect="equal", xlabel="first load", ylabel="second load")
    left.set_title("Short by 0, by 2, and 2,000 runs", loc="left", fontsize=10)
    shorts = np.linspace(-1, 4, 11)
    right.plot(shorts, [page["density"][margin < -short].sum() for short in shorts], color=INK, lw=1)
    found = [page["exceedance"](page["overload"], float(short))(page["key"]) for short in shorts]
    ends = np.array([each.interval() for each in found])
    right.vlines(shorts, ends[:, 0], ends[:, 1], color=BLUE, lw=2)
    right.plot(shorts, [float(each.value) for each in found], "o", color=BLUE, ms=4, label="exceedance")
    values = page["vt"].expect(lambda key: page["overload"](key) > shorts, num_samples=700_000)(page["key"]).value
    seen = np.asarray(values) > 0
    right.plot(shorts[seen], np.asarray(values)[seen], "x", color=ORANGE, ms=6, label="as many independent runs")
    right.set(yscale="log", xlabel="margin short by", ylabel="probability")
    right.legend(frameon=False)
    return figure


def levels(page: Page) -> plt.Figure:
    figure, (left, right) = panels(1, 1)
    price, truth = page["price"], float(page["exact"](0.1))
    places = np.arange(len(price.runs))
    left.plot(places, price.variances, "o-", color=BLUE, ms=4, label="variance of what a level adds")
    left.plot(places, np.abs(price.means), "o-", color=GREEN, ms=4, label="its mean")
    left.set(yscale="log", xlabel="level", xticks=places)
    left.legend(frameon=False)
    errors, costs, finest = [], [], []
    for rmse in 10.0 ** -np.arange(2.5, 4.1, 0.25):
        run = page["multilevel"](page["bond"], rmse=float(rmse), block_size=2048)
        found = [run(key, 0.1) for key in jax.random.split(page["key"], 16)]
        errors.append(np.sqrt(np.mean([(float(each.value) - truth) ** 2 for each in found])))
        costs.append(np.mean([np.sum(2.0 ** np.arange(len(each.runs)) * each.runs) for each in found]))
        # As many runs at the last level as bring the variance of their mean to half of rmse².
        finest.append(np.mean([2.0 ** (len(each.runs) - 1) * 2 * float(each.variances[0]) / rmse**2 for each in found]))
    right.plot(errors, finest, "o-", color=ORANGE, ms=4, label="all runs at the last level")
    right.plot(errors, costs, "o-", color=BLUE, ms=4, label="multilevel")
    right.set(xscale="log", yscale="log", xlabel="root mean square error", ylabel="steps of paths")
    right.legend(frameon=False)
    return figure


def borehole(page: Page) -> plt.Figure:
    figure, (left, right) = panels(1.4, 1)
    names, places = list(page["INPUTS"]), np.arange(len(page["INPUTS"]))[::-1]
    for kind, colour, shift in (("first", BLUE, 0.2), ("total", ORANGE, -0.2)):
        shares = [float(page["found"].value[kind][name]) for name in names]
        errors = [1.96 * float(page["found"].stderr[kind][name]) for name in names]
        left.barh(places + shift, shares, 0.36, xerr=errors, color=colour, label=kind)
    left.set(yticks=places, yticklabels=names, xlabel="share of the variance")
    left.legend(frameon=False, loc="lower right")
    q = np.linspace(0.005, 0.995, 199)
    for count, colour in ((300, GREY), (10_000, BLUE)):
        low, high = page["quantile"](page["flow"], list(q), num_samples=count)(page["key"]).interval()
        right.fill_betweenx(
            q, np.maximum(low, 0), np.minimum(high, 300), color=colour, alpha=0.5, lw=0, label=f"{count:,} draws"
        )
    right.set(xlabel="flow", ylabel="probability of no more", xlim=(0, 250), ylim=(0, 1))
    right.legend(frameon=False, loc="lower right")
    return figure


def image_sets(page: Page) -> plt.Figure:
    figure, (left, right) = panels(1.6, 1)
    for place, (name, images) in enumerate((page["drawn"] | {"real ones": page["train"]}).items()):
        found = page["sliced_wasserstein"](page["real"], images)(page["keys"][1])
        test = page["two_sample_test"](page["real"], images, num_permutations=199)(page["keys"][2])
        low, high = float(test.permuted.min()), float(test.permuted.max())
        left.fill_between([place - 0.3, place + 0.3], low, high, color=GREY, alpha=0.5, lw=0)
        colour = ORANGE if "real" in name else BLUE
        left.errorbar(place, found.value, 1.96 * found.stderr, fmt="o", color=colour, capsize=4)
    names = [name.replace(" ", "\n") for name in [*page["drawn"], "real ones"]]
    left.set(yscale="log", ylabel="distance to real digits", xticks=range(len(names)), xticklabels=names)
    images = np.asarray(page["drawn"]["16 components"])[:20].reshape(4, 5, 8, 8)
    images = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    show(right, np.block([list(row) for row in images]))
    return figure


def option(page: Page) -> plt.Figure:
    figure, both = panels(1, 1)
    spots = np.linspace(86.0, 120.0, 18)
    for label, colour, rule in (("right", BLUE, page["MeasureValued"]()), ("path by path", ORANGE, page["Pathwise"]())):
        greeks = vt.grad(page["option"], argnums=(1, 2), rules={"level": rule}, allow_bias=True, num_samples=4_096)
        found = [greeks(page["key"], float(spot), 0.25) for spot in spots]
        values, errors = (np.array([getattr(each, name) for each in found]) for name in ("value", "stderr"))
        for axes, value, error in zip(both, values.T, errors.T, strict=True):
            axes.plot(spots, value, color=colour, lw=2, label=label)
            axes.fill_between(spots, value - 1.96 * error, value + 1.96 * error, color=colour, alpha=0.2, lw=0)
    for axes, name in zip(both, ("delta", "vega"), strict=True):
        axes.axvline(page["BARRIER"], color=GREY, ls=":")
        axes.set(xlabel="price of the share", ylabel=name)
    both[0].legend(frameon=False)
    return figure


def certification(page: Page) -> plt.Figure:
    figure, both = panels(1, 1)
    distances = np.linspace(0, 0.8, 200)
    for one, samples in zip(both, (1000, 10_000), strict=True):
        for name, colour in zip(page["WAYS"], (ORANGE, BLUE, GREEN), strict=True):
            shares = [np.mean(page["radii"][name, samples] >= distance) for distance in distances]
            one.plot(distances, shares, color=colour, lw=2, label=name)
        one.set(xlabel="radius", ylim=(0, 1), ylabel="right and certified")
        one.set_title(f"{samples:,} samples", loc="left", fontsize=10)
    both[0].legend(frameon=False)
    return figure


def evidence(page: Page) -> plt.Figure:
    figure, both = panels(1, 1)
    learnt = page["adapt"](page["both"], "weights", scheme=page["SCHEME"])(page["learning"])
    keys, places = jax.random.split(page["using"], 24), np.arange(24)
    ways = (("from the prior", (), ORANGE), ("from a learnt proposal", learnt, BLUE))
    for axes, (name, method, colour) in zip(both, ways, strict=True):
        run = vt.expect(page["both"], method=method, function=page["log_evidence"], num_samples=4_000)
        found = jax.jit(lambda keys, run=run: jax.lax.map(run, keys))(keys)
        values, errors = (np.asarray(each)[:, 1] for each in (found.value, found.stderr))
        stated = np.isfinite(errors)
        axes.plot(places, values, "o", color=colour, ms=4)
        axes.errorbar(places[stated], values[stated], 1.96 * errors[stated], fmt="none", color=colour, lw=1.5)
        axes.axhline(float(page["exact"](5)), color=INK, lw=0.8)
        axes.set(xlabel="estimate, of 4,000 runs", ylabel="log evidence", xticks=[])
        axes.set_title(name, loc="left", fontsize=10)
    return figure


def failed_run(page: Page) -> plt.Figure:
    """Both parametrizations where the funnel is: the logarithm of the scale, and a coefficient without data."""
    figure, both = panels(1, 1, height=4)
    draws, repaired = page["draws"], page["repaired"]
    scaled = repaired.values["scale"][..., None] * repaired.values["z"]
    shown = (("as it was", draws, draws.values["b"], ORANGE), ("repaired", repaired, scaled, BLUE))
    for axes, (name, run_, b, colour) in zip(both, shown, strict=True):
        log_scale, lost = np.log(run_.values["scale"]), run_.divergent
        axes.plot(b[..., 7].ravel(), log_scale.ravel(), ".", ms=2, alpha=0.35, color=colour)
        axes.plot(b[lost, 7], log_scale[lost], "x", ms=6, mew=1.5, color=INK)
        axes.set(xlabel="a coefficient without data", ylabel="log scale", xlim=(-6, 6), ylim=(-8.5, 3))
        found = f"{lost.sum()} diverged, {'in doubt' if run_.doubts() else 'nothing is found'}"
        axes.set_title(f"{name}: {found}", loc="left", fontsize=10)
    return figure


PICTURES = {
    "failed-run": failed_run,
    "digits-categorical": digits_categorical,
    "epidemic": epidemic,
    "sub-sampling": sub_sampling,
    "sparsity": sparsity,
    "reward-to-go": reward_to_go,
    "topics": topics,
    "borehole": borehole,
    "certification": certification,
    "evidence": evidence,
    "failure": failure,
    "levels": levels,
    "option": option,
    "image-sets": image_sets,
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or PICTURES:
        PICTURES[chosen](run(chosen)).savefig(DOCS / "images" / f"{chosen}.png")

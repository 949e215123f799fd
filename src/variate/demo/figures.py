"""The pictures of the demo, each drawn into a figure or a part of one; matplotlib is loaded when one is drawn."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from variate.demo.comparison import Comparison
from variate.demo.discontinuity import SPEED, Discontinuity, exact
from variate.demo.training import Album, Training

BLUE, RED, GREEN, PURPLE, GREY, INK = "#2f6db3", "#d1495b", "#2a9d6f", "#7d5ba6", "#b9bec5", "#22262b"
COLOURS = (GREY, BLUE, GREEN, PURPLE)
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a9099",
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "savefig.facecolor": "white",
}

Draw = Callable[[Any], None]  # what draws into a figure or a part of one


def png(draw: Draw, width: float, height: float) -> bytes:
    """A picture of that many hundreds of pixels."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def training(found: Training) -> Draw:
    """The bound of the training images in every pass, and that of the held-out ones with error bars."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(range(1, len(found.train_bounds) + 1), found.train_bounds, color=GREY, lw=2, label="training")
        epochs = [epoch for epoch, _ in found.held_out]
        values = np.array([bound.value for _, bound in found.held_out], float)
        errors = np.array([bound.stderr for _, bound in found.held_out], float)
        axes.errorbar(epochs, values, 1.96 * errors, fmt="o-", color=BLUE, ms=5, capsize=3, label="held out, 95%")
        axes.axhline(found.independent, color=RED, ls=":", lw=1.5)
        axes.text(0, found.independent + 0.6, "independent pixels", color=RED)
        for i, (x, y, align) in {0: (12, -4, "left"), -1: (0, 10, "right")}.items():
            text, at = f"{values[i]:.2f} ± {errors[i]:.2f}".replace("-", "−"), (epochs[i], values[i])
            axes.annotate(text, at, (x, y), textcoords="offset points", ha=align, color=BLUE, weight="bold")
        axes.set(xlabel="passes over the training images", ylabel="bound, nats per image")
        axes.set_title("64 Bernoulli latents learn")
        axes.set_xscale("symlog", base=2, linthresh=1)
        axes.set(xticks=epochs, xticklabels=epochs, xlim=(-0.2, 1.3 * max(epochs[-1], 1)))
        axes.set_ylim(min(values.min(), found.independent) - 3, values.max() + 5)
        axes.legend(loc="center right")

    return draw


def digits(album: Album) -> Draw:
    """Held-out digits, what the autoencoder gives back of them, and what it makes up."""

    def row(images: Any) -> np.ndarray:
        return np.concatenate([np.pad(np.asarray(image).reshape(8, 8), 1) for image in images], axis=1)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        made_up = np.split(np.asarray(album.samples), 3)
        rows = [row(images) for images in (album.images, album.reconstructions, *made_up)]
        gap = np.zeros((4, rows[0].shape[1]))
        axes.imshow(np.concatenate([*rows[:2], gap, *rows[2:]]), cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[5, 15, 39], yticklabels=["held out", "given back", "made up"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title("Digits never seen, and digits that never were")

    return draw


def rules(found: Comparison) -> Draw:
    """The gradient by every rule around the exact one, and what each costs."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
        places = np.arange(len(found.exact))
        left.hlines(
            found.exact,
            places - 0.45,
            places + 0.45,
            color=INK,
            lw=1.3,
            label=f"exact, {2 ** len(places):,} outcomes summed",
        )
        for i, (entry, colour) in enumerate(zip(found.entries, COLOURS, strict=False)):
            style = {"fmt": "o", "ms": 3.5, "color": colour, "capsize": 2, "lw": 1.6, "label": entry.rule}
            left.errorbar(places + 0.2 * (i - 1.5), entry.value, 1.96 * entry.stderr, **style)
        left.set(xlabel="bias of the encoder", ylabel="derivative of the bound, 95%", xticks=places)
        left.set_title(f"One gradient by every legal rule, {found.num_samples:,} runs each")
        left.legend(fontsize=9, loc="upper right")
        left.set_ylim(top=1.25 * left.get_ylim()[1])
        costs = np.array([entry.variance_times_time for entry in found.entries])
        relative = costs / costs.min()
        names = [entry.rule.replace("(", "\n(") for entry in found.entries]
        bars = right.barh(names, relative, color=COLOURS[: len(names)], log=True)
        right.bar_label(bars, [f"{x:,.1f}" if x < 10 else f"{x:,.0f}" for x in relative], padding=4)
        right.set(xlim=(0.5, 8 * relative.max()), title="Variance × time", xlabel="over the best; less is better")
        right.invert_yaxis()

    return draw


def discontinuity(found: Discontinuity) -> Draw:
    """The derivative over speeds, and the way down that it shows."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        fine = np.linspace(found.speeds[0], found.speeds[-1], 300)
        left.axhline(0, color=GREY, lw=1)
        left.plot(fine, exact(fine)[1], color=INK, lw=1.3, label="exact")
        left.plot(found.speeds, found.plain.value, "s", ms=4, color=RED, label="jax.grad, ± 0")
        bars = 1.96 * np.asarray(found.gradient.stderr, float)
        style = {"fmt": "o", "ms": 4, "color": BLUE, "capsize": 2, "label": "vt.grad, 95%"}
        left.errorbar(found.speeds, found.gradient.value, bars, **style)
        left.set(xlabel="speed", ylabel="derivative of the expected cost", title="A fine for lateness")
        left.legend(fontsize=9, loc="lower right")
        wide = np.linspace(0.45, 3.6, 300)
        right.plot(wide, exact(wide)[0], color=INK, lw=1.3)
        for path, colour, name in ((found.plain_descent, RED, "jax.grad"), (found.descent, BLUE, "vt.grad")):
            ends = path[[0, -1]].astype(float)
            heights = exact(path.astype(float))[0]
            right.plot(path, heights, color=colour, lw=5, alpha=0.35, solid_capstyle="round")
            right.plot(ends[-1], heights[-1], "o", color=colour, ms=8)
            text, at = f"{name} ends\nat {heights[-1]:.1f}", (ends[-1], heights[-1])
            place = {"ha": "left", "xytext": (-4, -62)} if colour == RED else {"ha": "center", "xytext": (0, -12)}
            right.annotate(text, at, textcoords="offset points", va="top", color=colour, weight="bold", **place)
        at = SPEED, exact(np.asarray(SPEED))[0]
        right.plot(*at, "o", color=INK, ms=6)
        right.annotate("start", at, (8, 4), textcoords="offset points")
        right.set(xlabel="speed", ylabel="expected cost", title="Descending each", ylim=(0, None))

    return draw


def summary(parts: list[Draw]) -> Draw:
    """Four pictures in one."""

    def draw(figure: Any) -> None:
        top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.06], hspace=0.04)
        upper = top.subfigures(1, 2, width_ratios=[1, 1], wspace=0.03)
        lower = bottom.subfigures(1, 2, width_ratios=[1.12, 1], wspace=0.03)
        for part, place in zip(parts, (*upper, *lower), strict=True):
            part(place)

    return draw

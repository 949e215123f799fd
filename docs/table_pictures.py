"""Make the pictures of committed tables: `python docs/table_pictures.py`."""

import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

IMAGES = Path(__file__).parent / "images"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
INK, BLUE, ORANGE, GREEN, GREY = "#222222", "#2b6cb0", "#d9622b", "#2f855a", "#718096"
KINDS = {  # of kernels: by paths, by one gradient, by none
    BLUE: ("NUTS", "MAMS", "ChEES", "HMC, 8 steps"),
    GREEN: ("MALA", "Barker"),
    ORANGE: ("Slice", "HitAndRun", "ParallelTempering"),
}
MARKS = "oDs^vP*"


def samplers() -> None:
    """The committed table of `benchmarks/diffusion.py`, seen: a row of pictures for each guidance."""
    found = json.loads((RESULTS / "diffusion.json").read_text())["sections"]["Distance from the exact end"]
    names = list(dict.fromkeys(row["problem"] for row in found))
    scales = sorted({row["guidance"] for row in found})
    figure, places = plt.subplots(
        len(scales), len(names), figsize=(10, 6.6), dpi=150, layout="constrained", sharex=True, squeeze=False
    )
    lines = ("diffusers", GREY), ("by formula", GREEN), ("fitted", ORANGE)
    for line, scale in zip(places, scales, strict=True):
        for place, name in zip(line, names, strict=True):
            rows = [row for row in found if (row["problem"], row["guidance"]) == (name, scale)]
            rows.sort(key=lambda row: row["evaluations"])
            for i, (label, color) in enumerate(lines):
                some = [
                    (row["evaluations"], row["best"]["rms"][i]["rms"]) for row in rows if i < len(row["best"]["rms"])
                ]
                if some:
                    place.loglog(*zip(*some, strict=True), "o-", color=color, label=label, markersize=4)
            place.set(ylim=(3e-4, 2), xlim=(4.5, 56), yscale="log", xscale="log")
            place.set_xticks((5, 10, 20, 50), ("5", "10", "20", "50"))
            place.minorticks_off()
            if not rows:
                place.set_yticks(())
                place.text(0.5, 0.5, "not run", ha="center", va="center", transform=place.transAxes, color=GREY)
        line[0].set_ylabel(f"guidance {scale:g}")
    for place, name in zip(places[0], names, strict=True):
        place.set_title(name, fontsize=11)
    places[0, 0].legend(frameon=False, fontsize=9)
    figure.supxlabel("evaluations of the model", fontsize=11)
    figure.supylabel("distance from the exact end", fontsize=11)
    figure.savefig(IMAGES / "diffusion-samplers.png")


def kernels() -> None:
    """The committed table of `benchmarks/kernels.py`: hollow where the runs are in doubt."""
    found = json.loads((RESULTS / "kernels.json").read_text())["sections"]
    (rows,) = ({row["program"]: row["cells"] for row in section} for section in found.values())
    targets = list(dict.fromkeys(target for cells in rows.values() for target in cells))
    figure, one = plt.subplots(figsize=(8, 4.6), dpi=150, layout="constrained")
    for color, names in KINDS.items():
        for mark, name in zip(MARKS, (name for name in names if name in rows), strict=False):
            for target, cell in rows[name].items():
                if cell["rate"] is not None:
                    inside = "none" if cell["doubted"] >= 2 else color  # of three runs
                    place = cell["rate"], -targets.index(target)
                    one.scatter(*place, s=42, linewidths=1.2, facecolors=inside, edgecolors=color, marker=mark)
            one.scatter([], [], s=42, color=color, marker=mark, label=name)
    one.set(xscale="log", xlabel="effective draws for a thousand evaluations of the density or its gradient")
    one.set_yticks([-i for i in range(len(targets))], targets)
    one.grid(axis="y", color="#dddddd", lw=0.6)
    one.set_axisbelow(True)
    figure.legend(frameon=False, fontsize=9, loc="outside right center")
    figure.savefig(IMAGES / "kernels.png")


if __name__ == "__main__":
    mpl.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    samplers()
    kernels()

"""Draws rows of results, which stdin has as JSON: plot.py OUT.svg. Needs matplotlib."""

import json
import sys

import matplotlib

matplotlib.use("svg")
# The same bytes for the same figures; text stays text.
matplotlib.rcParams.update({"svg.hashsalt": "polychord", "svg.fonttype": "none", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

REFERENCE = "llama.cpp"
# In the order of the bars.
COLORS = {
    "polychord wasmtime int8": "#1f77b4",
    "polychord wasmer int8": "#2ca02c",
    "polychord wasmedge int8": "#d62728",
    "polychord wasmtime f32": "#aec7e8",
    "polychord wasmer f32": "#98df8a",
    "polychord wasmedge f32": "#ff9896",
    "candle": "#8c6d31",
    "wllama": "#7f7f7f",
    "wllama compat": "#c7c7c7",
}
WIDTH = 0.09


def draw(axes, rows, measure):
    """Speeds relative to llama.cpp, in groups by type and threads."""
    labels, drawn = [], set()
    for number, group in enumerate(dict.fromkeys(map(group_of, rows))):
        found = {row["program"]: row for row in rows if group_of(row) == group}
        names = [name for name in COLORS if found.get(name, {}).get(f"{measure}/{REFERENCE}")]
        for place, name in enumerate(names):
            at = number + (place - (len(names) - 1) / 2) * WIDTH
            # A name that begins with _ is not in the legend.
            label = f"_{name}" if name in drawn else name
            axes.bar(at, found[name][f"{measure}/{REFERENCE}"], WIDTH, label=label, color=COLORS[name])
            drawn.add(name)
        labels.append(label_of(group, found.get(REFERENCE), measure))
    axes.axhline(1, color="#555555", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylabel(f"{measure}, {REFERENCE} = 1")
    axes.spines[["top", "right"]].set_visible(False)


def group_of(row):
    return row["model"], row["threads"]


def label_of(group, reference, measure):
    model, threads = group
    speed = f"\n(1 = {reference[measure]:.0f} tokens/s)" if reference else ""
    return f"{model}, {threads} thread{'s' if threads > 1 else ''}{speed}"


def main():
    rows = json.load(sys.stdin)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(12, 7), layout="constrained")
    draw(top, rows, "decode")
    draw(bottom, rows, "prompt")
    top.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    figure.savefig(sys.argv[1], metadata={"Date": None})


main()

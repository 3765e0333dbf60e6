"""Draws what scripts/soak has kept of its rounds: soak_chart.py WHAT SAMPLES... >docs/soak.svg.

WHAT begins the title. Of several files, the end of each name (`samples.wasmtime`) says what it is of.
"""

import json
import sys
from pathlib import Path

WIDTH, LEFT, RIGHT, ROW, TOP = 760, 190, 20, 92, 34
ROWS = [("memory", "resident memory, MiB", 2**20), ("descriptors", "descriptors", 1), ("mappings", "mappings", 1), ("threads", "threads", 1)]
COLORS = ["#2563a8", "#2ca02c", "#d62728"]
# Most points of a line: of the rounds between two, the largest value is drawn.
POINTS = 300

what, *names = sys.argv[1:]
series = [[json.loads(line) for line in open(name)] for name in names]
minutes = max(samples[-1]["seconds"] for samples in series) / 60


def thinned(samples, key):
    size = -(-len(samples) // POINTS)
    parts = [samples[at : at + size] for at in range(0, len(samples), size)]
    return [(part[0]["seconds"] / 60, max(it[key] for it in part)) for part in parts]


def row(index, key, name, unit):
    values = [it[key] / unit for samples in series for it in samples]
    top = max(values) * 1.15
    base, height = TOP + (index + 1) * ROW - 22, ROW - 34
    yield f'<text x="{LEFT - 10}" y="{base - height / 2:.0f}" text-anchor="end" class="name">{name}</text>'
    yield f'<text x="{LEFT - 10}" y="{base - height / 2 + 16:.0f}" text-anchor="end">{min(values):,.0f} to {max(values):,.0f}</text>'
    yield f'<path d="M{LEFT} {base}H{WIDTH - RIGHT}" class="axis"/>'
    for samples, color in zip(series, COLORS):
        points = " ".join(
            f"{LEFT + (WIDTH - LEFT - RIGHT) * at / minutes:.1f},{base - height * value / unit / top:.1f}"
            for at, value in thinned(samples, key)
        )
        yield f'<polyline points="{points}" stroke="{color}"/>'


height = TOP + len(ROWS) * ROW + 24
rounds = sum(map(len, series))
print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{what}, {minutes:.0f} minutes">')
print("<style>text{font:12px sans-serif;fill:#555}.name{fill:#222}.title{font-size:15px;fill:#222}polyline{fill:none;stroke-width:1.5}.axis{stroke:#bbb}</style>")
print(f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>')
each = "" if len(series) == 1 else " each"
print(f'<text x="20" y="22" class="title">{what}: {rounds:,} rounds in {minutes:.0f} minutes{each}</text>')
for index, (key, name, unit) in enumerate(ROWS):
    print("\n".join(row(index, key, name, unit)))
y = TOP + len(ROWS) * ROW + 8
print(f'<text x="{LEFT}" y="{y}">0</text><text x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">{minutes:.0f} minutes</text>')
if len(series) > 1:
    for index, (name, color) in enumerate(zip(names, COLORS)):
        x = LEFT + 60 + 110 * index
        print(f'<path d="M{x} {y - 4}h20" stroke="{color}" stroke-width="2"/><text x="{x + 26}" y="{y}">{Path(name).suffix.lstrip(".")}</text>')
print("</svg>")

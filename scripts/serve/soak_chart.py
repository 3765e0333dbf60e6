"""Draws what scripts/soak has kept of its rounds: soak_chart.py SAMPLES >docs/soak.svg."""

import json
import sys

WIDTH, LEFT, RIGHT, ROW, TOP = 760, 190, 20, 92, 34
ROWS = [("memory", "resident memory, MiB", 2**20), ("descriptors", "descriptors", 1), ("mappings", "mappings", 1), ("threads", "threads", 1)]

samples = [json.loads(line) for line in open(sys.argv[1])]
minutes = samples[-1]["seconds"] / 60


def row(index, key, name, unit):
    values = [it[key] / unit for it in samples]
    top = max(values) * 1.15
    base, height = TOP + (index + 1) * ROW - 22, ROW - 34
    at = lambda it, value: f"{LEFT + (WIDTH - LEFT - RIGHT) * it['seconds'] / 60 / minutes:.1f},{base - height * value / top:.1f}"
    points = " ".join(at(it, value) for it, value in zip(samples, values))
    yield f'<text x="{LEFT - 10}" y="{base - height / 2:.0f}" text-anchor="end" class="name">{name}</text>'
    yield f'<text x="{LEFT - 10}" y="{base - height / 2 + 16:.0f}" text-anchor="end">{min(values):,.0f} to {max(values):,.0f}</text>'
    yield f'<path d="M{LEFT} {base}H{WIDTH - RIGHT}" class="axis"/>'
    yield f'<polyline points="{points}"/>'


height = TOP + len(ROWS) * ROW + 24
print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="A server under load for {minutes:.0f} minutes">')
print("<style>text{font:12px sans-serif;fill:#555}.name{fill:#222}.title{font-size:15px;fill:#222}polyline{fill:none;stroke:#2563a8;stroke-width:1.5}.axis{stroke:#bbb}</style>")
print(f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>')
print(f'<text x="20" y="22" class="title">polychord serve under scripts/soak: {len(samples):,} rounds in {minutes:.0f} minutes</text>')
for index, (key, name, unit) in enumerate(ROWS):
    print("\n".join(row(index, key, name, unit)))
y = TOP + len(ROWS) * ROW + 8
print(f'<text x="{LEFT}" y="{y}">0</text><text x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">{minutes:.0f} minutes</text>')
print("</svg>")

"""What was measured before, here and on other machines: docs/benchmarks.json.

Of each kind of machine, by its processor, the oldest and the newest results are kept.
"""

import json
import re

# From the heading of results to the next heading.
SECTION = re.compile(r"^## \d{4}-\d\d-\d\d: .*?(?=^## )", re.MULTILINE | re.DOTALL)


def add(path, entry):
    """Adds results, and returns those of before that the page shows beside them, oldest first."""
    kept = json.loads(path.read_text()) if path.exists() else []
    same = [one for one in kept if kind(one) == kind(entry)]
    # Results that are written again replace themselves.
    oldest = [one for one in same[:1] if stamp(one) != stamp(entry)]
    others = [one for one in kept if kind(one) != kind(entry)]
    before = sorted([*others, *oldest], key=lambda one: one["date"])
    path.write_text(json.dumps([*before, entry], indent=1) + "\n")
    return before


def sections(text, entries, table):
    """The page's text with sections of these results, in place of those that it has."""
    text = SECTION.sub("", text)
    # What the rest of the page is about is not shown twice.
    shown = [section(one, table) for one in entries if one["commit"] not in text]
    before, heading, after = text.partition("## What was compared\n")
    return "\n".join([before.rstrip("\n") + "\n", *shown, heading + after])


def kind(entry):
    return entry["processor"], entry["virtual"]


def stamp(entry):
    return entry["date"], entry["commit"]


def section(entry, table):
    """Results of before, as a section of the page. `table` makes one."""
    low, high = entry["load"]
    about = (
        f"At {entry['commit']}, load average {low:.1f} to {high:.1f}; hardware prefetch: "
        f"{prefetch(entry['prefetch'])}. Tokens per second, and their ratios to llama.cpp's."
    )
    heading = ["", "model", "threads", "prompt", "ratio", "decode", "ratio"]
    lines = [
        [
            row["program"],
            row["model"],
            str(row["threads"]),
            f"{row['prompt']:.1f}",
            ratio(row["prompt/llama.cpp"]),
            f"{row['decode']:.1f}",
            ratio(row["decode/llama.cpp"]),
        ]
        for row in entry["rows"]
    ]
    return f"## {entry['date']}: {entry['processor']}\n\n{about}\n\n{table(heading, lines)}"


def ratio(number):
    return "-" if number is None else f"{number:.2f}"


def prefetch(found):
    """What prefetch/probe.c has found, in words."""
    if not found:
        return "not measured"
    works = "works" if found["streamed"] >= 0.75 * found["cached"] else "does little"
    return (
        f"{works} (dense code: {found['cached']:.1f} GB/s in a cache, {found['streamed']:.1f} "
        f"over memory, {found['touched']:.1f} with bursts of loads; reading alone "
        f"{found['scan']:.1f})"
    )

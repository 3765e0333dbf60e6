"""Writes benchmarks.md and benchmarks.svg from results."""

import json
import pathlib
import statistics
import subprocess
import textwrap

from peers import machines, programs

HERE = pathlib.Path(__file__).resolve().parent
TYPES = {
    "Q4_1": "the default model as it is",
    "Q4_K_M": "mostly Q5_0 in this model, whose rows of 576 are no multiple of the 256 weights "
    "that a block of the K types has",
    programs.LONG: "the default model with a prompt of "
    f"{programs.LONG_REPEATS * programs.PROMPT_TOKENS:,} tokens, and all that follow it",
    "gemma-3-270m Q4_K_M": "as it is published",
    "qwen2.5-coder-0.5b": "as it is published",
}
REFERENCES = (programs.REFERENCE, programs.NARROW_REFERENCE, programs.WASM_REFERENCE)


def write(results, folder, python, brief=False):
    """The page; in brief, only a section of it. The plot needs a Python that has matplotlib, and the reference that it is drawn against."""
    history = machines.add(folder / "benchmarks.json", summary(results))
    if brief:
        path = folder / "benchmarks.md"
        path.write_text(machines.sections(path.read_text(), [*history, summary(results)], table))
        return
    plot = python is not None and any(run["program"] == programs.REFERENCE for run in results["runs"])
    (folder / "benchmarks.md").write_text(page(results, plot, history))
    if plot:
        rows = json.dumps([row(run, results) for run in results["runs"]])
        command = [python, HERE / "plot.py", folder / "benchmarks.svg"]
        subprocess.run(command, input=rows, text=True, check=True)


def row(run, results):
    """The medians of a run, and of its ratios to the references in the same rounds."""
    speeds = {
        "prompt": lambda one: prompt_tokens(one) / one["prompt_ms"] * 1000,
        "decode": lambda one: one["decoded"] / one["decode_ms"] * 1000,
    }
    out = {name: run[name] for name in ("program", "model", "threads")}
    for name, speed in speeds.items():
        values = [speed(one) for one in run["rounds"]]
        out[name] = statistics.median(values)
        out[f"{name}_range"] = (min(values), max(values))
        for reference in REFERENCES:
            base = find(results, reference, run["model"], run["threads"])
            pairs = zip(run["rounds"], base["rounds"] if base else [])
            ratios = [speed(one) / speed(other) for one, other in pairs]
            out[f"{name}/{reference}"] = statistics.median(ratios) if ratios else None
    out["first_ms"] = statistics.median(one["first_ms"] for one in run["rounds"])
    out["peak_mib"] = statistics.median(one["peak_bytes"] for one in run["rounds"]) / 2**20
    return out


def prompt_tokens(one):
    return one.get("prompt_tokens", programs.PROMPT_TOKENS)


def summary(results):
    """What is kept of a run for the pages of later ones."""
    machine = results["machine"]
    loads = [one["load_average"] for run in results["runs"] for one in run["rounds"]]
    rows = [row(run, results) for run in results["runs"]]
    kept = ("program", "model", "threads", "prompt", "decode")
    ratios = [f"{name}/{programs.REFERENCE}" for name in ("prompt", "decode")]
    return {
        "processor": machine["processor"],
        "virtual": machine["hypervisor"],
        "date": machine["date"],
        "commit": machine["commit"],
        "load": [min(loads), max(loads)],
        "prefetch": machine.get("prefetch"),
        "rows": [
            {name: one[name] for name in kept}
            | {name: None if one[name] is None else round(one[name], 2) for name in ratios}
            | {name: round(one[name], 1) for name in ("prompt", "decode")}
            for one in rows
        ],
    }


def find(results, program, model, threads):
    for run in results["runs"]:
        if (run["program"], run["model"], run["threads"]) == (program, model, threads):
            return run
    return None


def page(results, plot, history):
    settings, runs = results["settings"], results["runs"]
    groups = list(dict.fromkeys((run["model"], run["threads"]) for run in runs))
    parts = [
        "# Benchmarks against peers\n",
        "<!-- This page is made by scripts/bench-peers: change that, not this. -->\n",
        introduction(results),
        "![Speed relative to llama.cpp](benchmarks.svg)\n" if plot else "",
        *(section(results, *group) for group in groups),
        failures(results["failures"]),
        "## What was compared\n",
        table(
            ["program", "version", ""],
            [[name, about["version"], about["note"]] for name, about in results["programs"].items()],
        ),
        "## Machine\n",
        describe(results["machine"], runs, settings),
        "## How to repeat it\n",
        f"```console\n$ scripts/bench-peers --rounds {settings['rounds']}"
        f"{' --realtime' if settings['realtime'] else ''}\n```\n",
        "It fetches the peers through npm, pip and cargo into the cache, and needs a C compiler;\n"
        "`--help` tells the rest. [performance.md](performance.md) tells where the time goes.\n",
    ]
    text = "\n".join(part for part in parts if part)
    return machines.sections(text, history, table)


def introduction(results):
    settings = results["settings"]
    count = settings["rounds"]
    text = (
        f"SmolLM2-135M-Instruct, a prompt of {programs.PROMPT_TOKENS} tokens and "
        f"{settings['decode']} tokens after the first, greedily. Each run is a process of its own. "
        f"Figures are medians of {count} round{'s' if count > 1 else ''}, in each of which every "
        "program ran once (lowest and highest in parentheses). Ratios are medians of the ratios "
        "within a round, with as many threads. *First token* is how long a process takes that "
        "makes one token: loading and compiling is in it. *Memory* is the most that was resident, "
        "pages of the model's file included."
    )
    return textwrap.fill(text, 96) + "\n"


def section(results, model, threads):
    rows = [
        row(run, results)
        for run in results["runs"]
        if (run["model"], run["threads"]) == (model, threads)
    ]
    ratios = [f"to {reference}" for reference in REFERENCES]
    heading = ["", "prompt, tokens/s", *ratios, "decode, tokens/s", *ratios]
    heading += ["first token, ms", "memory, MiB"]
    lines = [
        [
            one["program"],
            *speed(one, "prompt"),
            *speed(one, "decode"),
            f"{one['first_ms']:.0f}",
            f"{one['peak_mib']:.0f}",
        ]
        for one in rows
    ]
    count = "one thread" if threads == 1 else f"{threads} threads"
    about = f"{TYPES[model][0].upper()}{TYPES[model][1:]}.\n\n" if model in TYPES else ""
    return f"## {model}, {count}\n\n{about}{table(heading, lines)}"


def speed(one, name):
    low, high = one[f"{name}_range"]
    ratios = (one[f"{name}/{base}"] for base in REFERENCES)
    shown = ("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
    return [f"{one[name]:.1f} ({low:.1f}-{high:.1f})", *shown]


def failures(failed):
    if not failed:
        return ""
    return "## What failed\n\n" + table(["run", "reason"], [[*pair] for pair in failed.items()])


def describe(machine, runs, settings):
    loads = [one["load_average"] for run in runs for one in run["rounds"]]
    items = {
        "date": machine["date"],
        "repository at": machine["commit"],
        "processor": machine["processor"],
        "hardware threads": machine["cpus"],
        "caches": machine["caches"],
        "hardware prefetch": machines.prefetch(machine.get("prefetch")),
        "memory": f"{machine['memory_gib']} GiB",
        "virtual machine": machine["hypervisor"],
        "kernel": machine["kernel"],
        "system": machine["system"],
        "load average while measuring": f"{min(loads):.1f} to {max(loads):.1f}",
        "priority": "real-time (SCHED_FIFO)" if settings["realtime"] else "normal",
    }
    return table(["", ""], [[name, str(value)] for name, value in items.items()])


def table(heading, lines):
    rows = [heading, ["---"] * len(heading), *lines]
    text = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in rows)
    return text.replace("|  |", "| |")

"""Running programs, one after the other, round by round."""

import collections
import dataclasses
import os
import subprocess
import sys
import tempfile
import threading
import time

from peers import programs

TIMEOUT_S = 300


@dataclasses.dataclass
class Settings:
    rounds: int
    # Tokens to decode.
    decode: int
    realtime: bool


def rounds(runs, models, settings, failures):
    """Measures all runs in each round; yields after each what there is so far.

    Whatever fails is put into `failures`, and is not run again.
    """
    measured = collections.defaultdict(list)
    for number in range(settings.rounds + 1):
        # Round 0 fills the page cache and the caches of compiled code, and is not kept.
        for run in runs:
            if str(run) in failures:
                continue
            try:
                result = measure(run, models[run.model], settings, warm=number > 0)
            except (OSError, ValueError, KeyError) as error:
                failures[str(run)] = str(error)
                say(f"{run}: FAILED: {error}")
                continue
            if number > 0:
                measured[str(run)].append(result)
                say(f"{number}/{settings.rounds} {run}: {line(result)}")
        if number > 0:
            yield [run.key | {"rounds": measured[str(run)]} for run in runs if measured[str(run)]]


def measure(run, model, settings, warm):
    """One run: a short one until the first token, and then a whole one."""
    _, first_ms, _ = execute(run, model, 0, settings)
    if not warm:
        return None
    said, _, peak = execute(run, model, settings.decode, settings)
    return {
        "prompt_tokens": run.prompt_tokens,
        "prompt_ms": said["prompt_ms"],
        "decode_ms": said["decode_ms"],
        # Tokens may be fewer if the model ends its text.
        "decoded": (len(said.get("ids", range(settings.decode + 1))) - 1) * run.sequences,
        "first_ms": first_ms,
        "peak_bytes": peak,
        "load_average": os.getloadavg()[0],
    }


def execute(run, model, decode, settings):
    """What the program printed, how long it took in all, and its most resident memory."""
    args, environment = run.program.command(model, run.ids, decode, run.threads, run.sequences)
    environment = os.environ | {name: str(value) for name, value in environment.items()}
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        start = time.monotonic()
        process = subprocess.Popen(
            [str(arg) for arg in args],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=before_all_others if settings.realtime else None,
        )
        timer = threading.Timer(TIMEOUT_S, process.kill)
        timer.start()
        # Popen itself does not tell the memory of one child.
        _, status, usage = os.wait4(process.pid, 0)
        took = (time.monotonic() - start) * 1000
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        said, complaint = (read_all(file) for file in (stdout, stderr))
    if process.returncode != 0:
        last = complaint.strip().splitlines()[-1:] or ["no message"]
        raise ChildProcessError(f"ended with {process.returncode}: {last[0]}")
    return run.parse(said), took, usage.ru_maxrss * 1024


def before_all_others():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def read_all(file):
    file.seek(0)
    return file.read().decode(errors="replace")


def line(result):
    prompt = result["prompt_tokens"] / result["prompt_ms"] * 1000
    decode = result["decoded"] / result["decode_ms"] * 1000
    return f"prompt {prompt:.1f} tokens/s, decode {decode:.1f}, first token {result['first_ms']:.0f} ms"


def say(text):
    print(f"bench-peers: {text}", file=sys.stderr, flush=True)

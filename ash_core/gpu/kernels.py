"""Programs of CUDA kernels: compiled by NVRTC for the exact architecture, cached, launched.

A program is `common.cu` and its own sources, joined; no headers, no nvcc, no torch extension. The
output of NVRTC is cached in the user's folder by a hash of text, options and architecture. Kernels
run on torch's current device and stream.
"""

import ctypes
import functools
import hashlib
import importlib
import logging
import os
import struct
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from ash_core.errors import CudaError
from ash_core.gpu.signatures import (
    Argument,
    Parameter,
    check_arguments,
    read_signatures,
    signature_of,
)
from ash_core.install import install_command
from ash_core.resources import cache_folder

Dimensions = int | tuple[int, ...]

COMMON: Final = Path(__file__).parent / "common.cu"
OPTIONS: Final = ("--std=c++17", "--ftz=true", "--generate-line-info", "--ptxas-options=-v")
OLDEST: Final = (8, 0)
"""Least compute capability: Ampere, the first with __reduce_min_sync and the like."""
DRIVER: Final = 13000
"""Oldest driver, in CUDA's version numbers, that loads the output of NVRTC 13.0."""
_MAGIC: Final = b"ash-studio cubin 1\n"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compiled:
    """One program for one architecture."""

    cubin: bytes
    log: str
    """Log of the compiler: registers and spills of each kernel. Empty from the cache."""


@dataclass(frozen=True)
class Attributes:
    """Resources of a loaded kernel."""

    registers: int
    local_bytes: int
    shared_bytes: int


class Program:
    """Kernels that are compiled together, not before they are loaded.

    defines: values of the sources' names in capitals.
    """

    def __init__(self, *sources: Path, defines: Mapping[str, int | float] | None = None) -> None:
        self.sources = (COMMON, *sources)
        self.defines = dict(defines or {})
        self._modules: dict[int, Any] = {}
        self._functions: dict[tuple[int, str], tuple[Any, Arguments]] = {}
        self._turn = threading.Lock()

    def text(self) -> str:
        """Join all sources, with #line directives for the compiler's messages."""
        return "".join(f'#line 1 "{path.name}"\n{path.read_text()}' for path in self.sources)

    def options(self, arch: str) -> tuple[str, ...]:
        """Make the options of NVRTC; arch is sm_90 and the like."""
        defines = (f"-D{name}={_literal(value)}" for name, value in self.defines.items())
        return (f"--gpu-architecture={arch}", *OPTIONS, *defines)

    def compile(self, arch: str) -> Compiled:
        """Compile by NVRTC; needs no GPU. Raises: CudaError with the compiler's first error."""
        return _compile(self.text(), self.options(arch))

    def cubin(self, arch: str) -> bytes:
        """Return the compiled program, from the cache if it is there and complete."""
        text, options = self.text(), self.options(arch)
        path = _cache_path(text, options)
        cached = _read_cached(path)
        if cached is not None:
            return cached
        cubin = _compile(text, options).cubin
        _write_cached(path, cubin)
        return cubin

    def load(self, device: torch.device | int | None = None) -> None:
        """Compile and load now, which is not possible during the capture of a CUDA graph."""
        index = _device_index(device)
        if index in self._modules:
            return
        reason = missing()
        if reason is not None:
            raise CudaError(reason)
        reason = too_old(index)
        if reason is not None:
            raise CudaError(reason)
        major, minor = torch.cuda.get_device_capability(index)
        arch = f"sm_{major}{minor}"
        driver = _driver()
        with torch.cuda.device(index):
            torch.cuda.current_stream().synchronize()  # the device's context is current from here
            module = _load_module(driver, self.cubin(arch))
            if module is None:  # damaged: compile it again, once
                _cache_path(self.text(), self.options(arch)).unlink(missing_ok=True)
                module = _load_module(driver, self.cubin(arch))
            if module is None:
                raise CudaError(f"GPU {index}: the driver refuses kernels for {arch}; update it")
        self._modules[index] = module

    def launch(self, kernel: str, grid: Dimensions, block: Dimensions, *args: Argument) -> None:
        """Run a kernel on torch's current device and stream.

        Tensors (contiguous, on that device) become pointers, ints int32, floats float32, None a
        null pointer; a kernel has the same types every time. A grid with a zero launches nothing.
        """
        blocks, threads = _three(grid), _three(block)
        if 0 in blocks:
            return
        index = torch.cuda.current_device()
        entry = self._functions.get((index, kernel))
        if entry is None:
            self.check(kernel, *args)
            entry = self._functions[index, kernel] = self._function(index, kernel), Arguments(args)
        function, packed = entry
        stream = torch.cuda.current_stream().cuda_stream
        with self._turn:
            packed.fill(args)
            if torch.cuda.is_current_stream_capturing():
                config = _early(blocks, threads, stream)
                (error,) = _driver().cuLaunchKernelEx(config, function, packed.address, 0)
            else:
                (error,) = _driver().cuLaunchKernel(
                    function, *blocks, *threads, 0, stream, packed.address, 0
                )
        if error != 0:
            raise CudaError(f"{kernel}: {_describe(error)}")

    def check(self, kernel: str, *args: Argument) -> None:
        """Compare arguments with the kernel's parameters, as the first launch of each does."""
        check_arguments(kernel, signature_of(kernel, self._signatures), args)

    @functools.cached_property
    def _signatures(self) -> dict[str, tuple[Parameter, ...]]:
        """Parameters of all kernels; the sources are read once."""
        return read_signatures(self.text())

    def attributes(self, kernel: str, device: torch.device | int | None = None) -> Attributes:
        """Read registers and local memory (spills) per thread, shared memory per block; bytes."""
        driver, function = _driver(), self._function(_device_index(device), kernel)
        names = driver.CUfunction_attribute
        values = [
            _checked(driver.cuFuncGetAttribute(name, function), kernel)
            for name in (
                names.CU_FUNC_ATTRIBUTE_NUM_REGS,
                names.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
                names.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
            )
        ]
        return Attributes(*values)

    def _function(self, index: int, kernel: str) -> Any:
        self.load(index)
        answer = _driver().cuModuleGetFunction(self._modules[index], kernel.encode())
        return _checked(answer, kernel)


class Arguments:
    """A kernel's arguments in the driver's layout, in memory that every launch refills."""

    def __init__(self, args: Sequence[Argument]) -> None:
        """args: an example; later ones have the same types."""
        kinds = (
            "i4x" if isinstance(arg, int) else "f4x" if isinstance(arg, float) else "Q"
            for arg in args
        )
        self._layout = struct.Struct("=" + "".join(kinds))
        self._values = ctypes.create_string_buffer(8 * len(args))
        first = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_uint64 * len(args))(*range(first, first + 8 * len(args), 8))
        self.address = ctypes.addressof(self._pointers)

    def fill(self, args: Sequence[Argument]) -> None:
        """Pack the arguments of a launch: pointers of tensors, 0 for None."""
        self._layout.pack_into(
            self._values,
            0,
            *[arg.data_ptr() if isinstance(arg, Tensor) else arg or 0 for arg in args],
        )


def too_old(device: int) -> str | None:
    """Explain why a GPU is too old for the kernels; None where it is not."""
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) >= OLDEST:
        return None
    return (
        f"GPU {device}, {torch.cuda.get_device_name(device)}: expected compute capability "
        f"{OLDEST[0]}.{OLDEST[1]} or newer (RTX 30, A100), got {major}.{minor}: render on the CPU"
    )


@functools.cache
def missing() -> str | None:
    """Explain why no GPU here can run kernels, with the cure; None where one can."""
    if torch.version.cuda is None:
        return "torch was built without CUDA: install its CUDA build"
    if not torch.cuda.is_available():
        return "torch finds no usable NVIDIA GPU: install or update the NVIDIA driver"
    ages = [too_old(device) for device in range(torch.cuda.device_count())]
    if all(ages):
        return ages[0]
    try:
        driver = _driver()
    except ImportError:
        return f"the package cuda-bindings is not installed: {install_command('cuda')}"
    try:
        version = _checked(driver.cuDriverGetVersion(), "driver")
    except Exception as error:  # bindings raise their own kinds where there is no driver
        return f"the NVIDIA driver does not answer ({error}): install or update it"
    if version < DRIVER:
        return (
            f"the NVIDIA driver supports CUDA {version // 1000}.{version % 1000 // 10}, "
            f"expected {DRIVER // 1000}.0 or newer: update it to 580 or later"
        )
    return compiler_missing()


@functools.cache
def compiler_missing() -> str | None:
    """Explain why NVRTC cannot be used, with the cure; None where it can. It needs no GPU."""
    try:
        _checked(_nvrtc().nvrtcVersion(), "NVRTC")
    except ImportError:
        return f"the package cuda-bindings is not installed: {install_command('cuda')}"
    except Exception as error:  # the bindings' own kinds for a library that is not found
        return f"the kernel compiler NVRTC is not found ({error}): {install_command('cuda')}"
    return None


@functools.cache
def _driver() -> Any:
    return importlib.import_module("cuda.bindings.driver")


def _nvrtc() -> Any:
    return importlib.import_module("cuda.bindings.nvrtc")


def with_index(device: torch.device) -> torch.device:
    """Add the current index to a device "cuda" without one."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _device_index(device: torch.device | int | None) -> int:
    if isinstance(device, torch.device):
        device = device.index
    return torch.cuda.current_device() if device is None else device


def _three(dimensions: Dimensions) -> tuple[int, int, int]:
    sizes = (dimensions,) if isinstance(dimensions, int) else dimensions
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


def _early(blocks: tuple[int, ...], threads: tuple[int, ...], stream: int) -> Any:
    """Configure a launch that a graph may begin before the previous kernel ends; kernels wait."""
    driver = _driver()
    early = driver.CUlaunchAttribute()
    early.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    early.value.programmaticStreamSerializationAllowed = 1
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = blocks
    config.blockDimX, config.blockDimY, config.blockDimZ = threads
    config.hStream = stream
    config.attrs, config.numAttrs = [early], 1
    return config


def _literal(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value!r}f"


def _describe(error: Any) -> str:
    if "OUT_OF_MEMORY" in str(getattr(error, "name", error)):
        return "the GPU is out of memory: close other programs or choose a smaller picture"
    return f"CUDA says {getattr(error, 'name', error)}"


def _checked(answer: tuple[Any, ...], place: str) -> Any:
    error, *values = answer
    if error != 0:
        raise CudaError(f"{place}: {_describe(error)}")
    return values[0] if values else None


def _load_module(driver: Any, cubin: bytes) -> Any | None:
    error, module = driver.cuModuleLoadData(cubin)
    if error == 0:
        return module
    if "OUT_OF_MEMORY" in str(getattr(error, "name", error)):
        raise CudaError(f"loading kernels: {_describe(error)}")
    return None


def _compile(text: str, options: tuple[str, ...]) -> Compiled:
    reason = compiler_missing()
    if reason is not None:
        raise CudaError(reason)
    nvrtc = _nvrtc()
    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), b"kernels.cu", 0, [], []), "NVRTC")
    try:
        encoded = [option.encode() for option in options]
        (result,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
        log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program), "NVRTC"))
        _checked(nvrtc.nvrtcGetProgramLog(program, log), "NVRTC")
        messages = log.rstrip(b"\0 \n").decode(errors="replace")
        if result != 0:
            lines = [line for line in messages.splitlines() if "error" in line]
            raise CudaError(f"kernels do not compile: {(lines or [messages or str(result)])[0]}")
        cubin = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program), "NVRTC"))
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin), "NVRTC")
        return Compiled(cubin, messages)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _cache_path(text: str, options: tuple[str, ...]) -> Path:
    version = _checked_version()
    key = "\n".join((version, *options, text)).encode()
    return cubin_folder() / f"{hashlib.sha256(key).hexdigest()[:32]}.cubin"


def cubin_folder() -> Path:
    """Return the folder of compiled programs."""
    return cache_folder() / "cuda"


@functools.cache
def _checked_version() -> str:
    reason = compiler_missing()
    if reason is not None:
        raise CudaError(reason)
    error, major, minor = _nvrtc().nvrtcVersion()
    assert error == 0, error
    return f"NVRTC {major}.{minor}"


def _read_cached(path: Path) -> bytes | None:
    """Read a file's CUBIN; None where there is no file or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head, cubin = content[: len(_MAGIC) + 32], content[len(_MAGIC) + 32 :]
    return cubin if head == _MAGIC + hashlib.sha256(cubin).digest() else None


def _write_cached(path: Path, cubin: bytes) -> None:
    """Write a CUBIN atomically, since two processes may write the same file; or warn."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(cubin).digest() + cubin)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        _warn_about_cache(str(path.parent), str(error.strerror))


@functools.cache
def _warn_about_cache(folder: str, reason: str) -> None:
    """Warn once for each folder."""
    _log.warning(
        "%s: compiled kernels cannot be kept (%s), every start compiles anew", folder, reason
    )

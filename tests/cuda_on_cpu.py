"""Run CUDA kernels on the CPU: `cuda_on_cpu.h` and a C++ compiler stand in for NVRTC and a GPU.

What the stand-in checks and what it cannot is told at the top of the header.
"""

import ctypes
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ash_core.gpu.kernels import Program

HEADER = Path(__file__).resolve().parent / "cuda_on_cpu.h"
COMPILER = None if sys.platform == "win32" else shutil.which("g++") or shutil.which("c++")
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-DCUDA_ON_CPU")
MAX_GRID = (2**31 - 1, 65535, 65535)

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++ or c++)")

KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:void\s+)?'
    r"(?:__launch_bounds__\s*\((?P<bounds>[^;{]*?)\)\s*(?:void\s+)?)?(?P<name>\w+)\s*\("
)

MAIN = """#include "{header}"
namespace {{
#include "program.cu"
const cuda_on_cpu::Kernel kernels[] = {{
{kernels}
}};
}}
#define API extern "C" __attribute__((visibility("default")))
API const char* kernel_name(int i) {{
    return i < int(sizeof(kernels) / sizeof(kernels[0])) ? kernels[i].name : nullptr;
}}
API const char* kernel_parameters(int i) {{ return kernels[i].parameters.c_str(); }}
API int kernel_bound(int i) {{ return kernels[i].bound; }}
API const char* launch(int i, const unsigned* sizes, void** values, int64_t order, double limit) {{
    return cuda_on_cpu::launch(kernels[i], sizes, values, order, limit);
}}
"""

ENTRY = (
    '    {{"{name}", [](void** arguments) {{ cuda_on_cpu::call({name}, arguments); }}, '
    "cuda_on_cpu::parameters({name}), cuda_on_cpu::bound({bounds})}},"
)

Size = int | tuple[int, ...]
Argument = torch.Tensor | int | float | None


class EmulatorError(RuntimeError):
    """The program does not compile, or a kernel did what CUDA leaves undefined or never ends."""


class Emulated:
    """A compiled program, launched as a GPU program is."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for function in (library.kernel_name, library.kernel_parameters, library.launch):
            function.restype = ctypes.c_char_p
        self._library = library
        self._turn = threading.Lock()
        self._kernels: dict[str, int] = {}
        while (name := library.kernel_name(len(self._kernels))) is not None:
            self._kernels[name.decode()] = len(self._kernels)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the program's kernels, in the order of its text."""
        return tuple(self._kernels)

    def launch(
        self,
        kernel: str,
        grid: Size,
        block: Size,
        *arguments: Argument,
        order: str | int = "forward",
        limit_s: float = 60.0,
    ) -> None:
        """Run every block to its end.

        Tensors go in as pointers, int as int32, float as float32, None as a null pointer. A grid
        with a zero launches nothing. order: of the threads that can go on, "forward", "reverse"
        or the seed (from 0 up) of a random one; what a kernel without races writes does not
        depend on it.

        Raises:
            EmulatorError: undefined use of a barrier or a warp intrinsic, all threads wait, or
                `limit_s` of computing were not enough.
            TypeError, ValueError: arguments or sizes that do not fit the kernel.
        """
        if kernel not in self._kernels:
            raise ValueError(f"no kernel {kernel}; the program has {', '.join(self._kernels)}")
        index = self._kernels[kernel]
        bound = self._library.kernel_bound(index)
        sizes = (ctypes.c_uint * 6)(*_grid(grid), *_block(block, bound))
        kinds = self._library.kernel_parameters(index).decode().split()
        if len(kinds) != len(arguments):
            raise TypeError(f"{kernel} takes {len(kinds)} arguments, not {len(arguments)}")
        values = [
            _value(kind, argument, f"argument {i} of {kernel}")
            for i, (kind, argument) in enumerate(zip(kinds, arguments, strict=True))
        ]
        pointers = (ctypes.c_void_p * max(len(values), 1))(*map(ctypes.addressof, values))
        if 0 in sizes:
            return
        with self._turn:
            seed = ctypes.c_int64(_order(order))
            limit = ctypes.c_double(limit_s)
            error = self._library.launch(index, sizes, pointers, seed, limit)
        if error is not None:
            raise EmulatorError(error.decode())


class StandIn:
    """A `Program` whose kernels run on the CPU; compiled when one is launched."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._emulated: Emulated | None = None

    def load(self, device: object = None) -> None:
        """Nothing to load."""

    def launch(self, *arguments: Any, **options: Any) -> None:
        """As the program's; options of `Emulated.launch` too."""
        if self._emulated is None:
            self._emulated = emulate(self._program.text(), self._program.defines)
        kernel, _, _, *values = arguments
        self._program.check(kernel, *values)
        self._emulated.launch(*arguments, **options)


def emulate(text: str, defines: Mapping[str, int | float] = {}) -> Emulated:
    """Compile a program's text; compiled ones are kept in the temporary folder.

    Raises:
        EmulatorError: no compiler, or it rejects the program (with its words).
    """
    if COMPILER is None:
        raise EmulatorError("no C++ compiler: install g++")
    flags = [*FLAGS, *(f"-D{name}={_literal(value)}" for name, value in defines.items())]
    parts = [text, *flags, HEADER.read_text(), MAIN, ENTRY, _version()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    library = Path(tempfile.gettempdir()) / f"cuda_on_cpu_{os.getuid()}" / f"{key}.so"
    return _load(library, text, tuple(flags))


@cache
def _load(library: Path, text: str, flags: tuple[str, ...]) -> Emulated:
    library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if library.parent.stat().st_uid != os.getuid():
        raise EmulatorError(f"{library.parent} belongs to somebody else: remove it")
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            # Moved when whole: another process may look for it.
            _compile(Path(folder), text, flags).replace(library)
    return Emulated(ctypes.CDLL(str(library)))


@cache
def _version() -> str:
    assert COMPILER is not None
    return subprocess.run(
        [COMPILER, "--version"], check=True, capture_output=True, text=True
    ).stdout


def _compile(folder: Path, text: str, flags: tuple[str, ...]) -> Path:
    program, main, library = folder / "program.cu", folder / "main.cpp", folder / "program.so"
    program.write_text('#line 1 "program.cu"\n' + text)
    # Preprocessed: kernels that a macro writes are found, those that #if leaves out are not.
    plain = _compiler(*flags, "-E", "-P", "-x", "c++", str(program))
    kernels = [
        ENTRY.format(name=found["name"], bounds=found["bounds"] or "")
        for found in KERNEL.finditer(plain)
    ]
    if not kernels:
        raise EmulatorError('the program has no kernel (extern "C" __global__ void ...)')
    main.write_text(MAIN.format(header=HEADER, kernels="\n".join(kernels)))
    _compiler(*flags, str(main), "-o", str(library))
    return library


def _compiler(*arguments: str) -> str:
    assert COMPILER is not None
    done = subprocess.run([COMPILER, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise EmulatorError(f"the C++ compiler rejects the program:\n{done.stderr}")
    return done.stdout


def _literal(value: int | float) -> str:
    if isinstance(value, int):
        return f"({int(value)})"
    if not math.isfinite(value):
        raise ValueError(f"a define must be finite, not {value}")
    return f"({value!r}f)"


def _three(size: Size) -> tuple[int, int, int]:
    given = (size,) if isinstance(size, int) else tuple(size)
    if not 1 <= len(given) <= 3:
        raise ValueError(f"a grid or block is one to three sizes, not {size}")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z


def _grid(size: Size) -> tuple[int, int, int]:
    grid = _three(size)
    if not all(0 <= n <= most for n, most in zip(grid, MAX_GRID, strict=True)):
        raise ValueError(f"a grid has from 0 to {MAX_GRID} blocks, not {size}")
    return grid


def _block(size: Size, bound: int) -> tuple[int, int, int]:
    block = _three(size)
    if min(block) < 1 or math.prod(block) > bound or block[2] > 64:
        raise ValueError(f"this kernel's block has 1 to {bound} threads, 64 in z, not {size}")
    return block


def _order(order: str | int) -> int:
    """The header's number for an order: 0 rising, 1 falling, from 2 up seeds."""
    if isinstance(order, int) and order >= 0:
        return 2 + order
    if order not in ("forward", "reverse"):
        raise ValueError(f'order is "forward", "reverse" or a seed from 0 up, not {order!r}')
    return int(order == "reverse")


def _value(kind: str, argument: Argument, name: str) -> ctypes._SimpleCData:
    """What the kernel reads for an argument. Strict, because a GPU takes any bytes it is given."""
    if kind[0] == "p":
        return ctypes.c_void_p(_address(int(kind[1:]), argument, name))
    if kind == "f" and isinstance(argument, float):
        return ctypes.c_float(argument)
    if kind in "iu" and isinstance(argument, int):
        if not -(2**31) <= argument < (2**31 if kind == "i" else 2**32):
            raise ValueError(f"{name} does not fit 32 bits: {argument}")
        return ctypes.c_int32(argument)
    wanted = {"f": "a float", "i": "an int", "u": "an int"}.get(kind)
    if wanted is None:
        raise TypeError(f"{name} has a type that no launch can fill; use a pointer, int or float")
    raise TypeError(f"{name} is {wanted}, not {type(argument).__name__}")


def _address(alignment: int, argument: Argument, name: str) -> int | None:
    if argument is None:
        return None
    if not isinstance(argument, torch.Tensor):
        raise TypeError(f"{name} is a pointer: give a tensor or None, not {argument!r}")
    if argument.device.type != "cpu" or not argument.is_contiguous():
        raise ValueError(f"{name} must be a contiguous CPU tensor")
    if argument.data_ptr() % alignment:
        raise ValueError(f"{name} must begin at a multiple of {alignment} bytes")
    return argument.data_ptr()

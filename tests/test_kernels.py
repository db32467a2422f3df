"""Programs of kernels: compiled for every architecture, cached, refused with a word that helps."""

import ctypes
import functools
import importlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ash_core.cloth import gpu as cloth
from ash_core.errors import CudaError
from ash_core.gpu import kernels
from ash_core.gpu.kernels import Program
from ash_core.gpu.signatures import check_arguments, read_signatures, signature_of
from ash_core.gpu_frame import character, convolutions, decoders, frame
from ash_core.splat import cuda
from ash_core.training import losses

ARCHITECTURES = ("sm_80", "sm_86", "sm_90", "sm_120")
"""For sm_89 NVRTC gives every kernel as many registers as for sm_86."""
PROGRAMS = {
    "splat forward": cuda.FORWARD,
    "splat backward": cuda.BACKWARD,
    "splat backward, deterministic": cuda.DETERMINISTIC_BACKWARD,
    "character": character.PROGRAM,
    "frame": frame.PROGRAM,
    "decoders": decoders.PROGRAM,
    "ssim": losses.SSIM,
    "cloth": cloth.PROGRAM,
    "large cloth": cloth.LARGE,
    **{f"convolution {key}": program for key, program in convolutions.PROGRAMS.items()},
}
REGISTERS = 65536
"""Of a multiprocessor."""
SOURCE = (
    'extern "C" __global__ void put(const float* in, int* out, int count, float scale) '
    "{ *out = VALUE; }"
)
needs_nvrtc = pytest.mark.skipif(kernels.compiler_missing() is not None, reason="no NVRTC")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ash-studio" / "cuda"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "put.cu").write_text(SOURCE)
    return Program(tmp_path / "put.cu", defines={"VALUE": 7})


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that went to the compiler."""
    texts: list[str] = []
    real = kernels._compile

    def note(text: str, options: tuple[str, ...]) -> kernels.Compiled:
        texts.append(text)
        return real(text, options)

    monkeypatch.setattr(kernels, "_compile", note)
    return texts


# ---- compiling ----


@functools.cache
def compile_once(name: str, architecture: str) -> kernels.Compiled:
    return PROGRAMS[name].compile(architecture)


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_compiles_without_spills(name: str, architecture: str) -> None:
    made = compile_once(name, architecture)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", made.log)
    assert spills
    assert set(spills) == {"0"}
    assert made.cubin[:4] == b"\x7fELF"


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["splat forward", "splat backward"])
def test_as_many_blocks_fit_as_are_launched(name: str, architecture: str) -> None:
    log = compile_once(name, architecture).log
    names = re.findall(r"Compiling entry function '(\w+)'", log)
    registers = dict(zip(names, map(int, re.findall(r"Used (\d+) registers", log)), strict=True))
    blend = next(name for name in registers if name.startswith("blend"))
    assert registers[blend] * cuda.TILE_THREADS * cuda.RESIDENT <= REGISTERS


@pytest.mark.parametrize("name", PROGRAMS)
def test_sources_include_nothing(name: str) -> None:
    assert "#include" not in PROGRAMS[name].text()


@needs_nvrtc
def test_a_mistake_in_a_kernel_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "wrong.cu").write_text('extern "C" __global__ void f() {\n  nothing();\n}\n')
    with pytest.raises(CudaError, match=r"wrong\.cu\(2\).*nothing"):
        Program(tmp_path / "wrong.cu").compile("sm_90")


@pytest.mark.parametrize("name", PROGRAMS)
def test_constants_stand_in_one_place(name: str) -> None:
    """A number that Python passes by -D, or has under the same name, is not defined again."""
    written = set(re.findall(r"^\s*#define (\w+)\b(?!\()", PROGRAMS[name].text(), re.M))
    assert not written & set(PROGRAMS[name].defines)
    owners = (cuda, character, frame, decoders, losses, convolutions)
    for module in owners:
        if PROGRAMS[name] in (*vars(module).values(), *vars(module).get("PROGRAMS", {}).values()):
            assert not written & set(vars(module)), module.__name__


@needs_nvrtc
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_kernel_has_a_signature(name: str) -> None:
    program = PROGRAMS[name]
    log = compile_once(name, "sm_90").log
    compiled = re.findall(r"Compiling entry function '(\w+)'", log)
    signatures = read_signatures(program.text())
    assert compiled
    for kernel in compiled:
        for parameter in signature_of(kernel, signatures):
            assert parameter.is_pointer or parameter.type in ("int", "float"), (kernel, parameter)
            assert not parameter.is_pointer or parameter.element_bytes in (None, 1, 2, 4, 8)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ((torch.zeros(3), 7), "takes 3 arguments, got 2"),
        ((7, torch.zeros(3), 0.5), "argument 0, float values: got 7"),
        ((torch.zeros(3), 0.5, 7), r"argument 1, int count: got 0\.5"),
        ((torch.zeros(3).half(), 7, 0.5), r"argument 0, float values: got torch\.float16"),
        ((torch.zeros(3).int(), 7, 0.5), r"argument 0, float values: got torch\.int32"),
        ((torch.zeros(3), True, 0.5), "argument 1, int count: got True"),
    ],
)
def test_a_launch_that_does_not_fit_its_kernel(arguments: tuple[Any, ...], fault: str) -> None:
    text = "__global__ void f(const float* __restrict__ values, int count, float scale) {}"
    parameters = read_signatures(text)["f"]
    check_arguments("f", parameters, (torch.zeros(3), 7, 0.5))
    check_arguments("f", parameters, (None, 7, 0.5))
    with pytest.raises(AssertionError, match=fault):
        check_arguments("f", parameters, arguments)


# ---- the cache ----


@needs_nvrtc
def test_a_program_is_compiled_once(program: Program, cache: Path, compiled: list[str]) -> None:
    first = program.cubin("sm_90")
    assert program.cubin("sm_90") == first
    assert Program(*program.sources[1:], defines=program.defines).cubin("sm_90") == first
    assert len(compiled) == len(list(cache.iterdir())) == 1
    other = Program(*program.sources[1:], defines={"VALUE": 8})
    assert other.cubin("sm_90") != first
    program.cubin("sm_80")
    assert len(compiled) == len(list(cache.iterdir())) == 3


@needs_nvrtc
@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:60] + b"x" * 99])
def test_a_damaged_entry_is_rebuilt(
    damage: Callable[[bytes], bytes], program: Program, cache: Path, compiled: list[str]
) -> None:
    whole = program.cubin("sm_90")
    (entry,) = cache.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    assert program.cubin("sm_90") == whole
    assert len(compiled) == 2
    assert program.cubin("sm_90") == whole
    assert len(compiled) == 2


@needs_nvrtc
def test_processes_that_race_leave_one_whole_entry(program: Program, cache: Path) -> None:
    script = (
        "import hashlib, os; from pathlib import Path; from ash_core.gpu.kernels import Program\n"
        f"program = Program(Path({str(program.sources[1])!r}), defines={{'VALUE': 7}})\n"
        "any(os.fork() == 0 for _ in range(2))  # three processes from here, none imports again\n"
        "line = hashlib.sha256(program.cubin('sm_90')).hexdigest() + '\\n'\n"
        "os.write(1, line.encode())  # one call: lines of two processes do not mix"
    )
    racers = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
    )
    said = racers.stdout.split()
    assert len(said) == 3, racers.stderr
    assert len(set(said)) == 1
    assert [path.suffix for path in cache.iterdir()] == [".cubin"]


@needs_nvrtc
def test_without_a_place_there_is_no_cache_but_a_word(
    program: Program, cache: Path, caplog: pytest.LogCaptureFixture, compiled: list[str]
) -> None:
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where the folder should be")
    kernels._warn_about_cache.cache_clear()
    with caplog.at_level(logging.WARNING):
        program.cubin("sm_90")
        program.cubin("sm_90")
    assert len(compiled) == 2
    (record,) = caplog.records
    assert "every start compiles anew" in record.getMessage()


# ---- launching, with a driver that only listens ----


class Driver:
    """What `cuda.bindings.driver` is asked; modules are refused as often as `refusals` says."""

    CUfunction_attribute = SimpleNamespace()

    def __init__(self, refusals: int = 0, error: Any = 0) -> None:
        self.refusals, self.error = refusals, error
        self.launches: list[tuple[Any, ...]] = []

    def cuModuleLoadData(self, cubin: bytes) -> tuple[Any, str]:  # noqa: N802
        self.refusals -= 1
        return (1, "") if self.refusals >= 0 else (0, "module")

    def cuModuleGetFunction(self, module: str, name: bytes) -> tuple[int, str]:  # noqa: N802
        return 0, f"{module}.{name.decode()}"

    def cuLaunchKernel(self, *given: Any) -> tuple[Any]:  # noqa: N802
        pointers = ctypes.cast(given[9], ctypes.POINTER(ctypes.c_uint64 * 4))[0]
        words = [ctypes.c_uint64.from_address(pointer).value for pointer in pointers]
        self.launches.append((*given[:9], words))
        return (self.error,)

    def cuLaunchKernelEx(self, config: Any, *given: Any) -> tuple[Any]:  # noqa: N802
        (attribute,) = config.attrs
        assert attribute.value.programmaticStreamSerializationAllowed == 1
        blocks = config.gridDimX, config.gridDimY, config.gridDimZ
        threads = config.blockDimX, config.blockDimY, config.blockDimZ
        self.launches.append(("early", given[0], *blocks, *threads, int(config.hStream)))
        return (self.error,)

    def __getattr__(self, name: str) -> Any:
        assert name.startswith("CUlaunch"), name
        return getattr(importlib.import_module("cuda.bindings.driver"), name)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Driver:
    listening = Driver()
    monkeypatch.setattr(kernels, "_driver", lambda: listening)
    monkeypatch.setattr(kernels, "missing", lambda: None)
    stream = SimpleNamespace(cuda_stream=123, synchronize=lambda: None)
    for name, value in {
        "current_device": lambda: 0,
        "current_stream": lambda: stream,
        "is_current_stream_capturing": lambda: False,
        "get_device_capability": lambda _: (9, 0),
        "device": lambda _: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return listening


@needs_nvrtc
def test_captured_launches_may_begin_early(
    driver: Driver, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    program.launch("put", (3, 2), 64, torch.zeros(3), None, 7, 0.5)
    assert driver.launches == [("early", "module.put", 3, 2, 1, 64, 1, 1, 123)]


def test_every_kernel_begins_by_waiting_for_the_one_before() -> None:
    """Launched early, it would read what is not written yet."""
    for path in Path(kernels.__file__).parents[1].rglob("*.cu"):
        for head in path.read_text().replace("\\\n", "\n").split("__global__")[1:]:
            body = head.split("{", 1)[1].lstrip()
            assert body.startswith(("begin_kernel();", "await_previous();")), (path.name, head[:80])


@needs_nvrtc
def test_arguments_reach_the_driver(driver: Driver, program: Program) -> None:
    tensor = torch.zeros(3)
    for number in (5, -6):
        program.launch("put", (2, 3), 64, tensor, None, number, 0.5)
    program.launch("put", (2, 0), 64, tensor, None, 1, 0.5)
    assert len(driver.launches) == 2
    for launch, number in zip(driver.launches, (5, -6), strict=True):
        function, *sizes, shared, stream, words = launch
        assert (function, sizes, shared, stream) == ("module.put", [2, 3, 1, 64, 1, 1], 0, 123)
        assert words[0] == tensor.data_ptr()
        assert words[1] == 0
        assert ctypes.c_int32(words[2] & 0xFFFFFFFF).value == number
        assert words[3] & 0xFFFFFFFF == 0x3F000000


@needs_nvrtc
def test_every_device_has_its_own_module(
    driver: Driver, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(("first", "second"))
    monkeypatch.setattr(driver, "cuModuleLoadData", lambda _: (0, next(names)))
    for device in (0, 1, 0, 1):
        monkeypatch.setattr(torch.cuda, "current_device", lambda device=device: device)
        program.launch("put", 1, 1, None, None, 1, 0.5)
    assert [launch[0] for launch in driver.launches] == ["first.put", "second.put"] * 2


@needs_nvrtc
def test_a_refused_entry_is_compiled_again_once(
    driver: Driver, program: Program, compiled: list[str]
) -> None:
    driver.refusals = 1
    program.load()
    assert len(compiled) == 2
    driver.refusals = 2
    with pytest.raises(CudaError, match="refuses kernels for sm_90"):
        Program(*program.sources[1:], defines={"VALUE": 9}).load()


@needs_nvrtc
def test_a_failed_launch_says_what_to_do(driver: Driver, program: Program) -> None:
    driver.error = SimpleNamespace(name="CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(CudaError, match="out of memory: close other programs"):
        program.launch("put", 1, 1, None, None, 1, 0.5)


def test_an_old_gpu_is_told(monkeypatch: pytest.MonkeyPatch, program: Program) -> None:
    monkeypatch.setattr(kernels, "missing", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "RTX 2080")
    with pytest.raises(CudaError, match=r"GPU 0, RTX 2080: expected compute capability 8\.0"):
        program.load(0)


# ---- what may be missing ----


def gpu(monkeypatch: pytest.MonkeyPatch, version: Any) -> None:
    """A torch that finds a GPU, and a driver of a version (or one that raises)."""

    def answer() -> tuple[int, int]:
        if isinstance(version, Exception):
            raise version
        return 0, version

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    driver = SimpleNamespace(cuDriverGetVersion=answer)
    monkeypatch.setattr(kernels, "_driver", lambda: driver)


def whats_missing() -> str | None:
    return kernels.missing.__wrapped__()


def test_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "torch was built without CUDA" in (whats_missing() or "")


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no usable NVIDIA GPU" in (whats_missing() or "")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (12040, r"supports CUDA 12\.4, expected 13\.0 or newer: update it to 580"),
        (RuntimeError("no libcuda"), r"does not answer \(no libcuda\)"),
    ],
)
def test_drivers(monkeypatch: pytest.MonkeyPatch, version: Any, said: str) -> None:
    gpu(monkeypatch, version)
    assert re.search(said, whats_missing() or "")


def test_only_old_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, 13000)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GTX 1080")
    assert "GTX 1080" in (whats_missing() or "")


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("no libnvrtc.so.13")])
def test_no_compiler(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken() -> Any:
        raise error

    gpu(monkeypatch, 13000)
    monkeypatch.setattr(kernels, "_nvrtc", broken)
    monkeypatch.setattr(kernels, "compiler_missing", kernels.compiler_missing.__wrapped__)
    said = whats_missing() or ""
    assert "pip install 'ash-studio[cuda]'" in said
    with pytest.raises(CudaError, match="pip install"):
        cuda.FORWARD.compile("sm_90")


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise ImportError("cuda.bindings")

    gpu(monkeypatch, 13000)
    monkeypatch.setattr(kernels, "_driver", absent)
    assert "cuda-bindings is not installed" in (whats_missing() or "")

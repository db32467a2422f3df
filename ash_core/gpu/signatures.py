"""Parameters of kernels, read from their sources, and the check of a launch's arguments by them.

The driver takes arguments by address and asks for no types: a swapped pair would be read as it
comes.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

Argument = Tensor | int | float | None

_COMMENT: Final = re.compile(r"//[^\n]*")
_KERNEL: Final = re.compile(
    r"__global__\s+(?:void\s+)?(?:__launch_bounds__\s*\([^;{]*?\)\s*(?:void\s+)?)?"
    r"(?P<name>\w+(?:##\w+)?)\s*\((?P<parameters>[^)]*)\)\s*\{"
)
_BYTES: Final = {"double": 8, "float": 4, "int": 4, "short": 2, "unsigned": 4, "uchar": 1}
"""Bytes of an element by the first word of its type that stands here, vectors' digits removed."""
_ANY_WORDS: Final = {"uint", "Camera", "Sum"}
"""Types that hold several things side by side: their elements are not checked."""


class Parameter(NamedTuple):
    """One parameter of a kernel."""

    name: str
    type: str
    """Element type of a pointer, or the type itself: "float", "unsigned short", "Camera"."""
    is_pointer: bool

    @property
    def element_bytes(self) -> int | None:
        """Bytes of one element of a pointer; None where any tensor may be read by it."""
        base = [word.rstrip("1234") for word in self.type.split()]
        if base[-1] in _ANY_WORDS:
            return None
        return _BYTES[base[-1]]


def read_signatures(text: str) -> dict[str, tuple[Parameter, ...]]:
    """Parameters of every kernel of a program's text, by name.

    A kernel that a macro writes stands under the macro's name for it: `project_backward_##K`.
    """
    plain = _COMMENT.sub("", text.replace("\\\n", "\n"))
    return {
        kernel["name"]: tuple(
            _parameter(words) for words in kernel["parameters"].split(",") if words.strip()
        )
        for kernel in _KERNEL.finditer(plain)
    }


def signature_of(
    kernel: str, signatures: dict[str, tuple[Parameter, ...]]
) -> tuple[Parameter, ...]:
    """Parameters of one kernel; those of a macro's for `project_backward_16` and the like."""
    if kernel in signatures:
        return signatures[kernel]
    for name, parameters in signatures.items():
        if "##" in name and re.fullmatch(re.sub(r"##\w+", r"\\w+", name), kernel):
            return parameters
    raise AssertionError(f"{kernel}: no such kernel among {', '.join(signatures)}")


def check_arguments(
    kernel: str, parameters: Sequence[Parameter], arguments: Sequence[Argument]
) -> None:
    """Compare a launch with its kernel: how many, which kinds, and the element size of tensors."""
    assert len(arguments) == len(parameters), (
        f"{kernel}: takes {len(parameters)} arguments, got {len(arguments)}"
    )
    for place, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True)):
        label = f"{kernel}: argument {place}, {parameter.type} {parameter.name}"
        if parameter.is_pointer:
            assert argument is None or isinstance(argument, Tensor), f"{label}: got {argument!r}"
            size = parameter.element_bytes
            if isinstance(argument, Tensor) and size is not None:
                assert argument.element_size() == size, f"{label}: got {argument.dtype}"
                is_real = parameter.type.rstrip("1234") in ("float", "double")
                assert not is_real or argument.dtype in (torch.float32, torch.float64), (
                    f"{label}: got {argument.dtype}"
                )
        else:
            wanted = {"int": int, "float": float}[parameter.type]
            assert type(argument) is wanted, f"{label}: got {argument!r}"


def _parameter(words: str) -> Parameter:
    cleaned = words.replace("__restrict__", " ").replace("const", " ").replace("*", " * ")
    *kind, name = cleaned.split()
    return Parameter(name, " ".join(word for word in kind if word != "*"), "*" in kind)

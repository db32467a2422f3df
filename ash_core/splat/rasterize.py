"""Gaussians and cameras to pictures: one contract, several backends.

The definition is `reference.py`: 0.3 px^2 blur, exact support where alpha >= 1/255, alpha <= 0.99,
front to back by float32 view depth with ties by index, stop before transmittance falls under 1e-4.
"""

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from typing import NoReturn, Protocol, overload

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.errors import InputError
from ash_core.gpu import kernels
from ash_core.install import pip_install
from ash_core.records import Camera, Gaussians, Image, to_device


class _Render(Protocol):
    """What a backend's module offers as `render`: a finished picture for each camera."""

    def __call__(
        self, gaussians: Gaussians, cameras: Sequence[Camera], background: Tensor | None
    ) -> list[Image]: ...


def _always() -> str | None:
    return None


@dataclass(frozen=True)
class _Backend:
    module: str
    """Imported at first use, since numba and the like take their time."""
    device: str | None
    """Where its tensors must be; None: wherever they are."""
    missing: Callable[[], str | None] = _always
    """Why it cannot be used on this machine, and the cure; None where it can."""


def _package(name: str, cure: Callable[[], str]) -> Callable[[], str | None]:
    """Whether another package can be used: installed, and a GPU for it."""

    @functools.cache
    def missing() -> str | None:
        if find_spec(name) is None:
            return f"the package {name} is not installed: {cure()}"
        if not torch.cuda.is_available():
            return "torch finds no usable NVIDIA GPU"
        return None

    return missing


_GSPLAT = _package("gsplat", lambda: pip_install("gsplat"))
_INRIA = _package(
    "diff_gaussian_rasterization",
    lambda: "build it from its authors' repository (non-commercial licence)",
)
_BACKENDS = {
    "cuda": _Backend("ash_core.splat.cuda", "cuda", kernels.missing),
    "cpu": _Backend("ash_core.splat.cpu", "cpu"),
    "reference": _Backend("ash_core.splat.reference", None),
    "gsplat": _Backend("ash_core.splat.gsplat_adapter", "cuda", _GSPLAT),
    "inria": _Backend("ash_core.splat.inria_adapter", "cuda", _INRIA),
}

_SHAPES = {
    "means": "[N, 3]",
    "quats": "[N, 4]",
    "scales": "[N, 3]",
    "opacities": "[N]",
    "sh": "[N, K, 3] with K of 1, 4, 9, 16",
}
_TAILS = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": ()}


def available_backends() -> tuple[str, ...]:
    """Names that `rasterize` takes on this machine: ours, then those of other packages."""
    return tuple(name for name, backend in _BACKENDS.items() if backend.missing() is None)


@overload
def rasterize(
    gaussians: Gaussians,
    cameras: Camera,
    background: Float[Tensor, "3"] | None = None,
    *,
    backend: str = "auto",
) -> Image: ...
@overload
def rasterize(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    background: Float[Tensor, "3"] | None = None,
    *,
    backend: str = "auto",
) -> list[Image]: ...
def rasterize(
    gaussians: Gaussians,
    cameras: Camera | Sequence[Camera],
    background: Float[Tensor, "3"] | None = None,
    *,
    backend: str = "auto",
) -> Image | list[Image]:
    """Splat Gaussians into one camera, or into several (of any sizes) at once.

    background: linear under the picture, RGB; None leaves colour premultiplied on nothing.
    Differentiable in every Gaussian tensor, through rgb, alpha and depth; cameras and background
    are constants. Tensors elsewhere than the backend's device are moved, and the pictures back.
    backend "auto" means `cuda` for tensors on a GPU where that can be used, else `cpu`.

    Raises: InputError for an unknown backend, wrong shapes, types or devices, and values that are
    not finite (`cuda` does not look for those, which would wait for the GPU, nor draw them). No
    Gaussians, or a picture without pixels, are no error.
    """
    several = not isinstance(cameras, Camera)
    wanted = tuple(cameras) if several else (cameras,)
    chosen = _choose(backend, gaussians.means.is_cuda)
    _check_gaussians(gaussians)
    for number, camera in enumerate(wanted):
        check_camera(camera, f"cameras[{number}]" if several else "camera")
    if background is not None:
        if background.shape != (3,) or not background.is_floating_point():
            _refuse_floats(background, "background", "[3]")
        if background.device.type == "cpu":  # elsewhere a look would wait for everything before it
            _check_finite({"background": background})

    home = gaussians.means.device
    if chosen.device is not None and chosen.device != home.type:
        gaussians = to_device(gaussians, chosen.device)
    render: _Render = importlib.import_module(chosen.module).render
    images = [to_device(image, home) for image in render(gaussians, wanted, background)]
    return images if several else images[0]


def check_backend(backend: str) -> None:
    """Raises: InputError for a backend that this machine does not have, and why."""
    if backend != "auto" and (backend not in _BACKENDS or _BACKENDS[backend].missing()):
        reason = _BACKENDS[backend].missing() if backend in _BACKENDS else None
        because = f" ({reason})" if reason else ""
        names = ", ".join(available_backends())
        raise InputError(f"backend: expected auto, {names}, got {backend!r}{because}")


def _choose(backend: str, on_gpu: bool) -> _Backend:
    check_backend(backend)
    if backend == "auto":
        backend = "cuda" if on_gpu and not _BACKENDS["cuda"].missing() else "cpu"
    return _BACKENDS[backend]


def _check_gaussians(gaussians: Gaussians) -> None:
    means = gaussians.means
    count, device = means.shape[0] if means.ndim else 0, means.device
    tensors: dict[str, Tensor] = vars(gaussians)
    for name, tensor in tensors.items():
        if name == "sh":
            fits = tensor.ndim == 3 and tensor.shape[1] in (1, 4, 9, 16) and tensor.shape[2] == 3
        else:
            fits = tensor.ndim >= 1 and tensor.shape[1:] == _TAILS[name]
        if not fits or len(tensor) != count or not tensor.is_floating_point():
            _refuse_floats(tensor, f"gaussians.{name}", f"{_SHAPES[name]} with N = {count}")
        if tensor.device != device:
            raise InputError(
                f"gaussians.{name}: expected device {device} as means, got {tensor.device}"
            )
    if device.type == "cpu":
        _check_finite({f"gaussians.{name}": tensor for name, tensor in tensors.items()})


def check_camera(camera: Camera, place: str = "camera") -> None:
    """Raises: InputError for shapes, sizes and numbers that no picture can be made of."""
    for name, shape in (("viewmat", (4, 4)), ("K", (3, 3))):
        tensor: Tensor = getattr(camera, name)
        if tensor.shape != shape or not tensor.is_floating_point():
            _refuse_floats(tensor, f"{place}.{name}", f"{list(shape)}")
        if not all(map(math.isfinite, chain.from_iterable(tensor.tolist()))):
            _check_finite({f"{place}.{name}": tensor})
    if camera.width < 0 or camera.height < 0:
        raise InputError(f"{place}: expected a size >= 0, got {camera.width} x {camera.height}")
    (fx, *_), (_, fy, _), _ = camera.K.tolist()
    if fx <= 0 or fy <= 0:
        raise InputError(f"{place}.K: expected focal lengths > 0, got {fx:g} and {fy:g}")


def _refuse_floats(tensor: Tensor, place: str, shape: str) -> NoReturn:
    kind = str(tensor.dtype).removeprefix("torch.")
    raise InputError(f"{place}: expected floats {shape}, got {kind} {list(tensor.shape)}")


def _check_finite(tensors: dict[str, Tensor]) -> None:
    """One sum says whether to look closer: a value that is not finite makes it so too."""
    if math.isfinite(sum(tensor.detach().sum() for tensor in tensors.values())):
        return
    for place, tensor in tensors.items():
        bad = torch.nonzero(~torch.isfinite(tensor.detach()))
        if len(bad) > 0:
            first = bad[0].tolist()
            value = float(tensor.detach()[tuple(first)])
            raise InputError(f"{place}{first}: expected finite values, got {value}")

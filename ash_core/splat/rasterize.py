"""Gaussians and cameras to pictures: one contract, several backends.

The definition is `reference.py`: 0.3 px^2 blur, exact support where alpha >= 1/255, alpha <= 0.99,
front to back by float32 view depth with ties by index, stop before transmittance falls under 1e-4.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, overload

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.errors import InputError
from ash_core.gpu import kernels
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


_BACKENDS = {
    "cuda": _Backend("ash_core.splat.cuda", "cuda", kernels.missing),
    "cpu": _Backend("ash_core.splat.cpu", "cpu"),
    "reference": _Backend("ash_core.splat.reference", None),
}

_SHAPES = {
    "means": "[N, 3]",
    "quats": "[N, 4]",
    "scales": "[N, 3]",
    "opacities": "[N]",
    "sh": "[N, K, 3] with K of 1, 4, 9, 16",
}


def available_backends() -> tuple[str, ...]:
    """Names that `rasterize` takes on this machine, the fastest first."""
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
        _check_camera(camera, f"cameras[{number}]" if several else "camera")
    if background is not None:
        _check_floats(background, "background", "[3]", background.shape == (3,))
        _check_finite({"background": background})

    home = gaussians.means.device
    if chosen.device is not None and chosen.device != home.type:
        gaussians = to_device(gaussians, chosen.device)
    render: _Render = importlib.import_module(chosen.module).render
    images = [to_device(image, home) for image in render(gaussians, wanted, background)]
    return images if several else images[0]


def _choose(backend: str, on_gpu: bool) -> _Backend:
    names = available_backends()
    name = backend
    if backend == "auto":
        name = "cuda" if on_gpu and "cuda" in names else "cpu"
    if name not in names:
        reason = _BACKENDS[name].missing() if name in _BACKENDS else None
        because = f" ({reason})" if reason else ""
        raise InputError(f"backend: expected auto, {', '.join(names)}, got {backend!r}{because}")
    return _BACKENDS[name]


def _check_gaussians(gaussians: Gaussians) -> None:
    count, device = len(gaussians.means), gaussians.means.device
    tensors: dict[str, Tensor] = {
        f"gaussians.{f.name}": getattr(gaussians, f.name) for f in fields(gaussians)
    }
    for place, tensor in tensors.items():
        name = place.removeprefix("gaussians.")
        if name == "sh":
            fits = tensor.ndim == 3 and tensor.shape[1] in (1, 4, 9, 16) and tensor.shape[2] == 3
        else:
            tail = {"quats": (4,), "opacities": ()}.get(name, (3,))
            fits = tensor.ndim >= 1 and tensor.shape[1:] == tail
        fits = fits and len(tensor) == count
        _check_floats(tensor, place, f"{_SHAPES[name]} with N = {count}", fits)
        if tensor.device != device:
            raise InputError(f"{place}: expected device {device} as means, got {tensor.device}")
    if device.type == "cpu":  # elsewhere a look would wait for everything before it
        _check_finite(tensors)


def _check_camera(camera: Camera, place: str) -> None:
    _check_floats(camera.viewmat, f"{place}.viewmat", "[4, 4]", camera.viewmat.shape == (4, 4))
    _check_floats(camera.K, f"{place}.K", "[3, 3]", camera.K.shape == (3, 3))
    _check_finite({f"{place}.viewmat": camera.viewmat, f"{place}.K": camera.K})
    if camera.width < 0 or camera.height < 0:
        raise InputError(f"{place}: expected a size >= 0, got {camera.width} x {camera.height}")
    fx, fy = float(camera.K[0, 0]), float(camera.K[1, 1])
    if fx <= 0 or fy <= 0:
        raise InputError(f"{place}.K: expected focal lengths > 0, got {fx:g} and {fy:g}")


def _check_floats(tensor: Tensor, place: str, shape: str, fits: bool) -> None:
    if not fits or not tensor.dtype.is_floating_point:
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

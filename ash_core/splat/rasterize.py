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
from typing import Literal, NoReturn, Protocol, overload

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.errors import InputError
from ash_core.gpu import kernels
from ash_core.install import pip_install
from ash_core.records import Camera, Gaussians, Image, to_device
from ash_core.rendered_image import RenderedImage

Background = Float[Tensor, "3"] | Sequence[float] | None


class Backend(Protocol):
    """A rasterizer: renders Gaussians for each camera. Its arguments have been checked.

    gaussians: float tensors of one device, N may be 0. cameras: of any sizes. background: RGB [3],
    to lie under the image; None: colours stay premultiplied. Returns one `Image` a camera: rgb
    [h, w, 3], alpha [h, w], depth [h, w], on the Gaussians' device.

    >>> def render_nothing(gaussians, cameras, background):
    ...     empty = [torch.zeros(camera.height, camera.width) for camera in cameras]
    ...     return [ash.Image(rgb=e[..., None].expand(-1, -1, 3), alpha=e, depth=e) for e in empty]
    >>> ash.register_backend("nothing", render_nothing)
    >>> ash.rasterize(gaussians, camera, backend="nothing").alpha.max()
    tensor(0.)
    """

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Sequence[Camera],
        background: Float[Tensor, "3"] | None,
        /,
    ) -> Sequence[Image]: ...


def _always() -> str | None:
    return None


@dataclass(frozen=True)
class _Entry:
    load: Callable[[], Backend]
    """Called at first use, since numba and the like take their time to import."""
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


def _module(name: str) -> Callable[[], Backend]:
    """Import the backend that a module offers as `render`."""
    return lambda: importlib.import_module(f"ash_core.splat.{name}").render


_GSPLAT = _package("gsplat", lambda: pip_install("gsplat"))
_INRIA = _package(
    "diff_gaussian_rasterization",
    lambda: "build it from its authors' repository (non-commercial licence)",
)
_BUILT_IN = {
    "cuda": _Entry(_module("cuda"), "cuda", kernels.missing),
    "cpu": _Entry(_module("cpu"), "cpu"),
    "reference": _Entry(_module("reference"), None),
    "gsplat": _Entry(_module("gsplat_adapter"), "cuda", _GSPLAT),
    "inria": _Entry(_module("inria_adapter"), "cuda", _INRIA),
}
_BACKENDS = dict(_BUILT_IN)
"""Built-in backends and those of `register_backend`, by name."""

_SHAPES = {
    "means": "[N, 3]",
    "quats": "[N, 4]",
    "scales": "[N, 3]",
    "opacities": "[N]",
    "sh": "[N, K, 3] with K of 1, 4, 9, 16",
}
_TAILS = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": ()}


def available_backends() -> tuple[str, ...]:
    """List the names that `rasterize` takes on this machine, built-in ones first.

    >>> "cpu" in ash.available_backends()
    True
    """
    return tuple(name for name, backend in _BACKENDS.items() if backend.missing() is None)


def register_backend(
    name: str, backend: Backend, device: Literal["cpu", "cuda"] | None = None
) -> None:
    """Add a rasterizer of one's own, for `rasterize(backend=name)`, `Renderer` and `Scene`.

    device: where its tensors must be; None: wherever they are. A name may be registered again.
    Raises: InputError for the name of a built-in backend.

    >>> slow = lambda g, cameras, under: ash.rasterize(g, cameras, under, backend="reference")
    >>> ash.register_backend("mine", slow)
    >>> ash.rasterize(gaussians, camera, backend="mine").height
    48
    """
    if name in _BUILT_IN or name == "auto" or not name:
        raise InputError(f"backend: expected a name of its own, got {name!r}")

    def checked(
        gaussians: Gaussians, cameras: Sequence[Camera], background: Tensor | None
    ) -> list[Image]:
        images = list(backend(gaussians, cameras, background))
        if len(images) != len(cameras):
            text = f"expected {len(cameras)} images, one a camera, got {len(images)}"
            raise InputError(f"backend {name}: {text}")
        for image, camera in zip(images, cameras, strict=True):
            size = camera.height, camera.width
            for part, shape in (("rgb", (*size, 3)), ("alpha", size), ("depth", size)):
                tensor: Tensor = getattr(image, part)
                if tensor.shape != shape or not tensor.is_floating_point():
                    _refuse_floats(tensor, f"backend {name}: {part}", f"{list(shape)}")
        return images

    _BACKENDS[name] = _Entry(lambda: checked, device)


@overload
def rasterize(
    gaussians: Gaussians,
    cameras: Camera,
    background: Background = None,
    *,
    backend: str = "auto",
) -> RenderedImage: ...
@overload
def rasterize(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    background: Background = None,
    *,
    backend: str = "auto",
) -> list[RenderedImage]: ...
def rasterize(
    gaussians: Gaussians,
    cameras: Camera | Sequence[Camera],
    background: Background = None,
    *,
    backend: str = "auto",
) -> RenderedImage | list[RenderedImage]:
    """Splat Gaussians into one camera, or into several (of any sizes) at once.

    background: RGB in [0, 1], linear under the image; None leaves colour premultiplied on nothing.
    Differentiable in every Gaussian tensor, through rgb, alpha and depth; cameras and background
    are constants. Tensors elsewhere than the backend's device are moved, and the pictures back.
    backend "auto" means `cuda` for tensors on a GPU where that can be used, else `cpu`.

    Raises: InputError for an unknown backend, wrong shapes, types or devices, and values that are
    not finite (`cuda` does not look for those, which would wait for the GPU, nor draw them). No
    Gaussians, or a picture without pixels, are no error.

    >>> means = torch.zeros(1, 3, requires_grad=True)
    >>> image = ash.rasterize(dataclasses.replace(gaussians, means=means), camera)
    >>> image.alpha.sum().backward()
    >>> means.grad.shape
    torch.Size([1, 3])
    """
    several = not isinstance(cameras, Camera)
    wanted = tuple(cameras) if several else (cameras,)
    _check_gaussians(gaussians)
    chosen = _choose(backend, gaussians.means.is_cuda)
    for number, camera in enumerate(wanted):
        check_camera(camera, f"cameras[{number}]" if several else "camera")
    if background is not None:
        if not isinstance(background, Tensor):
            background = torch.tensor(background, dtype=torch.float32)
        if background.shape != (3,) or not background.is_floating_point():
            _refuse_floats(background, "background", "[3]")
        if background.device.type == "cpu":  # elsewhere a look would wait for everything before it
            _check_finite({"background": background})

    home, is_transparent = gaussians.means.device, background is None
    if chosen.device is not None and chosen.device != home.type:
        gaussians = to_device(gaussians, chosen.device)
    images = [
        RenderedImage(
            image.rgb.to(home), image.alpha.to(home), image.depth.to(home), is_transparent
        )
        for image in chosen.load()(gaussians, wanted, background)
    ]
    return images if several else images[0]


def check_backend(backend: str) -> None:
    """Raises: InputError for a backend that this machine does not have, and why."""
    if backend != "auto" and (backend not in _BACKENDS or _BACKENDS[backend].missing()):
        reason = _BACKENDS[backend].missing() if backend in _BACKENDS else None
        because = f" ({reason})" if reason else ""
        names = ", ".join(available_backends())
        raise InputError(f"backend: expected auto, {names}, got {backend!r}{because}")


def _choose(backend: str, on_gpu: bool) -> _Entry:
    check_backend(backend)
    if backend == "auto":
        backend = "cuda" if on_gpu and not _BACKENDS["cuda"].missing() else "cpu"
    return _BACKENDS[backend]


def _check_gaussians(gaussians: Gaussians) -> None:
    tensors: dict[str, Tensor] = vars(gaussians)
    for name, tensor in tensors.items():
        _check_tensor(tensor, f"gaussians.{name}")
    means = gaussians.means
    count, device = means.shape[0] if means.ndim else 0, means.device
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
        _check_tensor(tensor, f"{place}.{name}")
        if tensor.shape != shape or not tensor.is_floating_point():
            _refuse_floats(tensor, f"{place}.{name}", f"{list(shape)}")
        if not all(map(math.isfinite, chain.from_iterable(tensor.tolist()))):
            _check_finite({f"{place}.{name}": tensor})
    if camera.width < 0 or camera.height < 0:
        raise InputError(f"{place}: expected a size >= 0, got {camera.width} x {camera.height}")
    (fx, *_), (_, fy, _), _ = camera.K.tolist()
    if fx <= 0 or fy <= 0:
        raise InputError(f"{place}.K: expected focal lengths > 0, got {fx:g} and {fy:g}")


def _check_tensor(value: object, place: str) -> None:
    if not isinstance(value, Tensor):
        text = f"expected a tensor, got {type(value).__name__}; from_arrays takes arrays"
        raise InputError(f"{place}: {text}")


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

"""ASH Studio as a library: `import ash_core as ash`.

    scene = ash.open("ida")                       # an avatar with its motions and cameras
    image = scene.render(frame=120)               # a notebook shows it
    image.save("ida.png")

The names listed in `__all__` are public: they keep their meaning from one minor version to the
next. Every submodule, and every name that is not listed, is private and may change at any time.
Nothing heavy is imported before a name is used: `import ash_core` alone loads no torch.

Units are metres, radians and seconds, images RGB in [0, 1], worlds Z up, cameras OpenCV. Whatever
a user gets wrong raises `InputError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ash_core.avatar import Avatar as Avatar
    from ash_core.cloth.swing import Swing as Swing
    from ash_core.errors import InputError as InputError
    from ash_core.geometry.spherical_harmonics import rgb_to_sh as rgb_to_sh
    from ash_core.library.cameras import front_camera as front_camera
    from ash_core.library.cameras import load_cameras as load_cameras
    from ash_core.library.cameras import look_at as look_at
    from ash_core.library.cameras import orbit_cameras as orbit_cameras
    from ash_core.library.learning import Progress as Progress
    from ash_core.library.learning import evaluate as evaluate
    from ash_core.library.learning import train as train
    from ash_core.library.loading import load_avatar as load_avatar
    from ash_core.library.loading import load_motion as load_motion
    from ash_core.library.loading import load_splats as load_splats
    from ash_core.library.loading import pose_window as pose_window
    from ash_core.library.loading import save_splats as save_splats
    from ash_core.library.toy import make_toy as make_toy
    from ash_core.look import Look as Look
    from ash_core.records import Camera as Camera
    from ash_core.records import Gaussians as Gaussians
    from ash_core.records import Image as Image
    from ash_core.records import Motion as Motion
    from ash_core.records import PoseWindow as PoseWindow
    from ash_core.render import Renderer as Renderer
    from ash_core.render import RenderRequest as RenderRequest
    from ash_core.rendered_image import RenderedImage as RenderedImage
    from ash_core.scene.scene import Scene as Scene
    from ash_core.scene.scene import open_scene as open  # noqa: F401
    from ash_core.scene.view import View as View
    from ash_core.splat.rasterize import Backend as Backend
    from ash_core.splat.rasterize import available_backends as available_backends
    from ash_core.splat.rasterize import rasterize as rasterize
    from ash_core.splat.rasterize import register_backend as register_backend
    from ash_core.training.config import LossWeights as LossWeights
    from ash_core.training.config import TrainConfig as TrainConfig
    from ash_core.training.evaluation import Evaluation as Evaluation
    from ash_core.training.train import Trained as Trained

_HOMES = {
    "Avatar": "avatar",
    "Backend": "splat.rasterize",
    "Camera": "records",
    "Evaluation": "training.evaluation",
    "Gaussians": "records",
    "Image": "records",
    "InputError": "errors",
    "Look": "look",
    "LossWeights": "training.config",
    "Motion": "records",
    "PoseWindow": "records",
    "Progress": "library.learning",
    "RenderRequest": "render",
    "RenderedImage": "rendered_image",
    "Renderer": "render",
    "Scene": "scene.scene",
    "Swing": "cloth.swing",
    "TrainConfig": "training.config",
    "Trained": "training.train",
    "View": "scene.view",
    "available_backends": "splat.rasterize",
    "evaluate": "library.learning",
    "front_camera": "library.cameras",
    "load_avatar": "library.loading",
    "load_cameras": "library.cameras",
    "load_motion": "library.loading",
    "load_splats": "library.loading",
    "look_at": "library.cameras",
    "make_toy": "library.toy",
    "open": "scene.scene",
    "orbit_cameras": "library.cameras",
    "pose_window": "library.loading",
    "rasterize": "splat.rasterize",
    "register_backend": "splat.rasterize",
    "rgb_to_sh": "geometry.spherical_harmonics",
    "save_splats": "library.loading",
    "train": "library.learning",
}
"""Module of each public name, imported when the name is first used."""

__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

if not TYPE_CHECKING:  # a checker must not take every name for one of ours

    def __getattr__(name: str) -> object:
        """Import a public name at its first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module 'ash_core' has no attribute {name!r}")
        module = import_module(f"ash_core.{_HOMES[name]}")
        value = globals()[name] = getattr(module, "open_scene" if name == "open" else name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

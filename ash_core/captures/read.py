"""Reading of a capture's folder: which layout it has, and that layout's reader."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ash_core.captures.capture import LAYOUTS, Capture, Layout
from ash_core.files.io import bad, is_kind

if TYPE_CHECKING:
    from ash_core.captures.layouts.choice import Choice

_HOMES: Final[dict[Layout, str]] = {
    **{"avatarrex": "avatarrex", "thuman4": "avatarrex", "actorshq": "actorshq", "zju": "zju"},
    **{"easymocap": "easymocap", "mvhumannet": "mvhumannet", "dna": "dna", "uma": "uma"},
    **{"nerfstudio": "nerfstudio_colmap", "colmap": "nerfstudio_colmap"},
}
"""Module of `captures.layouts` that reads each layout."""
_NEEDED: Final[dict[Layout, str]] = {
    "avatarrex": "calibration_full.json and folders of cameras with mask/pha",
    "thuman4": "calibration.json, images/ and masks/",
    "actorshq": "calibration.csv, rgbs/ and masks/",
    "zju": "annots.npy",
    "easymocap": "intri.yml and extri.yml with images/ or videos/",
    "mvhumannet": "camera_intrinsics.json, camera_extrinsics.json and camera_scale.pkl",
    "dna": "ID.smc and ID_annots.smc",
    "nerfstudio": "transforms.json",
    "colmap": "sparse/0 with cameras and images",
    "uma": "cameras.calib and the videos of a split",
}
"""Files by which each layout is recognised."""


def detect_layout(folder: Path) -> Layout:
    """Find the one layout that a folder has. Raises: InputError for none or several."""
    if not is_kind(Path.is_dir, folder):
        actual = "a file" if folder.exists() else "nothing there"
        raise bad(folder, None, f"expected the folder of a capture, found {actual}")
    layouts: list[Layout] = [layout for layout in LAYOUTS if _function(layout, "is")(folder)]
    if len(layouts) == 1:
        return layouts[0]
    if layouts:
        text = f"expected one layout, but it may be {' or '.join(layouts)}: --layout decides"
        raise bad(folder, None, text)
    text = f"expected a capture of a known layout ({', '.join(LAYOUTS)}), recognised none"
    raise bad(folder, None, text)


def read_capture(folder: Path, layout: Layout, choice: "Choice") -> Capture:
    """Read a capture of a layout; images stay unread. Raises: InputError."""
    if not _function(layout, "is")(folder):
        text = f"expected {_NEEDED[layout]} of the layout {layout}, found none"
        raise bad(folder, None, text)
    capture: Capture = _function(layout, "read")(folder, choice)
    if not capture.frames or not capture.cameras or not capture.images:
        raise bad(folder, None, "expected frames, cameras and images, found none")
    return capture


def _function(layout: Layout, what: str) -> Callable[..., Any]:
    """Load a function of a layout's reader; readers may need extras, so only when asked."""
    # The name without an ending is the reader of EasyMocap's cameras alone.
    name = f"{what}_{layout}" + "_capture" * (layout == "easymocap")
    module = importlib.import_module(f"ash_core.captures.layouts.{_HOMES[layout]}")
    return getattr(module, name)

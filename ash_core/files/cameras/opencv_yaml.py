"""Read and write cameras as OpenCV's FileStorage YAML, EasyMocap's intri.yml and extri.yml too.

Camera-from-world. OpenCV counts pixels from the first one's centre, we from its corner: our
principal point is half a pixel more. Source: OpenCV's documentation of camera calibration.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from ash_core.files.cameras.checks import MAX_CAMERAS, check_rigid, make_camera, rigid_matrix
from ash_core.files.cameras.record import CameraFile, Reading, StageCamera
from ash_core.files.io import bad, is_kind, read_lines, shorten, show, write_text
from ash_core.geometry.lens import Lens

INTRINSICS, EXTRINSICS = "intri.yml", "extri.yml"
HALF_PIXEL: Final = 0.5
_K_NAMES: Final = ("K", "camera_matrix", "cameraMatrix", "Camera_Matrix", "intrinsics", "M")
_LENS_NAMES: Final = (
    *("D", "dist", "distortion_coefficients", "Distortion_Coefficients", "distCoeffs"),
    *("dist_coeffs", "distortion"),
)
_ROTATION_NAMES: Final = ("Rot", "R", "rotation", "rotation_matrix", "rvec")
_TRANSLATION_NAMES: Final = ("T", "t", "translation", "translation_vector", "tvec")
_SIZE_NAMES: Final = (("W", "H"), ("image_width", "image_height"), ("image_Width", "image_Height"))
_MATRIX_HEAD: Final = re.compile(r"!!opencv-matrix|\b(?:rows|cols|dt)\s*:\s*\"?\w+\"?|\bdata\s*:")
_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_COMMENT: Final = re.compile(r"\s#[^\"]*$")
_NAMED: Final = re.compile(r"\"([^\"]*)\"|'([^']*)'|([^\s,\[\]\-][^\s,\[\]]*)")

Values = Mapping[str, str]
"""Text of each entry at the top of a file, by its key."""


def is_easymocap(path: Path) -> bool:
    """Return whether a path is a pair of intri.yml and extri.yml: their folder, or one of them."""
    folder = path.parent if path.name in (INTRINSICS, EXTRINSICS) else path
    return all(is_kind(Path.is_file, folder / name) for name in (INTRINSICS, EXTRINSICS))


def read_opencv(path: Path, reading: Reading) -> CameraFile:
    """Read one camera of a file, or all cameras that its keys name. Raises: InputError."""
    if is_easymocap(path):
        folder = path if path.name not in (INTRINSICS, EXTRINSICS) else path.parent
        values = {**_values(folder / INTRINSICS), **_values(folder / EXTRINSICS)}
        path = folder / INTRINSICS
    else:
        values = _values(path)
    suffixes = [f"_{name}" for name in _names(values)]
    if len(suffixes) > MAX_CAMERAS:
        raise bad(path, None, f"expected at most {MAX_CAMERAS} cameras, got {len(suffixes)}")
    if not suffixes and _find(values, _K_NAMES, "") is None:
        keys = show(", ".join(values) or "none")
        text = "expected K_NAME, R_NAME and T_NAME of cameras, or camera_matrix, R and T"
        raise bad(path, None, f"{text} of one, got keys {keys}")
    cameras = [
        _camera(path, values, suffix, suffix[1:] or path.stem, reading)
        for suffix in suffixes or [""]
    ]
    kind = "easymocap" if path.name == INTRINSICS else "opencv"
    return CameraFile(kind, tuple(cameras))


def _values(path: Path) -> dict[str, str]:
    """Split a file into its entries; a key at the start of a line begins one."""
    values: dict[str, str] = {}
    key = ""
    lines = read_lines(path)
    is_json = lines[0].lstrip()[:1] in ("{", "[")
    has_keys = lines[0].startswith("%YAML") or any(":" in line for line in lines[:50])
    if is_json or not has_keys:
        raise bad(path, None, "expected OpenCV's FileStorage YAML")
    for raw in lines:
        line = _COMMENT.sub("", raw)
        if line[:1] not in ("", " ", "\t", "-", "%", "#") and ":" in line:
            key, _, rest = line.partition(":")
            key = key.strip().strip("\"'")
            values[key] = rest
        elif key and line.strip() not in ("---", "..."):
            values[key] += "\n" + line
    return values


def _names(values: Values) -> list[str]:
    """List the cameras: the entry `names`, else the ends of keys that begin with K_."""
    if "names" in values:
        listed = _NAMED.findall(re.sub(r"^\s*-\s", " ", values["names"], flags=re.MULTILINE))
        return ["".join(groups) for groups in listed]
    return [key[2:] for key in values if key.startswith("K_") and len(key) > 2]


def _find(values: Values, names: Sequence[str], suffix: str) -> str | None:
    return next((name + suffix for name in names if name + suffix in values), None)


def _numbers(path: Path, key: str, text: str) -> Float[np.ndarray, "n"]:
    """Read the numbers of one entry in any of its notations."""
    body = _MATRIX_HEAD.sub(" ", text)
    numbers = np.array([float(number) for number in _NUMBER.findall(body)])
    rest = _NUMBER.sub(" ", body).translate(dict.fromkeys(map(ord, "[],- \t\r\n"), None))
    if rest or not np.isfinite(numbers).all():
        raise bad(path, None, f"{show(key)}: expected finite numbers, got {show(rest or 'inf')}")
    return numbers


def _camera(path: Path, values: Values, suffix: str, name: str, reading: Reading) -> StageCamera:
    place = f"camera {show(name)}"

    def numbers(names: Sequence[str], *counts: int) -> Float[np.ndarray, "n"]:
        """Read the first entry that is present; it must have one of these counts of numbers."""
        key = _find(values, names, suffix)
        if key is None:
            keys, ending = show(", ".join(values)[:200]), shorten(suffix, 40)
            text = f"expected {' or '.join(name + ending for name in names[:2])}"
            raise bad(path, None, f"{place}: {text}, got keys {keys}")
        array = _numbers(path, key, values[key])
        if len(array) not in counts:
            text = f"{show(key)}: expected {' or '.join(map(str, counts))} numbers"
            raise bad(path, None, f"{place}: {text}, got {len(array)}")
        return array

    # Read intrinsics and pose.
    K = numbers(_K_NAMES, 9).reshape(3, 3)
    if abs(K[0, 1]) > 1e-6 or np.abs(K[[1, 2, 2], [0, 0, 1]]).max() > 1e-6 or K[2, 2] != 1.0:
        raise bad(path, None, f"{place}: expected K = fx 0 cx, 0 fy cy, 0 0 1")
    rotation = numbers(_ROTATION_NAMES, 9, 3)
    R = rotation.reshape(3, 3) if len(rotation) == 9 else Rotation.from_rotvec(rotation).as_matrix()
    viewmat = rigid_matrix(R, numbers(_TRANSLATION_NAMES, 3))
    check_rigid(path, place, viewmat)
    if reading.axes == "opengl":
        viewmat = np.diag([1.0, -1.0, -1.0, 1.0]) @ viewmat

    # Read the distortion.
    lens = Lens()
    if _find(values, _LENS_NAMES, suffix) is not None:
        bends = numbers(_LENS_NAMES, 4, 5, 8, 12, 14)
        if bends[8:].any():
            raise bad(path, None, f"{place}: expected up to 8 distortion coefficients")
        lens = Lens(*map(float, bends[:8]))
    # Take the image size from the file, or from the flag.
    size = next(
        (
            (float(numbers((w,), 1)[0]), float(numbers((h,), 1)[0]))
            for w, h in _SIZE_NAMES
            if w + suffix in values and h + suffix in values
        ),
        reading.size,
    )
    if size is None:
        text = f"{place}: expected the image size (W{suffix}, H{suffix})"
        raise bad(path, None, f"{text}; 'ash-studio cameras --size WxH' gives it")
    camera = make_camera(
        path,
        place,
        viewmat=viewmat,
        focal=(K[0, 0], K[1, 1]),
        centre=(K[0, 2] + HALF_PIXEL, K[1, 2] + HALF_PIXEL),
        size=size,
        name=name,
    )
    return StageCamera(camera, lens)


# ---- writing ----


def write_opencv(path: Path, cameras: Sequence[StageCamera]) -> None:
    """Write all cameras to one file, with the keys of EasyMocap."""
    write_text(path, _HEAD + _list_names(cameras) + _intrinsics(cameras) + _extrinsics(cameras))


def write_easymocap(folder: Path, cameras: Sequence[StageCamera]) -> None:
    """Write intri.yml and extri.yml into a folder."""
    names = _HEAD + _list_names(cameras)
    write_text(folder / INTRINSICS, names + _intrinsics(cameras))
    write_text(folder / EXTRINSICS, names + _extrinsics(cameras))


_HEAD: Final = "%YAML:1.0\n---\n"


def _name(number: int, camera: StageCamera) -> str:
    """Make a key from a camera's name: FileStorage takes letters, digits, _ and - only."""
    return re.sub(r"[^\w-]", "_", camera.camera.name) or f"{number:06d}"


def _list_names(cameras: Sequence[StageCamera]) -> str:
    names = "".join(f'  - "{_name(n, camera)}"\n' for n, camera in enumerate(cameras))
    return f"names:\n{names}"


def _matrix(key: str, rows: int, values: Sequence[float]) -> str:
    data = ", ".join(f"{float(value):.17g}" for value in values)
    head = f"{key}: !!opencv-matrix\n   rows: {rows}\n   cols: {len(values) // rows}\n"
    return f"{head}   dt: d\n   data: [{data}]\n"


def _intrinsics(cameras: Sequence[StageCamera]) -> str:
    text = ""
    for number, entry in enumerate(cameras):
        name, (camera, lens) = _name(number, entry), entry
        K = camera.K.double().cpu().numpy().copy()
        K[:2, 2] -= HALF_PIXEL
        bends = [*vars(lens).values()]
        bends = bends if any(bends[5:]) else bends[:5]
        text += _matrix(f"K_{name}", 3, K.flatten().tolist())
        text += _matrix(f"dist_{name}", 1, bends)
        text += f"H_{name}: {camera.height}\nW_{name}: {camera.width}\n"
    return text


def _extrinsics(cameras: Sequence[StageCamera]) -> str:
    text = ""
    for number, entry in enumerate(cameras):
        name, viewmat = _name(number, entry), entry.camera.viewmat.double().cpu().numpy()
        R = viewmat[:3, :3]
        text += _matrix(f"R_{name}", 3, Rotation.from_matrix(R).as_rotvec().tolist())
        text += _matrix(f"Rot_{name}", 3, R.flatten().tolist())
        text += _matrix(f"T_{name}", 3, viewmat[:3, 3].tolist())
    return text

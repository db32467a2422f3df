"""Cameras and images: round trips, and what is said of damaged ones."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from toy import toy_cameras, toy_texture

from ash_core.errors import InputError
from ash_core.files.cameras.published import read_calibration, read_cameras, write_cameras
from ash_core.files.image import decode_image, encode_png, read_image


def test_cameras_round_trip(tmp_path: Path) -> None:
    first, second = toy_cameras()
    wide = type(second)(second.viewmat, second.K, 320, 120, "wide")
    for cameras in ((first, second), (first, wide)):
        write_cameras(tmp_path / "cameras.json", cameras)
        for want, got in zip(cameras, read_cameras(tmp_path / "cameras.json"), strict=True):
            torch.testing.assert_close(got.viewmat, want.viewmat, atol=1e-6, rtol=0)
            assert torch.equal(got.K, want.K)
            assert (got.width, got.height, got.name) == (want.width, want.height, want.name)


def frame(change: dict[str, Any]) -> Any:
    return lambda content: content["frames"][1].update(change)


def set_matrix(row: int, column: int, value: Any) -> Any:
    def change(content: Any) -> None:
        content["frames"][1]["transform_matrix"][row][column] = value

    return change


JSON_FAULTS = {
    "distortion": (lambda c: c.update(k1=0.1), r"frames\[0\]: expected no lens distortion, got k1"),
    "no frames": (lambda c: c.pop("frames"), r"expected 'frames', a list"),
    "no focal length": (frame({"fl_x": None}), r"frames\[1\]: fl_x: expected .*, got nothing"),
    "zero focal length": (frame({"fl_x": 0}), r"frames\[1\]: expected focal lengths"),
    "NaN": (frame({"cx": math.nan}), r"frames\[1\]: cx: expected a finite number, got 'nan'"),
    "huge": (frame({"cx": 10**400}), r"frames\[1\]: cx: expected a finite number"),
    "text": (frame({"cx": "a"}), r"frames\[1\]: cx: expected a finite number"),
    "size": (
        lambda c: c.update(w=1e9),
        r"frames\[0\]: expected an image of 1 to 16384 px, got 1e\+09 x",
    ),
    "no matrix": (frame({"transform_matrix": [[1, 2], 3]}), r"frames\[1\]: .* 4 rows of 4 numbers"),
    "infinite": (set_matrix(0, 3, math.inf), r"frames\[1\]: transform_matrix: expected a finite"),
    "singular": (set_matrix(0, 0, 5.0), r"frames\[1\]: expected a rotation"),
    "last row": (set_matrix(3, 0, 0.5), r"frames\[1\]: expected the last row"),
    "one name": (
        frame({"file_path": "front"}),
        r"expected cameras of different names, got 'front' for 0 and 1",
    ),
    "no object": (lambda c: c["frames"].append(3), r"frames\[2\]: expected a JSON object"),
}


@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_bad_cameras_are_named(tmp_path: Path, fault: str) -> None:
    change, message = JSON_FAULTS[fault]
    path = tmp_path / "cameras.json"
    write_cameras(path, toy_cameras())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"cameras.json: " + message):
        read_cameras(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100000, "[1]", "nul", "9" * 5000, "\xff"])
def test_bad_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cameras.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"cameras.json.*expected"):
        read_cameras(path)


CALIBRATION_FAULTS = {
    "header": ("Skeletool Camera", "Something", r":1: expected the header"),
    "version": ("File V1.0", "File V1.5", r":1: expected version 1.0"),
    "one name": ("name          1", "name          0", r":9: expected cameras of different names"),
    "distortion": ("radial      0", "radial      1 0.2", r":8: expected no lens distortion"),
    "animated": ("animated    0", "animated    1", r":5: expected a camera that stands still"),
    "short": (" 1.000000 \n", "\n", r":6: expected 16 numbers of intrinsic, got 15"),
    "NaN": ("-730.27160095", "nan", r":7: expected a finite number for extrinsic"),
    "singular": ("0.34202014", "3.4", r": camera '0': expected a rotation"),
    "missing": ("  size        1285 940\n", "", r":2: camera '0': expected size, found none"),
    "skew": ("1120.000000 0.0", "1120.000000 2.0", r":2: camera '0': expected no skew"),
    "twice": ("  sensor", "  size 1 1\n  sensor", r":5: expected one 'size' per camera"),
    "no name": ("name          0\n", "", r":2: expected 'name', the first line"),
}


@pytest.mark.parametrize("fault", CALIBRATION_FAULTS)
def test_bad_calibrations_are_named(golden: Path, tmp_path: Path, fault: str) -> None:
    old, new, message = CALIBRATION_FAULTS[fault]
    text = (golden / "12_synthetic.calibration").read_text()
    assert old in text
    path = tmp_path / "a.calibration"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=r"a.calibration" + message):
        read_calibration(path)


def test_images(tmp_path: Path) -> None:
    texture = toy_texture()
    assert torch.equal(decode_image(encode_png(texture), "here"), texture)
    rgba = np.dstack([texture.numpy(), np.full((64, 64), 7, np.uint8)])
    PillowImage.fromarray(rgba).save(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png"), texture)


def test_bad_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    data = encode_png(toy_texture())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a.png: expected an image, could not decode it"):
        read_image(path)
    path.write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"a.png: expected an image"):
        read_image(path)
    PillowImage.new("L", (20000, 1)).save(path)
    with pytest.raises(InputError, match=r"a.png: expected sides up to 16384 px, got 20000 x 1"):
        read_image(path)
    PillowImage.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    with pytest.raises(InputError, match=r"a.png: expected 8 bits a channel"):
        read_image(path)

"""Camera files of other programs: each written here by its own conventions from known cameras.

A marker must land where the known camera sees it; what we write must come back as it was.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from toy import figure, make_toy_character, toy_skeleton

from ash_core.cli import main
from ash_core.conventions import CameraFormat, Up
from ash_core.errors import InputError
from ash_core.files.cameras.files import read_camera_file, read_straight, write_camera_file
from ash_core.files.cameras.published import read_cameras
from ash_core.files.cameras.record import Reading, StageCamera
from ash_core.files.image import read_image
from ash_core.geometry.camera import look_at
from ash_core.geometry.lens import Lens, distort
from ash_core.records import Camera
from ash_core.scene.open import find_camera

MARKERS = np.array([[0.1, 0.2, 1.0], [-0.3, 0.1, 1.5], [0.2, -0.3, 0.4]])
EYES = ((3.0, 0.2, 1.1), (-0.5, 2.7, 1.9), (0.3, -3.1, 0.2))
AROUND_X = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
BENT = Lens(0.1, -0.02, 0.001, -0.002, 0.003)


def known() -> list[Camera]:
    """Make three cameras of different sizes with principal points off the middle."""
    cameras = []
    for number, eye in enumerate(EYES):
        width, height = 640 + 32 * number, 480 - 16 * number
        K = torch.tensor([[510.5 + number, 0, 331.25], [0, 505.25, 236.5 + number], [0, 0, 1]])
        viewmat = look_at(torch.tensor(eye), torch.tensor([0.05, 0.0, 1.0]))
        cameras.append(Camera(viewmat, K, width, height, f"cam{number:02d}"))
    return cameras


def pixels(camera: Camera, lens: Lens = Lens()) -> np.ndarray:  # noqa: B008
    """Project the markers by a camera; the first pixel's centre is (0.5, 0.5)."""
    viewmat, K = camera.viewmat.double().numpy(), camera.K.double().numpy()
    x, y, z = (MARKERS @ viewmat[:3, :3].T + viewmat[:3, 3]).T
    assert (z > 0).all()
    return distort(lens, np.stack((x / z, y / z), -1)) @ K[:2, :2].T + K[:2, 2]


class Matrices(NamedTuple):
    K: np.ndarray
    w2c: np.ndarray
    c2w: np.ndarray


def matrices(camera: Camera) -> Matrices:
    w2c = camera.viewmat.double().numpy()
    return Matrices(camera.K.double().numpy(), w2c, np.linalg.inv(w2c))


# ---- each format by its own conventions ----


def nerfstudio(folder: Path, lens: Lens, **more: Any) -> Path:
    """Write OpenGL axes, camera to world, intrinsics in each frame."""
    frames = []
    for camera in known():
        K, _, c2w = matrices(camera)
        c2w = c2w.copy()
        c2w[:3, 1:3] *= -1
        frame = {"file_path": camera.name, "transform_matrix": c2w.tolist()}
        frame |= {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
        frame |= {"w": camera.width, "h": camera.height}
        frames.append(frame | {k: getattr(lens, k) for k in ("k1", "k2", "p1", "p2", "k3")})
    path = folder / "transforms.json"
    path.write_text(json.dumps({"camera_model": "OPENCV", "frames": frames, **more}))
    return path


def colmap_text(folder: Path, lens: Lens) -> Path:
    cameras, images = "# Camera list\n", "# Image list\n\n"
    for number, camera in enumerate(known(), 7):
        K, w2c, _ = matrices(camera)
        x, y, z, w = Rotation.from_matrix(w2c[:3, :3]).as_quat()
        numbers = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], lens.k1, lens.k2, lens.p1, lens.p2]
        words = [number, "FULL_OPENCV", camera.width, camera.height, *numbers, lens.k3, 0, 0, 0]
        cameras += " ".join(map(str, words)) + "\n"
        words = [number + 20, w, x, y, z, *w2c[:3, 3], number, camera.name]
        images += " ".join(map(str, words)) + "\n" + ("1.5 2.5 -1\n" if number == 8 else "\n")
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text(cameras)
    (model / "images.txt").write_text(images)
    return folder


def colmap_binary(folder: Path, lens: Lens) -> Path:
    cameras, images = [struct.pack("<Q", 3)], [struct.pack("<Q", 3)]
    for number, camera in enumerate(known(), 7):
        K, w2c, _ = matrices(camera)
        x, y, z, w = Rotation.from_matrix(w2c[:3, :3]).as_quat()
        numbers = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], lens.k1, lens.k2, lens.p1, lens.p2]
        head = struct.pack("<iiQQ", number, 6, camera.width, camera.height)
        cameras.append(head + struct.pack("<12d", *numbers, lens.k3, 0, 0, 0))
        images.append(struct.pack("<I7dI", 90 - number, w, x, y, z, *w2c[:3, 3], number))
        images.append(camera.name.encode() + b"\0" + struct.pack("<Qddq", 1, 1.5, 2.5, -1))
    (folder / "cameras.bin").write_bytes(b"".join(cameras))
    (folder / "images.bin").write_bytes(b"".join(images))
    return folder / "images.bin"


def mat(key: str, rows: int, values: Any) -> str:
    """Write a matrix as cv::FileStorage does, wrapped over lines."""
    numbers = [f"{value:.16e}" for value in np.asarray(values).flatten()]
    data = ",\n       ".join(numbers)
    head = f"{key}: !!opencv-matrix\n   rows: {rows}\n   cols: {len(numbers) // rows}\n   dt: d\n"
    return f"{head}   data: [ {data} ]\n"


def easymocap(folder: Path, lens: Lens) -> Path:
    """Write pixels counted from the first one's centre; names with zeros are text."""
    intri = extri = '%YAML:1.0\n---\nnames:\n   - "cam00"\n   - "cam01"\n   - "cam02"\n'
    for camera in known():
        K, w2c, _ = matrices(camera)
        K = K.copy()
        K[:2, 2] -= 0.5
        intri += mat(f"K_{camera.name}", 3, K)
        intri += mat(f"dist_{camera.name}", 1, [lens.k1, lens.k2, lens.p1, lens.p2, lens.k3])
        intri += f"H_{camera.name}: {camera.height}\nW_{camera.name}: {camera.width}\n"
        rotvec = Rotation.from_matrix(w2c[:3, :3]).as_rotvec()
        extri += mat(f"R_{camera.name}", 3, rotvec) + mat(f"T_{camera.name}", 3, w2c[:3, 3])
    (folder / "intri.yml").write_text(intri)
    (folder / "extri.yml").write_text(extri)
    return folder


def opencv(folder: Path, lens: Lens) -> Path:
    text = '%YAML:1.0\n---\nnames: [ "cam00", "cam01", "cam02" ]\n'
    for camera in known():
        K, w2c, _ = matrices(camera)
        K = K.copy()
        K[:2, 2] -= 0.5
        text += mat(f"K_{camera.name}", 3, K)
        text += mat(f"D_{camera.name}", 5, [lens.k1, lens.k2, lens.p1, lens.p2, lens.k3])
        text += mat(f"Rot_{camera.name}", 3, w2c[:3, :3]) + mat(f"T_{camera.name}", 3, w2c[:3, 3])
        text += f"H_{camera.name}: {camera.height}\nW_{camera.name}: {camera.width}\n"
    (folder / "stage.yaml").write_text(text)
    return folder / "stage.yaml"


Write = Callable[[Path, Lens], Path]
WRITERS: dict[str, Write] = {
    "nerfstudio": nerfstudio,
    "colmap text": colmap_text,
    "colmap binary": colmap_binary,
    "easymocap": easymocap,
    "opencv": opencv,
}


@pytest.mark.parametrize("lens", [Lens(), BENT], ids=["straight", "bent"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_marker_lands_where_the_camera_sees_it(tmp_path: Path, kind: str, lens: Lens) -> None:
    file = read_camera_file(WRITERS[kind](tmp_path, lens))
    assert file.format == kind.split()[0]
    for want, (got, found) in zip(known(), file.cameras, strict=True):
        assert (got.name, got.width, got.height) == (want.name, want.width, want.height)
        assert np.abs(pixels(got, found) - pixels(want, lens)).max() < 0.01
        assert found == lens


def test_graphdeco_has_its_principal_point_in_the_middle(tmp_path: Path) -> None:
    entries = []
    for number, camera in enumerate(known()):
        K, _, c2w = matrices(camera)
        entry = {"id": number, "img_name": camera.name, "width": camera.width}
        entry |= {"height": camera.height, "position": c2w[:3, 3].tolist()}
        entries.append(entry | {"rotation": c2w[:3, :3].tolist(), "fy": K[1, 1], "fx": K[0, 0]})
    (tmp_path / "cameras.json").write_text(json.dumps(entries))
    file = read_straight(tmp_path / "cameras.json")
    assert file.format == "graphdeco"
    for want, (got, _) in zip(known(), file.cameras, strict=True):
        K = want.K.clone()
        K[0, 2], K[1, 2] = want.width / 2, want.height / 2
        assert np.abs(pixels(got) - pixels(replace(want, K=K))).max() < 0.01


def test_cameras_of_one_name_are_numbered(tmp_path: Path) -> None:
    """3D Gaussian Splatting names images without their folders."""
    stage = [StageCamera(replace(camera, name="000")) for camera in known()]
    write_camera_file(tmp_path / "cameras.json", "graphdeco", stage)
    file = read_straight(tmp_path / "cameras.json")
    assert [camera.name for camera, _ in file.cameras] == ["000#0", "000#1", "000#2"]


def test_one_camera_of_opencv_s_calibration_sample(tmp_path: Path) -> None:
    camera = known()[1]
    K, w2c, _ = matrices(camera)
    K = K.copy()
    K[:2, 2] -= 0.5
    text = f'%YAML:1.0\n---\ncalibration_time: "Mon Nov 16"\nimage_width: {camera.width}\n'
    text += f"image_height: {camera.height}\n" + mat("camera_matrix", 3, K)
    text += mat("distortion_coefficients", 5, [0] * 5)
    text += mat("rvec", 3, Rotation.from_matrix(w2c[:3, :3]).as_rotvec()) + mat(
        "tvec", 3, w2c[:3, 3]
    )
    (tmp_path / "left.yml").write_text(text)
    ((got, _),) = read_straight(tmp_path / "left.yml").cameras
    assert got.name == "left"
    assert np.abs(pixels(got) - pixels(camera)).max() < 0.01


def test_shared_intrinsics_of_instant_ngp_and_angles_of_blender(tmp_path: Path) -> None:
    camera = known()[0]
    K, _, c2w = matrices(camera)
    c2w = c2w.copy()
    c2w[:3, 1:3] *= -1
    frames = [{"file_path": "a", "transform_matrix": c2w.tolist()}]
    shared = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "w": 640, "h": 480}
    path = tmp_path / "transforms_train.json"
    path.write_text(json.dumps({**shared, "aabb_scale": 16, "frames": frames}))
    ((got, _),) = read_straight(path).cameras
    assert np.abs(pixels(got) - pixels(camera)).max() < 0.01
    angle = 2 * math.atan(320 / K[0, 0])
    path.write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    with pytest.raises(InputError, match="expected the image size w and h; --size gives it"):
        read_straight(path)
    ((got, _),) = read_straight(path, Reading(size=(640, 480))).cameras
    assert got.K[0, 0] == pytest.approx(K[0, 0], rel=1e-6)
    assert got.K[0, 2] == 320


def test_applied_transform_is_noted_or_undone(tmp_path: Path) -> None:
    """nerfstudio turns and scales its world; the source's own comes back with --source-world."""
    applied = np.array([[0.0, 1, 0, 0.3], [1, 0, 0, 0], [0, 0, -1, 0.1]])
    path = nerfstudio(tmp_path, Lens())
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        matrix = np.vstack((applied, [0, 0, 0, 1])) @ np.array(frame["transform_matrix"])
        matrix[:3, 3] *= 2.5
        frame["transform_matrix"] = matrix.tolist()
    content |= {"applied_transform": applied.tolist(), "applied_scale": 2.5}
    path.write_text(json.dumps(content))
    assert "--source-world undoes it" in read_straight(path).notes[0]
    file = read_straight(path, Reading(source_world=True))
    assert file.notes == ()
    for want, (got, _) in zip(known(), file.cameras, strict=True):
        assert np.abs(pixels(got) - pixels(want)).max() < 0.01


def test_nerfstudio_s_other_ways_of_saying_it(tmp_path: Path) -> None:
    """Distortion as one list; a frame for each moment of a camera, of which the first is read."""
    path = nerfstudio(tmp_path, Lens())
    content = json.loads(path.read_text())
    frames, params = [], [0.1, -0.02, 0.003, 0, 0.001, -0.002]
    for moment in range(3):
        for number, frame in enumerate(content["frames"]):
            more = {"timestep_index": moment, "camera_index": number}
            frames.append({**frame, **more, "distortion_params": params})
    path.write_text(json.dumps({**content, "frames": frames}))
    assert [lens for _, lens in read_camera_file(path).cameras] == [BENT] * 3


# ---- round trips ----

NAMES: dict[CameraFormat, str] = {
    "published": "cameras.json",
    "skeletool": "a.calibration",
    "nerfstudio": "transforms.json",
    "colmap": "model",
    "opencv": "a.yml",
    "easymocap": "stage",
    "graphdeco": "cameras.json",
}


@pytest.mark.parametrize("kind", get_args(CameraFormat))
def test_what_is_written_is_read_again(tmp_path: Path, kind: CameraFormat) -> None:
    path = tmp_path / NAMES[kind]
    write_camera_file(path, kind, [StageCamera(camera) for camera in known()])
    file = read_straight(path)
    assert file.format == kind
    for want, (got, _) in zip(known(), file.cameras, strict=True):
        torch.testing.assert_close(got.viewmat, want.viewmat, atol=1e-5, rtol=0)
        torch.testing.assert_close(got.K, want.K, atol=1e-5, rtol=1e-6)
        assert (got.name, got.width, got.height) == (want.name, want.width, want.height)


@pytest.mark.parametrize("kind", get_args(CameraFormat))
def test_distortion_is_kept_or_refused(tmp_path: Path, kind: CameraFormat) -> None:
    path = tmp_path / NAMES[kind]
    stage = [StageCamera(camera, BENT) for camera in known()]
    if kind in ("published", "graphdeco"):
        with pytest.raises(InputError, match=r"no place for its lens distortion \(k1 0.1.*--und"):
            write_camera_file(path, kind, stage)
        return
    write_camera_file(path, kind, stage)
    assert [lens for _, lens in read_camera_file(path).cameras] == [BENT] * 3
    with pytest.raises(InputError, match=r"no lens distortion, got k1 0.1.*--undistort"):
        read_straight(path)


def test_the_command_converts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = str(colmap_text(tmp_path, BENT))
    assert main(["cameras", source, "-o", str(tmp_path / "o" / "cameras.json")]) == 2
    assert "--undistort" in capfd.readouterr().err
    out = tmp_path / "o" / "cameras.json"
    assert main(["cameras", source, "-o", str(out), "--undistort"]) == 0
    said = capfd.readouterr().err
    assert "metres (--scale), Z up (--up)" in said
    assert "straightened images" in said
    for want, (got, _) in zip(known(), read_straight(out).cameras, strict=True):
        torch.testing.assert_close(got.K, want.K)
    assert main(["cameras", source, "-o", str(tmp_path / "m"), "--to", "easymocap"]) == 0
    assert len(read_camera_file(tmp_path / "m" / "extri.yml").cameras) == 3
    assert main(["cameras", source, "-o", str(tmp_path / "m")]) == 2
    assert "--to colmap or --to easymocap" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("up", "direction"), [("z", [0, 0, 1]), ("y", [0, 1, 0]), ("y-down", [0, -1, 0])]
)
def test_unit_and_up_axis_are_asked_for(tmp_path: Path, up: Up, direction: list[float]) -> None:
    """Eyes in millimetres along the file's own axis become heights in metres."""
    cameras = []
    for camera in known():
        viewmat = camera.viewmat.clone()
        viewmat[:3, 3] *= 1000
        cameras.append(StageCamera(replace(camera, viewmat=viewmat)))
    write_camera_file(tmp_path, "colmap", cameras)
    file = read_straight(tmp_path, Reading(up=up, scale=0.001))
    for eye, (camera, _) in zip(EYES, file.cameras, strict=True):
        place = -camera.viewmat[:3, :3].T @ camera.viewmat[:3, 3]
        assert float(place[2]) == pytest.approx(float(np.dot(eye, direction)), abs=1e-5)


# ---- what cannot be told ----


def test_json_that_could_be_either_is_asked_for(tmp_path: Path) -> None:
    path = nerfstudio(tmp_path, Lens())
    content = json.loads(path.read_text())
    del content["camera_model"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"cannot be told.*published.*--format nerfstudio"):
        read_straight(path)
    assert read_straight(path, Reading(format="nerfstudio")).format == "nerfstudio"
    (tmp_path / "stage.json").write_text(path.read_text())  # each frame its own, as published
    assert read_straight(tmp_path / "stage.json").format == "published"
    content |= {"fl_x": 500.0}
    (tmp_path / "stage.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="cannot be told"):
        read_straight(tmp_path / "stage.json")


@pytest.mark.parametrize("kind", ["nerfstudio", "graphdeco", "opencv", "easymocap"])
def test_a_format_that_the_file_has_not_is_named(tmp_path: Path, kind: CameraFormat) -> None:
    """A format asked for by name does not make sense of any file."""
    if kind in ("nerfstudio", "graphdeco"):
        path, text = tmp_path / "a.yml", "expected JSON"
        path.write_text("%YAML:1.0\n---\n")
    else:
        path, text = nerfstudio(tmp_path, Lens()), "expected OpenCV's FileStorage YAML"
    with pytest.raises(InputError, match=text):
        read_camera_file(path, Reading(format=kind))


def test_a_data_set_takes_no_camera_file_of_others(tmp_path: Path) -> None:
    """Named cameras.json, its axes would be taken for ours without a word."""
    nerfstudio(tmp_path, Lens()).rename(tmp_path / "cameras.json")
    for kind in ("nerfstudio", "3D Gaussian Splatting"):
        with pytest.raises(InputError, match=f"got one of {kind}: ash-studio cameras converts it"):
            read_cameras(tmp_path / "cameras.json")
        (tmp_path / "cameras.json").write_text("[]")


FAULTS = {
    "fisheye": ("transforms.json", '"OPENCV"', '"OPENCV_FISHEYE"', "expected a perspective camera"),
    "k4": ("transforms.json", '"k1": 0.0', '"k4": 0.1, "k1": 0.0', "got k4 = 0.1"),
    "matrix": ("transforms.json", '"transform_matrix": [[', '"transform_matrix": [[9, ', "numbers"),
    "model": ("sparse/0/cameras.txt", "FULL_OPENCV", "FOV", "got 'FOV'; colmap image_undistorter"),
    "parameters": ("sparse/0/cameras.txt", "FULL_OPENCV", "PINHOLE", "expected 4 parameters"),
    "camera": ("sparse/0/images.txt", " 7 cam00", " 6 cam00", "got number 6"),
    "short": ("sparse/0/images.txt", " 7 cam00", "", "10 values, got 8"),
    "size": ("intri.yml", "H_cam01", "X_cam01", "expected the image size (W_cam01, H_cam01)"),
    "rotation": ("extri.yml", "R_cam02", "X_cam02", "expected Rot_cam02 or R_cam02"),
    "nonsense": ("extri.yml", "data: [ ", "data: [ .Nan, ", "expected finite numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_files_are_named(tmp_path: Path, fault: str) -> None:
    name, old, new, text = FAULTS[fault]
    for write in (nerfstudio, colmap_text, easymocap):
        write(tmp_path, Lens())
    path = tmp_path / name
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_straight(path)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 5, 20, 100, 250])
def test_a_cut_binary_model_is_refused(tmp_path: Path, cut: int) -> None:
    path = colmap_binary(tmp_path, Lens())
    for name in ("images.bin", "cameras.bin"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"a whole COLMAP file|expected 1 to|bytes, got"):
            read_straight(path)
        (tmp_path / name).write_bytes(content)


# ---- in render ----


def test_render_finds_cameras_of_every_kind(tmp_path: Path) -> None:
    data = figure(toy_skeleton())
    for kind, write in WRITERS.items():
        folder = tmp_path / kind.replace(" ", "_")
        folder.mkdir()
        camera, other = find_camera(f"{write(folder, Lens())}:cam01", data)
        assert np.abs(pixels(camera) - pixels(known()[1])).max() < 0.01
        assert (other is not None) == (kind == "nerfstudio")


def test_render_notes_an_empty_picture_and_axes_that_look_away(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    toy = make_toy_character(tmp_path)
    avatar = tmp_path / "toy.safetensors"
    assert main(["import", "ash", str(toy.conf), "-o", str(avatar)]) == 0

    def render(camera: str, name: str) -> tuple[bool, str]:
        capfd.readouterr()
        out = tmp_path / name
        command = ["render", str(avatar), "--motion", str(toy.motion), "--frames", "0"]
        assert main([*command, "--camera", camera, "-o", str(out), "--size", "64x48"]) == 0
        return bool(read_image(out).min() < 250), capfd.readouterr().err

    path = nerfstudio(tmp_path, Lens())
    shown, said = render(f"{path}:0", "a.png")
    assert shown
    assert "nothing of the avatar" not in said
    content = json.loads(path.read_text())
    for frame in content["frames"]:  # as some write it: nerfstudio's keys, OpenCV's axes
        matrix = np.array(frame["transform_matrix"])
        matrix[:3, 1:3] *= -1
        frame["transform_matrix"] = matrix.tolist()
    path.write_text(json.dumps(content))
    shown, said = render(f"{path}:0", "b.png")
    assert shown
    assert "read with OpenCV axes" in said
    assert main(["cameras", str(path), "-o", str(tmp_path / "away.json"), "--axes", "opengl"]) == 0
    shown, said = render(f"{tmp_path / 'away.json'}:0", "c.png")
    assert not shown
    assert "nothing of the avatar is in the picture" in said


def test_a_long_name_is_cut_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text(f'%YAML:1.0\nnames:\n - "{"9" * 5000}"\nK_a: 1\n')
    with pytest.raises(
        InputError, match=r"a\.yml: camera '9+\.\.\.': expected K_9+\.\.\."
    ) as error:
        read_camera_file(path)
    assert len(str(error.value)) < 400

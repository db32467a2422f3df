"""Readers of published captures: the same clip out of each layout, and one line for each fault."""

import atexit
import functools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_capture import (
    BODY25_JOINTS,
    MadeClip,
    as_smpl,
    cut,
    made_clip,
    marker_clip,
    marker_places,
    project,
    with_hand_pca,
    with_shape,
    write_actorshq,
    write_avatarrex,
    write_easymocap,
    write_smplx_npz,
    write_thuman4,
    write_zju,
)
from made_layouts import RunsCode
from PIL import Image
from small_dataset import write_video

from ash_core.captures.capture import Capture
from ash_core.captures.images import read_image
from ash_core.captures.layouts.actorshq import is_actorshq, read_actorshq
from ash_core.captures.layouts.avatarrex import (
    is_avatarrex,
    is_thuman4,
    read_avatarrex,
    read_thuman4,
)
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.easymocap import (
    BODY25,
    is_easymocap_capture,
    read_easymocap_capture,
)
from ash_core.captures.layouts.zju import frame_of, is_zju, read_zju
from ash_core.errors import InputError
from ash_core.geometry.lens import Lens
from ash_core.importers.body.posing import joint_frames

FRAMES = 3
MARKER_PX = 0.1


@dataclass(frozen=True)
class Kind:
    """One layout: its reader, its writer, and the clip as it can hold it."""

    is_one: Callable[[Path], bool]
    read: Callable[[Path, Choice], Capture]
    write: Callable[..., None]
    prepare: Callable[[MadeClip], MadeClip]
    poses: str
    """Poses file or folder."""


def straight(clip: MadeClip) -> MadeClip:
    """Return the clip without lenses."""
    own = made_clip(frames=FRAMES, lenses=False)
    return replace(clip, cameras=own.cameras, images=own.images, masks=own.masks)


KINDS = {
    "avatarrex": Kind(
        is_avatarrex, read_avatarrex, write_avatarrex, lambda clip: clip, "smpl_params.npz"
    ),
    "thuman4": Kind(is_thuman4, read_thuman4, write_thuman4, straight, "smpl_params.npz"),
    "actorshq": Kind(is_actorshq, read_actorshq, write_actorshq, straight, "smpl_params.npz"),
    "easymocap": Kind(
        is_easymocap_capture, read_easymocap_capture, write_easymocap, with_hand_pca, "smpl"
    ),
    "zju": Kind(is_zju, read_zju, write_zju, as_smpl, "new_params"),
}
OF_EACH = pytest.mark.parametrize("name", KINDS)


@functools.cache
def clip_of(name: str) -> MadeClip:
    return KINDS[name].prepare(with_shape(made_clip(frames=FRAMES)))


@functools.cache
def whole(name: str) -> Path:
    """Write the clip in a layout, once: tests damage copies."""
    folder = Path(tempfile.mkdtemp(prefix="capture_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    KINDS[name].write(folder, clip_of(name))
    return folder


def written(folder: Path, name: str, **faults: Any) -> MadeClip:
    """Write the clip in a layout; return it."""
    if faults:
        KINDS[name].write(folder, clip_of(name), **faults)
    else:
        shutil.copytree(whole(name), folder, dirs_exist_ok=True)
    return clip_of(name)


def read(folder: Path, name: str, **choices: Any) -> Capture:
    return KINDS[name].read(folder, Choice(**choices))


def refuse(folder: Path, name: str, text: str, **choices: Any) -> None:
    """Check that a reader refuses a folder in one line, and changes nothing in it."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(InputError) as caught:
        read(folder, name, **choices)
    assert re.search(text, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def image_paths(capture: Capture) -> list[Path]:
    return sorted(ref.path for ref in capture.images.values())


# ---- the same clip out of each layout ----


def marker_error_px(capture: Capture, clip: MadeClip) -> float:
    """Return the largest distance of a projected joint from its marker in the images."""
    assert capture.poses is not None
    places = joint_frames(capture.poses, clip.rest_joints)[1]
    errors = [
        project(capture.cameras[camera], places[capture.frames.index(frame)])[list(clip.markers)]
        - marker_places(read_image(ref).astype(np.uint8))
        for (frame, camera), ref in capture.images.items()
    ]
    return float(np.linalg.norm(errors, axis=-1).max())


def test_half_a_pixel_and_a_transposed_rotation_miss_the_markers(tmp_path: Path) -> None:
    clip = marker_clip(clip_of("avatarrex"))
    write_avatarrex(tmp_path, clip)
    capture = read(tmp_path, "avatarrex")
    for change in ("half a pixel", "rotation"):
        cameras = []
        for camera in capture.cameras:
            K, viewmat = camera.K.copy(), camera.viewmat.copy()
            if change == "rotation":
                viewmat[:3, :3] = viewmat[:3, :3].T
            else:
                K[0, 2] -= 0.5
            cameras.append(replace(camera, K=K, viewmat=viewmat))
        assert marker_error_px(replace(capture, cameras=tuple(cameras)), clip) > 4 * MARKER_PX


def test_joints_of_the_made_clip_lie_inside_its_masks() -> None:
    for clip in (made_clip(frames=FRAMES), made_clip(frames=FRAMES, lenses=False)):
        for frame, masks in enumerate(clip.masks):
            for number, mask in enumerate(masks):
                x, y = np.floor(clip.projected(frame, number)).astype(int).T
                assert (mask[y, x] > 0).mean() > 0.98


@OF_EACH
def test_only_its_own_layout_is_recognised(tmp_path: Path, name: str) -> None:
    written(tmp_path, name)
    assert [other for other, kind in KINDS.items() if kind.is_one(tmp_path)] == [name]
    assert not any(kind.is_one(tmp_path / "nothing") for kind in KINDS.values())


# ---- parts of a capture ----


@OF_EACH
def test_flags_choose_frames_and_cameras(tmp_path: Path, name: str) -> None:
    written(tmp_path, name)
    capture = read(tmp_path, name, frames="1:", cameras="cam 2, 0")
    assert [camera.name for camera in capture.cameras] == ["cam00", "cam 2"]
    assert capture.frames == (1, 2)
    assert set(capture.images) == {(1, 0), (1, 1), (2, 0), (2, 1)}
    assert capture.poses is not None
    assert capture.poses.frames == (1, 2)
    refuse(tmp_path, name, r"--cameras: .*cam9.*cam00", cameras="cam9")
    refuse(tmp_path, name, r"--frames: .*selects none", frames="7:")


@OF_EACH
def test_a_poses_file_replaces_the_captures_own(tmp_path: Path, name: str) -> None:
    written(tmp_path / "in", name)
    clip = with_shape(made_clip(frames=FRAMES), seed=9)
    write_smplx_npz(tmp_path / "other.npz", clip.poses)
    capture = read(tmp_path / "in", name, poses=tmp_path / "other.npz")
    assert capture.poses is not None
    assert capture.poses.kind == "smplx"
    np.testing.assert_allclose(capture.poses.betas, clip.poses.betas)


@OF_EACH
def test_no_image_is_asked_for_on_its_own(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders are listed once: 48,000 images of a network drive must not take minutes."""
    asked: list[str] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *rest: Any, **names: Any) -> Any:
            asked.append(str(path))
            return function(path, *rest, **names)

        return call

    counts = []
    for frames in (1, FRAMES):
        folder = tmp_path / str(frames)
        KINDS[name].write(folder, cut(clip_of(name), frames))
        asked.clear()
        with monkeypatch.context() as patch:
            for function in ("stat", "scandir", "listdir"):
                patch.setattr(os, function, counted(getattr(os, function)))
            read(folder, name)
        # Fits are read, a file a frame.
        counts.append(sum(not path.endswith((".npy", ".json")) for path in asked))
    assert counts[0] == counts[1] > 0


# ---- what is missing ----


@OF_EACH
def test_missing_images_and_masks_are_left_out_and_counted(tmp_path: Path, name: str) -> None:
    clip = written(tmp_path, name, no_image=[(1, 0), (2, 3)], no_mask=[(0, 4)])
    capture = read(tmp_path, name)
    everything = {(f, c) for f in range(FRAMES) for c in range(len(clip.cameras))}
    assert everything - capture.images.keys() == {(1, 0), (2, 3), (0, 4)}
    assert capture.masks.keys() == capture.images.keys()
    notes = " | ".join(capture.notes)
    assert "3 of 24 images are missing" in notes
    assert "images without a mask: 1" in notes
    assert "masks without an image: 2" in notes


@OF_EACH
def test_a_camera_without_images_is_left_out_unless_it_is_named(tmp_path: Path, name: str) -> None:
    clip = written(tmp_path, name, no_image=[(frame, 2) for frame in range(FRAMES)])
    capture = read(tmp_path, name)
    assert len(capture.cameras) == len(clip.cameras) - 1
    assert any("cam 2" in note for note in capture.notes)
    assert {camera for _, camera in capture.images} == set(range(len(clip.cameras) - 1))
    refuse(tmp_path, name, "expected images of camera 'cam 2'", cameras="cam 2,cam00")


@OF_EACH
def test_a_capture_without_images_or_masks_is_refused(tmp_path: Path, name: str) -> None:
    clip = clip_of(name)
    everything = [(f, c) for f in range(FRAMES) for c in range(len(clip.cameras))]
    written(tmp_path / "a", name, no_image=everything)
    refuse(tmp_path / "a", name, "expected images of camera 'cam00', found none")
    written(tmp_path / "b", name, no_mask=everything)
    refuse(tmp_path / "b", name, "expected .*alpha.*mask")
    written(tmp_path / "c", name, no_mask=[(f, 1) for f in range(FRAMES)])
    refuse(tmp_path / "c", name, "camera 'cam01': expected masks of its images")


@pytest.mark.parametrize("name", ["avatarrex", "thuman4"])
def test_listed_images_are_left_out_even_where_they_are_there(tmp_path: Path, name: str) -> None:
    start = "" if name == "avatarrex" else "images/"
    lines = (f"{start}cam01/00000001.jpg", f"{start}cam 2\\00000002.jpg".replace("/", "\\"), "")
    clip = written(tmp_path, name, listed=lines)
    capture = read(tmp_path, name)
    everything = {(f, c) for f in range(FRAMES) for c in range(len(clip.cameras))}
    assert everything - capture.images.keys() == {(1, 1), (2, 2)}
    assert capture.missing == (f"{start}cam01/00000001.jpg", f"{start}cam 2/00000002.jpg")


@pytest.mark.parametrize("name", ["avatarrex", "thuman4", "actorshq"])
def test_folders_without_calibration_are_left_out(tmp_path: Path, name: str) -> None:
    written(tmp_path, name)
    image = image_paths(read(tmp_path, name))[0]
    stranger = image.parent.with_name("other")
    stranger.mkdir()
    (stranger / image.name).write_bytes(image.read_bytes())
    capture = read(tmp_path, name)
    assert len(capture.cameras) == 8
    assert any("'other': not in the calibration" in note for note in capture.notes)


# ---- sizes ----


def resize_images(capture: Capture, camera: int, size: tuple[int, int], masks: bool = True) -> None:
    """Resize all images and masks of one camera."""
    for refs in (capture.images, capture.masks if masks else {}):
        for (_, own), ref in refs.items():
            if own == camera:
                Image.open(ref.path).resize(size, Image.Resampling.BOX).save(ref.path)


@pytest.mark.parametrize("name", ["avatarrex", "thuman4", "actorshq", "easymocap"])
def test_images_of_another_size_than_calibrated_are_refused(tmp_path: Path, name: str) -> None:
    written(tmp_path, name)
    resize_images(read(tmp_path, name), 3, (90, 128))
    refuse(tmp_path, name, r"camera 'cam03': expected 96 x 128 px .*; got 90 x 128 px")


@OF_EACH
def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path: Path, name: str) -> None:
    written(tmp_path, name)
    capture = read(tmp_path, name)
    path = capture.masks[0, 1].path
    Image.open(path).resize((48, 64)).save(path)
    refuse(tmp_path, name, r"camera 'cam01': expected a mask of 96 x 128 px .* got 48 x 64 px")


@pytest.mark.parametrize(("name", "factor"), [("avatarrex", 2), ("actorshq", 4), ("easymocap", 2)])
def test_images_of_half_or_quarter_size_scale_the_camera(
    tmp_path: Path, name: str, factor: int
) -> None:
    clip = written(tmp_path, name)
    capture = read(tmp_path, name)
    for camera in range(len(clip.cameras)):
        resize_images(capture, camera, (96 // factor, 128 // factor))
    scaled = read(tmp_path, name)
    assert any("K is scaled" in note for note in scaled.notes)
    for camera, truth in zip(scaled.cameras, clip.cameras, strict=True):
        assert (camera.width, camera.height) == (96 // factor, 128 // factor)
        # A pixel holds the mean of a square: the image's corner stays where it is.
        np.testing.assert_allclose(camera.K[:2], truth.K[:2] / factor, rtol=1e-6)


# ---- damaged calibrations ----


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_entry(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["cam 2"].update({key: value})


JSON_FAULTS = {
    "nan": (set_entry("K", [float("nan")] * 9), "camera 'cam 2': K: expected a finite number"),
    "few": (set_entry("R", [1.0, 2.0]), "camera 'cam 2': R: expected 9 numbers, got 2"),
    "none": (lambda c: c["cam 2"].pop("T"), "camera 'cam 2': T: expected 3 numbers, got nothing"),
    "twisted": (set_entry("R", [2, 0, 0, 0, 1, 0, 0, 0, 1]), "camera 'cam 2': expected a rotation"),
    "mirrored": (set_entry("R", [-1, 0, 0, 0, 1, 0, 0, 0, 1]), "'cam 2': expected a rotation"),
    "skewed": (set_entry("K", [9, 1, 9, 0, 9, 9, 0, 0, 1]), "camera 'cam 2': expected K = fx 0 cx"),
    "empty": (lambda content: content.clear(), "expected cameras"),
    "size": (set_entry("imgSize", [0, 128]), "camera 'cam 2': expected an image of 1 to"),
    "path": (lambda c: c.update({"../up": c["cam 2"]}), "expected a camera named as its folder"),
    "text": (set_entry("T", ["a", 0, 0]), "camera 'cam 2': T: expected a finite number"),
    "other": (lambda content: content.update({"cam 2": 3}), "camera 'cam 2': expected a JSON obj"),
    "huge": (set_entry("T", [1e9, 0, 0]), "camera 'cam 2': expected a camera within 10 km"),
    "lens": (set_entry("distCoeff", [0.1]), "camera 'cam 2': expected 0, 4, 5 or 8 distortion"),
}


@pytest.mark.parametrize("fault", JSON_FAULTS)
@pytest.mark.parametrize("name", ["avatarrex", "thuman4"])
def test_a_damaged_calibration_json_is_refused(tmp_path: Path, name: str, fault: str) -> None:
    written(tmp_path, name)
    change, text = JSON_FAULTS[fault]
    file = "calibration_full.json" if name == "avatarrex" else "calibration.json"
    edit_json(tmp_path / file, change)
    refuse(tmp_path, name, text)


def test_a_calibration_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "avatarrex")
    path = tmp_path / "calibration_full.json"
    path.write_text(path.read_text()[:200])
    refuse(tmp_path, "avatarrex", r"calibration_full.json:1: expected JSON")


CSV_FAULTS = {
    "nan": ("fx", "nan", "4: camera 'cam 2': fx: expected a finite number, got 'nan'"),
    "text": ("tx", "a", "4: camera 'cam 2': tx: expected a finite number, got 'a'"),
    "empty": ("rx", "", "4: camera 'cam 2': rx: expected a finite number, got ''"),
    "size": ("w", "96.5", "4: camera 'cam 2': expected a size in px"),
    "path": ("name", "../up", "4: expected a camera named as its folder"),
    "twice": ("name", "cam00", "expected one camera 'cam00'"),
    "focal": ("fx", "-1", "camera 'cam 2': expected focal lengths"),
}


@pytest.mark.parametrize("fault", CSV_FAULTS)
def test_a_damaged_calibration_csv_is_refused(tmp_path: Path, fault: str) -> None:
    written(tmp_path, "actorshq")
    path = tmp_path / "4x" / "calibration.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    column, value, text = CSV_FAULTS[fault]
    rows[3][rows[0].index(column)] = value
    path.write_text("\n".join(map(",".join, rows)))
    refuse(tmp_path, "actorshq", text)


def test_a_calibration_csv_without_a_column_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "actorshq")
    path = tmp_path / "4x" / "calibration.csv"
    text = path.read_text()
    path.write_text(text.replace(",py,", ",pz,", 1))
    refuse(tmp_path, "actorshq", "calibration.csv:1: expected the columns .*; py is missing")
    path.write_text(text + "cam09,1,2\n")
    refuse(tmp_path, "actorshq", "calibration.csv:10: expected 16 columns, got 3")


def test_damaged_easymocap_cameras_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "easymocap")
    path = tmp_path / "extri.yml"
    text = path.read_text()
    path.write_text(text.replace("T_cam 2:", "S_cam 2:"))
    refuse(tmp_path, "easymocap", "camera 'cam 2': expected T_cam 2")
    path.write_text(re.sub(r"(Rot_cam 2(?:.*\n){4}   data: \[)[^,]*", r"\g<1>7", text))
    refuse(tmp_path, "easymocap", "camera 'cam 2': expected a rotation")
    path.write_text(re.sub(r"(T_cam 2(?:.*\n){4}   data: \[)[^,]*", r"\g<1>.nan", text))
    refuse(tmp_path, "easymocap", "T_cam 2.*: expected finite numbers")
    for file in (path, tmp_path / "intri.yml"):
        file.write_text(text if file == path else file.read_text())
        file.write_text(file.read_text().replace("cam 2", "../up"))
    refuse(tmp_path, "easymocap", "expected a camera named as its folder, got '../up'")


# ---- damaged poses ----


@pytest.mark.parametrize("name", ["avatarrex", "thuman4", "actorshq"])
def test_damaged_poses_are_refused(tmp_path: Path, name: str) -> None:
    written(tmp_path, name)
    path = tmp_path / "smpl_params.npz"
    content = path.read_bytes()
    arrays = dict(np.load(path))
    path.write_bytes(content[: len(content) // 2])
    refuse(tmp_path, name, r"smpl_params.npz: expected a .*\.npz file")
    np.savez(path, **{**arrays, "betas": np.zeros((2, 10))})
    refuse(tmp_path, name, "smpl_params.npz: betas: expected 3 frames")
    np.savez(path, **{**arrays, "body_pose": np.zeros((FRAMES, 60))})
    refuse(tmp_path, name, "smpl_params.npz: body_pose: expected 63 .* got 60")
    np.savez(path, **{**arrays, "transl": np.full((FRAMES, 3), np.nan)})
    refuse(tmp_path, name, "smpl_params.npz: transl: expected finite numbers")
    np.savez(path, **{key: value[:0] for key, value in arrays.items()})
    refuse(tmp_path, name, "smpl_params.npz: global_orient: expected 1 to .* frames")
    if name != "actorshq":
        path.unlink()
        refuse(tmp_path, name, "smpl_params.npz: expected a file, found nothing there")


def test_fewer_poses_than_images_leave_frames_out(tmp_path: Path) -> None:
    clip = written(tmp_path, "avatarrex")
    write_smplx_npz(tmp_path / "smpl_params.npz", cut(clip, 2).poses)
    capture = read(tmp_path, "avatarrex")
    assert capture.frames == (0, 1)
    assert "frames without a pose: 1: left out" in capture.notes


def test_poses_of_other_frames_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "avatarrex", no_image=[(f, c) for f in (0, 1) for c in range(8)])
    write_smplx_npz(tmp_path / "smpl_params.npz", cut(clip_of("avatarrex"), 2).poses)
    refuse(tmp_path, "avatarrex", "expected poses of frames 2 to 2, got frames 0 to 1")


def test_fits_of_another_length_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "e", "easymocap")
    path = tmp_path / "e" / "smpl" / "000001.json"
    text = path.read_text()
    content = json.loads(text)
    content[0]["shapes"][0].append(0.0)
    path.write_text(json.dumps(content))
    refuse(tmp_path / "e", "easymocap", "000001.json: shapes: expected 10 numbers, got 11")
    path.write_text(text[:100])
    refuse(tmp_path / "e", "easymocap", "000001.json:1: expected JSON")
    written(tmp_path / "z", "zju")
    path = tmp_path / "z" / "new_params" / "1.npy"
    fit = np.load(path, allow_pickle=True).item()
    np.save(path, {**fit, "shapes": np.zeros((1, 11))}, allow_pickle=True)
    refuse(tmp_path / "z", "zju", "1.npy: shapes: expected 10 numbers .*, got 11")
    np.save(path, {**fit, "poses": "many"}, allow_pickle=True)
    refuse(tmp_path / "z", "zju", "1.npy: poses: expected numbers")
    del fit["Th"]
    np.save(path, fit, allow_pickle=True)
    refuse(tmp_path / "z", "zju", "1.npy: Th: expected numbers")


# ---- ActorsHQ ----


def test_actorshq_may_come_without_poses(tmp_path: Path) -> None:
    written(tmp_path, "actorshq", poses=False)
    capture = read(tmp_path, "actorshq")
    assert capture.poses is None
    assert capture.frames == tuple(range(FRAMES))
    assert any("--poses" in note for note in capture.notes)


def test_of_several_sizes_of_actorshq_the_largest_is_read(tmp_path: Path) -> None:
    written(tmp_path, "actorshq")
    written(tmp_path, "actorshq", size="2x")
    capture = read(tmp_path, "actorshq")
    assert {path.relative_to(tmp_path).parts[0] for path in image_paths(capture)} == {"2x"}
    assert any("4x" in note for note in capture.notes)
    smaller = read(tmp_path / "4x", "actorshq")
    assert smaller.poses is not None, "poses lie beside the sizes"
    assert len(smaller.images) == len(capture.images)


def test_actorshq_reads_the_optional_columns_of_a_lens(tmp_path: Path) -> None:
    clip = clip_of("actorshq")
    lens = Lens(k1=-0.1, k2=0.02, k3=0.003)
    bent = replace(clip, cameras=tuple(replace(camera, lens=lens) for camera in clip.cameras))
    write_actorshq(tmp_path, cut(bent, 1))
    assert {camera.lens for camera in read(tmp_path, "actorshq").cameras} == {lens}
    path = tmp_path / "4x" / "calibration.csv"
    lines = [line.rsplit(",", 3)[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    assert all(camera.lens.is_straight for camera in read(tmp_path, "actorshq").cameras)


# ---- EasyMocap ----


def test_easymocap_keypoints_are_read_with_their_names(tmp_path: Path) -> None:
    clip = written(tmp_path, "easymocap")
    (tmp_path / "keypoints3d" / "000001.json").unlink()
    keypoints = read(tmp_path, "easymocap").keypoints
    assert keypoints is not None
    assert keypoints.names == BODY25
    places = joint_frames(clip.poses, clip.rest_joints)[1]
    for place, joint in BODY25_JOINTS.items():
        np.testing.assert_allclose(keypoints.places[[0, 2], place], places[[0, 2], joint])
        assert keypoints.confidences[:, place].tolist() == [0.9, 0.0, 0.9]
    written(tmp_path / "without", "easymocap", keypoints=False)
    assert read(tmp_path / "without", "easymocap").keypoints is None


def test_easymocap_takes_the_person_in_most_frames(tmp_path: Path) -> None:
    clip = written(tmp_path, "easymocap")
    for folder in ("smpl", "keypoints3d"):
        path = tmp_path / folder / "000000.json"
        entry = json.loads(path.read_text())[0]
        stranger = {**entry, "id": 7, "Th": [[9.0, 9.0, 9.0]]}
        stranger["keypoints3d"] = [[9.0, 9.0, 9.0, 1.0]] * 25
        path.write_text(json.dumps([stranger, entry]))
    capture = read(tmp_path, "easymocap")
    assert capture.poses is not None
    assert capture.keypoints is not None
    np.testing.assert_allclose(
        joint_frames(capture.poses, clip.rest_joints)[1],
        joint_frames(clip.poses, clip.rest_joints)[1],
        atol=1e-9,
    )
    assert capture.keypoints.places.max() < 5
    assert any("2 persons" in note for note in capture.notes)


def test_easymocap_takes_the_size_of_its_images_where_its_file_has_none(tmp_path: Path) -> None:
    clip = written(tmp_path, "easymocap", sizes=False)
    capture = read(tmp_path, "easymocap")
    assert {(camera.width, camera.height) for camera in capture.cameras} == {(96, 128)}
    np.testing.assert_allclose(capture.cameras[0].K, clip.cameras[0].K, rtol=1e-6)


def test_easymocap_reads_bodies_of_smpl(tmp_path: Path) -> None:
    clip = as_smpl(made_clip(frames=FRAMES))
    write_easymocap(tmp_path, clip)
    poses = read(tmp_path, "easymocap").poses
    assert poses is not None
    assert poses.kind == "smpl"
    got, want = (joint_frames(p, clip.rest_joints)[1] for p in (poses, clip.poses))
    np.testing.assert_allclose(got, want, atol=1e-9)


def test_easymocap_reads_videos_where_there_are_no_images(tmp_path: Path) -> None:
    clip = written(tmp_path, "easymocap")
    for number, camera in enumerate(clip.cameras):
        for path in (tmp_path / "images" / camera.name).iterdir():
            path.unlink()
        frames = np.stack([row[number] for row in clip.images])
        write_video(tmp_path / "videos" / f"{camera.name}.mp4", frames)
    capture = read(tmp_path, "easymocap")
    assert capture.fps == 25.0
    assert not any("rate" in note for note in capture.notes)
    assert len(capture.images) == FRAMES * len(clip.cameras)
    image = read_image(capture.images[1, 2]).astype(float)
    assert np.abs(image - clip.images[1][2]).mean() < 6


def test_easymocap_keypoints_of_another_length_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "easymocap")
    path = tmp_path / "keypoints3d" / "000001.json"
    path.write_text(json.dumps([{"id": 0, "keypoints3d": [[0, 0, 0, 1]] * 17}]))
    refuse(tmp_path, "easymocap", "000001.json: person 0: expected keypoints3d of 25 joints")


# ---- ZJU-MoCap ----


def test_frames_of_the_sequences_313_and_315_are_numbered_by_their_long_names(
    tmp_path: Path,
) -> None:
    clip = written(tmp_path, "zju", long_names=True)
    capture = read(tmp_path, "zju")
    assert [camera.name for camera in capture.cameras][:2] == ["Camera (1)", "Camera (2)"]
    assert capture.frames == (1, 2, 3)
    assert capture.poses is not None
    got, want = (joint_frames(p, clip.rest_joints)[1] for p in (capture.poses, clip.poses))
    np.testing.assert_allclose(got, want, atol=1e-9)
    assert frame_of("CoreView_313_Camera_(4)_0027_2019-08-23_16-08-50.592.jpg") == 27
    assert frame_of("000027.jpg") == 27


def test_translations_of_zju_are_millimetres(tmp_path: Path) -> None:
    clip = written(tmp_path, "zju", unit=1.0)
    for camera, truth in zip(read(tmp_path, "zju").cameras, clip.cameras, strict=True):
        np.testing.assert_allclose(camera.viewmat[:3, 3], truth.viewmat[:3, 3] / 1000, atol=1e-9)


def test_missing_images_of_zju_are_named(tmp_path: Path) -> None:
    written(tmp_path, "zju", no_image=[(1, 2)])
    assert read(tmp_path, "zju").missing == ("cam 2/000001.jpg",)


@pytest.mark.parametrize("file", ["annots.npy", "new_params/1.npy"])
def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path, file: str) -> None:
    written(tmp_path / "in", "zju")
    path = tmp_path / "in" / file
    content = np.load(path, allow_pickle=True).item()
    np.save(path, {**content, "more": RunsCode(tmp_path / "made")}, allow_pickle=True)
    refuse(tmp_path / "in", "zju", rf"{path.name}: expected .*it would run .*mkdir")
    assert not (tmp_path / "made").exists()


def test_damaged_annotations_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "zju")
    path = tmp_path / "annots.npy"
    data = path.read_bytes()
    content = np.load(path, allow_pickle=True).item()
    path.write_bytes(data[:-40])
    refuse(tmp_path, "zju", "annots.npy: expected a pickle")
    path.write_bytes(data[:20])
    refuse(tmp_path, "zju", "annots.npy: expected an .npy file")
    np.save(path, np.zeros(3))
    refuse(tmp_path, "zju", "annots.npy: expected one object, got an array of float64")
    np.save(path, [1, 2], allow_pickle=True)
    refuse(tmp_path, "zju", "annots.npy: expected one object")

    def save(**changes: Any) -> None:
        np.save(path, {**content, **changes}, allow_pickle=True)

    save(ims=[])
    refuse(tmp_path, "zju", "annots.npy: ims: expected 1 to .* frames, got 0")
    save(ims=[{"ims": ["../../secret.jpg"] * 8}])
    refuse(tmp_path, "zju", r"ims\[0\]: expected paths such as")
    save(ims=[*content["ims"], {"ims": ["cam00/000009.jpg"]}])
    refuse(tmp_path, "zju", r"ims\[3\]: expected 8 images, one a camera, got 1")
    save(ims=[{"ims": 3}])
    refuse(tmp_path, "zju", r"ims\[0\]: expected some images, one a camera, got 0")
    save(cams={**content["cams"], "T": content["cams"]["T"][:3]})
    refuse(tmp_path, "zju", r"camera 'cam03': expected numbers in cams/T\[3\]")
    save(cams={**content["cams"], "K": [np.full((3, 3), np.nan)] * 8})
    refuse(tmp_path, "zju", "camera 'cam00': K: expected 9 finite numbers")
    save(cams={**content["cams"], "R": [2 * np.eye(3)] * 8})
    refuse(tmp_path, "zju", "camera 'cam00': expected a rotation")
    save(cams=3)
    refuse(tmp_path, "zju", "annots.npy: expected dictionaries")

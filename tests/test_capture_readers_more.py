"""Readers of DNA-Rendering, MVHumanNet, COLMAP, nerfstudio and UMA give back the made-up clip."""

import dataclasses
import functools
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_capture import (
    MadeClip,
    body25,
    cut,
    made_clip,
    marker_clip,
    marker_places,
    with_hand_pca,
    with_shape,
    write_smplx_npz,
)
from made_capture_more import (
    by_camera,
    by_frame,
    damaged_image,
    flat,
    with_lenses,
    with_one_lens,
    write_colmap,
    write_dna,
    write_mvhumannet,
    write_nerfstudio,
    write_uma,
)
from PIL import Image

from ash_core.captures import images as images_module
from ash_core.captures.capture import Capture, ImageRef
from ash_core.captures.images import (
    image_size,
    read_alpha,
    read_image,
    read_images,
    read_mask,
)
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.dna import is_dna, read_dna
from ash_core.captures.layouts.mvhumannet import is_mvhumannet, read_mvhumannet
from ash_core.captures.layouts.nerfstudio_colmap import (
    is_colmap,
    is_nerfstudio,
    read_colmap,
    read_nerfstudio,
)
from ash_core.captures.layouts.uma import is_uma, read_uma
from ash_core.errors import InputError
from ash_core.geometry.lens import Lens
from ash_core.importers.body.posing import joint_frames

FRAMES, CAMERAS = 3, 3
Read = Callable[[Path, Choice], Capture]


@dataclass(frozen=True)
class Kind:
    """Layout under test."""

    make: Callable[[], MadeClip]
    """The clip as far as the layout can hold it."""
    write: Callable[..., Any]
    read: Read
    is_layout: Callable[[Path], bool]
    joints: int = 55
    """Joints whose rotations the layout holds without a body model."""
    first_frame: int = 0
    step: int = 1
    poses_file: str = "smpl_params.npz"
    is_lossless: bool = True
    """False: images and masks are in videos."""


@functools.cache
def plain() -> MadeClip:
    return marker_clip(with_shape(made_clip(CAMERAS, FRAMES)))


def grey() -> MadeClip:
    """Show one marker in all channels: videos halve the resolution of colours."""
    clip = plain()
    rows = [[np.repeat(image[..., 1:2], 3, -1) for image in row] for row in clip.images]
    return replace(clip, images=tuple(map(tuple, rows)), markers=clip.markers[1:2] * 3)


@functools.cache
def one_lens() -> MadeClip:
    return marker_clip(with_hand_pca(with_one_lens(with_shape(made_clip(CAMERAS, FRAMES)))))


KINDS = {
    "dna": Kind(plain, write_dna, read_dna, is_dna, poses_file=""),
    "mvhumannet": Kind(
        one_lens,
        write_mvhumannet,
        read_mvhumannet,
        is_mvhumannet,
        joints=25,
        first_frame=5,
        step=5,
        poses_file="",
    ),
    "colmap": Kind(plain, write_colmap, read_colmap, is_colmap),
    "nerfstudio": Kind(plain, write_nerfstudio, read_nerfstudio, is_nerfstudio),
    "uma": Kind(grey, write_uma, read_uma, is_uma, is_lossless=False, poses_file=""),
}
each_layout = pytest.mark.parametrize("layout", KINDS)
pytest.importorskip("h5py", reason="the extra 'capture' is not installed")


def written(layout: str, folder: Path, **options: Any) -> tuple[MadeClip, Path]:
    """Write the clip of a layout; returns it and the folder to read."""
    kind = KINDS[layout]
    clip = kind.make()
    place = kind.write(folder, clip, **options)
    return clip, place or folder


def check_cameras(capture: Capture, clip: MadeClip, named: bool = True) -> None:
    assert len(capture.cameras) == len(clip.cameras)
    for camera, truth in zip(capture.cameras, clip.cameras, strict=True):
        np.testing.assert_allclose(camera.K, truth.K, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(camera.viewmat, truth.viewmat, atol=1e-5)
        assert (camera.width, camera.height) == (truth.width, truth.height)
        bends = [dataclasses.astuple(lens) for lens in (camera.lens, truth.lens)]
        np.testing.assert_allclose(*bends, atol=1e-9)
        assert camera.name == truth.name or not named


def check_poses(capture: Capture, clip: MadeClip, joints: int) -> None:
    poses = capture.poses
    assert poses is not None
    assert poses.frames == capture.frames
    np.testing.assert_allclose(poses.betas, clip.poses.betas, atol=1e-5)
    for values, truth in zip(
        joint_frames(poses, clip.rest_joints),
        joint_frames(clip.poses, clip.rest_joints),
        strict=True,
    ):
        np.testing.assert_allclose(values[:, :joints], truth[:, :joints], atol=1e-5)


# ---- every layout gives the same ----


@each_layout
def test_frames_and_cameras_are_chosen(layout: str, tmp_path: Path) -> None:
    kind = KINDS[layout]
    clip, folder = written(layout, tmp_path)
    name = "2" if layout == "dna" else clip.cameras[2].name
    capture = kind.read(folder, Choice(frames="1:", cameras=f"0, {name}"))
    some = replace(clip, cameras=(clip.cameras[0], clip.cameras[2]))
    check_cameras(capture, some, named=layout != "dna")
    assert capture.frames == tuple(kind.first_frame + kind.step * number for number in (1, 2))
    assert capture.poses is not None
    assert len(capture.poses.rotations) == 2
    np.testing.assert_allclose(
        capture.poses.rotations[:, 1:22], clip.poses.rotations[1:, 1:22], atol=1e-6
    )
    with pytest.raises(InputError, match=r"--cameras: .*'nobody'"):
        kind.read(folder, Choice(cameras="nobody"))


@each_layout
def test_only_one_image_a_camera_is_opened(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that thousands of frames cost a listing, no more."""
    kind = KINDS[layout]
    _, folder = written(layout, tmp_path)
    opened: set[ImageRef] = set()
    size = images_module.image_file_size

    def counted(source: Any, place: str) -> tuple[int, int]:
        opened.add(source if isinstance(source, bytes) else ImageRef(source))
        return size(source, place)

    def refused(*_: object) -> None:
        raise AssertionError("a pixel was decoded")

    monkeypatch.setattr(images_module, "image_file_size", counted)
    monkeypatch.setattr("ash_core.captures.layouts.dna.image_file_size", counted)
    monkeypatch.setattr(images_module, "decode_pixels", refused)
    monkeypatch.setattr(images_module, "decode_frames", refused)
    kind.read(folder, Choice())
    assert len(opened) <= 2 * CAMERAS


# ---- faults ----


def refused(read: Read, folder: Path, choice: Choice | None = None) -> str:
    """Return the error of a reader: one line that names a place."""
    with pytest.raises(InputError) as caught:
        read(folder, choice or Choice())
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


@pytest.mark.parametrize("layout", [name for name in KINDS if name != "uma"])
def test_missing_images_are_counted_and_left_out(layout: str, tmp_path: Path) -> None:
    kind = KINDS[layout]
    _, folder = written(layout, tmp_path, no_image=[(1, 0), (1, 2)], no_mask=[(2, 1)])
    capture = kind.read(folder, Choice())
    assert len(capture.images) == len(capture.masks) == FRAMES * CAMERAS - 3
    assert capture.masks.keys() == capture.images.keys()
    assert sum("missing" in note and "3 of 9" in note for note in capture.notes) == 1


@each_layout
def test_a_camera_of_which_nothing_is_there_is_left_out_or_refused(
    layout: str, tmp_path: Path
) -> None:
    kind = KINDS[layout]
    lost = [(frame, 1) for frame in range(FRAMES)]
    if layout == "uma":
        clip, folder = written(layout, tmp_path)
        (folder / "training" / "stream001.mp4").unlink()
    else:
        clip, folder = written(layout, tmp_path, no_image=lost)
    if layout != "dna":  # there a camera without images is none
        assert "found none" in refused(kind.read, folder, Choice(cameras="1"))
    capture = kind.read(folder, Choice())
    some = replace(clip, cameras=(clip.cameras[0], clip.cameras[2]))
    check_cameras(capture, some, named=layout != "dna")


@each_layout
def test_no_frames_are_refused(layout: str, tmp_path: Path) -> None:
    kind = KINDS[layout]
    every = [(frame, camera) for frame in range(FRAMES) for camera in range(CAMERAS)]
    if layout == "uma":
        _, folder = written(layout, tmp_path)
        for path in (folder / "training").glob("*.mp4"):
            path.unlink()
    else:
        _, folder = written(layout, tmp_path, no_image=every)
    assert "found none" in refused(kind.read, folder)


@pytest.mark.parametrize("layout", ["mvhumannet", "colmap", "nerfstudio"])
def test_an_image_of_another_shape_is_refused(layout: str, tmp_path: Path) -> None:
    kind = KINDS[layout]
    clip, folder = written(layout, tmp_path)
    image = kind.read(folder, Choice()).images[kind.first_frame, 1].path
    damaged_image(image, clip.cameras[1].width, clip.cameras[1].height + 7)
    text = refused(kind.read, folder)
    assert "cam01" in text
    assert f"{clip.cameras[1].height + 7}" in text


@pytest.mark.parametrize("layout", ["mvhumannet", "colmap", "nerfstudio"])
def test_a_mask_of_another_size_is_refused(layout: str, tmp_path: Path) -> None:
    kind = KINDS[layout]
    _, folder = written(layout, tmp_path)
    mask = kind.read(folder, Choice()).masks[kind.first_frame, 2].path
    damaged_image(mask, 10, 20)
    assert mask.name in refused(kind.read, folder)


@each_layout
def test_translations_in_another_unit_stay_as_written(layout: str, tmp_path: Path) -> None:
    """The layout's rule counts; what does not fit is found by comparing joints with masks."""
    kind = KINDS[layout]
    own = 1000.0 if layout in ("mvhumannet", "uma") else 1.0
    _, folder = written(layout, tmp_path, unit=own * 1000)
    clip = kind.make()
    cameras = kind.read(folder, Choice()).cameras
    for camera, truth in zip(cameras, clip.cameras, strict=True):
        np.testing.assert_allclose(camera.viewmat[:3, :3], truth.viewmat[:3, :3], atol=1e-5)
        np.testing.assert_allclose(camera.viewmat[:3, 3], 1000 * truth.viewmat[:3, 3], rtol=1e-5)


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("dna", ["0001_02.smc", "0001_02_annots.smc"]),
        (
            "mvhumannet",
            [
                *("camera_intrinsics.json", "camera_extrinsics.json", "camera_scale.pkl"),
                *("smplx/smpl/000001.json", "smplx/keypoints3d/000001.json"),
            ],
        ),
        ("colmap", ["sparse/0/cameras.txt", "sparse/0/images.txt"]),
        ("nerfstudio", ["transforms.json"]),
        ("uma", ["../Subject_0_metadata/cameras.calib"]),
    ],
)
def test_truncated_files_are_refused(layout: str, names: list[str], tmp_path: Path) -> None:
    kind = KINDS[layout]
    _, folder = written(layout, tmp_path)
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        text = refused(kind.read, folder)
        assert path.name in text or path.parent.name in text
        path.write_bytes(whole)


def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "attacked",)

    _, folder = written("mvhumannet", tmp_path / "data")
    (folder / "camera_scale.pkl").write_bytes(pickle.dumps(Attack()))
    assert "camera_scale.pkl" in refused(read_mvhumannet, folder)
    assert not (tmp_path / "attacked").exists()
    for value in (0.0, [1.0, 2.0], "1.5", float("nan"), None):
        (folder / "camera_scale.pkl").write_bytes(pickle.dumps(value))
        assert "expected one positive number" in refused(read_mvhumannet, folder)


@pytest.mark.parametrize("count", [1, 16, 300])
def test_betas_of_another_length_are_kept(count: int, tmp_path: Path) -> None:
    clip = with_shape(plain(), count=count)
    write_dna(tmp_path, clip)
    capture = read_dna(tmp_path, Choice())
    assert capture.poses is not None
    np.testing.assert_allclose(capture.poses.betas, clip.poses.betas)


def test_nan_is_refused_with_its_place(tmp_path: Path) -> None:
    def in_pose(_: Any, annotations: Any) -> None:
        annotations["SMPLx/fullpose"][1, 3, 0] = np.nan

    def in_camera(_: Any, annotations: Any) -> None:
        annotations["Camera_Parameter/01/K"][0, 0] = np.nan

    write_dna(tmp_path / "pose", plain(), change=in_pose)
    assert "SMPLx/fullpose: expected finite numbers" in refused(read_dna, tmp_path / "pose")
    write_dna(tmp_path / "camera", plain(), change=in_camera)
    assert "Camera_Parameter/01/K" in refused(read_dna, tmp_path / "camera")

    def in_transforms(content: dict[str, Any]) -> None:
        content["frames"][1]["transform_matrix"][0][3] = float("nan")

    write_nerfstudio(tmp_path / "json", plain(), change=in_transforms)
    assert "transforms.json" in refused(read_nerfstudio, tmp_path / "json")
    _, folder = written("mvhumannet", tmp_path / "mv")
    path = folder / "camera_extrinsics.json"
    content = json.loads(path.read_text())
    next(iter(content.values()))["translation"][1] = float("inf")
    path.write_text(json.dumps(content))
    assert "camera_extrinsics.json: camera 'cam00'" in refused(read_mvhumannet, folder)


def test_fewer_poses_than_frames_leave_frames_out(tmp_path: Path) -> None:
    clip, folder = written("nerfstudio", tmp_path)
    write_smplx_npz(folder / "smpl_params.npz", cut(clip, 2).poses)
    capture = read_nerfstudio(folder, Choice())
    assert capture.frames == (0, 1)
    assert "frames without a pose: 1: left out" in capture.notes


# ---- DNA-Rendering ----


def test_dna_takes_a_file_a_folder_or_published_folders(tmp_path: Path) -> None:
    clip, folder = written("dna", tmp_path / "together")
    assert is_dna(folder / "0001_02.smc")
    check_cameras(read_dna(folder / "0001_02.smc", Choice()), clip, named=False)
    main, annotations = tmp_path / "part1_main", tmp_path / "part1_annotations"
    for place, name in ((main, "0001_02.smc"), (annotations, "0001_02_annots.smc")):
        place.mkdir()
        (folder / name).rename(place / name)
    for place in (main, tmp_path):
        assert is_dna(place)
        check_cameras(read_dna(place, Choice()), clip, named=False)
    (main / "0002_01.smc").write_bytes((main / "0001_02.smc").read_bytes())
    assert "0001_02.smc, 0002_01.smc; name the file itself" in refused(read_dna, main)
    (annotations / "0001_02_annots.smc").unlink()
    assert "0001_02_annots.smc" in refused(read_dna, main / "0001_02.smc")


def test_dna_gives_gender_and_key_points(tmp_path: Path) -> None:
    clip, folder = written("dna", tmp_path)
    capture = read_dna(folder, Choice(frames="1:"))
    assert capture.poses is not None
    assert capture.poses.gender == "female"
    assert capture.keypoints is not None
    places = joint_frames(clip.poses, clip.rest_joints)[1]
    np.testing.assert_allclose(capture.keypoints.places, places[1:], atol=1e-6)
    np.testing.assert_allclose(capture.keypoints.confidences, 0.8)


def test_links_of_an_smc_file_are_not_followed(tmp_path: Path) -> None:
    import h5py

    def change(main: Any, annotations: Any) -> None:
        del main["Camera_5mp/0/color/1"]
        main["Camera_5mp/0/color/1"] = h5py.ExternalLink("0001_02_annots.smc", "Mask/0/mask/0")
        del annotations["SMPLx/transl"]
        annotations["SMPLx/transl"] = h5py.SoftLink("/SMPLx/fullpose")

    _, folder = written("dna", tmp_path, change=change)
    assert "SMPLx/transl: expected data in the file itself" in refused(read_dna, folder)
    with pytest.raises(InputError, match="expected data in the file itself"):
        read_image(ImageRef(folder / "0001_02.smc", member="Camera_5mp/0/color/1"))


def test_data_of_another_file_is_not_read_through_an_smc_file(tmp_path: Path) -> None:
    import h5py

    secret = tmp_path / "secret"
    secret.write_bytes(bytes(100))
    path = tmp_path / "a.smc"
    with h5py.File(path, "w") as file:
        file.create_dataset("outside", (100,), np.uint8, external=[(str(secret), 0, 100)])
        source = h5py.VirtualSource(str(path), "outside", (100,), np.uint8)
        layout = h5py.VirtualLayout((100,), np.uint8)
        layout[:] = source
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("large", (1 << 40,), np.uint8, chunks=(1024,))
        file["grey"] = np.zeros((2, 2), np.uint8)
    for member in ("outside", "virtual"):
        with pytest.raises(InputError, match=f"a.smc: {member}: expected data in the file itself"):
            read_image(ImageRef(path, member=member))
    with pytest.raises(InputError, match="large: expected an encoded image of at most 64 MiB"):
        read_image(ImageRef(path, member="large"))
    with pytest.raises(InputError, match="grey: expected a row of bytes"):
        read_image(ImageRef(path, member="grey"))
    with pytest.raises(InputError, match="none/here: expected an encoded image, found nothing"):
        read_image(ImageRef(path, member="none/here"))


def test_without_h5py_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = written("dna", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert "h5py" in (text := refused(read_dna, folder))
    assert "[capture]" in text


# ---- MVHumanNet ----


def test_mvhumannet_gives_hands_as_coefficients_and_key_points(tmp_path: Path) -> None:
    clip, folder = written("mvhumannet", tmp_path, suffix="_lr")
    capture = read_mvhumannet(folder, Choice())
    assert capture.poses is not None
    assert capture.poses.root_rule == "origin"
    np.testing.assert_allclose(capture.poses.hand_pca, clip.poses.hand_pca, atol=1e-9)
    assert capture.keypoints is not None
    points = body25(clip)
    seen = points[..., 3] > 0
    np.testing.assert_allclose(capture.keypoints.places[seen], points[..., :3][seen], atol=1e-9)
    np.testing.assert_allclose(capture.keypoints.confidences, points[..., 3])


# ---- COLMAP and nerfstudio ----


def described(options: dict[str, Any]) -> str:
    """Name options alike in every process: a function's own text has its address."""
    return ", ".join(f"{key} {getattr(v, '__name__', v)}" for key, v in options.items())


@pytest.mark.parametrize(
    "options",
    [
        {"names": by_frame},
        {"listed": flat},
        {"listed": by_frame},
        {"names": by_frame, "listed": by_camera},
        {"listed_frames": FRAMES, "names": by_frame},
        {"listed_frames": FRAMES},
        {"mask_ending": ".jpg.png"},
        {"names": by_frame, "mask_ending": ".jpg.png"},
        {"mask_ending": ".jpg"},
        {"model": ""},
        {"model": "sparse"},
        {"model": "colmap/sparse/0"},
    ],
    ids=described,
)
def test_colmap_takes_each_way_to_name_images(options: dict[str, Any], tmp_path: Path) -> None:
    clip, folder = written("colmap", tmp_path, **options)
    capture = read_colmap(folder, Choice())
    check_cameras(capture, clip)
    assert len(capture.masks) == FRAMES * CAMERAS
    for (frame, camera), ref in capture.masks.items():
        assert np.array_equal(read_mask(ref) > 127, clip.masks[frame][camera] > 127)
        near = np.abs(read_image(capture.images[frame, camera]).astype(int)
                      - clip.images[frame][camera])  # fmt: skip
        assert near.max() < 40


def test_colmap_takes_videos(tmp_path: Path) -> None:
    clip, folder = grey(), tmp_path
    write_colmap(folder, clip, videos=True, listed=flat)
    capture = read_colmap(folder, Choice())
    check_cameras(capture, clip)
    assert capture.fps == clip.fps
    assert capture.images[2, 1] == ImageRef(folder / "videos" / "cam01.mp4", frame=2)
    off = marker_places(read_image(capture.images[2, 1]))
    off -= clip.projected(2, 1)[list(clip.markers)]
    assert np.abs(off).max() < 0.1


def test_one_frame_in_one_folder_is_a_capture(tmp_path: Path) -> None:
    clip = cut(plain(), 1)
    write_colmap(tmp_path, clip, names=flat)
    capture = read_colmap(tmp_path, Choice())
    assert capture.frames == (0,)
    check_cameras(capture, clip)
    assert len(capture.masks) == CAMERAS


def test_folders_of_no_camera_are_reported(tmp_path: Path) -> None:
    """A model lost its last lines."""
    _, folder = written("colmap", tmp_path)
    path = folder / "sparse" / "0" / "images.txt"
    path.write_text("\n".join(path.read_text().split("\n")[:5]))
    capture = read_colmap(folder, Choice())
    assert len(capture.cameras) == 2
    assert "folder 'cam 2': of no camera, left out" in capture.notes


def test_cameras_that_move_are_refused(tmp_path: Path) -> None:
    write_colmap(tmp_path, plain(), listed_frames=FRAMES)
    path = tmp_path / "sparse" / "0" / "images.txt"
    lines = path.read_text().split("\n")
    words = lines[-3].split()
    words[5] = str(float(words[5]) + 0.5)
    path.write_text("\n".join([*lines[:-3], " ".join(words), *lines[-2:]]))
    assert "expected cameras that stand still" in refused(read_colmap, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"names": by_frame},
        {"listed_frames": 1},
        {"listed_frames": 1, "names": by_frame},
        {"indices": True, "names": lambda frame, camera: f"{frame:05d}_{camera.name}"},
        {"mask_paths": True},
    ],
    ids=["by frame", "one moment", "one moment by frame", "indices", "mask paths"],
)
def test_nerfstudio_takes_each_way_to_name_images(options: dict[str, Any], tmp_path: Path) -> None:
    clip, folder = written("nerfstudio", tmp_path, **options)
    capture = read_nerfstudio(folder, Choice())
    check_cameras(capture, clip, named="indices" not in options)
    assert len(capture.masks) == FRAMES * CAMERAS
    for (frame, camera), ref in capture.masks.items():
        np.testing.assert_array_equal(read_mask(ref), clip.masks[frame][camera])


def test_lists_of_splits_are_joined(tmp_path: Path) -> None:
    clip, folder = written("nerfstudio", tmp_path)
    content = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").unlink()
    for split, part in (("train", slice(0, 6)), ("test", slice(6, 9))):
        text = json.dumps({**content, "frames": content["frames"][part]})
        (folder / f"transforms_{split}.json").write_text(text)
    assert is_nerfstudio(folder)
    capture = read_nerfstudio(folder, Choice())
    check_cameras(capture, clip)
    assert len(capture.images) == FRAMES * CAMERAS


def test_smaller_images_scale_the_intrinsics(tmp_path: Path) -> None:
    clip, folder = written("nerfstudio", tmp_path)
    for path in [*folder.glob("images/*/*"), *folder.glob("masks/*/*")]:
        Image.open(path).resize((48, 64)).save(path)
    capture = read_nerfstudio(folder, Choice())
    for camera, truth in zip(capture.cameras, clip.cameras, strict=True):
        np.testing.assert_allclose(camera.K[:2], truth.K[:2] / 2, rtol=1e-6)
        assert (camera.width, camera.height) == (48, 64)
    assert any("K is scaled" in note for note in capture.notes)


def test_lenses_that_a_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    clip = with_lenses(plain(), Lens(k1=0.1, k4=0.2))

    def change(content: dict[str, Any]) -> None:
        content["k4"] = 0.2

    write_nerfstudio(tmp_path, clip, change=change)
    assert "got k4 = 0.2" in refused(read_nerfstudio, tmp_path)


def test_without_masks_alpha_counts_and_without_either_it_is_refused(tmp_path: Path) -> None:
    clip, folder = written("nerfstudio", tmp_path, listed_frames=1)
    for path in folder.glob("masks/*/*"):
        path.unlink()
    assert "alpha" in refused(read_nerfstudio, folder)
    for path in list(folder.glob("images/*/*.jpg")):
        number, frame = int(path.parent.name[3:]), int(path.stem)
        rgba = np.dstack([clip.images[frame][number], clip.masks[frame][number]])
        Image.fromarray(rgba).save(path.with_suffix(".png"))
        path.unlink()
    capture = read_nerfstudio(folder, Choice())
    assert not capture.masks
    for (frame, camera), ref in capture.images.items():
        np.testing.assert_array_equal(read_alpha(ref), clip.masks[frame][camera])


def test_poses_of_a_flag_replace_those_of_the_folder(tmp_path: Path) -> None:
    clip, folder = written("colmap", tmp_path / "data")
    (folder / "smpl_params.npz").unlink()
    assert read_colmap(folder, Choice()).poses is None
    write_smplx_npz(tmp_path / "other.npz", clip.poses)
    check_poses(read_colmap(folder, Choice(poses=tmp_path / "other.npz")), clip, 55)


# ---- UMA ----


def test_uma_gives_the_character_and_its_motion(tmp_path: Path) -> None:
    clip, folder = written("uma", tmp_path, splits=("training", "testing"))
    metadata = tmp_path / "Subject_0_metadata" / "ddc_character"
    capture = read_uma(folder, Choice())
    assert capture.character == metadata / "ddc.character"
    assert capture.motion == metadata / "skeletoolToGTPose" / "poseAngles.motion"
    assert capture.fps == clip.fps
    assert is_uma(folder / "testing")
    assert is_uma(tmp_path)
    test = read_uma(folder / "testing", Choice())
    assert test.images[0, 0].path == folder / "testing" / "stream000.mp4"
    assert test.motion is None
    assert test.poses is None


def test_unknown_keys_of_uma_are_refused_unless_poses_are_chosen(tmp_path: Path) -> None:
    clip, folder = written("uma", tmp_path, inner=True)
    path = folder / "Subject_0_metadata" / "smplx_character" / "smplx_train_merged.npz"
    np.savez(path, something=np.zeros(3))
    assert "smplx_train_merged.npz: " in refused(read_uma, folder)
    write_smplx_npz(tmp_path / "other.npz", clip.poses)
    check_poses(read_uma(folder, Choice(poses=tmp_path / "other.npz")), clip, 55)


# ---- images ----


def test_images_of_a_video_are_decoded_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, folder = written("uma", tmp_path)
    capture = read_uma(folder, Choice())
    calls: list[list[int]] = []
    decode = images_module.decode_frames

    def counted(index: Any, numbers: list[int]) -> Any:
        calls.append(list(numbers))
        return decode(index, numbers)

    monkeypatch.setattr(images_module, "decode_frames", counted)
    refs = [capture.images[frame, camera] for camera in (0, 1) for frame in (0, 1, 2)]
    images = list(read_images([*refs, refs[3]]))
    assert calls == [[0, 1, 2], [0, 1, 2], [0]]
    np.testing.assert_array_equal(images[3], images[6])
    for place, ref in enumerate(refs):
        np.testing.assert_array_equal(images[place], read_image(ref))
        assert image_size(ref) == (clip.cameras[0].width, clip.cameras[0].height)
    with pytest.raises(InputError, match="expected frame 7, got a video of 3 frames"):
        read_image(ImageRef(refs[0].path, frame=7))


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (np.array([[0, 255, 128]]), "L"),
        (np.array([[[0, 0, 0], [0, 255, 3], [128, 128, 128]]]), "RGB"),
        (np.array([[[9, 9, 9, 0], [9, 9, 9, 255], [9, 9, 9, 128]]]), "RGBA"),
        (np.array([[[0, 0, 0, 255], [255, 255, 255, 255], [128, 9, 9, 255]]]), "RGBA"),
    ],
    ids=["grey", "colours", "alpha", "opaque"],
)
def test_masks_of_each_kind_are_alpha(pixels: np.ndarray, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(pixels.astype(np.uint8), mode).save(path)
    assert read_mask(ImageRef(path)).tolist() == [[0, 255, 128]]


def test_labels_count_as_the_person_in_lossless_masks_only(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 19]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    assert read_mask(ImageRef(tmp_path / "labels.png")).tolist() == [[0, 255, 255]]
    palette = Image.fromarray(labels, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0, *[200, 200, 200] * 30])
    palette.save(tmp_path / "palette.png")
    assert (read_mask(ImageRef(tmp_path / "palette.png")) >= 128).tolist() == [[False, True, True]]
    # The noise of a compressed mask without anybody is no person.
    Image.fromarray(np.full((16, 16), 2, np.uint8)).save(tmp_path / "noise.jpg", quality=30)
    assert read_mask(ImageRef(tmp_path / "noise.jpg")).max() < 64


def test_files_that_are_no_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    for read in (read_image, read_mask, read_alpha, image_size):
        with pytest.raises(InputError, match=r"a\.png: expected an image"):
            read(ImageRef(path))
    with pytest.raises(InputError, match="nothing there"):
        image_size(ImageRef(tmp_path / "b.png"))
    Image.new("I;16", (4, 4)).save(path)
    with pytest.raises(InputError, match="expected 8 bits a channel"):
        read_mask(ImageRef(path))

"""`render` of a published configuration: its cameras, frames, size and background."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from release_tree import IMAGE, TEST_FRAMES, VAL_CAMERAS, ReleaseTree, release_tree
from test_training import run

from ash_core.avatar import Avatar
from ash_core.files.cameras.published import write_cameras
from ash_core.files.dataset import stretch_camera
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.geometry.motion import pose_window
from ash_core.render import Renderer, RenderRequest

TEST_NAMES = {f"4/image_c_4_f_{frame}.png" for frame in (0, 4, 8)}
"""The validation's only camera; frames 0 to 9, the end left out, every fourth."""


@pytest.fixture
def tree(tmp_path: Path) -> ReleaseTree:
    return release_tree(tmp_path / "tree", footage=False)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def render(*words: object) -> int:
    return run("render", *map(str, words), "--device", "cpu")


def test_a_configuration_renders_what_the_published_inference_does(
    tree: ReleaseTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert render(tree.val_conf, "-o", out) == 0
    assert files(out) == TEST_NAMES
    data, _ = import_ash(tree.val_conf)
    motion = read_motion(tree.meta / "skeletoolToGTPoseTest" / "poseAngles.motion", data.skeleton)
    renderer = Renderer(Avatar.from_data(data))
    camera = stretch_camera(data.cameras[VAL_CAMERAS[0]], *IMAGE)
    for frame in (0, 4, 8):
        window = pose_window(motion, frame, data.skeleton, data.history_offsets)
        image = renderer.render(RenderRequest(window, camera, (1.0, 1.0, 1.0)))
        pixels = np.array(PillowImage.open(out / "4" / f"image_c_4_f_{frame}.png"))
        assert np.array_equal(pixels, image.to_numpy())
    notes = capsys.readouterr().err
    assert "no Gaussian checkpoint" in notes
    assert "3/3" in notes


def test_the_training_configuration_has_a_validation_too(tree: ReleaseTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert render(tree.train_conf, "-o", out) == 0
    assert files(out) == {"4/image_c_4_f_20.png", "4/image_c_4_f_40.png"}
    corner = np.array(PillowImage.open(out / "4/image_c_4_f_20.png"))[0, 0]
    assert corner.tolist() == [0, 0, 0]  # is_white_background = False


def test_a_folder_means_the_configuration_of_its_inference(tree: ReleaseTree) -> None:
    assert render(tree.meta) == 0
    assert files(tree.root / "dump_results" / "Subject0099_test" / "renders") == TEST_NAMES


def test_cameras_of_another_size_give_pictures_of_the_configurations(
    tree: ReleaseTree, tmp_path: Path
) -> None:
    data, _ = import_ash(tree.val_conf)
    large = tuple(stretch_camera(camera, 160, 120) for camera in data.cameras)
    assert render(tree.val_conf, "-o", tmp_path / "small") == 0
    write_cameras(tree.meta / "cameras.json", large)
    assert render(tree.val_conf, "-o", tmp_path / "large") == 0
    for name in TEST_NAMES:
        one, other = (PillowImage.open(tmp_path / size / name) for size in ("small", "large"))
        assert other.size == IMAGE
        assert np.abs(np.array(one, float) - np.array(other, float)).max() <= 2


# ---- flags ----


def test_a_motion_is_a_folder_and_rendered_whole(tree: ReleaseTree, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tree.meta / "skeletoolToGTPoseRetarget"
    assert render(tree.root, "--motion", folder, "-o", out, "--size", "20x15") == 0
    assert files(out) == {f"4/image_c_4_f_{frame}.png" for frame in range(TEST_FRAMES)}


def test_flags_go_before_the_configuration(tree: ReleaseTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (
        "--motion",
        "skeletoolToGTPose",
        "--camera",
        "0,7",
        "--frames",
        "30:32",
        "--size",
        "43x32",
        "--background",
        "#ff0000",
    )
    assert render(tree.val_conf, *words, "-o", out) == 0
    assert files(out) == {f"{c}/image_c_{c}_f_{f}.png" for c in (0, 7) for f in (30, 31)}
    image = PillowImage.open(out / "7/image_c_7_f_31.png")
    assert image.size == (43, 32)
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_a_camera_that_stands_nowhere_renders_one_view(tree: ReleaseTree, tmp_path: Path) -> None:
    assert render(tree.val_conf, "--camera", "front", "-o", tmp_path / "front") == 0
    assert files(tmp_path / "front") == {f"frame_{frame:06d}.png" for frame in (0, 4, 8)}
    assert PillowImage.open(tmp_path / "front/frame_000004.png").size == IMAGE
    assert render(tree.val_conf, "--frames", "3", "-o", tmp_path / "one.png") == 0
    assert PillowImage.open(tmp_path / "one.png").size == IMAGE


# ---- mistakes ----


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--camera", "3,8"), r"--camera: expected numbers of cameras in 0..7, got 8"),
        (("--camera", "0,4", "-o", "x.mp4"), r"x.mp4: a video shows one camera, 2 are selected"),
        (
            ("--motion", "nowhere"),
            r"nowhere: no such motion file; motions of .*: skeletool",
        ),
        (("--motion", "."), r"--motion: .*: expected a folder with poseAngles.motion, found none"),
        (("--frames", "500"), r"--frames: expected frames in 0..11"),
    ],
)
def test_a_wrong_flag_is_named(
    tree: ReleaseTree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert render(tree.val_conf, *words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert re.search(said, last), last


def test_frames_beyond_the_motion_name_the_entry(
    tree: ReleaseTree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.edit("val_frame_start = 0", "val_frame_start = 600", tree.val_conf)
    tree.edit("val_frame_end = 9", "val_frame_end = 700", tree.val_conf)
    assert render(tree.val_conf) == 2
    text = "subject0099_val.conf: val_frame_start: expected a frame of its motion, 0 to 11, got 600"
    assert text in capsys.readouterr().err


def test_other_avatars_still_need_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert render("bundled") == 2
    assert "--out: expected a file in .mp4, say, or a folder, got none" in capsys.readouterr().err

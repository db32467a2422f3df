"""The published tree, unmodified: extract, train, eval and inspect on its configurations."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from release_tree import (
    IMAGE,
    STEP,
    SUBJECT,
    TRAIN_CAMERAS,
    TRAIN_FRAMES,
    VAL_CAMERAS,
    VAL_FRAMES,
    ReleaseTree,
    extract_by_hand,
    release_tree,
)

from ash_core.cli import main
from ash_core.files.dataset import image_path, open_dataset, read_masked, read_masked_crop
from ash_core.files.release import find_conf, read_release

CAMERAS = sorted(TRAIN_CAMERAS + VAL_CAMERAS)
QUICK = ("--device", "cpu", "--views-per-pose", "1", "--workers", "1", "--crop", "48x48")


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ReleaseTree:
    """Extract images outside, as the published extraction does. Read-only."""
    tree = release_tree(tmp_path_factory.mktemp("release"))
    extract_by_hand(tree)
    return tree


@pytest.fixture
def bare(tmp_path: Path) -> ReleaseTree:
    """Copy the tree without footage, for tests that damage it."""
    return release_tree(tmp_path / "tree", footage=False)


# ---- the reader ----


def test_a_configuration_is_read_as_it_stands(made: ReleaseTree) -> None:
    release = read_release(made.train_conf)
    assert (release.root, release.subject) == (made.root, SUBJECT)
    assert release.train_cameras == TRAIN_CAMERAS
    assert release.val_cameras == VAL_CAMERAS
    assert release.train_frames is not None
    assert release.val_frames is not None
    assert tuple(release.train_frames) == TRAIN_FRAMES  # the end is one of them
    assert tuple(release.val_frames) == VAL_FRAMES  # the end is none of them
    assert (release.size, release.is_white_background) == (IMAGE, False)
    assert (release.atlas_resolution, release.global_scale) == (32, 2.5)
    assert (release.image_dir, release.mask_dir) == (made.images, made.masks)
    assert release.output_dir == made.root / "dump_results" / SUBJECT
    assert list(release.motions) == [
        "skeletoolToGTPose",
        "skeletoolToGTPoseRetarget",
        "skeletoolToGTPoseTest",
    ]
    schedule = release.schedule
    assert (schedule.learning_rate, schedule.steps) == (5e-4, 2_000_000)
    assert (schedule.color_weight, schedule.ssim_weight, schedule.random_seed) == (0.85, 0.15, -1)
    val = read_release(made.val_conf)
    assert (val.is_white_background, val.is_test_motion) == (True, True)
    assert val.val_frames == range(0, 9, 4)


def test_every_folder_of_the_tree_leads_to_its_configuration(made: ReleaseTree) -> None:
    for folder in (made.root, made.raw, made.meta, made.train_conf.parent, made.checkpoint.parent):
        assert find_conf(folder, "train") == made.train_conf
        assert find_conf(folder, "val") == made.val_conf
    assert find_conf(made.root / "meta_data") is None


def test_the_release_as_a_data_set(made: ReleaseTree) -> None:
    dataset = open_dataset(made.train_conf)
    split = dataset.splits["training"]
    frames = {*TRAIN_FRAMES, *VAL_FRAMES}
    assert sorted(split.images) == sorted((f, c) for f in frames for c in CAMERAS)
    assert {(split.cameras[c].width, split.cameras[c].height) for c in CAMERAS} == {IMAGE}
    assert split.motion.normalised is not None
    image = split.images[20, 4]
    assert image == made.images / "4" / "image_c_4_f_20.png"
    crop = read_masked_crop(image)
    mask = np.array(PillowImage.open(made.masks / "4" / "image_c_4_f_20.png"))
    np.testing.assert_array_equal(crop.alpha, mask)
    assert set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal(crop.rgb, np.array(PillowImage.open(image)))


def test_jpg_is_taken_where_there_is_no_png(tmp_path: Path) -> None:
    tree = release_tree(tmp_path)
    extract_by_hand(tree, cameras=[2, 4], frames=[20, 30])
    extract_by_hand(tree, cameras=[4], frames=[30, 40], kind="jpg")
    tree.edit("0, 2, 3,\n        6", "2")
    images = open_dataset(tree.train_conf).splits["training"].images
    endings = {(4, 20): ".png", (4, 30): ".png", (4, 40): ".jpg", (2, 20): ".png", (2, 30): ".png"}
    assert {(c, f): images[f, c].suffix for f, c in images} == endings
    rgb, alpha = read_masked(images[40, 4])
    assert rgb.shape[:2] == alpha.shape == IMAGE[::-1]


# ---- the commands ----


@pytest.mark.parametrize("variant", ["native", "released"])
def test_training_takes_all_of_it(
    made: ReleaseTree,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
) -> None:
    """Train on what was extracted outside, then measure the avatar."""
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "out"
    more = ("--warm-up-steps", 0) if variant == "released" else ("--preset", "cpu")
    words = ("train", made.train_conf, "-o", out, "--variant", variant, *more, *QUICK)
    assert run(*words, "--steps", 2, "--validate-every", 2) == 0
    text = capsys.readouterr().err
    config = json.loads((out / "config.json").read_text())
    assert config["learning_rate"] == 5e-4
    assert (config["weights"]["l1"], config["weights"]["dssim"]) == (0.85, 0.15)
    assert (config["checkpoint_every"], config["validate_every"]) == (10_000, 2)
    assert (config["seed"], config["steps"]) == (0, 2)
    assert config["background"] == ("black" if variant == "released" else "random")
    assert "4 poses, 16 pictures" in text
    assert "test cameras 4" in text
    names = sorted(path.name for path in (out / "validations_fine").iterdir())
    assert names == [f"novel_view_c004_f{f:06d}_step_000000002.png" for f in VAL_FRAMES]
    for item in ("dataset.image_dir", "dataset.train_camera", "--steps", "delta_checkpoint_dir"):
        assert item in text
    assert run("eval", out / "avatar.safetensors", made.train_conf, "--device", "cpu") == 0
    table = capsys.readouterr().out
    assert [line.split()[:3] for line in table.splitlines()[1:3]] == [
        ["train", "pose", "16"],
        ["novel", "view", "2"],
    ]
    shutil.rmtree(out)  # checkpoints of the published networks are large


def test_results_go_where_the_configuration_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of the tree stands for its configuration, which a note names; flags override."""
    tree = release_tree(tmp_path)
    extract_by_hand(tree, frames=[10, 20])
    words = ("train", tree.raw, "--preset", "cpu", *QUICK, "--steps", 1, "--frames", "10:20")
    assert run(*words, "--test-cameras", "2,3", "--learning-rate", 0.002) == 0
    out = tree.root / "dump_results" / SUBJECT
    config = json.loads((out / "config.json").read_text())
    assert (config["learning_rate"], config["frames"]) == (0.002, "10:20")
    text = capsys.readouterr().err
    assert f"{tree.raw}: its configuration is {tree.train_conf}" in text
    assert "1 poses, 3 pictures" in text
    assert "test cameras 2,3" in text


def test_published_layout_is_what_was_extracted_by_hand(
    made: ReleaseTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours: the same places, sizes and numbers; masks and colours the same inside the person."""
    tree = release_tree(tmp_path / "tree")
    words = ("--erode", 0, "--dilate", 0, "--threshold", 128, "--workers", 1)
    assert run("extract", tree.raw, "--layout", "published", *words) == 0
    assert f"its configuration is {tree.train_conf}" in capsys.readouterr().err
    for folder, other in ((tree.images, made.images), (tree.masks, made.masks)):
        names = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
        assert names == {str(path.relative_to(other)) for path in other.rglob("*.png")}
    ours, theirs = (
        [np.array(PillowImage.open(folder / "2" / "image_c_2_f_30.png")) for folder in folders]
        for folders in ((tree.images, tree.masks), (made.images, made.masks))
    )
    assert ours[0].shape == theirs[0].shape == (*IMAGE[::-1], 3)
    assert set(np.unique(ours[1])) == {0, 255}
    assert not ours[0][ours[1] == 0].any()
    union = (ours[1] > 0) | (theirs[1] > 0)
    both = (ours[1] > 0) & (theirs[1] > 0)
    assert both.sum() > 0.9 * union.sum()
    assert np.abs(ours[0][both].astype(int) - theirs[0][both]).mean() < 12

    # Run again it makes nothing; a lost mask is made anew.
    (tree.masks / "2" / "image_c_2_f_30.png").unlink()
    assert run("extract", tree.train_conf, "--layout", "published", *words) == 0
    assert "1 images made, 24 were there" in capsys.readouterr().out
    assert len(open_dataset(tree.train_conf).splits["training"].images) == 20


def test_our_layout_of_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cameras, frames and size of the configuration; training finds them and says so."""
    tree = release_tree(tmp_path)
    assert run("extract", tree.train_conf, "--erode", 0, "--dilate", 0, "--workers", 1) == 0
    assert "25 images made" in capsys.readouterr().out
    image = image_path(tree.raw, "training", 6, 4 * STEP)
    assert PillowImage.open(image).size == IMAGE
    dataset = open_dataset(tree.train_conf)
    assert len(dataset.splits["training"].images) == 20
    assert any("dataset.image_dir: not there, images of" in text for text in dataset.notes)


def test_a_configuration_is_inspected(
    made: ReleaseTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Look at its videos and, where those are not there, at its images."""
    assert run("inspect", made.train_conf, "-o", tmp_path / "a.html", "--samples", 2) == 0
    text = capsys.readouterr().out
    assert "fits the masks of all 5 cameras" in text
    assert "no Gaussian checkpoint" not in text  # it is data to train on
    assert "all 18 images that the configuration names are extracted" in text
    tree = release_tree(tmp_path / "tree", footage=False)
    shutil.copytree(made.images.parent, tree.images.parent)
    (image,) = (tree.images / str(TRAIN_CAMERAS[0])).glob(f"*_f_{TRAIN_FRAMES[0]}.png")
    image.unlink()
    assert run("inspect", tree.train_conf, "-o", tmp_path / "b.html", "--samples", 2) == 0
    text = capsys.readouterr().out
    assert "fits the masks of all 5 cameras" in text
    assert "17 of 18 images that the configuration names are extracted" in text


# ---- mistakes ----

META = f"./meta_data/{SUBJECT}"
WRONG = {
    "skeleton missing": (f"{META}/ddc.skeleton", f"{META}/no.skeleton", "dataset.skeleton_dir"),
    "skeleton a folder": (f"{META}/ddc.skeleton", META, "dataset.skeleton_dir"),
    "skeleton swapped": (f"{META}/ddc.skeleton", f"{META}/ddc.obj", "dataset.skeleton_dir"),
    "mesh swapped": (f"{META}/ddc.obj", f"{META}/ddc.skeleton", "dataset.mesh_dir"),
    "mesh and graph": (f"{META}/ddc.obj", f"{META}/ddc_graph.obj", "dataset.mesh_dir"),
    "skin missing": (f"{META}/ddc.skin", f"{META}/no.skin", "dataset.skin_dir"),
    "rest pose": (f"{META}/ddc.motion", f"{META}/no.motion", "dataset.rest_pose_dir"),
    "cameras missing": (f"{META}/cameras.json", f"{META}/no.json", "dataset.camera_json_dir"),
    "cameras a folder": (f"{META}/cameras.json", META, "dataset.camera_json_dir"),
    "motion missing": (
        f'skeleton_angles = "{META}/skeletoolToGTPose/poseAngles.motion"',
        f'skeleton_angles = "{META}/poseAngles.motion"',
        "dataset.skeleton_angles",
    ),
    "motion a folder": (
        f'skeleton_angles = "{META}/skeletoolToGTPose/poseAngles.motion"',
        f'skeleton_angles = "{META}/skeletoolToGTPose"',
        "dataset.skeleton_angles",
    ),
    "a number for a file": (f'"{META}/ddc.skin"', "5", "dataset.skin_dir"),
    "text for a number": ("end_frame = 40", 'end_frame = "forty"', "dataset.end_frame"),
    "a quoted number": ("start_frame = 10", 'start_frame = "10"', "dataset.start_frame"),
    "a number for a list": ("val_camera = [4]", "val_camera = 4", "dataset.val_camera"),
    "a list for a number": ("end_frame = 40", "end_frame = [40]", "dataset.end_frame"),
    "an empty list": ("val_camera = [4]", "val_camera = []", "dataset.val_camera"),
    "negative": ("start_frame = 10", "start_frame = -10", "dataset.start_frame"),
    "float cameras": ("val_camera = [4]", "val_camera = [4.0]", "dataset.val_camera"),
    "no such camera": ("val_camera = [4]", "val_camera = [8]", "dataset.val_camera"),
    "a camera twice": ("val_camera = [4]", "val_camera = [4, 4]", "dataset.val_camera"),
    "more cameras": ("camera_num = 8", "camera_num = 9", "dataset.camera_num"),
    "an end before": ("end_frame = 40", "end_frame = 5", "dataset.end_frame"),
    "no frames": ("val_frame_end = 41", "val_frame_end = 20", "dataset.val_frame_end"),
    "beyond the motion": ("start_frame = 10", "start_frame = 42", "dataset.end_frame"),
    "size": ("img_width = 86", "img_width = 0", "dataset.img_width"),
    "half a size": ("img_width = 86", "", "dataset.img_height"),
    "no masks": ("mask_dir = ", "masks = ", "dataset.mask_dir"),
    "truth": (
        "is_white_background = False",
        "is_white_background = 0",
        "dataset.is_white_background",
    ),
    "atlas": ("tex_size = 32", 'tex_size = "32"', "dataset.barycentric_tex_size"),
    "rate": ("learning_rate = 5e-4", "learning_rate = fast", "train.learning_rate"),
    "weight": ("ssim_weight = 0.15", "ssim_weight = -1", "train.ssim_weight"),
    "steps": ("end_iter = 2000000", "end_iter = 0.5", "train.end_iter"),
    "output": ('"./dump_results/Subject0099/"', "3", "general.output_dir"),
    "checkpoint missing": ("ble_character_checkpoint.pth", "ble.pth", "train.delta_checkpoint_dir"),
    "checkpoint a folder": (
        "/deformable_character_checkpoint.pth",
        "",
        "train.delta_checkpoint_dir",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_a_configuration_names_is_used_or_refused(
    bare: ReleaseTree, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """One line that names the configuration and the entry; a `.character` beside never helps."""
    before, after, entry = WRONG[fault]
    (bare.meta / "ddc.character").write_text(
        "skeletool character file v1.0\nskeleton\n ddc.skeleton\nmesh\n ddc.obj\n"
        "skin\n ddc.skin\npose\n ddc.motion\n"
    )
    for folder in (bare.meta, bare.train_conf.parent):
        (folder / "other.character").write_bytes((bare.meta / "ddc.character").read_bytes())
    conf = bare.edit(before, after)
    assert run("train", conf, "-o", bare.root / "out", "--device", "cpu") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert str(conf) in errors[0]
    assert entry in errors[0]
    assert not (bare.root / "out" / "avatar.safetensors").exists()


@pytest.mark.parametrize("name", ["ddc.skeleton", "ddc.skin", "ddc.obj", "cameras.json"])
def test_an_empty_file_is_named_with_its_entry(
    bare: ReleaseTree, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (bare.meta / name).write_bytes(b"")
    assert run("import", "ash", bare.train_conf, "-o", bare.root / "a.safetensors") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(bare.train_conf) in error
    assert f"_dir = './meta_data/{SUBJECT}/{name}': {bare.meta / name}" in error


def test_images_of_another_size_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = release_tree(tmp_path)
    extract_by_hand(tree, cameras=[0], frames=[10])
    tree.edit("img_width = 86", "img_width = 87")
    assert run("inspect", tree.train_conf) == 2
    assert "dataset.img_width, dataset.img_height: expected images" in capsys.readouterr().err


def test_training_without_images_says_how_they_are_made(
    bare: ReleaseTree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", bare.train_conf, "--device", "cpu") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"dataset.image_dir = {bare.images}" in error
    assert f"'ash-studio extract {bare.train_conf}' makes them" in error


def test_two_subjects_are_not_guessed_between(bare: ReleaseTree) -> None:
    other = bare.root / "confs" / "Subject0100"
    other.mkdir()
    (other / "a.conf").write_bytes(bare.train_conf.read_bytes())
    assert run("inspect", bare.root) == 2
    assert find_conf(bare.meta) == bare.train_conf

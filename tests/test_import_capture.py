"""Captures of other laboratories: what is detected, what is written, what faults leave."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_body import write_body_model
from made_capture import (
    MadeClip,
    made_clip,
    write_avatarrex,
    write_thuman4,
)
from PIL import Image

from ash_core.captures import import_capture as import_module
from ash_core.captures import read as read_module
from ash_core.captures import template as template_module
from ash_core.captures.bodies import read_with_body
from ash_core.captures.import_capture import (
    ImportResult,
    ImportSettings,
    Watch,
    import_capture,
    split_frames,
)
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.read import detect_layout, read_capture
from ash_core.captures.template import make_character, read_surface
from ash_core.cli import main
from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import INTERRUPTED, InputError
from ash_core.files.body_model import read_body_model
from ash_core.files.body_poses import BODY_JOINTS
from ash_core.files.dataset import (
    CAPTURE,
    Dataset,
    image_path,
    images_of,
    mask_path,
    open_dataset,
    read_dataset_cameras,
    read_mask_crop,
    read_masked,
    read_masked_crop,
)
from ash_core.files.obj import ObjMesh, write_obj
from ash_core.footage.inspect.inspection import inspect_dataset
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.body.body_motion import bone_name
from ash_core.importers.body.posing import joint_frames
from ash_core.importers.motion_file import read_foreign_motion
from ash_core.importers.template import fit as fit_module
from ash_core.importers.template.fit import FittedTemplate
from ash_core.importers.template.linear_skinning import bone_moves, place_points

CAMERAS, FRAMES = 4, 6


@pytest.fixture(scope="module")
def clip() -> MadeClip:
    return made_clip(CAMERAS, FRAMES)


@pytest.fixture(scope="module")
def straight() -> MadeClip:
    return made_clip(CAMERAS, FRAMES, lenses=False)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, clip: MadeClip) -> Path:
    """Capture in the layout of AvatarReX, with lenses, and a body file."""
    home = tmp_path_factory.mktemp("capture")
    write_avatarrex(home / "source", clip)
    write_body_model(home / "SMPLX_NEUTRAL.npz", "smplx", clip.rest_joints, vertices=1700)
    return home


@pytest.fixture(scope="module")
def result(shelf: Path) -> ImportResult:
    outcome = run_import(shelf, shelf / "data")
    assert outcome is not None
    return outcome


@pytest.fixture(scope="module")
def data(shelf: Path, result: ImportResult) -> Dataset:
    return open_dataset(shelf / "data")


@pytest.fixture
def source(shelf: Path, tmp_path: Path) -> Path:
    """Copy of the capture, to be damaged."""
    shutil.copytree(shelf / "source", tmp_path / "home" / "source")
    shutil.copy(shelf / "SMPLX_NEUTRAL.npz", tmp_path / "home")
    return tmp_path / "home" / "source"


@pytest.fixture
def no_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the character out, which takes most of the time."""
    monkeypatch.setattr(import_module, "_write_character", lambda *_: ())


def images_in(folder: Path) -> list[Path]:
    return sorted(path for _, _, path in images_of(folder, "training"))


def run_import(shelf: Path, out: Path, stop_after: int = 10**9) -> ImportResult | None:
    images: list[int] = []
    watch = Watch(
        stage=lambda _: None,
        images=lambda count, _: images.append(count),
        detected=lambda _: None,
        stopped=lambda: sum(images) >= stop_after,
    )
    settings = ImportSettings(shelf / "source", out, shelf / "SMPLX_NEUTRAL.npz", test="2")
    return import_capture(settings, watch)


def command(source: Path, out: Path, *more: str) -> list[str]:
    body = str(source.parent / "SMPLX_NEUTRAL.npz")
    words = ["import", "capture", str(source), "--body", body, "-o", str(out)]
    return [*words, "--workers", "1", *more]


def refused(
    source: Path, capsys: pytest.CaptureFixture[str], *more: str, out: Path | None = None
) -> str:
    """Run the command; returns its error, after a check that it is one line and left nothing."""
    before = sorted(source.parent.iterdir())
    capsys.readouterr()
    assert main(command(source, out or source.parent / "data", *more)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert sorted(source.parent.iterdir()) == before
    return lines[0]


# ---- the data set ----


def test_joints_of_the_character_are_those_of_the_poses(
    clip: MadeClip, data: Dataset, result: ImportResult
) -> None:
    T = result.turn.T_world_capture
    expected = joint_frames(clip.poses, clip.rest_joints)[1] @ T[:3, :3].T + T[:3, 3]
    rows = {"training": slice(0, FRAMES - 2), "testing": slice(FRAMES - 2, FRAMES)}
    skeleton = data.character.skeleton
    for name, split in data.splits.items():
        frames = joint_transforms(skeleton, split.motion.dofs).numpy()
        for joint, body_joint in enumerate(BODY_JOINTS["smplx"]):
            bone = bone_name(body_joint)
            chain = [n for n, own in enumerate(skeleton.joint_names) if own.split("_")[0] == bone]
            places = frames[:, chain[-1], :3, 3] @ np.array(R_WORLD_BODY).T
            np.testing.assert_allclose(places, expected[rows[name], joint], atol=1e-4)


def test_cameras_see_joints_where_the_capture_has_them(
    straight: MadeClip, data: Dataset, result: ImportResult
) -> None:
    T = result.turn.T_world_capture
    places = joint_frames(straight.poses, straight.rest_joints)[1][2] @ T[:3, :3].T + T[:3, 3]
    for number, camera in enumerate(data.cameras):
        viewmat, K = camera.viewmat.double().numpy(), camera.K.double().numpy()
        pixels = (places @ viewmat[:3, :3].T + viewmat[:3, 3]) @ K.T
        np.testing.assert_allclose(
            pixels[:, :2] / pixels[:, 2:], straight.projected(2, number), atol=2e-3
        )


def test_images_are_linked_unless_a_lens_bends_them(shelf: Path, data: Dataset) -> None:
    images = data.splits["training"].images
    assert len(images) == CAMERAS * (FRAMES - 2)
    for (_, camera), path in images.items():
        is_bent = camera in (1, 3)
        assert path.is_symlink() != is_bent
        assert mask_path(path).is_symlink() != is_bent
    link = images[0, 0].readlink()
    assert not link.is_absolute()
    assert images[0, 0].resolve() == (shelf / "source" / "cam00" / "00000000.jpg").resolve()


def test_linked_images_show_the_person_alone(clip: MadeClip, data: Dataset) -> None:
    rgb, alpha = read_masked(data.splits["training"].images[1, 0])
    np.testing.assert_array_equal(alpha >= 128, clip.masks[1][0] == 255)
    assert (rgb[alpha == 0] == 0).all()
    inside = clip.masks[1][0] == 255
    apart = np.abs(rgb[inside].astype(int) - clip.images[1][0][inside].astype(int))
    assert apart.mean() < 8


def test_straightened_masks_fit_the_straight_renders(straight: MadeClip, data: Dataset) -> None:
    for camera in (1, 3):
        _, alpha = read_masked(data.splits["training"].images[1, camera])
        mask = straight.masks[1][camera] == 255
        assert ((alpha >= 128) & mask).sum() > 0.95 * ((alpha >= 128) | mask).sum()


def test_the_floor_is_at_zero_and_up_is_z(data: Dataset, result: ImportResult) -> None:
    assert result.turn.up == "y-down"
    dofs = data.splits["training"].motion.dofs
    places = joint_transforms(data.character.skeleton, dofs).numpy()[..., :3, 3]
    heights = (places @ np.array(R_WORLD_BODY).T)[..., 2]
    assert -0.05 < heights.min() < 0.15
    assert 1.2 < heights.max() < 2.2


def test_motions_have_the_captures_rate(data: Dataset, clip: MadeClip) -> None:
    assert [split.motion.fps for split in data.splits.values()] == [clip.fps, clip.fps]


def test_a_captures_own_poses_come_back_as_they_were_imported(shelf: Path, data: Dataset) -> None:
    """The file's world is a camera's, y down: its floor lies 0.9 m beside zero."""
    file, skeleton = shelf / "source" / "smpl_params.npz", data.character.skeleton
    want = torch.cat([data.splits[split].motion.dofs for split in ("training", "testing")])
    found = read_foreign_motion(file, skeleton, avatar=data.character)
    torch.testing.assert_close(found.motion.dofs, want, atol=1e-4, rtol=0.0)
    assert "so that its feet stand on the floor" in found.place
    exact = read_foreign_motion(file, skeleton, place=str(shelf / "data"))
    torch.testing.assert_close(exact.motion.dofs, want, atol=1e-6, rtol=0.0)
    assert exact.up.axis == "y-down"


@pytest.mark.usefixtures("no_character")
def test_a_flag_and_the_step_of_frames_set_the_rate(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = source.parent / "data"
    assert main(command(source, out, "--frames", "::2", "--cameras", "0", "--fps", "60")) == 0
    assert "at 30 frames a second" in " ".join(capsys.readouterr().out.split())
    assert json.loads((out / CAPTURE).read_text())["fps"] == 30.0
    assert "--fps" in refused(source, capsys, "--fps", "0")


def test_the_template_covers_the_person(data: Dataset, clip: MadeClip) -> None:
    """The made body is a bundle of tubes, narrower than the actor."""
    inspection = inspect_dataset(data, 2, 1, lambda *_: None)
    assert all(look.fps == clip.fps for look in inspection.cameras)
    assert all(look.middle("iou") > 0.45 for look in inspection.cameras)
    assert not [f for f in inspection.findings if "found by looking" in f.text]
    assert not [finding for finding in inspection.findings if finding.severity == "error"]


def test_provenance_names_source_frames_and_evidence(shelf: Path, result: ImportResult) -> None:
    content = json.loads((shelf / "data" / CAPTURE).read_text())
    assert content["layout"] == "avatarrex"
    assert content["folder"] == str(shelf / "source")
    assert content["cameras"] == ["cam00", "cam01", "cam 2", "cam03"]
    assert content["frames"] == {"training": [0, 1, 2, 3], "testing": [4, 5]}
    assert content["images"] == {"linked": 12, "written": 12}
    assert content["reading"]["extrinsics"] == "world-to-camera"
    assert content["share_of_joints_in_masks"] > 0.95
    assert len(content["evidence"]) > 5


@pytest.mark.usefixtures("no_character")
def test_an_import_replaces_its_own_data_set_alone(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = source.parent / "data"
    (out / "mine").mkdir(parents=True)
    assert "expected a new folder or a data set of import capture" in refused(source, capsys)
    (out / CAPTURE).write_text('{"format": "ash-studio capture"}')
    assert "move away mine" in refused(source, capsys)
    (out / "mine").rename(out / "training")
    assert main(command(source, out, "--frames", "0:3", "--cameras", "0,2")) == 0
    assert len(images_in(out)) == 6


@pytest.mark.usefixtures("no_character")
def test_other_sizes_are_made_anew(source: Path) -> None:
    out = source.parent / "data"
    words = ("--frames", "1", "--test", "0", "--size", "48x64", "--cameras", "cam00")
    assert main(command(source, out, *words)) == 0
    (image,) = images_in(out)
    assert read_masked(image)[1].shape == (64, 48)
    assert not image.is_symlink()
    (camera,) = read_dataset_cameras(out)
    assert (camera.width, camera.height) == (48, 64)
    (source_camera,) = read_capture(source, "avatarrex", Choice(cameras="cam00")).cameras
    np.testing.assert_allclose(camera.K[:2].numpy(), source_camera.K[:2] / 2, rtol=1e-6)


@pytest.mark.usefixtures("no_character")
def test_file_systems_without_links_get_copies(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    out = source.parent / "data"
    words = ("--frames", "0:2", "--cameras", "0", "--test", "0")
    assert main(command(source, out, *words)) == 0
    image = image_path(out, "training", 0, 0, "jpg")
    assert image.stat().st_ino == (source / "cam00" / "00000000.jpg").stat().st_ino
    monkeypatch.setattr("os.link", refuse)
    assert main(command(source, out, *words)) == 0
    assert image.stat().st_ino != (source / "cam00" / "00000000.jpg").stat().st_ino
    assert json.loads((out / CAPTURE).read_text())["images"] == {"copied": 2}


@pytest.mark.usefixtures("no_character")
def test_a_stop_leaves_nothing(shelf: Path, tmp_path: Path, source: Path) -> None:
    assert run_import(source.parent, source.parent / "data", stop_after=8) is None
    assert sorted(path.name for path in source.parent.iterdir()) == [
        "SMPLX_NEUTRAL.npz",
        "source",
    ]


@pytest.mark.usefixtures("no_character")
def test_an_interrupt_of_the_command_is_code_130(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "ash_core.captures.import_capture.write_images",
        lambda *_: type("Stopped", (), {"stopped": True})(),
    )
    assert main(command(source, source.parent / "data")) == INTERRUPTED
    assert "nothing was written" in capsys.readouterr().err
    assert not list(source.parent.glob("data*"))


@pytest.mark.slow
def test_a_scan_in_the_pose_of_a_frame_becomes_the_template(
    clip: MadeClip, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = read_body_model(source.parent / "SMPLX_NEUTRAL.npz")
    moves = bone_moves(joint_frames(clip.poses, clip.rest_joints), clip.rest_joints)
    scan = place_points(model.template, model.weights, moves[4])
    mesh = ObjMesh(torch.from_numpy(scan), torch.from_numpy(model.faces))
    write_obj(source.parent / "scan.obj", mesh)
    out = source.parent / "data"
    words = ("--template", str(source.parent / "scan.obj"), "--cameras", "0,2")
    assert main(command(source, out, *words)) == 0
    assert "a scan in the pose of frame 4" in " ".join(capsys.readouterr().err.split())
    vertices = open_dataset(out).character.template.vertices.numpy()
    apart = np.linalg.norm(vertices - model.template, axis=1)
    assert np.median(apart) < 2e-3
    assert json.loads((out / CAPTURE).read_text())["template"].endswith("scan.obj")


# ---- frames and layouts ----


def test_the_last_tenth_is_for_testing() -> None:
    frames = tuple(range(100, 140))
    assert split_frames(frames, "0.1")["testing"] == (136, 137, 138, 139)
    assert split_frames(frames, "3")["testing"] == (137, 138, 139)
    assert split_frames(frames, "::20")["testing"] == (100, 120)
    assert set(split_frames(frames, "0")) == {"training"}
    assert set(split_frames((7,), "0.5")) == {"training"}
    for text in ("40", "-1", "1.5", "x", ":"):
        with pytest.raises(InputError, match="--test"):
            split_frames(frames, text)


def test_one_layout_fits_or_all_that_do_are_listed(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert detect_layout(shelf / "source") == "avatarrex"
    with pytest.raises(InputError, match="recognised none"):
        detect_layout(tmp_path)
    with pytest.raises(InputError, match="nothing there"):
        detect_layout(tmp_path / "gone")
    monkeypatch.setattr(read_module, "_function", lambda layout, _: lambda _: layout < "d")
    with pytest.raises(InputError, match="avatarrex or actorshq or colmap: --layout decides"):
        detect_layout(tmp_path)


# ---- faults: one line, nothing half written ----


def test_masks_without_evidence_are_refused(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in source.glob("*/mask/pha/*.jpg"):
        Image.new("L", Image.open(path).size, 255).save(path)
    error = refused(source, capsys)
    assert "fit equally well" in error
    assert "%" in error
    assert "--" in error


@pytest.mark.usefixtures("no_character")
def test_faults_of_images_leave_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = source / "cam00" / "00000003.jpg"
    pixels = Image.open(image)
    pixels.load()
    pixels.resize((90, 128)).save(image)
    error = refused(source, capsys)
    assert str(image) in error
    assert "90 x 128" in error


@pytest.mark.usefixtures("no_character")
def test_faults_of_bodies_and_flags_leave_nothing(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected annots.npy of the layout zju" in refused(source, capsys, "--layout", "zju")
    assert "--test" in refused(source, capsys, "--test", "9")
    assert "--size" in refused(source, capsys, "--size", "big")
    assert "--scale" in refused(source, capsys, "--scale", "0")
    write_body_model(source.parent / "SMPLX_NEUTRAL.npz", "smpl", vertices=800)
    assert "kind smplx" in refused(source, capsys)
    (source.parent / "SMPLX_NEUTRAL.npz").unlink()
    assert "--body" in refused(source, capsys)


def test_files_of_the_surface_and_a_target_inside_are_refused_before_the_work(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the capture was read")

    monkeypatch.setattr(import_module, "read_with_body", read)
    home = source.parent
    for name in ("r.png", "x.npz", "broken.obj"):
        (home / name).write_bytes(b"\x89PNG\0\0")
    png, npz, broken = (str(home / name) for name in ("r.png", "x.npz", "broken.obj"))
    expected = "--template: {}: expected fit or an .obj file, got .png"
    assert expected.format(png) in refused(source, capsys, "--template", png)
    expected = "--uv: {}: expected an .obj file, got .npz"
    assert expected.format(npz) in refused(source, capsys, "--uv", npz)
    assert "found nothing there" in refused(source, capsys, "--uv", str(home / "gone.obj"))
    for flag in ("--template", "--uv"):
        assert broken in refused(source, capsys, flag, broken)
    for out in (source / "data", source, home / "link" / "data"):
        (home / "link").unlink(missing_ok=True)
        (home / "link").symlink_to(source)
        assert f"{out}: expected " in refused(source, capsys, out=out)
    assert not (source / "data").exists()


def test_a_fit_names_the_hand_without_fingers(
    shelf: Path, clip: MadeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Made:
        notes: tuple[str, ...] = ()

    facts = {"images": 8, "cameras": 4, "frames": 2, "refined_gap_mm": 3.0}
    fit = FittedTemplate(np.zeros((3, 3)), np.zeros((1, 3), int), np.ones((3, 55)), facts)
    with_hands = {"lost": (False, True), "both": (True, True)}
    monkeypatch.setattr(template_module, "clothed_character", lambda *_, **__: Made())
    capture, body = read_with_body(
        shelf / "source", "avatarrex", Choice(), shelf / "SMPLX_NEUTRAL.npz", lambda _: None
    )
    notes = {}
    for name, hands in with_hands.items():
        one = replace(fit, joined_hands=hands)
        monkeypatch.setattr(fit_module, "fit_clothed_template", lambda *_, one=one: one)
        surface = read_surface(Path("fit"), None)
        made = make_character(surface, capture, capture.cameras, body, np.eye(3), lambda *_: None)
        notes[name] = made.notes[1:]
    assert notes["lost"] == ("left hand without fingers: its wrist was not found",)
    assert notes["both"] == ()


@pytest.mark.usefixtures("no_character")
def test_a_body_is_taken_of_a_folder_by_kind_and_gender(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = source.parent / "bodies"
    bodies.mkdir()
    error = refused(source, capsys, "--body", str(bodies))
    assert "SMPLX_NEUTRAL.npz" in error
    shutil.move(source.parent / "SMPLX_NEUTRAL.npz", bodies / "SMPLX_NEUTRAL.npz")
    out = source.parent / "data"
    words = ("--frames", "0", "--cameras", "0", "--test", "0", "--body", str(bodies))
    assert main(command(source, out, *words)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("--layout", "dynacap"), ("--body", "gone.npz"), ("--what", "1")]
)
def test_mistakes_of_the_command_line_are_one_line(shelf: Path, words: tuple[str, str]) -> None:
    arguments = command(shelf / "source", shelf / "other", *words)
    done = subprocess.run(
        [sys.executable, "-m", "ash_core.cli", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert words[0] in done.stderr
    assert not (shelf / "other").exists()


# ---- scenes with a mask beside them ----


def write_scene(
    folder: Path, mask_kind: str = "JPEG", size: tuple[int, int] = (40, 60)
) -> tuple[Path, np.ndarray]:
    """Write a bright scene and the mask of a disc; returns the image's path and the exact mask."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: size[0], : size[1]]
    inside = (x - 30) ** 2 + (y - 18) ** 2 < 100
    image = folder / "image_c_000_f_000000.jpg"
    Image.fromarray(np.full((*size, 3), 200, np.uint8)).save(image, "JPEG", quality=90)
    mask = Image.fromarray(inside.astype(np.uint8) * 255)
    if mask_kind == "RGB":
        mask = mask.convert("RGB")
    mask.save(mask_path(image), "PNG" if mask_kind == "RGB" else mask_kind)
    return image, inside


@pytest.mark.parametrize("mask_kind", ["JPEG", "PNG", "RGB"])
def test_scenes_are_black_where_the_mask_is_empty(tmp_path: Path, mask_kind: str) -> None:
    image, inside = write_scene(tmp_path, mask_kind)
    rgb, alpha = read_masked(image)
    np.testing.assert_array_equal(alpha >= 128, inside)
    assert not rgb[alpha == 0].any()
    assert (np.abs(rgb[inside].astype(int) - 200) < 4).all()
    # Noise of JPEG stays near the rim.
    rows, columns = np.nonzero((alpha > 0) & ~inside)
    assert ((columns - 30) ** 2 + (rows - 18) ** 2 < 144).all()


def test_crops_of_a_scene_are_the_mask_with_some_room(tmp_path: Path) -> None:
    image, inside = write_scene(tmp_path, "PNG")
    crop, mask = read_masked_crop(image), read_mask_crop(image)
    np.testing.assert_array_equal(crop.alpha, mask.alpha)
    assert (crop.left, crop.top, crop.width, crop.height) == (13, 1, 60, 40)
    assert crop.alpha.shape == (35, 35)
    assert crop.alpha.sum() == 255 * inside.sum()


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path)
    Image.new("L", (30, 20)).save(mask_path(image), "PNG")
    with pytest.raises(InputError, match="expected a mask of the image's size"):
        read_masked(image)


@pytest.mark.usefixtures("no_character")
def test_layouts_without_lenses_are_linked_whole(
    tmp_path: Path, straight: MadeClip, shelf: Path
) -> None:
    write_thuman4(tmp_path / "source", straight)
    shutil.copy(shelf / "SMPLX_NEUTRAL.npz", tmp_path)
    out = tmp_path / "far" / "data"
    assert main(command(tmp_path / "source", out, "--frames", "0:2", "--test", "1")) == 0
    paths = images_in(out)
    assert len(paths) == CAMERAS
    assert all(path.is_symlink() and path.readlink().is_absolute() for path in paths)

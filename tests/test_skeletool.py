"""Skeletool files: the published numbers, round trips, and what is said of damaged ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy import (
    ToyFiles,
    copy_toy,
    make_toy_character,
    toy_dofs,
    toy_mesh,
    toy_skeleton,
    toy_skinning,
)

from ash_core.errors import InputError
from ash_core.files.skeletool import (
    CharacterFiles,
    read_character,
    read_motion,
    read_skeleton,
    read_skin,
    write_character,
    write_motion,
    write_skeleton,
    write_skin,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> ToyFiles:
    return make_toy_character(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy(original: ToyFiles, tmp_path: Path) -> ToyFiles:
    return copy_toy(original, tmp_path / "toy")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def edit_line(path: Path, number: int, text: str | None) -> None:
    """Replace one line (counted from 1), or take it out."""
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")


# ---- the published numbers ----


def test_published_skeleton(reference: Path) -> None:
    want = np.load(reference / "golden" / "01_skeleton.npz")
    got = read_skeleton(reference / "ddc_sample" / "ddc.skeleton")
    assert got.joint_names == tuple(want["joint_names"])
    assert got.dof_names == tuple(want["dof_names"])
    np.testing.assert_array_equal(got.parents, want["parents"])
    np.testing.assert_array_equal(got.is_prismatic, want["joint_types"] == "prismatic")
    np.testing.assert_allclose(got.axes, want["joint_axis"], atol=1e-7)
    np.testing.assert_allclose(got.offsets * 1000, want["joint_local_offset_mm"], atol=2e-5)
    limits = torch.from_numpy(want["dof_limits"]).float()
    limits[limits.abs() == 1e9] *= torch.inf
    torch.testing.assert_close(got.dof_limits, limits, atol=1e-6, rtol=0)
    matrix = np.zeros((len(got.joint_names), len(got.dof_names)), np.float32)
    matrix[tuple(want["joint_dof_nz"].T)] = want["joint_dof_w"]
    matrix[got.is_prismatic.numpy()] /= 1000  # millimetres there, metres here
    np.testing.assert_allclose(got.dof_matrix, matrix, atol=1e-6)


def test_published_skinning(reference: Path) -> None:
    want = np.load(reference / "golden" / "03_skinning.npz")
    skeleton = read_skeleton(reference / "ddc_sample" / "ddc.skeleton")
    got = read_skin(reference / "ddc_sample" / "ddc.skin", skeleton, 5514)
    np.testing.assert_array_equal(got.bone_joints, want["skin_joint_ids"])
    names = [skeleton.joint_names[joint] for joint in got.bone_joints]
    assert names == list(want["skin_joint_names"])
    np.testing.assert_array_equal(got.bones.flatten(), want["w_joint"])
    np.testing.assert_array_equal(got.weights.flatten(), want["w_value"])


def test_published_motion(reference: Path) -> None:
    skeleton = read_skeleton(reference / "ddc_sample" / "ddc.skeleton")
    got = read_motion(
        reference / "ddc_sample" / "skeletoolToGTPose" / "poseAngles.motion", skeleton
    )
    want = np.load(reference / "golden" / "01_skeleton.npz")
    np.testing.assert_array_equal(got.dofs[want["frames"]], want["dofs"])
    want = np.load(reference / "golden" / "01b_normalised_dofs.npz")
    assert got.normalised is not None
    np.testing.assert_array_equal(got.normalised[want["frames"]], want["dofn"])


# ---- round trips ----


def assert_same(a: object, b: object) -> None:
    for name, value in vars(a).items():
        other = getattr(b, name)
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(other, value, atol=1e-6, rtol=0)
        else:
            assert other == value


def test_skeleton_round_trip(tmp_path: Path) -> None:
    write_skeleton(tmp_path / "a.skeleton", toy_skeleton())
    assert_same(toy_skeleton(), read_skeleton(tmp_path / "a.skeleton"))


def test_skin_round_trip(tmp_path: Path) -> None:
    skinning = toy_skinning(toy_mesh().vertices, toy_skeleton())
    write_skin(tmp_path / "a.skin", skinning)
    assert_same(skinning, read_skin(tmp_path / "a.skin", toy_skeleton(), 58))
    assert_same(skinning, read_skin(tmp_path / "a.skin", toy_skeleton()))


def test_motion_round_trip(tmp_path: Path) -> None:
    write_motion(tmp_path / "walk.motion", toy_dofs())
    motion = read_motion(tmp_path / "walk.motion", toy_skeleton())
    torch.testing.assert_close(motion.dofs, toy_dofs(), atol=1e-8, rtol=0)
    assert (motion.name, motion.fps, motion.normalised) == ("walk", 25.0, None)
    assert motion.dofs.dtype == torch.float64


def test_character_round_trip(toy: ToyFiles) -> None:
    assert read_character(toy.entry) == toy.character
    outside = CharacterFiles(**{**vars(toy.character), "skin": toy.folder.parent / "x.skin"})
    with pytest.raises(InputError, match=r"expected the skin file in its folder"):
        write_character(toy.entry, outside)


def test_normalised_rows_come_with_pose_angles(tmp_path: Path) -> None:
    rows = torch.randn(15, 10, dtype=torch.float64)
    write_motion(tmp_path / "poseAngles.motion", rows[:5])
    write_motion(tmp_path / "poseAnglesRotationNormalized.motion", rows)
    motion = read_motion(tmp_path / "poseAngles.motion", toy_skeleton())
    assert motion.normalised is not None
    torch.testing.assert_close(motion.normalised[2], rows[6:9], atol=1e-8, rtol=1e-8)
    write_motion(tmp_path / "poseAnglesRotationNormalized.motion", rows[:14])
    with pytest.raises(InputError, match=r"Normalized.motion: expected 15 rows .*, got 14"):
        read_motion(tmp_path / "poseAngles.motion", toy_skeleton())


def test_a_dof_that_lists_a_joint_twice_adds_up(toy: ToyFiles) -> None:
    edit(toy.character.skeleton, "nod                      2", "nod                      3")
    edit(toy.character.skeleton, "  nod ", "  nod ")
    toy.character.skeleton.write_text(toy.character.skeleton.read_text() + "  Head_rx 0.25\n")
    got = read_skeleton(toy.character.skeleton)
    torch.testing.assert_close(got.dof_matrix[8, 9], torch.tensor(0.95))


def test_a_bone_is_the_last_joint_of_its_name_and_never_the_first(tmp_path: Path) -> None:
    skinning = toy_skinning(toy_mesh().vertices, toy_skeleton())
    assert skinning.bone_joints.tolist() == [5, 7, 8]
    first_only = toy_skeleton()
    names = ("Pelvis_tx", *first_only.joint_names[1:])
    first_only = type(first_only)(**{**vars(first_only), "joint_names": names})
    write_skin(tmp_path / "a.skin", skinning)
    edit(tmp_path / "a.skin", "Root", "Pelvis")
    with pytest.raises(InputError, match=r"a.skin:3: expected bones .* got 'Pelvis'"):
        read_skin(tmp_path / "a.skin", first_only)


# ---- bad input ----

SKELETON_FAULTS = {
    "header": (1, "Hello", r":1: expected the header 'Skeletool Skeleton"),
    "version": (1, "Skeletool Skeleton Definition V2.0", r":1: expected version 1.0 of .* V2.0'"),
    "grouped digits": (4, "  a revolute Root_tx 0 52_34 0 1 0 0 1", r":4: .* got '52_34'"),
    "one too few": (2, "joints: 8", r":11: expected a section after the 8 joints, got"),
    "count lies": (2, "joints: 999999999", r":2: expected the number of joints, 0 to 4096"),
    "one too many": (2, "joints: 10", r":12: expected joint 10 of 10 as 'name type parent'"),
    "reordered": (4, None, r":4: expected a parent listed above 'Root_tz', got 'Root_ty'"),
    "type": (4, "  a ball Root_tx 0 0 0 1 0 0 1", r":4: expected a joint type"),
    "twice": (4, "  Root_tx revolute Root_tx 0 0 0 1 0 0 1", r":4: .* 'Root_tx' again"),
    "NaN": (4, "  a revolute Root_tx 0 nan 0 1 0 0 1", r":4: expected a finite number .* 'nan'"),
    "infinite": (4, "  a revolute Root_tx 0 1e999 0 1 0 0 1", r":4: expected a finite number"),
    "word": (
        4,
        "  a revolute Root_tx 0 x 0 1 0 0 1",
        r":4: expected a number for a joint, got 'x'",
    ),
    "axis": (4, "  a revolute Root_tx 0 0 0 0 0 0 1", r":4: expected an axis with a direction"),
    "short": (4, "  a revolute Root_tx 0 0 0", r":4: expected joint 2 of 9 as .* got 6 words"),
    "dofs lie": (14, "dofs: 9", r":42: expected a section after the 9 dofs, got 'nod"),
    "limits": (16, "  limits 1 -1", r":16: expected limits low <= high"),
    "no limits": (16, "  limitless", r":16: expected 'limits low high' or 'nolimits'"),
    "unknown joint": (17, "  Tail 1", r":17: expected a joint of this skeleton, got 'Tail'"),
}


@pytest.mark.parametrize("fault", SKELETON_FAULTS)
def test_bad_skeletons_are_named(toy: ToyFiles, fault: str) -> None:
    line, text, message = SKELETON_FAULTS[fault]
    edit_line(toy.character.skeleton, line, text)
    with pytest.raises(InputError, match=r"toy.skeleton" + message):
        read_skeleton(toy.character.skeleton)


def test_a_truncated_skeleton_is_named(toy: ToyFiles) -> None:
    lines = toy.character.skeleton.read_text().splitlines()
    for kept in range(len(lines)):
        toy.character.skeleton.write_text("\n".join(lines[:kept]))
        with pytest.raises(InputError, match=r"toy.skeleton:\d+: expected"):
            read_skeleton(toy.character.skeleton)


SKIN_FAULTS = {
    "header": (1, "Hello", r":1: expected the header"),
    "version": (1, "Skeletool character skinning file V3", r":1: expected version 1.0"),
    "bone twice": (3, "Root Head Root", r":3: expected each bone once, got 'Root' twice"),
    "bone twice in a row": (6, "1 0 0.5 0 0.5", r":6: expected each bone of vertex 1 once"),
    "grouped digits": (6, "1 0 0_1", r":6: expected 'vertex bone weight"),
    "unknown joint": (3, "Root Tail Head", r":3: expected bones that are joints .*, got 'Tail'"),
    "weights": (6, "1 0 0.5 1 0.4", r":6: expected weights of vertex 1 that sum to 1, got 0.9"),
    "NaN": (6, "1 0 nan 1 0.4", r":6: expected finite weights"),
    "no weights": (6, "1", r":6: expected pairs 'bone weight', got 0 numbers"),
    "odd": (6, "1 0 0.5 1", r":6: expected pairs"),
    "word": (6, "1 a 1", r":6: expected 'vertex bone weight"),
    "bone": (6, "1 3 1.0", r":6: expected bones 0 to 2, got '3'"),
    "repeated": (6, "0 0 1.0", r":6: expected a new vertex, got 0 of line 5"),
    "out of range": (6, "58 0 1.0", r":6: expected vertices 0 to 57, got '58'"),
    "huge": (6, "9" * 300 + " 0 1.0", r":6: expected vertices 0 to 57, got '9"),
    "missing": (6, None, r":61: expected 58 vertices, got 57; the first missing one is 1"),
}


@pytest.mark.parametrize("fps", [30.0, 29.97, 12.5, 120.0])
def test_a_motion_keeps_its_rate(tmp_path: Path, fps: float) -> None:
    write_motion(tmp_path / "walk.motion", toy_dofs(), fps)
    motion = read_motion(tmp_path / "walk.motion", toy_skeleton())
    assert motion.fps == fps
    torch.testing.assert_close(motion.dofs, toy_dofs(), atol=1e-8, rtol=0)
    # Earlier versions check the kind at the start and the version at the end.
    header = (tmp_path / "walk.motion").read_text().splitlines()[0]
    assert header.startswith("Skeletool Motion File ")
    assert header.endswith(" V1.0")


def test_motions_at_25_have_the_published_header(tmp_path: Path) -> None:
    write_motion(tmp_path / "walk.motion", toy_dofs(), 1.0 / 0.04)
    assert (tmp_path / "walk.motion").read_text().splitlines()[0] == "Skeletool Motion File V1.0"


@pytest.mark.parametrize("fault", SKIN_FAULTS)
def test_bad_skins_are_named(toy: ToyFiles, fault: str) -> None:
    line, text, message = SKIN_FAULTS[fault]
    edit_line(toy.character.skin, line, text)
    with pytest.raises(InputError, match=r"toy.skin" + message):
        read_skin(toy.character.skin, toy_skeleton(), 58)


def row(n_dofs: int, last: str = "0") -> str:
    return "7 " + "0 " * (n_dofs - 1) + last


MOTION_FAULTS = {
    "header": (1, row(10), r":1: expected the header"),
    "version": (1, "Skeletool Motion File V1.1", r":1: expected version 1.0 .* V1.1'"),
    "no rate": (1, "Skeletool Motion File x fps V1.0", r":1: expected 0.1 to 10000 .* got 'x'"),
    "rate of zero": (1, "Skeletool Motion File 0 fps V1.0", r":1: expected 0.1 to .* got '0'"),
    "grouped digits": (4, row(10, "52_34"), r":4: expected numbers: .*could not convert"),
    "too few": (3, row(9), r":3: expected 10 dofs .* got 9"),
    "too many": (3, row(11), r":3: expected 10 dofs .* got 11"),
    "first row": (2, row(11), r":2: expected 10 dofs .* got 11"),
    "NaN": (4, row(10, "nan"), r":4: expected finite numbers, got 'nan' in dof 9"),
    "infinite": (4, row(10, "-inf"), r":4: expected finite numbers, got '-inf' in dof 9"),
    "overflow": (4, row(10, "1e300"), r":4: expected finite numbers, got '1e300' in dof 9"),
    "word": (4, row(10, "x"), r":4: expected numbers"),
}


@pytest.mark.parametrize("fault", MOTION_FAULTS)
def test_bad_motions_are_named(toy: ToyFiles, fault: str) -> None:
    line, text, message = MOTION_FAULTS[fault]
    edit_line(toy.motion, line, text)
    with pytest.raises(InputError, match=r"toy.motion" + message):
        read_motion(toy.motion, toy_skeleton())


def test_motions_without_frames_are_named(toy: ToyFiles) -> None:
    toy.motion.write_text("Skeletool Motion File V1.0\n\n")
    with pytest.raises(InputError, match=r"toy.motion:1: expected at least one frame"):
        read_motion(toy.motion, toy_skeleton())
    toy.motion.write_text("")
    with pytest.raises(InputError, match=r"toy.motion:1: expected the header .*, got ''"):
        read_motion(toy.motion, toy_skeleton())


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.skeleton: expected a file, found nothing there"):
        read_skeleton(tmp_path / "a.skeleton")
    with pytest.raises(InputError, match=r"expected a file, found a folder"):
        read_skeleton(tmp_path)


CHARACTER_FAULTS = {
    "header": (1, "Hello", r":1: expected the header"),
    "version": (1, "skeletool character file v2", r":1: expected version 1.0"),
    "missing": (2, "", r":9: expected files for .*; missing: skeleton"),
    "no value": (3, "", r":4: expected the name of the skeleton file, got the key 'mesh'"),
    "cut": (9, "", r":8: expected the pose file after this line, found the end"),
}


@pytest.mark.parametrize("fault", CHARACTER_FAULTS)
def test_bad_characters_are_named(toy: ToyFiles, fault: str) -> None:
    line, text, message = CHARACTER_FAULTS[fault]
    edit_line(toy.entry, line, text)
    with pytest.raises(InputError, match=r"toy.character" + message):
        read_character(toy.entry)

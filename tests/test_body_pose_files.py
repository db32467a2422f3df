"""Files of body poses: every dialect gives the same poses, and each fault one line."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from made_body_poses import random_poses, rest_of_sticks, write_aist, write_easymocap

from ash_core.errors import InputError
from ash_core.files.body_pose_files import (
    AIST_FPS,
    choose_frames,
    read_body_poses,
    write_body_poses,
)
from ash_core.files.body_poses import BodyKind, BodyPoses
from ash_core.importers.body.posing import to_pelvis_rule

KINDS = get_args(BodyKind)


def same(got: BodyPoses, want: BodyPoses) -> None:
    assert got.kind == want.kind
    assert got.frames == want.frames
    np.testing.assert_allclose(got.rotations, want.rotations, atol=1e-12)
    np.testing.assert_allclose(got.translations, want.translations, atol=1e-12)
    np.testing.assert_allclose(got.betas, want.betas, atol=1e-12)


def separate(poses: BodyPoses) -> dict[str, Any]:
    """Arrays of AvatarReX, without eyes."""
    flat = poses.rotations.reshape(len(poses.rotations), -1)
    return {
        "betas": poses.betas[None],
        "global_orient": flat[:, :3],
        "transl": poses.translations,
        "body_pose": flat[:, 3:66],
        "jaw_pose": flat[:, 66:69],
        "expression": poses.expressions,
        "left_hand_pose": flat[:, 75:120],
        "right_hand_pose": flat[:, 120:],
    }


@pytest.fixture
def smplx() -> BodyPoses:
    poses = random_poses("smplx")
    poses.rotations[:, 23:25] = 0.0
    return poses


# ---- dialects ----


@pytest.mark.parametrize("layout", ["amass", "smplx"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(tmp_path: Path, kind: BodyKind, layout: Any) -> None:
    poses = random_poses(kind)
    write_body_poses(tmp_path / "a.npz", poses, layout)
    got = read_body_poses(tmp_path / "a.npz")
    same(got, poses)
    assert got.fps == poses.fps
    assert got.root_rule == "pelvis"


def test_avatarrex_has_no_eyes_and_no_rate(tmp_path: Path, smplx: BodyPoses) -> None:
    np.savez(tmp_path / "smpl_params.npz", **separate(smplx))
    got = read_body_poses(tmp_path / "smpl_params.npz")
    same(got, smplx)
    assert got.fps is None
    assert got.expressions is not None
    assert smplx.expressions is not None
    np.testing.assert_array_equal(got.expressions, smplx.expressions)


def test_newer_amass_files_need_no_whole_poses(tmp_path: Path) -> None:
    poses = random_poses("smplx")
    write_body_poses(tmp_path / "a.npz", poses, "amass")
    arrays = dict(np.load(tmp_path / "a.npz"))
    del arrays["poses"]
    np.savez(tmp_path / "a.npz", **arrays)
    same(read_body_poses(tmp_path / "a.npz"), poses)


def test_aist_translations_are_divided_by_the_bodys_scale(tmp_path: Path) -> None:
    poses = replace(random_poses("smpl"), betas=np.zeros(0))
    got = read_body_poses(write_aist(tmp_path / "a.pkl", poses))
    same(got, poses)
    assert got.fps == AIST_FPS
    assert got.scale == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_easymocap_turns_about_the_origin(tmp_path: Path, kind: BodyKind) -> None:
    poses = replace(random_poses(kind), frames=(3, 4, 7, 12))
    rest = rest_of_sticks(kind) + 0.3
    fingers = 22 if kind == "smplh" else 25
    if kind != "smpl":
        poses.rotations[:, fingers:] = 0.0
    got = read_body_poses(write_easymocap(tmp_path / "clip", poses, rest))
    assert got.root_rule == "origin"
    same(to_pelvis_rule(got, rest), poses)
    assert (got.hand_pca is None) == (kind == "smpl")


def test_of_several_persons_the_one_in_most_frames_is_taken(tmp_path: Path) -> None:
    poses = random_poses("smpl")
    folder = write_easymocap(tmp_path / "clip", poses, rest_of_sticks("smpl"))
    for file in sorted((folder / "smpl").glob("*.json"))[:2]:
        person = json.loads(file.read_text())[0]
        other = {**person, "id": 8, "Th": [[9.0, 9.0, 9.0]]}
        file.write_text(json.dumps({"annots": [other, person]}))
    got = read_body_poses(folder)
    np.testing.assert_allclose(got.rotations, poses.rotations, atol=1e-12)
    assert np.abs(got.translations).max() < 9.0
    assert "2 persons" in got.notes[0]


def test_hands_of_few_numbers_are_coefficients(tmp_path: Path, smplx: BodyPoses) -> None:
    arrays = separate(smplx)
    arrays["left_hand_pose"] = arrays["left_hand_pose"][:, :6]
    arrays["right_hand_pose"] = arrays["right_hand_pose"][:, :6]
    np.savez(tmp_path / "a.npz", **arrays)
    got = read_body_poses(tmp_path / "a.npz")
    assert got.hand_pca is not None
    np.testing.assert_array_equal(got.hand_pca[:, 1], arrays["right_hand_pose"])
    assert not got.rotations[:, 25:].any()


def test_betas_that_change_give_their_mean_and_a_note(tmp_path: Path, smplx: BodyPoses) -> None:
    betas = smplx.betas + np.linspace(-1.0, 1.0, 4)[:, None]
    np.savez(tmp_path / "a.npz", **{**separate(smplx), "betas": betas})
    got = read_body_poses(tmp_path / "a.npz")
    np.testing.assert_allclose(got.betas, smplx.betas)
    assert "betas differ by up to 2" in got.notes[0]


def test_frames_are_chosen_by_their_numbers(smplx: BodyPoses) -> None:
    poses = replace(smplx, frames=(2, 4, 6, 8))
    got = choose_frames(poses, [6, 2], "a.npz")
    assert got.frames == (6, 2)
    np.testing.assert_array_equal(got.rotations, smplx.rotations[[2, 0]])
    with pytest.raises(InputError, match="expected a pose of frame 5 and 1 more, got 4 poses"):
        choose_frames(poses, [2, 5, 7], "a.npz")


# ---- faults ----


def faulty(arrays: dict[str, Any], fault: str) -> dict[str, Any]:
    """Damage the arrays of AvatarReX."""
    nan = arrays["body_pose"].copy()
    nan[2, 5] = np.nan
    return arrays | {
        "width": {"body_pose": arrays["body_pose"][:, :60]},
        "whole width": {"poses": np.zeros((4, 157))},
        "not finite": {"body_pose": nan},
        "no frame": {"global_orient": np.zeros((0, 3))},
        "fewer frames": {"transl": arrays["transl"][:3]},
        "objects": {"body_pose": np.array([{}], object)},
        "text": {"body_pose": np.array(["a"])},
        "fps": {"fps": np.array(0.0)},
        "one hand": {"left_hand_pose": np.zeros((4, 6))},
        "no body": {"body_pose": None},
    }.get(fault, {})  # fmt: skip


FAULTS = {
    "width": "body_pose: expected 63 (SMPL-X, SMPL-H) or 69 (SMPL) numbers a frame, got 60",
    "whole width": "72 (SMPL), 156 (SMPLH), 165 (SMPLX) numbers, got 157",
    "not finite": "body_pose: expected finite numbers, got others in row 2",
    "no frame": "global_orient: expected 1 to 300000 frames, got [0, 3]",
    "fewer frames": "transl: expected 4 frames as in the poses, got 3",
    "objects": "body_pose': expected an array of numbers, got pickled objects",
    "text": "body_pose: expected numbers, got text",
    "fps": "fps: expected one number, 0.1 to 10000, got",
    "one hand": "expected 45 numbers a frame in both hands, or coefficients, got [6, 45]",
    "no body": "or smpl_poses; got the keys 'global_orient', 'jaw_pose'",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_array_is_named(tmp_path: Path, smplx: BodyPoses, fault: str) -> None:
    arrays = {k: v for k, v in faulty(separate(smplx), fault).items() if v is not None}
    np.savez(tmp_path / "a.npz", allow_pickle=True, **arrays)
    with pytest.raises(InputError) as error:
        read_body_poses(tmp_path / "a.npz")
    assert FAULTS[fault] in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'a.npz'}: ")
    assert "\n" not in str(error.value)


class Runs:
    """Object whose pickle would run a function."""

    def __reduce__(self) -> Any:
        return print, ("ran",)


def test_files_of_other_kinds_are_refused(
    tmp_path: Path, smplx: BodyPoses, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "whole.npz", **separate(smplx))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "run.pkl").write_bytes(pickle.dumps({"smpl_poses": Runs()}))
    (tmp_path / "memo.pkl").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")  # entry 2^31 - 1
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "a.json").write_text('{"annots": [3]}')
    (tmp_path / "empty").mkdir()
    for name, reason in {
        "half.npz": "expected a whole .npz file",
        "none.npz": "nothing there",
        "run.pkl": "it would run builtins.print",
        "memo.pkl": "expected body poses",
        "list.pkl": "expected a dictionary of arrays, got list",
        "a.json": "expected a list of persons",
        "empty": "expected a folder with a .json or .pkl",
        "a.txt": "expected body poses as .npz, .pkl, .json",
    }.items():
        with pytest.raises(InputError) as error:
            read_body_poses(tmp_path / name)
        assert reason in str(error.value)
        assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


def test_frames_of_other_widths_name_their_file(tmp_path: Path) -> None:
    folder = write_easymocap(tmp_path / "clip", random_poses("smpl"), rest_of_sticks("smpl"))
    file = sorted((folder / "smpl").glob("*.json"))[2]
    person = json.loads(file.read_text())[0]
    file.write_text(json.dumps([{**person, "poses": [[0.0] * 69]}]))
    with pytest.raises(InputError, match=r"000002\.json: poses: expected 72 numbers, got 69"):
        read_body_poses(folder)
    del person["Th"]
    file.write_text(json.dumps([person]))
    with pytest.raises(InputError, match=r"000002\.json: expected the keys .* differs in: Th"):
        read_body_poses(folder)

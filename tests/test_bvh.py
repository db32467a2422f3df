"""Motions from .bvh files: reading them, and making our characters move the same way."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ash_core import cli
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar
from ash_core.files.bvh import read_bvh, resample
from ash_core.files.skeletool import read_motion, read_skeleton
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.retarget.joint_mapping import (
    Tree,
    guess_mapping,
    read_mapping,
    write_mapping,
)
from ash_core.importers.retarget.joint_names import body_parts
from ash_core.importers.retarget.retarget import Retargeted, read_bvh_motion
from ash_core.records import Skeleton
from ash_core.resources import resource

DATA = Path(__file__).parent / "data"
STRETCH = DATA / "stretch.bvh"
SMALL = """HIERARCHY
ROOT hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT knee
  {
    OFFSET 0 -1 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -2 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.1
1 2 3 0 0 0 0 0 0
1 2 5 90 0 0 0 90 0
"""


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return read_skeleton(resource("assets", "actor/actor.skeleton"))


@pytest.fixture(scope="module")
def moved() -> Retargeted:
    return read_bvh_motion(STRETCH, load_avatar(resource("assets", "actor.safetensors")).skeleton)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.bvh"
    path.write_text(SMALL)
    return path


# ---- the file ----


def test_first_channel_is_the_outermost_turn(small: Path) -> None:
    turns, places = read_bvh(small).poses()
    np.testing.assert_allclose(places[1, 0], [1, 2, 5], atol=1e-12)
    np.testing.assert_allclose(places[1, 1], [2, 2, 5], atol=1e-12)  # -Y turned by 90 about Z
    tip = places[1, 1] + turns[1, 1] @ [0, -2, 0]
    np.testing.assert_allclose(tip, [2, 2, 3], atol=1e-12)  # then the knee's own X: -Y to -Z


def test_resampling_turns_evenly_and_keeps_the_ends(small: Path) -> None:
    clip = resample(read_bvh(small), 40.0)
    turns, places = clip.poses()
    assert len(turns) == 5
    np.testing.assert_allclose(places[:, 0, 2], [3, 3.5, 4, 4.5, 5])
    angles = np.degrees(np.arctan2(turns[:, 0, 1, 0], turns[:, 0, 0, 0]))
    np.testing.assert_allclose(angles, [0, 22.5, 45, 67.5, 90], atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("HIERARCHY", "HIERACHY", "expected 'HIERARCHY'"),
        ("ROOT hips", "JOINT hips", "ROOT"),
        ("JOINT knee", "JOINT hips", "new joint name"),
        ("JOINT knee", "JOINT", "expected a name"),
        ("OFFSET 0 -1 0", "OFFSET 0 -1", "three numbers"),
        ("OFFSET 0 -1 0", "OFFSET 0 nan 0", "finite number"),
        ("CHANNELS 3 Zrot", "CHANNELS 4 Zrot", "4 different ones"),
        ("CHANNELS 3 Zrot", "CHANNELS 99999999999 Zrot", "number of channels"),
        ("3 Zrotation Xrotation", "3 Xrotation Xrotation", "different ones"),
        ("End Site\n    {", "End Site\n    {\nJOINT a", "inside it"),
        ("Frames: 2", "Frames: 4", "expected 4 frames of 9 numbers, got 2 whole ones"),
        ("Frames: 2", "Frames: 999999999", "number of frames"),
        ("Frames: 2", "Frames: 0", "at least one frame"),
        ("Frame Time: 0.1", "Frame Time: 0", "frame time"),
        ("1 2 3 0", "1 2 nan 0", "finite"),
        ("1 2 3 0", "1 2 1e300 0", "finite"),
        ("1 2 3 0", "1 2 3_0 0", "expected numbers"),
        ("OFFSET 0 -1 0", "OFFSET 0 1_0 0", "got '1_0'"),
        ("1 2 3 0", "1 2 three 0", "expected numbers"),
        ("1 2 3 0 0", "1 2 3 0", "expected 9 numbers"),
        ("MOTION", "MOTOIN", "expected MOTION"),
        ("}\nMOTION", "\nMOTION", "or '}'"),
        (SMALL[200:], "", "end of the file"),
    ],
)
def test_damage_is_named(small: Path, old: str, new: str, says: str) -> None:
    assert old in SMALL
    small.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(InputError, match=r"small\.bvh") as error:
        read_bvh(small)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ROOT hips\n{", "ROOT hips {"),
        ("JOINT knee\n  {", "JOINT knee{"),
        ("    }\n  }\n}\nMOTION", "}}} MOTION"),
        ("OFFSET 0 -1 0\n    CHANNELS", "OFFSET 0 -1 0 CHANNELS"),
        ("OFFSET 0 -1 0", "OFFSET 0\n-1\n0"),
        ("    End Site\n    {\n      OFFSET 0 -2 0\n    }", "END SITE { OFFSET 0 -2 0 }"),
        ("End Site", "End Site knee_end"),
        ("Frames: 2", "frames:2"),
        ("Frames: 2", "Frames : 2"),
        ("Frame Time: 0.1", "FrameTime: 0.1"),
        ("Frames: 2\nFrame Time: 0.1", "Frames: 2 Frame Time:0.1"),
        ("1 2 5 90 0", "1 2 5\n90 0"),
        ("0 0\n1 2 5", "0 0 1 2 5"),
        ("\n", "\r\n"),
        ("\n", "\n\n\t"),
    ],
)
def test_words_may_stand_on_any_line(small: Path, old: str, new: str) -> None:
    want = read_bvh(small)
    assert old in SMALL
    small.write_text(SMALL.replace(old, new))
    got = read_bvh(small)
    assert (got.names, got.parents, got.fps, got.notes) == (want.names, want.parents, 10.0, ())
    np.testing.assert_array_equal(got.rotations, want.rotations)
    np.testing.assert_array_equal(got.translations, want.translations)
    np.testing.assert_array_equal(got.tips[1], want.tips[1])


ROW = "1 2 6 0 0 0 0 0 0\n"


@pytest.mark.parametrize(
    ("text", "frames", "note"),
    [
        (SMALL + ROW, 3, "announces 2 frames and holds 3 whole ones"),
        (SMALL + 5 * ROW, 7, "announces 2 frames and holds 7 whole ones"),
        (SMALL.replace("Frames: 2", "Frames: 3"), 2, "announces 3 frames and holds 2 whole ones"),
        (SMALL + "1 2 6 0 0\n", 2, "its last 5 of 9 numbers are left out"),
        (SMALL.replace("Frames: 2", "Frames: 3") + "1 2\n", 2, "ends within a row"),
    ],
)
def test_rows_are_counted_and_differences_noted(
    small: Path, text: str, frames: int, note: str
) -> None:
    small.write_text(text)
    clip = read_bvh(small)
    assert len(clip.rotations) == frames
    assert note in " ".join(clip.notes)


def test_first_figure_is_taken_and_others_are_named(small: Path) -> None:
    want = read_bvh(small)
    hierarchy, motion = SMALL.split("MOTION\n")
    hierarchy = hierarchy.removeprefix("HIERARCHY\n")
    head, *rows = motion.splitlines()[1:]
    prop = "ROOT prop\n{ OFFSET 0 0 0 CHANNELS 3 Xposition Yposition Zposition\n}\n"
    for figures, lines, others in (
        (hierarchy + prop, [f"{row} 7 8 9" for row in rows], "left out: prop"),
        (prop + hierarchy, [f"7 8 9 {row}" for row in rows], "left out: prop"),
        (hierarchy + hierarchy, [f"{row} {' '.join('9' * 9)}" for row in rows], "left out: hips"),
    ):
        text = "\n".join(["MOTION", "Frames: 2", head, *lines, ""])
        small.write_text(f"HIERARCHY\n{figures}{text}")
        clip = read_bvh(small)
        assert clip.names == want.names
        np.testing.assert_array_equal(clip.rotations, want.rotations)
        np.testing.assert_array_equal(clip.translations, want.translations)
        assert clip.notes == (f"2 figures: hips is taken, {others}",)


def swinging(first: str, frames: int = 20, fps: float = 25.0) -> str:
    """Write the small figure, its leg swinging by 40 degrees, after other first rows."""
    rows = [f"1 2 3 0 {40 * np.sin(n / 4)} 0 0 0 0" for n in range(frames)]
    text = SMALL[: SMALL.index("Frames:")] + f"Frames: {frames + first.count(chr(10))}\n"
    return text + f"Frame Time: {1 / fps}\n{first}" + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("first", "takes", "rest"),
    [
        ("", (0,), 0),
        ("1 2 3 0 90 0 0 0 0\n", (0, 1), 1),
        (5 * "1 2 3 0 90 0 0 0 0\n", (0, 5), 5),
        ("1 2 3 0 90 0 0 0 0\n1 2 3 0 80 0 0 0 0\n1 2 3 0 70 0 0 0 0\n", (0, 3), 0),
        ("9 2 3 0 0 0 0 0 0\n", (0, 1), 1),
        (5 * "1 2 3 0 0 0 0 0 0\n" + "1 2 3 0 90 0 0 0 0\n", (0, 5, 6), 0),
    ],
)
def test_rest_pose_at_the_start_is_found(
    small: Path, first: str, takes: tuple[int, ...], rest: int
) -> None:
    small.write_text(swinging(first))
    clip = read_bvh(small)
    assert (clip.takes, clip.rest_frames) == (takes, rest)
    # Poses on both sides of a cut never mix.
    finer = resample(clip, 50.0)
    assert finer.takes == tuple(2 * take - n for n, take in enumerate(takes))
    assert len(finer.rotations) == 2 * len(clip.rotations) - len(takes)
    for start, stop in zip(finer.takes, (*finer.takes[1:], None), strict=True):
        at = takes[finer.takes.index(start)]
        np.testing.assert_allclose(finer.rotations[start:stop][0], clip.rotations[at], atol=1e-12)


def test_deep_trees_do_not_recurse(tmp_path: Path) -> None:
    path = tmp_path / "deep.bvh"
    path.write_text("HIERARCHY\nROOT a\n{\n" + "".join(f"JOINT {n}\n{{\n" for n in range(5000)))
    with pytest.raises(InputError, match="at most 1024 joints"):
        read_bvh(path)


# ---- names ----


@pytest.mark.parametrize(
    ("names", "want"),
    [
        ("mixamorig:LeftShoulder mixamorig:LeftArm mixamorig:LeftForeArm mixamorig:LeftHand",
         "clavicle upper_arm forearm hand"),
        ("LeftCollar LeftShoulder LeftElbow LeftWrist", "clavicle upper_arm forearm hand"),
        ("L_Collar L_Shoulder L_Elbow L_Wrist", "clavicle upper_arm forearm hand"),
        ("clavicle_l upperarm_l lowerarm_l hand_l", "clavicle upper_arm forearm hand"),
        ("lCollar lShldr lForeArm lHand", "clavicle upper_arm forearm hand"),
        ("shoulder.L upper_arm.L forearm.L hand.L", "clavicle upper_arm forearm hand"),
        ("L_Hip L_Knee L_Ankle L_Foot", "thigh shin foot toe"),
        ("LHipJoint LeftUpLeg LeftLeg LeftFoot LeftToeBase", "- thigh shin foot toe"),
        ("LHipJoint LeftHip LeftKnee LeftAnkle LeftToe", "- thigh shin foot toe"),
        ("LeftThigh LeftShin LeftFoot LeftToe", "thigh shin foot toe"),
        ("LeftHip LeftKnee LeftAnkle LeftToe", "thigh shin foot toe"),
        ("Bip01_L_Thigh Bip01_L_Calf Bip01_L_Foot Bip01_L_Toe0", "thigh shin foot toe"),
        ("LeftHandThumb1 LeftHandIndex2 index_03_l", "thumb1 index2 index3"),
        ("Armature|LeftUpLeg Armature|LeftLeg Armature|LeftFoot", "thigh shin foot"),
        ("Armature|mixamorig:LeftUpLeg a:b|LeftLeg Rig/LeftFoot", "thigh shin foot"),
    ],
)  # fmt: skip
def test_common_names_are_known(names: str, want: str) -> None:
    found = {name: part for part, name in body_parts(names.split()).items()}
    assert [found.get(name, "-").removeprefix("left ") for name in names.split()] == want.split()


def test_mapping_file_comes_back_as_it_was(tmp_path: Path, skeleton: Skeleton) -> None:
    clip = read_bvh(STRETCH)
    tree = Tree(clip.names, clip.parents)
    mapping = guess_mapping(tree, skeleton, "y", STRETCH)
    assert {(p.source, p.bone) for p in mapping.pairs} >= {
        ("Hips", "Root"), ("Chest4", "Chest"), ("LeftShoulder", "LeftArm"), ("LeftToe", "LeftToe"),
    }  # fmt: skip
    write_mapping(tmp_path / "m.json", mapping)
    assert read_mapping(tmp_path / "m.json", tree, skeleton) == mapping


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"joints": []}, "'joints'"),
        ({"up": "x"}, "up: expected"),
        ({"joints": {"Nose": "Head"}}, "a joint of the motion file"),
        ({"joints": {"Head": "Nose"}}, "one of the skeleton's"),
        ({"joints": {"Head": {"bone": "Head", "turn_degrees": [0, 1e9, 0]}}}, "three angles"),
        ({"joints": {"Head": "Head"}}, "left thigh"),
        ({"joints": {"Head": "Head", "Neck": "Head"}}, "one joint a bone"),
    ],
)
def test_wrong_mappings_are_named(
    tmp_path: Path, skeleton: Skeleton, change: dict, says: str
) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"joints": {}, **change}))
    clip = read_bvh(STRETCH)
    with pytest.raises(InputError, match=r"m\.json") as error:
        read_mapping(path, Tree(clip.names, clip.parents), skeleton)
    assert says in str(error.value)


def test_a_motion_without_legs_is_refused(small: Path, skeleton: Skeleton) -> None:
    with pytest.raises(InputError, match=r"left thigh.*--mapping"):
        read_bvh_motion(small, skeleton)


# ---- the retargeted motion ----


def test_bones_point_where_the_source_points(moved: Retargeted, skeleton: Skeleton) -> None:
    clip = resample(read_bvh(STRETCH), 25.0)
    _, theirs = clip.poses()
    ours = joint_transforms(skeleton, moved.motion.dofs)[..., :3, 3].numpy()
    pairs = {
        ("LeftShoulder", "LeftElbow"): ("LeftArm_rx", "LeftForeArm"),
        ("LeftElbow", "LeftWrist"): ("LeftForeArm", "LeftHand_rx"),
        ("RightShoulder", "RightElbow"): ("RightArm_rx", "RightForeArm"),
        ("RightHip", "RightKnee"): ("RightUpLeg_rx", "RightLeg"),
        ("LeftKnee", "LeftAnkle"): ("LeftLeg", "LeftFoot_rx"),
    }
    for (a, b), (p, q) in pairs.items():
        v = theirs[:, clip.names.index(b)] - theirs[:, clip.names.index(a)]
        w = ours[:, skeleton.joint_names.index(q)] - ours[:, skeleton.joint_names.index(p)]
        cosine = (v * w).sum(1) / np.linalg.norm(v, axis=1) / np.linalg.norm(w, axis=1)
        assert np.degrees(np.arccos(cosine)).mean() < 8.0, (a, b)


def test_dofs_keep_their_limits(moved: Retargeted, skeleton: Skeleton) -> None:
    low, high = skeleton.dof_limits.double().unbind(-1)
    assert (moved.motion.dofs >= low).all()
    assert (moved.motion.dofs <= high).all()


def test_no_dof_flips_between_frames(moved: Retargeted) -> None:
    change = (moved.motion.dofs[1:] - moved.motion.dofs[:-1])[:, 3:].abs()
    assert change.max() < 0.6


def test_feet_stay_above_the_floor() -> None:
    from ash_core.character import Character
    from ash_core.geometry.motion import pose_window

    avatar = load_avatar(resource("assets", "actor.safetensors"))
    motion = read_bvh_motion(STRETCH, avatar.skeleton, avatar=avatar).motion
    character = Character(avatar)
    with torch.no_grad():
        for frame in (0, 5, 10):
            posed = character(pose_window(motion, frame, avatar.skeleton, avatar.history_offsets))
            assert -1e-3 < posed.vertices[0, :, 1].min() < 0.04


def test_z_up_files_give_the_same_motion(
    tmp_path: Path, moved: Retargeted, skeleton: Skeleton
) -> None:
    """Compare with the same file, y renamed to z, and z to minus y."""
    lines = []
    for line in STRETCH.read_text().splitlines():
        words = line.split()
        if words[0] == "OFFSET":
            x, y, z = map(float, words[1:])
            line = f"OFFSET {x} {-z} {y}"
        elif words[0] == "CHANNELS":
            other = {"Y": "Z", "Z": "Y", "X": "X"}
            line = " ".join([*words[:2], *(other[word[0]] + word[1:] for word in words[2:])])
        elif len(words) > 9:
            numbers = [float(word) for word in words]
            flipped = [-n if i % 3 == 2 else n for i, n in enumerate(numbers)]
            line = " ".join(map(str, flipped))
        lines.append(line)
    path = tmp_path / "z.bvh"
    path.write_text("\n".join(lines) + "\n")
    found = read_bvh_motion(path, skeleton)
    assert found.mapping.up == "z"
    torch.testing.assert_close(found.motion.dofs, moved.motion.dofs, atol=1e-3, rtol=0.0)


def test_published_skeletons_are_reached_too(reference: Path) -> None:
    """Its root is the chest, it looks along -z, and its root's dofs count three times."""
    skeleton = read_skeleton(reference / "ddc_sample" / "ddc.skeleton")
    found = read_bvh_motion(STRETCH, skeleton)
    assert found.quality.errors[0].degrees < 25.0
    assert found.quality.turns[0].degrees < 15.0


def test_command_writes_motion_and_mapping(
    tmp_path: Path, skeleton: Skeleton, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.motion"
    actor = resource("assets", "actor/actor.skeleton")
    command = ["import", "bvh", str(STRETCH), "--avatar", str(actor), "-o", str(out)]
    assert cli.main([*command, "--fps", "0"]) == 0
    said = capsys.readouterr().out
    assert "24 frames at 40 a second, 23 joints matched; up is y (the zero pose" in said
    assert "largest error: " in said
    assert len(read_motion(out, skeleton).dofs) == 24
    mapping = tmp_path / "out.mapping.json"
    edited = json.loads(mapping.read_text())
    del edited["joints"]["Head"]
    edited["joints"]["LeftWrist"]["turn_degrees"] = [20, 0, 0]
    (tmp_path / "my.json").write_text(json.dumps(edited))
    before = read_motion(out, skeleton).dofs
    assert cli.main([*command, "--mapping", str(tmp_path / "my.json"), "--fps", "0"]) == 0
    wrist = skeleton.dof_names.index("left_wrist_flex")
    after = read_motion(out, skeleton).dofs
    assert (after - before)[:, wrist - 2 : wrist + 3].abs().max() > 0.1
    assert cli.main([*command, "--fps", "-1"]) == 2
    assert cli.main([*command[:-1], str(tmp_path / "out.txt")]) == 2


def renamed(path: Path, name: str) -> list[str]:
    """Write the stretch with joints J0, J1, ... and return the true names in that order."""
    text = STRETCH.read_text()
    names = list(read_bvh(STRETCH).names)
    for number, joint in enumerate(names):
        text = re.sub(rf"(ROOT|JOINT) {joint}$", rf"\1 {name}{number}", text, flags=re.MULTILINE)
    path.write_text(text)
    return names


def test_unknown_names_get_a_mapping_to_complete(
    tmp_path: Path, skeleton: Skeleton, capsys: pytest.CaptureFixture[str]
) -> None:
    names = renamed(tmp_path / "u.bvh", "J")
    actor, out = resource("assets", "actor/actor.skeleton"), tmp_path / "u.motion"
    command = ["import", "bvh", str(tmp_path / "u.bvh"), "--avatar", str(actor), "-o", str(out)]
    assert cli.main(command) == 2
    complaint = " ".join(capsys.readouterr().err.split())
    assert "u.mapping.json was written to begin with" in complaint
    assert len(complaint) < 1000
    path = tmp_path / "u.mapping.json"
    draft = json.loads(path.read_text())
    assert draft["joints"] == {}
    assert "up" not in draft
    assert draft["needed"]["left thigh"] == "LeftUpLeg"
    assert draft["unmatched"]["source"] == [f"J{n}" for n in range(len(names))]
    # Completed by a person who knows which joint is which.
    tree = Tree(tuple(names), read_bvh(STRETCH).parents)
    known = {pair.bone: pair.source for pair in guess_mapping(tree, skeleton, "y", "x").pairs}
    for bone in draft["needed"].values():
        draft["joints"][f"J{names.index(known[bone])}"] = bone
    path.write_text(json.dumps(draft))
    assert cli.main(command) == 2
    assert "left as it is" in " ".join(capsys.readouterr().err.split())
    assert json.loads(path.read_text()) == draft
    assert cli.main([*command, "--mapping", str(path)]) == 0
    assert len(read_motion(out, skeleton).dofs) > 0


def test_fbx_is_refused_with_programs_that_convert_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.bvh").write_bytes(b"Kaydara FBX Binary  \0")
    (tmp_path / "b.fbx").write_text("; FBX 7.3.0 project file")
    (tmp_path / "c.bvh").write_text("; FBX 7.3.0 project file")
    for name in ("a.bvh", "b.fbx", "c.bvh"):
        path, out = str(tmp_path / name), str(tmp_path / "m.motion")
        for words in (["bvh", path, "--avatar", "actor", "-o", out], ["gltf", path, "-o", out]):
            assert cli.main(["import", *words]) == 2
            complaint = capsys.readouterr().err
            assert "Blender" in complaint
            assert "FBX2glTF" in complaint


def test_a_rest_pose_first_is_left_out_with_a_note(tmp_path: Path, skeleton: Skeleton) -> None:
    text = STRETCH.read_text()
    start = text.index("\n", text.index("Frame Time:")) + 1
    rows = text[start:].splitlines()
    zero = " ".join(rows[0].split()[:3] + ["0"] * (len(rows[0].split()) - 3))
    path = tmp_path / "t.bvh"
    path.write_text(text[:start] + "\n".join([zero, *rows[1:]]) + "\n")
    found = read_bvh_motion(path, skeleton, fps=None)
    assert len(found.motion.dofs) == len(rows) - 1
    assert "the first frame shows a rest pose" in found.notes[0]

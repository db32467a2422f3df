"""`view` of a published configuration: its motions in the list, its own plays, its cameras."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from release_tree import CAMERAS_COUNT, FRAMES, IMAGE, TEST_FRAMES, ReleaseTree, release_tree
from toy import toy_skeleton

from ash_core.files.cameras.published import write_cameras
from ash_core.files.dataset import stretch_camera
from ash_core.files.released import import_ash
from ash_core.scene.joint_tree import sliders
from viewer.session import Session

MOTIONS = {
    "skeletoolToGTPose": FRAMES,
    "skeletoolToGTPoseRetarget": TEST_FRAMES,
    "skeletoolToGTPoseTest": TEST_FRAMES,
}


@pytest.fixture
def tree(tmp_path: Path) -> ReleaseTree:
    return release_tree(tmp_path / "tree", footage=False)


def frames(session: Session) -> dict[str, int]:
    return {name: len(motion.dofs) for name, motion in session.motions.items()}


def test_a_subjects_folder_opens_with_its_motion_playing(tree: ReleaseTree) -> None:
    now = [100.0]
    session = Session(str(tree.meta), device="cpu", now=lambda: now[0])
    assert frames(session) == MOTIONS
    assert session.document.motion == "skeletoolToGTPose"
    assert session.clock.playing
    now[0] = 130.0  # a window takes its time to open: the first frame is the first
    session.clock.tick(now[0])
    assert session.clock.frame == 0
    session.clock.tick(now[0] + 0.41)
    assert session.clock.frame == 10
    assert list(session.cameras) == [f"{number:06d}" for number in range(CAMERAS_COUNT)]
    texts = [message.text for message in session.messages]
    assert any("untrained, it shows its texture" in text for text in texts)
    session.choose_motion("skeletoolToGTPoseTest")
    request = session.request_shown(40, 30)
    assert torch.equal(request.window.dofs[0], session.motion.dofs[session.clock.frame])
    assert session.motion.normalised is not None
    assert session.renderer.render(request).rgb.shape == (30, 40, 3)


def test_the_configuration_of_the_inference_opens_with_the_test_motion(tree: ReleaseTree) -> None:
    session = Session(str(tree.val_conf), device="cpu")
    assert frames(session) == MOTIONS
    assert session.document.motion == next(iter(session.motions)) == "skeletoolToGTPoseTest"


def test_cameras_have_the_shape_of_the_configurations_images(tree: ReleaseTree) -> None:
    data, _ = import_ash(tree.val_conf)
    write_cameras(
        tree.meta / "cameras.json", [stretch_camera(camera, 160, 120) for camera in data.cameras]
    )
    session = Session(str(tree.val_conf), device="cpu")
    assert {(c.width, c.height) for c in session.cameras.values()} == {IMAGE}


def test_one_of_its_motions_can_be_asked_for(tree: ReleaseTree) -> None:
    folder = tree.meta / "skeletoolToGTPoseRetarget"
    session = Session(str(tree.train_conf), str(folder), device="cpu")
    assert session.document.motion == folder.name
    assert frames(session) == MOTIONS


def test_a_saved_session_reopens_with_all_of_it(tree: ReleaseTree, tmp_path: Path) -> None:
    session = Session(str(tree.meta), device="cpu")
    session.choose_motion("skeletoolToGTPoseTest")
    session.clock.pause()
    session.clock.seek(7)
    session.save(tmp_path / "s.ash-session")
    again = Session(device="cpu", file=tmp_path / "s.ash-session")
    assert frames(again) == MOTIONS
    assert (again.document.motion, again.clock.frame) == ("skeletoolToGTPoseTest", 7)
    assert not again.clock.playing


def test_it_opens_in_a_running_window_too(tree: ReleaseTree) -> None:
    session = Session(str(tree.val_conf), device="cpu")
    session.open(str(tree.root))
    assert session.document.motion == "skeletoolToGTPose"
    assert session.avatar == str(tree.root)
    (tree.meta / "skeletoolToGTPoseTest" / "poseAngles.motion").write_text("broken")
    session.open(str(tree.root))
    assert session.messages[-1].severity == "error"
    assert "skeletoolToGTPoseTest/poseAngles.motion:1: expected" in session.messages[-1].text
    assert frames(session) == MOTIONS


def test_a_dof_that_is_no_length_and_no_angle_has_no_unit() -> None:
    """Copy a published rig: global_scale moves a joint by a millimetre, spine_stretch none."""
    toy = toy_skeleton()
    matrix = torch.cat((toy.dof_matrix, torch.zeros(9, 3)), 1)
    matrix[0, 10], matrix[1, 12] = 0.001, -0.4
    matrix[0, 0] = -1.0
    skeleton = replace(
        toy,
        dof_names=(*toy.dof_names, "global_scale", "spine_stretch", "knuckles_width"),
        dof_limits=torch.cat((toy.dof_limits, torch.tensor([[-torch.inf, torch.inf]] * 3))),
        dof_matrix=matrix,
    )
    rows = sliders(skeleton, torch.zeros(13))
    shown = {row.name: row.shown("%.1f") for row in rows}
    assert shown["translate_x"] == shown["translate_z"] == "%.1f m"
    assert shown["rotate_y"] == shown["head_bend"] == "%.1f deg"
    assert {shown[row.name] for row in rows[10:]} == {"%.1f"}
    assert all(row.shown_scale == 1.0 and not row.turns for row in rows[10:])

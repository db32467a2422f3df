"""Cuts in a motion: jumps that no body makes. The pose history does not reach before them."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ash_core.geometry.framing import front_camera
from ash_core.geometry.motion import JUMP_M_PER_S, find_cuts, first_frames, pose_window
from ash_core.geometry.rotations import axis_angle_to_matrix
from ash_core.records import AvatarData, Motion
from ash_core.render import RenderRequest
from ash_core.scene.open import BUNDLED, load_avatar_data, load_motion, make_renderer
from ash_core.variants import NATIVE, RELEASED

CUT_PICTURES = 10
"""After the cut: offsets 4 and 8 leave it."""


@pytest.fixture(scope="module")
def ida() -> AvatarData:
    data = load_avatar_data(BUNDLED)
    assert isinstance(data, AvatarData)
    return data


def bundled(name: str, data: AvatarData) -> Tensor:
    return load_motion(name, BUNDLED, data).dofs


def path_of_a_hand(steps_m: list[float]) -> Tensor:
    """Make the path [F, 1, 3] of one joint along x."""
    x = torch.tensor([0.0, *steps_m], dtype=torch.float64).cumsum(0)
    return torch.stack((x, 0 * x, 0 * x), -1)[:, None]


def cuts_of(places: Tensor, fps: float = 25.0) -> list[int]:
    still = torch.eye(3, dtype=torch.float64).expand(len(places), 3, 3)
    return find_cuts(places, still, fps).nonzero().flatten().tolist()


STEP = 1.2 * JUMP_M_PER_S / 25.0


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        ([STEP, 0.01, 0.02, 0.01], [1]),  # a T-pose first
        ([0.01, 0.02, STEP, 0.02, 0.01], [3]),  # a splice
        ([0.01, 0.02, STEP, -STEP, 0.01], [3, 4]),  # one stray frame
        ([0.01, 0.02, 0.7 * STEP, 0.02, 0.01], []),  # slower than the bound
        ([0.1 * STEP, 0.6 * STEP, STEP, 0.6 * STEP, 0.1 * STEP], []),  # a punch
        ([0.0, 2 * STEP, 0.0, 2 * STEP, 0.0, 2 * STEP], []),  # every frame shown twice
        ([STEP], []),
        ([], []),
    ],
)
def test_a_cut_is_a_fast_step_alone(steps: list[float], want: list[int]) -> None:
    assert cuts_of(path_of_a_hand(steps)) == want


def test_bounds_are_speeds_not_steps() -> None:
    quick = path_of_a_hand([0.01] * 20 + [STEP / 2] + [0.01] * 20)
    assert cuts_of(quick, 25.0) == []
    assert cuts_of(quick, 100.0) == [21]


def test_a_body_that_faces_elsewhere_at_once_is_a_cut() -> None:
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    for degrees, want in ((10.0, []), (30.0, [2])):
        turns = torch.deg2rad(torch.tensor([0.0, 0.0, degrees, degrees], dtype=torch.float64))
        R = axis_angle_to_matrix(up.expand(4, 3), turns)
        cuts = find_cuts(torch.zeros(4, 2, 3, dtype=torch.float64), R, 25.0)
        assert cuts.nonzero().flatten().tolist() == want


def test_no_bundled_motion_has_a_cut(ida: AvatarData) -> None:
    for name in ("dance", "walk", "stretch"):
        motion = load_motion(name, BUNDLED, ida)
        assert set(first_frames(motion, ida.skeleton)) == {0}, name


def test_windows_do_not_reach_before_a_cut(ida: AvatarData) -> None:
    stretch, walk = bundled("stretch", ida)[:40], bundled("walk", ida)[200:240]
    rest = ida.rest_dofs.to(walk)[None]
    spliced = Motion(torch.cat((rest, stretch, walk)))
    assert [first_frames(spliced, ida.skeleton)[n] for n in (0, 1, 40, 41, 80)] == [0, 1, 1, 41, 41]
    for first, alone in ((1, Motion(stretch)), (41, Motion(walk))):
        for frame in (0, 1, 5, 33):
            window = pose_window(spliced, first + frame, ida.skeleton, NATIVE.history_offsets)
            want = pose_window(alone, frame, ida.skeleton, NATIVE.history_offsets)
            assert torch.equal(window.dofs, want.dofs)
            assert torch.equal(window.normalised, want.normalised)
    # Published avatars see what their authors' code saw.
    window = pose_window(spliced, 42, ida.skeleton, RELEASED.history_offsets)
    assert torch.equal(window.dofs, spliced.dofs[[42, 41, 40]])


def test_another_rate_or_skeleton_is_looked_at_anew(ida: AvatarData) -> None:
    dofs = bundled("walk", ida)[:30].clone()
    dofs[15:, 0] += 0.15
    assert set(first_frames(Motion(dofs), ida.skeleton)) == {0}
    assert set(first_frames(Motion(dofs, fps=100.0), ida.skeleton)) == {0, 15}


def test_pictures_after_a_cut_change_as_they_do_later(ida: AvatarData) -> None:
    """Guard against a skirt that jumped when the T-pose left a history offset."""
    first, last = bundled("stretch", ida)[[120, 122]]
    slow = torch.lerp(first, last, torch.linspace(0, 1, CUT_PICTURES)[:, None].double())
    renderer = make_renderer(ida, "cpu", "auto", None)
    for before in (ida.rest_dofs.to(slow)[None], bundled("dance", ida)[200:201]):
        motion = Motion(torch.cat((before, slow)))
        camera = front_camera(ida, slow, math.radians(40.0), 160, 120)
        pictures = [
            renderer.render(
                RenderRequest(
                    pose_window(motion, n, ida.skeleton, ida.history_offsets),
                    camera,
                    (1.0, 1.0, 1.0),
                )
            ).rgb
            for n in range(1, len(motion.dofs))
        ]
        changes = torch.stack([(b - a).abs().mean() for a, b in pairwise(pictures)])
        assert changes.max() < 3.0 * changes.median(), changes / changes.median()

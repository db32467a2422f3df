"""Laws of posing by hand: trees, limits, left and right, edits, live windows, text and files."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy import toy_dofs, toy_skeleton

from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar
from ash_core.files.skeletool import read_skeleton
from ash_core.geometry.framing import SIDE_NAMES
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.motion import live_poses, live_window, pose_window
from ash_core.records import Motion, PoseWindow, Skeleton
from ash_core.resources import resource
from ash_core.scene import joint_tree, pose_edit
from ash_core.scene.pose_edit import PoseEdit
from ash_core.variants import NATIVE, RELEASED, HistoryOffsets
from viewer.pose_history import PoseHistory

BUNDLED_SKEW_M = 0.005
"""The bundled character's neck leans 2 mm to one side."""


both = pytest.mark.parametrize("offsets", [RELEASED.history_offsets, NATIVE.history_offsets])


@pytest.fixture(scope="module")
def toy() -> Skeleton:
    return toy_skeleton()


@pytest.fixture(scope="module")
def walk() -> Motion:
    return Motion(toy_dofs(), name="walk")


@pytest.fixture(scope="module")
def bundled() -> Skeleton:
    return load_avatar(resource("assets", "actor.safetensors")).skeleton


@pytest.fixture(scope="module")
def published(reference: Path) -> Skeleton:
    return read_skeleton(reference / "ddc_sample" / "ddc.skeleton")


@pytest.fixture(params=["toy", "bundled", "published"])
def skeleton(request: pytest.FixtureRequest) -> Skeleton:
    return request.getfixturevalue(request.param)


def some_pose(skeleton: Skeleton, seed: int = 0) -> Tensor:
    """Within the limits, and within 0.7 rad or m."""
    random = torch.Generator().manual_seed(seed)
    low, high = skeleton.dof_limits.double().clamp(-0.7, 0.7).unbind(-1)
    return low + (high - low) * torch.rand(len(low), generator=random, dtype=torch.float64)


def same_windows(got: PoseWindow, want: PoseWindow, atol: float = 0.0) -> None:
    torch.testing.assert_close(got.dofs, want.dofs, atol=atol, rtol=0.0)
    torch.testing.assert_close(got.normalised, want.normalised, atol=atol, rtol=0.0)


# ---- the tree ----


def test_every_joint_and_dof_is_on_one_line(skeleton: Skeleton) -> None:
    tree = joint_tree.joint_tree(skeleton)
    moving = skeleton.dof_matrix.abs().amax(0).nonzero()[:, 0].tolist()
    assert sorted(joint for node in tree for joint in node.joints) == list(
        range(len(skeleton.joint_names))
    )
    assert sorted(dof for node in tree for dof in node.dofs) == moving
    assert len({node.name for node in tree}) == len(tree)
    for node in tree:
        for dof in node.dofs:
            assert int(skeleton.dof_matrix[:, dof].abs().argmax()) in node.joints


def test_a_parent_stands_above_its_children(skeleton: Skeleton) -> None:
    tree = joint_tree.joint_tree(skeleton)
    at = {node.name: place for place, node in enumerate(tree)}
    assert tree[0].parent is None
    assert tree[0].depth == 0
    for place, node in enumerate(tree):
        parents = {int(skeleton.parents[joint]) for joint in node.joints} - set(node.joints)
        if node.parent is not None:
            above = tree[at[node.parent]]
            assert at[node.parent] < place
            assert node.depth == above.depth + 1
            assert node.name in above.children
            assert parents <= set(above.joints)
        assert [tree[at[child]].parent for child in node.children] == [node.name] * len(
            node.children
        )
        if node.children:
            assert tree[place + 1].name == node.children[0]


def test_joints_of_one_name_and_place_are_one_line(toy: Skeleton, bundled: Skeleton) -> None:
    assert [(n.name, n.dof_names) for n in joint_tree.joint_tree(toy)] == [
        ("Root", toy.dof_names[:6]),
        ("Spine", ("spine_lean", "spine_bend")),
        ("Head", ("head_bend", "nod")),
    ]
    hand = joint_tree.node_of(joint_tree.joint_tree(bundled), "LeftHand_rx")
    assert hand is not None
    assert hand.joint_names == ("LeftHand_twist", "LeftHand_rx", "LeftHand_ry")
    assert joint_tree.node_of(joint_tree.joint_tree(bundled), "LeftHand") == hand
    assert joint_tree.node_of(joint_tree.joint_tree(bundled), "Tail") is None


def test_other_places_and_names_are_other_lines(toy: Skeleton) -> None:
    names = ("left_hip", "left_knee", "left_foot", "a_x", "b", "a_y", "c", "b_x", "d")
    away = replace(toy, joint_names=names, offsets=torch.ones(9, 3))
    together = replace(away, offsets=torch.zeros(9, 3))
    assert [node.name for node in joint_tree.joint_tree(away)] == list(names)
    # Both lines begun by an "a" have their whole names; so has b_x, for there is a b.
    shared = [node.name for node in joint_tree.joint_tree(together)]
    assert shared == ["left", "a_x", "b", "a_y", "c", "b_x", "d"]


def test_search_finds_what_fits_and_nothing_above_it(bundled: Skeleton) -> None:
    tree = joint_tree.joint_tree(bundled)

    def found(text: str) -> list[tuple[str, int]]:
        return [(match.node.name, len(match.dofs)) for match in joint_tree.search(tree, text)]

    thumb = next(node for node in tree if node.name == "LeftThumb2")
    assert found("leftTHUMB2 ") == [("LeftThumb2", len(thumb.dofs))]
    elbows = joint_tree.search(tree, "elbow")  # by a dof's name, and only such dofs
    assert [match.node.name for match in elbows] == ["LeftForeArm", "RightForeArm"]
    named = [bundled.dof_names[dof] for match in elbows for dof in match.dofs]
    assert named
    assert all("elbow" in name for name in named)
    assert [name for name, _ in found("left elbow")] == ["LeftForeArm"]
    assert [match.node for match in joint_tree.search(tree, "")] == list(tree)
    assert found("tentacle") == []


def test_the_way_to_a_joint_begins_at_the_top(bundled: Skeleton) -> None:
    tree = joint_tree.joint_tree(bundled)
    way = joint_tree.way_to(tree, "LeftThumb2")
    assert (way[0], way[-1]) == ("Root", "LeftThumb2")
    assert len(way) == 1 + next(node.depth for node in tree if node.name == "LeftThumb2")
    assert joint_tree.way_to(tree, "tentacle") == ()


def test_a_long_chain_is_no_deep_recursion(toy: Skeleton) -> None:
    count = 2000
    chain = Skeleton(
        joint_names=tuple(f"link{n}" for n in range(count)),
        parents=torch.arange(-1, count - 1),
        is_prismatic=torch.zeros(count, dtype=torch.bool),
        axes=toy.axes[:1].expand(count, 3),
        offsets=torch.ones(count, 3),
        dof_names=("curl",),
        dof_limits=torch.tensor([[-1.0, 1.0]]),
        dof_matrix=torch.ones(count, 1),
    )
    assert [node.depth for node in joint_tree.joint_tree(chain)] == list(range(count))


# ---- sliders ----


def test_sliders_are_finite_and_hold_the_skeleton_s_limits(skeleton: Skeleton) -> None:
    rest = some_pose(skeleton)
    for slider, (low, high) in zip(
        joint_tree.sliders(skeleton, rest), skeleton.dof_limits.tolist(), strict=True
    ):
        assert -math.inf < slider.lower <= slider.upper < math.inf
        assert slider.lower == low or math.isinf(low)
        assert slider.upper == high or math.isinf(high)
        assert slider.rest == rest[slider.dof]
        assert slider.name == skeleton.dof_names[slider.dof]


def test_sliders_without_limits(toy: Skeleton) -> None:
    still = joint_tree.sliders(toy, torch.zeros(10).double())
    there = joint_tree.sliders(toy, torch.full((10,), 5.0).double())
    assert (still[0].unit, still[0].lower, still[0].upper) == ("m", -2.0, 2.0)
    assert (there[0].lower, there[0].upper, there[0].rest) == (3.0, 7.0, 5.0)
    assert (there[3].unit, there[3].lower, there[3].upper) == ("rad", -math.pi, math.pi)
    assert there[3].upper * there[3].shown_scale == pytest.approx(180.0)
    assert (there[3].shown_unit, still[0].shown_unit) == ("deg", "m")
    limits = toy.dof_limits.clone()
    limits[0] = torch.tensor([-torch.inf, 1.0])  # on one side only, and far away
    rest = torch.full((10,), 5.0).double()
    one_sided = joint_tree.sliders(replace(toy, dof_limits=limits), rest)[0]
    assert (one_sided.lower, one_sided.upper) == (1.0, 1.0)


@given(st.floats(-100.0, 100.0), st.floats(-math.pi, math.pi))
def test_a_slider_that_goes_round_moves_by_less_than_a_turn(value: float, to: float) -> None:
    slider = joint_tree.Slider(3, "rotate_y", "rad", -math.pi, math.pi, 0.0, turns=True)
    assert slider.lower <= slider.place(value) <= slider.upper
    moved = slider.moved(value, to)
    assert moved - value == pytest.approx(to - slider.place(value), abs=1e-9)
    assert abs(math.remainder(moved - to, math.tau)) < 1e-9  # it stands where it was put


def test_only_turns_without_limits_go_round(bundled: Skeleton) -> None:
    rows = joint_tree.sliders(bundled, torch.zeros(len(bundled.dof_names)).double())
    assert [row.name for row in rows if row.turns] == ["rotate_y", "rotate_z", "rotate_x"]
    spine = next(row for row in rows if row.name == "spine_twist")
    assert (spine.place(12.0), spine.moved(12.0, 0.5)) == (12.0, 0.5)


# ---- left and right ----


def mirror_pose(dofs: Tensor, skeleton: Skeleton) -> Tensor:
    partners, signs = pose_edit.mirror_of(skeleton)
    return (dofs * torch.tensor(signs).to(dofs))[..., list(partners)]


def other_side(names: tuple[str, ...]) -> list[int]:
    places = {name: place for place, name in enumerate(names)}
    swapped = [
        {name.replace(a, b) for sides in SIDE_NAMES for a, b in (sides, sides[::-1])} & set(places)
        for name in names
    ]
    return [
        places[next(iter(others - {name}), name)]
        for name, others in zip(names, swapped, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "tolerance"), [("toy", 1e-12), ("bundled", BUNDLED_SKEW_M), ("published", 1e-6)]
)
def test_a_mirrored_pose_has_mirrored_joints(
    request: pytest.FixtureRequest, name: str, tolerance: float
) -> None:
    skeleton: Skeleton = request.getfixturevalue(name)
    others = other_side(skeleton.joint_names)
    for seed in range(3):
        dofs = some_pose(skeleton, seed)
        here = joint_transforms(skeleton, dofs)[:, :3, 3]
        there = joint_transforms(skeleton, mirror_pose(dofs, skeleton))[:, :3, 3]
        image = here[others] * torch.tensor([-1.0, 1.0, 1.0])
        assert (there - image).norm(dim=-1).max() < tolerance
        assert (there - here).norm(dim=-1).max() > 0.1


def test_signs_fit_better_than_their_opposites(skeleton: Skeleton) -> None:
    """By finite differences: joints and marks on their axes, each dof alone."""
    others = other_side(skeleton.joint_names)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    marks = torch.cat((torch.zeros(1, 3), 0.1 * torch.eye(3))).double()

    def places(dofs: Tensor, marks: Tensor) -> Tensor:
        T = joint_transforms(skeleton, dofs)
        return marks @ T[..., :3, :3].mT + T[..., None, :3, 3]

    partners, signs = pose_edit.mirror_of(skeleton)
    count = len(skeleton.dof_names)
    zeros, small = torch.zeros(count).double(), 1e-4 * torch.eye(count).double()
    moved = (places(small, marks) - places(zeros, marks))[:, others] * flip
    errors = [
        (places(sign * small[list(partners)], marks * flip) - places(zeros, marks * flip) - moved)
        .square()
        .sum((1, 2, 3))
        for sign in (1.0, -1.0)
    ]
    clear = (errors[0] - errors[1]).abs() > 1e-6 * (errors[0] + errors[1])
    better = torch.where(errors[0] <= errors[1], 1.0, -1.0)
    assert torch.equal(better[clear], torch.tensor(signs)[clear])
    assert (torch.tensor(signs)[~clear] == 1.0).all()


def test_mirrored_twice_is_the_identity(skeleton: Skeleton) -> None:
    dofs = some_pose(skeleton)
    twice = mirror_pose(mirror_pose(dofs, skeleton), skeleton)
    assert torch.equal(twice, dofs)
    for chosen in (range(0, len(dofs), 3), range(len(dofs))):
        edit = PoseEdit({dof: float(dofs[dof]) for dof in chosen}, 0.5)
        assert edit.mirrored(skeleton).mirrored(skeleton) == edit


def test_a_mirrored_edit_is_the_edit_of_the_mirrored_pose(bundled: Skeleton) -> None:
    zeros = torch.zeros(len(bundled.dof_names)).double()
    edit = PoseEdit({18: 0.3, 23: 1.0, 7: 0.2, 0: 0.4, 64: -0.2})
    want = mirror_pose(edit.apply(zeros), bundled)
    assert torch.equal(edit.mirrored(bundled).apply(zeros), want)
    assert sorted(bundled.dof_names[dof] for dof in edit.mirrored(bundled).values) == [
        "left_thumb_spread",
        "right_clavicle_y",
        "right_elbow",
        "spine_lean",
        "translate_x",
    ]


# ---- edits ----


def test_an_edit_replaces_and_blends() -> None:
    dofs = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]]).double()
    before = dofs.clone()
    edit = PoseEdit().with_dof(2, 9.0).with_dof(0, -1.0)
    assert torch.equal(edit.apply(dofs)[:, [0, 2]], torch.tensor([[-1.0, 9.0]] * 2).double())
    assert torch.equal(edit.apply(dofs)[:, [1, 3]], dofs[:, [1, 3]])
    half = replace(edit, blend=0.5).apply(dofs)
    torch.testing.assert_close(half, (dofs + edit.apply(dofs)) / 2, atol=1e-15, rtol=0.0)
    assert torch.equal(replace(edit, blend=0.0).apply(dofs), dofs)
    assert torch.equal(dofs, before)


def test_edits_are_taken_back(toy: Skeleton) -> None:
    head = joint_tree.node_of(joint_tree.joint_tree(toy), "Head")
    assert head is not None
    edit = PoseEdit({3: 0.1, 8: 0.2, 9: -0.3}, 0.7)
    assert edit.without_dof(8) == PoseEdit({3: 0.1, 9: -0.3}, 0.7)
    assert edit.without_dof(5) == edit
    assert edit.without_joint(head) == PoseEdit({3: 0.1}, 0.7)
    assert edit.without_dof(3).with_dof(3, 0.1) == edit  # order means nothing
    assert hash(edit.without_dof(3).with_dof(3, 0.1)) == hash(edit)


def test_clamped_values_lie_within_limits(toy: Skeleton) -> None:
    edit = PoseEdit({0: 50.0, 6: 0.9, 9: -3.0, 7: 0.25}).clamped(toy)
    assert edit.values == pytest.approx({0: 50.0, 6: 0.5, 7: 0.25, 9: -0.8})
    assert edit.clamped(toy) == edit


def test_an_edit_for_another_skeleton_is_refused(toy: Skeleton) -> None:
    edit = PoseEdit({10: 0.1})
    for use in (edit.check, edit.mirrored, edit.clamped, lambda _: edit.apply(torch.zeros(10))):
        with pytest.raises(InputError, match="values: expected dofs 0 to 9, got 10"):
            use(toy)


def test_json_round_trip(toy: Skeleton) -> None:
    for edit in (PoseEdit(), PoseEdit({9: 0.1 + 0.2, 0: -1e-17}, 0.3)):
        text = json.dumps(edit.as_json())
        assert PoseEdit.from_json(json.loads(text), toy) == edit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected the fields values and blend"),
        ('{"values": {}}', "expected the fields values and blend"),
        ('{"values": {}, "blend": 1, "x": 1}', "expected the fields values and blend"),
        ('{"values": [1], "blend": 1}', "values: expected dofs"),
        ('{"values": {}, "blend": "1"}', "blend: expected 0 to 1"),
        ('{"values": {}, "blend": 1.5}', "blend: expected 0 to 1, got 1.5"),
        ('{"values": {}, "blend": NaN}', "blend: expected 0 to 1, got 'nan'"),
        ('{"values": {"-1": 0}, "blend": 1}', "values: expected numbers of dofs, got '-1'"),
        ('{"values": {"nod": 0}, "blend": 1}', "values: expected numbers of dofs, got 'nod'"),
        ('{"values": {"3": true}, "blend": 1}', "dof 3: expected a finite number, got 'True'"),
        ('{"values": {"3": Infinity}, "blend": 1}', "dof 3: expected a finite number, got 'inf'"),
        ('{"values": {"3": 1%s}, "blend": 1}' % ("0" * 400), "dof 3: expected a finite number"),
        ('{"values": {"10": 0}, "blend": 1}', "values: expected dofs 0 to 9, got 10"),
    ],
)
def test_malformed_json_names_the_field(toy: Skeleton, text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        PoseEdit.from_json(json.loads(text), toy)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e39])
def test_a_value_that_cannot_be_is_named(value: float) -> None:
    with pytest.raises(InputError, match="expected a finite value of dof 3, got"):
        PoseEdit().with_dof(3, value)


# ---- windows ----


def test_window_without_edits_is_the_motion_s(toy: Skeleton, walk: Motion) -> None:
    published = torch.randn(len(walk.dofs), 3, 10, dtype=torch.float64)
    for motion in (walk, replace(walk, normalised=published)):
        for frame in (0, 1, 2, 11, 19):
            want = pose_window(motion, frame, toy, RELEASED.history_offsets)
            for edit in (PoseEdit(), PoseEdit({7: 0.3}, 0.0), PoseEdit({}, 0.4)):
                same_windows(
                    pose_edit.window_of(motion, frame, edit, toy, RELEASED.history_offsets), want
                )


@both
def test_window_with_edits_is_that_of_the_edited_motion(
    toy: Skeleton, walk: Motion, offsets: HistoryOffsets
) -> None:
    edit = PoseEdit({3: 0.2, 7: -0.4, 0: 1.0}, 0.6)
    edited = Motion(edit.apply(walk.dofs))
    for fps in (25.0, 50.0):
        plain, other = replace(walk, fps=fps), replace(edited, fps=fps)
        for frame in range(4, 20):
            want = pose_window(other, frame, toy, offsets)
            same_windows(pose_edit.window_of(plain, frame, edit, toy, offsets), want, atol=1e-14)
    first = pose_edit.window_of(walk, 0, edit, toy, offsets)
    assert torch.equal(first.dofs, edited.dofs[[0] * len(offsets.frames)])
    assert (first.normalised[:, :, :4] == 0).all()


@pytest.mark.parametrize("frame", [-1, 20])
def test_a_frame_outside_is_named(toy: Skeleton, walk: Motion, frame: int) -> None:
    with pytest.raises(InputError, match=rf"walk: expected a frame in 0\.\.19, got {frame}"):
        pose_edit.window_of(walk, frame, PoseEdit({3: 0.2}), toy, RELEASED.history_offsets)


# ---- poses just shown ----


def window_now(history: PoseHistory, skeleton: Skeleton, time_s: float | None = None) -> PoseWindow:
    return live_window(history.poses(time_s), skeleton, history.offsets)


@both
def test_history_of_a_played_motion_is_its_window(
    toy: Skeleton, walk: Motion, offsets: HistoryOffsets
) -> None:
    long = Motion(walk.dofs.repeat(2, 1))
    for start_s in (0.0, 12345.678):
        history = PoseHistory(offsets)
        for frame, dofs in enumerate(long.dofs):
            history.push(dofs, start_s + frame / 25)
            if frame >= 4:
                noise = 1e-12 * (1 + start_s)
                same_windows(
                    window_now(history, toy), pose_window(long, frame, toy, offsets), atol=noise
                )


@both
def test_history_is_resampled_to_the_motion_s_rate(toy: Skeleton, offsets: HistoryOffsets) -> None:
    """A steady move is the same at every frame rate of the screen."""
    speed = torch.linspace(-1, 1, 10, dtype=torch.float64)
    frames = torch.arange(60)[:, None].double()
    want = pose_window(Motion(frames / 25 * speed), 50, toy, offsets)
    for rate in (7.0, 25.0, 60.0, 1000.0):
        history = PoseHistory(offsets)
        for n in range(int(rate * 50 / 25) + 1):
            history.push(n / rate * speed, n / rate)
        history.push(50 / 25 * speed, 50 / 25)
        same_windows(window_now(history, toy), want, atol=1e-12)
        # What is too old is forgotten.
        assert len(history._shown) <= rate * live_poses(offsets) / 25 + 3


@both
def test_a_history_takes_over_from_a_motion(
    toy: Skeleton, walk: Motion, offsets: HistoryOffsets
) -> None:
    history, long = PoseHistory(offsets), Motion(walk.dofs.repeat(2, 1))
    history.push(long.dofs[1], 0.5)
    history.begin(long.dofs[38 - live_poses(offsets) : 38], 7.3)
    same_windows(window_now(history, toy), pose_window(long, 37, toy, offsets), atol=1e-12)
    history.push(long.dofs[38], 7.3 + 1 / 25)
    same_windows(window_now(history, toy), pose_window(long, 38, toy, offsets), atol=1e-12)


def test_before_the_first_pose_is_the_first(toy: Skeleton) -> None:
    dofs = toy_dofs()
    history = PoseHistory(RELEASED.history_offsets)
    history.push(dofs[5], 3.0)
    assert torch.equal(window_now(history, toy).dofs, dofs[[5, 5, 5]])
    history.push(dofs[6], 3.04)
    torch.testing.assert_close(window_now(history, toy).dofs, dofs[[6, 5, 5]])


def test_what_does_not_move_is_still(toy: Skeleton, walk: Motion) -> None:
    still = pose_window(Motion(walk.dofs[9:10].repeat(8, 1)), 7, toy, RELEASED.history_offsets)
    history = PoseHistory(RELEASED.history_offsets)
    for frame in range(10):
        history.push(walk.dofs[frame], frame / 25)
    for n in range(4):
        history.push(walk.dofs[9], (10 + n) / 25)
        assert not torch.equal(window_now(history, toy).normalised, still.normalised) or n == 3
    same_windows(window_now(history, toy, 14 / 25), still)
    for n in range(4, 8):
        history.push(walk.dofs[9], (10 + n) / 25)
        same_windows(window_now(history, toy), still)
    same_windows(window_now(history, toy, 100.0), still)  # nobody drew since


def test_a_reset_history_is_still_and_begins_anew(toy: Skeleton) -> None:
    dofs = toy_dofs()
    history = PoseHistory(RELEASED.history_offsets)
    for frame in range(8):
        history.push(dofs[frame], frame / 25)
    history.reset(dofs[12])
    assert torch.equal(window_now(history, toy).dofs, dofs[[12, 12, 12]])
    history.push(dofs[13], 0.1)  # an earlier time than before
    assert torch.equal(window_now(history, toy).dofs, dofs[[13, 12, 12]])
    history.push(dofs[14], 0.05)
    assert torch.equal(window_now(history, toy).dofs, dofs[[14, 14, 14]])
    history.push(dofs[15], 0.05)
    assert torch.equal(window_now(history, toy).dofs, dofs[[15, 15, 15]])


def test_history_keeps_its_own_copy(toy: Skeleton) -> None:
    dofs, history = torch.zeros(10).double(), PoseHistory(RELEASED.history_offsets)
    history.push(dofs, 0.0)
    dofs += 1.0
    assert (window_now(history, toy).dofs == 0).all()


# ---- text and files ----


def test_text_round_trip_is_exact(skeleton: Skeleton) -> None:
    dofs = some_pose(skeleton)
    got = pose_edit.pose_from_text(pose_edit.pose_to_text(dofs, skeleton), skeleton)
    assert torch.equal(got, dofs)
    assert got.dtype == torch.float64


def changed(text: str, **changes: object) -> str:
    content = json.loads(text)
    content["dofs"] |= changes
    return json.dumps({**content, "dofs": {k: v for k, v in content["dofs"].items() if v != ""}})


def test_malformed_text_names_what_is_wrong(toy: Skeleton) -> None:
    good = pose_edit.pose_to_text(torch.zeros(10).double(), toy)
    cases = {
        "": "expected a copied pose, got ''",
        "hello\nworld" * 20: "expected a copied pose, got 'hello",
        "[" * 100000: "expected a copied pose",
        "3": "expected a copied pose",
        good.replace("ash-studio", "other"): "expected a copied pose",
        changed(good, nod="", spine_bend=""): "missing: 'spine_bend', 'nod'",
        changed(good, tail=1.0): "unknown: 'tail'",
        changed(good, nod=math.nan): "nod: expected a finite number, got 'nan'",
        changed(good, nod=-math.inf): "nod: expected a finite number, got '-inf'",
        changed(good, nod="1"): "nod: expected a finite number, got '1'",
        changed(good, nod=None): "nod: expected a finite number, got 'None'",
        changed(good, nod=10**400): "nod: expected a finite number",
        good.replace("0.0", "1" * 5000): "expected a copied pose",
    }
    for text, said in cases.items():
        with pytest.raises(InputError) as raised:
            pose_edit.pose_from_text(text, toy)
        assert said in str(raised.value)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 200


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
def test_what_is_set_is_what_is_seen_at_any_blend(blend: float) -> None:
    motion = torch.tensor([0.1, -0.3], dtype=torch.float64)
    edit = PoseEdit(values={0: 0.7}, blend=blend).showing(1, 0.4, float(motion[1]))
    assert float(edit.apply(motion)[1]) == pytest.approx(0.4)

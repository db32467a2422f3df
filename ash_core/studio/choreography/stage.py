"""Common ground of all motions: the floor under the feet, habits of a living body."""

from dataclasses import replace

import numpy as np

from ash_core.records import Skeleton, Skinning
from ash_core.studio.choreography.posing import (
    FootPath,
    Score,
    Step,
    foot_path,
    soft,
    solve_legs,
    weight_share,
)

TAU = 2 * np.pi
HANG = -0.55
"""Shoulder dof at which an arm is beside the body, rad."""


LEG_SLACK = 0.02
"""Excess over a leg dof's limit that is clipped, rad: the foot hardly turns."""


class Stage:
    """Skeleton and the places on its feet that touch the floor."""

    def __init__(self, skeleton: Skeleton, skinning: Skinning, vertices: np.ndarray) -> None:
        self.skeleton, self.skinning, self.vertices = skeleton, skinning, vertices
        rest = Score(skeleton, 1).transforms()[0]
        self.unpose = np.linalg.inv(rest)
        names = skeleton.joint_names
        self.pelvis = rest[names.index("Root_rx"), :3, 3]
        self.balls, self.heels, self.soles = [], [], []
        for side in ("Left", "Right"):
            ball = rest[names.index(f"{side}Toe"), :3, 3]
            bone = skinning.bone_names.index(f"{side}Foot")
            foot = vertices[(skinning.bones[:, 0] == bone).numpy()]
            sole = foot[foot[:, 1] < 0.006]
            low = np.flatnonzero((vertices[:, 1] < 0.03) & (vertices[:, 0] * ball[0] > 0))
            self.soles.append(low)
            self.balls.append(ball)
            self.heels.append(np.array([ball[0], 0.0, sole[:, 2].min()]))

    def feet(
        self, frames: int, left: list[Step], right: list[Step], turns: float = 0.0
    ) -> tuple[FootPath, FootPath]:
        return (
            foot_path(frames, left, self.balls[0], self.heels[0], turns),
            foot_path(frames, right, self.balls[1], self.heels[1], turns),
        )

    def lowest(self, score: Score) -> list[np.ndarray]:
        """Return the height of the lowest point of each foot [F], m."""
        moved = score.transforms() @ self.unpose
        heights = []
        for sole in self.soles:
            joints = self.skinning.bone_joints[self.skinning.bones[sole]].numpy()
            weights = self.skinning.weights[sole].numpy().astype(float)
            rows = np.einsum("vs,fvsk->fvk", weights, moved[:, joints, 1, :])
            heights.append(((rows[..., :3] * self.vertices[sole]).sum(-1) + rows[..., 3]).min(1))
        return heights


def relaxed_hands(score: Score, amount: np.ndarray | float = 1.0) -> None:
    """Curl the fingers a little, more towards the small one: no living hand is flat."""
    for k, finger in enumerate(("index", "middle", "ring", "pinky")):
        for joint, curl in ((1, 0.16 + 0.05 * k), (2, 0.30 + 0.05 * k), (3, 0.18 + 0.03 * k)):
            score.add(f"both_{finger}_flex{joint}", curl * amount)
    score.add("both_thumb_flex2", 0.15 * amount)
    score.add("both_thumb_flex3", 0.20 * amount)


def breathe(score: Score, breaths: int, depth: float = 1.0) -> None:
    """Raise ribs and shoulders; whole breaths in a loop."""
    phase = TAU * breaths * np.arange(score.frames) / score.frames
    score.add("chest_bend", -0.016 * depth * np.sin(phase))
    score.add("both_clavicle_z", 0.018 * depth * np.sin(phase - 0.4))
    score.add("neck_bend", 0.010 * depth * np.sin(phase))


def drift(score: Score, seed: int, size: float = 1.0) -> None:
    """Add slow small movements of head and trunk: no living body is still."""
    rng = np.random.default_rng(seed)
    time = TAU * np.arange(score.frames) / score.frames
    for name, scale in (
        ("head_twist", 0.045), ("head_bend", 0.025), ("head_lean", 0.020), ("spine_lean", 0.010),
        ("chest_twist", 0.012), ("left_elbow", 0.02), ("right_elbow", 0.02),
    ):  # fmt: skip
        waves = sum(np.sin(k * time + rng.uniform(0, TAU)) / k for k in (2, 3, 5))
        score.add(name, size * scale * waves)


def lift_clavicles(score: Score) -> None:
    """Let the shoulder blade follow the raised arm: a third of the way beyond the horizontal."""
    for side in ("left", "right"):
        up, ahead = score.get(f"{side}_shoulder_z"), score.get(f"{side}_shoulder_x")
        raised = np.maximum(np.clip((up - 0.2) / 1.6, 0, 1), np.clip((ahead - 1.0) / 1.8, 0, 1))
        score.add(f"{side}_clavicle_z", 0.26 * soft(raised, 1.5))
        score.add(f"{side}_shoulder_z", -0.10 * np.clip((up - 0.2) / 1.6, 0, 1))


def balance(score: Score, stage: Stage, feet: tuple[FootPath, FootPath], over: float) -> np.ndarray:
    """Put the pelvis between the feet, `over` of the way to the supporting one.

    Returns the left foot's share of the weight [F].
    """
    share = weight_share(feet, 4.5)
    middles = []
    for path, ball, heel in zip(feet, stage.balls, stage.heels, strict=True):
        held = _hold(path)
        # The ankle, not the ball, is the support: it is behind the ball by a share of the foot.
        back = 0.55 * (ball[2] - heel[2])
        middles.append(
            held - back * np.stack([np.sin(path.yaw), 0 * path.yaw, np.cos(path.yaw)], 1)
        )
    lean = 0.5 + over * (share - 0.5)
    place = soft(lean[:, None] * middles[0] + (1 - lean)[:, None] * middles[1], 3.0)
    score.add("translate_x", place[:, 0] - stage.pelvis[0])
    score.add("translate_z", place[:, 2] - stage.pelvis[2])
    return share


def _hold(path: FootPath) -> np.ndarray:
    """Hold the foot's last place on the floor while it is in the air, then move to the next."""
    return soft(path.ball, 4.0)


def twist_hips(score: Score, feet: tuple[FootPath, FootPath], knees_out: float = 0.0) -> None:
    """Take most of a foot's turn against the pelvis from the hip."""
    heading = score.get("rotate_y")
    for name, sign, path in (("left", -1.0, feet[0]), ("right", 1.0, feet[1])):
        turn = np.angle(np.exp(1j * (path.yaw - heading)))
        score.add(f"{name}_hip_twist", soft(0.75 * sign * turn, 1.0) - knees_out)


def finish(
    stage: Stage, score: Score, feet: tuple[FootPath, FootPath], drop: np.ndarray
) -> np.ndarray:
    """Solve the legs; put the soles on the floor; check that every dof is within its limits.

    Shoes bend, so their lowest point varies by millimetres: the paths are lifted by the difference
    and solved again.
    """
    for attempt in range(3):
        missed = solve_legs(score, feet, drop)
        assert missed.max() < 1e-3, (missed.max(), missed.argmax())
        if attempt < 2:
            low = stage.lowest(score)
            feet = (_lift(feet[0], low[0]), _lift(feet[1], low[1]))
    limits = score.skeleton.dof_limits.numpy().astype(float)
    legs = [
        i for name, i in score.index.items() if "hip" in name or "knee" in name or "ankle" in name
    ]
    slack = np.full(len(limits), np.inf)
    slack[legs] = LEG_SLACK
    inside = (score.dofs >= limits[:, 0] - slack) & (score.dofs <= limits[:, 1] + slack)
    assert inside.all(), [
        (
            score.skeleton.dof_names[i],
            score.dofs[:, i].min(),
            score.dofs[:, i].max(),
            np.flatnonzero(~inside[:, i]),
        )
        for i in np.flatnonzero(~inside.all(0))
    ]
    return np.clip(score.dofs, limits[:, 0], limits[:, 1])


def _lift(path: FootPath, low: np.ndarray) -> FootPath:
    """Raise a foot that cuts the floor; lower one that should stand on it."""
    change = soft(np.where(path.planted, -low, np.maximum(-low, 0.0)), 1.0)
    return replace(path, ball=path.ball + change[:, None] * [0.0, 1.0, 0.0])

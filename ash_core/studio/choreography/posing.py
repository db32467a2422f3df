"""Pose tools: named dofs over time, planted feet, legs solved from the feet."""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import Skeleton

SIDES = ("Left", "Right")
STRETCHED = 0.996
"""Longest reach of a leg, as a share of thigh plus shin: knees never lock."""
LEG = ("hip_x", "hip_z", "knee", "ankle_x", "ankle_z", "ankle_twist")


@dataclass
class Score:
    """Dofs of a motion during composition, [F, D], by name. All curves wrap around."""

    skeleton: Skeleton
    frames: int
    dofs: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.dofs = np.zeros((self.frames, len(self.skeleton.dof_names)))
        self.index = {name: i for i, name in enumerate(self.skeleton.dof_names)}

    def add(self, name: str, values: np.ndarray | float) -> None:
        """Add to one dof; a name that starts with `both_` means left and right."""
        if name.startswith("both_"):
            for side in ("left_", "right_"):
                self.add(side + name[5:], values)
        else:
            self.dofs[:, self.index[name]] += values

    def get(self, name: str) -> np.ndarray:
        return self.dofs[:, self.index[name]]

    def transforms(self) -> np.ndarray:
        """Return T_body_joint [F, J, 4, 4], m."""
        return joint_transforms(self.skeleton, torch.from_numpy(self.dofs)).numpy()

    def joint(self, name: str) -> int:
        return self.skeleton.joint_names.index(name)


def curve(
    frames: int, keys: dict[float, float], soften: float = 2.0, late: float = 0.0
) -> np.ndarray:
    """Interpolate a looping curve through keys {frame: value} without overshoot, then soften it.

    late: frames of delay, for overlapping action.
    """
    times = np.array(sorted(keys))
    values = np.array([keys[t] for t in times])
    x = np.concatenate([times[-2:] - frames, times, times[:2] + frames])
    y = np.concatenate([values[-2:], values, values[:2]])
    x, first = np.unique(x, return_index=True)
    moment = (np.arange(frames) - late) % frames
    values_at_frames = PchipInterpolator(x, y[first])(moment)
    return gaussian_filter1d(values_at_frames, soften, mode="wrap") if soften else values_at_frames


def soft(values: np.ndarray, frames: float) -> np.ndarray:
    """Smooth a looping curve [F, ...] over some frames."""
    return gaussian_filter1d(values, frames, axis=0, mode="wrap")


def rise(t: np.ndarray) -> np.ndarray:
    """Rise from 0 to 1 without speed or acceleration at the ends (minimum jerk)."""
    t = np.clip(t, 0.0, 1.0)
    return t**3 * (10.0 - 15.0 * t + 6.0 * t * t)


@dataclass(frozen=True)
class Step:
    """Contact of a foot with the floor. Frames; the ball's place x, z in m; yaw in rad."""

    land: float
    lift: float
    x: float
    z: float
    yaw: float = 0.0
    heel_strike: float = 0.0
    """Pitch at landing, toes up."""
    push: float = 0.0
    """Pitch at lift-off, heel up."""
    roll_in: float = 3.0
    roll_out: float = 6.0
    """Duration of heel strike and push-off, frames."""
    clearance: float = 0.05
    """Height of the foot's swing after this contact, m."""


@dataclass(frozen=True)
class FootPath:
    """Path of a foot. `ball`: place of the toe joint; pitch: positive with the heel up."""

    ball: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    planted: np.ndarray
    """Mask [F] of frames on the floor."""


def rotate_y(angle: np.ndarray) -> np.ndarray:
    """Return rotation matrices [F, 3, 3]."""
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([c, o, s, o, o + 1, o, -s, o, c], -1).reshape(*np.shape(angle), 3, 3)


def rotate_x(angle: np.ndarray) -> np.ndarray:
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([o + 1, o, o, o, c, -s, o, s, c], -1).reshape(*np.shape(angle), 3, 3)


def foot_path(
    frames: int, steps: list[Step], ball: np.ndarray, heel: np.ndarray, turns: float = 0.0
) -> FootPath:
    """Join the contacts of one foot into a looping path.

    ball, heel [3]: the toe joint and the heel's edge at rest. turns: full turns that the yaw gains
    in one loop. A contact may extend beyond the end of the loop.
    """
    # Loop over contacts: each one and the swing after it.
    time = np.arange(frames, dtype=float)
    balls = np.zeros((frames, 3))
    yaw, pitch, planted = np.zeros(frames), np.zeros(frames), np.zeros(frames, bool)
    for k, step in enumerate(steps):
        after = steps[(k + 1) % len(steps)]
        wrap = frames if k + 1 == len(steps) else 0
        turn = 2 * np.pi * turns if wrap else 0.0
        span = after.land + wrap - step.land
        now = (time - step.land) % frames
        active = now < span
        stay = active & (now <= step.lift - step.land)
        swing = active & ~stay
        planted |= stay
        # Pitch: heel strike, push-off, then the swing to the next strike.
        strike = -step.heel_strike * (1 - rise(now / max(step.roll_in, 1e-6)))
        push = (
            step.push
            * rise((now - (step.lift - step.land) + step.roll_out) / max(step.roll_out, 1e-6))
            ** 1.5
        )
        u = (now - (step.lift - step.land)) / max(span - (step.lift - step.land), 1e-6)
        swing_pitch = step.push * (1 - rise(1.25 * u)) - after.heel_strike * rise(2.0 * u - 1.0)
        this_pitch = np.where(stay, strike + push, swing_pitch)
        # Yaw, with the full turns of earlier loops.
        loops = np.floor((time - step.land) / frames) * 2 * np.pi * turns
        this_yaw = step.yaw + np.where(swing, rise(u), 0.0) * (after.yaw + turn - step.yaw) + loops
        # Ball of the foot: in place, then in an arc to the next contact.
        flat = np.stack(
            [np.full(frames, step.x), np.full(frames, ball[1]), np.full(frames, step.z)], 1
        )
        goal = np.array([after.x, ball[1], after.z])
        path = flat + np.where(swing, rise(u), 0.0)[:, None] * (goal - flat)
        path[:, 1] += np.where(swing, step.clearance * np.sin(np.pi * np.clip(u, 0, 1)) ** 2, 0.0)
        # Toes up: the heel's edge stays in place, so the ball moves.
        turned = rotate_y(this_yaw) @ (rotate_x(np.minimum(this_pitch, 0.0)) - np.eye(3))
        path = path + turned @ (ball - heel)
        balls[active], yaw[active], pitch[active] = (
            path[active],
            this_yaw[active],
            this_pitch[active],
        )
    return FootPath(balls, yaw, pitch, planted)


def solve_legs(
    score: Score, feet: tuple[FootPath, FootPath], pelvis_drop: np.ndarray
) -> np.ndarray:
    """Solve the pelvis' height, legs and toes so that both feet follow their paths.

    Needs the root's other dofs and the hips' twist. The height is the greatest that both legs
    reach, smoothed, less `pelvis_drop` [F]. Returns the largest error of each frame, m.
    """
    rest = Score(score.skeleton, 1).transforms()[0]
    names = score.skeleton.joint_names
    ankles, rotations = [], []
    score.add("translate_y", -score.get("translate_y"))
    highest = np.full(score.frames, np.inf)
    posed = score.transforms()
    for side, path in zip(SIDES, feet, strict=True):
        hip, knee, foot, toe = (
            rest[names.index(side + part), :3, 3] for part in ("UpLeg_rx", "Leg", "Foot_rx", "Toe")
        )
        turn = rotate_y(path.yaw) @ rotate_x(path.pitch)
        ankle = path.ball + turn @ (foot - toe)
        ankles.append(ankle)
        rotations.append(turn)
        reach = STRETCHED * (np.linalg.norm(knee - hip) + np.linalg.norm(foot - knee))
        hips = posed[:, names.index(f"{side}UpLeg_rx"), :3, 3]
        beside = np.linalg.norm((ankle - hips)[:, [0, 2]], axis=1)
        allowed = ankle[:, 1] + np.sqrt(np.maximum(reach**2 - beside**2, 0.2**2)) - hips[:, 1]
        highest = np.minimum(highest, allowed)
        toes = np.maximum(path.pitch, 0.0)
        bent = toes * np.where(path.planted, 1.0, 0.7)
        score.dofs[:, score.index[f"{side.lower()}_toes"]] = bent
    lifted = minimum_filter1d(highest, 9, mode="wrap")
    score.add("translate_y", np.minimum(soft(lifted, 3.0), highest) - pelvis_drop)
    error = np.zeros(score.frames)
    for side, ankle, turn in zip(SIDES, ankles, rotations, strict=True):
        error = np.maximum(error, _solve_leg(score, side, ankle, turn))
    return error


def _solve_leg(score: Score, side: str, ankle: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Solve six dofs for the ankle's place and the foot's direction by Newton's method, all
    frames."""
    low = side.lower()
    columns = [score.index[f"{low}_{name}"] for name in LEG]
    chain = [j for j, name in enumerate(score.skeleton.joint_names)
             if name.startswith((f"{side}UpLeg", f"{side}Leg", f"{side}Foot"))]  # fmt: skip
    axes = score.skeleton.axes.numpy().astype(float)
    matrix = score.skeleton.dof_matrix.numpy().astype(float)
    end = score.joint(f"{side}Foot_ry")
    if not score.dofs[:, columns].any():  # otherwise a solution with nearly the same feet exists
        score.dofs[:, columns] = [0.25, 0.0, 0.5, 0.2, 0.0, 0.0]
    miss = np.zeros(score.frames)
    for _ in range(30):
        posed = score.transforms()
        offset = ankle - posed[:, end, :3, 3]
        twist = _rotation_vector(turn @ posed[:, end, :3, :3].transpose(0, 2, 1))
        miss = np.linalg.norm(offset, axis=1)
        if max(miss.max(), np.abs(twist).max()) < 1e-7:
            break
        jacobian = np.zeros((score.frames, 6, 6))
        for j in chain:
            axis = posed[:, j, :3, :3] @ axes[j]
            arm = posed[:, end, :3, 3] - posed[:, j, :3, 3]
            both = np.concatenate([np.cross(axis, arm), axis], axis=1)
            jacobian += both[:, :, None] * matrix[j, columns][None, None, :]
        goal = np.concatenate([offset, twist], axis=1)
        square = jacobian.transpose(0, 2, 1) @ jacobian + 1e-7 * np.eye(6)
        change = np.linalg.solve(square, (jacobian.transpose(0, 2, 1) @ goal[..., None]))[..., 0]
        size = np.abs(change).max(1, keepdims=True)
        score.dofs[:, columns] += change * np.minimum(1.0, 0.35 / np.maximum(size, 1e-9))
    return miss


def _rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Return axis times angle [F, 3]."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrix).as_rotvec()


def weight_share(feet: tuple[FootPath, FootPath], frames: float) -> np.ndarray:
    """Return the left foot's share of the weight [F]; it shifts before a foot lifts."""
    left, right = feet[0].planted.astype(float), feet[1].planted.astype(float)
    total = np.maximum(left + right, 1e-9)
    return soft(np.where(left + right > 0, left / total, 0.5), frames)

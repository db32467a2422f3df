"""Eyes over time: what they look at, how they jump there, and blinks.

A face without the dofs of `rig._face` stays as it is.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import Skeleton

SIDES = ("Left", "Right")
FAR_M = 3.0
"""Distance of what is looked at ahead."""
STAY = (14, 45)
"""Shortest and longest look at one thing, frames of 25 a second."""
HANDS_SHARE = 0.35
"""Share of the looks that go to a hand, where one is in view."""
IN_VIEW = 0.75
"""Cosine of the largest angle between the head's direction and a hand that is looked at."""
NEAR_M = 0.22
"""A hand that is closer to the eyes is not looked at."""
WANDER = (0.30, 0.12)
"""Spread of other looks about straight ahead: yaw and pitch, rad."""
BLINK_EVERY = (50, 110)
"""Shortest and longest time between blinks, frames."""
BLINK = (0.35, 1.0, 0.75, 0.35, 0.18)
"""Closure of the lids in the frames of a blink."""
CALM = 0.14
"""Closure between blinks: at rest the lids are as wide as surprise makes them."""


@dataclass(frozen=True)
class _Head:
    """Head and hands over a motion, body frame, m."""

    turn: np.ndarray
    """Orientation of the head [F, 3, 3]."""
    eyes: np.ndarray
    """Centres of the eyes [F, 2, 3]."""
    hands: np.ndarray
    """Middles of the hands [F, 2, 3]."""
    heading: np.ndarray
    """Direction of the pelvis about the vertical [F], rad."""


def has_gaze(skeleton: Skeleton) -> bool:
    return "left_eye_yaw" in skeleton.dof_names


def look(skeleton: Skeleton, dofs: np.ndarray, seed: int) -> np.ndarray:
    """Return a motion's dofs [F, D] with eyes that look somewhere, and blinks. 25 fps.

    Looks go ahead, aside or to a hand, each at a place that moves with the body's heading: the eyes
    turn against the head. The motion may be played in a loop.
    """
    if not has_gaze(skeleton):
        return dofs
    head, rng = _head(skeleton, dofs), np.random.default_rng(seed)
    targets, jumps = _targets(head, rng)
    played = dofs.copy()
    names = {name: i for i, name in enumerate(skeleton.dof_names)}
    limits = skeleton.dof_limits.numpy().astype(float)
    for n, side in enumerate(SIDES):
        angles = aim(head.turn, head.eyes[:, n], targets)
        for axis, name in zip(("yaw", "pitch"), angles.T, strict=True):
            column = names[f"{side.lower()}_eye_{axis}"]
            played[:, column] = np.clip(name, *limits[column])
    closed = _blinks(len(dofs), jumps, rng)
    for side in SIDES:
        column = names[f"{side.lower()}_blink"]
        played[:, column] = np.clip(closed, *limits[column])
    return played


def aim(turn: np.ndarray, eyes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the (yaw, pitch) [F, 2] that point eyes [F, 3] at targets [F, 3], rad.

    turn: orientation of the head [F, 3, 3].
    """
    x, y, z = np.einsum("fji,fj->if", turn, targets - eyes)
    return np.stack([np.arctan2(x, z), -np.arctan2(y, np.hypot(x, z))], 1)


def _head(skeleton: Skeleton, dofs: np.ndarray) -> _Head:
    posed = joint_transforms(skeleton, torch.from_numpy(dofs)).numpy()
    names = {name: i for i, name in enumerate(skeleton.joint_names)}
    place = lambda joint: posed[:, names[joint], :3, 3]  # noqa: E731
    hands = [(place(f"{s}Hand_ry") + place(f"{s}Middle1_rx")) / 2 for s in SIDES]
    ahead = posed[:, names["Root_rx"], :3, 2]
    return _Head(
        turn=posed[:, names["Head_rx"], :3, :3],
        eyes=np.stack([place(f"{s}Eye_rx") for s in SIDES], 1),
        hands=np.stack(hands, 1),
        heading=np.arctan2(ahead[:, 0], ahead[:, 2]),
    )


def _targets(head: _Head, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Return what is looked at in each frame [F, 3], m, and the frames of the jumps."""
    count = len(head.heading)
    middle = head.eyes.mean(1)
    targets, jumps, start = np.zeros((count, 3)), [], 0
    while start < count:
        stop = min(count, start + int(rng.integers(*STAY)))
        if count - stop < STAY[0]:
            stop = count
        frames = np.arange(start, stop)
        hand = _hand_in_view(head, frames, rng)
        yaw, pitch = rng.normal(0.0, 1.0, 2) * WANDER
        if rng.uniform() < HANDS_SHARE and hand is not None:
            targets[frames] = head.hands[frames, hand]
        else:
            # The first and the last look go ahead, so that a loop has no seam.
            aside = 0.0 if start == 0 or stop == count else 1.0
            yaw = head.heading[frames] + aside * yaw + 0.35 * _head_yaw(head, frames)
            down = aside * pitch + 0.04
            way = np.stack([np.sin(yaw), np.full(len(frames), -np.tan(down)), np.cos(yaw)], 1)
            targets[frames] = middle[frames] + FAR_M * way
        jumps.append(start)
        start = stop
    return targets, jumps


def _head_yaw(head: _Head, frames: np.ndarray) -> float:
    """Return the mean turn of the head against the pelvis over some frames, rad."""
    ahead = head.turn[frames, :, 2]
    yaw = np.arctan2(ahead[:, 0], ahead[:, 2]) - head.heading[frames]
    return float(np.angle(np.exp(1j * yaw).mean()))


def _hand_in_view(head: _Head, frames: np.ndarray, rng: np.random.Generator) -> int | None:
    """Return a hand that the head faces during a look, 0 left or 1 right."""
    way = head.hands[frames] - head.eyes[frames].mean(1)[:, None]
    distance = np.linalg.norm(way, axis=-1)
    ahead = np.einsum("fhk,fk->fh", way, head.turn[frames, :, 2]) / distance
    near = np.flatnonzero((ahead.min(0) > IN_VIEW) & (distance.min(0) > NEAR_M))
    return int(rng.choice(near)) if len(near) else None


def _blinks(count: int, jumps: list[int], rng: np.random.Generator) -> np.ndarray:
    """Return how far the lids are closed in each frame [F], 0 to 1."""
    closed, frame = np.full(count, CALM), int(rng.integers(*BLINK_EVERY)) // 2
    while frame + len(BLINK) < count:
        # A blink hides a jump of the eyes that is near.
        near = min(jumps, key=lambda jump: abs(jump - frame))
        if abs(near - frame) < 10 and 0 < near < count - len(BLINK):
            frame = near
        closed[frame : frame + len(BLINK)] = BLINK
        frame += int(rng.integers(*BLINK_EVERY))
    return closed

"""Three looping motions for the actor: walk, dance, stretch. Written as curves and footsteps.

Feet come first: they are placed on the floor (y = 0) and the legs are solved from them.
"""

from collections.abc import Mapping

import numpy as np

from ash_core.records import Skeleton, Skinning
from ash_core.studio.choreography.dance import dance
from ash_core.studio.choreography.gaze import look
from ash_core.studio.choreography.posing import FootPath, Score, Step, curve, soft
from ash_core.studio.choreography.stage import (
    HANG,
    TAU,
    Stage,
    balance,
    breathe,
    drift,
    finish,
    lift_clavicles,
    relaxed_hands,
    twist_hips,
)


def make_motions(
    skeleton: Skeleton, skinning: Skinning, vertices: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Make the dofs [F, D] of each motion; the root's translation in m, angles in rad; 25 fps."""
    stage = Stage(skeleton, skinning, vertices)
    motions = {"walk": walk(stage), "dance": dance(stage), "stretch": stretch(stage)}
    return {name: look(skeleton, dofs, seed) for seed, (name, dofs) in enumerate(motions.items())}


def walk(stage: Stage, rounds: int = 2) -> np.ndarray:
    """Walk rounds of a circle of 1.0 m radius, six strides each, to the left."""
    # Path: a circle, by frames.
    stride, strides, radius = 29, 6 * rounds, 1.0
    frames = stride * strides
    time = np.arange(frames)
    heading = lambda frame: TAU * rounds * np.asarray(frame) / frames  # noqa: E731

    def place(frame: float, aside: float) -> tuple[float, float]:
        yaw, r = heading(frame), radius - aside
        return float(-r * np.cos(yaw)), float(r * np.sin(yaw))

    # Footsteps on both sides of the path.
    steps: list[list[Step]] = [[], []]
    for side, sign in ((0, 1.0), (1, -1.0)):
        for k in range(strides):
            land = stride * (k + 0.5 * side)
            under = land + 0.34 * stride
            x, z = place(under, sign * 0.092)
            yaw = float(heading(under)) + sign * 0.09
            steps[side].append(
                Step(land, land + 0.61 * stride, x + 0.06 * np.sin(yaw), z + 0.06 * np.cos(yaw),
                     yaw=yaw, heel_strike=0.30, push=0.72, clearance=0.065,
                     roll_in=0.13 * stride, roll_out=0.27 * stride)
            )  # fmt: skip
    feet = stage.feet(frames, steps[0], steps[1], turns=rounds)
    score = Score(stage.skeleton, frames)
    # Pelvis along the path, swaying over the supporting foot.
    phase = TAU * time / stride  # 0: the left heel strikes
    sway = 0.022 * np.sin(phase - 0.35)
    x, z = np.array([place(float(t), 0.0) for t in time]).T
    score.add("translate_x", x + sway * np.cos(heading(time)) - stage.pelvis[0])
    score.add("translate_z", z - sway * np.sin(heading(time)) - stage.pelvis[2])
    score.add("rotate_y", heading(time) - 0.085 * np.cos(phase))
    score.add("rotate_z", -0.045 * np.sin(phase - 0.1) - 0.03)
    score.add("rotate_x", 0.045 + 0.012 * np.cos(2 * phase))
    # Trunk and head counter the pelvis, later the higher up.
    score.add("spine_twist", 0.10 * np.cos(phase - 0.2))
    score.add("chest_twist", 0.10 * np.cos(phase - 0.35) + 0.03)
    score.add("spine_lean", 0.045 * np.sin(phase - 0.2) + 0.012)
    score.add("chest_lean", 0.012 * np.sin(phase - 0.5))
    score.add("chest_bend", 0.02 * np.cos(2 * phase - 0.6) - 0.02)
    score.add("neck_twist", -0.045 * np.cos(phase - 0.5) + 0.05)
    score.add("head_twist", -0.055 * np.cos(phase - 0.6) + 0.08)
    score.add("head_bend", -0.03 - 0.012 * np.cos(2 * phase - 0.9))
    # Arms swing against the legs.
    for side, sign in (("left", -1.0), ("right", 1.0)):
        swing = sign * np.cos(phase - 0.25)
        score.add(f"{side}_shoulder_x", 0.36 * swing + 0.02)
        score.add(f"{side}_shoulder_z", HANG + 0.06 + 0.03 * np.abs(swing))
        score.add(f"{side}_shoulder_twist", 0.22 + 0.06 * swing)
        late = sign * np.cos(phase - 0.75)
        score.add(f"{side}_elbow", 0.28 + 0.20 * np.clip(late, -0.6, 1))
        score.add(f"{side}_forearm_twist", 0.25)
        score.add(f"{side}_wrist_flex", 0.10 - 0.10 * sign * np.cos(phase - 1.25))
        score.add(f"{side}_clavicle_y", 0.05 * swing)
    # Details of a living body, then the legs.
    relaxed_hands(score)
    breathe(score, 4)
    drift(score, 1, 0.6)
    twist_hips(score, feet)
    return finish(stage, score, feet, np.full(frames, 0.004))


def stretch(stage: Stage) -> np.ndarray:
    """Reach up on the toes, bend to both sides, fold forward, roll up, loosen the shoulders."""
    frames = 400
    time = np.arange(frames)
    apart = 0.15
    # Feet: they stay in place and rise on tiptoe.
    tiptoe = curve(frames, {0: 0, 45: 0, 78: 1.0, 100: 1.0, 128: 0, 399: 0}, soften=3)
    left = [Step(0, frames, apart, 0.10, 0.16)]
    right = [Step(0, frames, -apart, 0.10, -0.16)]
    feet = stage.feet(frames, left, right)
    still = np.ones(frames, bool)
    feet = (
        FootPath(feet[0].ball, feet[0].yaw, 0.42 * tiptoe, still),
        FootPath(feet[1].ball, feet[1].yaw, 0.42 * tiptoe, still),
    )
    score = Score(stage.skeleton, frames)
    keys = lambda table, **options: curve(frames, table, **({"soften": 5.0} | options))  # noqa: E731
    # Curves of the exercises: side bend, fold, roll, reach up.
    bend = keys({0: 0, 130: 0, 165: 1, 185: 1, 205: 0, 240: -1, 260: -1, 285: 0, 399: 0})
    fold = keys({0: 0, 278: 0, 318: 1, 338: 1, 372: 0.0, 399: 0}, soften=6)
    roll = keys({0: 0, 278: 0, 312: 1, 345: 1, 385: 0.0, 399: 0}, soften=6)
    up = keys({0: 0, 30: 0, 75: 1, 100: 1, 128: 0.75, 140: 0.15, 290: 0.05, 300: 0, 399: 0})
    # Pelvis, trunk and head.
    balance(score, stage, feet, 0.0)
    score.add("translate_x", -0.055 * bend + 0.008 * np.sin(TAU * 3 * time / frames))
    score.add(
        "translate_z",
        0.045 * soft(tiptoe, 3) - 0.085 * fold + 0.006 * np.sin(TAU * 2 * time / frames),
    )
    score.add("rotate_z", 0.07 * bend)
    score.add("rotate_x", 0.62 * fold + 0.02)
    score.add("spine_bend", 0.62 * roll - 0.06 * up)
    score.add("chest_bend", 0.32 * roll - 0.12 * up)
    score.add("spine_lean", -0.30 * bend)
    score.add("chest_lean", -0.24 * np.roll(bend, 2))
    score.add("neck_lean", -0.12 * np.roll(bend, 4))
    score.add("head_lean", -0.10 * np.roll(bend, 5))
    score.add("neck_bend", 0.30 * np.roll(roll, 4) - 0.16 * up)
    score.add("head_bend", 0.28 * np.roll(roll, 6) - 0.22 * np.roll(up, 4))
    score.add(
        "head_twist",
        keys(
            {
                0: 0,
                15: 0.25,
                40: 0,
                130: 0,
                165: 0.12,
                205: 0,
                240: -0.12,
                285: 0,
                380: -0.25,
                399: 0,
            }
        ),
    )
    # Arms: both overhead; then the outer arm over the head, the other on the thigh.
    over_left = keys({0: 0, 140: 0, 205: 0.0, 238: 1, 262: 1, 290: 0, 399: 0})
    over_right = keys({0: 0, 130: 0, 163: 1, 187: 1, 210: 0, 399: 0})
    for side, over in (("left", over_left), ("right", over_right)):
        high = np.maximum(up, over)
        score.add(f"{side}_shoulder_z", HANG + (2.12 - 0.05 * over) * high + 0.18 * fold)
        score.add(
            f"{side}_shoulder_x", 0.25 * up * (1 - up) * 4 * 0.4 + 0.10 + 1.05 * fold + 0.12 * high
        )
        score.add(
            f"{side}_elbow",
            0.22 + 0.35 * 4 * high * (1 - high) + 0.30 * over - 0.08 * up - 0.10 * fold,
        )
        score.add(f"{side}_shoulder_twist", 0.20 - 0.55 * high)
        score.add(f"{side}_forearm_twist", 0.25)
        score.add(f"{side}_wrist_flex", -0.20 * np.roll(up, 5) + 0.15 * fold)
        shrug = keys({0: 0, 352: 0, 380: 0, 388: 0.0, 399: 0})
        score.add(
            f"{side}_clavicle_z",
            shrug + 0.10 * keys({0: 0, 8: 0.9, 18: 0, 30: 0, 399: 0}, soften=3),
        )
        score.add(f"{side}_clavicle_y", 0.25 * fold - 0.08 * up)
    # Details of a living body, then the legs.
    relaxed_hands(score, 1.1 - 0.75 * np.roll(up, 3) - 0.3 * fold)
    lift_clavicles(score)
    breathe(score, 4, 1.6)
    drift(score, 3, 0.7)
    twist_hips(score, feet)
    return finish(stage, score, feet, 0.003 + 0.02 * fold)

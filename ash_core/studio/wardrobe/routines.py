"""Motions of the wardrobe's actors, 20 s each: eight for training, two never seen in training.

Feet come first, as in `motions`: they are placed on the floor and the legs are solved from them.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.interpolate import CubicSpline

from ash_core.records import Skeleton, Skinning
from ash_core.studio.choreography.dance import dance
from ash_core.studio.choreography.gaze import look
from ash_core.studio.choreography.motions import stretch, walk
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

FRAMES = 500
"""Number of frames: 20 s at 25 frames a second."""
WIDE = 0.14
"""Half the distance between the feet in a wide stance, m."""
ARMS_CLEAR = 0.20
"""Angle added to hanging arms so that hands and sleeves clear a skirt or coat, rad."""


def make_routines(
    skeleton: Skeleton, skinning: Skinning, vertices: np.ndarray, only: tuple[str, ...] = ()
) -> Mapping[str, Mapping[str, np.ndarray]]:
    """Make `training` and `unseen`: name to dofs [F, D]; m and rad, 25 fps. only: selected
    names."""
    stage = Stage(skeleton, skinning, vertices)
    groups: dict[str, dict[str, Callable[[Stage], np.ndarray]]] = {
        "training": {
            "walk": lambda s: walk(s, rounds=3),
            "dance": lambda s: slower(dance(s), FRAMES),
            "stretch": lambda s: slower(stretch(s), FRAMES),
            "twist": twist,
            "boxing": boxing,
            "squats": squats,
            "jacks": jacks,
            "wave": wave,
        },
        "unseen": {"march": march, "freestyle": freestyle},
    }
    return {
        kind: {
            name: look(skeleton, clear_arms(skeleton, make(stage)), seed)
            for seed, (name, make) in enumerate(group.items(), start=10)
            if not only or name in only
        }
        for kind, group in groups.items()
    }


def slower(dofs: np.ndarray, frames: int) -> np.ndarray:
    """Stretch a loop over more frames. The heading may gain whole turns."""
    count = len(dofs)
    last = dofs[:1].copy()
    last[0, 3] += TAU * round((dofs[-1, 3] - dofs[0, 3]) / TAU)
    spline = CubicSpline(np.arange(count + 1), np.concatenate([dofs, last]), axis=0)
    return spline(np.arange(frames) * count / frames)


def clear_arms(skeleton: Skeleton, dofs: np.ndarray) -> np.ndarray:
    """Move hanging arms a little away from the body, raised ones not. Within all limits."""
    dofs = dofs.copy()
    for side in ("left", "right"):
        column = skeleton.dof_names.index(f"{side}_shoulder_z")
        hanging = np.clip((0.2 - dofs[:, column]) / 0.6, 0.0, 1.0)
        dofs[:, column] += ARMS_CLEAR * soft(hanging, 2)
    limits = skeleton.dof_limits.numpy().astype(float)
    return np.clip(dofs, limits[:, 0], limits[:, 1])


def _standing(stage: Stage, apart: float = 0.11, splay: float = 0.12) -> tuple[Score, tuple]:
    """Make a score with planted feet."""
    left = [Step(0, FRAMES, apart, 0.09, splay)]
    right = [Step(0, FRAMES, -apart, 0.09, -splay)]
    return Score(stage.skeleton, FRAMES), stage.feet(FRAMES, left, right)


def _close(
    stage: Stage, score: Score, feet: tuple[FootPath, FootPath], drop, seed: int,
    hands: np.ndarray | float = 1.0,
) -> np.ndarray:  # fmt: skip
    """Animate the rest of the body; solve the legs from the feet."""
    relaxed_hands(score, hands)
    lift_clavicles(score)
    breathe(score, 6)
    drift(score, seed, 0.8)
    twist_hips(score, feet)
    return finish(stage, score, feet, drop)


def _beats(period: int) -> np.ndarray:
    """Return the phase [F] of a repetition by frames; whole periods in the loop."""
    count = round(FRAMES / period)
    return TAU * count * np.arange(FRAMES) / FRAMES


def _keys(table: Mapping[float, float], soften: float = 5.0) -> np.ndarray:
    """Interpolate a curve through keys in seconds."""
    return curve(FRAMES, {25 * s: v for s, v in table.items()}, soften=soften)


def twist(stage: Stage) -> np.ndarray:
    """Twist hips and shoulders against each other, slow, then fast: skirts are made for it."""
    score, feet = _standing(stage, WIDE, 0.20)
    fast = _keys({0: 0.0, 6: 0.0, 8: 1.0, 14: 1.0, 16: 0.0, 19.9: 0.0}, soften=12)
    rate = 0.42 + 0.50 * fast  # turns a second
    total = rate.sum() / 25
    phase = TAU * np.cumsum(rate / 25) * round(total) / total
    size = 0.8 + 0.2 * fast
    swing = np.sin(phase) * size
    balance(score, stage, feet, 0.0)
    score.add("translate_x", 0.020 * np.sin(phase - 0.6))
    score.add("rotate_y", 0.42 * swing)
    score.add("rotate_x", 0.04)
    score.add("spine_twist", 0.22 * np.sin(phase - 0.3) * size)
    score.add("chest_twist", 0.20 * np.sin(phase - 0.5) * size)
    score.add("neck_twist", -0.35 * np.sin(phase - 0.3) * size)
    score.add("head_twist", -0.25 * np.sin(phase - 0.4) * size)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        out = np.sin(phase - 0.9)
        score.add(f"{side}_shoulder_z", HANG + 0.62 + 0.12 * fast + 0.10 * sign * out)
        score.add(f"{side}_shoulder_x", 0.22 + 0.38 * sign * out)
        score.add(f"{side}_elbow", 0.85 + 0.25 * sign * np.sin(phase - 1.3))
        score.add(f"{side}_shoulder_twist", 0.2)
        score.add(f"{side}_forearm_twist", 0.25)
    return _close(stage, score, feet, 0.030 + 0.012 * np.cos(2 * phase), 11)


def boxing(stage: Stage) -> np.ndarray:
    """Box: a guard; left and right straights, a hook, an uppercut; weaving in between."""
    left = [Step(0, FRAMES, 0.13, 0.22, 0.0)]
    right = [Step(0, FRAMES, -0.13, -0.08, -0.55)]
    feet = stage.feet(FRAMES, left, right)
    score = Score(stage.skeleton, FRAMES)
    bounce = _beats(13)
    jab = _blows((1.6, 2.3, 5.2, 8.6, 9.2, 12.8, 15.9, 16.5))
    cross = _blows((2.8, 5.8, 9.8, 13.4, 17.1))
    hook = _blows((6.7, 14.3), 4.0)
    weave = _keys({0: 0, 3.4: 0, 3.9: 1, 4.5: -1, 5.0: 0, 10.4: 0, 11: -1, 11.7: 1, 12.3: 0,
                   17.8: 0, 18.4: 1, 19: -0.6, 19.9: 0}, soften=4)  # fmt: skip
    balance(score, stage, feet, 0.0)
    turn = -0.42 + 0.30 * cross - 0.16 * jab - 0.35 * hook
    score.add("rotate_y", 0.45 * soft(turn, 1.5))
    score.add("spine_twist", 0.30 * turn)
    score.add("chest_twist", 0.45 * turn)
    score.add("head_twist", -0.65 * turn)
    score.add("neck_twist", -0.3 * turn)
    score.add("translate_x", 0.07 * weave)
    score.add("translate_z", 0.03 * (jab + cross))
    score.add("spine_lean", -0.22 * weave)
    score.add("chest_lean", -0.10 * np.roll(weave, 2))
    score.add("spine_bend", 0.14 + 0.16 * np.abs(weave))
    score.add("chest_bend", 0.10)
    score.add("head_bend", -0.10)
    for side, blow, other in (("left", jab, cross), ("right", cross, jab)):
        score.add(f"{side}_shoulder_x", 0.72 + 0.70 * blow - 0.05 * other)
        score.add(f"{side}_shoulder_z", HANG + 0.22 + 0.15 * blow)
        score.add(f"{side}_elbow", 2.05 - 1.85 * blow)
        score.add(f"{side}_shoulder_twist", 0.42 - 0.35 * blow)
        score.add(f"{side}_forearm_twist", 0.4 + 0.6 * blow)
        score.add(f"{side}_clavicle_y", 0.25 * blow)
    score.add("left_shoulder_z", 0.95 * hook)
    score.add("left_elbow", -0.55 * hook)
    drop = 0.055 + 0.012 * np.cos(bounce) + 0.07 * np.abs(weave)
    return _close(stage, score, feet, drop, 12, 2.6)


def _blows(seconds: tuple[float, ...], width: float = 3.3) -> np.ndarray:
    """Return a curve of quick there-and-backs."""
    away = (np.arange(FRAMES) - 25 * np.array(seconds)[:, None]) / width
    return np.exp(-(away**2)).sum(0)


def squats(stage: Stage) -> np.ndarray:
    """Squat with the arms ahead, deeper each time; one hold at the bottom."""
    score, feet = _standing(stage, WIDE + 0.02, 0.42)
    down = _keys({0: 0, 1.0: 0, 2.2: 0.6, 3.4: 0, 4.4: 0, 5.7: 0.8, 7.0: 0, 8.0: 0, 9.4: 1.0,
                  10.8: 0, 11.6: 0, 13.0: 1.0, 15.6: 1.0, 17.2: 0, 19.9: 0})  # fmt: skip
    balance(score, stage, feet, 0.0)
    score.add("translate_z", -0.13 * down)
    score.add("rotate_x", 0.42 * down + 0.02)
    score.add("spine_bend", 0.20 * down)
    score.add("chest_bend", -0.10 * down)
    score.add("neck_bend", -0.22 * down)
    score.add("head_bend", -0.22 * down)
    for side in ("left", "right"):
        score.add(f"{side}_shoulder_x", 1.55 * down + 0.05)
        score.add(f"{side}_shoulder_z", HANG + 0.10 + 0.22 * down)
        score.add(f"{side}_elbow", 0.25 + 0.12 * down)
        score.add(f"{side}_forearm_twist", 0.25)
        score.add(f"{side}_shoulder_twist", 0.25)
    return _close(stage, score, feet, 0.004 + 0.34 * down, 13)


def jacks(stage: Stage) -> np.ndarray:
    """Step feet apart and together, arms up and down: a jumping jack without the jump."""
    period = 50
    left, right = [], []
    for k in range(FRAMES // period):
        t = k * period
        hop = {"clearance": 0.05, "push": 0.25, "roll_out": 4.0}
        left += [Step(t + 10, t + 26, 0.30, 0.09, 0.22, **hop),
                 Step(t + 34, t + period + 2, 0.10, 0.09, 0.12, **hop)]  # fmt: skip
        right += [Step(t + 17, t + 33, -0.30, 0.09, -0.22, **hop),
                  Step(t + 41, t + period + 9, -0.10, 0.09, -0.12, **hop)]  # fmt: skip
    feet = stage.feet(FRAMES, left, right)
    score = Score(stage.skeleton, FRAMES)
    balance(score, stage, feet, 0.55)
    phase = _beats(period)
    up = 0.5 - 0.5 * np.cos(phase - 0.45)
    score.add("spine_lean", 0.05 * np.sin(phase))
    score.add("chest_bend", -0.06 * up)
    score.add("head_bend", -0.10 * up)
    for side, late in (("left", 0.0), ("right", 0.12)):
        high = 0.5 - 0.5 * np.cos(phase - 0.45 - late)
        score.add(f"{side}_shoulder_z", HANG + 0.02 + 2.25 * high)
        score.add(f"{side}_shoulder_x", 0.12 + 0.10 * high)
        score.add(f"{side}_elbow", 0.22 + 0.30 * np.sin(np.pi * high))
        score.add(f"{side}_shoulder_twist", 0.20 - 0.5 * high)
        score.add(f"{side}_forearm_twist", 0.25)
    return _close(stage, score, feet, 0.020 + 0.014 * np.cos(2 * phase), 14)


def wave(stage: Stage) -> np.ndarray:
    """Look around; wave with one hand, the other, both; bow; put hands on the hips."""
    score, feet = _standing(stage)
    time = np.arange(FRAMES)
    right = _keys(
        {0: 0, 1.6: 0, 2.6: 1, 5.0: 1, 6.0: 0, 12.2: 0, 13.2: 1, 15.4: 1, 16.4: 0, 19.9: 0}
    )
    left = _keys(
        {0: 0, 7.0: 0, 8.0: 1, 10.4: 1, 11.4: 0, 12.4: 0, 13.4: 1, 15.2: 1, 16.2: 0, 19.9: 0}
    )
    bow = _keys({0: 0, 16.4: 0, 17.6: 1, 18.2: 1, 19.4: 0, 19.9: 0})
    look = _keys(
        {0: 0, 0.9: 0.8, 2.2: 0.2, 4: 0, 6.2: -0.9, 7.4: -0.3, 9: 0.1, 11.4: 0.7, 12.6: 0, 19.9: 0}
    )
    shift = _keys({0: 0.0, 1.5: 0.6, 6: -0.6, 11: 0.6, 15.5: 0, 19.9: 0}, soften=9)
    balance(score, stage, feet, 0.0)
    score.add("translate_x", 0.045 * shift)
    score.add("rotate_z", 0.05 * shift)
    score.add("spine_lean", -0.09 * shift)
    score.add("rotate_y", 0.10 * np.roll(look, 5))
    score.add("chest_twist", 0.28 * np.roll(look, 3))
    score.add("neck_twist", 0.35 * look)
    score.add("head_twist", 0.55 * look)
    score.add("rotate_x", 0.40 * bow + 0.01)
    score.add("spine_bend", 0.42 * bow)
    score.add("chest_bend", 0.20 * bow)
    score.add("head_bend", 0.25 * bow - 0.05)
    score.add("translate_z", -0.07 * bow)
    flap = np.sin(TAU * 1.6 * time / 25)
    for side, raised in (("left", left), ("right", right)):
        score.add(f"{side}_shoulder_z", HANG + 0.10 + 1.15 * raised + 0.12 * bow)
        score.add(f"{side}_shoulder_x", 0.10 + 0.45 * raised + 0.35 * bow)
        score.add(f"{side}_elbow", 0.28 + raised * (1.35 + 0.28 * flap))
        score.add(f"{side}_shoulder_twist", 0.25 - raised * 0.95)
        score.add(f"{side}_forearm_twist", 0.25 - 0.2 * raised)
        score.add(f"{side}_wrist_tilt", 0.25 * raised * np.roll(flap, 3))
    return _close(stage, score, feet, 0.004 + 0.02 * bow, 15, 1.0 - 0.6 * np.maximum(left, right))


def march(stage: Stage) -> np.ndarray:
    """March on the spot, knees high, arms swinging, with one full turn."""
    period = 50
    count = FRAMES // period
    left, right = [], []
    step = {"clearance": 0.24, "push": 0.30, "roll_out": 4.0}
    for k in range(count):
        t = k * period
        for side, sign, late in ((left, 1.0, 0), (right, -1.0, period // 2)):
            yaw = TAU * (t + late + 12) / FRAMES
            x, z = sign * 0.09 * np.cos(yaw), -sign * 0.09 * np.sin(yaw)
            x, z = x + 0.07 * np.sin(yaw), z + 0.07 * np.cos(yaw)
            side.append(Step(t + late, t + late + 29, x, z, yaw + sign * 0.06, **step))
    feet = stage.feet(FRAMES, left, right, turns=1)
    score = Score(stage.skeleton, FRAMES)
    phase = _beats(period)
    heading = TAU * np.arange(FRAMES) / FRAMES
    score.add("rotate_y", heading - 0.06 * np.cos(phase))
    balance(score, stage, feet, 0.75)
    score.add("rotate_z", -0.04 * np.sin(phase))
    score.add("rotate_x", 0.03)
    score.add("chest_twist", 0.16 * np.cos(phase - 0.3))
    score.add("head_twist", 0.10)
    for side, sign in (("left", -1.0), ("right", 1.0)):
        swing = sign * np.cos(phase - 0.9)
        score.add(f"{side}_shoulder_x", 0.25 + 0.62 * swing)
        score.add(f"{side}_shoulder_z", HANG + 0.10)
        score.add(f"{side}_elbow", 0.95 + 0.45 * swing)
        score.add(f"{side}_shoulder_twist", 0.25)
        score.add(f"{side}_forearm_twist", 0.3)
    return _close(stage, score, feet, 0.012 + 0.008 * np.cos(2 * phase), 16, 1.4)


def freestyle(stage: Stage) -> np.ndarray:
    """Sway, reach to each side, curtsy, whirl the hips, cross the arms."""
    score, feet = _standing(stage, WIDE, 0.25)
    sway = np.sin(_beats(42))
    reach_left = _keys({0: 0, 3.0: 0, 4.2: 1, 5.0: 1, 6.2: 0, 19.9: 0})
    reach_right = _keys({0: 0, 6.4: 0, 7.6: 1, 8.4: 1, 9.6: 0, 19.9: 0})
    curtsy = _keys({0: 0, 9.8: 0, 11: 1, 11.8: 1, 13: 0, 19.9: 0})
    whirl = _keys({0: 0, 13.2: 0, 14: 1, 14.7: -1, 15.4: 1, 16.1: -1, 16.8: 0, 19.9: 0}, soften=4)
    crossed = _keys({0: 0, 17.0: 0, 18.0: 1, 18.9: 1, 19.7: 0, 19.9: 0})
    calm = 1.0 - np.maximum.reduce([reach_left, reach_right, curtsy, np.abs(whirl)])
    sway = sway * soft(np.clip(calm, 0, 1), 6)
    balance(score, stage, feet, 0.0)
    lean = reach_left - reach_right
    score.add("translate_x", 0.06 * sway + 0.09 * lean)
    score.add("rotate_z", 0.06 * sway - 0.10 * lean)
    score.add("spine_lean", -0.12 * sway - 0.24 * lean)
    score.add("chest_lean", -0.06 * np.roll(sway, 2) - 0.16 * lean)
    score.add("rotate_y", 0.34 * whirl + 0.08 * sway)
    score.add("spine_twist", 0.30 * np.roll(whirl, 2))
    score.add("chest_twist", 0.25 * np.roll(whirl, 4) + 0.20 * lean)
    score.add("head_twist", 0.30 * lean - 0.3 * whirl)
    score.add("rotate_x", 0.20 * curtsy)
    score.add("spine_bend", 0.25 * curtsy)
    score.add("head_bend", 0.20 * curtsy)
    for side, sign, reach in (("left", 1.0, reach_left), ("right", -1.0, reach_right)):
        score.add(f"{side}_shoulder_z", HANG + 0.12 + 1.75 * reach + 0.55 * curtsy
                  + 0.5 * np.abs(whirl) + 0.10 * sign * sway)  # fmt: skip
        score.add(f"{side}_shoulder_x", 0.12 + 0.25 * sign * sway + 0.75 * crossed)
        score.add(f"{side}_elbow", 0.35 + 0.75 * curtsy + 0.4 * np.abs(sway) + 1.1 * crossed)
        score.add(f"{side}_shoulder_twist", 0.25 - 0.4 * reach + 0.3 * crossed)
        score.add(f"{side}_forearm_twist", 0.3)
    return _close(stage, score, feet, 0.010 + 0.13 * curtsy + 0.02 * np.abs(sway), 17)

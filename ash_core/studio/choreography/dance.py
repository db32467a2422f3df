"""The dance: side steps, knee lifts, a turn, disco points, both arms up, home."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ash_core.studio.choreography.posing import Score, Step, curve, soft
from ash_core.studio.choreography.stage import (
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

ARMS = {
    "left_shoulder_x": (
        0.30, 0.10, 0.55, 0.10, 0.50, 0.10, 0.20, 0.30,
        1.90, 0.40, 0.30, 0.30, 0.40, 0.30, 0.35, 0.40,
        0.30, 0.25, 0.50, 0.50, 0.25, 0.30, 0.30, 0.20,
    ),
    "left_shoulder_z": (
        -0.45, 0.45, -0.40, 0.45, -0.40, 0.90, -0.40, -0.30,
        0.25, -0.40, 0.20, -0.30, -0.30, 0.75, 0.80, 0.30,
        -0.40, 1.70, 0.10, -0.45, 0.10, 1.80, 1.70, 0.20,
    ),
    "left_elbow": (
        1.30, 0.70, 1.50, 0.70, 1.50, 0.50, 1.20, 1.40,
        0.50, 1.30, 1.20, 1.30, 1.20, 0.35, 0.35, 1.00,
        1.20, 0.15, 1.30, 0.80, 1.30, 0.40, 0.50, 1.00,
    ),
    "right_shoulder_x": (
        0.40, 0.50, 0.10, 0.55, 0.10, 0.30, 0.20, 0.30,
        0.40, 0.30, 1.90, 0.40, 0.40, 0.30, 0.35, 0.40,
        0.30, 0.50, 0.25, 0.25, 0.50, 0.30, 0.30, 0.20,
    ),
    "right_shoulder_z": (
        -0.45, -0.40, 0.45, -0.40, 0.45, -0.40, 0.90, -0.40,
        -0.40, 0.20, 0.25, -0.40, -0.30, 0.75, 0.80, 0.30,
        -0.40, -0.45, 0.10, 1.70, 0.10, 1.80, 1.70, 0.20,
    ),
    "right_elbow": (
        1.30, 1.50, 0.70, 1.50, 0.70, 1.30, 0.50, 1.30,
        1.30, 1.20, 0.50, 1.30, 1.20, 0.35, 0.35, 1.00,
        1.20, 0.80, 1.30, 0.15, 1.30, 0.40, 0.50, 1.00,
    ),
}  # fmt: skip
"""Values by beat, rad. Side steps: arms swing across and out. Knee lifts: the opposite arm rises.
The turn: arms out, then in. Points: one arm high, the other low; both overhead; home."""


def dance(stage: Stage) -> np.ndarray:
    """Dance twenty-four beats at 100 a minute."""
    beat = 15
    frames = 24 * beat
    wide, home = 0.27, 0.105
    time = np.arange(frames)

    def on(land: float, lift: float) -> tuple[float, float]:
        return land * beat, lift * beat

    # Footsteps, in beats.
    hop = {"clearance": 0.07, "push": 0.30, "roll_out": 4.0}
    left = [
        Step(*on(-0.6, 1.5), home, 0.08, 0.12, **hop),
        Step(*on(2.0, 5.6), 0.02, 0.08, 0.12, **hop),
        Step(*on(6.0, 9.45), wide + 0.06, 0.08, 0.18, push=0.30, roll_out=4.0, clearance=0.27),
        Step(*on(10.5, 12.3), home, 0.08, 0.12, **hop),
        Step(*on(13.1, 14.35), 0.02, -0.02, 0.12 + TAU / 2, **hop),
        Step(*on(15.15, 16.4), home, 0.08, 0.12 + TAU, **hop),
        Step(*on(16.9, 23.0), wide + 0.02, 0.08, 0.30 + TAU, **hop),
    ]
    right = [
        Step(*on(0.6, 3.5), -wide - 0.06, 0.08, -0.18, **hop),
        Step(*on(4.0, 7.45), -0.12, 0.08, -0.12, push=0.30, roll_out=4.0, clearance=0.27),
        Step(*on(8.5, 11.3), -home, 0.08, -0.12, **hop),
        Step(*on(12.0, 13.35), -0.16, 0.12, -0.12 + TAU / 4, **hop),
        Step(*on(14.15, 15.4), -0.08, 0.06, -0.12 + 3 * TAU / 4, **hop),
        Step(*on(16.2, 23.6), -home - 0.08, 0.08, -0.25 + TAU, **hop),
    ]
    feet = stage.feet(frames, left, right, turns=1)
    score = Score(stage.skeleton, frames)
    keys = lambda t, **kw: curve(frames, {b * beat: v for b, v in t.items()}, **kw)  # noqa: E731
    # The pelvis faces between the feet, so the turn is shared by both hips.
    score.add("rotate_y", _soft_open((feet[0].yaw + feet[1].yaw) / 2 - 0.02, 4.0))
    share = balance(score, stage, feet, 0.85)
    # Hips and trunk: bounce on the beat, lean over the supporting leg.
    bounce = 0.5 - 0.5 * np.cos(TAU * time / beat)  # lowest in the middle of each beat
    lean = share - 0.5
    score.add("rotate_z", 0.11 * lean)
    score.add(
        "spine_lean",
        -0.20 * lean
        + keys({0: 0, 16: 0, 17: -0.12, 18: 0.12, 19: -0.12, 20: 0.12, 21: -0.10, 22: 0.06, 23: 0}),
    )
    score.add("chest_lean", -0.12 * np.roll(lean, 2))
    groove = np.sin(TAU * time / (2 * beat))
    score.add("rotate_x", 0.05 + 0.02 * bounce + keys({15: 0, 17: 0.12, 22: 0.12, 23: 0}))
    score.add("chest_bend", 0.06 * (bounce - 0.5) - 0.03 + keys({8: 0, 9: -0.08, 11: -0.08, 12: 0}))
    score.add(
        "chest_twist",
        0.16 * np.roll(groove, 2)
        + keys({16: 0, 17: 0.25, 18: 0.25, 19: -0.25, 20: -0.25, 21: 0.25, 22: 0.1, 23: 0}),
    )
    score.add("spine_twist", -0.10 * groove)
    # Head: nods on the beat, looks ahead of the turns.
    score.add("neck_bend", 0.05 * (np.roll(bounce, 2) - 0.5))
    score.add(
        "head_bend",
        0.10 * (np.roll(bounce, 3) - 0.5)
        - keys({16: 0.0, 17: 0.22, 18: 0.0, 19: 0.22, 20: 0.0, 21: 0.2, 22.5: 0}),
    )
    score.add(
        "head_twist",
        -0.08 * groove
        + keys(
            {
                0: 0.3,
                3: -0.3,
                5: 0.3,
                7: 0,
                12: 0.0,
                13: 0.45,
                15: 0.2,
                16: 0,
                17: 0.35,
                18: 0.2,
                19: -0.35,
                20: -0.2,
                21: 0.35,
                22.5: 0,
            },
            soften=3,
        ),
    )
    # Arms, from the table of beats; wrists and shoulders follow.
    for name, table in ARMS.items():
        score.add(
            name, keys(dict(enumerate(table)), soften=2.5, late=2.0 if "elbow" in name else 0.0)
        )
    for side in ("left", "right"):
        raised = np.clip(score.get(f"{side}_shoulder_z"), -0.5, 1.5)
        score.add(f"{side}_shoulder_twist", 0.35 - 0.30 * soft(raised, 2))
        score.add(f"{side}_forearm_twist", 0.3)
        score.add(f"{side}_wrist_flex", -0.25 * np.roll(np.gradient(soft(raised, 2)) * 5, 3))
        score.add(f"{side}_clavicle_y", 0.10 * np.clip(score.get(f"{side}_shoulder_x"), 0, 1.5))
    # Details of a living body, then the legs.
    open_hand = 1.15 - 0.6 * keys({16: 0, 17: 1, 22: 1, 23: 0})
    relaxed_hands(score, open_hand)
    lift_clavicles(score)
    breathe(score, 6, 1.2)
    drift(score, 2, 0.5)
    twist_hips(score, feet, knees_out=0.06)
    low = (
        0.012
        + 0.028 * bounce
        + keys({15: 0, 17: 0.06, 18: 0.03, 19: 0.06, 20: 0.03, 21: 0.05, 22: 0.02, 23: 0}, soften=3)
    )
    return finish(stage, score, feet, low)


def _soft_open(values: np.ndarray, frames: float) -> np.ndarray:
    """Smooth a curve that does not loop; it is extended beyond its ends."""
    return gaussian_filter1d(values, frames, mode="nearest")

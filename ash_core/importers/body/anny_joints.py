"""Fit anny's body to places of joints: lengths of limbs first, then each joint's own offset.

Places known beside the rotations give the offsets between the joints by linear least squares.
anny's phenotypes follow the lengths, then its limbs are stretched to the joints.
"""

from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import least_squares

from ash_core.errors import InputError
from ash_core.files.body_poses import BodyPoses
from ash_core.importers.body.anny_body import (
    JOINTS,
    PARENTS,
    PHENOTYPES,
    AnnySource,
    body_of_rest,
    swing,
    t_pose,
)
from ash_core.importers.body.anny_record import (
    AnnyFit,
    joint_turns,
    retarget,
    root_turns,
    shape_text,
)
from ash_core.studio.actor.body import unit

FIT_FRAMES: Final = 150
"""Upper bound on the frames whose joints are fitted."""
_OF_FITS_M: Final = 0.002
_DETECTED_M: Final = 0.015
_DETECTED_HIP_M: Final = 0.040
"""Systematic error of a joint's place: of the fits, of detected keypoints, of detected hips."""
_OUTLIER_M: Final = 0.03
_TRUNK_FREEDOM_M: Final = 0.03
_LIMB_FREEDOM_M: Final = 0.02
_HAND_FREEDOM_M: Final = 0.01
"""Expected departure of an offset from anny's proportions."""
_LIMBS: Final = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
"""Joints that detectors of keypoints name as SMPL-X does, at places near its own."""
_LIMITS: Final = {"age": (0.2, 1.0)}
_SEGMENTS: Final = tuple(
    (f"{side}_{start}", f"{end_side}_{end}")
    for side, other in (("left", "right"), ("right", "left"))
    for start, end, end_side in (
        *(("hip", "knee", side), ("knee", "ankle", side), ("shoulder", "elbow", side)),
        *(("elbow", "wrist", side), ("hip", "shoulder", side), ("hip", "hip", other)),
        *(("shoulder", "shoulder", other), ("ankle", "foot", side), ("wrist", "middle1", side)),
    )
)
"""Pairs of joints whose distance in the rest pose depends on the body's proportions alone."""
PARTS: Final = {
    "trunk": ("pelvis", "spine", "neck", "collar", "hip", "shoulder"),
    "head": ("head", "jaw", "eye"),
    "arms": ("elbow", "wrist"),
    "hands": ("thumb", "index", "middle", "ring", "pinky"),
    "legs": ("knee", "ankle"),
    "feet": ("foot",),
}
"""Words in the names of each part's joints."""


class JointPlaces(Protocol):
    """Joints or keypoints of a capture, such as `captures.capture.Keypoints`."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def places(self) -> Float[ndarray, "F n 3"]:
        """m, the capture's world."""
        ...

    @property
    def confidences(self) -> Float[ndarray, "F n"]:
        """0: not seen."""
        ...


@dataclass(frozen=True)
class Observation:
    """Places of one joint: design @ offsets = goals, over some frames."""

    joint: int
    design: Float[ndarray, "F 3 165"]
    goals: Float[ndarray, "F 3"]
    confidences: Float[ndarray, "F"]
    error_m: float


def _joint_named(name: str, is_detected: bool) -> str | None:
    """Return the SMPL-X joint of a name, or of a detected keypoint such as LKnee."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    sides = (("l", "left"), ("r", "right"), ("left", "left"), ("right", "right"))
    limbs = {short + limb: f"{side}_{limb}" for short, side in sides for limb in _LIMBS}
    own = {joint.replace("_", ""): joint for joint in JOINTS}
    return (limbs if is_detected else own).get(plain)


def observe(poses: BodyPoses, keypoints: JointPlaces) -> list[Observation]:
    """List the observed joints. Offsets: the rest pelvis, then each joint's from its parent.

    keypoints: one row a pose. Raises: InputError for another number of rows.
    """
    if len(keypoints.places) != len(poses.rotations):
        raise InputError(
            f"--body anny: expected keypoints of {len(poses.rotations)} frames, one for each "
            f"pose, got {len(keypoints.places)}"
        )
    # Turns of the joints in some frames.
    step = max(1, -(-len(poses.rotations) // FIT_FRAMES))
    some = replace(
        poses, rotations=poses.rotations[::step], translations=poses.translations[::step]
    )
    turns = joint_turns(some)
    root = root_turns(some, turns)
    # Keypoints that are joints.
    is_detected = "spine1" not in keypoints.names
    observations = []
    for column, name in enumerate(keypoints.names):
        joint = _joint_named(name, is_detected)
        confidences = np.array(keypoints.confidences[::step, column], np.float64)
        places = np.array(keypoints.places[::step, column], np.float64)
        confidences[~np.isfinite(places).all(1)] = 0.0
        if joint is None or not (confidences > 0).any():
            continue
        design = np.zeros((len(turns), 3, 3 * len(JOINTS)))
        link = JOINTS.index(joint)
        while PARENTS[link] >= 0:
            design[:, :, 3 * link : 3 * link + 3] = turns[:, PARENTS[link]]
            link = PARENTS[link]
        design[:, :, :3] = root
        error = _DETECTED_HIP_M if joint.endswith("hip") else _DETECTED_M
        observations.append(
            Observation(
                JOINTS.index(joint),
                design,
                np.nan_to_num(places) - some.translations,
                np.maximum(confidences, 0.0),
                error if is_detected else _OF_FITS_M,
            )
        )
    return observations


def _solve(
    observations: list[Observation],
    prior: Float[ndarray, "55 3"],
    freedom_m: Float[ndarray, "55"],
) -> Float[ndarray, "55 3"]:
    """Solve for the offsets near a prior, robustly; the rest pelvis is free."""
    freedom = np.repeat(np.concatenate([[10.0], freedom_m[1:]]), 3)
    offsets, start = prior.reshape(-1).copy(), prior.reshape(-1)
    for _ in range(4):
        normal, right = np.diag(1.0 / freedom**2), start / freedom**2
        for joint in observations:
            off = np.linalg.norm(joint.design @ offsets - joint.goals, axis=1)
            used = joint.confidences > 0
            limit = max(_OUTLIER_M, 3.0 * float(np.median(off[used])))
            weights = joint.confidences * np.minimum(1.0, limit / np.maximum(off, 1e-9))
            weights = weights / (weights.sum() * joint.error_m**2)
            scaled = joint.design * weights[:, None, None]
            normal += np.einsum("fap,faq->pq", scaled, joint.design, optimize=True)
            right += np.einsum("fap,fa->p", scaled, joint.goals)
        offsets = np.linalg.solve(normal, right)
    return offsets.reshape(-1, 3)


def _offsets_of(rest: Float[ndarray, "55 3"]) -> Float[ndarray, "55 3"]:
    """Return each joint's offset from its parent; the pelvis' is zero."""
    parents = np.array(PARENTS)
    out = rest - rest[np.maximum(parents, 0)]
    return out


def _rest_of(offsets: Float[ndarray, "55 3"]) -> Float[ndarray, "55 3"]:
    """Return the rest joints by their offsets."""
    rest = offsets.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            rest[joint] += rest[parent]
    return rest


def _freedom() -> Float[ndarray, "55"]:
    """Return the expected departure of each joint's offset from anny's proportions, m."""
    parts = {part: words for part, words in PARTS.items() if part != "legs"}
    limits = {"trunk": _TRUNK_FREEDOM_M, "head": _TRUNK_FREEDOM_M, "hands": _HAND_FREEDOM_M}
    return np.array(
        [
            limits.get(next((p for p, w in parts.items() if _has(name, w)), ""), _LIMB_FREEDOM_M)
            for name in JOINTS
        ]
    )


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name for word in words)


def fit_joints(source: AnnySource, poses: BodyPoses, observations: list[Observation]) -> AnnyFit:
    """Fit phenotypes to the lengths, then stretch the body to the joints.

    Raises: InputError where no limb is measured.
    """
    # Lengths, measured near the mean body with much freedom.
    mean = t_pose(source.joints(source.coefficients(PHENOTYPES)))
    wide = _solve(observations, _offsets_of(mean), np.full(len(JOINTS), 0.2))
    names = {JOINTS[observation.joint] for observation in observations}
    segments = np.array(
        [
            (JOINTS.index(start), JOINTS.index(end))
            for start, end in _SEGMENTS
            if start in names and end in names
        ]
    ).reshape(-1, 2)
    if len(segments) < 2:
        raise InputError(
            "--body anny: expected joints that measure a limb, such as hip, knee and ankle, got "
            f"{', '.join(sorted(names))}"
        )
    lengths = _lengths(_rest_of(wide), segments)
    phenotypes, scale = _phenotypes_of(source, segments, lengths)

    # Proportions alone, then the joints' own offsets.
    own = _offsets_of(t_pose(source.joints(source.coefficients(phenotypes)) * scale))
    own = _turned(own, wide, names)
    tight = _solve(observations, own, np.full(len(JOINTS), 1e-5))
    offsets = _solve(observations, own, _freedom())
    before, after = (_losses(observations, each) for each in (tight, offsets))
    rest = _rest_of(np.concatenate([np.zeros((1, 3)), offsets[1:]]))
    model = body_of_rest(phenotypes, scale, rest)
    notes = [
        f"body: anny, {shape_text(phenotypes)}, {np.ptp(model.template[:, 1]):.2f} m high; "
        f"pose-dependent shape of the fits is lost",
        f"joints by anny's proportions alone: {_loss_text(before)}",
        f"joints after its limbs are stretched: {_loss_text(after)}",
    ]
    return AnnyFit(
        model=model,
        poses=retarget(poses, offsets[0], model),
        phenotypes=phenotypes,
        scale=scale,
        proportions_loss_m=float(np.median(np.concatenate(list(before.values())))),
        overlap=None,
        notes=tuple(notes),
    )


def _turned(
    own: Float[ndarray, "55 3"], measured: Float[ndarray, "55 3"], names: set[str]
) -> Float[ndarray, "55 3"]:
    """Give anny's offsets the directions of the capture's rest pose, where both ends are seen.

    Hands that are not seen turn with the forearm.
    """
    out = own.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0 and {JOINTS[joint], JOINTS[parent]} <= names:
            out[joint] = np.linalg.norm(own[joint]) * unit(measured[joint])
    for side in ("left", "right"):
        wrist = JOINTS.index(f"{side}_wrist")
        turn = swing(unit(own[wrist]), unit(out[wrist]))
        for joint, name in enumerate(JOINTS):
            if name.startswith(side) and _has(name, PARTS["hands"]) and name not in names:
                out[joint] = turn @ own[joint]
    return out


def _lengths(rest: Float[ndarray, "55 3"], segments: ndarray) -> Float[ndarray, "n"]:
    return np.linalg.norm(rest[segments[:, 0]] - rest[segments[:, 1]], axis=1)


def _phenotypes_of(
    source: AnnySource, segments: ndarray, lengths: Float[ndarray, "n"]
) -> tuple[dict[str, float], float]:
    """Fit the phenotypes and the scale to lengths, m."""
    names = list(PHENOTYPES)
    mean = np.array([PHENOTYPES[name] for name in names])
    low, high = np.array([_LIMITS.get(name, (0.0, 1.0)) for name in names]).T

    def residuals(values: ndarray) -> ndarray:
        shape = dict(zip(names, values[:-1].tolist(), strict=True))
        joints = source.joints(source.coefficients(shape)) * np.exp(values[-1])
        off = (_lengths(t_pose(joints), segments) - lengths) / 0.005
        return np.concatenate([off, (values[:-1] - mean) / 0.5, values[-1:] / 0.03])

    # Start on both sides of the mean stature, where the model has a kink.
    best = None
    for height in (0.3, 0.7):
        start = np.append(mean, 0.0)
        start[names.index("height")] = height
        bounds = (np.append(low, -0.5), np.append(high, 0.5))
        trial = least_squares(residuals, start, bounds=bounds, diff_step=1e-3, max_nfev=40)
        best = trial if best is None or trial.cost < best.cost else best
    assert best is not None
    return dict(zip(names, best.x[:-1].tolist(), strict=True)), float(np.exp(best.x[-1]))


def _losses(
    observations: list[Observation], offsets: Float[ndarray, "55 3"]
) -> dict[str, Float[ndarray, "n"]]:
    """Return the distances between fitted and observed joints by part of the body, m."""
    out = {part: [np.zeros(0)] for part in PARTS}
    for observation in observations:
        places = observation.design @ offsets.reshape(-1)
        off = np.linalg.norm(places - observation.goals, axis=1)
        name = JOINTS[observation.joint]
        part = next(part for part, words in PARTS.items() if _has(name, words))
        out[part].append(off[observation.confidences > 0])
    return {part: np.concatenate(values) for part, values in out.items() if len(values) > 1}


def _loss_text(losses: dict[str, Float[ndarray, "n"]]) -> str:
    """Write median and 95th percentile in centimetres, of all joints and by part."""
    everything = np.concatenate(list(losses.values()))
    parts = {"all": everything, **losses}
    return ", ".join(
        f"{part} {100 * np.median(off):.1f} cm (95 %: {100 * np.percentile(off, 95):.1f})"
        for part, off in parts.items()
    )

"""Fit anny's body to a capture: to places of joints where it has them, else to its masks.

Places known beside the rotations give the offsets between the joints by linear least squares.
anny's phenotypes follow the lengths, then its limbs are stretched to the joints. Without places,
silhouettes give the size, the build and where the pelvis is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from scipy.optimize import least_squares, minimize

from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel
from ash_core.files.body_poses import BODY_JOINTS, BodyPoses
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.importers.body.anny_body import (
    JOINTS,
    PARENTS,
    PHENOTYPES,
    AnnySource,
    Moves,
    anny_source,
    body_of_rest,
    moves_between,
    swing,
    t_pose,
)
from ash_core.importers.body.posing import joint_frames
from ash_core.records import Camera
from ash_core.studio.actor.body import unit

Report = Callable[[str], None]

FIT_FRAMES: Final = 150
"""Upper bound on the frames whose joints are fitted."""
VIEW_FRAMES: Final = 3
VIEW_CAMERAS: Final = 4
VIEW_ROWS: Final = 160
"""Upper bounds on frames, cameras and rows of the silhouettes."""
MIN_OVERLAP: Final = 0.4
"""IoU below which masks, cameras and poses do not belong together."""
TRIALS: Final = 80
"""Trial bodies in the first of the searches by silhouettes; all take six times as many."""
_OF_FITS_M: Final = 0.002
_DETECTED_M: Final = 0.015
_DETECTED_HIP_M: Final = 0.040
"""Systematic error of a joint's place: of the fits, of detected keypoints, of detected hips."""
_OUTLIER_M: Final = 0.03
_TRUNK_FREEDOM_M: Final = 0.03
_LIMB_FREEDOM_M: Final = 0.02
_HAND_FREEDOM_M: Final = 0.01
"""Expected departure of an offset from anny's proportions."""
_LOG_HEIGHT: Final = 0.6
"""Logarithm of tallest by smallest stature of anny's phenotype `height`; beyond, it scales."""
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
class Views:
    """Cameras and masks of a capture."""

    cameras: tuple[Camera, ...]
    masks: Callable[[int, int], UInt8[ndarray, "h w"] | None]
    """Mask by the pose's index and the camera's, person above 127; None: there is none."""


@dataclass(frozen=True)
class AnnyFit:
    """anny's body in a capture."""

    model: BodyModel
    poses: BodyPoses
    """Poses of the model's 55 joints, rule "pelvis", scale 1."""
    phenotypes: Mapping[str, float]
    scale: float
    proportions_loss_m: float | None
    """Median distance of the joints by anny's proportions alone, before limbs are stretched; None
    without joints."""
    overlap: float | None
    """Mean IoU of the silhouettes; None without views."""
    notes: tuple[str, ...]
    """Texts on the fit and on losses, in centimetres."""


def fit_anny(
    poses: BodyPoses | None,
    keypoints: JointPlaces | None = None,
    views: Views | None = None,
    report: Report = lambda _text: None,
) -> AnnyFit:
    """Fit anny's body to a capture without a body model file.

    poses: rotations of SMPL, SMPL-H or SMPL-X. keypoints: one row a pose; they measure the limbs,
    views the build. Without keypoints, views measure all. Raises: InputError where the evidence is
    missing, and without anny.
    """
    if poses is None:
        raise InputError(
            "--body anny: expected rotations of SMPL-X (--poses names their file), found none"
        )
    source = anny_source()
    poses, notes = _as_smplx(poses)
    observations = [] if keypoints is None else _observations(poses, keypoints)
    if observations:
        report("fitting anny's proportions to the joints")
        fit = _fit_joints(source, poses, observations)
        chosen = [] if views is None else _views(poses, views)
        if chosen:
            report("fitting anny's build to the masks")
            fit = _fit_build(source, fit, chosen)
    elif views is not None:
        fit = _fit_views(source, poses, views, report)
    else:
        raise InputError(
            "--body anny: expected keypoints or masks beside the poses, to measure the body; "
            "found neither"
        )
    return replace(fit, notes=(*notes, *fit.notes))


def _as_smplx(poses: BodyPoses) -> tuple[BodyPoses, list[str]]:
    """Spread the rotations on the 55 joints; those that the kind has not stay at rest."""
    rotations = np.zeros((len(poses.rotations), len(JOINTS), 3))
    for column, name in enumerate(BODY_JOINTS[poses.kind]):
        if name in JOINTS:
            rotations[:, JOINTS.index(name)] = poses.rotations[:, column]
    notes = []
    if poses.kind == "smpl":
        notes.append("fingers, jaw and eyes: at rest, SMPL has none")
    if poses.hand_pca is not None:
        notes.append("hands: at rest; their PCA coefficients need the body model file")
    return replace(poses, kind="smplx", rotations=rotations, hand_pca=None), notes


# ---- Joints ----


@dataclass(frozen=True)
class _Observation:
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


def _root_turns(poses: BodyPoses, turns: Float[ndarray, "F 55 3 3"]) -> Float[ndarray, "F 3 3"]:
    """Return what turns the rest pelvis in the world: the root's rotation by the rule "origin"."""
    return turns[:, 0] if poses.root_rule == "origin" else np.tile(np.eye(3), (len(turns), 1, 1))


def _turns(poses: BodyPoses) -> Float[ndarray, "F 55 3 3"]:
    """Return R_world_joint."""
    return joint_frames(replace(poses, root_rule="pelvis"), np.zeros((len(JOINTS), 3)))[0]


def _observations(poses: BodyPoses, keypoints: JointPlaces) -> list[_Observation]:
    """List the observed joints. Offsets: the rest pelvis, then each joint's from its parent."""
    if len(keypoints.places) != len(poses.rotations):
        raise InputError(
            f"--body anny: expected keypoints of {len(poses.rotations)} frames, one for each "
            f"pose, got {len(keypoints.places)}"
        )
    step = max(1, -(-len(poses.rotations) // FIT_FRAMES))
    some = replace(
        poses, rotations=poses.rotations[::step], translations=poses.translations[::step]
    )
    turns = _turns(some)
    root = _root_turns(some, turns)
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
            _Observation(
                JOINTS.index(joint),
                design,
                np.nan_to_num(places) - some.translations,
                np.maximum(confidences, 0.0),
                error if is_detected else _OF_FITS_M,
            )
        )
    return observations


def _solve(
    observations: list[_Observation],
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


def _fit_joints(source: AnnySource, poses: BodyPoses, observations: list[_Observation]) -> AnnyFit:
    """Fit phenotypes to the lengths, then stretch the body to the joints."""
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
        f"body: anny, {_shape_text(phenotypes)}, {np.ptp(model.template[:, 1]):.2f} m high; "
        f"pose-dependent shape of the fits is lost",
        f"joints by anny's proportions alone: {_loss_text(before)}",
        f"joints after its limbs are stretched: {_loss_text(after)}",
    ]
    return AnnyFit(
        model=model,
        poses=_retarget(poses, offsets[0], model),
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
    observations: list[_Observation], offsets: Float[ndarray, "55 3"]
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


def _shape_text(phenotypes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in phenotypes.items())


def _retarget(poses: BodyPoses, pelvis: Float[ndarray, "3"], model: BodyModel) -> BodyPoses:
    """Return the poses of the model. pelvis: the rest pelvis of the capture's own body, m."""
    root = _root_turns(poses, _turns(poses))
    own = model.joints(model.template)[0]
    return replace(
        poses,
        translations=poses.translations + root @ pelvis - own,
        root_rule="pelvis",
        betas=np.zeros(0),
        scale=1.0,
        expressions=None,
    )


# ---- Silhouettes ----


@dataclass(frozen=True)
class _View:
    """One mask, sampled to few rows, and its camera."""

    frame: int
    camera: Camera
    mask: torch.Tensor


def _view(frame: int, camera: Camera, mask: UInt8[ndarray, "h w"]) -> _View | None:
    """Sample a mask around the person: every k-th pixel, and the camera that sees just these.

    None: nobody is in the mask.
    """
    rows, columns = np.nonzero(mask > 127)
    if not len(rows):
        return None
    # Window with a margin, within the image.
    margin = np.ptp(rows) // 5 + 2
    top, left = max(int(rows.min() - margin), 0), max(int(columns.min() - margin), 0)
    window = mask[top : rows.max() + margin + 1, left : columns.max() + margin + 1]
    k = max(1, int(np.ptp(rows)) // VIEW_ROWS)
    sampled = window[k // 2 :: k, k // 2 :: k] > 127

    # The same pixels' camera.
    K = camera.K.double().clone()
    K[:2, 2] -= torch.tensor([left + k // 2 + 0.5, top + k // 2 + 0.5])
    K[:2] /= k
    K[:2, 2] += 0.5
    height, width = sampled.shape
    small = replace(camera, K=K.float(), width=width, height=height)
    return _View(frame, small, torch.from_numpy(np.ascontiguousarray(sampled)))


def _views(poses: BodyPoses, views: Views) -> list[_View]:
    """Choose spread frames and cameras whose masks hold somebody."""
    count = len(poses.rotations)
    frames = np.unique(np.linspace(0, count - 1, VIEW_FRAMES + 2)[1:-1].round().astype(int))
    centres = np.array([torch.linalg.inv(c.viewmat.double())[:3, 3].numpy() for c in views.cameras])
    chosen = [0]
    while len(chosen) < min(VIEW_CAMERAS, len(centres)):
        apart = np.linalg.norm(centres[:, None] - centres[chosen], axis=-1).min(1)
        chosen.append(int(apart.argmax()))
    chosen_views = []
    for frame in frames.tolist():
        for number in chosen:
            mask = views.masks(frame, number)
            if mask is None:
                continue
            view = _view(frame, views.cameras[number], mask)
            if view is not None:
                chosen_views.append(view)
    return chosen_views


class _Posed:
    """anny's posed surface for trial shapes; the last shape is kept."""

    def __init__(
        self,
        source: AnnySource,
        poses: BodyPoses,
        views: list[_View],
        rest: Float[ndarray, "55 3"] | None = None,
    ) -> None:
        """rest: joints that all shapes are stretched to; None: each has its own T-pose."""
        self.source, self.views, self.rest = source, views, rest
        self.frames = sorted({view.frame for view in views})
        self.some = replace(
            poses,
            rotations=poses.rotations[self.frames],
            translations=poses.translations[self.frames],
        )
        self.turns = _turns(self.some)
        self.root = _root_turns(self.some, self.turns)
        self.faces = source.model.faces
        self._key: tuple[float, ...] = ()
        self._shape: tuple[ndarray, ndarray] = (np.zeros((0, 3)), np.zeros((0, 3)))

    def vertices(
        self, phenotypes: Mapping[str, float], scale: float, pelvis: Float[ndarray, "3"]
    ) -> Iterator[Float[ndarray, "V 3"]]:
        """Yield the surface in each chosen frame, m, the capture's world."""
        key = tuple(phenotypes.values())
        if key != self._key:
            coefficients = self.source.coefficients(phenotypes)
            self._shape = self.source.joints(coefficients), self.source.vertices(coefficients)
            self._key = key
        joints, vertices = self._shape
        rest = t_pose(joints * scale) if self.rest is None else self.rest
        moves = moves_between(joints * scale, rest)
        moved = replace(
            self.some, root_rule="pelvis", scale=1.0,
            translations=self.some.translations + self.root @ pelvis - rest[0],
        )  # fmt: skip
        turns, places = joint_frames(moved, rest)
        for turn, place in zip(turns, places, strict=True):
            goals = np.einsum("jab,jb->ja", turn, moves.goals - rest) + place
            posed = Moves(turn @ moves.turns, moves.starts, goals)
            yield posed.apply(vertices * scale, self.source.weights)

    def overlaps(
        self,
        phenotypes: Mapping[str, float],
        scale: float,
        pelvis: Float[ndarray, "3"],
        only: int | None = None,
    ) -> Float[ndarray, "n"]:
        """Return the IoU of each view, or of one frame's views."""
        out = []
        surfaces = self.vertices(phenotypes, scale, pelvis)
        for frame, vertices in zip(self.frames, surfaces, strict=True):
            if only is not None and frame != only:
                continue
            points = torch.from_numpy(vertices)
            for view in self.views:
                if view.frame == frame:
                    drawn = silhouette(points, self.faces, view.camera)
                    both = float((drawn & view.mask).sum())
                    out.append(both / max(float((drawn | view.mask).sum()), 1.0))
        return np.array(out)


def _fit_views(source: AnnySource, poses: BodyPoses, views: Views, report: Report) -> AnnyFit:
    """Fit size, build and the pelvis' place to silhouettes."""
    # Views, and a first guess by the masks' centres.
    chosen = _views(poses, views)
    if len(chosen) < 2:
        raise InputError(
            "--body anny: expected masks of two cameras or more with a person in them, got "
            f"{len(chosen)} such views in frames spread over the capture"
        )
    posed = _Posed(source, poses, chosen)
    names = ("height", "weight", "muscle", "gender", "proportions")
    first = np.concatenate([_first_pelvis(posed), [PHENOTYPES[name] for name in names]])
    steps = np.array([0.03, 0.03, 0.03, 0.15, 0.25, 0.25, 0.3, 0.3])

    def parts(values: ndarray) -> tuple[dict[str, float], float, ndarray]:
        build = dict(zip(names, np.clip(values[3:], 0.0, 1.0).tolist(), strict=True))
        beyond = float(values[3]) - build["height"]
        return {**PHENOTYPES, **build}, float(np.exp(_LOG_HEIGHT * beyond)), values[:3]

    # Place and size first, then the build with them.
    report("fitting anny's size to the masks")
    place = lambda v: posed.overlaps(*parts(np.append(v, first[4:])))  # noqa: E731
    best = _simplex(place, first[:4], steps[:4], TRIALS)
    report("fitting anny's build to the masks")
    best = np.append(best, first[4:])
    best = _simplex(lambda v: posed.overlaps(*parts(v)), best, steps, 2 * TRIALS)
    best = _simplex(lambda v: posed.overlaps(*parts(v)), best, -steps / 2, 3 * TRIALS // 2)
    phenotypes, scale, pelvis = parts(best)
    overlaps = posed.overlaps(phenotypes, scale, pelvis)
    if np.mean(overlaps) < MIN_OVERLAP:
        raise InputError(
            "--body anny: expected masks that the posed body fills, got an IoU of "
            f"{np.mean(overlaps):.2f}: masks, cameras and poses disagree"
        )

    # The pelvis' place again, from each frame alone.
    alone = np.array(
        [
            _simplex(
                lambda v, frame=frame: posed.overlaps(phenotypes, scale, v, frame),
                pelvis, steps[:3] / 3, TRIALS // 2,
            )
            for frame in posed.frames
        ]
    )  # fmt: skip
    spread = np.linalg.norm(alone - alone.mean(0), axis=1).max() if len(alone) > 1 else np.nan

    # The body, and how well it fills the masks.
    rest = t_pose(source.joints(source.coefficients(phenotypes)) * scale)
    model = body_of_rest(phenotypes, scale, rest)
    fitted = _retarget(poses, pelvis, model)
    inside = _inside(posed, model, fitted)
    notes = (
        f"body: anny, {_shape_text(phenotypes)}, {np.ptp(model.template[:, 1]):.2f} m high, from "
        f"{len(posed.views)} masks: no joints came with the poses, so lengths of limbs are anny's",
        f"silhouettes: IoU {np.mean(overlaps):.3f}, lowest {np.min(overlaps):.3f}; "
        f"{100 * inside:.1f} % of joints lie inside the masks",
        f"pelvis: placed by the masks, to {100 * spread:.1f} cm between frames"
        if np.isfinite(spread)
        else "pelvis: placed by the masks of one frame; its error is unknown",
        "rest pose: anny's arms along X and legs down; the fits' own differs by some degrees",
    )
    return AnnyFit(model, fitted, phenotypes, scale, None, float(np.mean(overlaps)), notes)


def _fit_build(source: AnnySource, fit: AnnyFit, views: list[_View]) -> AnnyFit:
    """Fit the girth to silhouettes; the joints stay where they are."""
    rest = fit.model.joints(fit.model.template)
    posed = _Posed(source, fit.poses, views, rest)
    names = ("weight", "muscle")

    def shape(values: ndarray) -> dict[str, float]:
        build = np.clip(values, 0.0, 1.0).tolist()
        return {**fit.phenotypes, **dict(zip(names, build, strict=True))}

    overlaps = lambda v: posed.overlaps(shape(v), fit.scale, rest[0])  # noqa: E731
    first = np.array([fit.phenotypes[name] for name in names])
    before = float(np.mean(overlaps(first)))
    if before < MIN_OVERLAP:
        note = f"build: the mean, masks and joints disagree (IoU {before:.3f})"
        return replace(fit, overlap=before, notes=(*fit.notes, note))
    steps = np.where(first > 0.5, -0.25, 0.25)
    best = _simplex(overlaps, first, steps, TRIALS // 2)
    phenotypes, views_overlap = shape(best), overlaps(best)
    model = body_of_rest(phenotypes, fit.scale, rest)
    note = (
        f"build by silhouettes: weight {phenotypes['weight']:.2f}, muscle "
        f"{phenotypes['muscle']:.2f}; IoU {np.mean(views_overlap):.3f}, before "
        f"{before:.3f}"
    )
    return replace(
        fit,
        model=model,
        poses=_retarget(fit.poses, rest[0], model),
        phenotypes=phenotypes,
        overlap=float(np.mean(views_overlap)),
        notes=(*fit.notes, note),
    )


def _simplex(
    overlaps: Callable[[ndarray], ndarray], start: ndarray, steps: ndarray, trials: int
) -> ndarray:
    """Climb the mean IoU without gradients."""
    corners = np.concatenate([start[None], start + np.diag(steps)])
    optimum = minimize(
        lambda values: 1.0 - float(np.mean(overlaps(values))),
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": corners,
            "maxfev": trials,
            "adaptive": True,
            "xatol": 1e-3,
            "fatol": 1e-4,
        },
    )
    return np.asarray(optimum.x)


def _first_pelvis(posed: _Posed) -> Float[ndarray, "3"]:
    """Guess the rest pelvis: the masks' centres, met by rays, less the surface's centre."""
    guesses = []
    surfaces = posed.vertices(PHENOTYPES, 1.0, np.zeros(3))
    faces = posed.faces.numpy()
    for number, (frame, vertices) in enumerate(zip(posed.frames, surfaces, strict=True)):
        normal, right = 1e-9 * np.eye(3), np.zeros(3)
        for view in posed.views:
            if view.frame != frame:
                continue
            rows, columns = np.nonzero(view.mask.numpy())
            pixel = np.array([columns.mean() + 0.5, rows.mean() + 0.5, 1.0])
            pose = torch.linalg.inv(view.camera.viewmat.double()).numpy()
            ray = pose[:3, :3] @ np.linalg.solve(view.camera.K.double().numpy(), pixel)
            ray /= np.linalg.norm(ray)
            across = np.eye(3) - np.outer(ray, ray)
            normal, right = normal + across, right + across @ pose[:3, 3]
        centre = np.linalg.solve(normal, right)
        corners = vertices[faces]
        area = np.linalg.norm(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
        )
        middle = (corners.mean(1) * area[:, None]).sum(0) / area.sum()
        guesses.append(posed.root[number].T @ (centre - middle))
    return np.mean(guesses, axis=0)


def _inside(posed: _Posed, model: BodyModel, poses: BodyPoses) -> float:
    """Return the share of joints that project into the masks."""
    hits = []
    for view in posed.views:
        row = slice(view.frame, view.frame + 1)
        one = replace(poses, rotations=poses.rotations[row], translations=poses.translations[row])
        joints = joint_frames(one, model.joints(model.template))[1][0]
        viewmat, K = view.camera.viewmat.double().numpy(), view.camera.K.double().numpy()
        local = joints @ viewmat[:3, :3].T + viewmat[:3, 3]
        pixels = np.floor((local @ K.T)[:, :2] / local[:, 2:]).astype(int)
        height, width = view.mask.shape
        visible = (local[:, 2] > 0) & (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
        mask = view.mask.numpy()
        hits.append(mask[pixels[visible, 1], pixels[visible, 0]])
    return float(np.concatenate(hits).mean())

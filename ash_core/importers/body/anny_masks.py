"""Fit anny's body to masks: its size, its build and where the pelvis is.

Silhouettes of trial bodies are compared with the masks of some spread frames and cameras.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from scipy.optimize import minimize

from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel
from ash_core.files.body_poses import BodyPoses
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.importers.body.anny_body import (
    PHENOTYPES,
    AnnySource,
    Moves,
    body_of_rest,
    moves_between,
    t_pose,
)
from ash_core.importers.body.anny_record import (
    AnnyFit,
    joint_turns,
    retarget,
    root_turns,
    shape_text,
)
from ash_core.importers.body.posing import joint_frames
from ash_core.records import Camera

Report = Callable[[str], None]

VIEW_FRAMES: Final = 3
VIEW_CAMERAS: Final = 4
VIEW_ROWS: Final = 160
"""Upper bounds on frames, cameras and rows of the silhouettes."""
MIN_OVERLAP: Final = 0.4
"""IoU below which masks, cameras and poses do not belong together."""
TRIALS: Final = 80
"""Trial bodies in the first of the searches by silhouettes; all take six times as many."""
_LOG_HEIGHT: Final = 0.6
"""Logarithm of tallest by smallest stature of anny's phenotype `height`; beyond, it scales."""


@dataclass(frozen=True)
class Views:
    """Cameras and masks of a capture."""

    cameras: tuple[Camera, ...]
    masks: Callable[[int, int], UInt8[ndarray, "h w"] | None]
    """Mask by the pose's index and the camera's, person above 127; None: there is none."""


@dataclass(frozen=True)
class View:
    """One mask, sampled to few rows, and its camera."""

    frame: int
    camera: Camera
    mask: torch.Tensor


def _view(frame: int, camera: Camera, mask: UInt8[ndarray, "h w"]) -> View | None:
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
    return View(frame, small, torch.from_numpy(np.ascontiguousarray(sampled)))


def choose_views(poses: BodyPoses, views: Views) -> list[View]:
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
        views: list[View],
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
        self.turns = joint_turns(self.some)
        self.root = root_turns(self.some, self.turns)
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


def fit_views(source: AnnySource, poses: BodyPoses, views: Views, report: Report) -> AnnyFit:
    """Fit size, build and the pelvis' place to silhouettes.

    Raises: InputError where masks are missing, or do not fit the poses.
    """
    # Views, and a first guess by the masks' centres.
    chosen = choose_views(poses, views)
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
    fitted = retarget(poses, pelvis, model)
    inside = _inside(posed, model, fitted)
    notes = (
        f"body: anny, {shape_text(phenotypes)}, {np.ptp(model.template[:, 1]):.2f} m high, from "
        f"{len(posed.views)} masks: no joints came with the poses, so lengths of limbs are anny's",
        f"silhouettes: IoU {np.mean(overlaps):.3f}, lowest {np.min(overlaps):.3f}; "
        f"{100 * inside:.1f} % of joints lie inside the masks",
        f"pelvis: placed by the masks, to {100 * spread:.1f} cm between frames"
        if np.isfinite(spread)
        else "pelvis: placed by the masks of one frame; its error is unknown",
        "rest pose: anny's arms along X and legs down; the fits' own differs by some degrees",
    )
    return AnnyFit(model, fitted, phenotypes, scale, None, float(np.mean(overlaps)), notes)


def fit_build(source: AnnySource, fit: AnnyFit, views: list[View]) -> AnnyFit:
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
        poses=retarget(fit.poses, rest[0], model),
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

"""Detection of a capture's conventions: which reading of its numbers puts the body's joints into
the masks.

Layouts say what their cameras' numbers mean, files do not always keep to it. Every reading is
tried on some frames and cameras, and the shares of joints inside the masks decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.captures.capture import Capture, CaptureCamera
from ash_core.captures.mask_views import EQUAL, JOINTS, KEPT, Body, MaskViews, Trial
from ash_core.captures.reading import (
    FLAGS,
    FREE_SCALE,
    OWN,
    Overrides,
    Reading,
    count_differences,
    describe,
    describe_part,
    list_readings,
    with_overrides,
)
from ash_core.files.body_poses import BodyPoses, RootRule
from ash_core.files.io import bad
from ash_core.importers.body.posing import joint_frames, to_pelvis_rule

MATERIAL: Final = 0.05
"""Distance of the joints in two readings, of the person's height, that makes them differ."""
LEAST_SHARE: Final = 0.6


@dataclass(frozen=True)
class Detection:
    """Reading that was chosen, and the others' shares."""

    trial: Trial
    own: Trial
    """The layout's own reading."""
    others: tuple[Trial, ...]
    """Readings that differ from the chosen one in one part."""
    pictures: int
    cameras: tuple[CaptureCamera, ...]
    """Cameras as they were read in this way, of the stored images' size."""
    poses: BodyPoses | None
    """Poses by the rule that was found, with translations of the rule "pelvis"."""
    notes: tuple[str, ...] = ()


def body_of(capture: Capture, rest_joints: Float[ndarray, "J 3"] | None) -> Body:
    """Compute where the joints are: by poses and a body model, else by keypoints.

    Raises: InputError for a capture with neither.
    """
    poses = capture.poses
    if poses is not None and rest_joints is not None:
        places: dict[RootRule, Float[ndarray, "F J 3"]] = {
            rule: joint_frames(replace(poses, root_rule=rule), rest_joints)[1][:, :JOINTS]
            for rule in ("pelvis", "origin")
        }
        return Body(places, np.ones(places["pelvis"].shape[:2], bool))
    if capture.keypoints is not None:
        return Body({"pelvis": capture.keypoints.places}, capture.keypoints.confidences > 0.0)
    raise bad(capture.folder, None, "expected poses of a body, found none: --poses names a file")


def detect(
    capture: Capture, rest_joints: Float[ndarray, "J 3"] | None, overrides: Overrides
) -> Detection:
    """Choose the reading of a capture that puts the joints into the masks.

    rest_joints: places of the body's joints in the rest pose, for these betas; None: keypoints.
    Raises: InputError where none fits, or several do.
    """
    # Masks and joints of some pictures.
    body = body_of(capture, rest_joints)
    views = MaskViews(capture, body)
    own = OWN[capture.layout]
    if capture.poses is not None:
        own = replace(own, root=capture.poses.root_rule)
    own = with_overrides(own, overrides)
    # Try every reading.
    is_free = capture.layout in FREE_SCALE
    trials = [
        views.try_scales(reading, overrides.scale) if is_free else views.try_one(reading)
        for reading in list_readings(own, overrides, is_free, tuple(body.places))
    ]
    best = _choose(capture, views, trials, own)
    # Report it.
    others = [trial for trial in trials if count_differences(trial.reading, best.reading) == 1]
    poses = capture.poses
    if poses is not None and rest_joints is not None:
        poses = to_pelvis_rule(replace(poses, root_rule=best.reading.root), rest_joints)
    cameras = tuple(
        views.camera(index, best.reading, best.scale) for index in range(len(capture.cameras))
    )
    own_trial = next(trial for trial in trials if trial.reading == own)
    others.sort(key=lambda trial: -trial.share)
    return Detection(best, own_trial, tuple(others), len(views.keys), cameras, poses, views.notes)


def _choose(capture: Capture, views: MaskViews, trials: Sequence[Trial], own: Reading) -> Trial:
    """Choose a reading. Raises: InputError where none fits, or several that differ."""
    top = max(trial.share for trial in trials)
    # The first of the best: the one that is nearest to the layout's own.
    best = next(trial for trial in trials if trial.share >= top - KEPT)
    if best.share < LEAST_SHARE:
        text = f"only {best.share:.0%} of the body's joints lie in the masks at best"
        flags = ", ".join((*FLAGS.values(), "--poses"))
        raise bad(
            capture.folder,
            None,
            f"expected poses and cameras that fit the masks, but {text} "
            f"({describe(best.reading)}): {flags} set what you know; else look at the rotations, "
            f"sizes and masks",
        )
    if best.scales is not None:
        text = "scales of the cameras from {:.3g} to {:.3g} m a unit".format(*best.scales)
        share = f"{best.share:.1%} of the joints in masks"
        raise bad(capture.folder, None, f"{text} fit equally well ({share}): --scale decides")
    for rival in trials:
        if rival.share < best.share - EQUAL or rival is best:
            continue
        if views.distance(best, rival) > MATERIAL:
            names = [
                f.name
                for f in fields(Reading)
                if getattr(best.reading, f.name) != getattr(rival.reading, f.name)
            ]
            one, other = (
                ", ".join(describe_part(trial.reading, name) for name in names)
                for trial in (best, rival)
            )
            text = (
                f"{one} ({best.share:.1%} of the joints in masks) and {other} ({rival.share:.1%})"
            )
            flags = " and ".join(FLAGS[name] for name in names)
            verb = "decides" if len(names) == 1 else "decide"
            raise bad(capture.folder, None, f"{text} fit equally well: {flags} {verb}")
    return best


def table_rows(detection: Detection) -> list[tuple[str, str, str]]:
    """List (part, reading, share) of the chosen reading and of those that differ in one part."""
    rows = [("chosen", describe(detection.trial.reading), f"{detection.trial.share:.1%}")]
    for trial in detection.others:
        for f in fields(Reading):
            value = getattr(trial.reading, f.name)
            if value != getattr(detection.trial.reading, f.name):
                rows.append((f.name, str(value), f"{trial.share:.1%}"))
    return rows

"""Fit anny's body to a capture: to places of joints where it has them, else to its masks."""

from dataclasses import replace

import numpy as np

from ash_core.errors import InputError
from ash_core.files.body_poses import BODY_JOINTS, BodyPoses
from ash_core.importers.body.anny_body import JOINTS, anny_source
from ash_core.importers.body.anny_joints import JointPlaces, fit_joints, observe
from ash_core.importers.body.anny_masks import Report, Views, choose_views, fit_build, fit_views
from ash_core.importers.body.anny_record import AnnyFit


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
    observations = [] if keypoints is None else observe(poses, keypoints)
    if observations:
        report("fitting anny's proportions to the joints")
        fit = fit_joints(source, poses, observations)
        chosen = [] if views is None else choose_views(poses, views)
        if chosen:
            report("fitting anny's build to the masks")
            fit = fit_build(source, fit, chosen)
    elif views is not None:
        fit = fit_views(source, poses, views, report)
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

"""Made-up poses of SMPL bodies, in the files of AMASS, AvatarReX, AIST++ and EasyMocap."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from made_motions import STICKS
from scipy.spatial.transform import Rotation

from ash_core.files.body_poses import BODY_JOINTS, BodyKind, BodyPoses
from ash_core.importers.body.plain_figure import plain_rest

Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""R_file_body of files whose vertical is z."""
CM_PER_M = 100.0
OF_STICK = {
    "Hips": "pelvis", "Spine": "spine1", "Chest": "spine3", "Neck": "neck", "Head": "head",
} | {
    f"{side}{stick}": f"{side.lower()}_{joint}"
    for side in ("Left", "Right")
    for stick, joint in (
        ("Shoulder", "collar"), ("Arm", "shoulder"), ("ForeArm", "elbow"), ("Hand", "wrist"),
        ("UpLeg", "hip"), ("Leg", "knee"), ("Foot", "ankle"), ("ToeBase", "foot"),
    )
}  # fmt: skip
"""Joint of a body for each joint of the sticks."""


def rest_of_sticks(kind: BodyKind = "smplx") -> np.ndarray:
    """Make a body [J, 3], m, of the sticks' proportions, and the plain figure's hands and face."""
    names, plain = BODY_JOINTS[kind], plain_rest(kind)
    places: dict[str, np.ndarray] = {}
    for stick, (parent, offset) in STICKS.items():
        above = places[OF_STICK[parent]] if parent else np.zeros(3)
        places[OF_STICK[stick]] = above + np.array(offset) / CM_PER_M
    places["spine2"] = (places["spine1"] + places["spine3"]) / 2
    rest = []
    for joint, name in enumerate(names):
        base = f"{name.split('_')[0]}_wrist" if name[-1] in "123" else "head"
        rest.append(
            places[name]
            if name in places
            else places[base] + plain[joint] - plain[names.index(base)]
        )
    return np.stack(rest)


def poses_of_sticks(
    root: np.ndarray,
    turns: Mapping[str, np.ndarray],
    fps: float,
    R_file_body: np.ndarray | None = None,
    kind: BodyKind = "smplx",
) -> BodyPoses:
    """Make a body move as the sticks: root places [F, 3] cm, turns [F, 3, 3] by joint."""
    names, R = BODY_JOINTS[kind], np.eye(3) if R_file_body is None else R_file_body
    rotations = np.zeros((len(root), len(names), 3))
    for stick, turn in turns.items():
        rotations[:, names.index(OF_STICK[stick])] = Rotation.from_matrix(turn).as_rotvec()
    whole = Rotation.from_matrix(R) * Rotation.from_rotvec(rotations[:, 0])
    rotations[:, 0] = whole.as_rotvec()
    return BodyPoses(
        kind=kind,
        rotations=rotations,
        translations=root / CM_PER_M @ R.T - rest_of_sticks(kind)[0],
        root_rule="pelvis",
        betas=np.zeros(10),
        frames=tuple(range(len(root))),
        fps=fps,
    )


def random_poses(kind: BodyKind, frames: int = 4, seed: int = 0) -> BodyPoses:
    """Make poses of moderate random turns, with betas, and expressions for SMPL-X."""
    rng = np.random.default_rng(seed)
    return BodyPoses(
        kind=kind,
        rotations=rng.normal(scale=0.4, size=(frames, len(BODY_JOINTS[kind]), 3)),
        translations=rng.normal(size=(frames, 3)),
        root_rule="pelvis",
        betas=rng.normal(size=10),
        frames=tuple(range(frames)),
        fps=30.0,
        expressions=rng.normal(size=(frames, 10)) if kind == "smplx" else None,
        gender="neutral",
    )


def write_aist(path: Path, poses: BodyPoses, scaling: float = 93.0) -> Path:
    """Write an AIST++ pickle: translations in the camera's units, the body `scaling` as large."""
    assert poses.kind == "smpl"
    content = {
        "smpl_poses": poses.rotations.reshape(len(poses.rotations), -1),
        "smpl_trans": poses.translations * scaling,
        "smpl_scaling": np.array([scaling]),
    }
    path.write_bytes(pickle.dumps(content))
    return path


def write_easymocap(folder: Path, poses: BodyPoses, rest_joints: np.ndarray) -> Path:
    """Write a .json a frame, named by its number; hands are six zeros each."""
    (folder / "smpl").mkdir(parents=True)
    pelvis = rest_joints[0]
    turns = Rotation.from_rotvec(poses.rotations[:, 0])
    places = poses.translations + pelvis - turns.apply(pelvis)
    names = BODY_JOINTS[poses.kind]
    for row, number in enumerate(poses.frames):
        flat = poses.rotations[row].copy()
        flat[0] = 0.0
        hands = [np.zeros(12)] if poses.kind != "smpl" else []
        face = [flat[22:25].ravel()] if poses.kind == "smplx" else []
        body = flat[: 22 if hands else len(names)].ravel()
        person = {
            "id": 0,
            "Rh": [poses.rotations[row, 0].tolist()],
            "Th": [places[row].tolist()],
            "poses": [np.concatenate([body, *hands, *face]).tolist()],
            "shapes": [poses.betas.tolist()],
        }
        (folder / "smpl" / f"{number:06d}.json").write_text(json.dumps([person]))
    return folder

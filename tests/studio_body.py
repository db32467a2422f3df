"""Nude bodies under the studio's actors, in the layout of SMPL-X's files. Needs the extra `studio`.

The body has an actor's own joints in the actor's rest pose, and no shape directions.
"""

import re
from pathlib import Path

import numpy as np
from actor_joints import NAMES, PARENTS, SMPLX_OF_ACTOR, actor_rest_joints, poses_of_actor

from ash_core.files.body_model import BodyModel
from ash_core.files.skeletool import read_skeleton
from ash_core.importers.body.anny_body import regressor_of
from ash_core.records import Skeleton
from ash_core.studio.actor.body import HEIGHT, PHENOTYPE, load_body, repose
from ash_core.studio.actor.dress import dress
from ash_core.studio.actor.face import close_face
from ash_core.studio.actor.rig import build_rig
from ash_core.studio.actor.trim import cap_toes, close_holes
from ash_core.studio.wardrobe.make import rigged
from ash_core.studio.wardrobe.outfits import OUTFITS

__all__ = ["poses_of_actor", "smplx_like_body", "write_body_npz"]

SHAPES = 20
"""Shape directions in the file, all zero; the last ten stand for expressions."""


def smplx_like_body(actor: str | Path) -> tuple[BodyModel, Skeleton]:
    """Make the nude body under an actor, and return the actor's skeleton.

    actor: `actor`, a name of the wardrobe, or the folder that `ash-studio actor` wrote. Joints and
    vertices are in the actor's body frame, m; the soles of the actor's shoes are at y = 0.
    """
    folder = Path(actor)
    name = _name_of(folder) if folder.is_dir() else str(actor)
    shape = (OUTFITS[name].phenotype, OUTFITS[name].height) if name in OUTFITS else None
    close = close_face if shape else close_holes
    bare = close(repose(load_body(*(shape or (PHENOTYPE, HEIGHT)))))
    body = cap_toes(bare)
    if folder.is_dir():
        skeleton = read_skeleton(folder / "actor.skeleton")
    elif name in OUTFITS:
        skeleton = rigged(OUTFITS[name]).skeleton
    else:
        skeleton = build_rig(body, dress(body)[1])[0]
    flat, owner = build_rig(body, 0.0)
    joints, level = actor_rest_joints(skeleton), actor_rest_joints(flat)
    lift = joints[0] - level[0]
    off = np.abs(joints - level - lift).max()
    assert off < 1e-3, f"{actor}: joints {off:.4f} m from the body's"
    vertices = body.vertices + lift
    weights = np.zeros((len(vertices), len(NAMES)))
    for column, bone in enumerate(body.bones):
        weights[:, NAMES.index(SMPLX_OF_ACTOR.get(owner[bone], "head"))] += body.weights[:, column]
    model = BodyModel(
        path=Path(f"smplx_like_{name}.npz"),
        kind="smplx",
        template=vertices,
        faces=body.faces,
        shape_dirs=np.zeros((len(vertices), 3, SHAPES // 2)),
        joint_regressor=regressor_of(vertices, joints),
        weights=weights / weights.sum(1, keepdims=True),
    )
    return model, skeleton


def _name_of(folder: Path) -> str:
    """Return the actor's name from its configuration."""
    match = re.search(r"dataset_name = (\w+)", (folder / "actor.conf").read_text())
    assert match, folder
    return match[1]


def write_body_npz(path: Path, model: BodyModel) -> None:
    """Write a body in the layout of SMPL-X's .npz: float64, hands' components zero."""
    count = len(model.template)
    parents = np.array(PARENTS, np.int64)
    parents[0] = 4294967295
    content = {
        "v_template": model.template,
        "shapedirs": np.zeros((count, 3, SHAPES)),
        "posedirs": np.zeros((count, 3, 1)),
        "J_regressor": model.joint_regressor.toarray(),
        "weights": model.weights,
        "kintree_table": np.stack([parents, np.arange(len(parents))]),
        "f": model.faces.astype(np.uint32),
        "hands_componentsl": np.zeros((45, 45)),
        "hands_componentsr": np.zeros((45, 45)),
        "hands_meanl": np.zeros(45),
        "hands_meanr": np.zeros(45),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **content)

"""A character of ours made of a user's body model file, or of a clothed surface with its weights.

Each joint of the body becomes a bone of three turns; three slides move the pelvis. The template is
the rest pose of the shape. Shapes that depend on the pose or on an expression are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from scipy.spatial.transform import Rotation

from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel
from ash_core.files.body_poses import BODY_JOINTS, BODY_PARENTS, BodyKind, BodyPoses
from ash_core.files.io import bad
from ash_core.files.obj import read_obj
from ash_core.importers.body.body_motion import SLIDES, bone_name
from ash_core.importers.body.body_parts import hand_mask, lay_out_body
from ash_core.importers.body.euler import HEADING_ORDERS, ORDERS, choose_order, euler_angles
from ash_core.importers.gltf.gltf_atlas import is_one_to_one
from ash_core.records import Skeleton
from ash_core.studio.actor.actor import Actor
from ash_core.studio.actor.rig import build_skin
from ash_core.studio.mesh.graph import make_graph

MARGIN_DEGREES: Final = 20.0
"""Least room of a limit beyond the angles of the data."""
MARGIN_SHARE: Final = 0.25
"""Room of a limit relative to the range of the data."""
ROOM_DEGREES: Final = {
    **dict.fromkeys(("hip", "knee", "shoulder", "elbow"), 150.0),
    **dict.fromkeys(("spine1", "spine2", "spine3", "neck", "head", "collar"), 60.0),
    **dict.fromkeys(("jaw", "eye"), 20.0),
}
"""Least limits on both sides of the rest pose, for motions that the data does not have."""
MIDDLE_ROOM_DEGREES: Final = 90.0
"""The most of it for the middle one of a leg's three angles."""
OTHER_ROOM_DEGREES: Final = 90.0
"""The same for hands and feet."""
GREY: Final = 190
TEXTURE_PX: Final = 256
NO_POSE_SHAPES: Final = (
    "shapes of the body file that depend on the pose or an expression are left out: the graph and "
    "the Gaussians learn what they would do"
)


@dataclass(frozen=True)
class BodyCharacter:
    """Character to be written by `write_actor`, and notes on losses and choices."""

    actor: Actor
    notes: tuple[str, ...]
    has_texture: bool = False
    """True if the texture shows the person; False: it is grey."""


def make_body_character(
    model: BodyModel,
    poses: BodyPoses,
    R_body_capture: Float[ndarray, "3 3"],
    *,
    uv_file: Path | None = None,
    name: str = "character",
) -> BodyCharacter:
    """Make a character of the body file's shape for these betas and this scale.

    R_body_capture: rotation from the poses' world to the body frame. uv_file: an `.obj` of the same
    triangles, with texture coordinates; None: those of the body file, else a layout of our own.
    Raises: InputError, for poses of another body or a layout of other triangles.
    """
    # Shape, with joints.
    if poses.kind != model.kind:
        text = f"expected a body file of {poses.kind}, as the poses are, got {model.kind}"
        raise bad(model.path, None, text)
    notes = [NO_POSE_SHAPES]
    vertices = model.shaped(poses.betas)
    joints = model.joints(vertices) * poses.scale

    # Layout of the texture.
    corner_uvs = model.corner_uvs
    if uv_file is not None:
        corner_uvs = _uvs_of_file(uv_file, model.faces)
    return _character(
        vertices * poses.scale, model.faces, corner_uvs, None, model.weights, joints,
        model.kind, poses, R_body_capture, name, notes,
    )  # fmt: skip


def clothed_character(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    corner_uvs: Float[ndarray, "F 3 2"] | None,
    weights: Float[ndarray, "V J"],
    model: BodyModel,
    poses: BodyPoses,
    R_body_capture: Float[ndarray, "3 3"],
    *,
    texture: UInt8[ndarray, "h w 3"] | None = None,
    name: str = "character",
) -> BodyCharacter:
    """Make a character of a clothed surface in the body's rest pose, m, with the body's joints.

    vertices: of the rest pose that `make_body_character` has, scale included. weights: on the
    joints of the body's kind. corner_uvs None: a layout of our own, for which a texture is of no
    use. Raises: InputError.
    """
    if poses.kind != model.kind or weights.shape[1] != len(BODY_JOINTS[model.kind]):
        text = f"expected poses and weights of {model.kind}"
        raise bad(model.path, None, f"{text}, got {poses.kind} and {weights.shape[1]} joints")
    joints = model.joints(model.shaped(poses.betas)) * poses.scale
    return _character(
        vertices, faces, corner_uvs, texture, weights, joints,
        model.kind, poses, R_body_capture, name, [],
    )  # fmt: skip


def _character(
    vertices: np.ndarray,
    faces: np.ndarray,
    corner_uvs: np.ndarray | None,
    texture: np.ndarray | None,
    weights: np.ndarray,
    joints: np.ndarray,
    kind: BodyKind,
    poses: BodyPoses,
    R_body_capture: np.ndarray,
    name: str,
    notes: list[str],
) -> BodyCharacter:
    """Assemble the character; joints: places at rest, m."""
    # Texture, and a layout in which no two triangles share a texel.
    names = BODY_JOINTS[kind]
    if corner_uvs is not None and not is_one_to_one(corner_uvs):
        notes.append("texture coordinates of which triangles share places: laid out anew")
        corner_uvs = texture = None
    if corner_uvs is None:
        corner_uvs, texture = lay_out_body(vertices, faces, weights, names, joints), None
    has_texture = texture is not None
    if texture is None:
        texture = np.full((TEXTURE_PX, TEXTURE_PX, 3), GREY, np.uint8)

    # Joints, and the bones that move the vertices.
    skeleton = make_skeleton(kind, joints, poses, R_body_capture)
    bones = tuple(map(bone_name, names))
    skinning = build_skin(weights, bones, {bone: bone for bone in bones}, skeleton)
    nodes, graph_faces = make_graph(vertices, faces)
    notes.append(
        f"limits of the joints: {MARGIN_DEGREES:.0f} degrees or a quarter of the range beyond the "
        "poses of the data, and never nearer to rest than another motion may need"
    )
    actor = Actor(
        vertices=vertices,
        faces=faces,
        corner_uvs=corner_uvs,
        texture=texture,
        skeleton=skeleton,
        skinning=skinning,
        graph_nodes=nodes,
        graph_faces=graph_faces,
        hands=hand_mask(weights, names),
        motions={},
        name=name,
    )
    return BodyCharacter(actor, tuple(notes), has_texture)


def make_skeleton(
    kind: BodyKind,
    joints: Float[ndarray, "J 3"],
    poses: BodyPoses,
    R_body_capture: Float[ndarray, "3 3"],
) -> Skeleton:
    """Make the skeleton of a body: axes in an order that suits the poses, limits with room.

    A limit is 20 degrees or a quarter of the range beyond the poses, whichever is more. It lies at
    least 150 degrees from rest at hips, knees, shoulders and elbows, 60 in the trunk, 20 at jaw and
    eyes, 90 elsewhere. The root has no limits.
    """
    # Turns of each joint in the poses.
    names, parents = BODY_JOINTS[kind], BODY_PARENTS[kind]
    turns = Rotation.from_rotvec(poses.rotations.reshape(-1, 3)).as_matrix()
    turns = turns.reshape(*poses.rotations.shape[:2], 3, 3)
    turns[:, 0] = R_body_capture @ turns[:, 0]

    # One joint a slide or turn, one dof each.
    rows: list[tuple[str, int, int, bool]] = []  # name, parent, axis, slides
    offsets: list[np.ndarray] = []
    limits: list[tuple[float, float]] = []
    dof_names: list[str] = []
    last: list[int] = []
    for number, joint in enumerate(names):
        is_root = parents[number] < 0
        bone = bone_name(joint)
        order = choose_order(turns[:, number], HEADING_ORDERS if is_root else _preferred(joint))
        above = -1 if is_root else last[parents[number]]
        offset = joints[number] - (0.0 if is_root else joints[parents[number]])
        free = (-np.inf, np.inf)
        bounds = [free] * 3 if is_root else _limits(turns[:, number], order, joint)
        kinds = [(slide, "xyz".index(slide[1]), True, free) for slide in SLIDES if is_root]
        kinds += [
            (f"r{letter.lower()}", "XYZ".index(letter), False, bound)
            for letter, bound in zip(order, bounds, strict=True)
        ]
        for letters, axis, slides, bound in kinds:
            rows.append((f"{bone}_{letters}", above, axis, slides))
            offsets.append(np.asarray(offset))
            limits.append(bound)
            root_name = f"{'translate' if slides else 'rotate'}_{letters[1]}"
            dof_names.append(root_name if is_root else f"{bone}_{letters}")
            offset, above = np.zeros(3), len(rows) - 1
        last.append(above)
    return Skeleton(
        joint_names=tuple(name for name, *_ in rows),
        parents=torch.tensor([parent for _, parent, *_ in rows]),
        is_prismatic=torch.tensor([slides for *_, slides in rows]),
        axes=torch.eye(3)[[axis for *_, axis, _ in rows]],
        offsets=torch.from_numpy(np.stack(offsets)).float(),
        dof_names=tuple(dof_names),
        dof_limits=torch.tensor(limits, dtype=torch.float32),
        dof_matrix=torch.eye(len(rows)),
    )


def _preferred(joint: str) -> Sequence[str]:
    """List the orders by a body's habits: first those whose second angle is the limb's twist."""
    word = joint.partition("_")[2].rstrip("0123456789") if "_" in joint else joint
    along_x = ("shoulder", "collar", "wrist", "hand", "index", "middle", "ring", "pinky", "thumb")
    if word == "elbow":
        first = ("YZX", "XZY")  # it bends about Y and twists about X
    elif word in along_x:
        first = ("ZXY", "YXZ")
    elif word in ("hip", "knee", "ankle", "foot"):
        first = ("XYZ", "ZYX")
    else:
        first = ORDERS[:2]
    return (*first, *(order for order in ORDERS if order not in first))


def _limits(turns: np.ndarray, order: str, joint: str) -> list[tuple[float, float]]:
    """Return the limits of a joint's three angles, rad."""
    word = joint.partition("_")[2] if "_" in joint else joint
    room = np.radians(ROOM_DEGREES.get(word, OTHER_ROOM_DEGREES))
    angles = np.zeros((1, 3))
    if len(turns):
        angles = euler_angles(turns[:, None], order)[:, 0]
    low, high = angles.min(0), angles.max(0)
    margin = np.maximum(np.radians(MARGIN_DEGREES), MARGIN_SHARE * (high - low))
    # More room about the middle axis gives each pose of a leg two sets of angles.
    middle = min(room, np.radians(MIDDLE_ROOM_DEGREES)) if word in ("hip", "knee") else room
    rooms = np.array([room, middle, room])
    low, high = np.minimum(low - margin, -rooms), np.maximum(high + margin, rooms)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _uvs_of_file(path: Path, faces: np.ndarray) -> np.ndarray:
    """Read the texture coordinates [F, 3, 2] of an .obj for these triangles, in any order."""
    mesh = read_obj(path)
    assert mesh.corner_uvs is not None
    uvs, triangles = mesh.corner_uvs.numpy(), mesh.faces.numpy()
    if len(triangles) != len(faces):
        text = f"expected the {len(faces)} triangles of the body file, got {len(triangles)}"
        raise bad(path, None, text)
    # The same triangles in one order, each with its lowest vertex first.
    corners, order = _sorted(faces)
    file_corners, file_order = _sorted(triangles)
    own = np.take_along_axis(faces, corners, 1)[order]
    others = np.take_along_axis(triangles, file_corners, 1)[file_order]
    if not np.array_equal(own, others):
        count = int((own != others).any(1).sum())
        text = f"expected the triangles of the body file, got {count} that differ from its"
        raise bad(path, None, text)
    result = np.empty((len(faces), 3, 2))
    sorted_uvs = np.take_along_axis(uvs, file_corners[..., None], 1)[file_order]
    result[order[:, None], corners[order]] = sorted_uvs
    if result.min() < 0.0 or result.max() > 1.0:
        text = f"expected texture coordinates in 0 to 1, got {result.min():.4g}"
        raise InputError(f"{path}: {text} to {result.max():.4g}")
    return result


def _sorted(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return corners [F, 3] of triangles from the lowest vertex on, and the triangles' order."""
    corners = (np.arange(3) + faces.argmin(1)[:, None]) % 3
    return corners, np.lexsort(np.take_along_axis(faces, corners, 1).T[::-1])

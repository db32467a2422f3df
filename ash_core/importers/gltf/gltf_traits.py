"""Report on a glTF character: rest pose, atlas, paint other than in the file."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ash_core.files.gltf import Gltf, Node
from ash_core.importers.gltf.gltf_atlas import MaterialAtlas
from ash_core.importers.gltf.gltf_paint import Material, Soup
from ash_core.importers.gltf.gltf_rig import Rig
from ash_core.importers.gltf.gltf_vrm import human_bones
from ash_core.importers.retarget.joint_names import SIDES, body_parts

T_POSE_DEGREES = 20.0
"""Largest angle of arms to the horizontal in a T-pose."""
A_POSE_DEGREES = 70.0
"""Largest angle of arms below it in an A-pose."""
STRAIGHT_DEGREES = 45.0
"""Largest bend of elbows in either."""
_ARMS = {
    f"{side}{bone}": f"{side} {part}"
    for side in SIDES
    for bone, part in (("UpperArm", "upper_arm"), ("LowerArm", "forearm"), ("Hand", "hand"))
}
"""VRM's names of the arms' bones, and ours."""


def describe_rest(places: Mapping[str, np.ndarray], known_parts: Mapping[str, np.ndarray]) -> str:
    """Describe the rest pose by its arms.

    places: places of the joints by name, m, Y up.  known_parts: places of body parts that VRM
    names.
    """
    parts = {part: places[name] for part, name in body_parts(list(places)).items()} | dict(
        known_parts
    )
    drops, bends = [], []
    for side in SIDES:
        joints = [parts.get(f"{side} {part}") for part in ("upper_arm", "forearm", "hand")]
        shoulder, elbow, hand = joints
        if shoulder is None or elbow is None or hand is None:
            continue
        arm = hand - shoulder
        drops.append(np.degrees(np.arctan2(-arm[1], np.hypot(arm[0], arm[2]))))
        upper, lower = elbow - shoulder, hand - elbow
        lengths = np.linalg.norm(upper) * np.linalg.norm(lower)
        bends.append(np.degrees(np.arccos(np.clip(upper @ lower / max(lengths, 1e-12), -1, 1))))
    if not drops:
        return "rest pose: no arms are recognised by their joints' names"
    drop = float(np.mean(drops))
    where = f"arms {abs(drop):.0f} degrees {'below' if drop >= 0 else 'above'} the horizontal"
    if max(bends) > STRAIGHT_DEGREES or np.ptp(drops) > STRAIGHT_DEGREES:
        return f"rest pose: neither T-pose nor A-pose ({where}, elbows bent)"
    if abs(drop) <= T_POSE_DEGREES:
        return f"rest pose: T-pose ({where})"
    if 0 < drop <= A_POSE_DEGREES:
        return f"rest pose: A-pose ({where})"
    return f"rest pose: neither T-pose nor A-pose ({where})"


def rest_fact(gltf: Gltf, nodes: Sequence[Node], rig: Rig) -> str:
    """Describe the rest pose. Dofs of zero are the pose in which the skin was bound."""
    place = {n: rig.reference[j, :3, 3] for j, n in enumerate(rig.nodes) if n >= 0}
    bones = human_bones(gltf)
    known_parts = {
        part: place[bones[bone]] for bone, part in _ARMS.items() if bones.get(bone) in place
    }
    return describe_rest({nodes[n].name: spot for n, spot in place.items()}, known_parts)


def atlas_fact(atlas: MaterialAtlas) -> str:
    """Describe the atlas: its size, its layout's origin, its density."""
    height, width = atlas.texture.shape[:2]
    side = math.sqrt(height * width)
    layout = "the file's own layout" if atlas.is_kept else "laid out anew"
    per_cm = atlas.density_px_m / 100
    text = f"atlas: {width} x {height} pixels, {layout}; {per_cm:.3g} pixels/cm"
    if atlas.source_px_m and not atlas.is_kept:
        text += f" (the file's images: {atlas.source_px_m / 100:.3g})"
    texels = ", ".join(f"{per_cm * n / side:.3g} at {n} x {n}" for n in (256, 512))
    return f"{text}; texels/cm: {texels}"


def paint_notes(soup: Soup, materials: Sequence[Material], atlas: MaterialAtlas) -> list[str]:
    """List the paint that differs from the file."""
    notes = []
    has_image = np.array([m.image is not None for m in materials])[soup.materials]
    without = has_image & ~np.isfinite(soup.uvs).all((1, 2))
    count = len(soup.materials)
    if not has_image.any() and soup.colours is None:
        notes.append("no image in the file: surfaces have their materials' plain colours")
    if without.any():
        notes.append(
            f"{without.sum()} of {count} triangles have an image but no texture coordinates: "
            "they are laid out anew, in the image's mean colour"
        )
    with_layout = has_image & ~without
    spread = np.ptp(soup.uvs[with_layout].reshape(-1, 2), axis=0) if with_layout.any() else [1.0]
    if max(spread) < 1e-6:
        notes.append(
            "all texture coordinates lie in one point: surfaces have the colour of that point"
        )
    elif atlas.relaid > without.sum():
        notes.append(
            f"{atlas.relaid - without.sum()} of {count} triangles lie in a sliver or a point of "
            "their image: they are laid out by their size in space"
        )
    return notes

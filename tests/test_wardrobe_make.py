"""An actor of the wardrobe from body to atlas: needs anny, and a few minutes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from made_face import SIDES, Face, gap, halves
from scipy.spatial import KDTree

from ash_core.geometry.kinematics import joint_transforms
from ash_core.studio.mesh.graph import MIN_NODES, make_graph
from ash_core.studio.mesh.surface import boundary_loops
from ash_core.studio.mesh.texels import find_texels
from ash_core.studio.truth.dressing import LEATHER, SKIN, WOOL
from ash_core.studio.truth.skinned import blend_matrices, normals_of
from ash_core.studio.wardrobe.outfits import BODY, OUTFITS, SKIRT, TOP

pytest.importorskip("anny")


def share_outside(made: Any, **dofs: float) -> float:
    """Return the share of the thighs' vertices outside the skinned skirt in a pose, angles in rad.

    Those from 10 cm under the hip joints down to 10 cm above the hem.
    """
    skin, sheet = made.skinning, made.fitted.sheet
    names = made.skeleton.dof_names
    pose = torch.zeros(len(names), dtype=torch.float64)
    for name, angle in dofs.items():
        pose[names.index(name)] = angle
    rest = joint_transforms(made.skeleton, torch.zeros_like(pose))
    moves = (joint_transforms(made.skeleton, pose) @ torch.linalg.inv(rest))[skin.bone_joints]
    posed = blend_matrices(
        sheet.points, skin.bones.numpy(), skin.weights.numpy().astype(float), moves.numpy()
    )
    skirt = np.unique(sheet.faces[sheet.parts == SKIRT])
    skirt = skirt[sheet.added[skirt]]
    hip = made.fitted.marks.hip[1] + made.fitted.lift
    height = sheet.points[:, 1]
    legs = np.unique(sheet.faces[sheet.parts == BODY])
    on_leg = height[legs] < hip - 0.10
    legs = legs[on_leg & (height[legs] > height[skirt].min() + 0.10)]
    legs = legs[np.abs(sheet.points[legs, 0]) < 0.22]
    hands = made.fitted.sheet.weights[:, [b.startswith(("wrist", "finger", "metacarpal"))
                                          for b in made.fitted.body.bones]].sum(1)  # fmt: skip
    legs = legs[hands[legs] == 0]
    _, nearest = KDTree(posed[skirt]).query(posed[legs])
    outwards = normals_of(posed, sheet.faces)[skirt[nearest]]
    return float((((posed[legs] - posed[skirt[nearest]]) * outwards).sum(1) > 0.002).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTFITS)
def test_an_actor_is_one_surface_with_one_atlas(name: str) -> None:
    from ash_core.studio.wardrobe.fit import bodily
    from ash_core.studio.wardrobe.layout import layout
    from ash_core.studio.wardrobe.make import dressing_of, rigged
    from ash_core.studio.wardrobe.paint import Painted

    outfit = OUTFITS[name]
    made = rigged(outfit)
    sheet = made.fitted.sheet
    assert 5_000 < len(sheet.points) < 12_000
    assert not boundary_loops(sheet.faces)
    assert sheet.points[:, 1].min() == pytest.approx(0.0, abs=1e-9)
    weights = made.skinning.weights.numpy()
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-5)
    nodes, triangles = make_graph(sheet.points, sheet.faces)
    assert len(nodes) >= MIN_NODES
    assert len(np.unique(triangles)) == len(nodes)
    blank = np.zeros((2, 2), np.uint8)
    none = Painted(np.zeros((2, 2, 3), np.uint8), blank, blank)
    dressing = dressing_of(made.fitted, outfit, none)
    assert {SKIN, WOOL} <= set(dressing.materials.tolist())
    assert (LEATHER in dressing.materials) == (name != "ida")
    assert dressing.loose.max() > 0.5
    assert (dressing.loose[dressing.solid] == 0).all()
    dressed = replace(bodily(sheet, made.fitted.body), vertices=sheet.points)
    made_face = Face(dressed, made.skeleton, made.skinning)
    for side, labels in SIDES.items():
        upper, lower = halves(made_face, labels)
        blink = {f"{side.lower()}_blink": 1.0}
        assert gap(made_face.posed(), upper, lower).max() > 0.007
        assert gap(made_face.posed(**blink), upper, lower).max() < 0.001
    if name != "ida":  # one atlas is enough for a test
        return
    assert share_outside(made, left_hip_z=0.45, right_hip_z=0.45) < 0.03, "legs apart"
    assert share_outside(made, left_hip_x=1.0, right_hip_x=0.3) < 0.08, "a step up"
    uvs = layout(made.fitted)
    edge, other = uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]
    areas = (edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]) / 2
    assert areas.min() > 0
    texels = find_texels(uvs, 1024)
    # Were there overlaps, faces would cover more than the texels that they own.
    assert len(texels.rows) / 1024**2 == pytest.approx(areas.sum(), rel=2e-3)
    assert areas.sum() > 0.5
    # A finger is five centimetres around: of a small atlas it still gets seven texels.
    finger = [n for n, bone in enumerate(made.fitted.body.bones) if bone.startswith("finger")]
    hand = bodily(sheet, made.fitted.body).weights[:, finger].sum(1)[sheet.faces].min(1) > 0.5
    size = np.linalg.norm(
        np.cross(*np.diff(sheet.points[sheet.faces], axis=1).swapaxes(0, 1)), axis=1
    )
    per_cm = lambda of: np.sqrt(areas[of].sum() / (1e4 * size[of].sum() / 2))  # noqa: E731
    assert 128 * per_cm(hand) > 1.4
    # Face and hands are looked at first: their share of the atlas is a multiple of the trunk's.
    middle, eyes = sheet.bare[sheet.faces].mean(1), made.fitted.marks.eyes
    body = sheet.parts == BODY
    face = body & (np.linalg.norm((middle - eyes) * [1, 0.8, 1], axis=1) < 0.06) & (sheet.eyes == 0)
    trunk = sheet.parts == TOP
    assert per_cm(face) / per_cm(trunk) > 2.8
    assert per_cm(hand) / per_cm(trunk) > 1.9
    assert per_cm(np.isin(sheet.eyes, (1, 2))) / per_cm(trunk) > 4.0

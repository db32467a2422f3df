"""Laws of the actors' hair: a tail that hangs, a line that is soft. None needs anny."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from ash_core.files.avatar_file import load_avatar
from ash_core.records import AvatarData, Skinning
from ash_core.resources import resource
from ash_core.studio.truth.dressing import COTTON, HAIR, Dressing
from ash_core.studio.truth.true_surface import TrueActor
from ash_core.studio.wardrobe.hair import Comb, cover_of, paint_curls, paint_strands, strands

AROUND, RINGS = 12, 9
RADIUS = 0.025
ROOT = np.array([0.0, 1.66, -0.13])
"""Root of the tail, behind the bundled character's head; it hangs down from there. m"""


@cache
def plain() -> AvatarData:
    return load_avatar(resource("assets", "actor.safetensors"))


def tail_vertices() -> np.ndarray:
    """Return the indices [RINGS, AROUND] of the tail's vertices."""
    first = len(plain().template.vertices)
    return first + np.arange(RINGS * AROUND).reshape(RINGS, AROUND)


@cache
def tailed() -> TrueActor:
    """Hang a tube of hair, 32 cm long, on the bundled character's head."""
    data = plain()
    body, skin = data.template.vertices.numpy(), data.skinning
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    circle = RADIUS * np.stack([np.sin(angle), 0 * angle, np.cos(angle)], 1)
    points = np.concatenate([ROOT + circle - [0.0, 0.04 * k, 0.0] for k in range(RINGS)])
    rows = tail_vertices()
    a, b = rows[:-1], rows[1:]
    a1, b1 = np.roll(a, -1, 1), np.roll(b, -1, 1)
    strips = np.stack([np.stack([a, b, a1], -1), np.stack([a1, b, b1], -1)]).reshape(-1, 3)
    count, slots = len(points), skin.bones.shape[1]
    bones = np.full((count, slots), skin.bone_names.index("Head"))
    weights = np.zeros((count, slots), np.float32)
    weights[:, 0] = 1.0
    faces = np.concatenate([data.template.faces.numpy(), strips])
    uvs = np.concatenate([data.template.corner_uvs.numpy(), np.zeros((len(strips), 3, 2))])
    made = replace(
        data,
        template=replace(
            data.template,
            vertices=torch.tensor(np.concatenate([body, points]), dtype=torch.float32),
            faces=torch.from_numpy(faces),
            corner_uvs=torch.tensor(uvs, dtype=torch.float32),
        ),
        skinning=Skinning(
            skin.bone_names, skin.bone_joints,
            torch.cat([skin.bones, torch.from_numpy(bones).to(skin.bones)]),
            torch.cat([skin.weights, torch.from_numpy(weights).to(skin.weights)]),
        ),
    )  # fmt: skip
    loose = np.zeros(len(body) + count, np.float32)
    loose[rows.ravel()] = np.repeat(np.clip((np.arange(RINGS) - 1) / 4, 0, 1), AROUND)
    solid = np.arange(len(loose)) < len(body)
    materials = np.where(np.arange(len(faces)) < len(faces) - len(strips), COTTON, HAIR)
    dressing = Dressing(
        loose, np.full(len(loose), -1), np.zeros(len(loose), np.float32), solid,
        np.ones(len(loose), np.float32), materials.astype(np.int32), np.zeros((2, 2), np.uint8),
    )  # fmt: skip
    return TrueActor(made, dressing)


def bow(frames: int, **angles: float) -> np.ndarray:
    """Make dofs [F, D] of a slow bow that is then held."""
    names = plain().skeleton.dof_names
    share = np.clip(np.arange(frames) / 25, 0, 1)
    dofs = np.zeros((frames, len(names)))
    for name, angle in angles.items():
        dofs[:, names.index(name)] = angle * share
    return dofs


def test_a_tail_falls_when_the_head_bows() -> None:
    player, rows = tailed(), tail_vertices()
    dofs = bow(75, spine_lean=0.9, chest_lean=0.5, neck_lean=0.5)
    skinned = player.skinned(player.moves(dofs[-1]))
    truly = player.play(dofs).frame(74).vertices
    root, held, end = truly[rows[0]].mean(0), skinned[rows[-1]].mean(0), truly[rows[-1]].mean(0)
    assert held[1] > root[1] - 0.02, "the skinned tail does not stand up: no test"
    assert end[1] < root[1] - 0.15, end - root


def test_a_tail_stays_round_and_outside_the_head() -> None:
    player, rows = tailed(), tail_vertices()
    motion = player.play(bow(60, spine_lean=0.9, chest_lean=0.5, neck_lean=0.5))
    head = len(player.proxies.radii) - 1
    for index in (0, 20, 40, 59):
        frame = motion.frame(index).vertices[rows]
        across = np.linalg.norm(frame - np.roll(frame, AROUND // 2, 1), axis=2)
        assert across[3:-1].min() > 0.6 * 2 * RADIUS, (index, across.min(1))
        assert motion._pose is not None
        away = np.linalg.norm(frame - motion._pose.spheres[head], axis=2).min()
        rest = np.linalg.norm(player.template[rows] - player.proxies.centres[head], axis=2).min()
        assert away > min(rest, player.proxies.radii[head]) - 0.012, (index, away, rest)


def comb(count: int, narrow: float = 1.0) -> Comb:
    """Comb a row of strands of 20 cm."""
    across = np.linspace(0, 0.2, count)
    none = np.zeros(count)
    return Comb(across, none, none + narrow, 0.0, none + 1.0)


def cover_by_line(line: np.ndarray) -> np.ndarray:
    row = comb(2000)
    return np.array([cover_of(row, np.full(2000, at)).mean() for at in line])


def curls_by_line(line: np.ndarray) -> np.ndarray:
    """Return the mean cover at distances from the line, m, over a flat patch of scalp."""
    grid = np.stack(np.meshgrid(np.linspace(0, 0.05, 60), np.linspace(0, 0.05, 60), [0.0]), -1)
    places, black = grid.reshape(-1, 3), np.full(3, 0.1)
    return np.array(
        [paint_curls(places, black, np.full(len(places), at)).cover.mean() for at in line]
    )


@pytest.mark.parametrize("cover", [cover_by_line, curls_by_line])
def test_the_hairline_is_soft(cover: Callable[[np.ndarray], np.ndarray]) -> None:
    line = np.linspace(-0.02, 0.025, 46)  # 1 mm apart
    mean = cover(line)
    assert mean[0] == 0.0
    assert mean[-1] > 0.98
    assert (np.diff(mean) > -0.01).all()
    width_mm = np.interp(0.9, mean, line * 1e3) - np.interp(0.1, mean, line * 1e3)
    assert 6 < width_mm < 20, width_mm
    assert np.diff(mean).max() < 0.25


def test_strands_have_their_width_where_the_comb_is_narrow() -> None:
    """Near a parting or the root of a tail fewer strands go on: none is thinner than a texel."""
    crossings = []
    for narrow in (1.0, 0.25):
        values = strands(comb(8000, narrow), 0.001, 3)
        crossings.append(np.count_nonzero(np.diff(np.sign(values))))
    wide, near = crossings
    assert 60 < wide < 200  # about one zero a millimetre and a half
    assert near == pytest.approx(wide / 4, rel=0.4)


def test_strands_are_painted_with_depth() -> None:
    row = comb(4000)
    coat = paint_strands(row, np.full(3, 0.3), np.full(4000, 0.05), np.zeros((4000, 3)))
    assert np.ptp(coat.relief) > 0.0005
    assert np.corrcoef(coat.relief, coat.colour[:, 0])[0, 1] > 0.3, "valleys are darker"
    np.testing.assert_array_equal(coat.cover, 1.0)

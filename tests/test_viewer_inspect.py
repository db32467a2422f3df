"""From splat to texel and back, on the plain actor."""

import numpy as np
import pytest
import torch

from ash_core.geometry.motion import pose_window
from ash_core.records import Gaussians
from viewer.inspect import (
    CHANNELS,
    NOTHING,
    atlas_picture,
    describe,
    pick,
    raw_picture,
    texel_at,
)
from viewer.session import Session


@pytest.fixture(scope="module")
def session() -> Session:
    return Session("actor", device="cpu", preset="cpu")


@pytest.fixture(scope="module")
def gaussians(session: Session) -> Gaussians:
    window = pose_window(session.motion, 0, session.data.skeleton, session.data.history_offsets)
    return session.renderer.gaussians(window)


def test_a_pixel_of_the_body_gives_a_splat_that_is_there(
    session: Session, gaussians: Gaussians
) -> None:
    camera = session.camera(320, 240)
    alpha = session.renderer.render(session.request_shown(320, 240)).alpha
    solid = (alpha > 0.98).nonzero()
    for row, column in solid[:: max(len(solid) // 40, 1)].tolist():
        index = pick(gaussians, camera, column + 0.5, row + 0.5)
        assert index is not None
        seen = camera.viewmat[:3, :3] @ gaussians.means[index] + camera.viewmat[:3, 3]
        pixel = (camera.K @ seen)[:2] / seen[2]
        assert (pixel - torch.tensor([column + 0.5, row + 0.5])).norm() < 25
    row, column = (alpha == 0).nonzero()[0].tolist()
    assert pick(gaussians, camera, column + 0.5, row + 0.5) is None


def test_splat_and_texel_name_each_other(session: Session, gaussians: Gaussians) -> None:
    avatar = session.renderer.avatar
    for index in range(0, len(gaussians.means), 997):
        splat = describe(avatar, gaussians, index)
        assert texel_at(avatar, *splat.texel) == index
        assert sum(weight for _, weight in splat.bones) == pytest.approx(1, abs=0.15)
        assert sum(splat.barycentrics) == pytest.approx(1, abs=1e-4)
    side = avatar.atlas.resolution
    used = {tuple(texel) for texel in avatar.atlas.texels.tolist()}
    free = next((u, v) for u in range(side) for v in range(side) if (u, v) not in used)
    assert texel_at(avatar, *free) is None


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_atlas_shows_every_texel(session: Session, gaussians: Gaussians, channel: str) -> None:
    avatar = session.renderer.avatar
    picture = atlas_picture(avatar, gaussians, channel)  # type: ignore[arg-type]
    assert int((picture[..., 3] > 0).sum()) == len(avatar.atlas.texels)
    if channel == "colour":  # an untrained avatar shows its texture
        texture = session.data.template.texture.float()
        step = texture.shape[0] // avatar.atlas.resolution
        small = texture[step // 2 :: step, step // 2 :: step][: picture.shape[0]]
        on = picture[..., 3] > 0
        error = (picture[..., :3].float() - small).abs()[on].mean()
        assert float(error) < 25
    assert np.isfinite(picture.float().numpy()).all()


def test_every_channel_of_the_decoder_is_shown_by_its_name(session: Session) -> None:
    avatar = session.renderer.avatar
    window = pose_window(session.motion, 0, session.data.skeleton, session.data.history_offsets)
    raw = session.renderer.decoded(window).raw
    names = avatar.raw_channels
    assert len(names) == raw.shape[1] == len(set(names))
    known = torch.linspace(-2, 1, len(raw))[:, None] * torch.arange(1, len(names) + 1)
    for column, name in enumerate(names):
        picture = raw_picture(avatar, known, name)
        assert picture.greatest == pytest.approx(column + 1)
        assert picture.least == pytest.approx(-2 * (column + 1))
        u, v = avatar.atlas.texels[-1].tolist()
        row = picture.pixels[avatar.atlas.resolution - 1 - v, u].tolist()
        assert row[0] > row[2]  # above zero: orange
        u, v = avatar.atlas.texels[0].tolist()
        row = picture.pixels[avatar.atlas.resolution - 1 - v, u].tolist()
        assert row[0] < row[2]  # below: blue


def test_channels_mean_what_their_names_say(session: Session) -> None:
    """A residual in one channel changes what its name says, and nothing else."""
    avatar = session.renderer.avatar
    window = pose_window(session.motion, 0, session.data.skeleton, session.data.history_offsets)
    mesh, raw = avatar.character(window), session.renderer.decoded(window).raw
    before = avatar.assemble(raw, mesh)
    changes = {
        "offset y": "means",
        "rotation x": "quats",
        "log scale z": "scales",
        "opacity": "opacities",
        "SH 0 g": "sh",
    }
    for name, field in changes.items():
        moved = raw.clone()
        moved[:, avatar.raw_channels.index(name)] += 0.3
        after = avatar.assemble(moved, mesh)
        changed = {f for f in vars(after) if not torch.equal(getattr(before, f), getattr(after, f))}
        assert changed == {field}, name


def test_a_decoder_that_says_nothing_is_grey(session: Session) -> None:
    avatar = session.renderer.avatar
    picture = raw_picture(
        avatar, torch.zeros(len(avatar.flat), len(avatar.raw_channels)), "opacity"
    )
    on = picture.pixels[picture.pixels[..., 3] > 0]
    assert (on[:, :3].float() / 255 - torch.tensor(NOTHING)).abs().max() < 0.01
    assert (picture.reach, picture.least, picture.greatest) == (0, 0, 0)

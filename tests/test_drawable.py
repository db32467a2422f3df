"""Input of a renderer: avatars, static splats, and any other kind that keeps to the protocol."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from test_rasterize_cpu import camera, scene

from ash_core.avatar import Avatar
from ash_core.drawable import Decoded, Drawable, Stage, StaticSplats, no_stage
from ash_core.errors import InputError
from ash_core.geometry.motion import NO_POSES
from ash_core.pose_windows import window_at
from ash_core.records import AvatarData, PoseWindow, SplatData
from ash_core.render import Renderer, RenderRequest
from ash_core.scene.open import (
    ACTOR,
    load_avatar_data,
    load_drawable,
    make_renderer,
    still_motion,
)
from ash_core.splat.rasterize import rasterize

SPLATS = Path(__file__).parent / "data" / "splats" / "splats.ply"


class Growing:
    """A third kind, known to nobody: as many splats as its window has poses."""

    count, device, version, truncates_bytes = 9, torch.device("cpu"), 0, False

    def to(self, device: torch.device, /) -> None:
        assert device == self.device

    def decode_window(self, window: PoseWindow, stage: Stage = no_stage, /) -> Decoded:
        with stage("grow"):
            return Decoded(scene("", count=len(window.dofs)))


def test_a_third_kind_is_rendered_through_the_protocol() -> None:
    renderer = Renderer(Growing())
    for count in (1, 9):
        window = PoseWindow(torch.zeros(count, 4).double(), torch.zeros(count, 3, 4).double())
        request = RenderRequest(window, camera(), (1.0, 1.0, 1.0))
        got = renderer.render(request)
        assert list(renderer.timings) == ["grow", "raster"]
        want = rasterize(scene("", count=count), camera(), torch.ones(3), backend="cpu")
        assert torch.equal(got.rgb, want.rgb)
        renderer.render(request)
        assert list(renderer.timings) == ["raster"]  # the same window is decoded once
        assert renderer.draw(request).shape == (*got.rgb.shape[:2], 4)


def test_a_renderer_asks_nothing_more_of_a_drawable() -> None:
    """Only for texels, raw values, a surface and the GPU's own path it takes an avatar."""
    renderer = Renderer(Growing())
    assert not renderer.is_fast
    with pytest.raises(AssertionError, match="Growing"):
        renderer.surface(NO_POSES)


def test_both_kinds_keep_to_the_protocol() -> None:
    avatar, splats = load_drawable(ACTOR), load_drawable(str(SPLATS), "z")
    assert isinstance(avatar, AvatarData)
    assert isinstance(splats, SplatData)
    kinds: tuple[Drawable, ...] = (
        Avatar.from_data(avatar, preset_name="cpu"),
        StaticSplats(splats),
    )
    for data, drawable in zip((avatar, splats), kinds, strict=True):
        window = window_at(data, still_motion(data, 2), 1)
        decoded = drawable.decode_window(window)
        assert len(decoded.gaussians.means) == drawable.count > 0
        assert drawable.device.type == "cpu"
        assert not drawable.truncates_bytes
        assert (decoded.raw is None) == isinstance(data, SplatData)
        assert drawable.decode_window(window).gaussians.means.isfinite().all()


def test_static_splats_have_no_skeleton_and_move_to_a_device() -> None:
    data = load_drawable(str(SPLATS), "z")
    assert {f.name for f in fields(data)} == {
        "name", "gaussians", "box", "up", "notes", "cameras",
    }  # fmt: skip
    splats = StaticSplats(load_drawable(str(SPLATS), "z"))  # type: ignore[arg-type]
    splats.to(torch.device("meta"))
    assert splats.device.type == "meta"
    assert splats.count == 24
    motion = still_motion(data, 7)
    assert motion.dofs.shape == (7, 0)
    assert window_at(data, motion, 6) is NO_POSES


def test_commands_that_pose_refuse_splats() -> None:
    with pytest.raises(InputError, match=r"splats\.ply: expected an avatar, got splats"):
        load_avatar_data(str(SPLATS))
    assert make_renderer(load_drawable(str(SPLATS), "z"), "cpu", "cpu", "quality").drawable.count

"""The avatar that comes with us is one that our trainer made, and looks like it."""

from dataclasses import replace

import pytest
import torch

from ash_core.files.skeletool import FACE_DOFS, read_motion
from ash_core.geometry.motion import pose_window
from ash_core.render import RenderRequest
from ash_core.resources import resource
from ash_core.scene.open import (
    ACTOR,
    BALANCED,
    BUILT_IN,
    BUNDLED,
    Preset,
    load_avatar_data,
    load_motion,
    make_renderer,
)

ASSETS_MB = 40


def test_they_are_trained_and_the_assets_are_small() -> None:
    for name, actor, atlas in (
        (BUNDLED, "ida", 128),
        (BALANCED, "ida", 256),
        ("mira", "mira", 128),
    ):
        data = load_avatar_data(name)
        assert (data.name, data.decoder["atlas"]) == (actor, atlas)
        assert (data.cloth is not None) == (actor == "ida")
        assert data.networks["decoder"]["head.weight"].abs().max() > 0.01
        assert data.networks["decoder"]["base"].abs().max() > 0.1
    files = [path for path in resource("assets").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < ASSETS_MB * 1e6
    assert load_avatar_data(ACTOR).networks == {}
    assert all((resource("assets") / name).exists() for name in BUILT_IN.values())


@pytest.mark.parametrize(
    ("name", "preset"), [(BUNDLED, "cpu"), (BALANCED, "balanced"), ("mira", "cpu")]
)
def test_training_changed_what_is_seen(name: str, preset: Preset) -> None:
    """Beside the same character untrained: lit and folded, but nobody else."""
    data = load_avatar_data(name)
    motion = load_motion(None, name, data)
    camera = data.cameras[0]
    request = RenderRequest(
        pose_window(motion, 60, data.skeleton, data.history_offsets), camera, (1.0, 1.0, 1.0)
    )
    bare = replace(data, networks={}, decoder={})
    trained, untrained = (
        make_renderer(one, "cpu", "auto", chosen).render(request)
        for one, chosen in ((data, None), (bare, preset))
    )
    both = (trained.alpha > 0.5) & (untrained.alpha > 0.5)
    either = (trained.alpha > 0.5) | (untrained.alpha > 0.5)
    assert int(both.sum()) > 0.7 * int(either.sum())
    difference = (trained.rgb - untrained.rgb).abs().mean(-1)[both]
    assert 0.02 < float(difference.mean()) < 0.3
    assert torch.isfinite(trained.rgb).all()


def test_motions_of_actors_without_a_face_still_play() -> None:
    file = resource("assets") / ACTOR / "motions" / "dance.motion"
    whole, plain = (
        read_motion(file, load_avatar_data(name).skeleton).dofs for name in (BUNDLED, ACTOR)
    )
    count = plain.shape[1]
    assert torch.equal(whole[:, :count], plain)
    assert whole.shape[1] == count + len(FACE_DOFS)
    assert not whole[:, count:].any()
    assert load_motion("dance", BUNDLED, load_avatar_data(BUNDLED)).dofs[:, count:].any()

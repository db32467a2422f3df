"""The window looks as it did: pictures of it against small ones that are kept in golden/.

A bound for eyes, not for bits: fonts, OpenGL and rounding may differ, a panel that is gone, a wrong
theme or an empty picture may not. After a change that is meant, make new ones and look at them:

    python tests/test_viewer_pictures.py
"""

import itertools
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from scipy.ndimage import gaussian_filter
from window_process import NO_EGL, end_window_process, has_egl, use

GOLDEN = Path(__file__).resolve().parent / "golden"
SMALL = (640, 400)
BLUR_PX = 3.0
"""Of the small picture: the strokes of letters are gone, blocks of text are there."""
BLOCK_PX = 40
MOST = 0.08
"""Mean difference of any block, of 1. Between the kept pictures themselves it is over 0.2."""
SHOTS = {
    "start": "",
    "light": """
        commands.run(session, "window.theme")
        session.edit("background", background="white")
        for name in ("look.skeleton", "window.preferences"):
            commands.run(session, name)
        """,
    "pose": """
        session.clock.seek(150)
        for name in ("pose.hold", "look.normals", "look.skeleton", "camera.add_key"):
            commands.run(session, name)
        session.selected_joint = next(n for n in session.tree if n.depth > 2).joint_names[0]
        """,
    "splats": """
        from ash_core.files.ply import write_ply
        shown = session.request_shown(4, 4)
        write_ply(Path.cwd() / "pose.ply", session.renderer.gaussians(shown.window))
        session.open(str(Path.cwd() / "pose.ply"))
        session.messages.clear()
        commands.run(session, "record.video")
        app.record.name = "recording"
        """,
}
SETTLED = """
settle()
until(lambda: not app.atlas.busy and app.atlas._known is not None or session.is_static)
settle()
"""


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    end_window_process()


def shot(name: str, folder: Path) -> np.ndarray:
    """[400, 640, 3] in [0, 1]."""
    picture, _ = use(folder, textwrap.dedent(SHOTS[name]) + SETTLED)
    assert picture.shape == (800, 1280, 3)
    small = PillowImage.fromarray(picture).resize(SMALL, PillowImage.Resampling.BOX)
    return np.asarray(small) / 255


def kept(name: str) -> np.ndarray:
    with PillowImage.open(GOLDEN / f"viewer_{name}.png") as picture:
        return np.asarray(picture.convert("RGB")) / 255


def unlike(a: np.ndarray, b: np.ndarray) -> float:
    """The largest mean difference of a block of the blurred pictures."""
    away = np.abs(gaussian_filter(a - b, (BLUR_PX, BLUR_PX, 0)))
    height, width, _ = away.shape
    blocks = away.reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX, 3)
    return float(blocks.mean((1, 3, 4)).max())


@pytest.mark.slow
@pytest.mark.skipif(not has_egl(), reason=NO_EGL)
@pytest.mark.parametrize("name", SHOTS)
def test_the_window_looks_as_it_did(name: str, tmp_path: Path) -> None:
    found = unlike(shot(name, tmp_path), kept(name))
    assert found < MOST, f"{found:.3f}"


def test_the_bound_tells_the_kept_pictures_apart() -> None:
    for one, other in itertools.combinations(SHOTS, 2):
        assert unlike(kept(one), kept(other)) > 2 * MOST, (one, other)


def renew(folder: Path) -> None:
    """Write the pictures anew."""
    for name in SHOTS:
        inside = folder / name
        inside.mkdir(parents=True)
        pixels = (255 * shot(name, inside) + 0.5).astype(np.uint8)
        small = PillowImage.fromarray(pixels).quantize(128)
        small.save(GOLDEN / f"viewer_{name}.png", optimize=True)
        print(f"viewer_{name}.png: {(GOLDEN / f'viewer_{name}.png').stat().st_size} bytes")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        renew(Path(name) / "pictures")
    end_window_process()

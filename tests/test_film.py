"""The virtual stage: what it films, that it is what is there, and that a kill spoils nothing."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from gl_process import end_gl_process, the_context, with_gl
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from PIL import Image
from scipy.ndimage import binary_erosion, median_filter

from ash_core.cli import main
from ash_core.commands import capture as capture_command
from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.files.cameras.published import read_calibration
from ash_core.files.dataset import (
    POSES,
    mask_video_path,
    open_dataset,
    read_masked,
    video_path,
)
from ash_core.files.skeletool import read_motion
from ash_core.geometry.camera import camera_position
from ash_core.geometry.motion import pose_window
from ash_core.records import Camera
from ash_core.resources import resource
from ash_core.studio.film import film_stage
from ash_core.studio.film.camera_ring import MARGIN, camera_ring
from ash_core.studio.film.film import Film, FilmJob
from ash_core.studio.film.film_pass import FilmPass
from ash_core.studio.film.film_record import CLOTH, RECORD
from ash_core.studio.film.film_stage import FilmStage, build_stage, read_actor, write_stage
from ash_core.studio.film.film_truth import truth_depth, truth_mesh
from ash_core.studio.film.script import Script, find_motions, join_motions, read_script
from ash_core.studio.film.studio_light import BACKDROP
from ash_core.studio.truth.dressing import FLAT
from ash_core.variants import RELEASED

ACTOR = resource("assets", "actor")
SIZE = (96, 72)


@pytest.fixture(scope="module", autouse=True)
def _end():
    yield
    end_gl_process()


@functools.cache
def script() -> Script:
    actor = read_actor(ACTOR, 0)
    return read_script(list(find_motions(ACTOR)["training"].values()), actor.data.skeleton)


@functools.cache
def stage(cameras: int = 3, size: tuple[int, int] = SIZE, seed: int = 0) -> FilmStage:
    return build_stage(ACTOR, read_actor(ACTOR, seed), [script().dofs[:40]], cameras, size, seed)


def film(out: Path, frames: int, until: int | None = None, of: FilmStage | None = None):
    """Film the first frames; stop after `until` images."""
    job = FilmJob(out, "training", of or stage(), script(), range(frames), False, 2)
    work, seen = Film(job), [0]

    def tell(images: int) -> None:
        seen[0] += images

    work.check(again=False)
    write_stage(out, ACTOR, job.stage.cameras)
    work.prepare()
    try:
        return work.run(tell, lambda: until is not None and seen[0] >= until)
    finally:
        the_context().make_current()


def decoded(out: Path, cameras: int = 3) -> np.ndarray:
    """Decode every pixel of every video [videos, F, h, w, 3]."""
    videos = []
    for camera in range(cameras):
        for path in (video_path(out, "training", camera), mask_video_path(out, "training", camera)):
            with av.open(str(path)) as container:
                frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
            videos.append(np.stack(frames))
    return np.stack(videos)


# ---- what is filmed is what is there ----


@njit
def rasterize(places: np.ndarray, faces: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return depth [h, w] at pixels' centres, 0 where empty. places [V, 3]: x, y px, depth."""
    depth = np.zeros((height, width))
    for f in range(len(faces)):
        a, b, c = places[faces[f, 0]], places[faces[f, 1]], places[faces[f, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0:
            continue
        left, right = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        top, bottom = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        for row in range(max(0, int(top - 0.5)), min(height, int(bottom + 1.5))):
            for column in range(max(0, int(left - 0.5)), min(width, int(right + 1.5))):
                x, y = column + 0.5, row + 0.5
                u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                if u < 0 or v < 0 or u + v > 1:
                    continue
                z = 1.0 / (u / a[2] + v / b[2] + (1 - u - v) / c[2])
                if depth[row, column] == 0 or z < depth[row, column]:
                    depth[row, column] = z
    return depth


def projected(camera: Camera, vertices: np.ndarray, scale: int = 1) -> np.ndarray:
    """Project body-frame vertices: x, y px (of an image `scale` times as large) and depth."""
    view, K = camera.viewmat.double().numpy(), camera.K.double().numpy()
    seen = vertices @ np.array(R_WORLD_BODY).T @ view[:3, :3].T + view[:3, 3]
    pixels = seen @ K.T
    return np.concatenate((scale * pixels[:, :2] / pixels[:, 2:], seen[:, 2:]), 1)


@functools.cache
def posed():
    """Return (a pass with a pose, the pose, its cameras) in the current context."""
    the_context().make_current()
    there = stage(4, (320, 240))
    true = there.actor.play(script().dofs).frame(3)
    film_pass = FilmPass(there.actor.surface, 320, 240, there.reach_m)
    film_pass.update(true)
    return film_pass, true, there


@with_gl
def test_a_mask_is_what_the_surface_covers() -> None:
    film_pass, true, there = posed()
    for camera in there.cameras[:2]:
        shot = film_pass.shoot(camera)
        got = np.zeros((240, 320))
        rows, columns = shot.rgba.shape[:2]
        got[shot.top : shot.top + rows, shot.left : shot.left + columns] = shot.rgba[..., 3] / 255
        fine = projected(camera, true.vertices, 8)
        covered = rasterize(fine, there.actor.surface.faces, 8 * 320, 8 * 240) > 0
        want = covered.reshape(240, 8, 320, 8).mean((1, 3))
        assert want.sum() > 2000
        assert np.abs(got - want).max() <= 0.5  # four samples a pixel
        assert np.abs(got - want)[(want > 0) & (want < 1)].mean() < 0.12
        assert (got[want == 1] == 1).mean() > 0.999
        assert abs(got.sum() / want.sum() - 1) < 0.01


@with_gl
def test_an_actor_that_walks_into_a_camera_is_a_sentence() -> None:
    film_pass, _, there = posed()
    camera = there.cameras[0]
    view = camera.viewmat.clone()
    view[2, 3] -= 3.0  # the camera goes on into the actor
    with pytest.raises(InputError, match=f"camera '{camera.name}': the motion leads the actor"):
        film_pass.shoot(dataclasses.replace(camera, viewmat=view))


@with_gl
def test_depth_is_that_of_the_surface_at_pixel_centres() -> None:
    film_pass, true, there = posed()
    camera = there.cameras[2]
    got = film_pass.shoot_depth(camera)
    want = rasterize(projected(camera, true.vertices), there.actor.surface.faces, 320, 240)
    both = (got > 0) & (want > 0)
    assert both.sum() > 2000
    assert (both != ((got > 0) | (want > 0))).sum() <= 5  # centres on an edge
    assert np.quantile(np.abs(got - want)[both], 0.999) < 1e-3


@with_gl
def test_the_inside_is_never_needed() -> None:
    """Faces that look away are not drawn: the mask must not miss them."""
    film_pass, _, there = posed()
    for camera in there.cameras:
        shot = film_pass.shoot(camera)
        rows, columns = shot.rgba.shape[:2]
        box = film_pass.shoot_depth(camera)[
            shot.top : shot.top + rows, shot.left : shot.left + columns
        ]
        assert (shot.rgba[..., 3][box > 0] > 0).mean() > 0.999


@with_gl
def test_light_is_even_and_gloss_moves_with_the_view() -> None:
    film_pass, _, there = posed()
    brightness = []
    for camera in there.cameras:
        rgba = film_pass.shoot(camera).rgba
        person = rgba[rgba[..., 3] == 255][:, :3]
        assert (person == 255).all(1).mean() < 0.002, "burnt out"
        brightness.append(person.mean())
    assert max(brightness) < 1.5 * min(brightness)


@with_gl
def test_a_relief_turns_the_light_and_keeps_the_outline() -> None:
    the_context().make_current()
    there, true = stage(4, (320, 240)), posed()[1]
    row, _ = np.indices((512, 512))
    waves = (FLAT + 120 * np.sin(2 * np.pi * row / 32)).astype(np.uint8)
    shots = []
    for relief in (np.full_like(waves, FLAT), waves):
        surface = dataclasses.replace(there.actor.surface, relief=relief)
        film_pass = FilmPass(surface, 320, 240, there.reach_m)
        film_pass.update(true)
        shots.append(film_pass.shoot(there.cameras[0]).rgba.astype(int))
    posed.cache_clear()  # its textures are bound no more
    flat, wavy = shots
    np.testing.assert_array_equal(flat[..., 3], wavy[..., 3])
    person = flat[..., 3] == 255
    change = (wavy - flat)[person][:, :3].mean(1)
    assert np.abs(change).mean() > 1.5, np.abs(change).mean()
    assert abs(change.mean()) < 0.4 * np.abs(change).mean(), "light and shade balance"


@with_gl
def test_a_relief_has_no_specks_at_the_edges_of_triangles() -> None:
    the_context().make_current()
    there, true = stage(4, (320, 240)), posed()[1]
    row, column = np.indices((512, 512))
    waves = 60 * (np.sin(2 * np.pi * row / 32) + np.sin(2 * np.pi * column / 32))
    waves = (FLAT + waves).astype(np.uint8)
    camera = there.cameras[0]
    K = camera.K * torch.tensor([[10.0], [10.0], [1.0]])
    middle = projected(Camera(camera.viewmat, K, 640, 480, ""), true.vertices.mean(0)[None])
    K[:2, 2] += torch.tensor([320.0, 240.0]) - torch.from_numpy(middle[0, :2])
    near = Camera(camera.viewmat, K, 640, 480, "near")
    shots = []
    for relief in (np.full_like(waves, FLAT), waves):
        surface = dataclasses.replace(there.actor.surface, relief=relief)
        film_pass = FilmPass(surface, 640, 480, there.reach_m)
        film_pass.update(true)
        shots.append(film_pass.shoot(near).rgba.astype(float))
    posed.cache_clear()  # its textures are bound no more
    inner = binary_erosion(shots[0][..., 3] == 255, iterations=3)
    assert inner.mean() > 0.2, "the person fills the image"
    change = (shots[1] - shots[0])[..., :3].mean(2)
    away = np.abs(change - median_filter(change, 5)) * inner
    specks = (away > 12).sum()
    assert specks < 1e-4 * inner.sum(), int(specks)


# ---- on disk ----


@with_gl
def test_stopped_and_resumed_is_as_if_never_stopped(tmp_path: Path) -> None:
    once, twice, other = (tmp_path / name for name in ("once", "twice", "other"))
    report = film(once, 13)
    assert (report.new_images, report.old_images, report.touching) == (39, 0, set())
    stopped = film(twice, 13, until=34)
    assert stopped.stopped
    assert stopped.new_images == 30, "what will be there when it goes on"
    assert not list(twice.rglob("stream*.mp4"))
    assert not list(twice.rglob("*.partial"))
    resumed = film(twice, 13)
    assert (resumed.new_images, resumed.old_images) == (9, 30)
    want = decoded(once)
    assert want.shape == (6, 13, 72, 96, 3)
    np.testing.assert_array_equal(decoded(twice), want)
    assert film(twice, 13).new_images == 0
    film(other, 13, of=stage(seed=1))
    assert (decoded(other) != want).any()


def interrupted(_: Film) -> None:
    """Stand for a Ctrl-C."""
    raise KeyboardInterrupt


@with_gl
def test_more_frames_are_filmed_after_those_that_are_there(tmp_path: Path) -> None:
    whole, grown, begun = (tmp_path / name for name in ("whole", "grown", "begun"))
    film(whole, 17)
    want = decoded(whole).astype(int)
    film(grown, 3)
    before = decoded(grown)
    stopped = film(grown, 17, until=3 * 3 + 3 * 12)
    assert stopped.stopped
    report = film(grown, 17)
    assert (report.new_images, report.old_images) == (3 * 4, 3 * 13)
    assert not (grown / "training" / ".film").exists()
    np.testing.assert_array_equal(decoded(grown)[:, :3], before)
    # A film that was stopped, its last segment of 3 frames, then asked for more.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Film, "_join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            film(begun, 13)
    assert film(begun, 17).old_images == 30
    for out in (grown, begun):
        got = decoded(out)
        assert got.shape == want.shape
        assert np.abs(got - want).mean() < 1.0  # encoded in other segments
        assert film(out, 17).new_images == 0
    skeleton = stage().actor.data.skeleton
    poses = (read_motion(out / "training" / POSES, skeleton).dofs for out in (whole, grown))
    assert torch.equal(*poses)


@with_gl
def test_a_missing_video_alone_is_filmed_again(tmp_path: Path) -> None:
    film(tmp_path, 3)
    want = decoded(tmp_path)
    video_path(tmp_path, "training", 1).unlink()
    report = film(tmp_path, 3)
    assert (report.new_images, report.old_images) == (3, 6)
    np.testing.assert_array_equal(decoded(tmp_path), want)


@with_gl
def test_footage_of_other_settings_is_never_mixed(tmp_path: Path) -> None:
    film(tmp_path, 2)
    before = decoded(tmp_path)
    with pytest.raises(InputError, match=r"training: holds other footage \(frames: "):
        film(tmp_path, 1)
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        film(tmp_path, 2, of=stage(seed=1))
    job = FilmJob(tmp_path, "testing", stage(seed=1), script(), range(2), False, 1)
    with pytest.raises(InputError, match=r"another stage.*seed: 0 -> 1"):
        Film(job).check(again=True)
    Film(job).check(again=True, beside=["training", "testing"])
    np.testing.assert_array_equal(decoded(tmp_path), before)


@with_gl
def test_footage_of_two_cloth_solvers_is_never_mixed(tmp_path: Path) -> None:
    newton = dataclasses.replace(stage(), identity={**stage().identity, CLOTH: "newton 1.8.0 cpu"})
    film(tmp_path, 2)
    with pytest.raises(InputError, match=r'cloth: "springs" -> "newton 1.8.0 cpu"'):
        film(tmp_path, 2, of=newton)
    testing = FilmJob(tmp_path, "testing", newton, script(), range(2), False, 1)
    with pytest.raises(InputError, match=r'another stage.*cloth: "springs" -> "newton'):
        Film(testing).check(again=True)
    # A record that is older than the choice.
    path = tmp_path / "training" / RECORD
    record = json.loads(path.read_text())
    del record["settings"][CLOTH]
    path.write_text(json.dumps(record))
    assert film(tmp_path, 2).new_images == 0
    with pytest.raises(InputError, match=r'cloth: "springs" -> "newton'):
        film(tmp_path, 2, of=newton)


@with_gl
def test_a_disk_too_small_is_said_before(tmp_path: Path) -> None:
    cameras = tuple(dataclasses.replace(c, width=4096, height=4096) for c in stage().cameras)
    large = dataclasses.replace(stage(), cameras=cameras)
    dofs = np.repeat(script().dofs[:1], 1000, 0)
    job = FilmJob(tmp_path, "training", large, Script(dofs, ()), range(1000), True, 1)
    with pytest.MonkeyPatch.context() as patch:
        free = namedtuple("Usage", "free")(10**9)
        patch.setattr(shutil, "disk_usage", lambda folder: free)
        with pytest.raises(InputError, match=r"the disk is too full: .* are free"):
            Film(job).check(again=False)
    assert not list(tmp_path.iterdir())


def test_a_kill_leaves_what_can_be_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "data"
    command = [
        sys.executable, "-m", "ash_core.cli", "capture", "actor", "-o", str(out),
        "--cameras", "2", "--frames", "0:40", "--size", "96x72", "--motions", "stretch",
    ]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = out / "training" / ".film" / "000000"
    until = time.monotonic() + 200
    while len(list(first.glob("[rm]*.mp4"))) < 4 and running.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    said = running.communicate()[1]
    if "EGL" in said:
        pytest.skip(said)
    assert not list(out.rglob("stream*.mp4"))
    after = subprocess.run(command, capture_output=True, text=True)
    assert after.returncode == 0, after.stderr
    assert " 0 were there" not in after.stdout
    assert not list(out.rglob(".film"))
    assert decoded(out, 2).shape[:2] == (4, 40)


@with_gl
def test_film_extract_open(tmp_path: Path) -> None:
    options = ["--cameras", "3", "--frames", "0:4", "--size", "96x72", "--truth"]
    assert main(["capture", "actor", "-o", str(tmp_path), "--split", "both", *options]) == 0
    assert main(["extract", str(tmp_path)]) == 0
    the_context().make_current()
    data = open_dataset(tmp_path)
    assert len(data.cameras) == 3
    assert set(data.splits) == {"training", "testing"}
    for split in data.splits.values():
        assert len(split.motion.dofs) == 4
        assert len(split.images) == 12
        assert split.motion.normalised is not None
        plain = dataclasses.replace(split.motion, normalised=None)
        for frame in range(4):
            # Only published windows read the file's rows.
            want, got = (
                pose_window(
                    motion, frame, data.character.skeleton, RELEASED.history_offsets
                ).normalised
                for motion in (plain, split.motion)
            )
            torch.testing.assert_close(got, want, atol=1e-7, rtol=0)
    surface = np.load(tmp_path / "training" / "truth" / "surface.npz")
    for (frame, camera), path in data.splits["training"].images.items():
        true = np.load(truth_mesh(tmp_path / "training", frame))
        places = projected(data.cameras[camera], true["vertices"])
        assert (places[:, :2] > 1).all()
        assert (places[:, :2] < np.array(SIZE) - 1).all()
        depth = np.asarray(Image.open(truth_depth(tmp_path / "training", camera, frame)))
        _, alpha = read_masked(path)
        assert abs((alpha >= 128) ^ (depth > 0)).sum() < 0.1 * (depth > 0).sum()
        assert ((alpha > 0) & (alpha < 255)).sum() > 20  # soft, as they were filmed
        want = rasterize(places, surface["faces"], *SIZE)
        both = (depth > 0) & (want > 0)
        assert both.sum() > 0.95 * (want > 0).sum()
        off = np.abs(depth * surface["depth_unit_m"] - want)[both]
        assert np.quantile(off, 0.98) < 2e-3


@with_gl
def test_splits_share_their_cameras_whatever_they_play(tmp_path: Path) -> None:
    actor = read_actor(ACTOR, 0)

    def shoot(*options: str, size: str = "96x72") -> int:
        small = ["--cameras", "1", "--frames", "0:2", "--size", size]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(film_stage, "read_actor", lambda folder, seed, cloth: actor)
            try:
                return main(["capture", "actor", "-o", str(tmp_path), *small, *options])
            finally:
                the_context().make_current()

    assert shoot("--motions", "stretch") == 0
    cameras = (tmp_path / "cameras.json").read_bytes()
    assert shoot("--split", "testing", "--motions", "dance") == 0
    assert (tmp_path / "cameras.json").read_bytes() == cameras
    assert shoot("--motions", "stretch") == 0, "goes on"
    assert shoot("--split", "testing", "--motions", "walk") == 2, "another motion, not --again"
    assert shoot("--split", "both", "--motions", "dance", "--again") == 0
    assert shoot("--split", "both", "--again", size="64x64") == 0
    assert decoded(tmp_path, 1).shape[2:] == (64, 64, 3)
    assert (tmp_path / "cameras.json").read_bytes() != cameras


@with_gl
def test_colours_survive_the_video(tmp_path: Path) -> None:
    there = stage(1, (320, 240))
    film(tmp_path, 1, of=there)
    film_pass = FilmPass(there.actor.surface, 320, 240, there.reach_m)
    film_pass.update(there.actor.play(script().dofs).frame(0))
    shot = film_pass.shoot(there.cameras[0])
    rows, columns = shot.rgba.shape[:2]
    with av.open(str(video_path(tmp_path, "training", 0))) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, 16 to 235
    planes = frame.to_ndarray(format="yuv420p").astype(float)
    y, u, v = planes[:240], planes[240:300].reshape(120, 160), planes[300:].reshape(120, 160)
    u, v = ((plane.repeat(2, 0).repeat(2, 1) - 128) / 224 for plane in (u, v))
    red, blue = (y - 16) / 219 + 1.5748 * v, (y - 16) / 219 + 1.8556 * u
    green = ((y - 16) / 219 - 0.2126 * red - 0.0722 * blue) / 0.7152
    box = slice(shot.top, shot.top + rows), slice(shot.left, shot.left + columns)
    got = 255 * np.stack((red, green, blue), -1)[box]
    # Chroma has half the size: at the outline some of the backdrop's is in it.
    inside = binary_erosion(shot.rgba[..., 3] == 255, iterations=3)
    off = (got - shot.rgba[..., :3])[inside]
    assert np.abs(off.mean(0)).max() < 0.6, off.mean(0)
    assert np.sqrt((off**2).mean()) < 6
    backdrop = 255 * np.stack((red, green, blue), -1)[:8, :8].mean((0, 1))
    np.testing.assert_allclose(backdrop, BACKDROP, atol=1.2)


def test_only_what_makes_an_actor_counts_and_goes_along(tmp_path: Path) -> None:
    folder = tmp_path / "actor"
    shutil.copytree(ACTOR, folder)
    walk = [script().dofs[:4]]

    def identity() -> dict[str, object]:
        return build_stage(folder, stage().actor, walk, 1, SIZE, 0).identity

    before = identity()
    (folder / "notes.txt").write_text("mine")
    (folder / "cameras.calibration").write_text("another's")
    assert identity() == before
    write_stage(tmp_path / "out", folder, stage(1).cameras)
    copied = {path.name for path in (tmp_path / "out").iterdir()}
    assert copied >= {"actor.conf", "actor.obj", "actor.obj.mtl", "actor.png", "actor.motion"}
    assert "notes.txt" not in copied
    (folder / "actor.png").write_bytes((folder / "actor.png").read_bytes() + b"!")
    assert identity() != before


def test_an_actor_s_own_folder_is_no_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ACTOR, tmp_path / "a")
    before = sorted((tmp_path / "a").rglob("*"))
    assert main(["capture", str(tmp_path / "a"), "-o", str(tmp_path / "b" / ".." / "a")]) == 2
    assert "expected another folder than the actor's" in " ".join(capsys.readouterr().err.split())
    assert sorted((tmp_path / "a").rglob("*")) == before


def test_other_source_code_makes_other_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("studio", "geometry", "commands"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text(name)
    monkeypatch.setattr(capture_command, "__file__", str(tmp_path / "commands" / "capture.py"))
    before = capture_command._recipe()
    (tmp_path / "commands" / "code.py").write_text("what films makes no actor")
    assert capture_command._recipe() == before
    (tmp_path / "studio" / "code.py").write_text("capture 2")
    assert capture_command._recipe() != before


# ---- cameras and script ----


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([1, 2, 5, 24, 60]),
    st.sampled_from([(1285, 940), (96, 72), (300, 900)]),
    st.floats(0.0, 2.0),
)
def test_every_camera_sees_everything(
    seed: int, count: int, size: tuple[int, int], walk: float
) -> None:
    random = np.random.default_rng(seed)
    points = random.uniform((-0.8, -0.8, 0.0), (0.8, 0.8, 2.0), (200, 3))
    points[:, :2] += walk * random.uniform(-1, 1, (200, 2))
    cameras = camera_ring(points, count, *size, seed)
    assert len(cameras) == count
    body = points @ np.array(R_WORLD_BODY)
    for camera in cameras:
        places = projected(camera, body)
        assert (places[:, 2] > 1.0).all()
        room = 0.9 * MARGIN * np.array(size)
        assert (places[:, :2] >= room).all()
        assert (places[:, :2] <= np.array(size) - room).all()
    focals = np.array([camera.K[0, 0].item() for camera in cameras])
    assert focals.max() < 1.2 * focals.min()
    assert len(set(focals.tolist())) == count
    again = camera_ring(points, count, *size, seed)
    assert all(torch.equal(a.viewmat, b.viewmat) for a, b in zip(cameras, again, strict=True))


def test_cameras_stand_around_and_above() -> None:
    points = np.random.default_rng(0).uniform((-0.8, -0.8, 0), (0.8, 0.8, 2), (200, 3))
    eyes = np.stack([camera_position(c.viewmat).numpy() for c in camera_ring(points, 24, 9, 7, 0)])
    away = np.linalg.norm(eyes - (0, 0, 1), axis=1)
    assert (away > 3.0).all()
    assert (away < 4.0).all()
    assert (eyes[:, 2] > 0.25).all()
    assert (eyes[:, 2] > 3.0).sum() >= 3
    turns = np.sort(np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0])) % 360)
    assert np.diff(turns, append=turns[0] + 360).max() < 40


def test_the_calibration_comes_back_as_it_was(tmp_path: Path) -> None:
    write_stage(tmp_path, ACTOR, stage(5, (1285, 940)).cameras)
    found = read_calibration(tmp_path / "cameras.calibration")
    for got, want in zip(found, stage(5, (1285, 940)).cameras, strict=True):
        torch.testing.assert_close(got.viewmat, want.viewmat, atol=2e-6, rtol=0)
        torch.testing.assert_close(got.K, want.K, atol=1e-4, rtol=0)
        assert (got.width, got.height, got.name) == (want.width, want.height, want.name)


def test_motions_are_joined_without_a_jump() -> None:
    skeleton = read_actor(ACTOR, 0).data.skeleton
    motions = [(n, read_script([p], skeleton).dofs) for n, p in _every_motion().items()]
    joined = join_motions([*motions, motions[0]], skeleton)
    assert [take.name for take in joined.takes] == ["dance", "stretch", "walk", "dance"]
    for take, (_, dofs) in zip(joined.takes, [*motions, motions[0]], strict=True):
        part = joined.dofs[take.start : take.start + take.frames].copy()
        turn = part[0, 3] - dofs[0, 3]
        part[:, 3] -= turn
        np.testing.assert_allclose(part, dofs, atol=1e-12)
    steps = np.abs(np.diff(joined.dofs, axis=0))
    own = max(np.abs(np.diff(dofs, axis=0)).max() for _, dofs in motions)
    assert steps[:, :3].max() < 0.09
    assert steps.max() < max(own, 0.5)


def _every_motion() -> dict[str, Path]:
    return {p.stem: p for p in sorted((ACTOR / "motions").glob("*.motion"))}


def test_names_say_which_motions_training_never_sees(tmp_path: Path) -> None:
    (tmp_path / "motions").mkdir()
    for name in ("training_walk", "unseen_march", "retarget_otto_dance", "training_zoo"):
        (tmp_path / "motions" / f"{name}.motion").touch()
    found = {split: list(names) for split, names in find_motions(tmp_path).items()}
    assert found == {
        "training": ["training_walk", "training_zoo"],
        "testing": ["retarget_otto_dance", "unseen_march"],
    }
    assert [list(names) for names in find_motions(ACTOR).values()] == [
        ["dance", "stretch"],
        ["walk"],
    ]


# ---- users' mistakes ----


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["actor", "--cameras", "0"], "--cameras: expected 1 to 256"),
        (["actor", "--cameras", "257"], "--cameras: expected 1 to 256"),
        (["actor", "--size", "20x20"], "--size: expected 48 to 4,096 px a side"),
        (["actor", "--size", "5000x100"], "--size: expected 48 to 4,096 px a side"),
        (["actor", "--size", "axb"], "--size: expected WIDTHxHEIGHT"),
        (["actor", "--frames", "0:10:2"], "--frames: expected START:STOP, every frame"),
        (["actor", "--motions", "polka"], "polka: expected a .motion file or one of the actor's"),
        (["nobody"], "nobody: expected an actor's folder"),
    ],
)
def test_mistakes_are_a_sentence(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capture", *options, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert not (tmp_path / "out").exists()


def test_without_egl_it_says_what_to_install(tmp_path: Path) -> None:
    code = """if True:
        import ctypes, sys
        real = ctypes.cdll._dlltype
        def load(name, *args, **kwargs):
            if str(name).startswith("libEGL"):
                raise OSError(name)
            return real(name, *args, **kwargs)
        ctypes.cdll._dlltype = load
        from ash_core.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    options = ["capture", "actor", "-o", str(tmp_path), "--frames", "0:1", "--size", "96x72"]
    environment = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}
    done = subprocess.run(
        [sys.executable, "-c", code, *options], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert "apt install libegl1" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr

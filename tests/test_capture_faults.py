"""Faults of captures, each in every layout that can have it: one line that names the place.

A fault that is refused leaves nothing behind. One that can be lived with ends in a data set and a
note.
"""

import functools
import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_capture import MadeClip, _save
from made_capture_more import _encoded, write_video
from made_layouts import LAYOUTS, RunsCode, made_layout

from ash_core.captures import import_capture as import_module
from ash_core.captures.capture import Capture, ImageRef, Layout
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.read import read_capture
from ash_core.cli import main
from ash_core.files.dataset import CAPTURE

CAMERAS, FRAMES = 3, 3
BETAS = 200
CAMERA = 1
"""Camera of the clip that faults are put into."""
pytest.importorskip("h5py", reason="the extra 'capture' is not installed")


@dataclass
class Scene:
    """Copy of a capture, to be spoilt."""

    layout: Layout
    home: Path
    clip: MadeClip
    folder: Path
    body: Path
    arguments: list[str] = field(default_factory=list)

    @functools.cached_property
    def capture(self) -> Capture:
        return read_capture(self.folder, self.layout, Choice())

    @property
    def name(self) -> str:
        """Name of the camera that is spoilt."""
        names = LAYOUTS[self.layout].names
        return self.clip.cameras[CAMERA].name if names is None else names(CAMERA)

    @property
    def number(self) -> int:
        """Place of that camera in the capture."""
        return [camera.name for camera in self.capture.cameras].index(self.name)

    @property
    def poses(self) -> Path:
        """File of poses, or of the pose of the frame in the middle."""
        inner = {
            **{"zju": "new_params/1.npy", "easymocap": "smpl/000001.json"},
            **{"mvhumannet": "smplx/smpl/000001.json", "dna": "0001_02_annots.smc"},
            "uma": "../Subject_0_metadata/smplx_character/smplx_train_merged.npz",
        }
        return self.folder / inner.get(self.layout, "smpl_params.npz")

    def frame(self, row: int) -> int:
        return LAYOUTS[self.layout].frame(row)

    def ref(self, row: int, masks: bool = False) -> ImageRef:
        """Return an image or mask of the spoilt camera."""
        refs = self.capture.masks if masks else self.capture.images
        return refs[self.frame(row), self.number]

    def put(self, ref: ImageRef, pixels: np.ndarray | None) -> None:
        """Replace an image or mask in a file, or remove it."""
        if ref.member is not None:
            import h5py

            with h5py.File(ref.path, "r+") as file:
                del file[ref.member]
                if pixels is not None:
                    file[ref.member] = _encoded(pixels, "PNG")
        elif pixels is None:
            ref.path.unlink()
        else:
            _save(ref.path, pixels)

    def edit_arrays(
        self, change: Callable[[dict[str, Any]], dict[str, Any]], path: Path | None = None
    ) -> None:
        """Change the arrays of a file of poses. path: None for `poses`."""
        path = path or self.poses
        if self.layout == "dna":
            import h5py

            with h5py.File(path, "r+") as file:
                group = file["SMPLx"]
                arrays = {key: np.array(value) for key, value in group.items()}
                for key, value in change(arrays).items():
                    del group[key]
                    group[key] = value
        elif path.suffix == ".npy":
            fit = np.load(path, allow_pickle=True).item()
            np.save(path, change(fit), allow_pickle=True)
        elif path.suffix == ".json":
            (entry,) = json.loads(path.read_text())
            path.write_text(json.dumps([change(entry)]))
        else:
            np.savez(path, **change(dict(np.load(path))))

    def run(self) -> int:
        words = ["import", "capture", str(self.folder), "--body", str(self.body)]
        words += ["-o", str(self.home / "data"), "--test", "1", "--workers", "1"]
        return main([*words, *self.arguments])


@functools.cache
def whole(layout: Layout, shelf: Path, unit: float) -> tuple[MadeClip, Path, Path]:
    """Write the clip in a layout once: returns it, the capture and the body file."""
    home = shelf / f"{layout}_{unit:g}"
    clip, folder, body = made_layout(layout, home, CAMERAS, FRAMES, unit=unit)
    return clip, folder, body.path


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures")


def copied(layout: Layout, shelf: Path, home: Path, unit: float | None = None) -> Scene:
    """Copy the capture of a layout into a folder."""
    unit = LAYOUTS[layout].units_a_metre if unit is None else unit
    clip, folder, body = whole(layout, shelf, unit)
    source = body.parent
    shutil.copytree(source, home, dirs_exist_ok=True)
    return Scene(layout, home, clip, home / folder.relative_to(source), home / body.name)


# ---- faults ----


def video_of(scene: Scene, clip: MadeClip, masks: bool = False) -> None:
    """Write the video of the spoilt camera anew."""
    write_video(scene.ref(0, masks).path, clip, CAMERA, clip.fps, masks)


def changed(clip: MadeClip, masks: bool, change: Callable[[int, np.ndarray], Any]) -> MadeClip:
    """Change the images or masks of the spoilt camera by row; None leaves one out."""
    rows = [list(row) for row in (clip.masks if masks else clip.images)]
    for number, row in enumerate(rows):
        row[CAMERA] = change(number, row[CAMERA])
    kept = tuple(tuple(row) for row in rows if row[CAMERA] is not None)
    made = {"masks": kept} if masks else {"images": kept}
    return MadeClip(**{**vars(clip), **made})


def spoil(scene: Scene, masks: bool, change: Callable[[int, np.ndarray], Any]) -> None:
    """Change images or masks of the spoilt camera, in files, .smc or video."""
    clip = scene.clip
    if not LAYOUTS[scene.layout].is_lossless:
        video_of(scene, changed(clip, masks, change), masks)
        return
    for row in range(FRAMES):
        before = (clip.masks if masks else clip.images)[row][CAMERA]
        after = change(row, before)
        if after is not before:
            scene.put(scene.ref(row, masks), after)


def lose_image(scene: Scene) -> None:
    # A video has no gaps: there it is the last frame.
    spoil(scene, False, lambda row, image: None if row == missing_row(scene) else image)


def missing_row(scene: Scene) -> int:
    return 1 if LAYOUTS[scene.layout].is_lossless else FRAMES - 1


def narrow_image(scene: Scene) -> None:
    spoil(scene, False, lambda row, image: image[:, 6:] if row == 1 else image)


def narrow_camera(scene: Scene) -> None:
    spoil(scene, False, lambda _, image: image[:, 6:])


def narrow_mask(scene: Scene) -> None:
    is_video = not LAYOUTS[scene.layout].is_lossless
    spoil(scene, True, lambda row, mask: mask[:, 6:] if row == 1 or is_video else mask)


def empty_mask(scene: Scene) -> None:
    spoil(scene, True, lambda row, mask: np.zeros_like(mask) if row == 0 else mask)


def empty_camera(scene: Scene) -> None:
    spoil(scene, True, lambda _, mask: np.zeros_like(mask))


def nobody(scene: Scene) -> None:
    empty_camera(scene)
    scene.arguments += ["--cameras", scene.name]


def nothing(_: Scene) -> None:
    pass


def run_code(scene: Scene) -> None:
    attack = RunsCode(scene.home / "made")
    files = {"zju": "annots.npy", "mvhumannet": "camera_scale.pkl"}
    path = scene.folder / files[scene.layout] if scene.layout in files else scene.poses
    if path.suffix == ".npy":
        content = np.load(path, allow_pickle=True).item()
        np.save(path, {**content, "more": attack}, allow_pickle=True)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle_of(attack))
    else:
        np.savez(path, **{**np.load(path), "betas": np.array([attack], object)})


def pickle_of(content: object) -> bytes:
    return pickle.dumps(content)


def run_code_in_body(scene: Scene) -> None:
    scene.body.unlink()
    scene.body = scene.body.with_suffix(".pkl")
    scene.body.write_bytes(pickle_of({"v_template": RunsCode(scene.home / "made")}))


def run_code_in_poses(scene: Scene) -> None:
    path = scene.home / "poses.pkl"
    path.write_bytes(pickle_of({"poses": RunsCode(scene.home / "made")}))
    scene.arguments += ["--poses", str(path)]


def cut_off(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def cut_poses(scene: Scene) -> None:
    cut_off(scene.poses)


def cut_body(scene: Scene) -> None:
    cut_off(scene.body)


def lose_all_images(scene: Scene) -> None:
    for path in {ref.path for ref in scene.capture.images.values()}:
        if scene.layout == "dna":
            import h5py

            with h5py.File(path, "r+") as file:
                for group in list(file):
                    del file[group]
        else:
            path.unlink()


def lose_all_poses(scene: Scene) -> None:
    if scene.poses.suffix in (".npz", ".smc"):
        scene.edit_arrays(lambda arrays: {k: v[:0] if v.ndim else v for k, v in arrays.items()})
    else:
        shutil.rmtree(scene.poses.parent)


def lengthen_betas(scene: Scene) -> None:
    if scene.poses.suffix == ".npz":
        scene.edit_arrays(lambda arrays: {**arrays, "betas": np.zeros((2, 10))})
    else:
        scene.edit_arrays(lambda fit: {**fit, "shapes": np.zeros((1, 11)).tolist()})


def add_betas(scene: Scene) -> None:
    """Give every pose more betas than the body file has."""
    if scene.poses.suffix in (".npz", ".smc"):
        scene.edit_arrays(lambda arrays: {**arrays, "betas": np.zeros((1, BETAS))})
        return
    for path in sorted(scene.poses.parent.iterdir()):
        shapes = np.zeros((1, BETAS)).tolist()
        scene.edit_arrays(lambda fit, shapes=shapes: {**fit, "shapes": shapes}, path)


# ---- the table ----

IN_VIDEO = "a video has one size"
NO_SIZE = "the calibration has no size: that of the images counts"


@dataclass(frozen=True)
class Fault:
    """One fault, in all layouts that can have it."""

    spoil: Callable[[Scene], None]
    expected: Callable[[Scene], tuple[str, ...]]
    """Texts of the one line."""
    is_refused: bool = True
    cannot: Mapping[Layout, str] = field(default_factory=dict)
    """Reasons why a layout cannot have it."""
    unit: Callable[[float], float] = lambda unit: unit
    """Changes the numbers of the translations a metre."""


def in_mm(scene: Scene) -> bool:
    return LAYOUTS[scene.layout].units_a_metre == 1000.0


def at_mask(scene: Scene) -> tuple[str, ...]:
    return (scene.ref(1 if LAYOUTS[scene.layout].is_lossless else 0, masks=True).path.name,)


def at_poses(scene: Scene) -> tuple[str, ...]:
    return (scene.poses.name,)


def at_body(scene: Scene) -> tuple[str, ...]:
    return (str(scene.body),)


def size_of(scene: Scene) -> str:
    camera = scene.clip.cameras[CAMERA]
    return f"{camera.width - 6} x {camera.height}"


def place_of(scene: Scene, row: int) -> str:
    ref = scene.ref(row)
    return ref.path.name if ref.member is None else ref.member


def code_file(scene: Scene) -> tuple[str, ...]:
    names = {"zju": "annots.npy", "mvhumannet": "camera_scale.pkl"}
    return (names.get(scene.layout, scene.poses.name),)


FAULTS = {
    "nothing": Fault(
        nothing,
        lambda scene: (f"{scene.home / 'data'}: {scene.layout}, {CAMERAS} cameras",),
        is_refused=False,
    ),
    "missing image": Fault(
        lose_image,
        lambda scene: (
            "1 of 9 images are missing",
            f"camera '{scene.name}', frame {scene.frame(missing_row(scene))}",
        ),
        is_refused=False,
    ),
    "image of another size": Fault(
        narrow_image,
        lambda scene: (place_of(scene, 1), size_of(scene), scene.name),
        cannot={"uma": IN_VIDEO},
    ),
    "camera of another size": Fault(
        narrow_camera,
        lambda scene: (size_of(scene), scene.name),
        cannot={"zju": NO_SIZE, "dna": NO_SIZE},
    ),
    "mask of another size": Fault(narrow_mask, lambda scene: (*at_mask(scene), size_of(scene))),
    "empty mask": Fault(
        empty_mask,
        lambda scene: (
            f"camera '{scene.name}': 1 of {FRAMES} masks that were looked at are empty",
            f"frame {scene.frame(0)}",
        ),
        is_refused=False,
    ),
    "camera with empty masks": Fault(
        empty_camera,
        lambda scene: (
            f"camera '{scene.name}': all {FRAMES} masks that were looked at are empty",
            f"frame {scene.frame(0)}",
        ),
        is_refused=False,
    ),
    "nobody in any mask": Fault(
        nobody,
        lambda scene: (
            f"{FRAMES} empty ones",
            f"camera '{scene.name}', frame {scene.frame(0)}",
        ),
    ),
    "T in the other unit": Fault(
        nothing,
        lambda scene: (f"note: units {'m' if in_mm(scene) else 'mm'}, not",),
        is_refused=False,
        cannot=dict.fromkeys(("nerfstudio", "colmap"), "such worlds have no unit"),
        unit=lambda unit: 1000.0 / unit,
    ),
    "pickle that runs code": Fault(
        run_code,
        code_file,
        cannot={"easymocap": "its files are JSON", "dna": "its files are HDF5"},
    ),
    "poses that run code": Fault(run_code_in_poses, lambda _: ("poses.pkl", "mkdir")),
    "body that runs code": Fault(run_code_in_body, lambda scene: (*at_body(scene), "mkdir")),
    "truncated poses": Fault(cut_poses, at_poses),
    "truncated body": Fault(cut_body, at_body),
    "no images": Fault(lose_all_images, lambda _: ("found none",)),
    "poses of 0 frames": Fault(
        lose_all_poses,
        lambda scene: at_poses(scene) if scene.poses.exists() else ("poses", "--poses"),
    ),
    "betas of another length": Fault(
        lengthen_betas,
        lambda scene: (*at_poses(scene), "shapes" if scene.poses.suffix != ".npz" else "betas"),
        cannot={"dna": "rows of betas are averaged, as published files have others than poses"},
    ),
    "more betas than the body has": Fault(
        add_betas,
        lambda scene: (f"{BETAS} betas, of which {scene.body} knows the first",),
        is_refused=False,
    ),
}
CASES = [
    (fault, layout)
    for fault, content in FAULTS.items()
    for layout in LAYOUTS
    if layout not in content.cannot
]


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_a_fault_is_one_line_that_names_its_place(
    name: str,
    layout: Layout,
    shelf: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The character takes most of the time, and no fault is in it.
    monkeypatch.setattr(import_module, "_write_character", lambda *_: ())
    fault = FAULTS[name]
    unit = fault.unit(LAYOUTS[layout].units_a_metre)
    scene = copied(layout, shelf, tmp_path / "home", unit)
    assert scene.capture.images
    fault.spoil(scene)
    texts = fault.expected(scene)
    before = sorted(scene.home.rglob("*"))
    capsys.readouterr()
    code = scene.run()
    output = capsys.readouterr()
    # A refusal is one line, and nothing is written.
    if fault.is_refused:
        assert code == 2
        lines = [line for line in output.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, output.err
        assert sorted(scene.home.rglob("*")) == before
    else:
        assert code == 0, output.err
        lines = (output.out + output.err).splitlines()
        lines = [line for line in lines if texts[0] in line]
        assert len(lines) == 1, output
        content = json.loads((scene.home / "data" / CAPTURE).read_text())
        assert scene.name in content["cameras"]
        if LAYOUTS[layout].names is None:
            assert "cam 2" in content["cameras"]
    for text in texts:
        assert text in lines[0]

"""Inspection of a data set before training: footage, cameras, masks, light, motion.

An unreadable data set raises; every other fault becomes a finding, the worst first.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PillowImage
from torch import Tensor

from ash_core.character import Character
from ash_core.conventions import FPS, R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.files.dataset import (
    CALIBRATION,
    CAPTURE,
    Dataset,
    Plan,
    Split,
    SplitData,
    image_files,
    mask_video_path,
    read_masked,
    read_picture,
    stretch_camera,
    video_path,
)
from ash_core.files.footage import decode_frames, index_video
from ash_core.files.masked_image import HALF, is_whole
from ash_core.files.released import notes_worth_showing
from ash_core.footage.extract.cutter import Cutter, ExtractSettings, Optics
from ash_core.footage.extract.edges import Edge
from ash_core.footage.extract.extract import check_pair, describe_frames, measure_rim
from ash_core.footage.extract.masks import THRESHOLD, largest_piece
from ash_core.footage.extract.survey import read_optics
from ash_core.footage.inspect.findings import FINDINGS, SEVERITIES, Severity
from ash_core.footage.inspect.fit import IOU_LOOSE, judge_fit
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.geometry.motion import pose_window
from ash_core.geometry.projected_lines import joint_lines, segments
from ash_core.records import AvatarData, Camera

COVER: Final = (0.005, 0.7)
"""Usual range of the person's share of the image."""
CLIPPED: Final = 0.02
"""Largest usual share of a person's pixels that are all white or all black."""
STRAY: Final = 0.02
"""Largest usual share of a mask outside its largest piece."""
LIGHT_SPREAD: Final = 0.2
"""Largest usual distance of a camera's mean brightness from the others' median."""
JUMP_RAD: Final = 1.0
JUMP_M: Final = 0.25
"""Largest human movement between frames at 25 frames a second."""
LIMIT_SLACK_RAD: Final = 0.02
KEPT_PX: Final = 840
"""Longest side of the images that are kept for the page."""
MOST_OPENED: Final = 20_000
"""Upper bound on the images that are opened to check that they are whole."""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    severity: Severity
    where: str
    text: str
    kind: str
    """Name of its kind in `FINDINGS`."""

    @property
    def meaning(self) -> str:
        """Likely cause, and what to do."""
        return FINDINGS[self.kind].meaning


@dataclass(frozen=True)
class Sample:
    """Inspected frame of a camera. Its images are reduced to `KEPT_PX`."""

    frame: int
    column: int
    """Place among the split's inspected frames."""
    picture: UInt8[np.ndarray, "h w 3"]
    """Image with its background, where that was kept."""
    mask: Bool[np.ndarray, "h w"]
    outline: Bool[np.ndarray, "h w"]
    """Outline of the posed template."""
    bones: Float[np.ndarray, "n 2 2"]
    """Lines from joints to their parents, px of the picture."""
    iou: float
    cover: float
    """Share of the image that the mask covers."""
    brightness: float
    """Mean of the person's pixels, 0 to 1."""
    clipped: float
    stray: float
    """Share of the mask outside its largest piece."""


@dataclass
class CameraLook:
    """Measurements of a camera."""

    split: Split
    camera: int
    name: str
    size: tuple[int, int] = (0, 0)
    frames: int = 0
    fps: float = 0.0
    colours: str = ""
    """Matrix, range and depth of the video's colours."""
    samples: list[Sample] = field(default_factory=list)
    edge: Edge | None = None
    """Rims of the masks, as extract measures them."""

    def middle(self, what: str) -> float:
        """Return the median of one measure over the samples; NaN without any."""
        values = [getattr(sample, what) for sample in self.samples]
        return float(np.median(values)) if values else float("nan")

    @property
    def cover(self) -> float:
        """Return the median share of the image that the mask covers."""
        return self.middle("cover") if self.samples else 0.0


@dataclass
class MotionLook:
    """Measurements of a split's motion."""

    split: Split
    frames: int
    speed: Float[np.ndarray, "F"]
    """Distance of the root from frame to frame, m."""
    turn: Float[np.ndarray, "F"]
    """Turn of the fastest dof from frame to frame, rad."""


@dataclass
class Inspection:
    """Findings and measurements of a data set."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)
    cameras: list[CameraLook] = field(default_factory=list)
    motions: list[MotionLook] = field(default_factory=list)
    frames: dict[Split, tuple[int, ...]] = field(default_factory=dict)
    """Inspected frames of each split; a camera without one has the nearest that it has."""

    def add(self, severity: Severity, kind: str, where: str, text: str) -> None:
        """Add a finding. kind: its name in `FINDINGS`."""
        assert kind in FINDINGS, kind
        self.findings.append(Finding(severity, where, text, kind))

    def ious(self, split: Split) -> tuple[list[CameraLook], Float[np.ndarray, "C F"]]:
        """Return a split's cameras and the IoU of each in each inspected frame; NaN: no mask."""
        looks = [look for look in self.cameras if look.split == split]
        ious = np.full((len(looks), len(self.frames.get(split, ()))), np.nan)
        for row, look in enumerate(looks):
            for sample in look.samples:
                if sample.cover > 0:
                    ious[row, sample.column] = sample.iou
        return looks, ious

    def sorted_findings(self) -> list[Finding]:
        """Return the findings, the worst first."""
        return sorted(self.findings, key=lambda finding: SEVERITIES.index(finding.severity))


def inspect_dataset(
    dataset: Dataset, samples: int, threads: int, progress: Callable[[int, int], None]
) -> Inspection:
    """Inspect `samples` frames, the same of every camera, spread over each split.

    progress: (cameras done, of how many).
    """
    result = Inspection(dataset.folder)
    is_release = dataset.release is not None  # its cameras describe images smaller than the videos
    optics, notes = ({}, []) if is_release else read_optics(dataset.folder)
    for text in (*notes_worth_showing(dataset.character.variant, dataset.notes), *notes):
        result.add("note", "files", "files", text)
    poser = _Poser(dataset.character)
    numbers = _cameras_of(dataset)
    total = len(dataset.splits) * len(numbers)
    for split in dataset.splits.values():
        _look_at_motion(result, dataset, split)
        result.frames[split.name] = _spread_frames(dataset, split, samples)
        looks = []
        for number in numbers:
            progress(len(result.cameras), total)
            look = CameraLook(split.name, number, dataset.cameras[number].name)
            where = f"{split.name} camera {number}"
            try:
                _look_at_camera(result, dataset, split, look, optics.get(number), poser, threads)
            except InputError as error:
                result.add("error", "unreadable", where, str(error))
            looks.append(look)
            result.cameras.append(look)
        _compare_cameras(result, split, looks)
        _look_at_images(result, dataset, split, looks)
    progress(total, total)
    return result


def _cameras_of(dataset: Dataset) -> Sequence[int]:
    """Return the numbers of the cameras that a configuration names, else all."""
    if dataset.plan is None:
        return range(len(dataset.cameras))
    return sorted({*dataset.plan.train_cameras, *dataset.plan.val_cameras})


def _spread_frames(dataset: Dataset, split: SplitData, samples: int) -> tuple[int, ...]:
    """Choose frames, spread over the motion, or over the images where there are no videos."""
    frames: Sequence[int] = range(len(split.motion.dofs))
    numbers = _cameras_of(dataset)
    if not any(video_path(dataset.folder, split.name, number).is_file() for number in numbers):
        frames = sorted({frame for frame, _ in split.images}) or frames
    places = np.linspace(0, len(frames) - 1, min(samples, len(frames))).round().astype(int)
    return tuple(frames[place] for place in np.unique(places))


def _nearest(targets: Sequence[int], frames: Sequence[int]) -> dict[int, int]:
    """Choose the frame nearest to each target: frame to place among the targets."""
    chosen: dict[int, int] = {}
    every = np.array(frames)
    for column, frame in enumerate(targets):
        chosen.setdefault(int(every[np.abs(every - frame).argmin()]), column)
    return dict(sorted(chosen.items()))


class _Poser:
    """Template posed at a frame, in the world."""

    def __init__(self, data: AvatarData) -> None:
        self.data, self.character = data, Character(data)
        self.faces = data.template.faces

    @torch.no_grad()
    def __call__(
        self, split: SplitData, frame: int
    ) -> tuple[Float[Tensor, "V 3"], Float[np.ndarray, "n 2 3"]]:
        """Return the vertices and the lines between joints, m."""
        window = pose_window(split.motion, frame, self.data.skeleton, self.data.history_offsets)
        mesh, turn = self.character(window), torch.tensor(R_WORLD_BODY).T
        lines = joint_lines((mesh.joints @ turn).numpy(), self.data.skeleton)
        return mesh.vertices[0] @ turn, lines

    def sample(
        self,
        split: SplitData,
        camera: Camera,
        frame: int,
        column: int,
        picture: UInt8[np.ndarray, "h w 3"],
        mask: Bool[np.ndarray, "h w"],
    ) -> Sample:
        """Compare an image with the posed template."""
        vertices, lines = self(split, frame)
        outline = silhouette(vertices, self.faces, camera).numpy()
        return _sample(frame, column, picture, mask, outline, segments(camera, lines))


# ---- one camera ----


def _look_at_camera(
    result: Inspection,
    dataset: Dataset,
    split: SplitData,
    look: CameraLook,
    optics: Optics | None,
    poser: _Poser,
    threads: int,
) -> None:
    # Inspect images if there is no video.
    where = f"{split.name} camera {look.camera}"
    video = video_path(dataset.folder, split.name, look.camera)
    has_images = any(camera == look.camera for _, camera in split.images)
    if not video.is_file() and (has_images or dataset.release is not None):
        _look_at_extracted(result, split, look, poser)
        return
    # Check sizes, and frames that are cut off or uneven.
    rgb = index_video(video)
    mask = index_video(mask_video_path(dataset.folder, split.name, look.camera))
    look.size, look.frames, look.fps = (rgb.width, rgb.height), rgb.count, rgb.fps
    look.colours = rgb.colours
    width, height = check_pair(rgb, mask, optics)
    for index in (rgb, mask):
        name = f"{index.path.parent.name}/{index.path.name}"  # masks' files are named like videos
        if index.cut_off > 0:
            text = f"cut off: {len(index.times)} of {index.declared} frames are whole"
            result.add("warning", "cut off", where, f"{name}: {text}")
        if index.is_variable:
            result.add("warning", "variable rate", where, f"{name}: variable frame rate")
        for text in describe_frames(index):
            result.add("note", "displayed otherwise", where, text)
    # Compare the frames with the poses of the motion.
    poses = len(split.motion.dofs)
    if rgb.count != poses:
        severity: Severity = "error" if rgb.count > poses else "warning"
        text = f"{rgb.count} frames, but the motion has {poses} poses"
        result.add(severity, "frames and poses", where, text)
    if abs(rgb.fps - split.motion.fps) > 0.01 * FPS:
        text = f"{rgb.fps:.2f} frames a second, but the motion counts as {split.motion.fps:g}"
        result.add("warning", "rate", where, text)
    # Choose the split's frames, or those nearest to them.
    frames = [n for n in rgb.times if n in mask.times and n < poses]
    if not frames:
        return
    chosen = _nearest(result.frames[split.name], frames)
    # Compare each mask with the outline of the posed template.
    cutter = Cutter(ExtractSettings(), optics, width, height)
    look.edge = measure_rim(cutter, rgb, mask)
    pictures = zip(
        decode_frames(rgb, list(chosen), threads),
        decode_frames(mask, list(chosen), threads),
        strict=True,
    )
    camera = dataset.cameras[look.camera]
    camera = camera if dataset.release is None else stretch_camera(camera, width, height)
    for (frame, picture), (_, foreground) in pictures:
        person, colours = cutter.foreground(foreground) >= THRESHOLD, cutter.colours(picture)
        sample = poser.sample(split, camera, frame, chosen[frame], colours, person)
        look.samples.append(sample)
    _judge(result, where, look)


def _look_at_extracted(
    result: Inspection, split: SplitData, look: CameraLook, poser: _Poser
) -> None:
    """Inspect a camera's images without its videos."""
    where = f"{split.name} camera {look.camera}"
    frames = sorted(frame for frame, camera in split.images if camera == look.camera)
    look.frames, look.fps = len(frames), split.motion.fps
    if not frames:
        result.add("error", "nothing filmed", where, "no video and no images")
        return
    camera = split.cameras[look.camera]
    for frame, column in _nearest(result.frames[split.name], frames).items():
        path = split.images[frame, look.camera]
        picture, mask = read_picture(path), read_masked(path)[1] >= HALF
        look.size = (picture.shape[1], picture.shape[0])
        look.samples.append(poser.sample(split, camera, frame, column, picture, mask))
    _judge(result, where, look)


def _sample(
    frame: int,
    column: int,
    picture: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    outline: Bool[np.ndarray, "h w"],
    bones: Float[np.ndarray, "n 2 2"],
) -> Sample:
    """Measure an image in full, and keep it reduced."""
    union = (mask | outline).sum()
    person = picture[mask]
    empty = len(person) == 0
    clipped = ((person <= 2).all(1) | (person >= 253).all(1)).mean() if not empty else 0.0
    stray = 1.0 - largest_piece(mask).sum() / mask.sum() if not empty else 0.0
    return Sample(
        frame,
        column,
        _reduced(picture),
        _reduced(mask),
        _reduced(outline),
        bones * min(KEPT_PX / max(mask.shape), 1.0),
        iou=float((mask & outline).sum() / union) if union else 0.0,
        cover=float(mask.mean()),
        brightness=0.0 if empty else float(person.mean() / 255),
        clipped=float(clipped),
        stray=float(stray),
    )


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """Reduce an image or a mask to `KEPT_PX`."""
    height, width = pixels.shape[:2]
    scale = KEPT_PX / max(height, width)
    if scale >= 1.0:
        return pixels
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    is_mask = pixels.dtype == np.bool_
    image = PillowImage.fromarray(pixels.astype(np.uint8) * 255 if is_mask else pixels)
    small = np.asarray(image.resize(size, PillowImage.Resampling.BOX))
    return small > 127 if is_mask else small


def _judge(result: Inspection, where: str, look: CameraLook) -> None:
    """Derive the findings of one camera's samples, but not of its IoU (`_judge_fit`)."""
    cover = look.cover
    empty = [sample.frame for sample in look.samples if not sample.cover]
    if len(empty) == len(look.samples):
        text = "the mask has no foreground in any frame that was looked at"
        result.add("error", "no person", where, text)
        return
    if empty:
        text = f"no foreground in frames {', '.join(map(str, empty))}"
        result.add("warning", "person missing", where, text)
    if cover > COVER[1]:
        text = f"the mask covers {cover:.0%} of the picture: is it inverted?"
        result.add("error", "mask inverted", where, text)
    elif cover < COVER[0]:
        result.add("warning", "mask small", where, f"the mask covers {cover:.2%} of the picture")
    if (clipped := look.middle("clipped")) > CLIPPED:
        text = f"{clipped:.0%} of the person is all white or all black"
        result.add("warning", "clipped", where, text)
    if (stray := look.middle("stray")) > STRAY:
        text = f"{stray:.0%} of the mask lies outside its largest piece"
        result.add("warning", "mask in pieces", where, f"{text}: extract --largest drops it")


# ---- all cameras of a split ----


def _compare_cameras(result: Inspection, split: SplitData, looks: list[CameraLook]) -> None:
    sampled = [look for look in looks if look.samples]
    if not sampled:
        return
    lights = [look.middle("brightness") for look in sampled]
    usual = float(np.median(lights))
    for look, light in zip(sampled, lights, strict=True):
        if usual > 0 and abs(light / usual - 1) > LIGHT_SPREAD:
            text = f"the person's mean brightness is {light:.2f}, the cameras' median {usual:.2f}"
            result.add("warning", "light", f"{split.name} camera {look.camera}", text)
    counts = {look.frames for look in sampled}
    if len(counts) > 1:
        text = f"videos of {min(counts)} to {max(counts)} frames"
        result.add("warning", "counts differ", split.name, text)
    _describe_edges(result, split, sampled)
    _describe_colours(result, split, sampled)
    _judge_fit(result, split, looks)


def _judge_fit(result: Inspection, split: SplitData, looks: list[CameraLook]) -> None:
    """Derive the findings of the IoU of all cameras and frames."""
    shown, ious = result.ious(split.name)
    # Cameras with wrong masks are reported as such.
    fine = [row for row, look in enumerate(shown) if look.samples and look.cover <= COVER[1]]
    numbers, frames = [shown[row].camera for row in fine], result.frames[split.name]
    ious = ious[fine]
    for severity, kind, camera, frame, text in judge_fit(ious, numbers, frames):
        place = "" if camera is None else f" camera {camera}"
        place += "" if frame is None else f" frame {frame}"
        result.add(severity, kind, f"{split.name}{place}", text)
    medians = np.array([shown[row].middle("iou") for row in fine])
    if len(medians) and medians.min() >= IOU_LOOSE:
        every = len(medians) == len(looks)
        subject = f"all {len(looks)}" if every else f"{len(medians)} of {len(looks)}"
        text = f"the posed template fits the masks of {subject} cameras: median IoU "
        text += f"{np.median(medians):.2f}, least {medians.min():.2f}"
        result.add("good", "fit is good", split.name, text)


def _describe_edges(result: Inspection, split: SplitData, looks: list[CameraLook]) -> None:
    """Report hard and soft masks, and extract's default erosion."""
    edges = {look.camera: look.edge for look in looks if look.edge is not None}
    for name, cameras in (
        ("soft", [camera for camera, edge in edges.items() if edge.is_soft]),
        ("hard", [camera for camera, edge in edges.items() if not edge.is_soft]),
    ):
        if not cameras:
            continue
        where = "all" if len(cameras) == len(edges) else ", ".join(map(str, cameras))
        rim = float(np.median([edges[camera].rim_px for camera in cameras]))
        text = f"mask edges are {name} (cameras: {where}): {rim:.1f} px of part coverage"
        wide = [camera for camera in cameras if edges[camera].erode_px]
        if not wide:
            text = f"{text}; no wider than the person, nothing is eroded"
            result.add("good", "mask edges", split.name, text)
            continue
        most = max(edges[camera].erode_px for camera in wide)
        some = ", ".join(map(str, wide))
        text = f"{text}; wider than the person in cameras {some}: extract erodes up to {most} px"
        result.add("note", "mask edges", split.name, text)


def _describe_colours(result: Inspection, split: SplitData, looks: list[CameraLook]) -> None:
    """Report the colour properties of the videos; cameras should agree."""
    kinds: dict[str, list[int]] = {}
    for look in looks:
        if look.colours:  # images have none
            kinds.setdefault(look.colours, []).append(look.camera)
    for colours, cameras in kinds.items():
        where = "all" if len(kinds) == 1 else ", ".join(map(str, cameras))
        severity: Severity = "note" if len(kinds) == 1 else "warning"
        text = f"colours of the videos (cameras: {where}): {colours}"
        result.add(severity, "colours", split.name, text)


def _look_at_images(
    result: Inspection, dataset: Dataset, split: SplitData, looks: list[CameraLook]
) -> None:
    is_capture = (dataset.folder / CAPTURE).is_file()
    expected, count = sum(look.frames for look in looks), len(split.images)
    what = "video frames"
    if is_capture:
        expected, what = len(split.motion.dofs) * len(looks), "images of the capture"
    if (plan := dataset.plan) is not None:
        planned = _planned(plan)
        expected, count = len(planned), sum(key in split.images for key in planned)
        what = "images that the configuration names"
    if not split.images:
        result.add("note", "no images", split.name, "no images yet: ash-studio extract makes them")
    elif count < expected:
        text = f"{count} of {expected} {what} are {'there' if is_capture else 'extracted'}"
        result.add("note", "some images", split.name, text)
    else:
        text = f"all {expected} {what} are {'there' if is_capture else 'extracted'}"
        result.add("good", "all images", split.name, text)
    keys = sorted(split.images)
    every = -(-len(keys) // MOST_OPENED) if keys else 1
    cut = [path for path in map(split.images.__getitem__, keys[::every]) if _is_cut(path)]
    if cut:
        looked = f" of {len(keys[::every])} looked at" if every > 1 else ""
        text = f"{len(cut)} images{looked} are cut off, {cut[0].name} first"
        how = "copy the originals again" if is_capture else "ash-studio extract mends them"
        result.add("warning", "images cut off", split.name, f"{text}: {how}")
    is_straight = dataset.release is not None or is_capture
    if not is_straight and not (dataset.folder / CALIBRATION).is_file():
        text = f"no {CALIBRATION}: lens distortion cannot be seen"
        result.add("note", "no calibration", split.name, text)


def _planned(plan: Plan) -> set[tuple[int, int]]:
    """List (frame, camera) of the images that a configuration names."""
    return {
        *itertools.product(plan.train_frames, plan.train_cameras),
        *itertools.product(plan.val_frames, plan.val_cameras),
    }


def _is_cut(path: Path) -> bool:
    """Return whether an image or its mask is missing or cut off."""
    try:
        return not all(is_whole(file, file.stat().st_size) for file in image_files(path))
    except OSError:
        return True


def _look_at_motion(result: Inspection, dataset: Dataset, split: SplitData) -> None:
    skeleton, dofs = dataset.character.skeleton, split.motion.dofs
    where = f"{split.name} motion"
    low, high = skeleton.dof_limits.double().T
    over = ((dofs < low - LIMIT_SLACK_RAD) | (dofs > high + LIMIT_SLACK_RAD)).sum(0)
    for number in over.argsort(descending=True)[:3].tolist():
        if over[number]:
            limits = f"{low[number]:.2f} to {high[number]:.2f}"
            name = skeleton.dof_names[number]
            text = f"{name} leaves its limits ({limits}) in {int(over[number])} frames"
            result.add("warning", "limits", where, text)
    speed, turn = _steps(dofs)
    result.motions.append(MotionLook(split.name, len(dofs), speed, turn))
    for steps, most, unit in ((speed, JUMP_M, "m"), (turn, JUMP_RAD, "rad")):
        if len(steps) and steps.max() > most:
            frame = int(steps.argmax())
            text = f"jumps by {steps.max():.2f} {unit} from frame {frame} to {frame + 1}"
            count = int((steps > most).sum())
            text += f", {count} such jumps" if count > 1 else ""
            result.add("warning", "jump", where, text)
    if len(speed) and not (speed.max() > 0 or turn.max() > 0):
        result.add("warning", "still", where, "stands still: every pose is the same")
    if not [f for f in result.findings if f.where == where]:
        text = f"{len(dofs)} poses within limits, without jumps"
        result.add("good", "motion is good", where, text)


def _steps(dofs: Float[Tensor, "F D"]) -> tuple[np.ndarray, np.ndarray]:
    """Measure the root's distance, m, and the largest turn of a dof, rad, from frame to frame."""
    steps = dofs.diff(dim=0)
    # Whole turns do not count.
    angles = torch.remainder(steps[:, 3:] + torch.pi, 2 * torch.pi) - torch.pi
    return steps[:, :3].norm(dim=1).numpy(), angles.abs().amax(1).numpy()


def worst(findings: list[Finding]) -> Iterator[tuple[Severity, int]]:
    """Count the findings of each severity that occurs, the worst first."""
    for severity in SEVERITIES:
        if count := sum(finding.severity == severity for finding in findings):
            yield severity, count

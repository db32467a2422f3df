"""Every kind of finding of an inspection, and what each means for the person who recorded."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Severity = Literal["error", "warning", "note", "good"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note", "good")


class Kind(NamedTuple):
    """Kind of finding, as the documentation lists it."""

    shown: str
    """Beginning of its text; N stands for a number, NAME for a name."""
    meaning: str
    """Likely cause, and what to do."""


FINDINGS: Final[Mapping[str, Kind]] = {
    # ---- files ----
    "files": Kind(
        "FILE: ...",
        "Remark of the reader: a part that is optional is missing, or which of two files was used.",
    ),
    "unreadable": Kind(
        "FILE: expected ..., got ...",
        "A video, mask or image is missing or damaged. Copy it again, or leave the camera out.",
    ),
    "nothing filmed": Kind(
        "no video and no images",
        "The camera is in the calibration, but nothing of it is in the folder. Its number counts"
        " from 0.",
    ),
    "cut off": Kind(
        "NAME: cut off: N of N frames are whole",
        "The recording or a copy was interrupted. Frames after the damage are not used.",
    ),
    "variable rate": Kind(
        "NAME: variable frame rate",
        "The camera dropped frames, or a converter did. Frames go by their time; check a fast"
        " movement at the end.",
    ),
    "displayed otherwise": Kind(
        "NAME: turned counter-clockwise by N degrees",
        "The video is stored turned or with wide pixels. The calibration must be of that image.",
    ),
    "frames and poses": Kind(
        "N frames, but the motion has N poses",
        "Video and poses do not begin or end together. Cut one of them; a shift of one frame shows"
        " as a low IoU in fast movements.",
    ),
    "rate": Kind(
        "N frames a second, but the motion counts as N",
        "The poses were sampled at another rate than the videos: resample them.",
    ),
    "counts differ": Kind(
        "videos of N to N frames",
        "Cameras started or stopped apart. Check that frame 0 is the same moment in all.",
    ),
    # ---- masks ----
    "no person": Kind(
        "the mask has no foreground in any frame that was looked at",
        "Masks are empty or have another meaning: white is the person.",
    ),
    "person missing": Kind(
        "no foreground in frames N, N",
        "The matting lost the person, or the person left the image. Such images train nothing.",
    ),
    "mask inverted": Kind(
        "the mask covers N% of the picture: is it inverted?",
        "White must be the person. Invert the masks.",
    ),
    "mask small": Kind(
        "the mask covers N% of the picture",
        "The person is small in this camera, or the mask has holes. A tighter lens shows more.",
    ),
    "mask in pieces": Kind(
        "N% of the mask lies outside its largest piece",
        "The matting took something else for the person, such as a tripod. `extract --largest`"
        " drops it.",
    ),
    "mask edges": Kind(
        "mask edges are soft (cameras: N): N px of part coverage",
        "Width of the rims. Where they are wider than the person, `extract` erodes them.",
    ),
    # ---- fit of template and poses ----
    "fit of all": Kind(
        "the posed template misses the person in N of N cameras: median IoU N",
        "Something that all cameras share is wrong: the unit, the axes, the direction of the"
        " extrinsics, or the motion is of another take.",
    ),
    "fit of a camera": Kind(
        "IoU N, the median of all cameras is N: its calibration",
        "Only this camera is off: it was moved or zoomed, its intrinsics are of another size, or"
        " its frames are shifted.",
    ),
    "fit of a frame": Kind(
        "IoU N in all cameras, the median of all frames is N: the fit",
        "Only this frame is off: the tracker lost the body. `train --tune-poses True` repairs a few"
        " degrees; leave worse frames out by `--frames`.",
    ),
    "fit of an image": Kind(
        "IoU N, though its camera and its frame fit",
        "One image differs: its mask is wrong, somebody stands before the person, or a frame was"
        " dropped there.",
    ),
    "fit is loose": Kind(
        "the posed template fits the person loosely: median IoU N",
        "The template lacks something that the masks show: hair, a skirt, a coat. A body without"
        " clothes needs `--template`; or all poses are a little off.",
    ),
    "fit is good": Kind(
        "the posed template fits the masks of all N cameras",
        "Cameras, poses, template and masks agree.",
    ),
    # ---- light ----
    "clipped": Kind(
        "N% of the person is all white or all black",
        "Overexposed or underexposed: these colours are lost. Change light or exposure.",
    ),
    "light": Kind(
        "the person's mean brightness is N, the cameras' median N",
        "Exposure, gain or white balance of this camera differs. Fix them by hand in all cameras.",
    ),
    "colours": Kind(
        "colours of the videos (cameras: N): ...",
        "Matrix and range by which the video's colours are read. A warning: cameras differ.",
    ),
    # ---- images ----
    "no images": Kind("no images yet", "Run `ash-studio extract`."),
    "some images": Kind(
        "N of N ... are extracted",
        "The others are missing: run `ash-studio extract` again. It makes only what is missing.",
    ),
    "all images": Kind("all N ... are extracted", "Nothing is missing."),
    "images cut off": Kind(
        "N images are cut off, NAME first",
        "A disk was full, or a job was killed. `ash-studio extract` mends them; of an imported"
        " capture, copy its originals again.",
    ),
    "no calibration": Kind(
        "no cameras.calibration: lens distortion cannot be seen",
        "`extract` straightens images only by `cameras.calibration`. With straight images nothing"
        " is lost.",
    ),
    # ---- motion ----
    "limits": Kind(
        "NAME leaves its limits (N to N) in N frames",
        "A joint turns further than the skeleton allows: a bad fit, or limits that are too tight.",
    ),
    "jump": Kind(
        "jumps by N m from frame N to N",
        "The tracker lost the body, or two takes are joined there. History ends at such a cut.",
    ),
    "still": Kind(
        "stands still: every pose is the same",
        "The motion was not read as meant, or the person does not move: nothing can be learned of"
        " movement.",
    ),
    "motion is good": Kind("N poses within limits, without jumps", "Nothing to do."),
}
"""Kinds by the name that a `Finding` carries. docs/own_footage.md lists them all."""

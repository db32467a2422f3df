"""Configuration of a training. Every field is a flag of `ash-studio train`."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import tyro

from ash_core.conventions import OFFSET_MM_MAX
from ash_core.errors import InputError
from ash_core.variants import VARIANTS, VariantName

Hidden = tyro.conf.arg(help_behavior_hint="")
Preset = Literal["cpu", "light", "balanced", "quality"]
Keep = Literal["auto", "gpu", "memory", "files"]

Columns = Mapping[str, tuple[object, object]]
"""Name: value for a native and for a released avatar."""

DEFAULTS: Final[Columns] = {
    # flag              native    released. Source: its configuration, docs/released_behaviour.md D1
    "steps":            (20_000,   2_000_000),
    "warm_up_steps":    (0,        15_000),
    "views_per_pose":   (8,        1),
    "learning_rate":    (1e-3,     1e-4),
    "final_rate":       (0.02,     1.0),
    "ema":              (0.998,    0.0),
    "clip":             (1.0,      math.inf),
    "background":       ("random", "black"),
    "seed":             (0,        0),
    "checkpoint_every": (1000,     1000),
    "validate_every":   (1000,     1000),
}  # fmt: skip
"""Flag: its default for a native and for a released avatar."""
WEIGHTS: Final[Columns] = {
    "l1":    (0.8, 0.9),
    "dssim": (0.2, 0.1),
    "mask":  (0.1, 0.0),
}  # fmt: skip
"""Part of the loss: its weight likewise."""
FOREIGN: Final[Mapping[VariantName, tuple[str, ...]]] = {
    "native": ("atlas", "gaussian_checkpoint", "warm_up_steps"),
    "released": ("preset", "offset_mm", "tune_character", "tune_poses", "dropout", "cloth"),
}
"""Flags that are the other variant's alone."""


@dataclass(frozen=True)
class LossWeights:
    """Factors of the loss' parts. None: the variant's default."""

    l1: Annotated[float | None, Hidden] = None
    """Mean absolute difference of colours. native 0.8, released 0.9."""
    dssim: Annotated[float | None, Hidden] = None
    """1 - SSIM. native 0.2, released 0.1."""
    mask: Annotated[float | None, Hidden] = None
    """Mean absolute difference of coverage and mask. native 0.1, released 0."""
    lpips: float = 0.0
    """LPIPS; needs weights, see --lpips-weights."""
    patch_lpips: float = 0.0
    """LPIPS of patches of 64 pixels on face, hands and loose cloth, one of each in a view; needs
    weights too."""
    offset: float = 0.01
    """Mean square of the Gaussians' offsets, in units of 5 cm (native)."""
    scale: float = 0.01
    """Mean square of the Gaussians' growth, as parts of what is allowed (native)."""
    smooth: float = 1000.0
    """Mean square of the tuned surface's roughness, m: what each vertex was moved more than its
    neighbours (--tune-character). For vertices 1 to 2 cm apart; a coarser mesh wants far less."""
    pose: float = 1e-6
    """Sum of squares of a refined pose's turns, degrees; 5 mm count as one (--tune-poses)."""
    pose_change: float = 2e-6
    """The same of what a refined pose turns more than those before and after it."""


@dataclass(frozen=True)
class TrainConfig:
    """Train an avatar from footage of one subject.

    DATA is a folder of `ash-studio import capture` or `extract`, or a configuration of the
    published tree (or raw_data/SUBJECT, meta_data/SUBJECT). Flags override what a configuration
    names. Under torchrun every process takes its share of the poses of a step:
    torchrun --nproc-per-node N -m ash_core.training.train DATA -o OUT
    """

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """Folder of the subject: character, cameras, training/images, perhaps testing/images; or a
    published .conf."""
    out: Annotated[
        Path | None, tyro.conf.arg(aliases=["-o"], metavar="OUT", help_behavior_hint="")
    ] = None
    """Folder for avatar.safetensors, checkpoints/, validations_fine/ and TensorBoard's logs/.
    Default: the configuration's general.output_dir."""
    resume: bool = False
    """Go on from the newest whole checkpoint in OUT."""

    # ---- the avatar ----
    avatar: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Begin with this avatar file instead of DATA's own character."""
    variant: VariantName = "native"
    """native is ours; released is the published networks, schedule and losses."""
    preset: Annotated[Preset | None, Hidden] = None
    """Decoder of a new native avatar. Default: balanced."""
    offset_mm: Annotated[int | None, Hidden] = None
    """Farthest a new native avatar's Gaussians lie from the skin along each axis, mm. Default:
    150."""
    atlas: Annotated[int | None, Hidden] = None
    """Texels a side of a new released avatar. Default: what the character's configuration says."""
    gaussian_checkpoint: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.tar", help_behavior_hint="")
    ] = None
    """Released variant: begin with the networks in a published gaussian_checkpoints.tar."""
    tune_character: bool = False
    """Fit the deformable character too, through the rasterizer: its graph networks, or the
    template's vertices where there is no checkpoint."""
    tune_poses: Annotated[bool | None, Hidden] = None
    """Refine the pose of each training frame too, by at most 10 degrees and 5 cm; written to
    OUT/refined_poses.motion. Default: with --tune-character, where DATA is of `import capture`."""
    cloth: bool = False
    """Simulate the loose parts of a native avatar: skirts, coats, hair. What swings, and how, is
    learned from the masks before the first step; written to OUT/cloth.safetensors."""

    # ---- the data ----
    frames: Annotated[str, tyro.conf.arg(metavar="START:STOP:STEP")] = ":"
    """Frames of training/ to use. Default: all; what the configuration says."""
    test_cameras: Annotated[str, tyro.conf.arg(metavar="auto|none|N,N,...")] = "auto"
    """Cameras that are never trained on. auto: one in twelve, from three cameras on; the
    configuration's val_camera."""
    crop: Annotated[str, tyro.conf.arg(metavar="auto|WxH")] = "auto"
    """Pixels of each picture that are compared. auto: around the masks; larger ones in parts."""
    keep: Keep = "auto"
    """Place of the pictures: on the GPU, in memory, or in their files, decoded when needed.
    auto: the first that has room, of memory at most 12 GB. files: boxes of images with a mask
    beside them wait on the disk of OUT, up to 64 GB, once they were decoded."""
    workers: int = 0
    """Threads that decode pictures. 0: one for each processor, at most 16."""

    # ---- the optimisation ----
    steps: Annotated[int | None, Hidden] = None
    """Steps in all. Default: native 20000, released 2000000 (published); with --minutes no end."""
    minutes: Annotated[float | None, Hidden] = None
    """End after so much time; the learning rate falls with it. With --steps: what ends first."""
    warm_up_steps: Annotated[int | None, Hidden] = None
    """Released variant: steps of its first phase, towards the textured mesh. Default: 15000."""
    views_per_pose: Annotated[int | None, Hidden] = None
    """Cameras for each decoded pose. Default: native 8, released 1 (published)."""
    poses_per_step: Annotated[int | None, Hidden] = None
    """Poses of a step, over all processes. Default: one a process."""
    learning_rate: Annotated[float | None, Hidden] = None
    """Learning rate of the decoder. Default: native 0.001, released 0.0001 (published)."""
    final_rate: Annotated[float | None, Hidden] = None
    """Last learning rate, as a part of the first. Default: native 0.02, released 1."""
    character_rate: float = 0.05
    """Learning rate of the tuned character, as a part of the decoder's."""
    pose_rate: float = 0.5
    """Learning rate of the refined poses, rad (0.3 m count as 1 rad), as a part of the
    decoder's."""
    ema: Annotated[float | None, Hidden] = None
    """Decay of the averaged weights that are saved. Default: native 0.998, released 0 (off)."""
    clip: Annotated[float | None, Hidden] = None
    """Longest gradient; longer ones are shortened. Default: native 1, released none."""
    dropout: float = 0.0
    """Share of the channels of the decoder's maps that is left out at random (native): poses that
    were not filmed look better, those that were look worse."""
    background: Annotated[Literal["random", "black", "white"] | None, Hidden] = None
    """Under pictures while training. Default: native random, released black (published)."""
    precision: Literal["auto", "half", "float"] = "auto"
    """Precision of the networks: bfloat16 or float32. auto: half on a GPU."""
    weights: LossWeights = field(default_factory=LossWeights)
    lpips_weights: Annotated[
        tuple[Path, ...], tyro.conf.arg(metavar="FILE", help_behavior_hint="")
    ] = ()
    """Files with LPIPS' weights: the backbone's (torchvision's alexnet or vgg16) and the heads'.
    Default: those of the package stlpips_pytorch, if it is installed."""

    # ---- the run ----
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a usable GPU."""
    seed: Annotated[int | None, Hidden] = None
    """Seed of everything that is drawn. Default: 0."""
    checkpoint_every: Annotated[int | None, Hidden] = None
    """Steps between checkpoints. Default: 1000."""
    validate_every: Annotated[int | None, Hidden] = None
    """Steps between validations; 0: none. Default: 1000."""
    validation_views: int = 4
    """Pictures of each kind in a validation."""
    log_every: int = 50
    """Steps between lines of the log."""

    def resolved(self) -> "TrainConfig":
        """Fill in the variant's defaults where no flag was given, and check. Raises: InputError."""
        defaults = _missing(self, DEFAULTS, self.variant)
        if self.minutes is not None:
            defaults.pop("steps", None)  # the time ends it
        weights = replace(self.weights, **_missing(self.weights, WEIGHTS, self.variant))
        if self.tune_poses is None:
            from ash_core.files.dataset import CAPTURE

            is_capture = self.tune_character and (self.data / CAPTURE).is_file()
            defaults["tune_poses"] = is_capture
        full = replace(self, **defaults, weights=weights)
        full._check()
        return full

    @property
    def folder(self) -> Path:
        """Folder of the results; resolved configurations have one."""
        assert self.out is not None
        return self.out

    def _check(self) -> None:
        # Each flag by itself.
        _need(self.out is not None, "out", "a folder for the results, such as -o trained", "none")
        fits = self.offset_mm is None or 1 <= self.offset_mm <= OFFSET_MM_MAX
        _need(fits, "offset_mm", f"1 to {OFFSET_MM_MAX}", self.offset_mm)
        positive = ("steps", "learning_rate", "views_per_pose", "poses_per_step", "minutes",
                    "clip", "checkpoint_every", "log_every", "validation_views")  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            _need(value is None or value > 0, name, "more than 0", value)
        for name in ("seed", "workers", "validate_every", "warm_up_steps", "character_rate",
                     "pose_rate"):  # fmt: skip
            _need(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        if self.cloth:
            for name in ("tune_character", "tune_poses"):
                _need(not getattr(self, name), name, "none beside --cloth", True)
        _need(0 <= self.dropout < 1, "dropout", "0 to below 1", self.dropout)
        _need(0 <= self.ema < 1, "ema", "0 to below 1", self.ema)  # type: ignore[operator]
        _need(0 < self.final_rate <= 1, "final_rate", "above 0, to 1", self.final_rate)  # type: ignore[operator]
        _need(math.isfinite(self.learning_rate), "learning_rate", "a number", self.learning_rate)  # type: ignore[arg-type]
        # Weights of the losses.
        for part in fields(self.weights):
            value = getattr(self.weights, part.name)
            fine = math.isfinite(value) and value >= 0
            _need(fine, f"weights.{part.name}", "a number, 0 or more", value)
        pictures = (getattr(self.weights, name) for name in ("l1", "dssim", "lpips"))
        if not any(pictures):
            raise InputError("--weights: expected one of l1, dssim and lpips above 0, got none")
        perceptual = [name for name in ("lpips", "patch_lpips") if getattr(self.weights, name) > 0]
        if perceptual and not self.lpips_weights:
            from ash_core.training.lpips import how_to_measure, packaged_weights

            if not packaged_weights():
                flag = perceptual[0].replace("_", "-")
                raise InputError(f"--weights.{flag}: {how_to_measure()}")
        # Flags of the other variant.
        for name in FOREIGN[self.variant]:
            value = getattr(self, name)
            _need(not value, name, f"none for the {self.variant} variant", value)

    def as_json(self) -> dict[str, object]:
        """For the record beside the result."""

        def plain(value: object) -> object:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            return str(value) if isinstance(value, Path) or value == math.inf else value

        return {key: plain(value) for key, value in asdict(self).items()}


def _missing(flags: object, table: Columns, variant: VariantName) -> dict[str, Any]:
    """Select a table's values for a variant where none are given."""
    column = list(VARIANTS).index(variant)
    return {
        name: columns[column] for name, columns in table.items() if getattr(flags, name) is None
    }


def _need(ok: bool, name: str, expected: str, value: object) -> None:
    if not ok:
        raise InputError(f"--{name.replace('_', '-')}: expected {expected}, got {value}")

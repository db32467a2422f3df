"""A capture of somebody else's laboratory, imported and trained, beside its own template.

    ash-studio actor --name ida -o ida
    ash-studio capture ida -o FILM --split both --cameras 16 --frames 0:300
    python tests/bench/bench_own_capture.py hand-over ida FILM CAPTURE
    ash-studio import capture CAPTURE --body CAPTURE/SMPLX_NEUTRAL.npz -o DATA --test 300
    python tests/bench/bench_own_capture.py baseline ida FILM DATA TRUE
    ash-studio train DATA -o A --minutes 1.5; ash-studio train TRUE -o B --minutes 1.5
    python tests/bench/bench_own_capture.py compare \
        A/avatar.safetensors DATA B/avatar.safetensors TRUE

`hand-over` writes the film in the layout of AvatarReX, with a nude body in the layout of SMPL-X and
the poses: all that a laboratory hands over. `body ida` makes that body alone, beside the actor,
where another machine has no anny. `baseline` makes the same images a data set with the
actor's own clothed template. `compare` measures both on the same images.

What `--tune-poses` is worth: `spoil CAPTURE OUT` makes the same capture with errors of a fit in the
poses of its training frames. Import both, train on the second, then `poses CLEAN SPOILT AVATAR`
prints how far joints are off before and after.
"""

import argparse
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).parents[2])]

QUALITY = 95
BODY = "SMPLX_NEUTRAL.npz"
POSES_FILE = "smpl_params.npz"
TESTING = 124
"""Number of testing frames of the study's clips."""


# ---- the hand-over ----


def hand_over(actor: Path, film: Path, out: Path) -> None:
    """Write a film in the layout of AvatarReX: training frames, then testing frames."""
    import torch
    from actor_joints import poses_of_actor

    from ash_core.conventions import R_WORLD_BODY
    from ash_core.files.body_model import read_body_model
    from ash_core.files.dataset import POSES, SPLITS, read_dataset_cameras, video_path
    from ash_core.files.skeletool import read_motion, read_skeleton

    # Cameras, as OpenCV counts pixels.
    cameras = read_dataset_cameras(film)
    content = {}
    for number, camera in enumerate(cameras):
        K, viewmat = camera.K.double().numpy().copy(), camera.viewmat.double().numpy()
        K[:2, 2] -= 0.5
        content[f"{number:02d}"] = {
            "K": K.flatten().tolist(),
            "R": viewmat[:3, :3].flatten().tolist(),
            "T": viewmat[:3, 3].tolist(),
            "imgSize": [camera.width, camera.height],
            "distCoeff": [0.0] * 5,
        }
    out.mkdir(parents=True)
    (out / "calibration_full.json").write_text(json.dumps(content))

    # The nude body and its poses, in the world of the cameras.
    if not (actor / BODY).exists():
        make_body(actor)
    shutil.copy(actor / BODY, out / BODY)
    model, skeleton = read_body_model(out / BODY), read_skeleton(actor / "actor.skeleton")
    rest = model.joints(model.template)
    splits = [split for split in SPLITS if video_path(film, split, 0).exists()]
    counts = {split: _frames(video_path(film, split, 0)) for split in splits}
    dofs = [read_motion(film / split / POSES, skeleton).dofs[: counts[split]] for split in splits]
    poses = poses_of_actor(skeleton, torch.cat(dofs).numpy(), rest)
    write_poses(out / POSES_FILE, poses, np.array(R_WORLD_BODY), rest[0])

    # Images and masks, a process a camera.
    jobs = []
    first = 0
    for split in splits:
        jobs += [
            (film, split, number, (camera.width, camera.height), first, out)
            for number, camera in enumerate(cameras)
        ]
        first += counts[split]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_write_camera, jobs))
    print(json.dumps({"cameras": len(cameras), "frames": counts}))


def make_body(actor: Path) -> None:
    """Write the nude body under an actor beside it, in the layout of SMPL-X (extra 'studio')."""
    from studio_body import smplx_like_body, write_body_npz

    write_body_npz(actor / BODY, smplx_like_body(actor)[0])


def write_poses(path: Path, poses, R_world_body: np.ndarray, pelvis: np.ndarray) -> None:
    """Write the poses of a body frame as AvatarReX does, in another world."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_matrix(R_world_body)
    rotations = poses.rotations
    places = turn.apply(poses.translations + pelvis)
    flat = lambda first, last: rotations[:, first:last].reshape(len(rotations), -1)  # noqa: E731
    np.savez(
        path,
        betas=np.zeros((1, 10)),
        global_orient=(turn * Rotation.from_rotvec(rotations[:, 0])).as_rotvec(),
        transl=places - pelvis,
        body_pose=flat(1, 22),
        jaw_pose=flat(22, 23),
        expression=np.zeros((len(rotations), 10)),
        left_hand_pose=flat(25, 40),
        right_hand_pose=flat(40, 55),
    )


def _frames(video: Path) -> int:
    from ash_core.files.footage import index_video

    return index_video(video).count


def _write_camera(job: tuple) -> None:
    """Decode one camera's videos and write its images and masks."""
    from ash_core.captures.capture import ImageRef
    from ash_core.captures.images import read_images, read_masks
    from ash_core.files.dataset import mask_video_path, video_path

    film, split, number, (width, height), first, out = job
    folder = out / f"{number:02d}"
    (folder / "mask" / "pha").mkdir(parents=True, exist_ok=True)
    video, mask_video = video_path(film, split, number), mask_video_path(film, split, number)
    count = _frames(video)
    images = read_images(ImageRef(video, frame) for frame in range(count))
    masks = read_masks(ImageRef(mask_video, frame) for frame in range(count))
    for frame, (image, mask) in enumerate(zip(images, masks, strict=True), start=first):
        # Encoders pad odd sides to even ones.
        image, mask = image[:height, :width], mask[:height, :width]
        Image.fromarray(image).save(folder / f"{frame:08d}.jpg", quality=QUALITY)
        Image.fromarray(mask).save(folder / "mask" / "pha" / f"{frame:08d}.jpg", quality=QUALITY)


# ---- the same capture with poses that are off ----


def spoil(capture: Path, out: Path, testing: int = TESTING) -> None:
    """Link a capture, with errors of a fit in all poses but the last, which are for testing.

    Errors change slowly: 1 degree (standard deviation) an axis of a body joint, 3 of a finger, 5 mm
    the root.
    """
    from scipy.ndimage import gaussian_filter1d

    out.mkdir(parents=True)
    for path in capture.iterdir():
        if path.name != POSES_FILE:
            (out / path.name).symlink_to(path.resolve())
    values = dict(np.load(capture / POSES_FILE))
    count = len(values["transl"]) - testing
    generator = np.random.default_rng(0)
    sizes = {
        "body_pose": np.radians(1.0),
        "left_hand_pose": np.radians(3.0),
        "right_hand_pose": np.radians(3.0),
        "transl": 0.005,
    }
    for name, size in sizes.items():
        noise = gaussian_filter1d(generator.normal(size=values[name][:count].shape), 6.0, axis=0)
        values[name][:count] += size * noise / noise.std()
    np.savez(out / POSES_FILE, **values)


def pose_errors(clean: Path, spoilt: Path, avatar: Path) -> None:
    """Print how far the joints of training poses are off, mm: as given and as refined."""
    import torch

    from ash_core.files.dataset import open_dataset
    from ash_core.geometry.kinematics import joint_transforms
    from ash_core.training.pose_tuning import with_refined_poses

    def places(skeleton, split) -> "torch.Tensor":
        return joint_transforms(skeleton, split.motion.dofs.double())[..., :3, 3]

    # Each data set has a skeleton of its own: Euler orders follow the poses.
    true_data, data = open_dataset(clean), open_dataset(spoilt)
    skeleton, given = data.character.skeleton, data.splits["training"]
    refined = with_refined_poses(avatar, given, skeleton)
    assert refined is not None, f"{avatar}: no refined poses"
    truth = places(true_data.character.skeleton, true_data.splits["training"])
    result = {}
    for name, split in (("given", given), ("refined", refined)):
        off = 1e3 * (places(skeleton, split) - truth).norm(dim=-1)
        result[name] = {"mean": off.mean().item(), "largest tenth": off.quantile(0.9).item()}
    print(json.dumps(result), flush=True)


# ---- the same images with the true template ----


def baseline(actor: Path, film: Path, data: Path, out: Path) -> None:
    """Make a data set of the imported images with the actor's own template and poses."""
    from ash_core.files.cameras.published import write_cameras
    from ash_core.files.dataset import CAMERAS, POSES, SPLITS, read_dataset_cameras
    from ash_core.files.skeletool import read_motion, read_skeleton, write_motion

    out.mkdir(parents=True)
    for path in actor.iterdir():
        if path.is_file():
            shutil.copy(path, out / path.name)
    write_cameras(out / CAMERAS, read_dataset_cameras(film))
    skeleton = read_skeleton(out / "actor.skeleton")
    for split in SPLITS:
        if not (data / split / "images").exists():
            continue
        count = len(list((data / split / "images").iterdir()))
        dofs = read_motion(film / split / POSES, skeleton).dofs[:count]
        write_motion(out / split / POSES, dofs)
        (out / split / "images").symlink_to((data / split / "images").resolve())
    print(out)


def compare(pairs: list[str], lpips_weights: list[Path], views: int) -> None:
    """Print the scores of each avatar on its data set, as one line of JSON each."""
    from ash_core.files.dataset import open_dataset
    from ash_core.scene.open import load_avatar_data, make_renderer
    from ash_core.training.evaluation import evaluate

    silent = lambda _text: None  # noqa: E731
    for avatar, data in zip(pairs[::2], pairs[1::2], strict=True):
        renderer = make_renderer(
            load_avatar_data(avatar, report=silent), "auto", "auto", None, silent
        )
        report = Path(avatar).parent / "report"
        result = evaluate(
            renderer, avatar, open_dataset(Path(data)), report, views=views,
            lpips_weights=lpips_weights,
        )  # fmt: skip
        rows = {
            one.name: {
                "psnr": one.scores.psnr,
                "ssim": one.scores.ssim,
                "lpips": one.scores.lpips,
                "flicker": one.flicker,
            }
            for one in result
        }
        print(json.dumps({"avatar": avatar, **rows}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    counts = {"body": 1, "hand-over": 3, "baseline": 4, "spoil": 2, "poses": 3}
    for name, paths in counts.items():
        commands.add_parser(name).add_argument("paths", type=Path, nargs=paths)
    command = commands.add_parser("compare")
    command.add_argument("pairs", nargs="+")
    command.add_argument("--lpips-weights", type=Path, nargs="+", default=[])
    command.add_argument("--views", type=int, default=240)
    given = parser.parse_args()
    if given.command == "body":
        make_body(*given.paths)
    elif given.command == "hand-over":
        hand_over(*given.paths)
    elif given.command == "baseline":
        baseline(*given.paths)
    elif given.command == "spoil":
        spoil(*given.paths)
    elif given.command == "poses":
        pose_errors(*given.paths)
    else:
        compare(given.pairs, given.lpips_weights, given.views)


if __name__ == "__main__":
    main()

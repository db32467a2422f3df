"""Fuzz every reader with damaged files: seeded, time-bound, each target in a process of its own.

    python tests/fuzz.py --seconds 600 --seed 1 [--target NAME ...] [--keep FOLDER]

A reader returns or raises InputError, soon, with one short line that names the file. Anything else
is a finding: another exception, a signal, a hang, memory that grows. Its input is kept in FOLDER,
and the exit code is 1. `tests/test_fuzz_files.py` runs a few hundred mutations of each target.
"""

import argparse
import dataclasses
import importlib.util
import io
import json
import logging
import multiprocessing
import pickle
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from made_body_poses import random_poses, write_aist
from toy import ToyFiles, make_toy_character, toy_cameras, toy_skeleton, toy_texture

from ash_core.avatar import Avatar
from ash_core.conventions import CameraFormat
from ash_core.drawable import StaticSplats
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.body_pose_files import read_body_poses, write_body_poses
from ash_core.files.bvh import read_bvh
from ash_core.files.cameras.files import read_camera_file, write_camera_file
from ash_core.files.cameras.published import read_calibration, read_cameras
from ash_core.files.cameras.record import StageCamera
from ash_core.files.checkpoint import read_checkpoint
from ash_core.files.conf import read_conf
from ash_core.files.footage import decode_frames, index_video
from ash_core.files.image import encode_png, read_image
from ash_core.files.obj import read_obj
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_character, read_motion, read_skeleton, read_skin
from ash_core.files.splats import load_splats
from ash_core.files.video import open_writer
from ash_core.geometry.lens import Lens
from ash_core.importers.gltf.gltf_character import read_gltf_character
from ash_core.networks.decoder import Decoder, DecoderConfig

TIME_BOUND_S = 5.0
"""Processor time for one file: far above what a small one takes (a few ms)."""
HANG_S = 60.0
"""Wall time without a sign of life after which a process counts as hanging."""
MEMORY_BOUND_MB = 1024
"""Growth of a process' peak memory that counts as a finding."""
MAX_MESSAGE = 4000

ODD_WORDS = [
    *("nan", "inf", "-inf", "-1", "0", "1e999", "1e38", "-0.0", "9" * 25, "9" * 5000, "1_0", "0x1"),
    *("", "\u0663", "none", "//", "1/", "{", "}", "[", '"', "${a}", "\x00", "\x85", "a" * 5000),
    *("\x1b[2J", "null", "true", "\\", "|"),
]
ODD_INTEGERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800000, 0x7FC00000]


# ---- mutations ----


def flip(data: bytes, chance: random.Random) -> bytes:
    """Replace one byte."""
    place = chance.randrange(len(data) + 1)
    return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]


def insert(data: bytes, chance: random.Random) -> bytes:
    """Insert a run of one byte."""
    place, byte = chance.randrange(len(data) + 1), chance.randrange(256)
    return data[:place] + bytes([byte]) * (byte + 1) + data[place:]


def cut(data: bytes, chance: random.Random) -> bytes:
    """Drop the end."""
    return data[: chance.randrange(len(data) + 1)]


def remove(data: bytes, chance: random.Random) -> bytes:
    """Drop a piece from the middle."""
    place = chance.randrange(len(data) + 1)
    return data[:place] + data[place + chance.randrange(1, 64) :]


def overwrite(data: bytes, chance: random.Random) -> bytes:
    """Write an extreme 32-bit number at some byte, in either order."""
    place, order = chance.randrange(len(data) + 1), chance.choice("<>")
    word = struct.pack(order + "I", chance.choice(ODD_INTEGERS))
    return data[:place] + word + data[place + 4 :]


def substitute(data: bytes, chance: random.Random) -> bytes:
    """Put an odd word for one of the numbers or names."""
    words = list(re.finditer(rb"[\w.+-]+", data))
    if not words:
        return data
    word = chance.choice(words)
    return data[: word.start()] + chance.choice(ODD_WORDS).encode() + data[word.end() :]


def edit_lines(data: bytes, chance: random.Random) -> bytes:
    """Delete, repeat, move or swap a line."""
    rows = data.split(b"\n")
    row, other = chance.randrange(len(rows)), chance.randrange(len(rows))
    match chance.randrange(4):
        case 0:
            del rows[row]
        case 1:
            rows.insert(other, rows[row])
        case 2:
            rows.insert(other, rows.pop(row))
        case _:
            rows[row], rows[other] = rows[other], rows[row]
    return b"\n".join(rows)


TEXT = (flip, insert, cut, substitute, substitute, edit_lines, edit_lines)
BINARY = (flip, flip, insert, cut, remove, overwrite, overwrite)


def mutate(data: bytes, is_text: bool, chance: random.Random) -> bytes:
    """Apply one to four mutations."""
    for _ in range(chance.randint(1, 4)):
        data = chance.choice(TEXT if is_text else BINARY)(data, chance)
    return data


# ---- targets ----


@dataclass(frozen=True)
class Target:
    """One reader with a whole file to damage."""

    path: Path
    original: bytes
    """Bytes that are mutated."""
    read: Callable[[Path], object]
    is_text: bool = True
    pack: Callable[[bytes], bytes] = bytes
    """Makes a file of the mutated bytes, where only a part of it is damaged."""


def text_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield the published text formats, on the toy character."""
    toy = make_toy_character(folder / "text")
    readers: dict[str, Callable[[Path], object]] = {
        "toy.skeleton": read_skeleton,
        "toy.skin": lambda path: read_skin(path, toy_skeleton(), 58),
        "motions/toy.motion": lambda path: read_motion(path, toy_skeleton()),
        "toy.character": read_character,
        "toy.obj": read_obj,
        "toy_graph.obj": lambda path: read_obj(path, need_uvs=False),
        "cameras.json": read_cameras,
        "toy.conf": read_conf,
    }
    for name, read in readers.items():
        path = toy.folder / name
        yield Path(name).name, Target(folder / path.name, path.read_bytes(), read)
    yield "import ash", Target(toy.folder / "damaged.conf", toy.conf.read_bytes(), import_ash)
    bvh = Path(__file__).parent / "data" / "stretch.bvh"
    yield "bvh", Target(folder / "a.bvh", bvh.read_bytes(), lambda path: read_bvh(path).poses())
    poses = random_poses("smpl")
    write_body_poses(folder / "a.npz", poses, "amass")
    yield "poses.npz", Target(folder / "b.npz", (folder / "a.npz").read_bytes(), read_body_poses)
    aist = write_aist(folder / "a.pkl", poses).read_bytes()
    yield "poses.pkl", Target(folder / "b.pkl", aist, read_body_poses)
    yield "calibration", Target(folder / "a.calibration", CALIBRATION, read_calibration)


CALIBRATION = b"""Skeletool Camera Calibration File V1.0
name          0
  sensor      10 7.5
  size        1285 940
  animated    0
  intrinsic   1120 0 652.75 0 0 1118.25 462.25 0 0 0 1 0 0 0 0 1
  extrinsic   1 0 0 12 0 1 0 -730.5 0 0 1 3000 0 0 0 1
  radial      0
"""


def image_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield pictures and videos."""
    yield "png", Target(folder / "a.png", encode_png(toy_texture()), read_image, is_text=False)
    for ending in (".mp4", ".webm"):
        path = folder / f"a{ending}"
        with open_writer(path, 64, 48, 25.0, alpha=ending == ".webm") as writer:
            for frame in range(6):
                pixels = torch.full((48, 64, 4 if ending == ".webm" else 3), 40 * frame)
                writer.write(pixels.to(torch.uint8).numpy(), frame)
        yield ending, Target(path, path.read_bytes(), read_video, is_text=False)


def read_video(path: Path) -> None:
    """Index a video and decode its frames."""
    index = index_video(path)
    for _ in decode_frames(index, list(index.times)):
        pass


def splat_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield splats as text, as binary and packed."""
    names = ["x", "y", "z", "opacity", *(f"f_dc_{n}" for n in range(3))]
    names += [f"scale_{n}" for n in range(3)] + [f"rot_{n}" for n in range(4)]
    table = torch.arange(4 * len(names)).reshape(4, -1).float().numpy() / 8 - 3
    rows = "".join(" ".join(map(str, row)) + "\n" for row in table.tolist()).encode()
    for kind, body in (("ascii", rows), ("binary_little_endian", table.tobytes())):
        head = ["ply", f"format {kind} 1.0", "element vertex 4"]
        head += [f"property float {name}" for name in names] + ["end_header", ""]
        data = "\n".join(head).encode() + body
        yield (
            f"splats {kind}",
            Target(folder / f"{kind}.ply", data, lambda path: StaticSplats(load_splats(path))),
        )
    originals = Path(__file__).parent / "data" / "splats"
    for name in ("splats.compressed.ply", "splats.sog", "splats_v3.spz"):
        yield name, Target(folder / name, (originals / name).read_bytes(), load_splats)


def camera_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield camera files of other programs."""
    kinds: dict[str, CameraFormat] = {"transforms.json": "nerfstudio", "cameras.json": "graphdeco"}
    kinds |= {"a.yml": "opencv", "images.txt": "colmap"}
    for name, kind in kinds.items():
        lens = Lens() if kind == "graphdeco" else Lens(k1=0.1)
        stage = [StageCamera(camera, lens) for camera in toy_cameras()]
        path = folder / kind / name
        path.parent.mkdir()
        write_camera_file(path.parent if kind == "colmap" else path, kind, stage)
        yield kind, Target(path, path.read_bytes(), read_camera_file)


def character_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield rigged glTF characters: JSON, binary, and an avatar with masks, colours and VRM."""
    from test_gltf_paint import masked_avatar

    data = Path(__file__).parent / "data"
    text, binary = (
        (data / "simple_skin.gltf").read_bytes(),
        (data / "rigged_simple.glb").read_bytes(),
    )
    yield "gltf", Target(folder / "a.gltf", text, read_gltf_character)
    yield "glb", Target(folder / "a.glb", binary, read_gltf_character, is_text=False)
    avatar = masked_avatar(folder / "avatar.gltf").read_bytes()
    yield "avatar gltf", Target(folder / "b.gltf", avatar, read_gltf_character)


def capture_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield calibrations, fits and keypoints of published captures."""
    import made_capture as made

    from ash_core.captures.layouts.actorshq import read_actorshq
    from ash_core.captures.layouts.avatarrex import read_avatarrex
    from ash_core.captures.layouts.choice import Choice
    from ash_core.captures.layouts.easymocap import read_easymocap_capture
    from ash_core.captures.layouts.zju import read_zju

    clip = made.bare_clip()
    # A folder is named as its damaged file, since what does not fit is the folder's fault.
    files: list[tuple[str, Callable[..., None], Callable[..., object], made.MadeClip]] = [
        ("calibration_full.json", made.write_avatarrex, read_avatarrex, clip),
        ("smpl_params.npz", made.write_avatarrex, read_avatarrex, clip),
        ("4x/calibration.csv", made.write_actorshq, read_actorshq, clip),
        ("intri.yml", made.write_easymocap, read_easymocap_capture, made.with_hand_pca(clip)),
        ("smpl/000001.json", made.write_easymocap, read_easymocap_capture, made.as_smpl(clip)),
        (
            "keypoints3d/000001.json",
            made.write_easymocap,
            read_easymocap_capture,
            made.as_smpl(clip),
        ),
        ("annots.npy", made.write_zju, read_zju, made.as_smpl(clip)),
        ("new_params/1.npy", made.write_zju, read_zju, made.as_smpl(clip)),
    ]
    for name, write, read, written in files:
        home = folder / name.split("/")[0] / Path(name).name
        write(home, written)

        def read_home(_: Path, read: Callable[..., object] = read, home: Path = home) -> None:
            read(home, Choice())

        path = home / name
        is_text = path.suffix not in (".npy", ".npz")
        yield f"capture {name}", Target(path, path.read_bytes(), read_home, is_text)


def more_capture_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield calibrations, fits and containers of more captures."""
    import made_capture as made
    import made_capture_more as more

    from ash_core.captures.layouts.choice import Choice
    from ash_core.captures.layouts.dna import read_dna
    from ash_core.captures.layouts.mvhumannet import read_mvhumannet
    from ash_core.captures.layouts.nerfstudio_colmap import read_colmap, read_nerfstudio
    from ash_core.captures.layouts.uma import read_uma

    clip = made.bare_clip()
    shared = made.with_hand_pca(more.with_one_lens(clip))
    files: list[tuple[str, Callable[..., object], Callable[..., object], made.MadeClip]] = [
        ("sparse/0/images.txt", more.write_colmap, read_colmap, clip),
        ("transforms.json", more.write_nerfstudio, read_nerfstudio, clip),
        ("camera_intrinsics.json", more.write_mvhumannet, read_mvhumannet, shared),
        ("camera_extrinsics.json", more.write_mvhumannet, read_mvhumannet, shared),
        ("camera_scale.pkl", more.write_mvhumannet, read_mvhumannet, shared),
        ("Subject_0_metadata/cameras.calib", more.write_uma, read_uma, clip),
    ]
    if importlib.util.find_spec("h5py") is not None:
        files += [
            ("0001_02.smc", more.write_dna, read_dna, clip),
            ("0001_02_annots.smc", more.write_dna, read_dna, clip),
        ]
    for name, write, read, written in files:
        # A folder is named as its damaged file, since what does not fit is the folder's fault.
        home = folder / f"{Path(name).name} capture"
        write(home, written)

        def read_home(_: Path, read: Callable[..., object] = read, home: Path = home) -> None:
            read(home, Choice())

        path = home / name
        is_text = path.suffix not in (".pkl", ".smc")
        yield f"capture {path.name}", Target(path, path.read_bytes(), read_home, is_text)


def body_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield body models and poses: arrays of an .npz one by one, pickles whole."""
    from made_body import write_body_model
    from made_capture import bare_clip, write_smplx_npz

    from ash_core.files.body_model import read_body_model
    from ash_core.files.body_pose_files import read_body_poses

    folder.mkdir(exist_ok=True)
    model = write_body_model(folder / "body.npz", "smpl", vertices=720, shapes=2)
    poses = folder / "poses.npz"
    write_smplx_npz(poses, bare_clip().poses)
    for path, read, names in (
        (model, read_body_model, ("v_template", "kintree_table", "f")),
        (poses, read_body_poses, ("global_orient", "body_pose", "betas")),
    ):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        for name in names:

            def pack(
                data: bytes, name: str = name, arrays: dict[str, np.ndarray] = arrays
            ) -> bytes:
                buffer = io.BytesIO()
                np.savez(buffer, **{key: a for key, a in arrays.items() if key != name})  # type: ignore[arg-type]
                with zipfile.ZipFile(buffer, "a") as archive:
                    archive.writestr(f"{name}.npy", data)
                return buffer.getvalue()

            member = io.BytesIO()
            np.save(member, arrays[name])
            place = folder / f"damaged_{name}.npz"
            yield f"{path.stem} {name}", Target(place, member.getvalue(), read, False, pack)
        yield path.name, Target(folder / f"b_{path.name}", path.read_bytes(), read, False)
    pickled = write_body_model(folder / "body.pkl", "smpl", vertices=720, shapes=2, pickled=True)
    yield "body.pkl", Target(pickled, pickled.read_bytes(), read_body_model, is_text=False)
    motion = {"smpl_poses": np.zeros((3, 72)), "smpl_trans": np.ones((3, 3)), "smpl_scaling": [9.0]}
    data = pickle.dumps(motion)
    yield "motion.pkl", Target(folder / "motion.pkl", data, read_body_poses, is_text=False)


def network_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield checkpoints and avatar files: whole, the header alone, the values in it alone."""
    buffer = io.BytesIO()
    torch.save({"net": {"a": torch.ones(2, 3), "b": torch.zeros(4)}}, buffer)
    shapes = {"net": {"a": (2, 3), "b": (4,)}}
    yield (
        "checkpoint",
        Target(
            folder / "a.tar",
            buffer.getvalue(),
            lambda path: read_checkpoint(path, shapes),
            is_text=False,
        ),
    )
    toy = make_toy_character(folder / "networks")
    data = avatar_bytes(toy)
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length], data[8 + length :]
    metadata = json.loads(header)["__metadata__"]

    def pack_header(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text + body

    def pack_values(text: bytes) -> bytes:
        values = {**metadata, "avatar": text.decode(errors="replace")}
        return pack_header(json.dumps({**json.loads(header), "__metadata__": values}).encode())

    yield "avatar", Target(folder / "a.safetensors", data, load_and_build, is_text=False)
    path = folder / "b.safetensors"
    yield "avatar header", Target(path, header, load_and_build, pack=pack_header)
    path, text = folder / "c.safetensors", metadata["avatar"].encode()
    yield "avatar values", Target(path, text, load_and_build, pack=pack_values)


def avatar_bytes(toy: ToyFiles) -> bytes:
    """Return the toy as an avatar file with the smallest decoder."""
    config = DecoderConfig(atlas=16, width=1, sh_degree=0)
    networks = {"decoder": dict(Decoder(config).state_dict())}
    data, _ = import_ash(toy.entry)
    changed = {"decoder": dataclasses.asdict(config), "networks": networks}
    path = toy.folder / "toy.safetensors"
    save_avatar(path, dataclasses.replace(data, **changed))
    return path.read_bytes()


def load_and_build(path: Path) -> None:
    """Build whatever loads, but for an atlas in which no texel is covered."""
    data = load_avatar(path)
    try:
        Avatar.from_data(data)
    except InputError as error:
        if not str(error).endswith("expected texture coordinates that cover texels, got none"):
            raise AssertionError(f"loaded, but cannot be built: {error}") from error


def viewer_targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Yield the viewer's own files: a session that is opened, preferences."""
    from ash_core.scene.preferences import Preferences, PreferenceStore, read_preferences
    from viewer.session import Session

    toy = make_toy_character(folder / "viewer")
    avatar = toy.folder / "toy.safetensors"
    avatar.write_bytes(avatar_bytes(toy))
    session = Session(str(avatar), str(toy.motion), "cpu")
    path = toy.folder / "a.ash-session"
    session.save(path)
    yield "session", Target(path, path.read_bytes(), session.load)
    path = folder / "preferences.json"
    store = PreferenceStore(path)
    store.change(**{**dataclasses.asdict(Preferences()), "theme": "light", "recent": ("a.ply",)})
    store.write()
    yield "preferences", Target(path, path.read_bytes(), read_preferences)


GROUPS: dict[str, Callable[[Path], Iterator[tuple[str, Target]]]] = {
    "text": text_targets,
    "images": image_targets,
    "splats": splat_targets,
    "characters": character_targets,
    "cameras": camera_targets,
    "captures": capture_targets,
    "more captures": more_capture_targets,
    "bodies": body_targets,
    "networks": network_targets,
    "viewer": viewer_targets,
}


def make_targets(group: str, root: Path) -> dict[str, Target]:
    """Write a group's originals below a folder."""
    folder = root / group
    folder.mkdir(parents=True)
    return dict(GROUPS[group](folder))


# ---- running them ----


def fault_of(target: Target, data: bytes) -> str | None:
    """Read mutated bytes; returns what is wrong with the reader's answer."""
    target.path.write_bytes(target.pack(data))
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(target.path)
    except InputError as error:
        message = str(error)
        if any(ord(character) < 32 or ord(character) == 127 for character in message):
            return f"control characters in the message: {message!r:.500}"
        if target.path.name not in message:
            return f"a message that does not name the file: {message:.500}"
        if len(message) >= MAX_MESSAGE:
            return f"a message of {len(message)} characters: {message:.200}"
    except Exception:
        return traceback.format_exc()
    seconds = time.process_time() - start
    return f"{seconds:.1f} s of processor time" if seconds > TIME_BOUND_S else None


def peak_mb() -> int:
    """Peak memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@dataclass
class Finding:
    """A file that a reader does not answer as it should."""

    target: str
    fault: str
    data: bytes

    @property
    def kind(self) -> str:
        """The fault without paths and numbers: what two files may share."""
        return re.sub(r"[\d'\"]|/\S+", "", self.fault.strip().splitlines()[-1])[:80]


def run_target(
    name: str, target: Target, seed: int, count: int | None = None, seconds: float = 1e9
) -> tuple[int, Finding | None]:
    """Mutate and read until a count, a time or a fault; returns how many and the fault."""
    chance = random.Random(f"{seed} {name}")
    end, done, before = time.monotonic() + seconds, 0, None
    while (count is None or done < count) and time.monotonic() < end:
        data = mutate(target.original, target.is_text, chance)
        fault = fault_of(target, data)
        done += 1
        if done == 20:
            before = peak_mb()  # imports and caches are there by now
        if fault is None and before is not None and peak_mb() - before > MEMORY_BOUND_MB:
            fault = f"memory grew from {before} to {peak_mb()} MB"
        if fault is not None:
            return done, Finding(name, fault, target.pack(data))
    return done, None


def _work(group: str, name: str, folder: Path, seed: int, seconds: float, results) -> None:
    """Fuzz one target in this process and report through a queue."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    target = make_targets(group, folder)[name]
    end, total = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        done, finding = run_target(name, target, seed, 200, end - time.monotonic())
        total, seed = total + done, seed + 1_000_003
        results.put((total, finding))
    results.put(None)


def fuzz_group(
    group: str, names: list[str], seed: int, seconds: float
) -> Iterator[tuple[str, int, list[Finding]]]:
    """Yield (target, files read, findings), each target in a process that may die."""
    context = multiprocessing.get_context("spawn")
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix="ash-fuzz-"))
        results, total, findings = context.Queue(), 0, []
        process = context.Process(target=_work, args=(group, name, folder, seed, seconds, results))
        process.start()
        while True:
            try:
                report = results.get(timeout=1.0 if process.is_alive() else 0.1)
            except Exception:  # queue.Empty: nothing yet, or nothing any more
                silent = time.monotonic() - _last_write(folder) > HANG_S
                if process.is_alive() and not silent:
                    continue
                why = "hangs" if process.is_alive() else f"died with {process.exitcode}"
                process.kill()
                findings.append(Finding(name, why, _newest_file(folder)))
                break
            if report is None:
                break
            total, finding = report
            if finding is not None and finding.kind not in {known.kind for known in findings}:
                findings.append(finding)
        process.join(10)
        yield name, total, findings
        shutil.rmtree(folder, ignore_errors=True)


def _last_write(folder: Path) -> float:
    """Time of the newest change below a folder, on the clock of time.monotonic."""
    newest = max((path.stat().st_mtime for path in folder.rglob("*") if path.exists()), default=0)
    return time.monotonic() - (time.time() - (newest or folder.stat().st_mtime))


def _newest_file(folder: Path) -> bytes:
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=_mtime)
    return files[-1].read_bytes() if files else b""


def _mtime(path: Path) -> float:
    return path.stat().st_mtime


def main() -> int:
    """Run all targets in turn, print a line for each, keep what fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", help="only these; default: all")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = {group: list(make_targets(group, Path(folder))) for group in GROUPS}
    every = [name for listed in names.values() for name in listed]
    chosen = options.target or every
    if unknown := [name for name in chosen if name not in every]:
        parser.error(f"unknown target {unknown[0]!r}; there are: {', '.join(every)}")
    failures = 0
    for group, listed in names.items():
        listed = [name for name in listed if name in chosen]
        seconds = options.seconds / len(chosen)
        for name, total, findings in fuzz_group(group, listed, options.seed, seconds):
            print(f"{name:30} {total:8} files, {len(findings)} findings", flush=True)
            for number, finding in enumerate(findings):
                options.keep.mkdir(parents=True, exist_ok=True)
                path = options.keep / f"{name.replace(' ', '_').strip('.')}.{number}"
                path.write_bytes(finding.data)
                path.with_name(path.name + ".txt").write_text(finding.fault + "\n")
                print(f"  {path}: {finding.fault.strip().splitlines()[-1]:.300}", flush=True)
            failures += len(findings)
    print(f"{'no' if failures == 0 else failures} findings, seed {options.seed}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

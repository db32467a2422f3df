"""The command line as a user meets it: whole files; mistakes get one line and exit code 2."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from toy import make_toy_character

from ash_core import __version__, cli
from ash_core.avatar import Avatar, NativeAvatar
from ash_core.commands.all_commands import COMMANDS
from ash_core.commands.import_ import rendered_atlas
from ash_core.commands.terminal import note
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar
from ash_core.files.skeletool import read_skeleton, write_motion
from ash_core.gpu import kernels
from ash_core.scene.open import choose_device

FRAMES = 6
SIZE = "64x48"


@dataclass(frozen=True)
class Scene:
    """Files that `render` takes."""

    folder: Path
    avatar: Path
    motion: Path
    cameras: Path


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("toy")
    toy = make_toy_character(folder)
    avatar = folder / "toy.safetensors"
    assert cli.main(["import", "ash", str(toy.conf), "-o", str(avatar)]) == 0
    skeleton = read_skeleton(next(folder.glob("*.skeleton")))
    dofs = torch.zeros(FRAMES, len(skeleton.dof_names), dtype=torch.float64)
    dofs[:, 0] = torch.linspace(0.0, 0.3, FRAMES)
    write_motion(folder / "slide.motion", dofs)
    return Scene(folder, avatar, folder / "slide.motion", toy.cameras)


def run(*arguments: object) -> int:
    """Exit code of a command in this process."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def render(scene: Scene, out: Path, *more: object) -> int:
    common = ("--motion", scene.motion, "--out", out, "--preset", "cpu")
    return run("render", scene.avatar, *common, *more)


def start_render(scene: Scene, motion: Path, out: Path, prefix: str = "") -> subprocess.Popen[str]:
    """The same as a process of its own."""
    # Not as under nohup, where a hang-up is rightly ignored.
    heard = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)"
    script = f"{prefix}\n{heard}\nimport sys\nfrom ash_core.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", script, "render", str(scene.avatar), "--motion", str(motion)]
    return subprocess.Popen(
        [*command, "--size", "320x240", "--preset", "cpu", "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def read_frames(path: Path, pixel_format: str = "rgb24") -> np.ndarray:
    """[F, h, w, c]; alpha of VP9 comes out of libvpx alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context
        if path.suffix == ".webm":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
        return np.stack([frame.to_ndarray(format=pixel_format) for frame in frames])


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]):
    """The one line on stderr after a mistake."""
    capsys.readouterr()

    def read() -> str:
        stderr = capsys.readouterr().err
        assert "Traceback" not in stderr
        lines = [line for line in stderr.splitlines() if line.strip()]
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return read


# ---- what comes out ----


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mov"])
def test_videos_hold_every_frame_and_something_to_see(
    scene: Scene, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"a{suffix}"
    assert render(scene, out, "--size", SIZE, "--background", "black") == 0
    frames = read_frames(out)
    assert frames.shape == (FRAMES, 48, 64, 3)
    assert frames[:, 0, 0].max() <= 8
    assert frames.max() > 60
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_transparent_videos_keep_alpha(scene: Scene, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    assert render(scene, out, "--size", SIZE, "--background", "transparent") == 0
    alpha = read_frames(out, "rgba")[..., 3]
    assert alpha.shape == (FRAMES, 48, 64)
    assert alpha[:, 0, 0].max() <= 8
    assert alpha.max() >= 230


def test_odd_sizes_grow_to_even_ones(scene: Scene, tmp_path: Path) -> None:
    assert render(scene, tmp_path / "a.mp4", "--size", "65x47", "--frames", "0:2") == 0
    assert read_frames(tmp_path / "a.mp4").shape == (2, 48, 66, 3)


def test_folder_names_files_by_frame(scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "new" / "pictures"
    flags = ("--size", SIZE, "--frames", "1:6:2", "--background", "transparent")
    assert render(scene, out, *flags) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["frame_000001.png", "frame_000003.png", "frame_000005.png"]
    with PillowImage.open(out / names[0]) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (64, 48))


def test_png_shows_the_same_over_a_background_as_transparent(scene: Scene, tmp_path: Path) -> None:
    """Straight alpha put over green again is the picture rendered over green."""
    flags = ("--size", SIZE, "--frames", "2", "--camera", "front")
    assert render(scene, tmp_path / "a.png", *flags, "--background", "transparent") == 0
    assert render(scene, tmp_path / "b.png", *flags, "--background", "#00ff00") == 0
    clear = np.asarray(PillowImage.open(tmp_path / "a.png")).astype(np.float64) / 255
    green = np.asarray(PillowImage.open(tmp_path / "b.png")).astype(np.float64) / 255
    colour, alpha = clear[..., :3], clear[..., 3:]
    assert np.abs(colour * alpha + (1 - alpha) * np.array([0, 1, 0]) - green).max() < 3 / 255


@pytest.mark.parametrize(
    "camera",
    [
        ("--camera", "orbit"),
        ("--camera", "cameras.json:1"),
        ("--camera", "cameras.json:side"),
        ("--camera", "avatar:0"),
        ("--eye", "4,-1,1.5", "--fov", "50"),
        ("--eye", "-4,0,1", "--target", "0,0,1"),
    ],
)
def test_cameras_see_the_character(
    scene: Scene, tmp_path: Path, camera: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scene.folder)
    out = tmp_path / "a.png"
    assert render(scene, out, *camera, "--frames", "0", "--background", "#000000") == 0
    picture = np.asarray(PillowImage.open(out))
    own_size = ":" in camera[1]
    assert picture.shape == ((120, 160, 3) if own_size else (960, 1280, 3))
    assert picture.max() > 60


def test_another_aspect_is_noted_and_the_same_is_not(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--frames", "0", "--camera", f"{scene.cameras}:0")
    assert render(scene, tmp_path / "a.png", *flags, "--size", "320x240") == 0
    assert "note" not in capsys.readouterr().err
    assert render(scene, tmp_path / "a.png", *flags, "--size", "96x96") == 0
    assert "note: the camera's picture is 160x120: 96x96" in capsys.readouterr().err


def test_reference_backend_agrees(scene: Scene, tmp_path: Path) -> None:
    flags = ("--size", "32x24", "--frames", "0")
    assert render(scene, tmp_path / "a.png", *flags, "--backend", "cpu") == 0
    assert render(scene, tmp_path / "b.png", *flags, "--backend", "reference") == 0
    first, second = (np.asarray(PillowImage.open(tmp_path / n)) for n in ("a.png", "b.png"))
    assert np.abs(first.astype(int) - second).max() <= 4  # hundreds of Gaussians in each pixel


def test_without_a_motion_the_own_one_or_none_is_played(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    avatar = tmp_path / "toy.safetensors"
    avatar.write_bytes(scene.avatar.read_bytes())
    words = ("render", avatar, "--size", "32x24", "--preset", "cpu", "--out")
    assert run(*words, tmp_path / "rest.png") == 0
    assert "the rest pose stands still" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "motions").mkdir()
    (tmp_path / "motions" / "a.motion").write_text("of another skeleton")
    shutil.copy(scene.motion, tmp_path / "motions" / "slide.motion")
    assert run(*words, tmp_path / "slide", "--frames", "2:4") == 0
    assert "slide.motion is played" in "".join(capsys.readouterr().err.splitlines())
    assert len(list((tmp_path / "slide").iterdir())) == 2


def test_import_says_what_is_missing(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", "ash", scene.folder, "-o", tmp_path / "again.safetensors") == 0
    captured = capsys.readouterr()
    assert "native" in captured.out
    assert "checkpoint" not in captured.err  # none is named, and native avatars have none
    assert "256 x 256 texels (preset balanced)" in captured.out


def test_import_names_the_atlas_that_is_rendered(scene: Scene) -> None:
    native = load_avatar(scene.avatar)
    avatar = Avatar.from_data(native)
    assert isinstance(avatar, NativeAvatar)
    side = avatar.config.atlas
    assert rendered_atlas(native) == f"{side} x {side} texels (preset balanced)"
    decided = replace(native, decoder={"atlas": 128, "width": 16, "sh_degree": 1})
    assert rendered_atlas(decided) == "128 x 128 texels"
    assert rendered_atlas(replace(native, variant="released")) == "64 x 64 texels"


@pytest.mark.parametrize("terminal", [True, False])
def test_import_shows_on_a_terminal_that_it_works(
    scene: Scene,
    tmp_path: Path,
    terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")  # as rich reads it
    assert run("import", "ash", scene.folder, "-o", tmp_path / "again.safetensors") == 0
    said = capsys.readouterr().err
    assert ("reading the files" in said) == terminal
    assert ("writing the avatar file" in said) == terminal


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_bench_runs_on_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert run("bench", "--device", "cuda", "--seconds", "0", "--json", out) == 0
    assert len(json.loads(out.read_text())["milliseconds"]["rasterizer"]) == 3


# ---- interruptions and full disks ----


@pytest.fixture(scope="session")
def long_motion(scene: Scene) -> Path:
    """More frames than anybody waits for."""
    skeleton = read_skeleton(next(scene.folder.glob("*.skeleton")))
    dofs = torch.zeros(20_000, len(skeleton.dof_names), dtype=torch.float64)
    dofs[:, 0] = torch.linspace(0.0, 1.0, len(dofs))
    write_motion(scene.folder / "long.motion", dofs)
    return scene.folder / "long.motion"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_leaves_a_playable_file(
    scene: Scene, long_motion: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "a.mp4"
    stderr = interrupt(lambda: start_render(scene, long_motion, out), out, number)
    count = re.search(r"holds (\d+) of 20000 frames", stderr)
    assert count, stderr
    assert len(read_frames(out)) == int(count[1]) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def interrupt(start: Callable[[], subprocess.Popen[str]], out: Path, number: signal.Signals) -> str:
    """Start a render, signal it once it has a frame, and return what it printed."""
    begun = f".{out.stem}.*"
    for seconds in (0.5, 2.0, 8.0, 32.0, 64.0):  # kernels may have to be compiled, or wait
        process = start()
        try:
            # The file's header tells that frames are under way.
            wait_until(lambda: any(p.stat().st_size > 0 for p in out.parent.glob(begun)), process)
            time.sleep(seconds)
            process.send_signal(number)
            stderr = process.communicate(timeout=300)[1]
        finally:
            process.kill()
        assert process.returncode == 130, stderr
        assert "Traceback" not in stderr
        if "before the first frame" not in stderr:
            return stderr
        assert not [*out.parent.glob(begun), *out.parent.glob(out.name)]
    raise AssertionError("no frame was rendered in a minute")


def wait_until(condition, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on file sizes")
@pytest.mark.parametrize("name", ["a.mov", "pictures"])
def test_full_disk_is_one_line_and_leaves_nothing_half(
    scene: Scene, tmp_path: Path, name: str
) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    # A limit on file sizes fails in the same calls as a full disk, with another errno.
    process = start_render(scene, scene.motion, tmp_path / name, limit)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert f"{tmp_path / name}: cannot be written: File too large" in stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# ---- mistakes ----


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--size", "64"), "--size: expected WIDTHxHEIGHT such as 1285x940, got '64'"),
        (("--size", "0x48"), "--size: expected sides of 1 to"),
        (("--size", "99999x48"), "--size: expected sides of 1 to"),
        (("--background", "blue"), "--background: expected white, black, transparent or #rrggbb"),
        (("--background", "#12345"), "got '#12345'"),
        (("--frames", "9"), "--frames: expected frames in 0..5, '9' selects none"),
        (("--frames", "4:2"), "--frames: expected frames in 0..5"),
        (("--frames", "a:b"), "--frames: expected N or START:STOP:STEP"),
        (("--frames", "::0"), "--frames: expected N or START:STOP:STEP"),
        (("--frames", ""), "--frames: expected N or START:STOP:STEP"),
        (("--camera", "side"), "--camera: expected front, orbit, avatar:N or FILE:N"),
        (("--camera", "avatar:9"), "avatar: expected a camera name or an index in 0..1, got '9'"),
        (("--camera", "avatar:\u00b2"), "expected a camera name or an index in 0..1, got '\u00b2'"),
        (("--camera", "none.json:0"), "none.json"),
        (("--camera", "orbit", "--eye", "1,2,3"), "--camera: expected none beside --eye"),
        (("--eye", "1,2"), "--eye: expected x,y,z in metres"),
        (("--eye", "1,2,nan"), "--eye: expected finite numbers"),
        (("--eye", "1,2,3", "--target", "1,2,3"), "--eye: expected a place other than"),
        (("--target", "1,2,3"), "--target: expected --eye with it"),
        (("--fov", "0"), "--fov: expected 1 to 170 degrees, got 0"),
        (("--fov", "nan"), "--fov: expected 1 to 170 degrees"),
        (("--fps", "0"), "--fps: expected 1 to 1000"),
    ],
)
def test_bad_flags_get_one_line(
    scene: Scene, tmp_path: Path, flags: tuple[str, ...], says: str, complaint
) -> None:
    assert render(scene, tmp_path / "a.mp4", *flags) == 2
    assert says in complaint()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--device", "cuda"), "--device: cuda cannot be used: torch was built without CUDA"),
        (("--backend", "cuda"), "backend: expected auto, cpu, reference, got 'cuda' (torch was"),
        (("--backend", "gsplat"), "got 'gsplat' (the package gsplat is not installed: "),
        (("--backend", "inria"), "got 'inria' (the package diff_gaussian_rasterization is not"),
    ],
)
def test_what_needs_a_gpu_says_so(
    scene: Scene, tmp_path: Path, flags: tuple[str, ...], says: str, complaint
) -> None:
    assert render(scene, tmp_path / "a.mp4", *flags) == 2
    assert says in complaint()
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_cannot_is_named_and_the_cpu_renders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "missing", lambda: "the driver is too old: update it")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", report=note) == "cpu"
    assert "note: the CPU renders: the driver is too old: update it" in capsys.readouterr().err
    assert choose_device("cuda", "gsplat") == "cuda"
    with pytest.raises(InputError, match="the driver is too old"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("name", "flags", "says"),
    [
        ("a.avi", (), "unknown extension '.avi', expected .mp4"),
        ("a.mp4", ("--background", "transparent"), ".mp4 has no transparency, choose .webm"),
        ("a.png", (), "a .png holds one frame, 6 are selected"),
        ("file/a.mp4", (), "cannot be written: "),
        ("file/a.png", ("--frames", "0"), "cannot be written: "),
        ("file/pictures", (), "cannot be written: "),
        ("folder.mp4", (), "is a folder, expected the name of a .mp4 file"),
        ("file", (), "expected a folder or a name that ends in"),
    ],
)
def test_bad_outputs_get_one_line(
    scene: Scene, tmp_path: Path, name: str, flags: tuple[str, ...], says: str, complaint
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    assert render(scene, tmp_path / name, "--size", SIZE, *flags) == 2
    assert says in complaint()


TOO_LONG = 300 * "a"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("render {long} --motion {motion} --out a.mp4", "{long}: File name too long"),
        ("render {avatar} --motion {long} --out a.mp4", "{long}: File name too long"),
        ("render {avatar} --motion {motion} --out {long}", "cannot be written: File name too long"),
        ("render {avatar} --motion {motion} --out {long}.mp4", "cannot be written: File name too"),
        ("render {avatar} --motion {motion} --out {long}/a.png", "cannot be written: File name"),
        (
            "render {avatar} --motion {motion} --out a.mp4 --camera {long}",
            "--camera: expected front",
        ),
        (
            "render {avatar} --motion {motion} --out a.mp4 --camera {long}.json:0",
            "File name too long",
        ),
        ("render {avatar} --motion {motion} --out a.mp4 --camera avatar:" + 5000 * "1", "in 0..1"),
        ("import ash {long} -o a.safetensors", "{long}"),
        ("import ash {folder} -o {long}.safetensors", "{long}.safetensors: File name too long"),
        ("actor -o {long}", "{long}: File name too long"),
        ("actor -o a --avatar {long}.safetensors", "{long}.safetensors: File name too long"),
        ("demo -o {long}", "cannot be written: File name too long"),
    ],
    ids=lambda text: text[:50],
)
def test_names_that_the_system_refuses_get_one_line(
    scene: Scene,
    tmp_path: Path,
    command: str,
    says: str,
    complaint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"long": TOO_LONG, **vars(scene)}
    assert run(*command.format(**names).split()) == 2
    assert says.format(**names) in complaint()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_a_reader_that_left_is_no_error(flag: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ash_core.cli", flag]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_forbidden_folder_gets_one_line(scene: Scene, tmp_path: Path, complaint) -> None:
    tmp_path.chmod(0o555)
    assert render(scene, tmp_path / "a.mp4") == 2
    assert "Permission denied" in complaint()


def test_bad_files_get_one_line(scene: Scene, tmp_path: Path, complaint) -> None:
    bad = tmp_path / "bad.motion"
    bad.write_text("Skeletool Motion File V1.0\n0 1 2\n")
    avatar, motion = scene.avatar, scene.motion
    for wrong in (
        ("render", avatar, "--motion", bad, "--out", tmp_path / "a.mp4"),
        ("render", avatar, "--motion", tmp_path / "none.motion", "--out", tmp_path / "a.mp4"),
        ("render", motion, "--motion", motion, "--out", tmp_path / "a.mp4"),
        ("render", tmp_path, "--motion", motion, "--out", tmp_path / "a.mp4"),
        ("render", tmp_path / "none", "--motion", motion, "--out", tmp_path / "a.mp4"),
        ("import", "ash", tmp_path / "none.conf", "-o", tmp_path / "a.safetensors"),
        ("import", "ash", scene.folder, "-o", tmp_path / "a.mp4"),
        ("import", "ash", scene.folder, "-o", bad / "a.safetensors"),
        ("import", "gltf", scene.folder, "-o", tmp_path / "a.safetensors"),
        ("actor", "-o", bad),
        ("demo", "--out", tmp_path / "demo", "--seconds", "1"),
        ("bench", "--seconds", "-1"),
    ):
        assert run(*wrong) == 2, wrong
        complaint()


@pytest.mark.parametrize(
    "wrong", [(), ("rendr",), ("render",), ("render", "a", "--out", "b", "--fov", "wide")]
)
def test_usage_errors_exit_with_two(
    wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*wrong) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_names_every_flag_and_exits_with_zero(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*([command] if command else []), "--help") == 0
    said = capsys.readouterr().out
    names = COMMANDS[command].__dataclass_fields__ if command else COMMANDS
    positional = {
        "render": {"avatar"},
        "import": {"what"},
        "export": {"what"},
        "extract": {"data"},
        "inspect": {"data"},
        "train": {"data"},
        "eval": {"avatar", "data"},
        "capture": {"actor"},
        "cameras": {"calibration"},
    }
    for name in set(names) - positional.get(command, set()):
        assert f"--{name.replace('_', '-')}" in said if command else name in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"ash-studio {__version__}\n"


def test_bugs_are_not_hidden(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only InputError is the user's mistake; a file begun before a bug is not kept."""

    def broken(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr("ash_core.render.Renderer.render", broken)
    with pytest.raises(RuntimeError, match="bug"):
        render(scene, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_threads_give_way_unless_somebody_chose_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before torch is loaded, which reads it once."""
    for given, want in ((None, cli.SPINS), ("7", "7")):
        monkeypatch.setenv("GOMP_SPINCOUNT", given or "")
        if given is None:
            monkeypatch.delenv("GOMP_SPINCOUNT")
        assert cli.main(["render", str(tmp_path / "none"), "--out", str(tmp_path / "x.png")]) == 2
        assert os.environ["GOMP_SPINCOUNT"] == want

"""Damaged files: whatever is in them, a reader returns or raises InputError, and soon."""

import dataclasses
import io
import json
import re
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy import ToyFiles, make_toy_character, toy_skeleton, toy_texture

from ash_core.avatar import Avatar
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.capture import encode_png, read_calibration, read_cameras, read_image
from ash_core.files.checkpoint import read_checkpoint
from ash_core.files.conf import read_conf
from ash_core.files.obj import read_obj
from ash_core.files.ply import load_splats
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_character, read_motion, read_skeleton, read_skin
from ash_core.networks.decoder import Decoder, DecoderConfig

TIME_BOUND_S = 5.0
"""Far above what a small file takes (a few ms), so that a busy machine does not fail it."""

ODD = [
    *("nan", "inf", "-inf", "-1", "0", "1e999", "1e38", "-0.0", "9" * 25, "9" * 5000, "1_0", "0x1"),
    *("", "\u0663", "none", "//", "1/", "{", "}", "[", '"', "${a}", "\x00", "\x85", "a" * 5000),
]


def flip(data: bytes, where: float, byte: int) -> bytes:
    place = int(where * len(data))
    return data[:place] + bytes([byte]) + data[place + 1 :]


def insert(data: bytes, where: float, byte: int) -> bytes:
    place = int(where * len(data))
    return data[:place] + bytes([byte]) * (byte + 1) + data[place:]


def cut(data: bytes, where: float, _: int) -> bytes:
    return data[: int(where * len(data))]


def substitute(data: bytes, where: float, choice: int) -> bytes:
    """Another word for one of the numbers or names."""
    words = list(re.finditer(rb"[\w.+-]+", data))
    if not words:
        return data
    word = words[int(where * len(words))]
    return data[: word.start()] + ODD[choice % len(ODD)].encode() + data[word.end() :]


def lines(data: bytes, where: float, choice: int) -> bytes:
    """Delete, repeat, move or swap a line."""
    rows = data.split(b"\n")
    row, other = int(where * len(rows)), choice % len(rows)
    match choice % 4:
        case 0:
            del rows[row]
        case 1:
            rows.insert(other, rows[row])
        case 2:
            rows.insert(other, rows.pop(row))
        case _:
            rows[row], rows[other] = rows[other], rows[row]
    return b"\n".join(rows)


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from([flip, insert, cut, substitute, substitute, lines, lines]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)
Reader = Callable[[Path], object]
Mutations = list[tuple[Callable[[bytes, float, int], bytes], float, int]]


def fuzzed(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def wrap(test: Callable[..., None]) -> Callable[..., None]:
        relaxed = settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )
        return relaxed(given(mutations=MUTATIONS)(test))

    return wrap


def check(
    path: Path, original: bytes, mutations: Mutations, read: Callable[[Path], object]
) -> None:
    data = original
    for mutate, where, choice in mutations:
        data = mutate(data, where, choice)
    path.write_bytes(data)
    start = time.perf_counter()
    message = message_of(lambda: read(path))
    assert time.perf_counter() - start < TIME_BOUND_S
    if message is not None:
        assert "\n" not in message
        assert path.name in message
        assert len(message) < 4000


def message_of(action: Callable[[], object]) -> str | None:
    """What the InputError says that an action raises, if it raises one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
    except InputError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyFiles:
    return make_toy_character(tmp_path_factory.mktemp("toy"))


READERS: dict[str, Reader] = {
    "toy.skeleton": read_skeleton,
    "toy.skin": lambda path: read_skin(path, toy_skeleton(), 58),
    "motions/toy.motion": lambda path: read_motion(path, toy_skeleton()),
    "toy.character": read_character,
    "toy.obj": read_obj,
    "toy_graph.obj": lambda path: read_obj(path, need_uvs=False),
    "cameras.json": read_cameras,
    "toy.conf": read_conf,
}


@pytest.mark.parametrize("name", READERS)
@fuzzed(120)
def test_text_files(toy: ToyFiles, tmp_path: Path, name: str, mutations: Mutations) -> None:
    original = (toy.folder / name).read_bytes()
    check(tmp_path / Path(name).name, original, mutations, READERS[name])


@fuzzed(120)
def test_calibrations(golden: Path, tmp_path: Path, mutations: Mutations) -> None:
    original = (golden / "12_synthetic.calibration").read_bytes()
    check(tmp_path / "a.calibration", original, mutations, read_calibration)


@fuzzed(60)
def test_images(tmp_path: Path, mutations: Mutations) -> None:
    check(tmp_path / "a.png", encode_png(toy_texture()), mutations, read_image)


@fuzzed(120)
def test_checkpoints(tmp_path: Path, mutations: Mutations) -> None:
    buffer = io.BytesIO()
    torch.save({"net": {"a": torch.ones(2, 3), "b": torch.zeros(4)}}, buffer)
    wanted = {"net": {"a": (2, 3), "b": (4,)}}
    check(tmp_path / "a.tar", buffer.getvalue(), mutations, lambda p: read_checkpoint(p, wanted))


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
@fuzzed(120)
def test_splats(tmp_path: Path, kind: str, mutations: Mutations) -> None:
    names = ["x", "y", "z", "opacity", *(f"f_dc_{n}" for n in range(3))]
    names += [f"scale_{n}" for n in range(3)] + [f"rot_{n}" for n in range(4)]
    head = ["ply", f"format {kind} 1.0", "element vertex 4"]
    head += [f"property float {name}" for name in names] + ["end_header", ""]
    table = torch.arange(4 * len(names)).reshape(4, -1).float().numpy() / 8 - 3
    rows = "".join(" ".join(map(str, row)) + "\n" for row in table.tolist()).encode()
    body = rows if kind == "ascii" else table.tobytes()
    check(
        tmp_path / "a.ply",
        "\n".join(head).encode() + body,
        mutations,
        lambda path: Avatar.from_data(load_splats(path)),
    )


@fuzzed(60)
def test_imports(toy: ToyFiles, mutations: Mutations) -> None:
    """A configuration that names what it likes."""
    conf = toy.conf.read_bytes()
    check(toy.folder / "damaged.conf", conf, mutations, import_ash)


@fuzzed(150)
def test_avatars(toy: ToyFiles, tmp_path: Path, mutations: Mutations) -> None:
    check(tmp_path / "a.safetensors", avatar_bytes(toy), mutations, load_and_build)


@fuzzed(150)
def test_avatar_headers(toy: ToyFiles, tmp_path: Path, mutations: Mutations) -> None:
    """The header alone is damaged, and its length told right."""
    data = avatar_bytes(toy)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header["__metadata__"]

    def read(path: Path) -> object:
        text = path.read_bytes()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
        return load_and_build(path)

    check(tmp_path / "a.safetensors", data[8 : 8 + length], mutations, read)

    def read_values(path: Path) -> object:
        values = path.read_text(errors="replace")
        text = json.dumps({**header, "__metadata__": {**metadata, "avatar": values}}).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
        return load_and_build(path)

    check(tmp_path / "a.safetensors", metadata["avatar"].encode(), mutations, read_values)


def load_and_build(path: Path) -> None:
    """Whatever loads can be built, but for an atlas in which no texel is covered."""
    data = load_avatar(path)
    if (message := message_of(lambda: Avatar.from_data(data))) is not None:
        assert message.endswith("expected texture coordinates that cover texels, got none")


def avatar_bytes(toy: ToyFiles) -> bytes:
    """The toy with a decoder, the smallest."""
    path = toy.folder / "toy.safetensors"
    if not path.exists():
        config = DecoderConfig(atlas=16, width=1, sh_degree=0)
        networks = {"decoder": dict(Decoder(config).state_dict())}
        data, _ = import_ash(toy.entry)
        changed = {"decoder": dataclasses.asdict(config), "networks": networks}
        save_avatar(path, dataclasses.replace(data, **changed))
    return path.read_bytes()

"""Time both variants' networks on the GPU: the plain modules and ours, each in a CUDA graph.

    python tests/bench/bench_decoders.py [--runs 200] [--layers]

Prints medians and quartiles in ms by CUDA events, one line a variant; the modules are plain torch,
float16, channels last. `--layers` times every tile of our convolutions for each native layer: the
choice of `convolutions._best_tile` is marked by *.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from published import seeded_weights  # noqa: E402

from ash_core.gpu_frame import convolutions, decoders  # noqa: E402
from ash_core.gpu_frame.convolutions import Convolution  # noqa: E402
from ash_core.gpu_frame.decoders import NativeNetwork, ReleasedNetworks  # noqa: E402
from ash_core.networks.decoder import PRESETS, Decoder  # noqa: E402
from ash_core.networks.loading import with_weights  # noqa: E402
from ash_core.networks.unet import UNet  # noqa: E402

CUDA = torch.device("cuda")
SIDE = 256
REPEATS = 20
"""Launches of one layer in a graph."""


def captured(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """The work as a graph, warmed up."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def timed(work: Callable[[], object], runs: int) -> tuple[float, float, float]:
    """Quartiles of the graph's time, ms."""
    graph = captured(work)
    times = []
    for _ in range(runs + 20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    low, middle, high = statistics.quantiles(times[20:], n=4)
    return low, middle, high


def line(name: str, quartiles: tuple[float, float, float]) -> None:
    low, middle, high = quartiles
    print(f"{name:56s} {middle:7.3f} ms   ({low:.3f}-{high:.3f})", flush=True)


class Silent:
    """A program whose launches do nothing: what remains is cuDNN's."""

    def load(self, device: torch.device) -> None: ...

    def launch(self, *_arguments: object) -> None: ...


def half(net: nn.Module) -> nn.Module:
    return net.to(CUDA, torch.half).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def released(runs: int) -> None:
    def unet(kind: str) -> UNet:
        return with_weights(lambda: UNet(kind), seeded_weights(f"unet_{kind}"))  # type: ignore[arg-type]

    before = torch.cuda.memory_allocated()
    for two_streams in (False, True):
        name = f"released, ours, {1 + two_streams} stream{'s' * two_streams}"
        nets = ReleasedNetworks(
            unet("geometry"), unet("appearance"), torch.zeros(3), CUDA, SIDE, two_streams
        )
        nets.motion_map.normal_()
        nets.warm_up()
        torch.cuda.reset_peak_memory_stats()
        line(name, timed(nets.run, runs))
        held = (torch.cuda.memory_allocated() - before) / 2**20
        reserved = torch.cuda.max_memory_reserved() / 2**20
        print(f"    {held:.0f} MiB held, {reserved:.0f} MiB reserved at most")
        program, decoders.PROGRAM = decoders.PROGRAM, Silent()  # type: ignore[assignment]
        line(f"{name}, convolutions alone", timed(nets.run, runs))
        decoders.PROGRAM = program
        del nets
        torch.cuda.empty_cache()
    geometry, appearance = half(unet("geometry")), half(unet("appearance"))
    x = torch.randn(1, 18, SIDE, SIDE, device=CUDA, dtype=torch.half)
    x = x.contiguous(memory_format=torch.channels_last)
    root = torch.zeros(1, 3, device=CUDA, dtype=torch.half)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        line(
            "released, plain modules, 1 stream",
            timed(lambda: (geometry(x), appearance(x, root)), runs),
        )


def native(runs: int) -> None:
    for name, config in PRESETS.items():
        decoder = Decoder(config)
        title = f"native, {name}: atlas {config.atlas}, width {config.width}"
        ours = NativeNetwork(decoder, CUDA, config.atlas)
        ours.motion_map.normal_()
        ours.warm_up()
        line(f"{title}, ours", timed(ours.run, runs))
        plain = half(decoder)
        x = torch.randn(1, 18, config.atlas, config.atlas, device=CUDA, dtype=torch.half)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            line(f"{title}, plain module", timed(lambda net=plain, x=x: net(x), runs))


def layers(runs: int) -> None:
    """Every tile for every shape of a native layer, in microseconds."""
    for name, config in PRESETS.items():
        ours = NativeNetwork(Decoder(config), CUDA, config.atlas)
        shapes = {}
        for used in chain(*ours._down, *ours._up, [ours._head]):
            taps, stride, *tile = used.program
            shapes[used.side, used.channels, len(used.bias), taps, stride] = tuple(tile)
        for (side, channels, outputs, taps, stride), chosen in shapes.items():
            conv = nn.Conv2d(channels, outputs, taps, stride, taps // 2)
            x = torch.randn(side, side, channels, device=CUDA).half()
            row = f"{name:8s} {taps}x{taps}/{stride} {channels:3d} -> {outputs:3d} @ {side:3d}: "
            for tile in convolutions.TILES[taps, stride]:
                row += time_tile(conv, x, tile, chosen, runs)
            weight = conv.weight.detach().to(CUDA, torch.half)
            weight = weight.contiguous(memory_format=torch.channels_last)
            with torch.backends.cudnn.flags(enabled=True, benchmark=True):
                seen, cudnn = decoders._channels_last(x), nn.functional.conv2d
                work = repeated(partial(cudnn, seen, weight, None, stride, taps // 2))
                row += f"  cuDNN's convolution {1e3 * timed(work, runs)[1] / REPEATS:.1f}"
            print(row, flush=True)


def time_tile(
    conv: nn.Conv2d, x: Tensor, tile: tuple[int, int], chosen: tuple[int, int], runs: int
) -> str:
    best, convolutions._best_tile = convolutions._best_tile, lambda *_: tile
    layer = Convolution.of(conv, x.shape[0], 0.1, CUDA)
    convolutions._best_tile = best
    time = 1e3 * timed(repeated(lambda: layer(x)), runs)[1] / REPEATS
    return f" {tile[0]}x{tile[1]}{'*' * (tile == chosen)} {time:.1f}"


def repeated(work: Callable[[], object]) -> Callable[[], None]:
    def several() -> None:
        for _ in range(REPEATS):
            work()

    return several


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--layers", action="store_true")
    arguments = parser.parse_args()
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    if arguments.layers:
        layers(arguments.runs // 10)
    else:
        released(arguments.runs)
        native(arguments.runs)


if __name__ == "__main__":
    main()

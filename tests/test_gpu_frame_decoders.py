"""The networks in half precision beside the plain modules, kernel by kernel and whole."""

import copy
import functools
from dataclasses import replace

import pytest
import torch
from cuda_on_cpu import StandIn
from published import seeded_weights
from torch import Tensor, nn

from ash_core.gpu_frame import convolutions, decoders
from ash_core.gpu_frame.decoders import NativeNetwork, ReleasedNetworks
from ash_core.networks.decoder import PRESETS, Decoder, DecoderConfig
from ash_core.networks.loading import with_weights
from ash_core.networks.unet import UNet, embed

HALF = 2.0**-11
"""Half precision's rounding error, relative."""
CPU = torch.device("cpu")


stand_in = functools.cache(StandIn)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels on the CPU."""
    monkeypatch.setattr(decoders, "PROGRAM", stand_in(decoders.PROGRAM))
    for key, program in convolutions.PROGRAMS.items():
        monkeypatch.setitem(convolutions.PROGRAMS, key, stand_in(program))


@pytest.fixture(scope="module")
def unets() -> tuple[UNet, UNet]:
    """The published networks with the tests' weights."""
    geometry = with_weights(lambda: UNet("geometry"), seeded_weights("unet_geometry"))
    appearance = with_weights(lambda: UNet("appearance"), seeded_weights("unet_appearance"))
    return geometry.requires_grad_(False), appearance.requires_grad_(False)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(got: Tensor, want: Tensor) -> float:
    """Root mean square of the difference in units of the wanted values' own."""
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    assert got.shape == want.shape, (got.shape, want.shape)
    return float((got - want).square().mean().sqrt() / want.square().mean().sqrt())


def picture(x: Tensor) -> Tensor:
    """[h, w, c] -> [1, c, h, w]."""
    return x[None].permute(0, 3, 1, 2)


def normed(channels: int, seed: int = 0) -> decoders._Normed:
    """A layer whose norm is not the identity."""
    scale, bias = random(2, channels, seed=seed)
    return decoders._Normed(torch.empty(0), scale, bias, 1e-5)


@pytest.mark.parametrize("one_block", [True, False])
@pytest.mark.parametrize(("side", "channels"), [(2, 1024), (12, 64), (16, 128)])
@pytest.mark.parametrize("mean", [0.0, 40.0])
@pytest.mark.usefixtures("emulated")
def test_norm_writes_the_skip_and_the_maxima(
    monkeypatch: pytest.MonkeyPatch, one_block: bool, side: int, channels: int, mean: float
) -> None:
    monkeypatch.setattr(decoders, "ONE_BLOCK_QUADS", 1024 if one_block else 0)
    x = (random(side, side, channels) + mean * random(channels, seed=1)).half()
    layer = normed(channels)
    joined = torch.full((side, side, channels + 16), 7.0).half()
    pooled = torch.empty(side // 2, side // 2, channels).half()
    net = object.__new__(decoders._FastUNet)
    net._partial = torch.empty((2 * decoders.SUM_BLOCKS + 1) * channels)
    net._normalize(x, layer, joined, pooled)
    values = picture(x).double()
    want = nn.functional.batch_norm(
        values, None, None, layer.scale.double(), layer.bias.double(), True, 0.0, layer.eps
    ).relu()
    got = picture(joined)
    torch.testing.assert_close(got[:, :channels].double(), want, rtol=2 * HALF, atol=2e-4)
    assert torch.equal(got[:, channels:], torch.full_like(got[:, channels:], 7.0))
    assert torch.equal(picture(pooled), nn.functional.max_pool2d(got[:, :channels], 2))
    net._normalize(x, layer, x)
    assert torch.equal(x, joined[..., :channels])


@pytest.mark.usefixtures("emulated")
def test_raise_fills_the_right_part_of_the_joined_map() -> None:
    layer = nn.ConvTranspose2d(32, 16, 2, stride=2).requires_grad_(False)
    x, joined = random(3, 3, 32).half(), torch.full((6, 6, 40), 7.0).half()
    decoders._Raise.of(layer, CPU)(x, joined)
    want = layer(picture(x).float())
    torch.testing.assert_close(picture(joined)[:, 24:].float(), want, rtol=2e-3, atol=2e-3)
    assert (joined[..., :24] == 7).all()


@pytest.mark.usefixtures("emulated")
def test_code_acts_as_constant_channels(unets: tuple[UNet, UNet]) -> None:
    net = unets[1]
    root, translation = torch.tensor([1.3, -0.4, 2.2]), torch.tensor([0.1, 0.9, -0.3])
    code = decoders._Code(net, root, translation, CPU)
    code.run()
    vector = net.mlp(embed((root / 1.2 - translation)[None]))[0]
    layer = net.up1.up
    assert layer.bias is not None
    want = torch.einsum("k, kchw -> hwc", vector, layer.weight[-16:]) + layer.bias
    torch.testing.assert_close(code.bias.view(2, 2, -1), want, rtol=0.0, atol=1e-5)


def rounded(net: UNet) -> UNet:
    """The network with weights and every map rounded to half precision: as good as it gets."""
    net = copy.deepcopy(net).requires_grad_(False)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.copy_(module.weight.half())
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.ReLU)):
            module.register_forward_hook(lambda _module, _inputs, output: output.half().float())
    return net


def compare_released(unets: tuple[UNet, UNet], side: int, device: str, two_streams: bool) -> None:
    """Ours beside the modules in float32: not much further off than rounding alone."""
    translation = torch.tensor([0.1, 0.9, -0.3])
    fast = ReleasedNetworks(*unets, translation, device, side, two_streams)
    fast.warm_up()
    x, root = (0.5 * random(1, 18, side, side)).half(), torch.tensor([1.3, -0.4, 2.2])
    fast.motion_map[:, :18] = x
    fast.root.copy_(root)
    pictures = fast.run()
    seen, place = x.float().to(device), (root / 1.2 - translation)[None].to(device)
    inputs = ((seen,), (seen, place))
    for net, each, got, used, padded in zip(unets, inputs, pictures, (11, 3), (16, 8), strict=True):
        assert got.shape == (1, padded, side, side)
        assert not got[:, used:].any()
        exact = copy.deepcopy(net).to(device)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            want, coarse = exact(*each)[:, :used], rounded(exact)(*each)[:, :used]
        assert relative(got[:, :used], want) < 1.5 * relative(coarse, want)


@pytest.mark.parametrize("one_block_quads", [1024, 16])
@pytest.mark.usefixtures("emulated")
def test_released_networks_follow_the_modules(
    unets: tuple[UNet, UNet], monkeypatch: pytest.MonkeyPatch, one_block_quads: int
) -> None:
    monkeypatch.setattr(decoders, "ONE_BLOCK_QUADS", one_block_quads)
    compare_released(unets, 32, "cpu", two_streams=False)


@pytest.mark.parametrize(("side", "supported"), [(0, False), (16, False), (48, False), (64, True)])
def test_published_networks_need_whole_quads_at_the_bottom(side: int, supported: bool) -> None:
    assert decoders.supports_side(side) == supported


EVERY_TILE = [(*shape, tile) for shape, tiles in convolutions.TILES.items() for tile in tiles]


@pytest.mark.parametrize(("taps", "stride", "tile"), EVERY_TILE)
@pytest.mark.usefixtures("emulated")
def test_convolution_with_every_tile(
    monkeypatch: pytest.MonkeyPatch, taps: int, stride: int, tile: tuple[int, int]
) -> None:
    monkeypatch.setattr(convolutions, "_best_tile", lambda *_: tile)
    layer = nn.Conv2d(40, 54, taps, stride, taps // 2).requires_grad_(False)
    layer.weight.copy_(layer.weight.half())
    x = random(20, 20, 40).half()
    want = nn.functional.leaky_relu(layer(picture(x).float()), 0.1)
    fused = convolutions.Convolution.of(layer, 20, 0.1, CPU)
    got = picture(fused(x))
    torch.testing.assert_close(got[:, :54].float(), want, rtol=HALF, atol=1e-5)
    assert not got[:, 54:].any()
    skip = random(*(2 * n for n in got.shape[2:]), 56, seed=1).half()
    want = picture(skip)[:, :54].float() + nn.functional.interpolate(want, scale_factor=2.0)
    fused.add_lifted(x, skip)
    torch.testing.assert_close(picture(skip)[:, :54].float(), want, rtol=2 * HALF, atol=2e-3)


# Sides that tiles do not fill; the second's smallest map is a single position.
@pytest.mark.parametrize("config", [DecoderConfig(48, 16, 1), DecoderConfig(16, 24, 2)])
@pytest.mark.usefixtures("emulated")
def test_native_network_follows_the_module(config: DecoderConfig) -> None:
    compare_native(config, "cpu")


def compare_native(config: DecoderConfig, device: str) -> None:
    decoder = Decoder(config).requires_grad_(False)
    nn.init.normal_(decoder.head.weight, std=0.1)
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            nn.init.normal_(module.bias, std=0.3)
    nn.init.normal_(decoder.base, std=0.3)
    fast = NativeNetwork(decoder, device, config.atlas)
    fast.warm_up()
    x = (0.5 * random(1, 18, config.atlas, config.atlas)).half()
    fast.motion_map[:] = nn.functional.pixel_unshuffle(x, 2)
    got = fast.run()
    assert got.shape[1] % 8 == 0
    got = got + fast.base.permute(2, 0, 1)
    got = nn.functional.pixel_shuffle(got[:, : 4 * config.out_channels].float(), 2)
    assert relative(got, decoder(x.float())) < 4 * HALF


@pytest.mark.gpu
@pytest.mark.parametrize("two_streams", [False, True])
def test_released_networks_on_a_gpu(unets: tuple[UNet, UNet], two_streams: bool) -> None:
    compare_released(unets, 256, "cuda", two_streams)


@pytest.mark.gpu
@pytest.mark.parametrize("name", PRESETS)
def test_native_network_on_a_gpu(name: str) -> None:
    compare_native(PRESETS[name], "cuda")


@pytest.mark.gpu
def test_networks_in_a_cuda_graph(unets: tuple[UNet, UNet]) -> None:
    """A replayed graph sees the maps' and the root's newest values."""
    released = ReleasedNetworks(*unets, torch.zeros(3), "cuda", 64)
    decoder = Decoder(replace(PRESETS["cpu"], atlas=64))
    nn.init.normal_(decoder.head.weight, std=0.1)
    native = NativeNetwork(decoder, "cuda", 64)
    for net in (released, native):
        net.warm_up()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = net.run()
        net.motion_map.normal_()
        released.root.uniform_()
        graph.replay()
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        replayed = [output.clone() for output in outputs]
        net.run()
        for got, want in zip(replayed, outputs, strict=True):
            assert relative(got, want) < HALF

"""The published networks on inputs that contain nothing of the published sample."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published import DELTA, SPATIAL, UNET, arrays, close, seeded_weights

from ash_core.files.obj import read_obj
from ash_core.networks import graph_net, unet


@pytest.mark.parametrize("name", ["spatial_gcn", "delta_gcn", "unet_geometry", "unet_appearance"])
def test_seeded_weights_have_the_published_names_shapes_and_sums(golden: Path, name: str) -> None:
    kind = name.split("_")[0 if name.endswith("gcn") else 1]
    if name.endswith("gcn"):
        shapes = json.loads((golden / "06_gcn_state_dict_keys.json").read_text())[name]
        nodes = shapes["gcnn_0.bias"][0]
        ours = graph_net.expected_shapes(kind, nodes)  # type: ignore[arg-type]
    else:
        listed = json.loads((golden / "09_unet_state_dict_keys.json").read_text())[name]
        shapes = {key: shape for key, (shape, _) in listed.items()}
        ours = unet.expected_shapes(kind)  # type: ignore[arg-type]
    assert ours == {key: tuple(shape) for key, shape in shapes.items()}
    group = "06_gcn" if name.endswith("gcn") else "09_unet"
    sums = json.loads((golden / f"{group}_weight_checksums.json").read_text())[name]
    weights = seeded_weights(name)
    assert sorted(weights) == sorted(sums)
    for key, tensor in weights.items():
        values, want = np.ascontiguousarray(tensor.numpy()), sums[key]
        assert hashlib.sha256(values).hexdigest()[:16] == want["sha256_16"], key
        assert (list(tensor.shape), str(values.dtype)) == (want["shape"], want["dtype"]), key
        assert values.sum(dtype=float) == pytest.approx(want["sum"], rel=1e-9, abs=1e-9), key
        assert np.abs(values).sum(dtype=float) == pytest.approx(want["abs_sum"], rel=1e-9), key


@pytest.mark.parametrize(("kind", "tolerance"), [("spatial", SPATIAL), ("delta", DELTA)])
def test_graph_networks_on_an_icosphere(golden: Path, kind, tolerance: float) -> None:
    mesh = read_obj(golden / "06_ico42.obj", need_uvs=False)
    weights = torch.load(golden / "06_ico42_checkpoint.pth", weights_only=True)[f"{kind}_gcn"]
    net = graph_net.GraphNet(kind, 42, graph_net.mesh_adjacency(kind, mesh.faces, 42))
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    npz = np.load(golden / "06b_ico42_gcn.npz")
    out = net(torch.from_numpy(npz[f"{kind}_gcn_in"]).float())
    close(out, npz[f"{kind}_gcn_out"], tolerance)
    close(out, npz[f"{kind}_gcn_out_f64"], tolerance)
    adjacency = graph_net.ring_adjacency(mesh.faces, 42, graph_net.RINGS[kind])
    close(adjacency.toarray(), npz[f"{kind}_gcn_A"], 2e-8)  # published as float32


@pytest.mark.slow
def test_unets(golden: Path) -> None:
    with arrays(golden / "09_unets.npz") as z:
        x = (np.random.RandomState(11).standard_normal((1, 18, 64, 64))).astype(np.float32)
        x = x * np.float32(0.5)
        assert hashlib.sha256(x.tobytes()).hexdigest()[:16] == str(z["x_sha"])
        close(x[0, :, ::8, ::8], z["x_sub"], 0.0)
        root = torch.from_numpy(z["x_global"])
        close(unet.embed(root), z["embed"], 1e-6)
        for kind, short, step in (("geometry", "geo", 2), ("appearance", "app", 4)):
            net = unet.UNet(kind)  # type: ignore[arg-type]
            net.load_state_dict(seeded_weights(f"unet_{kind}"))
            for mode in ("train", "eval"):
                net.use_running_statistics(mode == "eval")
                seen = _activations(net)
                with torch.no_grad():
                    out = net(torch.from_numpy(x), root if kind == "appearance" else None)[0]
                close(out[:, ::step, ::step], z[f"{short}_{mode}"], UNET)
                close(out[:, :: 4 * step, :: 4 * step], z[f"{short}_{mode}_f64"], UNET)
                if kind == "appearance":
                    close(out[:, 5], z[f"app_{mode}_row5"], UNET)
                    close(seen["mlp"], z[f"app_{mode}_mlp"], UNET)
                    for name in ("inc", "down1", "down4", "up1", "up4"):
                        want = z[f"app_{mode}_{name}"]
                        got = seen[name][0, ::16]
                        step_to = got.shape[-1] // want.shape[-1]
                        # Activations reach 10, twice the outputs: 8x the outputs' noise.
                        close(got[:, ::step_to, ::step_to], want, 2 * UNET)
            first = seen["inc_input"]  # statistics that the published inference mutates
            mean, var = first.mean((0, 2, 3)), first.var((0, 2, 3), unbiased=True)
            before = seeded_weights(f"unet_{kind}")
            if kind == "geometry":
                key = "inc.double_conv.1.running_"
                close(
                    0.9 * before[key + "mean"] + 0.1 * mean, z["geo_train_running_mean_after"], 1e-5
                )
                close(0.9 * before[key + "var"] + 0.1 * var, z["geo_train_running_var_after"], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["geometry", "appearance"])
def test_unets_at_192_texels_in_any_layout(kind: str) -> None:
    """Both layouts stay within four times the noise of the published operations in float32.

    The noise is measured here: torch's batch norm over NCHW, as published, against float64. Over
    channels-last maps torch's batch norm has 75 times the noise.
    """
    x = torch.from_numpy(np.random.RandomState(11).standard_normal((1, 18, 192, 192)) / 2)
    x[..., :60] = 0  # an empty part of the atlas
    root = torch.tensor([[0.1, 0.9, -0.3]], dtype=torch.float64) if kind == "appearance" else None
    net = unet.UNet(kind)  # type: ignore[arg-type]
    net.load_state_dict(seeded_weights(f"unet_{kind}"))
    with torch.no_grad():
        exact = net.double()(x, root)
        net, x, root = net.float(), x.float(), root.float() if root is not None else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(unet._FrameNorm, "forward", _published_norm)
            noise = float((net(x, root) - exact).abs().max())
        assert noise < UNET
        for layout in (torch.contiguous_format, torch.channels_last):
            net = net.to(memory_format=layout)  # type: ignore[call-overload]
            out = net(x.contiguous(memory_format=layout), root)
            close(out, exact.numpy(), 4 * noise)


def _published_norm(norm: torch.nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.batch_norm(x, None, None, norm.weight, norm.bias, True, 0, norm.eps)


def _activations(net: unet.UNet) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str):
        return lambda _module, _inputs, output: seen.__setitem__(name, output.detach().clone())

    for name, module in net.named_children():
        module.register_forward_hook(keep(name))
    net.inc.double_conv[0].register_forward_hook(keep("inc_input"))
    return seen

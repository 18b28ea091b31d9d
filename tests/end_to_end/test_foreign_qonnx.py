"""QONNX files that this project did not make: built and proved, or refused with the reason."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import onnx
import pytest

pytestmark = [pytest.mark.finn, pytest.mark.rtl, pytest.mark.synth]


@pytest.mark.parametrize("impl", ["lut", "dsp"])
def test_a_foreign_network_is_built_simulated_and_synthesized(
    tmp_path, run_command, tiny_qonnx, impl
):
    done = run_command(
        "build", str(tiny_qonnx), "--board", "pynq-z2", "--goal", "rtl", "--impl", impl, "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    simulation = json.loads(next(tmp_path.rglob("simulation.json")).read_text())
    assert simulation["mismatches"] == 0
    assert sum(p["frames"] for p in simulation["passes"]) > 20
    resources = json.loads(next(tmp_path.rglob("resources-yosys_synth.json")).read_text())
    assert (resources["total"]["dsp"] > 0) == (impl == "dsp")
    summary = json.loads(done.stdout)
    (row,) = [r for r in summary["resources"] if r["source"] == "yosys_synth"]
    for name in ("lut", "ff", "dsp", "bram_18k"):
        assert row[name] == resources["total"][name]
    assert 100 < row["lut"] < 5000
    assert summary["verify"]["rtl_mismatches"] == 0


def test_what_cannot_be_built_is_refused_with_layer_and_reason(
    tmp_path, run_command, grouped_qonnx
):
    done = run_command("build", str(grouped_qonnx), "--board", "pynq-z2", cwd=tmp_path)
    assert done.returncode == 2
    assert "groups=2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("hardware.json"))


def mac_layers(path):
    """Names of a file's layers."""
    nodes = onnx.load(str(path)).graph.node
    return [n.name for n in nodes if n.op_type in ("Conv", "MatMul", "Gemm")]


def test_an_unknown_layer_is_refused_with_the_known_ones(tmp_path, run_command, tiny_qonnx):
    done = run_command(
        "build", str(tiny_qonnx), "--board", "pynq-z2", "--layer-impl", "nothing=dsp", cwd=tmp_path
    )
    assert done.returncode == 2
    assert (
        "The request sets impl_per_layer of 'nothing', which is no layer; there are "
        f"{sorted(mac_layers(tiny_qonnx))!r}."
    ) in " ".join(done.stderr.split())


# --- binary and ternary networks as the public model zoo has them


def test_a_dsp_cannot_take_one_bit(tmp_path, run_command):
    path = tfc(tmp_path, 1, 1)
    layers = mac_layers(path)
    assert len(layers) == 3
    done = run_command(
        "build", str(path), "--board", "pynq-z2", "--goal", "estimate",
        "--layer-impl", f"{layers[1]}=dsp", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    told = " ".join(done.stderr.split())
    assert (
        f"Layer {layers[1]!r} cannot be built with impl='dsp': the DSP version needs 2 bits or "
        "more and this has 2-bit weights and 1-bit activations."
    ) in told
    assert repr(layers[0]) not in told


def stock(path, layers, shape):
    """Export stock Brevitas layers whose statistics are those of random inputs in 0 to 1."""
    import torch
    from brevitas.export import export_qonnx

    torch.manual_seed(3)
    net = torch.nn.Sequential(*layers)
    net.train()
    with torch.no_grad():
        for _ in range(5):
            net(torch.rand(32, *shape))
    net.eval()
    export_qonnx(net, torch.rand(1, *shape), export_path=str(path), dynamo=False, opset_version=13)
    return path


def quantizers(weight_bits, act_bits, signs=(0.3, 0.7)):
    """Return constructors of a convolution, a linear layer and an activation.

    ``signs`` are the scales of binary weights and activations.
    """
    from brevitas import nn as qnn
    from brevitas.core.restrict_val import RestrictValueType
    from brevitas.core.scaling import ScalingImplType
    from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat
    from brevitas.quant.binary import (
        SignedBinaryActPerTensorConst,
        SignedBinaryWeightPerTensorConst,
    )

    class BinaryWeight(SignedBinaryWeightPerTensorConst):
        scaling_const = signs[0]
        scaling_impl_type = ScalingImplType.CONST
        restrict_scaling_type = RestrictValueType.FP

    weights = {"weight_quant": BinaryWeight}
    if weight_bits > 1:
        weights = {"weight_quant": Int8WeightPerTensorFloat, "weight_bit_width": weight_bits}
    acts = {"act_quant": SignedBinaryActPerTensorConst, "min_val": -signs[1], "max_val": signs[1]}
    if act_bits > 1:
        acts = {"act_quant": Int8ActPerTensorFloat, "bit_width": act_bits}

    def conv(given, made, **settings):
        return qnn.QuantConv2d(given, made, 3, bias=False, **weights, **settings)

    def linear(given, made):
        return qnn.QuantLinear(given, made, bias=False, **weights)

    return conv, linear, lambda: qnn.QuantIdentity(**acts)


def twice_less_one():
    """Return the modules 2x - 1, which stand before the input quantizer in the zoo."""
    from torch import nn

    class Affine(nn.Module):
        def forward(self, x):
            return 2.0 * x - 1.0

    return Affine()


def tfc(folder, weight_bits, act_bits, signs=(0.3, 0.7)):
    """Linear layers over images of 4 x 6 pixels; one has no batch norm, so its sums are ties."""
    from torch import nn

    _, linear, act = quantizers(weight_bits, act_bits, signs)
    layers = [nn.Flatten(), twice_less_one(), act(), linear(24, 12), nn.BatchNorm1d(12), act(),
              linear(12, 12), act(), linear(12, 4), nn.BatchNorm1d(4)]  # fmt: skip
    return stock(folder / f"tfc{weight_bits}{act_bits}.onnx", layers, (1, 4, 6))


def cnv(folder, weight_bits, act_bits, *, channels, image, pool, padding=0):
    """Convolutions without padding, batch norms, max pools and two linear layers."""
    from brevitas.nn import QuantIdentity
    from brevitas.quant import Int8ActPerTensorFloat
    from torch import nn

    conv, linear, act = quantizers(weight_bits, act_bits)
    layers = [twice_less_one(), QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=8)]
    given, size = 3, image
    for k, made in enumerate(channels):
        layers += [conv(given, made, padding=padding), nn.BatchNorm2d(made), act()]
        given, size = made, size + 2 * padding - 2
        if k % 2 and size % pool == 0:
            layers.append(nn.MaxPool2d(pool))
            size //= pool
    layers += [nn.Flatten(), linear(given * size * size, 16), nn.BatchNorm1d(16), act()]
    layers += [linear(16, 10)]
    name = f"cnv{weight_bits}{act_bits}p{padding}.onnx"
    return stock(folder / name, layers, (3, image, image))


def require_equal_to_the_file(path, build, frames):
    """Compare the file's execution with quantized inputs, integers and scaled outputs.

    The simulation has proved that the integer model is the accelerator.
    """
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    from adaqat_hw.compile import deploy
    from adaqat_hw.rtl.integer_model import IntegerModel
    from adaqat_hw.schema import HardwareGraph

    graph = HardwareGraph.read(build / "hardware.json")
    spec = importlib.util.spec_from_file_location("driver", deploy.folder() / deploy.DRIVER)
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    facts = deploy.design_facts(graph)
    integers = driver.quantize(facts, frames)
    integers = integers.reshape(len(frames), *graph.host.input_shape)
    with np.load(build / graph.parameters_file) as arrays:
        made = IntegerModel(graph, dict(arrays)).run(integers)
    found = driver.logits(facts, made.reshape(len(frames), -1))
    model = ModelWrapper(str(path)).transform(InferShapes())
    (source,) = [x.name for x in model.graph.input if model.get_initializer(x.name) is None]
    target = model.graph.output[0].name
    wanted = [execute_onnx(model, {source: f[None]})[target].reshape(-1) for f in frames]
    assert np.allclose(found, np.stack(wanted), rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    return graph


def tied_frames(shape, count, step):
    """Return random frames, half of their values in the middle between two levels."""
    rng = np.random.default_rng(5)
    free = rng.uniform(-0.2, 1.2, size=(count, *shape))
    tied = (rng.integers(-4, 5, size=free.shape) * step + 1) / 2
    return np.where(rng.random(free.shape) < 0.5, free, tied).astype(np.float32)


def build(run_command, folder, path, *options):
    done = run_command(
        "build", str(path), "--board", "pynq-z2", "--json", "--no-synthesize", *options, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    (record,) = folder.rglob("simulation.json")
    simulation = json.loads(record.read_text())
    assert simulation["mismatches"] == 0
    assert any(p["stalls"] for p in simulation["passes"])
    return record.parent


def of_op(graph, op):
    return [n for n in graph.nodes if n.op == op]


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(1, 1), (1, 2)])
def test_a_binary_network_of_linear_layers(tmp_path, run_command, weight_bits, act_bits):
    """With powers of two as scales, float sums are exact: those that are 0 give +1 in both."""
    path = tfc(tmp_path, weight_bits, act_bits, signs=(0.25, 0.5))
    folder = build(run_command, tmp_path, path, "--frames", "10")
    graph = require_equal_to_the_file(path, folder, tied_frames((1, 4, 6), 40, 0.0))
    assert graph.input_stream.dtype.bits == act_bits
    assert graph.host.input_bipolar == (act_bits == 1)
    assert [s.op for s in graph.host.input_steps] == ["mul", "sub"]
    assert {n.attributes["weight_bits"] for n in of_op(graph, "MVAU")} == {2}
    assert {n.outputs[0].dtype.bits for n in of_op(graph, "Thresholding")} == {act_bits}
    assert {n.impl for n in of_op(graph, "MVAU")} == {"lut"}


def test_a_binary_network_whose_float_sums_miss_the_ties(tmp_path, run_command):
    """Here the file's own float sums lie to both sides of 0, and the build tells that apart."""
    build(run_command, tmp_path, tfc(tmp_path, 1, 1), "--frames", "2")


def test_a_binary_network_of_convolutions(tmp_path, run_command):
    path = cnv(tmp_path, 1, 1, channels=(4, 6), image=8, pool=2)
    folder = build(run_command, tmp_path, path, "--frames", "4")
    graph = require_equal_to_the_file(path, folder, tied_frames((3, 8, 8), 8, 2 / 255))
    assert {n.outputs[0].dtype.bits for n in of_op(graph, "Thresholding")} == {1}
    assert len(of_op(graph, "Pool")) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weight_bits", "act_bits", "padding"), [(1, 1, 0), (2, 2, 0), (1, 2, 0), (1, 1, 1)]
)
def test_larger_networks_of_convolutions(tmp_path, run_command, weight_bits, act_bits, padding):
    """CNV's layers with an eighth of its channels; with padding, signs are two bits wide."""
    channels = (8, 8, 16, 16, 32, 32) if padding == 0 else (8, 8, 16)
    image = 32 if padding == 0 else 8
    path = cnv(
        tmp_path, weight_bits, act_bits, channels=channels, image=image, pool=2, padding=padding
    )
    folder = build(run_command, tmp_path, path, "--fps", "1000", "--frames", "20")
    graph = require_equal_to_the_file(path, folder, tied_frames((3, image, image), 10, 2 / 255))
    bits = {n.outputs[0].dtype.bits for n in of_op(graph, "Thresholding")}
    assert bits == ({1, 2} if padding and act_bits == 1 else {act_bits})

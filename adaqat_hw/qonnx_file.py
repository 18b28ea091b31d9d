"""Read a QONNX file that came from anywhere, or refuse it in one sentence. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from adaqat_hw.errors import ConfigError

_ADVICE = "export the network again or give another file"


def load_qonnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data and check that it is a whole graph.

    Operators are not judged here: a QONNX graph with an operator that the hardware lacks is
    still a valid file.

    Raises:
        ConfigError: the file is missing, unreadable, truncated or no ONNX model, keeps weights
            in a file outside its own folder, or uses a tensor that nothing produces.
    """
    model = _parse(path, _bytes_of(path))
    _load_external(model, path)
    _check_graph(model.graph, path)
    return model


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"QONNX file {str(path)!r} does not exist; export the network first."
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            f"{str(path)!r} is a folder; give the .onnx file that lies in it."
        ) from None
    except OSError as exc:
        raise ConfigError(
            f"QONNX file {str(path)!r} cannot be read: {exc.strerror or exc}."
        ) from exc


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    if not data:
        raise ConfigError(f"QONNX file {str(path)!r} is empty; {_ADVICE}.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError) as exc:
        raise ConfigError(
            f"QONNX file {str(path)!r} is truncated or no ONNX model ({len(data)} bytes that do "
            f"not decode); {_ADVICE}."
        ) from exc
    if not model.ir_version or not model.graph.node or not model.graph.output:
        raise ConfigError(
            f"{str(path)!r} is no ONNX model or was cut short (it holds "
            f"{len(model.graph.node)} nodes and {len(model.graph.output)} outputs); {_ADVICE}."
        )
    return model


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    used = False
    for tensor in _tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        used = True
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        target = (folder / location).resolve()
        if not location or not target.is_relative_to(folder) or target == folder:
            raise ConfigError(
                f"QONNX file {str(path)!r} keeps tensor {tensor.name!r} in {location!r}, outside "
                "its own folder, which is refused; save the model with its weights inside."
            )
        if not target.is_file():
            raise ConfigError(
                f"QONNX file {str(path)!r} keeps tensor {tensor.name!r} in {location!r}, which "
                "does not exist; put that file beside it or save the weights inside."
            )
    if not used:
        return
    from onnx.external_data_helper import load_external_data_for_model

    try:
        load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as exc:
        raise ConfigError(
            f"The external weights of QONNX file {str(path)!r} cannot be read ({exc}); save the "
            "model with its weights inside."
        ) from exc


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.TENSORS:
                yield from attribute.tensors
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)


def _check_graph(graph: onnx.GraphProto, path: Path) -> None:
    known = {x.name for x in graph.input} | {x.name for x in graph.initializer} | {""}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                raise ConfigError(
                    f"QONNX file {str(path)!r} is damaged: node {node.name or node.op_type!r} "
                    f"reads tensor {name!r}, which nothing before it produces; {_ADVICE}."
                )
        known.update(node.output)
    for output in graph.output:
        if output.name not in known:
            raise ConfigError(
                f"QONNX file {str(path)!r} is damaged: nothing produces its output "
                f"{output.name!r}; {_ADVICE}."
            )

"""Read a QONNX file that came from anywhere, or refuse it in one sentence. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from adaqat_hw.errors import ConfigError

_ADVICE = "export the network again or give another file"
_LARGEST_FILE = 2**31 - 1  # protobuf's own limit
_MOST_ELEMENTS = 2**28  # of one tensor: far above any network that fits an FPGA
_LONGEST_NAME = 1024
_NEWEST_OPSET = 64
# What could end a name in Verilog, Tcl or a shell, or start something there.
_METACHARACTERS = re.compile(r"""[\\`"'$;{}()]|/\*|[^ -~]""")
_ITEM_BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64,
    "BOOL": 8, "FLOAT16": 16, "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "BFLOAT16": 16,
    "INT4": 4, "UINT4": 4,
}  # fmt: skip
_FIELDS = {"FLOAT": "float_data", "DOUBLE": "double_data", "INT32": "int32_data",
           "INT64": "int64_data", "UINT64": "uint64_data"}  # fmt: skip


def load_qonnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data and check that it is a whole graph.

    Operators are not judged here: a QONNX graph with an operator that the hardware lacks is
    still a valid file. Nothing is read or allocated that the file itself does not hold.

    Raises:
        ConfigError: the file is missing, unreadable, truncated or no ONNX model, declares no
            operator set, keeps weights in a file outside its own folder, holds a tensor whose
            shape and data disagree or is huge, a name that is more than a name, a cycle, a tensor
            made twice or by nothing.
    """
    model = _parse(path, _bytes_of(path))
    _check_opset(model, path)
    _check_names(model.graph, path)
    _check_tensors(model.graph, path)
    _load_external(model, path)
    _check_graph(model.graph, path)
    return model


def external_files(path: Path) -> tuple[str, ...]:
    """Return the files that hold tensors of the model, relative to its folder, all inside it."""
    graph = _header(path).graph
    names = (_location(t) for t in _tensors(graph) if t.data_location == t.EXTERNAL)
    return tuple(dict.fromkeys(names))


def _header(path: Path) -> onnx.ModelProto:
    """Read the file alone, without its external data; that this lies inside is checked."""
    model = _parse(path, _bytes_of(path))
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _external_target(tensor, path)
    return model


def _bytes_of(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if path.is_file() and size > _LARGEST_FILE:
            raise ConfigError(
                f"QONNX file {str(path)!r} has {size} bytes; at most {_LARGEST_FILE} can be read: "
                "save the weights as external data beside it."
            )
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


def _check_opset(model: onnx.ModelProto, path: Path) -> None:
    if not model.opset_import:
        raise ConfigError(
            f"QONNX file {str(path)!r} declares no operator set (opset_import); {_ADVICE}."
        )
    for entry in model.opset_import:
        if not 1 <= entry.version <= _NEWEST_OPSET:
            raise ConfigError(
                f"QONNX file {str(path)!r} declares version {entry.version!r} of operator set "
                f"{entry.domain!r}; allowed are 1 to {_NEWEST_OPSET}: {_ADVICE}."
            )


def _check_names(graph: onnx.GraphProto, path: Path) -> None:
    for kind, name in _names(graph):
        fault = None
        if len(name) > _LONGEST_NAME:
            fault = f"is {len(name)} characters long, where {_LONGEST_NAME} are allowed"
        elif (match := _METACHARACTERS.search(name)) is not None:
            fault = f"holds {match[0]!r}"
        elif ".." in PurePosixPath(name).parts:
            fault = "leads out of its folder ('..')"
        if fault is not None:
            raise ConfigError(
                f"QONNX file {str(path)!r} has the {kind} name {name[:80]!r}, which {fault} and is "
                f"refused; rename it or {_ADVICE}."
            )


def _names(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    yield "graph", graph.name
    for info in (*graph.input, *graph.output, *graph.value_info):
        yield "tensor", info.name
    for node in graph.node:
        yield from (("node", node.name), ("operator", node.op_type), ("domain", node.domain))
        yield from (("tensor", name) for name in (*node.input, *node.output))
        yield from (("attribute", attribute.name) for attribute in node.attribute)
    for tensor in _tensors(graph):
        yield "tensor", tensor.name
    for inner in _subgraphs(graph):
        yield from _names(inner)


def _check_tensors(graph: onnx.GraphProto, path: Path) -> None:
    for scope in (graph, *_subgraphs(graph)):
        for info in (*scope.input, *scope.output, *scope.value_info):
            dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
            _check_shape(info.name, dims, path)
    for tensor in _tensors(graph):
        count = _check_shape(tensor.name, tensor.dims, path)
        mismatch = _size_mismatch(tensor, count)
        if mismatch is not None:
            raise ConfigError(
                f"QONNX file {str(path)!r} is damaged: tensor {tensor.name!r} of shape "
                f"{list(tensor.dims)!r} needs {mismatch[1]} and holds {mismatch[0]}; {_ADVICE}."
            )
    for shape in _shape_constants(graph):
        _check_shape(shape.name, _integers(shape), path)


def _check_shape(name: str, dims: Iterable[int], path: Path) -> int:
    """Return the number of elements; an unknown dimension is 0 in the file and counts as 1."""
    listed = list(dims)
    count = math.prod(max(dim, 1) for dim in listed)
    if (lowest := min(listed, default=0)) < -1:
        raise ConfigError(
            f"QONNX file {str(path)!r} has tensor {name!r} of shape {listed[:8]!r}, whose "
            f"dimension {lowest!r} is negative; {_ADVICE}."
        )
    if count > _MOST_ELEMENTS:
        raise ConfigError(
            f"QONNX file {str(path)!r} has tensor {name!r} of shape {listed[:8]!r}; at most "
            f"{_MOST_ELEMENTS} elements are allowed: give a smaller network."
        )
    return 0 if 0 in listed else count


def _size_mismatch(tensor: onnx.TensorProto, count: int) -> tuple[str, str] | None:
    """Return what the tensor holds and what its shape needs where they differ."""
    kinds = {value: name for name, value in onnx.TensorProto.DataType.items()}
    kind = kinds.get(tensor.data_type, "")
    if tensor.data_location == onnx.TensorProto.EXTERNAL or kind not in _ITEM_BITS:
        return None
    size = (count * _ITEM_BITS[kind] + 7) // 8
    if tensor.HasField("raw_data"):
        stored = len(tensor.raw_data)
        return None if stored == size else (f"{stored} bytes", f"{size} bytes")
    field = _FIELDS.get(kind)
    if field is None:
        return None
    stored = len(getattr(tensor, field))
    return None if stored == count else (f"{stored} values", f"{count} values")


def _shape_constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the constants that become the shape of a tensor when the graph is run."""
    position = {"Reshape": 1, "Expand": 1, "Tile": 1, "ConstantOfShape": 0}
    for scope in (graph, *_subgraphs(graph)):
        known = {tensor.name: tensor for tensor in scope.initializer}
        known |= {n.output[0]: a.t for n in scope.node if n.op_type == "Constant" and n.output
                  for a in n.attribute if a.name == "value"}  # fmt: skip
        for node in scope.node:
            at = position.get(node.op_type)
            if at is not None and len(node.input) > at and node.input[at] in known:
                yield known[node.input[at]]


def _integers(tensor: onnx.TensorProto) -> list[int]:
    if tensor.data_type != onnx.TensorProto.INT64 or tensor.data_location == tensor.EXTERNAL:
        return []
    if not tensor.raw_data:
        return list(tensor.int64_data)
    raw = tensor.raw_data
    return [int.from_bytes(raw[k : k + 8], "little", signed=True) for k in range(0, len(raw), 8)]


def _location(tensor: onnx.TensorProto) -> str:
    return next((str(e.value) for e in tensor.external_data if e.key == "location"), "")


def _external_target(tensor: onnx.TensorProto, path: Path) -> Path:
    """Return the file that holds the tensor; raise ConfigError when it is outside or too short."""
    folder = path.parent.resolve()
    location = _location(tensor)
    target = folder if "\0" in location else (folder / location).resolve()
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
    place = {e.key: e.value for e in tensor.external_data}
    try:
        offset, length = int(place.get("offset", 0)), int(place.get("length", 0))
    except ValueError:
        offset, length = -1, -1
    size = target.stat().st_size
    if min(offset, length) < 0 or offset + length > size:
        raise ConfigError(
            f"QONNX file {str(path)!r} keeps tensor {tensor.name!r} at offset "
            f"{place.get('offset', 0)!r}, length {place.get('length', 0)!r} of {location!r}, which "
            f"has {size} bytes; {_ADVICE}."
        )
    return target


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    outside = [t for t in _tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL]
    used = bool(outside)
    for tensor in outside:
        _external_target(tensor, path)
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
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
    for inner in _subgraphs(graph):
        yield from _tensors(inner)


def _subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that are attributes of the graph's own nodes."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _check_graph(graph: onnx.GraphProto, path: Path) -> None:
    provided = {x.name for x in graph.input} | {x.name for x in graph.initializer}
    known = provided | {""}
    produced: set[str] = set()
    for node in graph.node:
        for name in node.output:
            if name and (name in produced or name in provided):
                raise ConfigError(
                    f"QONNX file {str(path)!r} is damaged: tensor {name!r} is produced twice; "
                    f"{_ADVICE}."
                )
            produced.add(name)
    for node in graph.node:
        for name in node.input:
            if name not in known:
                label = node.name or node.op_type
                if name in produced and (loop := _cycle(graph, name)):
                    raise ConfigError(
                        f"QONNX file {str(path)!r} has a cycle through tensors "
                        f"{', '.join(map(repr, loop[:4]))}; {_ADVICE}."
                    )
                raise ConfigError(
                    f"QONNX file {str(path)!r} is damaged: node {label!r} "
                    f"reads tensor {name!r}, which nothing before it produces; {_ADVICE}."
                )
        known.update(node.output)
    for output in graph.output:
        if output.name not in known:
            raise ConfigError(
                f"QONNX file {str(path)!r} is damaged: nothing produces its output "
                f"{output.name!r}; {_ADVICE}."
            )


def _cycle(graph: onnx.GraphProto, start: str) -> list[str]:
    """Return tensors that need each other and are needed for ``start``, or an empty list."""
    maker = {name: node for node in graph.node for name in node.output if name}
    open_path: list[str] = []
    on_path: set[str] = set()
    finished: set[str] = set()
    stack: list[tuple[str, Iterator[str]]] = []

    def enter(name: str) -> None:
        stack.append((name, iter(maker[name].input) if name in maker else iter(())))
        open_path.append(name)
        on_path.add(name)

    enter(start)
    while stack:
        name, inputs = stack[-1]
        needed = next((x for x in inputs if x not in finished), None)
        if needed is None:
            stack.pop()
            on_path.discard(open_path.pop())
            finished.add(name)
        elif needed in on_path:
            return open_path[open_path.index(needed) :]
        else:
            enter(needed)
    return []

"""Where the activation quantizers of a traced network belong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import fx, nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._nodes import Role, data_of, operands, value_range

INPUT_QUANT = "input_quant"
SECOND_QUANT = "second_quant"

SiteKind = Literal["input", "relu", "inserted", "join"]


@dataclass(frozen=True)
class ActSite:
    """One activation quantizer to place.

    ``node`` is the graph node it belongs to: the input, the ReLU it replaces, the add whose two
    addends go through it, or the unquantized producer whose value ``readers`` (layers) take
    through it. ``name`` becomes its module path. Of an inserted quantizer, ``signed`` says
    whether its values can be negative, ``clip`` how large they can get (None: not known).
    """

    name: str
    kind: SiteKind
    node: fx.Node
    readers: tuple[fx.Node, ...] = ()
    signed: bool = True
    clip: float | None = None


def place(
    module: fx.GraphModule,
    modules: dict[str, nn.Module],
    roles: dict[fx.Node, Role],
    layers: dict[str, fx.Node],
) -> tuple[tuple[ActSite, ...], dict[fx.Node, tuple[ActSite, ...]]]:
    """Return all quantizer sites and, for each layer node, the site of each activation operand.

    Raises:
        ConfigError: the network has a module of the name that a quantizer gets.
    """
    taken = set(modules)
    at: dict[fx.Node, ActSite] = {}
    paths = {node: path for path, node in layers.items()}

    def site(name: str, kind: SiteKind, node: fx.Node) -> ActSite:
        if name in taken:
            raise ConfigError(
                f"The network has a module {name!r}, the name that a quantizer gets; rename it."
            )
        taken.add(name)
        return ActSite(name=name, kind=kind, node=node)

    joins: dict[fx.Node, ActSite] = {}
    inserted: dict[fx.Node, ActSite] = {}
    reads: dict[fx.Node, tuple[ActSite, ...]] = {}
    replaced: set[str] = set()
    for node, role in roles.items():
        if role == "input":
            at[node] = site(INPUT_QUANT, "input", node)
        elif role == "relu":
            path = str(node.target)
            if node.op == "call_module" and path not in replaced:
                replaced.add(path)
                at[node] = ActSite(name=path, kind="relu", node=node)
            else:
                at[node] = site(free_name(module, node.name), "relu", node)
        elif role == "transparent":
            producer = data_of(node)
            if producer in at:
                at[node] = at[producer]
    for node, role in roles.items():
        if role == "add":
            relu = next((u for u in node.users if roles.get(u) == "relu"), None)
            base = at[relu].name.replace(".", "_") if relu is not None else _add_name(node, taken)
            joins[node] = site(f"{base}_join_quant", "join", node)
        elif role in ("layer", "product"):
            producers = operands(node) if role == "product" else [data_of(node)]
            for producer, suffix in zip(producers, (INPUT_QUANT, SECOND_QUANT), strict=False):
                quantizer = at.get(producer) or inserted.get(producer)
                if quantizer is None:
                    base = paths[node].replace(".", "_")
                    quantizer = site(f"{base}_{suffix}", "inserted", producer)
                    positive, largest = value_range(producer, modules)
                    quantizer = replace(quantizer, signed=not positive, clip=largest)
                    inserted[producer] = quantizer
                reads[node] = (*reads.get(node, ()), quantizer)
    ordered: list[ActSite] = []
    for node in module.graph.nodes:
        for table in (at, joins, inserted):
            placed = table.get(node)
            if placed is not None and placed.node is node:
                readers = tuple(n for n in layers.values() if placed in reads[n])
                ordered.append(replace(placed, readers=readers))
    return tuple(ordered), reads


def _add_name(node: fx.Node, taken: set[str]) -> str:
    """Name an add that no ReLU follows after the module whose forward holds it, if any does."""
    stack = list(node.meta.get("nn_module_stack", ()))
    path = stack[-1].replace(".", "_") if stack else ""
    if not path:
        return node.name
    name, number = f"{path}_add", 1
    while f"{name}_join_quant" in taken:
        name, number = f"{path}_add_{number}", number + 1
    return name


def free_name(module: nn.Module, base: str) -> str:
    """Return ``base``, or it with a number, as a name ``module`` does not have yet."""
    name, number = base, 1
    while hasattr(module, name):
        name, number = f"{base}_{number}", number + 1
    return name

"""Which quantizers share a learned width, and which learn none. Pure Python.

A layer's weights belong with the layer. An activation quantizer belongs with the first layer that
reads it, in execution order; all its readers see the same width, in whatever group they are. One
that no layer reads (a residual add's) has no MACs and so no price: it follows the next activation
quantizer that a layer reads and that is not fixed, or the last such one.

The network's input is apart: where it is learned it has one width of its own, ``input``, at every
granularity, for its values are the data's and its clip is constant. It is learned with the first
layer: where that layer learns nothing, it keeps its configured width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import AdaqatConfig, NetworkSpec

Members = dict[str, tuple[str, ...]]
INPUT = "input"  # the name of the width of the network's input


@dataclass(frozen=True)
class Grouping:
    """Names of widths to their quantizers, and the quantizers that keep ``other_bits``.

    Attributes:
        weights: width to layers whose weights it sets.
        acts: width to activation quantizers.
        other_weights: layers, neither fixed nor learned.
        other_acts: activation quantizers, neither fixed nor learned.
    """

    weights: Members
    acts: Members
    other_weights: tuple[str, ...] = ()
    other_acts: tuple[str, ...] = ()

    def width_of_weights(self, layer: str) -> str | None:
        """Return the width that sets a layer's weights, None where it is not learned."""
        return next((name for name, members in self.weights.items() if layer in members), None)

    def width_of_act(self, quantizer: str) -> str | None:
        """Return the width that sets an activation quantizer, None where it is not learned."""
        return next((name for name, members in self.acts.items() if quantizer in members), None)


def group(
    spec: NetworkSpec,
    weights: Sequence[str],
    acts: Sequence[str],
    fixed: Collection[str],
    config: AdaqatConfig,
    inputs: Sequence[str] = (),
) -> Grouping:
    """Sort a network's quantizers into the widths that ``config`` asks for.

    Widths are called ``weights`` and ``acts`` with granularity ``network``, ``weights:<layer>`` and
    ``acts:<quantizer>`` with ``layer``, ``weights:<group>`` and ``acts:<group>`` with ``group``;
    that of the network's input is :data:`INPUT`.

    Args:
        spec: the network's layers in execution order.
        weights: layers with weights that are not fixed.
        acts: all activation quantizers in execution order.
        fixed: those of ``acts`` that keep a configured width.
        config: granularity, groups and the patterns of ``learn``.
        inputs: those of ``acts`` that quantize the network's input; none where it is fixed.

    Raises:
        ConfigError: nothing to learn, a pattern that matches nothing, a layer in two groups.
    """
    owners = _owners(spec)
    free = [q for q in acts if q not in fixed and q not in inputs]
    read = [q for q in free if q in owners]
    movable = {*weights, *(owners[q] for q in (*read, *inputs) if q in owners)}
    if not movable:
        raise ConfigError(
            f"Network {spec.name!r} has no layer between its fixed ends, so no width can "
            "be learned; set quant.ends to 'learned' or add layers."
        )
    labels = _labels(spec, movable, config)
    width_of: dict[str, str | None] = {}
    for quantizer in read:
        label = labels.get(owners[quantizer])
        own = quantizer if config.granularity == "layer" else label
        width_of[quantizer] = None if label is None else _name("acts", own, config)
    for quantizer in free:
        if quantizer not in owners:
            leader = _leader(quantizer, acts, read)
            # Without any leader the residual adds learn a width of their own, free of charge.
            alone = None if config.granularity == "group" else _name("acts", quantizer, config)
            width_of[quantizer] = alone if leader is None else width_of[leader]
    if any(owners.get(q) in labels for q in inputs):
        width_of |= dict.fromkeys(inputs, INPUT)
    return Grouping(
        weights=_members({n: _name("weights", labels[n], config) for n in weights if n in labels}),
        acts=_members({q: name for q, name in width_of.items() if name is not None}),
        other_weights=tuple(name for name in weights if name not in labels),
        other_acts=tuple(q for q, name in width_of.items() if name is None),
    )


def _name(kind: str, label: str | None, config: AdaqatConfig) -> str:
    return kind if config.granularity == "network" else f"{kind}:{label}"


def _members(width_of: dict[str, str]) -> Members:
    members: dict[str, list[str]] = {}
    for quantizer, width in width_of.items():
        members.setdefault(width, []).append(quantizer)
    return {width: tuple(names) for width, names in members.items()}


def _owners(spec: NetworkSpec) -> dict[str, str]:
    """Return for each activation quantizer the first layer that reads it."""
    owners: dict[str, str] = {}
    for layer in spec.layers:
        for quantizer in (layer.act, layer.second_act):
            if quantizer is not None:
                owners.setdefault(quantizer, layer.name)
    return owners


def _leader(quantizer: str, order: Sequence[str], read: Sequence[str]) -> str | None:
    """Return the first of ``read`` behind ``quantizer`` in execution order, or the last one."""
    here = order.index(quantizer)
    later = [q for q in read if order.index(q) > here]
    return later[0] if later else read[-1] if read else None


def _labels(spec: NetworkSpec, movable: Collection[str], config: AdaqatConfig) -> dict[str, str]:
    """Return the layers that learn, with what names their width: themselves or their group."""
    names = [layer.name for layer in spec.layers if layer.name in movable]
    learn = [x for x in names if x in _matching(config.learn, names, "learn", spec)]
    if config.granularity != "group":
        return {x: x for x in learn}
    labels: dict[str, str] = {}
    for label, patterns in config.groups.items():
        for name in _matching(patterns, names, f"groups.{label}", spec):
            if labels.setdefault(name, label) != label:
                raise ConfigError(
                    f"Layer {name!r} matches adaqat.groups {labels[name]!r} and {label!r}; a layer "
                    "has one width, so let the patterns of one group only match it."
                )
    both = {x: label for x, label in labels.items() if x in learn}
    if empty := [label for label in config.groups if label not in both.values()]:
        raise ConfigError(
            f"No layer of adaqat.groups {empty!r} matches adaqat.learn {list(config.learn)!r}; "
            "drop the group or widen learn."
        )
    return both


def _matching(
    patterns: Sequence[str], names: Sequence[str], key: str, spec: NetworkSpec
) -> set[str]:
    if not patterns:
        raise ConfigError(
            f"adaqat.{key} = [] names no layer; give patterns of layer names, such as '*'."
        )
    matched: set[str] = set()
    for pattern in patterns:
        layers = {name for name in names if fnmatchcase(name, pattern)}
        if not layers:
            raise ConfigError(
                f"Pattern {pattern!r} of adaqat.{key} matches no layer of {spec.name!r} that can "
                f"learn a width; these can: {', '.join(names)}."
            )
        matched |= layers
    return matched

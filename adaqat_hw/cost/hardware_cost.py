"""Predict LUT, FF, DSP and BRAM of a folded node from synthesized ones.

The coefficients lie in a file of ``hw/cost`` that the family names, with their provenance; the
rows they were fitted to lie beside it. ``benchmarks/hardware_cost.py`` makes both. DSP blocks
follow FINN's packing and block RAMs Yosys's own costs, so only LUT and FF are fitted; the error of
all four is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from adaqat_hw import families
from adaqat_hw.cost.hardware_features import dsp_blocks, facts_of_row, features_of
from adaqat_hw.errors import ConfigError, NotMeasured
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.ops import Facts
from adaqat_hw.schema import Family, Record, Resources

_FITTED = ("lut", "ff")
_COUNTED = ("dsp", "bram_18k")
# Below this count an error of one primitive is no longer a relative error that means anything.
_FLOOR = 20.0
_MIN_ROWS = 3
_HUBER = 0.15  # relative error from which on a row pulls no harder
_REWEIGHTINGS = 8
_Array = NDArray[np.float64]


class ResourceFit(Record):
    """One resource of one kind of node.

    ``coefficients`` (none negative) go by feature name; empty for a resource that is counted by
    a rule. ``n`` rows were fitted. ``loo_mape`` and ``loo_rms`` are the mean absolute and the
    root mean square relative error when each row is predicted from all the others (a count below
    20 is compared with 20); for a rule the errors of the rule.
    """

    kind: str
    resource: str
    coefficients: dict[str, float]
    n: int
    loo_mape: float
    loo_rms: float


class HardwareCostModel(Record):
    """Measured cost of hardware nodes on one FPGA family, and where the numbers come from."""

    family: str
    tool: str
    tool_version: str
    date: str
    rows_file: str
    rows_sha256: str
    samples: int
    fits: tuple[ResourceFit, ...]

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of nodes that were measured."""
        return tuple(dict.fromkeys(fit.kind for fit in self.fits))

    def predict(self, kind: str, facts: Facts, family: Family) -> tuple[Resources, Resources]:
        """Return what a node costs and the half-width of the error bar (one RMS error).

        Raises:
            NotMeasured: no node of that kind was measured on this family.
        """
        known = {fit.resource: fit for fit in self.fits if fit.kind == kind}
        if not known:
            raise NotMeasured(
                f"The cost model of {self.family!r} has no measurement of {kind!r}, only of "
                f"{', '.join(self.kinds())}; give the folding of this network by hand."
            )
        features = features_of(kind, facts, family)
        values: dict[str, float] = {
            "dsp": dsp_blocks(kind, facts, family),
            "bram_18k": features["bram_18k"],
        }
        for name in _FITTED:
            values[name] = sum(features[k] * v for k, v in known[name].coefficients.items())
        bars = {name: math.ceil(known[name].loo_rms * value) for name, value in values.items()}
        counts = {name: round(value) for name, value in values.items()}
        return Resources(**counts, uram=0), Resources(**bars, uram=0)


def load_cost_model(family: Family) -> HardwareCostModel:
    """Return the measured cost model of an FPGA family.

    Raises:
        NotMeasured: that family was not measured.
    """
    return HardwareCostModel.read(cost_model_path(family))


def cost_model_path(family: Family) -> Path:
    """Return where the cost model of a family lies; raise NotMeasured where it has none."""
    if family.cost_model is None:
        have = [other.name for other in families.every() if other.cost_model is not None]
        raise NotMeasured(
            f"There is no measured cost model of the family {family.name!r}, so no folding can be "
            f"searched for it; there is one of {', '.join(have) or 'none'}."
        )
    return hw_dir() / "cost" / family.cost_model


def fit_cost_model(
    rows: Sequence[Mapping[str, Any]], family: Family, **provenance: Any
) -> HardwareCostModel:
    """Fit a cost model to measured rows of one family.

    Args:
        rows: ``kind``, the facts' sources (see ``facts_of_row``), and ``lut``, ``ff``, ``dsp``,
            ``bram_18k`` as synthesized.
        family: the family that they were measured on.
        provenance: the other fields of the model.

    Raises:
        ConfigError: fewer than three rows of a kind.
    """
    fits: list[ResourceFit] = []
    for kind in sorted({str(row["kind"]) for row in rows}):
        own = [row for row in rows if row["kind"] == kind]
        if len(own) < _MIN_ROWS:
            raise ConfigError(
                f"There are {len(own)!r} measured rows of {kind!r}; at least {_MIN_ROWS} are "
                "needed: synthesize more."
            )
        facts = [facts_of_row(row) for row in own]
        table = [features_of(kind, fact, family) for fact in facts]
        counted = {
            "dsp": [float(dsp_blocks(kind, fact, family)) for fact in facts],
            "bram_18k": [features["bram_18k"] for features in table],
        }
        for name in _FITTED:
            fits.append(_fit(kind, name, table, np.array([float(row[name]) for row in own])))
        for name in _COUNTED:
            true = np.array([float(row[name]) for row in own])
            fits.append(_summary(kind, name, {}, true, np.array(counted[name]), 1.0))
    return HardwareCostModel(family=family.name, samples=len(rows), fits=tuple(fits), **provenance)


def _fit(kind: str, name: str, table: list[dict[str, float]], true: _Array) -> ResourceFit:
    names = [key for key in table[0] if key != "bram_18k"]
    x = np.array([[row[key] for key in names] for row in table])
    solution = _solve(x, true)
    held_out = np.array(
        [
            x[i] @ _solve(np.delete(x, i, axis=0), np.delete(true, i))
            for i in range(len(true))
        ]
    )  # fmt: skip
    used = {key: float(f"{v:.5g}") for key, v in zip(names, solution, strict=True) if v > 1e-9}
    return _summary(kind, name, used, true, held_out, _FLOOR)


def _solve(x: _Array, true: _Array) -> _Array:
    """Return non-negative coefficients of small relative error (Huber's, by reweighting).

    A memory that Yosys put elsewhere than the features say must not bend all others.
    """
    relative = 1 / np.maximum(true, _FLOOR)
    weight = relative
    for _ in range(_REWEIGHTINGS):
        scale = np.maximum(np.abs(x * weight[:, None]).max(axis=0), 1e-12)
        coefficients: _Array = optimize.nnls(x * weight[:, None] / scale, true * weight)[0] / scale
        error = np.abs(x @ coefficients - true) * relative
        weight = relative * np.sqrt(_HUBER / np.maximum(error, _HUBER))
    return coefficients


def _summary(
    kind: str,
    name: str,
    coefficients: dict[str, float],
    true: _Array,
    predicted: _Array,
    floor: float,
) -> ResourceFit:
    error = (predicted - true) / np.maximum(true, floor)
    return ResourceFit(
        kind=kind,
        resource=name,
        coefficients=coefficients,
        n=len(true),
        loo_mape=float(f"{np.abs(error).mean():.4g}"),
        loo_rms=float(f"{math.sqrt((error**2).mean()):.4g}"),
    )

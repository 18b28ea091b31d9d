"""Digest of the inputs that decide the outcome of a training.

The training's own checkpoints and the command line's stamp of a finished stage both use them. No
torch: an up-to-date stage is recognised without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import RunConfig, digest_of, sha256_file
from adaqat_hw.train.variant import Variant

# Where a training runs and what is kept of it: a change of these asks for no new training.
_PASSIVE: dict[str, set[str]] = {
    "train": {"device", "tensorboard", "checkpoint_every", "eval_every"},
    "data": {"workers"},
}


def training_inputs(
    config: RunConfig,
    variant: Variant,
    *,
    init: Path | None = None,
    teacher: Path | None = None,
    own: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return all that decides a training's outcome, as JSON-able values.

    Sections that the training does not read (build, compare, quant in full precision, adaqat
    unless the widths are learned) are left out, so that changing them asks for no new training.
    Checkpoints count by their content, not by how ``train.init`` and ``train.teacher`` name them:
    full precision starts from none, whatever these say.

    Args:
        config: the run.
        variant: which of its trainings.
        init: checkpoint that the training starts from, None from scratch.
        teacher: checkpoint that it is distilled from, or None.
        own: what else identifies a training of one's own network: ``loss`` by its name,
            ``teacher`` by its weights.

    Raises:
        ConfigError: a checkpoint does not exist.
    """
    if variant.mode == "float":
        config = config.in_full_precision()
    body = config.model_dump(mode="json", exclude=_PASSIVE)
    sections = ["seed", "network", "data", "train"]
    if variant.mode != "float":
        sections.append("quant")
    if variant.mode == "adaqat":
        sections.append("adaqat")
    unread = {"init", "teacher"}
    own = own or {}
    if teacher is None and "teacher" not in own:
        unread |= {"distill_weight", "distill_temperature"}
    if config.train.ema_decay is None:
        unread.add("ema_decay")
    inputs = {name: body[name] for name in sections}
    inputs["train"] = {key: value for key, value in body["train"].items() if key not in unread}
    return {
        **inputs,
        "mode": variant.mode,
        "bits": str(variant.bits) if variant.bits is not None else None,
        "plan": variant.plan.digest() if variant.plan is not None else None,
        "init_sha256": _sha256("init", init),
        "teacher_sha256": _sha256("teacher", teacher),
        **({"own": dict(own)} if own else {}),
    }


def training_digest(
    config: RunConfig,
    variant: Variant,
    *,
    init: Path | None = None,
    teacher: Path | None = None,
    own: Mapping[str, str] | None = None,
) -> str:
    """Return the digest of :func:`training_inputs`."""
    return digest_of(training_inputs(config, variant, init=init, teacher=teacher, own=own))


def _sha256(key: str, path: Path | None) -> str | None:
    if path is None:
        return None
    if not path.is_file():
        raise ConfigError(
            f"The checkpoint of train.{key}, {str(path)!r}, does not exist; train the "
            "full-precision variant first or give the path of another checkpoint."
        )
    return sha256_file(path)

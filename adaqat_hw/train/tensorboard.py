"""The training log as TensorBoard events, beside the JSONL file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaqat_hw.errors import ToolNotFound

_PLAIN = {
    "lr": "train/lr",
    "train_loss": "train/loss",
    "accuracy": "test/accuracy",
    "accuracy_top5": "test/accuracy_top5",
    "test_loss": "test/loss",
    "metric": "test/metric",
    "accuracy_before_recalibration": "test/accuracy_before_recalibration",
    "hard_loss": "hardware/hard_loss",
    "hardware_lambda": "hardware/lambda",
    "bitops": "hardware/bitops",
}
_BY_NAME = {"real": "width", "bits": "bits", "losses": "loss", "budget": "budget"}


class TensorboardWriter:
    """Write log records as scalars.

    Args:
        folder: where the event files go.
        step: what the training resumes at; events of later steps are dropped.

    Raises:
        ToolNotFound: tensorboard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter  # untyped
        self._writer = writer(log_dir=str(folder), purge_step=step or None)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the numbers of one record at its step."""
        step = int(record.get("step", 0))
        for tag, value in scalars(record):
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Hand everything to the operating system."""
        self._writer.close()


def require_tensorboard() -> None:
    """Refuse to go on without the optional package.

    Raises:
        ToolNotFound: tensorboard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401  # imports tensorboard
    except ImportError as exc:
        raise ToolNotFound(
            "train.tensorboard is true and the package 'tensorboard' is not installed; pip "
            "install 'adaqat-hw[tensorboard]' or set it to false (log.jsonl has the same numbers)."
        ) from exc


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield tag and value of every number of a log record.

    Widths are ``width/<name>`` (real) and ``bits/<name>``, gradients
    ``gradient/<name>/task``, ``hardware`` and ``applied``, flips ``flips/<name>`` (their count
    between the same two integers).
    """
    epoch = record.get("event") == "epoch"  # made at the epoch's last step, lr is its first's
    for key, tag in _PLAIN.items():
        if _number(record.get(key)) and not (epoch and key == "lr"):
            yield tag, float(record[key])
    for key, folder in _BY_NAME.items():
        for name, value in (record.get(key) or {}).items():
            if _number(value):
                yield f"{folder}/{name}", float(value)
    for row in record.get("gradients") or ():
        for part in ("task", "hardware", "applied"):
            yield f"gradient/{row['name']}/{part}", float(row[part])
    for row in record.get("flips") or ():
        yield f"flips/{row['name']}", float(row["count"])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

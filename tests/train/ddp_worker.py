"""One of several processes that train together; started by test_world.py with torchrun's variables.

Usage: ddp_worker.py CONFIG.json FOLDER. Leaves <FOLDER>/widths-<rank>.json: the real-valued widths
after every probing step, and differences-<rank>.json: what was measured before the freeze.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaqat_hw import nets
from adaqat_hw.quant import Binding
from adaqat_hw.schema import parse_config
from adaqat_hw.train import Variant, leave_world, train
from adaqat_hw.train.average import WeightAverage


def plain_net(config: Any) -> nn.Module:
    """A network without batch norm, whose statistics would be of half a batch each."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 16),
        nn.ReLU(),
        nn.Linear(16, 16),
        nn.ReLU(),
        nn.Linear(16, 16),
        nn.ReLU(),
        nn.Linear(16, 10),
    )


def watch(widths: list[dict[str, float]]) -> None:
    move = Binding.step

    def step(self: Binding, *args: Any, **kwargs: Any) -> Any:
        events = move(self, *args, **kwargs)
        widths.append(dict(self.controller.real))
        return events

    Binding.step = step  # type: ignore[method-assign]


def averaged(folder: Path, body: dict[str, Any], rank: str) -> None:
    """Train with averaged weights, at once and resumed; leave averages-<rank>.json."""
    sums: list[list[float]] = []
    apply = WeightAverage.apply

    def applied(self: WeightAverage) -> bool:
        averages = self.state_dict()["averages"].values()
        sums.append([float(value.double().sum()) for value in averages])
        return apply(self)

    WeightAverage.apply = applied  # type: ignore[method-assign]

    def keep(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == 13:
            (folder / "averaged-again").mkdir()
            for name in ("last.pt", "log.jsonl"):
                shutil.copy(folder / "averaged" / name, folder / "averaged-again" / name)

    body = {**body, "train": {**body["train"], "ema_decay": 0.8}, "adaqat": {}}
    config = parse_config(body, "test")
    train(config, Variant.named("w4a4"), folder / "averaged", progress=keep)
    train(config, Variant.named("w4a4"), folder / "averaged-again")
    (folder / f"averages-{rank}.json").write_text(json.dumps(sums))


def main() -> None:
    body, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    rank = os.environ["RANK"]
    torch.set_num_threads(1)
    widths: list[dict[str, float]] = []
    watch(widths)
    own = nets.build
    nets.build = plain_net  # type: ignore[assignment]
    train(parse_config(body, "test"), Variant.named("learned"), folder / "plain")
    (folder / f"widths-{rank}.json").write_text(json.dumps(widths))
    # With batch norm and dropout: a training, and one resumed from its second epoch.
    nets.build = (
        lambda config: nn.Sequential(  # type: ignore[assignment]
            own(config).flatten, nn.Dropout(0.3), *list(own(config))[1:]
        )
    )

    def keep(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == 13:
            (folder / "again").mkdir()
            for name in ("last.pt", "log.jsonl"):
                shutil.copy(folder / "whole" / name, folder / "again" / name)

    config = parse_config(body, "test")
    whole = train(config, Variant.named("learned"), folder / "whole", progress=keep)
    again = train(config, Variant.named("learned"), folder / "again")
    assert whole.processes == 2
    assert whole.model_copy(update={"seconds": 0.0}) == again.model_copy(update={"seconds": 0.0})
    # To a budget: every process measures the same differences of the two plans.
    differences: list[list[float]] = []
    freeze_all = Binding.freeze_all

    def watched(self: Binding, step: int, measured: Any = None) -> Any:
        differences.append(measured)
        return freeze_all(self, step, measured)

    Binding.freeze_all = watched  # type: ignore[method-assign]
    body["adaqat"]["budget"]["bitops"] = 90_000
    body["adaqat"]["rule"] = "gradient"
    train(parse_config(body, "test"), Variant.named("learned"), folder / "budget")
    (folder / f"differences-{rank}.json").write_text(json.dumps(differences))
    # By allocation: every process moves the same widths.
    moves: list[dict[str, int]] = []
    move_to = Binding.move_to

    def moved(self: Binding, bits: Any, step: int) -> Any:
        moves.append(dict(bits))
        return move_to(self, bits, step)

    Binding.move_to = moved  # type: ignore[method-assign]
    body["adaqat"]["rule"] = "allocation"
    train(parse_config(body, "test"), Variant.named("learned"), folder / "allocated")
    (folder / f"moves-{rank}.json").write_text(json.dumps(moves))
    averaged(folder, body, rank)
    leave_world()


if __name__ == "__main__":
    main()

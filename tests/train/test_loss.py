from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from adaqat_hw import nets
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import NetworkConfig, RunConfig, TrainConfig
from adaqat_hw.train import Variant, read_trajectory, train
from adaqat_hw.train.checkpoint import save
from adaqat_hw.train.loss import Teacher, load_teacher, training_loss

Make = Callable[..., RunConfig]
OTHER_TRAINING = (
    r"^'.*last\.pt' belongs to a training with another network, configuration, init or teacher "
    r"checkpoint \(digest '[0-9a-f]{12}', now '[0-9a-f]{12}'\); delete it to train from the start, "
    r"or restore what that training began with\.$"
)
_MLP = NetworkConfig(name="mlp", options={"hidden": (16, 16, 16)})


def _teacher_file(folder: Path, seed: int = 1) -> Path:
    torch.manual_seed(seed)
    save(folder / "teacher.pt", dict(nets.build(_MLP).state_dict()))
    return folder / "teacher.pt"


def test_without_a_teacher_it_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    smoothed = TrainConfig(label_smoothing=0.1)
    assert training_loss(smoothed, logits, labels) == F.cross_entropy(
        logits, labels, label_smoothing=0.1
    )


def test_the_divergence_is_hintons() -> None:
    torch.manual_seed(0)
    own, other, labels = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    config = TrainConfig(distill_weight=0.3, distill_temperature=2.0)
    p, q = (other / 2).softmax(1), (own / 2).softmax(1)
    soft = 4 * (p * (p.log() - q.log())).sum(1).mean()
    wanted = 0.7 * F.cross_entropy(own, labels) + 0.3 * soft
    assert torch.allclose(training_loss(config, own, labels, other), wanted)


def test_a_student_that_equals_its_teacher_has_only_the_hard_loss() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    whole = TrainConfig(distill_weight=1.0)
    assert float(training_loss(whole, logits, labels, logits)) == pytest.approx(0, abs=1e-6)


def test_the_teacher_rests_and_draws_no_number(tmp_path: Path) -> None:
    path = _teacher_file(tmp_path)
    state = torch.get_rng_state()
    teacher = Teacher(load_teacher(_MLP, path), TrainConfig(), torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
    before = {k: v.clone() for k, v in teacher.net.state_dict().items()}
    logits = teacher.logits(torch.rand(8, 1, 8, 8))
    assert not logits.requires_grad
    assert not teacher.net.training
    assert all(torch.equal(v, before[k]) for k, v in teacher.net.state_dict().items())


def test_a_student_follows_its_teacher(make_config: Make, tmp_path: Path) -> None:
    """Labels count nothing here: all that the student learns comes from the teacher."""
    good = make_config(data={"limit_train": 800}, train={"epochs": 8})
    train(good, Variant.named("float"), tmp_path / "float")
    teacher = tmp_path / "float" / "checkpoint.pt"
    taught = make_config(
        data={"limit_train": 800}, train={"epochs": 8, "teacher": "float", "distill_weight": 1.0}
    )
    result = train(taught, Variant.named("w4a4"), tmp_path / "w", teacher_checkpoint=teacher)
    assert result.accuracy > 0.8
    plain = train(good, Variant.named("w4a4"), tmp_path / "p")
    assert plain.config_digest != result.config_digest


def test_probes_and_live_loss_have_the_teachers_part(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaqat_hw.quant import AdaQatController

    def unchanged(self: AdaQatController) -> list[tuple[str, dict[str, int]]]:
        return [(name, self.bits) for name in self.widths]

    monkeypatch.setattr(AdaQatController, "probes", unchanged)
    config = make_config(train={"teacher": "x", "distill_weight": 0.9})
    teacher = _teacher_file(tmp_path)
    train(config, Variant.named("learned"), tmp_path / "a", teacher_checkpoint=teacher)
    moves = [r for r in read_trajectory(tmp_path / "a" / "log.jsonl") if r.get("gradients")]
    assert moves
    for record in moves:
        assert len(set(record["losses"].values())) == 1


def test_a_teacher_must_be_given_and_fit(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"teacher": "float"})
    text = (
        "train.teacher is 'float', and no teacher's checkpoint was given; pass "
        "teacher_checkpoint, or train by the command line, which finds it."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train(config, Variant.named("w4a4"), tmp_path / "a")
    text = (
        f"The checkpoint of train.teacher, '{tmp_path}/gone.pt', does not exist; train the "
        "full-precision variant first or give the path of another checkpoint."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train(
            config, Variant.named("w4a4"), tmp_path / "a", teacher_checkpoint=tmp_path / "gone.pt"
        )
    other = make_config("demo-cnn", train={"teacher": "float"})
    teacher = _teacher_file(tmp_path)
    text = (
        f"Checkpoint '{tmp_path}/teacher.pt' does not fit this network: it lacks "
        "'conv1.weight'; give the checkpoint of the same network and variant, or restore the "
        "configuration that it was made with."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train(other, Variant.named("w4a4"), tmp_path / "a", teacher_checkpoint=teacher)
    assert train(config, Variant.named("float"), tmp_path / "f").mode == "float"


def test_another_teacher_is_refused_on_resume(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"teacher": "x"})

    def stop(record: dict[str, Any]) -> None:
        if record["step"] >= 9:
            raise KeyboardInterrupt

    teacher = _teacher_file(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(
            config,
            Variant.named("w4a4"),
            tmp_path / "a",
            progress=stop,
            teacher_checkpoint=teacher,
        )
    _teacher_file(tmp_path, seed=2)
    with pytest.raises(ConfigError, match=OTHER_TRAINING):
        train(config, Variant.named("w4a4"), tmp_path / "a", teacher_checkpoint=teacher)

"""Losses of one's own: regression, images as outputs, teachers; from training to the export."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaqat_hw.errors import ConfigError
from adaqat_hw.export import export_qonnx
from adaqat_hw.schema import AdaqatConfig, BudgetConfig, ProbingConfig, QuantConfig, TrainConfig
from adaqat_hw.train import read_trajectory, train_network
from adaqat_hw.train.own_loss import OwnLoss, name_of

SHORT = TrainConfig(epochs=2, batch_size=16, lr=0.02, device="cpu", threads=1, checkpoint_every=1)
LEARN = AdaqatConfig(
    granularity="layer", lr_weights=0.5, lr_acts=0.5, probing=ProbingConfig(every=2)
)
QUANT = QuantConfig(input_range=3.0)


def pixel_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of every pixel."""
    return F.cross_entropy(outputs, targets)


def pixel_accuracy(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(1) == targets).float().mean())


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean()


@pytest.fixture
def numbers() -> tuple[Tensor, Tensor]:
    """Images (n, 1, 8, 8) and what is to be found in each: mean and contrast, floats."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(192, 1, 8, 8, generator=generator) * 0.5
    x = x + torch.randn(192, 1, 1, 1, generator=generator)
    return x, torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)


def regressor() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)),
    )


def test_a_regression_learns_its_widths_is_measured_and_exported(
    numbers: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    x, y = numbers
    config = SHORT.model_copy(update={"epochs": 12, "optimizer": "adam", "lr": 0.01})
    budget = LEARN.model_copy(update={"budget": BudgetConfig(bitops=200_000)})
    trained = train_network(
        regressor(),
        (x[:128], y[:128]),
        (x[128:], y[128:]),
        tmp_path,
        train_config=config,
        quant=QUANT,
        adaqat=budget,
        loss_fn=nn.SmoothL1Loss(beta=0.5),
        metric_fn=mae,
    )
    result = trained.result
    assert (result.accuracy, result.accuracy_top5) == (None, None)
    assert result.loss_name == "torch.nn.modules.loss.SmoothL1Loss(beta=0.5, reduction='mean')"
    assert result.metric_name == f"{__name__}.mae"
    assert result.budget is not None
    assert result.budget.met
    with torch.no_grad():
        outputs = trained.net(x[128:])
    assert result.test_loss == pytest.approx(float(nn.SmoothL1Loss(beta=0.5)(outputs, y[128:])))
    assert result.metric == pytest.approx(float(mae(outputs, y[128:])), rel=1e-5)
    # Better by far than the mean of the targets, which knows nothing.
    assert result.metric < 0.5 * float(mae(y[:128].mean(0).expand(64, 2), y[128:]))
    assert result.reached == (
        f"{__name__}.mae {result.metric:.4g}, torch.nn.modules.loss.SmoothL1Loss(beta=0.5, "
        f"reduction='mean') {result.test_loss:.4g}"
    )
    records = [r for r in read_trajectory(tmp_path / "log.jsonl") if r["event"] == "epoch"]
    assert all("accuracy" not in r and r["test_loss"] > 0 and r["metric"] > 0 for r in records)
    assert records[-1]["test_loss"] < 0.5 * records[0]["test_loss"]
    widths = [r for r in read_trajectory(tmp_path / "log.jsonl") if r["event"] == "widths"]
    assert len(widths) > 3
    # The probes measure the same loss: that at the present widths is the training's.
    assert all(0 <= value < 3 for r in widths for value in r["losses"].values())
    # Plans are scored by the loss: a divergence of such outputs means nothing.
    rounds = [r for r in read_trajectory(tmp_path / "log.jsonl") if r["event"] == "allocation"]
    assert rounds
    assert {r["score"] for r in rounds} == {"loss"}
    agreement = export_qonnx(trained.net, tmp_path / "m.onnx", x[128:])
    assert (agreement.samples, agreement.mismatches, agreement.argmax_agreement) == (64, 0, None)
    # An activation next to a rounding tie may fall to either side; it is counted as a tie.
    assert agreement.ties or agreement.max_abs_error < 1e-4


def test_an_image_of_classes_is_trained_and_exported(tmp_path: Path) -> None:
    x = torch.randn(48, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    y = (F.avg_pool2d(x, 5, 1, 2)[:, 0] > 0).long()  # (n, 8, 8)
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1)),
        *(nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(8, 2, 1)),
    )
    trained = train_network(
        net,
        (x, y),
        (x, y),
        tmp_path,
        variant="w4a4",
        train_config=SHORT.model_copy(update={"epochs": 20, "optimizer": "adam", "lr": 0.01}),
        quant=QUANT,
        loss_fn=pixel_loss,
        metric_fn=pixel_accuracy,
    )
    with torch.no_grad():
        reached = pixel_accuracy(trained.net(x), y)
    assert trained.result.metric == pytest.approx(reached)
    assert reached > 0.6
    assert trained.net.spec.num_classes is None
    assert export_qonnx(trained.net, tmp_path / "m.onnx", x).mismatches == 0


@pytest.mark.parametrize("variant", ["float", "learned"])
def test_a_stopped_regression_goes_on_with_the_same_bits(
    numbers: tuple[Tensor, Tensor], tmp_path: Path, variant: str
) -> None:
    class Stopped(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["epoch"] == 2:
            raise Stopped

    arguments: dict[str, Any] = {
        "variant": variant,
        "train_config": SHORT,
        "quant": QUANT,
        "adaqat": LEARN,
        "loss_fn": F.mse_loss,
    }
    whole = train_network(regressor(), numbers, numbers, tmp_path / "whole", **arguments)
    with pytest.raises(Stopped):
        train_network(regressor(), numbers, numbers, tmp_path / "part", progress=stop, **arguments)
    again = train_network(regressor(), numbers, numbers, tmp_path / "part", **arguments)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name])
    assert again.result.metric is None
    assert again.result.metric_name is None
    # Another loss is another training; another metric is not.
    with pytest.raises(Stopped):
        train_network(regressor(), numbers, numbers, tmp_path / "new", progress=stop, **arguments)
    train_network(regressor(), numbers, numbers, tmp_path / "new", metric_fn=mae, **arguments)
    with pytest.raises(Stopped):
        train_network(regressor(), numbers, numbers, tmp_path / "mse", progress=stop, **arguments)
    arguments["loss_fn"] = nn.L1Loss()
    with pytest.raises(ConfigError, match="belongs to a training with another network"):
        train_network(regressor(), numbers, numbers, tmp_path / "mse", **arguments)


class Weighted:
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()


def test_what_names_a_loss() -> None:
    assert name_of(F.mse_loss) == "torch.nn.functional.mse_loss"
    assert name_of(Weighted()) == f"{__name__}.Weighted"
    partial = functools.partial(F.smooth_l1_loss, beta=0.1)
    assert name_of(partial) == "torch.nn.functional.smooth_l1_loss(beta=0.1)"
    assert name_of(nn.HuberLoss(delta=2.0)) != name_of(nn.HuberLoss(delta=1.0))
    one, two = (nn.CrossEntropyLoss(torch.tensor([1.0, w])) for w in (1.0, 2.0))
    assert name_of(one) != name_of(two)
    assert name_of(one) == name_of(nn.CrossEntropyLoss(torch.tensor([1.0, 1.0])))


def _nothing(outputs: Tensor, targets: Tensor) -> Any:
    return None


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (
            nn.MSELoss(reduction="none"),
            "loss_fn \"torch.nn.modules.loss.MSELoss(reduction='none')\" returns shape (4, 2) for "
            "outputs (4, 2) of torch.float32 and targets (4, 2) of torch.float32; it must return "
            "one number, the mean over the batch.",
        ),
        (
            F.nll_loss,
            "loss_fn 'torch.nn.functional.nll_loss' fails on outputs (4, 2) of torch.float32 and "
            "targets (4, 2) of torch.float32 (RuntimeError: 0D or 1D target tensor expected, "
            "multi-target not supported); give targets and a network that it takes.",
        ),
        (
            _nothing,
            f"loss_fn '{__name__}._nothing' returns NoneType for outputs (4, 2) of torch.float32 "
            "and targets (4, 2) of torch.float32; it must return one number, the mean over the "
            "batch.",
        ),
        (
            pixel_accuracy,
            f"loss_fn '{__name__}.pixel_accuracy' ",
        ),
    ],
)
def test_a_loss_that_cannot_be_trained_is_refused_before_training(
    numbers: tuple[Tensor, Tensor], tmp_path: Path, loss: Any, text: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}"):
        train_network(regressor(), numbers, numbers, tmp_path, train_config=SHORT, loss_fn=loss)
    assert not (tmp_path / "log.jsonl").exists()


def test_a_loss_without_gradient_or_that_broadcasts_is_refused(
    numbers: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    x, y = numbers

    def constant(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.detach().sum()

    with pytest.raises(ConfigError, match=r"constant' returns .*, which cannot be differentiated"):
        train_network(regressor(), numbers, numbers, tmp_path, loss_fn=constant)
    one = nn.Sequential(regressor(), nn.ReLU(), nn.Linear(2, 1))
    text = (
        "loss_fn 'torch.nn.functional.mse_loss' would broadcast outputs (4, 1) of torch.float32 "
        "and targets (4,) of torch.float32; give the two one shape."
    )
    column = x, y[:, 0]
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(one, column, column, tmp_path, loss_fn=F.mse_loss)
    name = "torch.nn.modules.linear.Bilinear(in1_features=2, in2_features=2, out_features=1, "
    with pytest.raises(ConfigError, match=f"^loss_fn '{re.escape(name)}.*has parameters, which"):
        OwnLoss(nn.Bilinear(2, 2, 1))


def test_what_does_not_go_with_a_loss_is_refused(
    numbers: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    x, y = numbers
    text = "metric_fn belongs to a loss_fn; without one the network is measured by its accuracy."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(regressor(), numbers, numbers, tmp_path, metric_fn=mae)
    text = "train.label_smoothing 0.1 belongs to the cross-entropy; with a loss_fn set it to 0."
    smooth = TrainConfig(label_smoothing=0.1)
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(regressor(), numbers, numbers, tmp_path, loss_fn=mae, train_config=smooth)
    text = (
        "The test data have inputs (192, 1, 8, 8) and targets (191, 2) of torch.float32; give "
        "(n, ...) inputs and as many targets, n at least 1."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(regressor(), numbers, (x, y[1:]), tmp_path, loss_fn=mae)
    text = (
        "Training targets have shape (2,) and type torch.float32, test targets (1,) and "
        "torch.float32; give both the same."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(regressor(), numbers, (x, y[:, :1]), tmp_path, loss_fn=mae)


# Teachers


def classifier(width: int, classes: int = 3) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU()),
        *(nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)),
    )


@pytest.fixture
def labelled() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(96) % 3
    return torch.randn(96, 1, 8, 8, generator=generator) * 0.5 + y.view(-1, 1, 1, 1) - 1, y


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    chosen = outputs.log_softmax(1).gather(1, targets[:, None])
    return -((1 - chosen.exp()).square() * chosen).mean()


@pytest.mark.parametrize("loss", [None, focal])
def test_a_student_follows_a_teacher_of_its_own_and_leaves_it_alone(
    labelled: tuple[Tensor, Tensor], tmp_path: Path, loss: Any
) -> None:
    x, y = labelled
    teacher = train_network(
        classifier(32),
        labelled,
        labelled,
        tmp_path / "teacher",
        variant="float",
        train_config=SHORT.model_copy(update={"epochs": 20, "lr": 0.05}),
    ).net.train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    wrong = x, (y + 1) % 3  # all that is right comes from the teacher
    config = SHORT.model_copy(update={"epochs": 25, "lr": 0.05, "distill_weight": 1.0})
    arguments: dict[str, Any] = {
        "variant": "w4a4",
        "train_config": config,
        "loss_fn": loss,
        "quant": QUANT,
    }
    student = train_network(
        classifier(8), wrong, labelled, tmp_path / "student", teacher=teacher, **arguments
    )
    with torch.no_grad():
        agree = (student.net(x).argmax(1) == teacher.eval()(x).argmax(1)).float().mean()
        plain = (teacher(x).argmax(1) == y).float().mean()
    assert plain > 0.9
    assert agree > 0.9
    teacher.train()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    # The teacher's weights identify the training.
    other = classifier(32)
    again = train_network(
        classifier(8), wrong, labelled, tmp_path / "other", teacher=other, **arguments
    )
    alone = train_network(classifier(8), wrong, labelled, tmp_path / "alone", **arguments)
    digests = {t.result.config_digest for t in (student, again, alone)}
    assert len(digests) == 3


def test_a_teacher_that_does_not_fit_is_refused(
    labelled: tuple[Tensor, Tensor], numbers: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    text = (
        "A teacher is learned from by the divergence of class logits, and this network has outputs "
        "(4, 2) and targets (4, 2) of torch.float32; give no teacher, or use its outputs as "
        "targets."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(
            regressor(),
            numbers,
            numbers,
            tmp_path,
            loss_fn=mae,
            teacher=regressor(),
            variant="w4a4",
        )
    text = (
        "The teacher (Sequential) maps inputs (4, 1, 8, 8) to (4, 4), the network to (4, 3); give "
        "one of the same classes."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(
            classifier(8), labelled, labelled, tmp_path, teacher=classifier(8, 4), variant="w4a4"
        )
    text = (
        "The teacher (Linear) does not run on inputs (4, 1, 8, 8) (RuntimeError: mat1 and mat2 "
        "shapes cannot be multiplied (32x8 and 9x3)); give one of the same data."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        train_network(
            classifier(8), labelled, labelled, tmp_path, teacher=nn.Linear(9, 3), variant="w4a4"
        )


def test_full_precision_has_no_teacher(labelled: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"variant": "float", "train_config": SHORT}
    taught, plain = (
        train_network(
            classifier(8), labelled, labelled, tmp_path / str(teacher), teacher=teacher, **arguments
        )
        for teacher in (nn.Linear(9, 3), None)
    )
    assert taught.result.config_digest == plain.result.config_digest

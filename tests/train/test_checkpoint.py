from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.train.checkpoint import FORMAT, load, load_into, load_resume, load_weights, save


def test_a_saved_checkpoint_reads_back_bit_identical(tmp_path: Path) -> None:
    value = {"w": torch.randn(3, 4), "n": 3, "widths": {"w": 3.25}, "none": None}
    save(tmp_path / "a.pt", value)
    back = load(tmp_path / "a.pt")
    assert torch.equal(back["w"], value["w"])
    assert {k: v for k, v in back.items() if k != "w"} == {
        k: v for k, v in value.items() if k != "w"
    }
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    text = f"Checkpoint '{tmp_path}/gone.pt' does not exist; train it first."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load(tmp_path / "gone.pt")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused_with_advice(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "last.pt"
    save(path, {"w": torch.randn(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    text = (
        f"Checkpoint '{tmp_path}/last.pt' is damaged or no checkpoint of this program; delete it "
        "and train again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load(path)


def test_garbage_and_pickled_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(b"not a checkpoint at all")
    text = (
        f"Checkpoint '{tmp_path}/last.pt' is damaged or no checkpoint of this program; delete it "
        "and train again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load(path)
    torch.save({"net": nn.Linear(2, 2)}, path)
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save(path, {"n": 1})

    class Unpicklable:
        def __reduce__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(path, {"n": Unpicklable()})
    assert load(path) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    text = (
        f"Checkpoint '{tmp_path}/file/a.pt' could not be written ([Errno 17] File exists: "
        f"'{tmp_path}/file'); free disk space or choose another folder."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        save(tmp_path / "file" / "a.pt", {})


def test_weights_must_be_a_plain_state_dict(tmp_path: Path) -> None:
    save(tmp_path / "a.pt", {"epoch": 3})
    text = (
        f"Checkpoint '{tmp_path}/a.pt' holds no plain state_dict of a network; give a "
        "'checkpoint.pt' written by training, or delete it and train again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load_weights(tmp_path / "a.pt")


def test_resume_refuses_other_digests_and_formats(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save(path, {"format": FORMAT, "digest": "aaa"})
    assert load_resume(path, "aaa")["digest"] == "aaa"
    text = (
        f"'{tmp_path}/last.pt' belongs to a training with another network, configuration, init "
        "or teacher checkpoint (digest 'aaa', now 'bbb'); delete it to train from the start, or "
        "restore what that training began with."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load_resume(path, "bbb")
    save(path, {"format": FORMAT + 1, "digest": "aaa"})
    text = (
        f"'{tmp_path}/last.pt' is no resume checkpoint of this release; delete it and train again."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load_resume(path, "aaa")


def test_loading_into_another_network_names_the_first_difference(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    text = (
        f"Checkpoint '{tmp_path}/checkpoint.pt' does not fit this network: its 'weight' has "
        "shape (2, 3), the network's (2, 4); give the checkpoint of the same network and variant, "
        "or restore the configuration that it was made with."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load_into(nn.Linear(4, 2), state, tmp_path / "checkpoint.pt")
    text = (
        f"Checkpoint '{tmp_path}/checkpoint.pt' does not fit this network: it lacks "
        "'0.weight'; give the checkpoint of the same network and variant, or restore the "
        "configuration that it was made with."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load_into(nn.Sequential(nn.Linear(3, 2)), state, tmp_path / "checkpoint.pt")

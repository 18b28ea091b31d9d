from __future__ import annotations

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
    with pytest.raises(ConfigError, match=r"gone\.pt' does not exist; train it first\."):
        load(tmp_path / "gone.pt")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused_with_advice(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "last.pt"
    save(path, {"w": torch.randn(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ConfigError, match=r"damaged or no checkpoint.*delete it and train again"):
        load(path)


def test_garbage_and_pickled_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(ConfigError, match="delete it"):
        load(path)
    torch.save({"net": nn.Linear(2, 2)}, path)
    with pytest.raises(ConfigError, match="delete it"):
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
    with pytest.raises(ConfigError, match="could not be written"):
        save(tmp_path / "file" / "a.pt", {})


def test_weights_must_be_a_plain_state_dict(tmp_path: Path) -> None:
    save(tmp_path / "a.pt", {"epoch": 3})
    with pytest.raises(ConfigError, match="holds no plain state_dict"):
        load_weights(tmp_path / "a.pt")


def test_resume_refuses_other_digests_and_formats(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save(path, {"format": FORMAT, "digest": "aaa"})
    assert load_resume(path, "aaa")["digest"] == "aaa"
    with pytest.raises(ConfigError, match=r"another network or configuration.*'aaa'.*delete it"):
        load_resume(path, "bbb")
    save(path, {"format": FORMAT + 1, "digest": "aaa"})
    with pytest.raises(ConfigError, match=r"no resume checkpoint of this release; delete it"):
        load_resume(path, "aaa")


def test_loading_into_another_network_names_the_first_difference(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    with pytest.raises(ConfigError, match=r"does not fit this network \(.*weight.*delete it"):
        load_into(nn.Linear(4, 2), state, tmp_path / "checkpoint.pt")
    with pytest.raises(ConfigError, match="does not fit"):
        load_into(nn.Sequential(nn.Linear(3, 2)), state, tmp_path / "checkpoint.pt")

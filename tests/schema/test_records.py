from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw import families
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import (
    BitWidthPlan,
    BuildRequest,
    HardwareGraph,
    LayerBits,
    ResourceReport,
    Resources,
    Stream,
    ThroughputRequest,
    add_resources,
    write_atomic,
)

counts = st.one_of(st.none(), st.integers(0, 10**6))
resources = st.builds(Resources, lut=counts, ff=counts, dsp=counts, bram_18k=counts, uram=counts)


def plan(**bits: int) -> BitWidthPlan:
    rows = [LayerBits(layer=k, weight_bits=v, act_bits=4, act=f"{k}.act") for k, v in bits.items()]
    return BitWidthPlan(network="n", source="manual", layers=tuple(rows))


def request(**changes: object) -> BuildRequest:
    fields: dict[str, object] = {
        "model": "/a/model.onnx",
        "model_sha256": "0" * 64,
        "network": "n",
        "variant": "learned",
        "board": "pynq-z1",
        "part": "xc7z020clg400-1",
        "dsp": families.load("xc7").dsp,
        "clock_ns": 10.0,
        "goal": "rtl",
    }
    return BuildRequest.model_validate({**fields, **changes})


def test_a_record_survives_the_disk(tmp_path):
    made = plan(conv1=8, conv2=3)
    assert BitWidthPlan.read(made.write(tmp_path / "plan.json")) == made


def test_a_record_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        plan(conv1=8).network = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{",
            "BitWidthPlan PATH is not valid JSON (Expecting property name enclosed in double "
            "quotes: line 1 column 2 (char 1)); it is damaged or was edited wrongly: delete it and "
            "run the stage again.",
        ),
        ("[]", "BitWidthPlan PATH must hold one JSON object."),
        ('{"record": "Board"}', "PATH holds a 'Board' record, not a 'BitWidthPlan'."),
        (
            '{"schema_version": 9}',
            "PATH has BitWidthPlan version 9; this release reads version 1: run the stage again.",
        ),
        ('{"network": "n"}', "BitWidthPlan PATH: source is missing; layers is missing."),
    ],
)
def test_a_damaged_record_is_refused_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        BitWidthPlan.read(path)
    assert str(caught.value) == message.replace("PATH", repr(str(path)))


def test_a_missing_record_is_refused(tmp_path):
    text = f"BitWidthPlan '{tmp_path}/absent.json' does not exist."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        BitWidthPlan.read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("bits", "text"),
    [(0, "greater than or equal to 1"), (33, "less than or equal to 32"), (-1, "greater than")],
)
def test_a_plan_refuses_impossible_widths(bits, text):
    with pytest.raises(ValueError, match=rf"weight_bits\n  Input should be {text}"):
        plan(conv1=bits)


def test_a_plan_refuses_a_layer_twice():
    row = LayerBits(layer="conv1", weight_bits=3, act_bits=3)
    text = r"Value error, layers \['conv1'\] appear more than once; keep one row each \["
    with pytest.raises(ValueError, match=text):
        BitWidthPlan(network="n", source="manual", layers=(row, row))


def test_a_plan_refuses_two_widths_for_one_quantizer():
    rows = (
        LayerBits(layer="a", weight_bits=3, act_bits=3, act="relu"),
        LayerBits(layer="b", weight_bits=3, act_bits=4, act="relu"),
    )
    text = (
        r"Value error, layers 'a' and 'b' read the same activations 'relu' but have act_bits 3 and "
        r"4; give both the same width \["
    )
    with pytest.raises(ValueError, match=text):
        BitWidthPlan(network="n", source="manual", layers=rows)


def test_the_request_digest_ignores_paths_and_notes_only():
    assert request().digest() == request(model="/elsewhere/model.onnx").digest()
    assert request().digest() == request(folding_note="why").digest()
    changed = [
        {"model_sha256": "1" * 64},
        {"clock_ns": 5.0},
        {"goal": "estimate"},
        {"variant": "w4a4"},
        {"throughput": {"kind": "fps", "fps": 100, "fill": 1.0}},
        {"folded_impl": {"a": "lut"}},
        {"target_fps": 100},
        {"impl": "dsp"},
        {"impl_per_layer": {"a": "lut"}},
        {"folding": {"MVAU_0": {"PE": 2}}},
    ]
    digests = {request().digest(), *(request(**change).digest() for change in changed)}
    assert len(digests) == len(changed) + 1


FOLDED = {"MVAU_0": {"PE": 2}}


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({}, "nobody"),
        ({"folding": {}}, "nobody"),
        ({"target_fps": 9}, "finn"),
        ({"folding": FOLDED, "throughput": {"kind": "folding"}}, "hand"),
        ({"folding": FOLDED, "throughput": {"kind": "fit", "fill": 0.7}}, "cost_model"),
    ],
)
def test_a_request_knows_who_folded_it(changes, who):
    assert request(**changes).folded_by == who


def test_an_implementation_that_was_asked_for_comes_before_one_that_the_folding_chose():
    made = request(impl_per_layer={"a": "lut"}, folded_impl={"a": "dsp", "b": "dsp"})
    assert [made.implementation(layer) for layer in "abc"] == ["lut", "dsp", "auto"]
    assert request(impl="lut", folded_impl={"b": "dsp"}).implementation("b") == "lut"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "fps"}, "kind 'fps' with fps None: they belong together"),
        ({"kind": "fit", "fps": 9, "fill": 1}, "kind 'fit' with fps 9: they belong together"),
        ({"kind": "fit"}, "kind 'fit' with fill None: they belong together"),
        ({"fill": 0.5}, "kind 'default' with fill 0.5: they belong together"),
    ],
)
def test_a_throughput_of_parts_that_contradict_each_other_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ThroughputRequest(**fields)


@given(st.lists(resources, min_size=1, max_size=5))
def test_a_sum_with_a_missing_value_is_missing(rows):
    total = add_resources(rows)
    for name in Resources.model_fields:
        column = [getattr(row, name) for row in rows]
        expected = None if None in column else sum(column)
        assert getattr(total, name) == expected


def test_the_sum_of_nothing_is_not_reported():
    assert add_resources([]) == Resources()


@given(bits=st.integers(1, 32), elements=st.integers(1, 64))
def test_a_stream_is_padded_to_bytes(bits, elements):
    stream = Stream(name="s", dtype={"bits": bits, "signed": True}, folded_shape=(1, 3, elements))
    assert stream.width % 8 == 0
    assert 0 <= stream.width - bits * elements < 8
    assert (stream.elements, stream.beats) == (elements, 3)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomic(path, "old")

    def refuse(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    text = (
        f"'{tmp_path}/record.json' could not be written (No space left on device); nothing was "
        "changed: free disk space or choose another folder."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_json_names_record_and_version():
    body = json.loads(plan(conv1=2).to_json())
    assert (body["record"], body["schema_version"]) == ("BitWidthPlan", 1)


@pytest.mark.parametrize("kind", [HardwareGraph, ResourceReport])
def test_a_record_of_an_older_build_says_to_build_again(tmp_path, kind):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"record": kind.__name__, "schema_version": 1}))
    with pytest.raises(ConfigError) as caught:
        kind.read(path)
    assert str(caught.value) == (
        f"{str(path)!r} has {kind.__name__} version 1; this release reads version 2: build again."
    )

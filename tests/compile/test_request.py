"""Options of a command line over a run's own ``[build]``."""

from __future__ import annotations

import re

import pytest

from adaqat_hw.compile import overlay
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import BuildConfig

OWN = BuildConfig(
    board="pynq-z1", fps=100, fill=0.5, goal="estimate", env="docker", clock_ns=8.0, frames=7,
    stall_frames=3, size_fifos=False, synthesize=False, impl="dsp", impl_per_layer={"a": "lut"},
)  # fmt: skip


def test_without_options_the_runs_own_configuration_stands():
    assert overlay(OWN, {}) == OWN


@pytest.mark.parametrize("key", ["goal", "env", "clock_ns", "frames", "synthesize", "impl"])
def test_an_option_changes_its_own_key_and_no_other(key):
    value = {"goal": "rtl", "env": "local", "clock_ns": 5.0, "frames": 9, "synthesize": True,
             "impl": "lut"}[key]  # fmt: skip
    assert overlay(OWN, {key: value}) == OWN.model_copy(update={key: value})


@pytest.mark.parametrize(
    "options",
    [{"fps": 7}, {"fit": True}, {"unfolded": True}, {"folding": {"MVAU_hls_0": {"PE": 2}}}],
)
def test_a_throughput_takes_the_place_of_the_runs_and_of_its_fill(options):
    nothing = {"fps": None, "fit": False, "unfolded": False, "folding": {}, "fill": None}
    assert overlay(OWN, options) == OWN.model_copy(update={**nothing, **options})


def test_a_fill_alone_goes_with_the_runs_throughput():
    assert overlay(OWN, {"fill": 0.9}) == OWN.model_copy(update={"fill": 0.9})


def test_implementations_are_added_layer_by_layer():
    layers = overlay(OWN, {"impl_per_layer": {"b": "dsp"}}).impl_per_layer
    assert layers == {"a": "lut", "b": "dsp"}


@pytest.mark.parametrize(
    ("own", "options", "message"),
    [
        (
            None,
            {"fps": 7},
            "Which board? Give --board NAME, or --fit NAME to fill it; a run may name it in its "
            "[build].",
        ),
        (
            None,
            {"board": "pynq-z1", "fill": 0.5},
            "The build's options: fill 0.5 says how much of the board fps or fit may take; give "
            "one.",
        ),
        (
            OWN,
            {"fps": 7, "fit": True},
            "The build's options: fps and fit are 2 throughputs; give one of them.",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(own, options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        overlay(own, options)

"""The build's stages: FINN flow, simulation, synthesis. Each skips itself when up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adaqat_hw.rtl
from adaqat_hw import families
from adaqat_hw.resources import flows_dir, hw_dir
from adaqat_hw.run import is_done, stamp, tree_digest
from adaqat_hw.schema import VIVADO_GOALS, Board, BuildConfig, BuildRequest, sha256_file

Note = Callable[[str], None]


@dataclass(frozen=True)
class BuildStage:
    """One stage of a build: a name, what it depends on, and what does it.

    ``action`` returns the result in words and the files it wrote.
    """

    name: str
    folder: Path
    inputs: dict[str, Any]
    action: Callable[[Note], tuple[str, list[str]]]

    @property
    def _stamp(self) -> str:
        return f"stage-{self.name}.json"

    def is_done(self) -> bool:
        """Tell whether this stage has run for exactly these inputs and its files stand."""
        return is_done(self.folder, self.inputs, self._stamp)

    def run(self, note: Note) -> str:
        """Run the stage, stamp it, and return its result in words."""
        text, files = self.action(note)
        stamp(self.folder, self.inputs, files, self._stamp)
        return text


def build_stages(
    request: BuildRequest, board: Board, config: BuildConfig, folder: Path, variant: str
) -> Iterator[BuildStage]:
    """Yield the stages for ``request`` in order; each is made after the one before has run.

    ``variant`` names the bit-width plan in the resource reports.
    """
    from adaqat_hw.compile.bitstream import (
        bitstream_design,
        check_board,
        shell_digest,
        wants_bitstream,
    )
    from adaqat_hw.compile.compile import compile_design
    from adaqat_hw.compile.environment import environment
    from adaqat_hw.compile.fifo_depths import FIFOS
    from adaqat_hw.compile.fifos import size_design
    from adaqat_hw.compile.implement import implement_design
    from adaqat_hw.compile.simulate import simulate_design
    from adaqat_hw.compile.synthesize import synthesize_design

    bitstream = wants_bitstream(board, config)
    if bitstream:
        check_board(board, request.clock_ns)
    where = environment(config.env)
    family = families.load(board.family)
    flow = {"request": request.digest(), "flows": tree_digest(flows_dir())}
    yield BuildStage(
        "compile",
        folder,
        flow,
        lambda note: compile_design(request, board, variant, folder, note, where),
    )
    if config.goal == "estimate":
        return
    rtl = {**flow, "rtl": tree_digest(hw_dir() / "rtl", Path(adaqat_hw.rtl.__file__).parent)}
    depth = None if config.size_fifos else request.fifo_depth
    yield BuildStage(
        "fifos",
        folder,
        {**rtl, "sim": tree_digest(hw_dir() / "sim"), "depth": depth},
        lambda note: size_design(folder, depth, note),
    )
    rtl["fifos"] = sha256_file(folder / FIFOS)
    frames = {"frames": config.frames, "stall_frames": config.stall_frames}
    yield BuildStage(
        "simulate",
        folder,
        {**rtl, **frames},
        lambda note: simulate_design(folder, config.frames, config.stall_frames, note),
    )
    if config.synthesize:
        yield BuildStage(
            "synthesize",
            folder,
            {**rtl, "family": family.digest(), "whole": config.synthesize_whole},
            lambda note: synthesize_design(folder, board, variant, note, config.synthesize_whole),
        )
    if bitstream:
        pins = shell_digest(family)
        yield BuildStage(
            "bitstream",
            folder,
            {**rtl, "board": board.digest(), "family": family.digest(), "pins": pins},
            lambda note: bitstream_design(folder, board, variant, note),
        )
    if config.goal in VIVADO_GOALS:
        deploy = tree_digest(hw_dir() / "deploy")
        yield BuildStage(
            "vivado",
            folder,
            {**rtl, "family": family.digest(), "deploy": deploy, "part": board.part},
            lambda note: implement_design(folder, board, config.goal, variant, where, note),
        )

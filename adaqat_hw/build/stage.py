"""The build's stages: FINN flow, simulation, synthesis. Each skips itself when up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adaqat_hw.rtl
from adaqat_hw.resources import flows_dir, hw_dir
from adaqat_hw.run import is_done, stamp, tree_digest
from adaqat_hw.schema import Board, BuildConfig, BuildRequest

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
    from adaqat_hw.build.compile import compile_design
    from adaqat_hw.build.simulate import simulate_design
    from adaqat_hw.build.synthesize import synthesize_design

    flow = {"request": request.digest(), "flows": tree_digest(flows_dir())}
    yield BuildStage(
        "compile", folder, flow, lambda note: compile_design(request, board, variant, folder, note)
    )
    if config.goal != "rtl":
        return
    rtl = {**flow, "rtl": tree_digest(hw_dir() / "rtl", Path(adaqat_hw.rtl.__file__).parent)}
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
            {**rtl, "family": board.yosys_family},
            lambda note: synthesize_design(folder, board, variant, note),
        )

"""The tasks of a build, one after another. Each skips itself when it is up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adaqat_hw.rtl
from adaqat_hw import families
from adaqat_hw.resources import hw_dir
from adaqat_hw.run import BuildFolder, is_done, stamp, tree_digest
from adaqat_hw.schema import VIVADO_GOALS, Board, BuildConfig, BuildRequest, sha256_file

Note = Callable[[str], None]


@dataclass(frozen=True)
class BuildTask:
    """One task of a build: a name, what it depends on, and what does it.

    ``action`` returns the result in words and the files it wrote.
    """

    name: str
    folder: BuildFolder
    inputs: dict[str, Any]
    action: Callable[[Note], tuple[str, list[str]]]

    def is_done(self) -> bool:
        """Tell whether this task has run for exactly these inputs and its files stand."""
        return is_done(self.folder.path, self.inputs, self.folder.stamp_name(self.name))

    def run(self, note: Note) -> str:
        """Run the task, stamp it, and return its result in words."""
        text, files = self.action(note)
        stamp(self.folder.path, self.inputs, files, self.folder.stamp_name(self.name))
        return text


def build_tasks(
    request: BuildRequest, board: Board, config: BuildConfig, folder: BuildFolder
) -> Iterator[BuildTask]:
    """Yield the tasks for ``request`` in order; each is made after the one before has run."""
    from adaqat_hw.compile.backend import backend_named
    from adaqat_hw.compile.bitstream import (
        bitstream_design,
        check_board,
        shell_digest,
        wants_bitstream,
    )
    from adaqat_hw.compile.compile import compile_design
    from adaqat_hw.compile.design import Design
    from adaqat_hw.compile.docker_env import Docker
    from adaqat_hw.compile.environment import Local
    from adaqat_hw.compile.fifos import size_design
    from adaqat_hw.compile.implement import implement_design
    from adaqat_hw.compile.simulate import simulate_design
    from adaqat_hw.compile.synthesize import synthesize_design

    bitstream = wants_bitstream(board, config)
    if bitstream:
        check_board(board, request.clock_ns)
    env = Docker() if config.env == "docker" else Local()
    family = families.load(board.family)
    compiled = {"request": request.digest(), "backend": backend_named(request.backend).digest()}
    yield BuildTask(
        "compile",
        folder,
        {**compiled, "board": board.digest()},  # its totals, which a report reads here
        lambda note: compile_design(request, board, request.variant, folder, note, env),
    )
    if config.goal == "estimate":
        return
    design = Design.read(folder)
    rtl = {**compiled, "rtl": tree_digest(hw_dir() / "rtl", Path(adaqat_hw.rtl.__file__).parent)}
    depth = None if config.size_fifos else request.fifo_depth
    yield BuildTask(
        "fifos",
        folder,
        {**rtl, "sim": tree_digest(hw_dir() / "sim"), "depth": depth},
        lambda note: size_design(design, depth, note),
    )
    rtl["fifos"] = sha256_file(folder.fifos)
    frames = {"frames": config.frames, "stall_frames": config.stall_frames}
    yield BuildTask(
        "simulate",
        folder,
        {**rtl, **frames},
        lambda note: simulate_design(design, config.frames, config.stall_frames, note),
    )
    if config.synthesize:
        yield BuildTask(
            "synthesize",
            folder,
            {**rtl, "family": family.digest(), "whole": config.synthesize_whole},
            lambda note: synthesize_design(
                design, board, request.variant, note, config.synthesize_whole
            ),
        )
    if bitstream:
        pins = shell_digest(family)
        yield BuildTask(
            "bitstream",
            folder,
            {**rtl, "board": board.digest(), "family": family.digest(), "pins": pins},
            lambda note: bitstream_design(design, board, request.variant, note),
        )
    if config.goal in VIVADO_GOALS:
        deploy = tree_digest(hw_dir() / "deploy")
        yield BuildTask(
            "vivado",
            folder,
            {**rtl, "family": family.digest(), "deploy": deploy, "part": board.part},
            lambda note: implement_design(design, board, config.goal, request.variant, env, note),
        )

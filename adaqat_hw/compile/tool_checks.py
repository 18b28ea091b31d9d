"""Check the Vivado version and the board that a goal needs, before a build starts."""

from __future__ import annotations

from pathlib import Path

from adaqat_hw import families
from adaqat_hw.compile.environment import Environment
from adaqat_hw.compile.vivado import require_vivado
from adaqat_hw.compile.vivado_board import require_board
from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import VIVADO_GOALS, Board, Goal


def require_goal(goal: Goal, board: Board, environment: Environment, folder: Path) -> str | None:
    """Return the version of Vivado where ``goal`` needs it, else None.

    Asked before hours of work, so that a goal that cannot be reached is refused at once.

    Raises:
        ConfigError: Vivado does not know the board's family, or the board has no block design.
        ToolNotFound: no Vivado, or a version that is not supported.
    """
    if goal not in VIVADO_GOALS:
        return None
    if families.load(board.family).vivado is None:
        raise ConfigError(
            f"Goal {goal!r} needs Vivado, which does not know board {board.name!r} "
            f"({board.family}); choose --goal rtl."
        )
    if goal == "bitfile":
        require_board(board)
    return require_vivado(environment, folder)

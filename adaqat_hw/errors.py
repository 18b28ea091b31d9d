"""The one exception hierarchy of the package.

Every message is one sentence that names the value, what is allowed and what to do.
``exit_code`` is what the command line returns: 1 a stage failed, 2 bad input,
3 a tool is missing.
"""

from __future__ import annotations

from pathlib import Path


class AdaqatHwError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code = 1


class ConfigError(AdaqatHwError):
    """A configuration, file or argument that the user can correct."""

    exit_code = 2


class ToolNotFound(AdaqatHwError):
    """A program or environment that a stage needs is absent."""

    exit_code = 3


class StageFailed(AdaqatHwError):
    """A stage started and did not finish.

    Args:
        stage: name of the stage, or of a task or step in it, such as ``"build/step_streamline"``.
        reason: the true cause in one sentence.
        log: path of the full log, where there is one.
    """

    def __init__(self, stage: str, reason: str, log: Path | None = None) -> None:
        self.stage = stage
        self.reason = reason
        self.log = log
        where = f" (log: {log})" if log is not None else ""
        super().__init__(f"{stage} failed: {reason}{where}")


class OtherVersion(ConfigError):
    """A record that another release wrote, whose fields mean something else."""


class UnsupportedNetwork(ConfigError):
    """A network that the hardware flow cannot build; lists every offending layer."""


class NotMeasured(ConfigError):
    """A family or a hardware node that the measured cost model does not know."""


class ExportMismatch(AdaqatHwError):
    """The exported graph does not compute what the PyTorch network computes."""


class ReportError(AdaqatHwError):
    """A report file that cannot be read as what it claims to be."""

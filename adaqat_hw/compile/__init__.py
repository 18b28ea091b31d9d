"""Compile QONNX to a design by a backend; simulate, synthesize and package what it made."""

from adaqat_hw.compile.request import FOREIGN, overlay, request_from_artifact, request_from_file
from adaqat_hw.compile.tasks import BuildTask, build_tasks
from adaqat_hw.compile.throughput import fold_request

__all__ = [
    "FOREIGN",
    "BuildTask",
    "build_tasks",
    "fold_request",
    "overlay",
    "request_from_artifact",
    "request_from_file",
]

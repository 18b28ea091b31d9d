"""Build stage: QONNX to hardware graph (FINN), simulated and synthesized RTL."""

from adaqat_hw.compile.request import FOREIGN, overlay, request_from_artifact, request_from_file
from adaqat_hw.compile.stage import BuildStage, build_stages
from adaqat_hw.compile.throughput import fold_request

__all__ = [
    "FOREIGN",
    "BuildStage",
    "build_stages",
    "fold_request",
    "overlay",
    "request_from_artifact",
    "request_from_file",
]

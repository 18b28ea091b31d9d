"""Build stage: QONNX to hardware graph (FINN), simulated and synthesized RTL."""

from adaqat_hw.compile.request import request_from_artifact, request_from_file
from adaqat_hw.compile.stage import BuildStage, build_stages

__all__ = ["BuildStage", "build_stages", "request_from_artifact", "request_from_file"]

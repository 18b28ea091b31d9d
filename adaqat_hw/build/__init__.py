"""Build stage: QONNX to hardware graph (FINN), simulated and synthesized RTL."""

from adaqat_hw.build.request import request_from_artifact, request_from_file
from adaqat_hw.build.stage import BuildStage, build_stages

__all__ = ["BuildStage", "build_stages", "request_from_artifact", "request_from_file"]

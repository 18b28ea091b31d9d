"""Frozen, versioned records: all that crosses a stage or a process boundary.

Imports nothing but the standard library, pydantic and ``adaqat_hw.errors``, so that the FINN
environment can read it too.
"""

from adaqat_hw.schema._base import Record, digest_of, first_fault, sha256_file, write_atomic
from adaqat_hw.schema._stream import IntType, Stream
from adaqat_hw.schema.adaqat import AdaqatConfig, BudgetConfig, FreezeConfig, ProbingConfig
from adaqat_hw.schema.artifact import InputQuant, QonnxArtifact
from adaqat_hw.schema.bitstream import BitstreamResult
from adaqat_hw.schema.board import Board
from adaqat_hw.schema.build import (
    VIVADO_GOALS,
    BuildEnvironment,
    BuildOutput,
    BuildRequest,
    BuildResult,
    Env,
    Goal,
    Power,
    StepRecord,
    Timing,
    VivadoResult,
)
from adaqat_hw.schema.config import (
    GOLDEN_FRAMES,
    THROUGHPUT_KEYS,
    BuildConfig,
    CompareConfig,
    DataConfig,
    NetworkConfig,
    QuantConfig,
    RunConfig,
    TrainConfig,
    load_config,
    parse_config,
)
from adaqat_hw.schema.family import (
    BlockRam,
    CellWeights,
    DspBlock,
    Family,
    MemoryCosts,
    OpenFlow,
    OpenTool,
    PllLimits,
    ProcessingSystem,
    RoutedCell,
    UtilizationRows,
    Workaround,
)
from adaqat_hw.schema.fifos import FifoDepth, FifoSizing
from adaqat_hw.schema.hardware import (
    HardwareGraph,
    HardwareNode,
    HostInterface,
    ImplChoice,
    InputStep,
    MvauImpl,
)
from adaqat_hw.schema.network import LayerKind, LayerSpec, NetworkSpec
from adaqat_hw.schema.plan import BitWidthPlan, JoinBits, LayerBits, parse_bits
from adaqat_hw.schema.resources import (
    ESTIMATES,
    RESOURCE_NAMES,
    LayerResources,
    ResourceReport,
    Resources,
    Source,
    add_resources,
)
from adaqat_hw.schema.simulation import SimulationPass, SimulationResult
from adaqat_hw.schema.throughput import (
    DEFAULT_FILL,
    FoldedBy,
    ThroughputKind,
    ThroughputRequest,
)
from adaqat_hw.schema.training import BudgetResult, FreezeChoice, TrainResult
from adaqat_hw.schema.uniform import UniformWidths
from adaqat_hw.schema.zoo import ZooBill, ZooEntry

__all__ = [
    "DEFAULT_FILL",
    "ESTIMATES",
    "GOLDEN_FRAMES",
    "RESOURCE_NAMES",
    "THROUGHPUT_KEYS",
    "VIVADO_GOALS",
    "AdaqatConfig",
    "BitWidthPlan",
    "BitstreamResult",
    "BlockRam",
    "Board",
    "BudgetConfig",
    "BudgetResult",
    "BuildConfig",
    "BuildEnvironment",
    "BuildOutput",
    "BuildRequest",
    "BuildResult",
    "CellWeights",
    "CompareConfig",
    "DataConfig",
    "DspBlock",
    "Env",
    "Family",
    "FifoDepth",
    "FifoSizing",
    "FoldedBy",
    "FreezeChoice",
    "FreezeConfig",
    "Goal",
    "HardwareGraph",
    "HardwareNode",
    "HostInterface",
    "ImplChoice",
    "InputQuant",
    "InputStep",
    "IntType",
    "JoinBits",
    "LayerBits",
    "LayerKind",
    "LayerResources",
    "LayerSpec",
    "MemoryCosts",
    "MvauImpl",
    "NetworkConfig",
    "NetworkSpec",
    "OpenFlow",
    "OpenTool",
    "PllLimits",
    "Power",
    "ProbingConfig",
    "ProcessingSystem",
    "QonnxArtifact",
    "QuantConfig",
    "Record",
    "ResourceReport",
    "Resources",
    "RoutedCell",
    "RunConfig",
    "SimulationPass",
    "SimulationResult",
    "Source",
    "StepRecord",
    "Stream",
    "ThroughputKind",
    "ThroughputRequest",
    "Timing",
    "TrainConfig",
    "TrainResult",
    "UniformWidths",
    "UtilizationRows",
    "VivadoResult",
    "Workaround",
    "ZooBill",
    "ZooEntry",
    "add_resources",
    "digest_of",
    "first_fault",
    "load_config",
    "parse_bits",
    "parse_config",
    "sha256_file",
    "write_atomic",
]

"""Family: what is common to all devices of one FPGA family; read from ``hw/families``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adaqat_hw.schema._base import Record


class Workaround(Record):
    """A second attempt where Yosys fails with ``symptom`` in its message.

    ``command`` runs before synthesis, ``options`` go to it, ``note`` says in a sentence what was
    done differently.
    """

    symptom: str
    command: str
    options: tuple[str, ...]
    note: str


class SynthesisFlow(Record):
    """How Yosys synthesizes for the family.

    ``command`` is its pass, ``options`` what it always gets, ``stat_options`` what ``stat`` gets.
    ``stubs`` are files of ``hw/synth``: empty modules of the primitives that a design in DSP
    blocks may instantiate.
    """

    command: str
    options: tuple[str, ...] = ()
    stat_options: tuple[str, ...] = ()
    stubs: tuple[str, ...] = ()
    workarounds: tuple[Workaround, ...] = ()


class CellWeights(Record):
    """What one cell of a netlist counts as, by cell type.

    ``lut_memory`` are LUTs used as memory, which count as LUTs; ``bram_18k`` counts 18-kbit
    halves. ``free`` are cells that take nothing that is counted here.
    """

    lut: dict[str, int]
    lut_memory: dict[str, int] = {}
    ff: dict[str, int]
    dsp: dict[str, int]
    bram_18k: dict[str, int]
    uram: dict[str, int] = {}
    free: tuple[str, ...] = ()


class DspBlock(Record):
    """The DSP primitive: a ``wide_bits`` x ``narrow_bits`` multiplier and its accumulator, signed.

    FINN's RTL MVAU puts weights into the wide operand and activations into the narrow one.
    ``finn_refusal`` says why it cannot use the primitive at all (None: it can);
    ``narrow_weights`` that its weights must leave out the most negative value. ``packing`` names
    the rule by which several weights share one block (None: one block a product): ``"lanes"``
    puts them side by side in the wide operand, weight + activation - 1 bits apart.
    """

    primitive: str
    wide_bits: int = Field(gt=0)
    narrow_bits: int = Field(gt=0)
    accumulator_bits: int = Field(gt=0)
    packing: Literal["lanes"] | None = None
    narrow_weights: bool = False
    finn_refusal: str | None = None

    @property
    def datapath(self) -> tuple[int, int, int]:
        """Return the widest activation, weight and accumulator in bits."""
        return self.narrow_bits, self.wide_bits, self.accumulator_bits


class BlockRam(Record):
    """One block RAM of ``bits`` with words of at most ``width`` bits, and its cost in Yosys."""

    primitive: str
    bits: int = Field(gt=0)
    width: int = Field(gt=0)
    cost: float = Field(gt=0)


class DistributedRam(Record):
    """A distributed RAM of ``words`` of one bit with a write and a read port; its cost in Yosys."""

    words: int = Field(gt=0)
    cost: float = Field(gt=0)


class MemoryCosts(Record):
    """What Yosys's ``memory_libmap`` weighs against each other, in its own unit of cost.

    ``distributed`` is sorted by words: a memory takes the first that holds it, or several of the
    last. ``rom_bit_cost`` is the cost of one bit of a ROM in logic.
    """

    block: BlockRam
    distributed: tuple[DistributedRam, ...] = Field(min_length=1)
    rom_bit_cost: float = Field(gt=0)


class PllLimits(Record):
    """Limits of the PLL in MHz; ``divider_max`` is the largest of its dividers."""

    detector_min_mhz: float = Field(gt=0)
    vco_min_mhz: float = Field(gt=0)
    vco_max_mhz: float = Field(gt=0)
    divider_max: int = Field(gt=0)


class OpenTool(Record):
    """A program of the open flow: its name, its executable in the wheel, the environment variable
    that names another one."""

    name: str
    program: str
    variable: str


class RoutedCell(Record):
    """A cell type of nextpnr: in words, and the field of Resources that it is (None: none)."""

    title: str
    counts: Literal["lut", "ff", "dsp", "bram_18k"] | None = None


class OpenFlow(Record):
    """Place and route with nextpnr, and the packing into a bitstream.

    ``wheel`` is the package that brings both programs. ``devices`` maps what a part's name begins
    with to nextpnr's flag; ``example`` is a board's part, package and speed grade for messages.
    ``constraint_option`` and ``config_option`` name the constraint file (with
    ``constraint_suffix``) and the routed configuration. ``shell`` is the folder of ``hw`` with the
    board tops and the serial line.
    """

    wheel: str
    router: OpenTool
    packer: OpenTool
    pack_options: tuple[str, ...] = ()
    constraint_option: str
    constraint_suffix: str
    config_option: str
    devices: dict[str, str] = Field(min_length=1)
    speed_grades: tuple[int, ...] = Field(min_length=1)
    example: tuple[str, str, int]
    cells: dict[str, RoutedCell]
    shell: str


class UtilizationRows(Record):
    """What report_utilization calls things.

    ``logic``, ``memory`` and ``dsp`` are titles of sections, ``lut`` and ``ff`` names of rows;
    ``dsp_columns`` are the names that versions of Vivado give the column of DSP blocks in the
    hierarchical report.
    """

    logic: str
    memory: str
    dsp: str
    lut: str
    ff: str
    dsp_columns: tuple[str, ...] = Field(min_length=1)


class ProcessingSystem(Record):
    """The processor beside the logic, as a block design of Vivado names its IP, rule and pins.

    ``settings`` are the IP's parameters; ``clock_setting`` is the one that takes the frequency of
    ``clock`` in MHz.
    """

    vlnv: str
    rule: str
    preset: str
    clock: str
    reset: str
    control: str
    control_clock: str
    memory: str
    memory_clock: str
    settings: dict[str, int]
    clock_setting: str


class VivadoFlow(Record):
    """What Vivado calls things in this family."""

    utilization: UtilizationRows
    processing_system: ProcessingSystem | None = None


class Family(Record):
    """An FPGA family; ``name`` is its file's name, ``title`` what its vendor calls it.

    ``cost_model`` is a file of ``hw/cost`` (None: not measured). ``finn_part`` is the part that
    FINN's own checks and estimates are made for where it does not know the family's. Place and
    route is ``nextpnr``, ``vivado``, or neither where both are None.
    """

    name: str
    title: str
    vendor: str
    lut_inputs: int = Field(gt=0)
    cost_model: str | None = None
    finn_part: str | None = None
    synthesis: SynthesisFlow
    cells: CellWeights
    dsp: DspBlock
    memory: MemoryCosts
    pll: PllLimits | None = None
    nextpnr: OpenFlow | None = None
    vivado: VivadoFlow | None = None

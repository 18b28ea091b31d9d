// Vector-vector unit: depthwise convolution, weights inside. One beat per cycle.
//
// Input: FINN's depthwise sliding window, per output pixel NF * SF beats; NF = CHANNELS/PE,
// SF = KERNEL/SIMD. Beat nf*SF + sf carries, lowest first, for each of SIMD kernel taps
// sf*SIMD + simd the PE channels nf*PE + pe.
// Output: NF beats per pixel of PE sums, element 0 lowest, modulo 2**ACCU_WIDTH.
// Initiation interval: NF*SF cycles per pixel. See README.md for latency and the weight file.

module adq_vvau #(
    parameter int unsigned PE = 1,
    parameter int unsigned SIMD = 1,
    parameter int unsigned CHANNELS = 1,
    parameter int unsigned KERNEL = 9,
    parameter int unsigned WEIGHT_WIDTH = 4,
    parameter bit WEIGHT_SIGNED = 1'b1,
    parameter int unsigned ACT_WIDTH = 4,
    parameter bit ACT_SIGNED = 1'b0,
    parameter int unsigned ACCU_WIDTH = 16,
    // Products in DSP blocks, by inference, instead of LUTs.
    parameter bit USE_DSP = 1'b0,
    /* verilator lint_off UNUSEDPARAM */
    // Synthesis attribute of the weight memory: "auto", "block" or "logic".
    parameter ROM_STYLE = "auto",
    /* verilator lint_on UNUSEDPARAM */
    parameter INIT_FILE = "",
    localparam int unsigned IN_WIDTH = (PE * SIMD * ACT_WIDTH + 7) / 8 * 8,
    localparam int unsigned OUT_WIDTH = (PE * ACCU_WIDTH + 7) / 8 * 8
) (
    input  logic                 ap_clk,
    input  logic                 ap_rst_n,
    input  logic [IN_WIDTH-1:0]  in0_V_TDATA,
    input  logic                 in0_V_TVALID,
    output logic                 in0_V_TREADY,
    output logic [OUT_WIDTH-1:0] out0_V_TDATA,
    output logic                 out0_V_TVALID,
    input  logic                 out0_V_TREADY
);

  localparam int unsigned SF = KERNEL / SIMD;
  localparam int unsigned STEPS = CHANNELS / PE * SF;
  localparam int unsigned STEP_BITS = (STEPS > 1) ? $clog2(STEPS) : 1;
  localparam int unsigned SF_BITS = (SF > 1) ? $clog2(SF) : 1;
  localparam int unsigned BITS = (WEIGHT_WIDTH <= ACT_WIDTH) ? WEIGHT_WIDTH : ACT_WIDTH;
  localparam int unsigned FOLD_STAGES = (SIMD <= 4) ? 1 : ($clog2(SIMD) + 1) / 2;
  localparam int unsigned BIT_STAGES = (USE_DSP || BITS <= 4) ? 1 : ($clog2(BITS) + 1) / 2;
  localparam int unsigned DOT_STAGES = FOLD_STAGES + BIT_STAGES;  // latency of adq_dot

  if (PE == 0 || SIMD == 0 || CHANNELS % PE != 0 || KERNEL % SIMD != 0) begin : gen_bad_folding
    $error("adq_vvau: PE must divide CHANNELS and SIMD must divide KERNEL");
  end

  // One enable stalls the whole pipeline while a result waits at the output.
  logic en;
  assign en = !out0_V_TVALID || out0_V_TREADY;
  assign in0_V_TREADY = en;

  // ---- place of a beat within the pixel
  logic                 sf_last;
  logic [STEP_BITS-1:0] address;

  if (SF == 1) begin : gen_one_fold
    assign sf_last = 1'b1;
  end else begin : gen_folds
    logic [SF_BITS-1:0] sf;
    assign sf_last = (sf == SF_BITS'(SF - 1));
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) sf <= '0;
      else if (en && in0_V_TVALID) sf <= sf_last ? '0 : sf + 1'b1;
    end
  end

  if (STEPS == 1) begin : gen_one_step
    assign address = '0;
  end else begin : gen_steps
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) address <= '0;
      else if (en && in0_V_TVALID) address <= (address == STEP_BITS'(STEPS - 1)) ? '0 : address + 1'b1;
    end
  end

  // ---- operands
  (* rom_style = ROM_STYLE *)
  logic [PE*SIMD*WEIGHT_WIDTH-1:0]           rom[STEPS];
  logic [PE-1:0][SIMD-1:0][WEIGHT_WIDTH-1:0] weights;
  logic [SIMD-1:0][PE-1:0][ACT_WIDTH-1:0]    acts;

  initial if (INIT_FILE != "") $readmemh(INIT_FILE, rom);

  always_ff @(posedge ap_clk) begin
    if (en) begin
      weights <= rom[address];
      acts    <= in0_V_TDATA[PE*SIMD*ACT_WIDTH-1:0];
    end
  end

  if (IN_WIDTH > PE * SIMD * ACT_WIDTH) begin : gen_padding_in
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[IN_WIDTH-1:PE*SIMD*ACT_WIDTH]};
  end

  // Stage i of valid and last belongs to the data that has passed i + 1 registers.
  logic [DOT_STAGES:0] valid;
  logic [DOT_STAGES:0] last;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) valid <= '0;
    else if (en) valid <= {valid[DOT_STAGES-1:0], in0_V_TVALID};
  end

  always_ff @(posedge ap_clk) begin
    if (en) last <= {last[DOT_STAGES-1:0], sf_last};
  end

  // ---- sums over the kernel
  logic [PE-1:0][ACCU_WIDTH-1:0] accu;
  logic                          restart;  // the next dot product begins a sum

  if (SF == 1) begin : gen_always_restart
    assign restart = 1'b1;
  end else begin : gen_restart
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) restart <= 1'b1;
      else if (en && valid[DOT_STAGES]) restart <= last[DOT_STAGES];
    end
  end

  for (genvar pe = 0; pe < PE; pe++) begin : gen_pe
    logic [SIMD-1:0][ACT_WIDTH-1:0] taps;
    logic [ACCU_WIDTH-1:0]          dot;

    for (genvar s = 0; s < SIMD; s++) begin : gen_tap
      assign taps[s] = acts[s][pe];
    end

    adq_dot #(
        .SIMD(SIMD),
        .WEIGHT_WIDTH(WEIGHT_WIDTH),
        .WEIGHT_SIGNED(WEIGHT_SIGNED),
        .ACT_WIDTH(ACT_WIDTH),
        .ACT_SIGNED(ACT_SIGNED),
        .OUT_WIDTH(ACCU_WIDTH),
        .USE_DSP(USE_DSP)
    ) core (
        .clk(ap_clk),
        .en(en),
        .weights(weights[pe]),
        .acts(taps),
        .dot(dot)
    );

    // Steps that carry nothing must not disturb the sum.
    always_ff @(posedge ap_clk) begin
      if (en && valid[DOT_STAGES]) accu[pe] <= (restart ? '0 : accu[pe]) + dot;
    end
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) out0_V_TVALID <= 1'b0;
    else if (en) out0_V_TVALID <= valid[DOT_STAGES] && last[DOT_STAGES];
  end

  assign out0_V_TDATA = OUT_WIDTH'(accu);

endmodule

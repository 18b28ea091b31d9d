// Matrix-vector unit made of LUTs, weights inside. One (nf, sf) step per cycle.
//
// Input: SF = MW/SIMD beats of SIMD activations per vector, element 0 lowest.
// Output: NF = MH/PE beats of PE dot products, element 0 lowest, modulo 2**ACCU_WIDTH.
// Initiation interval: NF*SF cycles. See README.md for latency and the weight file.
//
// Products are not multiplied one by one: for every bit of the narrower operand the wider
// operands that this bit selects are added over SIMD, and the sums of the bits are added with
// their weights. One LUT then gates and adds two bits, so the cost follows the product of the
// widths, and a 1-bit operand costs gates and adders only.

module adq_mvau_lut #(
    parameter int unsigned PE = 1,
    parameter int unsigned SIMD = 1,
    parameter int unsigned MW = 1,
    parameter int unsigned MH = 1,
    parameter int unsigned WEIGHT_WIDTH = 4,
    parameter bit WEIGHT_SIGNED = 1'b1,
    parameter int unsigned ACT_WIDTH = 4,
    parameter bit ACT_SIGNED = 1'b0,
    parameter int unsigned ACCU_WIDTH = 16,
    /* verilator lint_off UNUSEDPARAM */
    // Says how the output is to be read; it is wrapped to ACCU_WIDTH bits either way.
    parameter bit ACCU_SIGNED = 1'b1,
    // Vectors the replay buffer can hold: 2 takes in a whole vector during another, 1 does not.
    parameter int unsigned BUFFER_VECTORS = 2,
    // Synthesis attribute of the weight memory: "auto", "block" or "logic".
    parameter ROM_STYLE = "auto",
    /* verilator lint_on UNUSEDPARAM */
    parameter INIT_FILE = "",
    localparam int unsigned IN_WIDTH = (SIMD * ACT_WIDTH + 7) / 8 * 8,
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

  localparam int unsigned NF = MH / PE;
  localparam int unsigned SF = MW / SIMD;
  localparam int unsigned STEPS = NF * SF;
  localparam int unsigned STEP_BITS = (STEPS > 1) ? $clog2(STEPS) : 1;
  localparam int unsigned SF_BITS = (SF > 1) ? $clog2(SF) : 1;

  if (PE == 0 || SIMD == 0 || MH % PE != 0 || MW % SIMD != 0) begin : gen_bad_folding
    $error("adq_mvau_lut: PE must divide MH and SIMD must divide MW");
  end

  // One enable stalls the whole pipeline while a result waits at the output.
  logic en;
  assign en = !out0_V_TVALID || out0_V_TREADY;

  // ---- replay: the activations of step (nf, sf), each vector NF times
  logic                            step_valid;
  logic [SIMD-1:0][ACT_WIDTH-1:0]  step_act;
  logic                            sf_last;
  logic [STEP_BITS-1:0]            address;

  if (SF == 1) begin : gen_one_fold
    assign sf_last = 1'b1;
  end else begin : gen_folds
    logic [SF_BITS-1:0] sf;
    assign sf_last = (sf == SF_BITS'(SF - 1));
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) sf <= '0;
      else if (en && step_valid) sf <= sf_last ? '0 : sf + 1'b1;
    end
  end

  if (STEPS == 1) begin : gen_one_step
    assign address = '0;
  end else begin : gen_steps
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) address <= '0;
      else if (en && step_valid) address <= (address == STEP_BITS'(STEPS - 1)) ? '0 : address + 1'b1;
    end
  end

  if (NF == 1) begin : gen_direct
    assign step_valid = in0_V_TVALID;
    assign in0_V_TREADY = en;
    assign step_act = in0_V_TDATA[SIMD*ACT_WIDTH-1:0];
  end else begin : gen_replay
    // A slot is free again once its last replay was read, one cycle later for the writer: with
    // two slots or more that costs no cycle.
    localparam int unsigned DEPTH = (BUFFER_VECTORS * SF < 2) ? 2 : BUFFER_VECTORS * SF;
    localparam int unsigned SLOT_BITS = $clog2(DEPTH);
    localparam int unsigned FILL_BITS = $clog2(DEPTH + 1);
    logic [SIMD*ACT_WIDTH-1:0] slots[DEPTH];
    logic [SLOT_BITS-1:0]      write_slot;
    logic [SLOT_BITS-1:0]      read_slot;
    logic [SLOT_BITS-1:0]      first_slot;  // where the current vector begins
    logic [SLOT_BITS-1:0]      next_slot;
    logic [FILL_BITS-1:0]      fill;        // slots that are not free
    logic [FILL_BITS-1:0]      ahead;       // slots of this vector and later not yet read in this pass
    logic                      final_pass;
    logic                      put;
    logic                      step;

    assign step = en && step_valid;
    assign put = in0_V_TVALID && in0_V_TREADY;
    assign in0_V_TREADY = (fill != FILL_BITS'(DEPTH));
    assign step_valid = (ahead != '0);
    assign step_act = slots[read_slot];
    assign next_slot = (read_slot == SLOT_BITS'(DEPTH - 1)) ? '0 : read_slot + 1'b1;
    assign final_pass = (address >= STEP_BITS'(STEPS - SF));

    always_ff @(posedge ap_clk) begin
      if (put) slots[write_slot] <= in0_V_TDATA[SIMD*ACT_WIDTH-1:0];
    end

    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) begin
        write_slot <= '0;
        read_slot  <= '0;
        first_slot <= '0;
        fill       <= '0;
        ahead      <= '0;
      end else begin
        if (put) write_slot <= (write_slot == SLOT_BITS'(DEPTH - 1)) ? '0 : write_slot + 1'b1;
        if (step) begin
          read_slot <= (sf_last && !final_pass) ? first_slot : next_slot;
          if (final_pass) first_slot <= next_slot;
        end
        fill <= fill + FILL_BITS'(put) - FILL_BITS'(step && final_pass);
        // Going back to the vector's start makes its SF - 1 earlier slots unread again.
        if (step && sf_last && !final_pass) ahead <= ahead + FILL_BITS'(put) + FILL_BITS'(SF - 1);
        else ahead <= ahead + FILL_BITS'(put) - FILL_BITS'(step);
      end
    end
  end

  if (IN_WIDTH > SIMD * ACT_WIDTH) begin : gen_padding_in
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[IN_WIDTH-1:SIMD*ACT_WIDTH]};
  end

  // ---- operands
  (* rom_style = ROM_STYLE *)
  logic [PE*SIMD*WEIGHT_WIDTH-1:0]           rom[STEPS];
  logic [PE-1:0][SIMD-1:0][WEIGHT_WIDTH-1:0] weights;
  logic [SIMD-1:0][ACT_WIDTH-1:0]            acts;

  initial if (INIT_FILE != "") $readmemh(INIT_FILE, rom);

  always_ff @(posedge ap_clk) begin
    if (en) begin
      weights <= rom[address];
      acts    <= step_act;
    end
  end

  // ---- dot products
  localparam bit          SPLIT_WEIGHTS = (WEIGHT_WIDTH <= ACT_WIDTH);
  localparam int unsigned BITS = SPLIT_WEIGHTS ? WEIGHT_WIDTH : ACT_WIDTH;
  localparam int unsigned VALUE_WIDTH = SPLIT_WEIGHTS ? ACT_WIDTH : WEIGHT_WIDTH;
  localparam bit          BITS_SIGNED = SPLIT_WEIGHTS ? WEIGHT_SIGNED : ACT_SIGNED;
  localparam bit          VALUE_SIGNED = SPLIT_WEIGHTS ? ACT_SIGNED : WEIGHT_SIGNED;
  localparam int unsigned LEVELS_PER_STAGE = 2;
  localparam int unsigned FOLD_LEVELS = (SIMD > 1) ? $clog2(SIMD) : 0;
  localparam int unsigned BIT_LEVELS = (BITS > 1) ? $clog2(BITS) : 0;
  localparam int unsigned FOLD_STAGES = (FOLD_LEVELS + LEVELS_PER_STAGE - 1) / LEVELS_PER_STAGE;
  localparam int unsigned BIT_STAGES = (BIT_LEVELS + LEVELS_PER_STAGE - 1) / LEVELS_PER_STAGE;
  localparam int unsigned TREE_STAGES =
      ((FOLD_STAGES == 0) ? 1 : FOLD_STAGES) + ((BIT_STAGES == 0) ? 1 : BIT_STAGES);
  // An unsigned value needs a sign bit before one of its bit sums may be subtracted.
  localparam bit          EXTRA = BITS_SIGNED && !VALUE_SIGNED;
  localparam int unsigned FOLD_WIDTH = VALUE_WIDTH + FOLD_LEVELS;
  localparam int unsigned PART_WIDTH = FOLD_WIDTH + 32'(EXTRA);
  localparam int unsigned DOT_WIDTH = PART_WIDTH + ((1 << BIT_LEVELS) - 1) + BIT_LEVELS
      + ((BITS_SIGNED && BITS == 1) ? 1 : 0);
  localparam bit          DOT_SIGNED = BITS_SIGNED || VALUE_SIGNED;

  // Stage i of valid and last belongs to the data that has passed i + 1 registers.
  logic [TREE_STAGES:0] valid;
  logic [TREE_STAGES:0] last;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) valid <= '0;
    else if (en) valid <= {valid[TREE_STAGES-1:0], step_valid};
  end

  always_ff @(posedge ap_clk) begin
    if (en) last <= {last[TREE_STAGES-1:0], sf_last};
  end

  logic [PE-1:0][ACCU_WIDTH-1:0] accu;
  logic                          restart;  // the next dot product begins a sum

  if (SF == 1) begin : gen_always_restart
    assign restart = 1'b1;
  end else begin : gen_restart
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) restart <= 1'b1;
      else if (en && valid[TREE_STAGES]) restart <= last[TREE_STAGES];
    end
  end

  for (genvar pe = 0; pe < PE; pe++) begin : gen_pe
    logic [BITS-1:0][PART_WIDTH-1:0] part;
    logic [DOT_WIDTH-1:0]            dot;
    logic [ACCU_WIDTH-1:0]           dot_accu;

    for (genvar b = 0; b < BITS; b++) begin : gen_bit
      logic [SIMD-1:0][VALUE_WIDTH-1:0] gated;
      logic [FOLD_WIDTH-1:0]            fold;

      for (genvar s = 0; s < SIMD; s++) begin : gen_gate
        if (SPLIT_WEIGHTS) begin : gen_by_weight
          assign gated[s] = acts[s] & {VALUE_WIDTH{weights[pe][s][b]}};
        end else begin : gen_by_act
          assign gated[s] = weights[pe][s] & {VALUE_WIDTH{acts[s][b]}};
        end
      end

      adq_adder_tree #(
          .N(SIMD),
          .WIDTH(VALUE_WIDTH),
          .SIGNED(VALUE_SIGNED),
          .LEVELS_PER_STAGE(LEVELS_PER_STAGE)
      ) fold_tree (
          .clk(ap_clk),
          .en (en),
          .op (gated),
          .sum(fold)
      );

      if (EXTRA) begin : gen_sign
        assign part[b] = {1'b0, fold};
      end else begin : gen_same
        assign part[b] = fold;
      end
    end

    adq_adder_tree #(
        .N(BITS),
        .WIDTH(PART_WIDTH),
        .SIGNED(DOT_SIGNED),
        .SHIFT(1),
        .LAST_NEGATIVE(BITS_SIGNED),
        .LEVELS_PER_STAGE(LEVELS_PER_STAGE)
    ) bit_tree (
        .clk(ap_clk),
        .en (en),
        .op (part),
        .sum(dot)
    );

    if (DOT_WIDTH >= ACCU_WIDTH) begin : gen_wrap
      assign dot_accu = dot[ACCU_WIDTH-1:0];
      if (DOT_WIDTH > ACCU_WIDTH) begin : gen_dropped
        logic unused;
        assign unused = &{1'b0, dot[DOT_WIDTH-1:ACCU_WIDTH]};
      end
    end else begin : gen_extend
      assign dot_accu = {{(ACCU_WIDTH - DOT_WIDTH) {DOT_SIGNED && dot[DOT_WIDTH-1]}}, dot};
    end

    // Steps that carry nothing must not disturb the sum.
    always_ff @(posedge ap_clk) begin
      if (en && valid[TREE_STAGES]) accu[pe] <= (restart ? '0 : accu[pe]) + dot_accu;
    end
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) out0_V_TVALID <= 1'b0;
    else if (en) out0_V_TVALID <= valid[TREE_STAGES] && last[TREE_STAGES];
  end

  assign out0_V_TDATA = OUT_WIDTH'(accu);

endmodule

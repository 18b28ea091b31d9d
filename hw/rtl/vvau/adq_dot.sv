// Pipelined dot product of SIMD activations with SIMD weights, modulo 2**OUT_WIDTH.
//
// USE_DSP 0: for every bit of the narrower operand the wider operands that this bit selects are
// added over SIMD, and the sums of the bits are added with their weights (see hw/rtl/mvau_lut).
// USE_DSP 1: plain products, which synthesis is asked to put into DSP blocks, and an adder tree.
//
// Latency in enabled cycles, stages(n) = max(1, ceil(clog2(n) / 2)):
// stages(SIMD) + stages(min(WEIGHT_WIDTH, ACT_WIDTH)) with LUTs, 1 + stages(SIMD) with DSPs.
// Data registers have no reset.

module adq_dot #(
    parameter int unsigned SIMD = 1,
    parameter int unsigned WEIGHT_WIDTH = 4,
    parameter bit WEIGHT_SIGNED = 1'b1,
    parameter int unsigned ACT_WIDTH = 4,
    parameter bit ACT_SIGNED = 1'b0,
    parameter int unsigned OUT_WIDTH = 16,
    parameter bit USE_DSP = 1'b0
) (
    input  logic                               clk,
    input  logic                               en,
    input  logic [SIMD-1:0][WEIGHT_WIDTH-1:0]  weights,
    input  logic [SIMD-1:0][ACT_WIDTH-1:0]     acts,
    output logic [OUT_WIDTH-1:0]               dot
);

  localparam bit          SPLIT_WEIGHTS = (WEIGHT_WIDTH <= ACT_WIDTH);
  localparam int unsigned BITS = SPLIT_WEIGHTS ? WEIGHT_WIDTH : ACT_WIDTH;
  localparam int unsigned VALUE_WIDTH = SPLIT_WEIGHTS ? ACT_WIDTH : WEIGHT_WIDTH;
  localparam bit          BITS_SIGNED = SPLIT_WEIGHTS ? WEIGHT_SIGNED : ACT_SIGNED;
  localparam bit          VALUE_SIGNED = SPLIT_WEIGHTS ? ACT_SIGNED : WEIGHT_SIGNED;
  localparam bit          WIDE_SIGNED = WEIGHT_SIGNED || ACT_SIGNED;
  localparam int unsigned FOLD_LEVELS = (SIMD > 1) ? $clog2(SIMD) : 0;
  localparam int unsigned BIT_LEVELS = (BITS > 1) ? $clog2(BITS) : 0;
  localparam int unsigned PRODUCT_WIDTH = WEIGHT_WIDTH + ACT_WIDTH;
  localparam int unsigned FOLD_WIDTH = VALUE_WIDTH + FOLD_LEVELS;
  // An unsigned value needs a sign bit before one of its bit sums may be subtracted.
  localparam int unsigned PART_WIDTH = FOLD_WIDTH + ((BITS_SIGNED && !VALUE_SIGNED) ? 1 : 0);
  localparam int unsigned WIDE_WIDTH = USE_DSP
      ? PRODUCT_WIDTH + FOLD_LEVELS
      : PART_WIDTH + ((1 << BIT_LEVELS) - 1) + BIT_LEVELS + ((BITS_SIGNED && BITS == 1) ? 1 : 0);

  logic [WIDE_WIDTH-1:0] wide;

  if (USE_DSP) begin : gen_dsp
    (* use_dsp = "yes" *)
    logic [SIMD-1:0][PRODUCT_WIDTH-1:0] products;

    for (genvar s = 0; s < SIMD; s++) begin : gen_product
      // One bit more makes each operand a signed number.
      logic signed [WEIGHT_WIDTH:0] w;
      logic signed [ACT_WIDTH:0]    a;
      assign w = {WEIGHT_SIGNED && weights[s][WEIGHT_WIDTH-1], weights[s]};
      assign a = {ACT_SIGNED && acts[s][ACT_WIDTH-1], acts[s]};
      always_ff @(posedge clk) if (en) products[s] <= PRODUCT_WIDTH'(w * a);
    end

    adq_adder_tree #(
        .N(SIMD),
        .WIDTH(PRODUCT_WIDTH),
        .SIGNED(WIDE_SIGNED)
    ) tree (
        .clk(clk),
        .en (en),
        .op (products),
        .sum(wide)
    );
  end else begin : gen_lut
    logic [BITS-1:0][PART_WIDTH-1:0] part;

    for (genvar b = 0; b < BITS; b++) begin : gen_bit
      logic [SIMD-1:0][VALUE_WIDTH-1:0] gated;
      logic [FOLD_WIDTH-1:0]            fold;

      for (genvar s = 0; s < SIMD; s++) begin : gen_gate
        if (SPLIT_WEIGHTS) begin : gen_by_weight
          assign gated[s] = acts[s] & {VALUE_WIDTH{weights[s][b]}};
        end else begin : gen_by_act
          assign gated[s] = weights[s] & {VALUE_WIDTH{acts[s][b]}};
        end
      end

      adq_adder_tree #(
          .N(SIMD),
          .WIDTH(VALUE_WIDTH),
          .SIGNED(VALUE_SIGNED)
      ) fold_tree (
          .clk(clk),
          .en (en),
          .op (gated),
          .sum(fold)
      );

      assign part[b] = PART_WIDTH'(fold);
    end

    adq_adder_tree #(
        .N(BITS),
        .WIDTH(PART_WIDTH),
        .SIGNED(WIDE_SIGNED),
        .SHIFT(1),
        .LAST_NEGATIVE(BITS_SIGNED)
    ) bit_tree (
        .clk(clk),
        .en (en),
        .op (part),
        .sum(wide)
    );
  end

  if (WIDE_WIDTH >= OUT_WIDTH) begin : gen_wrap
    assign dot = wide[OUT_WIDTH-1:0];
    if (WIDE_WIDTH > OUT_WIDTH) begin : gen_dropped
      logic unused;
      assign unused = &{1'b0, wide[WIDE_WIDTH-1:OUT_WIDTH]};
    end
  end else begin : gen_extend
    assign dot = {{(OUT_WIDTH - WIDE_WIDTH) {WIDE_SIGNED && wide[WIDE_WIDTH-1]}}, wide};
  end

endmodule

// Pipelined adder tree with exact widths, for dot products made of LUTs.
//
// Adds N operands: sum over i of op[i] * 2**(SHIFT*i), where op[N-1] counts negative if
// LAST_NEGATIVE. Registers after every LEVELS_PER_STAGE levels and at the end; latency is
// max(1, ceil(clog2(N) / LEVELS_PER_STAGE)) enabled cycles. Data registers have no reset.
// SIGNED is the operands' signedness; LAST_NEGATIVE needs SIGNED operands.

module adq_adder_tree #(
    parameter int unsigned N = 4,
    parameter int unsigned WIDTH = 4,
    parameter bit SIGNED = 1'b1,
    parameter int unsigned SHIFT = 0,
    parameter bit LAST_NEGATIVE = 1'b0,
    parameter int unsigned LEVELS_PER_STAGE = 2,
    localparam int unsigned LEVELS = (N > 1) ? $clog2(N) : 0,
    // Every level adds one carry bit and the weight of its upper operand.
    localparam int unsigned OUT_WIDTH = WIDTH + SHIFT * ((1 << LEVELS) - 1) + LEVELS
        + ((LAST_NEGATIVE && N == 1) ? 1 : 0)
) (
    input  logic                     clk,
    input  logic                     en,
    input  logic [N-1:0][WIDTH-1:0]  op,
    output logic [OUT_WIDTH-1:0]     sum
);

  for (genvar l = 0; l <= LEVELS; l++) begin : gen_level
    localparam int unsigned W = WIDTH + SHIFT * ((1 << l) - 1) + l;
    localparam int unsigned COUNT = (N + (1 << l) - 1) >> l;
    logic [COUNT-1:0][W-1:0] node;

    if (l == 0) begin : gen_leaf
      assign node = op;
    end else begin : gen_sum
      localparam int unsigned PW = WIDTH + SHIFT * ((1 << (l - 1)) - 1) + (l - 1);
      localparam int unsigned PCOUNT = (N + (1 << (l - 1)) - 1) >> (l - 1);
      localparam int unsigned SH = SHIFT << (l - 1);
      // The last operand is still on its own, hence still negative, when it never had a partner.
      localparam bit PENDING = LAST_NEGATIVE && (((N - 1) & ((1 << (l - 1)) - 1)) == 0);
      localparam bit REGISTERED = (l % LEVELS_PER_STAGE == 0) || (l == LEVELS);
      logic [COUNT-1:0][W-1:0] next;

      for (genvar i = 0; i < COUNT; i++) begin : gen_node
        if (2 * i + 1 < PCOUNT) begin : gen_pair
          localparam bit SUBTRACT = PENDING && (2 * i + 2 == PCOUNT);
          localparam int unsigned HW = W - SH;
          logic [PW-1:0] a;
          logic [PW-1:0] b;
          logic [HW-1:0] ax;
          logic [HW-1:0] bx;
          assign a = gen_level[l-1].node[2*i];
          assign b = gen_level[l-1].node[2*i+1];
          if (SH >= PW) begin : gen_apart
            assign ax = {HW{SIGNED && a[PW-1]}};
          end else begin : gen_overlap
            assign ax = {{(HW - PW + SH) {SIGNED && a[PW-1]}}, a[PW-1:SH]};
          end
          assign bx = {{(HW - PW) {SIGNED && b[PW-1]}}, b};
          assign next[i][W-1:SH] = SUBTRACT ? ax - bx : ax + bx;
          if (SH > PW) begin : gen_gap
            assign next[i][SH-1:0] = {{(SH - PW) {SIGNED && a[PW-1]}}, a};
          end else if (SH > 0) begin : gen_low
            assign next[i][SH-1:0] = a[SH-1:0];
          end
        end else begin : gen_odd
          logic [PW-1:0] a;
          assign a = gen_level[l-1].node[2*i];
          assign next[i] = {{(W - PW) {SIGNED && a[PW-1]}}, a};
        end
      end

      if (REGISTERED) begin : gen_register
        always_ff @(posedge clk) if (en) node <= next;
      end else begin : gen_wire
        assign node = next;
      end
    end
  end

  if (LEVELS == 0) begin : gen_single
    if (LAST_NEGATIVE) begin : gen_negative
      logic [OUT_WIDTH-1:0] wide;
      assign wide = {SIGNED && gen_level[0].node[0][WIDTH-1], gen_level[0].node[0]};
      always_ff @(posedge clk) if (en) sum <= -wide;
    end else begin : gen_positive
      always_ff @(posedge clk) if (en) sum <= gen_level[0].node[0];
    end
  end else begin : gen_out
    assign sum = gen_level[LEVELS].node;
  end

endmodule

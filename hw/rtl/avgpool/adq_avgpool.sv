// Sum over K consecutive beats of PE channels each, shifted right by SHIFT; element 0 lowest.
//
// FINN's QuantAvgPool: behind the sliding window generator in depthwise order, which sends the
// K values of a window of PE channels one after the other. The shift rounds towards minus
// infinity; the result is taken modulo 2**OUT_WIDTH, which is exact whenever it fits. With
// SHIFT 0 it is the plain sum. Takes one beat per cycle without bubble; the result is valid the
// cycle after the K-th beat.

module adq_avgpool #(
    parameter int unsigned PE = 1,
    parameter int unsigned IN_WIDTH = 4,
    parameter bit SIGNED = 1'b0,
    parameter int unsigned OUT_WIDTH = 4,
    parameter int unsigned K = 4,
    parameter int unsigned SHIFT = 2,
    localparam int unsigned IN_BUS = (PE * IN_WIDTH + 7) / 8 * 8,
    localparam int unsigned OUT_BUS = (PE * OUT_WIDTH + 7) / 8 * 8
) (
    input  logic               ap_clk,
    input  logic               ap_rst_n,
    input  logic [IN_BUS-1:0]  in0_V_TDATA,
    input  logic               in0_V_TVALID,
    output logic               in0_V_TREADY,
    output logic [OUT_BUS-1:0] out0_V_TDATA,
    output logic               out0_V_TVALID,
    input  logic               out0_V_TREADY
);

  localparam int unsigned COUNT_BITS = (K > 1) ? $clog2(K) : 1;
  localparam int unsigned FULL_WIDTH = IN_WIDTH + ((K > 1) ? $clog2(K) : 0);
  // Bits that neither the shift nor the output can show need not be summed.
  localparam int unsigned WANTED_WIDTH = OUT_WIDTH + SHIFT;
  localparam int unsigned SUM_WIDTH = (FULL_WIDTH < WANTED_WIDTH) ? FULL_WIDTH : WANTED_WIDTH;

  if (SUM_WIDTH < IN_WIDTH || SUM_WIDTH <= SHIFT) begin : gen_bad_width
    $error("adq_avgpool: OUT_WIDTH + SHIFT must not be below IN_WIDTH, SHIFT below the sum's width");
  end

  logic                         first;
  logic                         last;
  logic                         take;
  logic [PE-1:0][IN_WIDTH-1:0]  value;
  logic [PE-1:0][SUM_WIDTH-1:0] sum;
  logic [PE-1:0][SUM_WIDTH-1:0] next;
  logic [PE-1:0][OUT_WIDTH-1:0] shifted;
  logic [PE-1:0][OUT_WIDTH-1:0] result;

  // Only the last beat of a window has to wait for room at the output.
  assign in0_V_TREADY = !last || !out0_V_TVALID || out0_V_TREADY;
  assign take = in0_V_TVALID && in0_V_TREADY;
  assign value = in0_V_TDATA[PE*IN_WIDTH-1:0];

  if (IN_BUS > PE * IN_WIDTH) begin : gen_padding
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[IN_BUS-1:PE*IN_WIDTH]};
  end

  if (K == 1) begin : gen_single
    assign first = 1'b1;
    assign last = 1'b1;
  end else begin : gen_count
    logic [COUNT_BITS-1:0] count;
    assign first = (count == '0);
    assign last = (count == COUNT_BITS'(K - 1));
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) count <= '0;
      else if (take) count <= last ? '0 : count + 1'b1;
    end
  end

  for (genvar pe = 0; pe < PE; pe++) begin : gen_pe
    logic [SUM_WIDTH-1:0] wide;
    assign wide = SIGNED ? SUM_WIDTH'($signed(value[pe])) : SUM_WIDTH'(value[pe]);
    assign next[pe] = (first ? '0 : sum[pe]) + wide;
    assign shifted[pe] = SIGNED ? OUT_WIDTH'($signed(next[pe][SUM_WIDTH-1:SHIFT]))
                                : OUT_WIDTH'(next[pe][SUM_WIDTH-1:SHIFT]);
    if (SHIFT > 0) begin : gen_dropped
      logic unused;
      assign unused = &{1'b0, next[pe][SHIFT-1:0]};
    end
  end

  always_ff @(posedge ap_clk) begin
    if (take) sum <= next;
    if (take && last) result <= shifted;
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) out0_V_TVALID <= 1'b0;
    else if (take && last) out0_V_TVALID <= 1'b1;
    else if (out0_V_TREADY) out0_V_TVALID <= 1'b0;
  end

  assign out0_V_TDATA = OUT_BUS'(result);

endmodule

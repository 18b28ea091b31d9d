// Maximum over K consecutive beats of PE channels each, element 0 lowest.
//
// Stands where FINN has its HLS max pool: behind the sliding window generator in depthwise
// order, which sends the K values of a window of PE channels one after the other. Takes one
// beat per cycle without bubble; the result is valid the cycle after the K-th beat.

module adq_maxpool #(
    parameter int unsigned PE = 1,
    parameter int unsigned WIDTH = 4,
    parameter bit SIGNED = 1'b0,
    parameter int unsigned K = 4,
    localparam int unsigned BUS = (PE * WIDTH + 7) / 8 * 8
) (
    input  logic           ap_clk,
    input  logic           ap_rst_n,
    input  logic [BUS-1:0] in0_V_TDATA,
    input  logic           in0_V_TVALID,
    output logic           in0_V_TREADY,
    output logic [BUS-1:0] out0_V_TDATA,
    output logic           out0_V_TVALID,
    input  logic           out0_V_TREADY
);

  localparam int unsigned COUNT_BITS = (K > 1) ? $clog2(K) : 1;

  logic                        first;
  logic                        last;
  logic                        take;
  logic [PE-1:0][WIDTH-1:0]    value;
  logic [PE-1:0][WIDTH-1:0]    best;
  logic [PE-1:0][WIDTH-1:0]    result;
  logic [PE-1:0][WIDTH-1:0]    winner;

  // Only the last beat of a window has to wait for room at the output.
  assign in0_V_TREADY = !last || !out0_V_TVALID || out0_V_TREADY;
  assign take = in0_V_TVALID && in0_V_TREADY;
  assign value = in0_V_TDATA[PE*WIDTH-1:0];

  if (BUS > PE * WIDTH) begin : gen_padding
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[BUS-1:PE*WIDTH]};
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
    logic greater;
    if (SIGNED) begin : gen_signed
      assign greater = $signed(value[pe]) > $signed(best[pe]);
    end else begin : gen_unsigned
      assign greater = value[pe] > best[pe];
    end
    assign winner[pe] = (first || greater) ? value[pe] : best[pe];
  end

  always_ff @(posedge ap_clk) begin
    if (take) best <= winner;
    if (take && last) result <= winner;
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) out0_V_TVALID <= 1'b0;
    else if (take && last) out0_V_TVALID <= 1'b1;
    else if (out0_V_TREADY) out0_V_TVALID <= 1'b0;
  end

  assign out0_V_TDATA = BUS'(result);

endmodule

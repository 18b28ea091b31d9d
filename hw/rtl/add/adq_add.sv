// Adds two streams of PE integers per beat, which may differ in type; element 0 lowest.
//
// Each input has a register of its own: an operand is taken whether or not the other is there,
// and no TREADY depends on a TVALID. The sum is taken modulo 2**OUT_WIDTH, which is exact
// whenever the result fits. One beat per cycle.

module adq_add #(
    parameter int unsigned PE = 1,
    parameter int unsigned IN0_WIDTH = 4,
    parameter bit IN0_SIGNED = 1'b0,
    parameter int unsigned IN1_WIDTH = 4,
    parameter bit IN1_SIGNED = 1'b0,
    parameter int unsigned OUT_WIDTH = 5,
    localparam int unsigned IN0_BUS = (PE * IN0_WIDTH + 7) / 8 * 8,
    localparam int unsigned IN1_BUS = (PE * IN1_WIDTH + 7) / 8 * 8,
    localparam int unsigned OUT_BUS = (PE * OUT_WIDTH + 7) / 8 * 8
) (
    input  logic               ap_clk,
    input  logic               ap_rst_n,
    input  logic [IN0_BUS-1:0] in0_V_TDATA,
    input  logic               in0_V_TVALID,
    output logic               in0_V_TREADY,
    input  logic [IN1_BUS-1:0] in1_V_TDATA,
    input  logic               in1_V_TVALID,
    output logic               in1_V_TREADY,
    output logic [OUT_BUS-1:0] out0_V_TDATA,
    output logic               out0_V_TVALID,
    input  logic               out0_V_TREADY
);

  if (OUT_WIDTH < IN0_WIDTH || OUT_WIDTH < IN1_WIDTH) begin : gen_bad_width
    $error("adq_add: OUT_WIDTH must not be below IN0_WIDTH or IN1_WIDTH");
  end

  logic [1:0]                   full;
  logic [1:0]                   take;
  logic                         give;
  logic [PE-1:0][IN0_WIDTH-1:0] a;
  logic [PE-1:0][IN1_WIDTH-1:0] b;
  logic [PE-1:0][OUT_WIDTH-1:0] sum;

  assign out0_V_TVALID = &full;
  assign give = out0_V_TVALID && out0_V_TREADY;
  assign in0_V_TREADY = !full[0] || give;
  assign in1_V_TREADY = !full[1] || give;
  assign take = {in1_V_TVALID && in1_V_TREADY, in0_V_TVALID && in0_V_TREADY};

  if (IN0_BUS > PE * IN0_WIDTH) begin : gen_padding0
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[IN0_BUS-1:PE*IN0_WIDTH]};
  end
  if (IN1_BUS > PE * IN1_WIDTH) begin : gen_padding1
    logic unused;
    assign unused = &{1'b0, in1_V_TDATA[IN1_BUS-1:PE*IN1_WIDTH]};
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) full <= '0;
    else full <= take | (full & ~{2{give}});
  end

  always_ff @(posedge ap_clk) begin
    if (take[0]) a <= in0_V_TDATA[PE*IN0_WIDTH-1:0];
    if (take[1]) b <= in1_V_TDATA[PE*IN1_WIDTH-1:0];
  end

  for (genvar pe = 0; pe < PE; pe++) begin : gen_pe
    logic [OUT_WIDTH-1:0] ax;
    logic [OUT_WIDTH-1:0] bx;
    assign ax = IN0_SIGNED ? OUT_WIDTH'($signed(a[pe])) : OUT_WIDTH'(a[pe]);
    assign bx = IN1_SIGNED ? OUT_WIDTH'($signed(b[pe])) : OUT_WIDTH'(b[pe]);
    assign sum[pe] = ax + bx;
  end

  assign out0_V_TDATA = OUT_BUS'(sum);

endmodule

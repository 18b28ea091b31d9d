// Sends every beat of one stream to OUTPUTS streams, element 0 lowest.
//
// All outputs share one data register; each has a pending bit of its own, so a consumer takes
// its copy when it is ready, whatever the others do. The next beat is taken when every copy of
// the current one has gone or goes: one beat per cycle as long as all consumers keep up.

module adq_duplicate #(
    parameter int unsigned PE = 1,
    parameter int unsigned WIDTH = 4,
    parameter int unsigned OUTPUTS = 2,
    localparam int unsigned BUS = (PE * WIDTH + 7) / 8 * 8
) (
    input  logic               ap_clk,
    input  logic               ap_rst_n,
    input  logic [BUS-1:0]     in0_V_TDATA,
    input  logic               in0_V_TVALID,
    output logic               in0_V_TREADY,
    output logic [BUS-1:0]     out_V_TDATA,
    output logic [OUTPUTS-1:0] out_V_TVALID,
    input  logic [OUTPUTS-1:0] out_V_TREADY
);

  logic                take;
  logic [OUTPUTS-1:0]  pending;
  logic [PE*WIDTH-1:0] value;

  assign in0_V_TREADY = &(~pending | out_V_TREADY);
  assign take = in0_V_TVALID && in0_V_TREADY;

  if (BUS > PE * WIDTH) begin : gen_padding
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[BUS-1:PE*WIDTH]};
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) pending <= '0;
    else if (take) pending <= '1;
    else pending <= pending & ~out_V_TREADY;
  end

  always_ff @(posedge ap_clk) if (take) value <= in0_V_TDATA[PE*WIDTH-1:0];

  assign out_V_TVALID = pending;
  assign out_V_TDATA = BUS'(value);

endmodule

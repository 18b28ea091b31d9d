// Several 64-bit DMA words to one word of the accelerator, lowest first. Plain Verilog, because
// Vivado's IP integrator takes nothing else as the top of an IP.
`default_nettype none
module adq_words_in #(
    parameter integer WIDTH = 8,       // bits of the accelerator's stream
    parameter integer DMA = 64,
    parameter integer COUNT = (WIDTH + DMA - 1) / DMA
) (
    input  wire             ap_clk,
    input  wire             ap_rst_n,
    input  wire [DMA-1:0]   in0_V_TDATA,
    input  wire             in0_V_TVALID,
    output wire             in0_V_TREADY,
    output wire [WIDTH-1:0] out0_V_TDATA,
    output wire             out0_V_TVALID,
    input  wire             out0_V_TREADY
);
  reg [COUNT*DMA-1:0] word;
  reg [31:0] filled;
  wire [(COUNT+1)*DMA-1:0] shifted = {in0_V_TDATA, word};
  wire full = filled == COUNT;
  wire take = in0_V_TVALID && in0_V_TREADY;

  assign in0_V_TREADY  = !full || out0_V_TREADY;
  assign out0_V_TVALID = full;
  assign out0_V_TDATA  = word[WIDTH-1:0];

  always @(posedge ap_clk) begin
    if (take) word <= shifted[(COUNT+1)*DMA-1:DMA];
    if (!ap_rst_n) filled <= 0;
    else if (full && out0_V_TREADY) filled <= take ? 1 : 0;
    else if (take) filled <= filled + 1;
  end
endmodule
`default_nettype wire

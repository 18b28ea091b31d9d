// One word of the accelerator to several 64-bit DMA words, lowest first, the last one filled up
// with zeros; TLAST ends every frame of BEATS words. Plain Verilog for Vivado's IP integrator.
`default_nettype none
module adq_words_out #(
    parameter integer WIDTH = 8,       // bits of the accelerator's stream
    parameter integer BEATS = 1,       // its words per frame
    parameter integer DMA = 64,
    parameter integer COUNT = (WIDTH + DMA - 1) / DMA
) (
    input  wire             ap_clk,
    input  wire             ap_rst_n,
    input  wire [WIDTH-1:0] in0_V_TDATA,
    input  wire             in0_V_TVALID,
    output wire             in0_V_TREADY,
    output wire [DMA-1:0]   out0_V_TDATA,
    output wire             out0_V_TVALID,
    output wire             out0_V_TLAST,
    input  wire             out0_V_TREADY
);
  reg [COUNT*DMA-1:0] word;
  reg [31:0] left;                     // DMA words that still wait
  reg [31:0] beat;                     // of the frame, that of the word that waits
  wire [(COUNT+1)*DMA-1:0] shifted = {{DMA{1'b0}}, word};
  wire give = out0_V_TVALID && out0_V_TREADY;
  wire take = in0_V_TVALID && in0_V_TREADY;

  assign in0_V_TREADY  = left == 0 || (left == 1 && out0_V_TREADY);
  assign out0_V_TVALID = left != 0;
  assign out0_V_TDATA  = word[DMA-1:0];
  assign out0_V_TLAST  = left == 1 && beat == BEATS - 1;

  always @(posedge ap_clk) begin
    if (take) begin
      word <= 0;
      word[WIDTH-1:0] <= in0_V_TDATA;
    end else if (give) word <= shifted[(COUNT+1)*DMA-1:DMA];
    if (!ap_rst_n) begin
      left <= 0;
      beat <= 0;
    end else begin
      if (take) left <= COUNT;
      else if (give) left <= left - 1;
      if (give && left == 1) beat <= beat == BEATS - 1 ? 0 : beat + 1;
    end
  end
endmodule
`default_nettype wire

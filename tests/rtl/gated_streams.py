"""Verilog of streams that wait at random, to give every port of a layer a life of its own."""

GATES = """
// Lets a stream through, closed CLOSED of 16 cycles.
module gate #(parameter int W = 8, parameter int CLOSED = 0, parameter int SEED = 1) (
  input logic clk, input logic rst_n,
  input logic [W-1:0] id, input logic iv, output logic ir,
  output logic [W-1:0] od, output logic ov, input logic ordy);
  logic [15:0] lfsr; logic held;
  always_ff @(posedge clk)
    if (!rst_n) begin lfsr <= 16'(SEED); held <= 0; end
    else begin
      lfsr <= {lfsr[14:0], lfsr[15] ^ lfsr[13] ^ lfsr[12] ^ lfsr[10]};
      held <= ov && !ordy;
    end
  assign ov = iv && (held || int'(lfsr[3:0]) >= CLOSED);
  assign ir = ordy && ov;
  assign od = id;
endmodule

module fifo #(parameter int W = 8, parameter int DEPTH = 4) (
  input logic clk, input logic rst_n,
  input logic [W-1:0] id, input logic iv, output logic ir,
  output logic [W-1:0] od, output logic ov, input logic ordy);
  logic [W-1:0] slots [DEPTH]; int put, get, fill;
  assign ir = fill < DEPTH; assign ov = fill > 0; assign od = slots[get];
  always_ff @(posedge clk)
    if (!rst_n) begin put <= 0; get <= 0; fill <= 0; end
    else begin
      if (iv && ir) begin slots[put] <= id; put <= (put + 1) % DEPTH; end
      if (ov && ordy) get <= (get + 1) % DEPTH;
      fill <= fill + int'(iv && ir) - int'(ov && ordy);
    end
endmodule
"""

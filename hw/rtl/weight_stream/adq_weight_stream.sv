// Read-only weight streamer: sends the DEPTH words of INIT_FILE round and round.
//
// Stands where FINN has a writable weight memory with a configuration port, for weights that
// are fixed when the accelerator is built. One word per cycle, the first in the cycle after
// reset.

module adq_weight_stream #(
    parameter int unsigned DEPTH = 2,
    parameter int unsigned WIDTH = 8,
    /* verilator lint_off UNUSEDPARAM */
    // Synthesis attribute of the memory: "auto", "block" or "logic".
    parameter ROM_STYLE = "auto",
    /* verilator lint_on UNUSEDPARAM */
    parameter INIT_FILE = "",
    localparam int unsigned BUS = (WIDTH + 7) / 8 * 8
) (
    input  logic           ap_clk,
    input  logic           ap_rst_n,
    output logic [BUS-1:0] out0_V_TDATA,
    output logic           out0_V_TVALID,
    input  logic           out0_V_TREADY
);

  localparam int unsigned ADDRESS_BITS = (DEPTH > 1) ? $clog2(DEPTH) : 1;

  (* rom_style = ROM_STYLE *)
  logic [WIDTH-1:0]        rom[DEPTH];
  logic [WIDTH-1:0]        word;
  logic [ADDRESS_BITS-1:0] address;
  logic                    advance;

  initial if (INIT_FILE != "") $readmemh(INIT_FILE, rom);

  assign advance = !out0_V_TVALID || out0_V_TREADY;

  if (DEPTH == 1) begin : gen_constant
    assign address = '0;
  end else begin : gen_count
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) address <= '0;
      else if (advance) address <= (address == ADDRESS_BITS'(DEPTH - 1)) ? '0 : address + 1'b1;
    end
  end

  always_ff @(posedge ap_clk) if (advance) word <= rom[address];

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) out0_V_TVALID <= 1'b0;
    else if (advance) out0_V_TVALID <= 1'b1;
  end

  assign out0_V_TDATA = BUS'(word);

endmodule

// First-in first-out queue of DEPTH beats on an AXI stream.
//
// Holds exactly DEPTH beats, passes one per cycle, and a beat taken in one cycle is offered in
// the next. TREADY and TVALID come from registers, so no path leads through. All storage styles
// behave alike cycle by cycle, which lets the depths be sized on one simulation model: with the
// macro ADQ_FIFO_PROBE (simulation only) hw/sim/adq_fifo_probe.sv takes the place of the storage.

module adq_fifo #(
    parameter int unsigned DEPTH = 2,
    // Bits of the beat without its padding.
    parameter int unsigned WIDTH = 8,
    // Beats from which block RAM is used, and the bits that make it worth while.
    parameter int unsigned BLOCK_DEPTH = 257,
    parameter int unsigned BLOCK_BITS = 4096,
    /* verilator lint_off UNUSEDPARAM */
    // Number of this queue, for the simulation model only.
    parameter int unsigned INDEX = 0,
    /* verilator lint_on UNUSEDPARAM */
    localparam int unsigned BUS = (WIDTH + 7) / 8 * 8
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

  logic [WIDTH-1:0] beat;  // at the output

  assign out0_V_TDATA = BUS'(beat);

  if (BUS > WIDTH) begin : gen_padding
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[BUS-1:WIDTH]};
  end

`ifdef ADQ_FIFO_PROBE
  assign beat = '0;

  adq_fifo_probe #(
      .INDEX(INDEX)
  ) probe (
      .ap_clk,
      .ap_rst_n,
      .in_valid(in0_V_TVALID),
      .in_ready(in0_V_TREADY),
      .out_valid(out0_V_TVALID),
      .out_ready(out0_V_TREADY)
  );
`else
  localparam int unsigned COUNT_BITS = $clog2(DEPTH + 1);

  logic [COUNT_BITS-1:0] count;
  logic                  take;
  logic                  give;

  initial if (DEPTH < 2) $error("DEPTH must be 2 or more");

  assign take = in0_V_TVALID && in0_V_TREADY;
  assign give = out0_V_TVALID && out0_V_TREADY;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      count <= '0;
      in0_V_TREADY <= 1'b0;
      out0_V_TVALID <= 1'b0;
    end else begin
      if (take && !give) count <= count + 1'b1;
      else if (give && !take) count <= count - 1'b1;
      in0_V_TREADY <= give || count < COUNT_BITS'(DEPTH - 1) || (!take && count != COUNT_BITS'(DEPTH));
      out0_V_TVALID <= take || count > COUNT_BITS'(1) || (!give && count != '0);
    end
  end

  if (DEPTH < BLOCK_DEPTH || DEPTH * WIDTH < BLOCK_BITS) begin : gen_distributed
    // The oldest beat is in a register, the others are in a memory of asynchronous read.
    localparam int unsigned WORDS = DEPTH - 1;
    localparam int unsigned ADDRESS_BITS = (WORDS > 1) ? $clog2(WORDS) : 1;

    logic [ADDRESS_BITS-1:0] from;
    logic [ADDRESS_BITS-1:0] to;
    logic [WIDTH-1:0]        stored;
    logic                    load;   // the register takes a beat
    logic                    queue;  // the memory holds one
    logic                    push;
    logic                    pop;

    assign load = !out0_V_TVALID || out0_V_TREADY;
    assign queue = count > COUNT_BITS'(1);
    assign push = take && (!load || queue);
    assign pop = load && queue;

    always_ff @(posedge ap_clk) if (load) beat <= queue ? stored : in0_V_TDATA[WIDTH-1:0];

    if (WORDS == 1) begin : gen_register
      assign from = '0;
      assign to = '0;
      always_ff @(posedge ap_clk) if (push) stored <= in0_V_TDATA[WIDTH-1:0];
      logic unused;
      assign unused = &{1'b0, pop, from, to};
    end else begin : gen_memory
      (* ram_style = "distributed" *)
      logic [WIDTH-1:0] memory[WORDS];
      assign stored = memory[from];
      always_ff @(posedge ap_clk) if (push) memory[to] <= in0_V_TDATA[WIDTH-1:0];
      always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
          from <= '0;
          to <= '0;
        end else begin
          if (push) to <= (to == ADDRESS_BITS'(WORDS - 1)) ? '0 : to + 1'b1;
          if (pop) from <= (from == ADDRESS_BITS'(WORDS - 1)) ? '0 : from + 1'b1;
        end
      end
    end
  end else begin : gen_block
    // The memory's registered output is the oldest beat, but for a beat just written there.
    localparam int unsigned ADDRESS_BITS = $clog2(DEPTH);

    (* ram_style = "block" *)
    logic [WIDTH-1:0]        memory[DEPTH];
    logic [ADDRESS_BITS-1:0] from;
    logic [ADDRESS_BITS-1:0] next;
    logic [ADDRESS_BITS-1:0] to;
    logic [WIDTH-1:0]        stored;
    logic [WIDTH-1:0]        fresh;
    logic                    forward;

    always_comb begin
      next = from;
      if (give) next = (from == ADDRESS_BITS'(DEPTH - 1)) ? '0 : from + 1'b1;
    end
    assign beat = forward ? fresh : stored;

    always_ff @(posedge ap_clk) begin
      if (take) memory[to] <= in0_V_TDATA[WIDTH-1:0];
      stored <= memory[next];
    end
    always_ff @(posedge ap_clk) begin
      fresh <= in0_V_TDATA[WIDTH-1:0];
      forward <= take && to == next;
      if (!ap_rst_n) begin
        from <= '0;
        to <= '0;
      end else begin
        from <= next;
        if (take) to <= (to == ADDRESS_BITS'(DEPTH - 1)) ? '0 : to + 1'b1;
      end
    end
  end
`endif

endmodule

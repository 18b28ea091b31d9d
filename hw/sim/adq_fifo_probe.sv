// Simulation model of adq_fifo whose depth is set at run time, with counters for sizing.
//
// Never synthesized. hw/sim/fifo_driver.cpp writes `limit` and reads the rest; one entry per
// queue, by INDEX. Cycle by cycle the same as an adq_fifo of DEPTH = limit, but for the data: no
// layer's control depends on data, so none is kept, and Verilator drops much of the arithmetic
// whose results nobody reads (hw/sim/README.md).

package adq_fifo_probe_pkg;
  localparam int unsigned FIFOS = `ADQ_FIFO_PROBE;

  int unsigned limit[FIFOS]  /*verilator public_flat_rw*/;    // depth
  int unsigned most[FIFOS]  /*verilator public_flat_rw*/;     // maximum of beats held
  int unsigned blocked[FIFOS]  /*verilator public_flat_rw*/;  // cycles: a beat waits, no room
  int unsigned starved[FIFOS]  /*verilator public_flat_rw*/;  // cycles: consumer waits, no beat
  int unsigned held[FIFOS]  /*verilator public_flat_rw*/;     // beats held
  // In the last cycle: bit 0 a beat waits at the input, bit 1 the consumer waits for one.
  int unsigned waits[FIFOS]  /*verilator public_flat_rw*/;
  int unsigned moved  /*verilator public_flat_rw*/;           // set whenever any beat moves
endpackage

module adq_fifo_probe #(
    parameter int unsigned INDEX = 0
) (
    input  logic ap_clk,
    input  logic ap_rst_n,
    input  logic in_valid,
    output logic in_ready,
    output logic out_valid,
    input  logic out_ready
);

  import adq_fifo_probe_pkg::*;

  int unsigned count;

  always @(posedge ap_clk) begin
    automatic int unsigned now = count;
    if (!ap_rst_n) begin
      count <= 0;
      in_ready <= 1'b0;
      out_valid <= 1'b0;
    end else begin
      if (in_valid && in_ready) begin
        now = now + 1;
        moved = 1;
      end
      if (out_valid && out_ready) begin
        now = now - 1;
        moved = 1;
      end
      if (now > most[INDEX]) most[INDEX] = now;
      if (in_valid && !in_ready) blocked[INDEX] = blocked[INDEX] + 1;
      if (out_ready && !out_valid) starved[INDEX] = starved[INDEX] + 1;
      held[INDEX] = now;
      waits[INDEX] = {30'b0, out_ready && !out_valid, in_valid && !in_ready};
      count <= now;
      in_ready <= now < limit[INDEX];
      out_valid <= now != 0;
    end
  end

endmodule

// Receiver of an asynchronous serial line: 8 data bits, no parity, 1 stop bit, lowest bit first.
//
// `valid` is up for one cycle per byte. A byte without its stop bit is dropped. `line_break` is up
// while the line has been low for two characters or longer.

module adq_uart_rx #(
    parameter int unsigned CLOCKS_PER_BIT = 25
) (
    input  logic       ap_clk,
    input  logic       ap_rst_n,
    input  logic       line,
    output logic [7:0] data,
    output logic       valid,
    output logic       line_break
);

  localparam int unsigned BREAK_CLOCKS = 20 * CLOCKS_PER_BIT;
  localparam int unsigned BITS = $clog2(CLOCKS_PER_BIT);
  localparam int unsigned BREAK_BITS = $clog2(BREAK_CLOCKS + 1);

  logic [2:0]            sync;  // two flip-flops against metastability, one for the edge
  logic                  active;
  logic [BITS-1:0]       timer;
  logic [3:0]            index;
  logic [BREAK_BITS-1:0] low;

  assign line_break = (low == BREAK_BITS'(BREAK_CLOCKS));

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) sync <= '1;
    else sync <= {sync[1:0], line};
  end

  always_ff @(posedge ap_clk) begin
    valid <= 1'b0;
    if (!ap_rst_n) begin
      active <= 1'b0;
    end else if (!active) begin
      active <= sync[2] && !sync[1];
      timer <= BITS'(CLOCKS_PER_BIT / 2 - 1);
      index <= '0;
    end else if (timer != '0) begin
      timer <= timer - 1'b1;
    end else begin
      timer <= BITS'(CLOCKS_PER_BIT - 1);
      index <= index + 1'b1;
      if (index == 4'd0) begin
        active <= !sync[1];
      end else if (index == 4'd9) begin
        active <= 1'b0;
        valid <= sync[1];
      end else begin
        data <= {sync[1], data[7:1]};
      end
    end
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n || sync[1]) low <= '0;
    else if (!line_break) low <= low + 1'b1;
  end

endmodule

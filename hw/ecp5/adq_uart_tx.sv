// Sender of an asynchronous serial line: 8 data bits, no parity, 1 stop bit, lowest bit first.

module adq_uart_tx #(
    parameter int unsigned CLOCKS_PER_BIT = 25
) (
    input  logic       ap_clk,
    input  logic       ap_rst_n,
    input  logic [7:0] in0_V_TDATA,
    input  logic       in0_V_TVALID,
    output logic       in0_V_TREADY,
    output logic       line
);

  localparam int unsigned BITS = $clog2(CLOCKS_PER_BIT);

  logic [8:0]      shift;  // the bit on the line lowest
  logic [3:0]      left;
  logic [BITS-1:0] timer;

  assign in0_V_TREADY = (left == '0);
  assign line = shift[0];

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      shift <= '1;
      left <= '0;
      timer <= '0;
    end else if (left == '0) begin
      if (in0_V_TVALID) begin
        shift <= {in0_V_TDATA, 1'b0};
        left <= 4'd10;
        timer <= BITS'(CLOCKS_PER_BIT - 1);
      end
    end else if (timer != '0) begin
      timer <= timer - 1'b1;
    end else begin
      shift <= {1'b1, shift[8:1]};
      left <= left - 1'b1;
      timer <= BITS'(CLOCKS_PER_BIT - 1);
    end
  end

endmodule

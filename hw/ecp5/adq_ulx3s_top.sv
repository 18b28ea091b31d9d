// ULX3S: the accelerator behind the serial line of the board's FTDI chip (connector US1).
//
// `clk_25mhz` is the oscillator; `reset_n` the button PWR (B0, low when pressed). `ftdi_txd` is
// what the FTDI chip sends, `ftdi_rxd` what it receives. LED 0: out of reset, LED 1: busy.

module adq_ulx3s_top #(
    parameter int unsigned CLOCKS_PER_BIT = 25,
    parameter int unsigned IN_WIDTH = 8,
    parameter int unsigned IN_BEATS = 1,
    parameter int unsigned OUT_WIDTH = 8,
    parameter int unsigned OUT_BEATS = 1,
    parameter int unsigned IDENTITY_HIGH = 0,
    parameter int unsigned IDENTITY_LOW = 0,
    parameter int unsigned OP_DIV = 0,
    parameter int unsigned OS_DIV = 1
) (
    input  logic       clk_25mhz,
    input  logic       reset_n,
    input  logic       ftdi_txd,
    output logic       ftdi_rxd,
    output logic       wifi_gpio0,
    output logic [1:0] led
);

  logic                 clock;
  logic                 locked;
  logic                 rst_n;
  logic                 core_rst_n;
  logic [IN_WIDTH-1:0]  frame_TDATA;
  logic                 frame_TVALID;
  logic                 frame_TREADY;
  logic [OUT_WIDTH-1:0] result_TDATA;
  logic                 result_TVALID;
  logic                 result_TREADY;

  adq_ecp5_clock #(.OP_DIV(OP_DIV), .OS_DIV(OS_DIV)) clock_source (
      .oscillator(clk_25mhz), .clock, .locked
  );

  // Starts at 0 when the bitstream is loaded, and when the button is pressed. The bitstream sets
  // initial values, and nothing else resets these.
  // verilator lint_off PROCASSINIT
  logic [7:0] wait_on = '0;
  logic [1:0] button = '0;
  // verilator lint_on PROCASSINIT
  always_ff @(posedge clock) begin
    button <= {button[0], reset_n && locked};
    if (!button[1]) wait_on <= '0;
    else if (wait_on != '1) wait_on <= wait_on + 1'b1;
    rst_n <= (wait_on == '1);
  end

  adq_serial_shell #(
      .CLOCKS_PER_BIT(CLOCKS_PER_BIT),
      .IN_WIDTH(IN_WIDTH),
      .IN_BEATS(IN_BEATS),
      .OUT_WIDTH(OUT_WIDTH),
      .OUT_BEATS(OUT_BEATS),
      .IDENTITY_HIGH(IDENTITY_HIGH),
      .IDENTITY_LOW(IDENTITY_LOW)
  ) shell (
      .ap_clk(clock),
      .ap_rst_n(rst_n),
      .rx(ftdi_txd),
      .tx(ftdi_rxd),
      .busy(led[1]),
      .core_rst_n,
      .out0_V_TDATA(frame_TDATA),
      .out0_V_TVALID(frame_TVALID),
      .out0_V_TREADY(frame_TREADY),
      .in0_V_TDATA(result_TDATA),
      .in0_V_TVALID(result_TVALID),
      .in0_V_TREADY(result_TREADY)
  );

  accelerator core (
      .ap_clk(clock),
      .ap_rst_n(core_rst_n),
      .in0_V_TDATA(frame_TDATA),
      .in0_V_TVALID(frame_TVALID),
      .in0_V_TREADY(frame_TREADY),
      .out0_V_TDATA(result_TDATA),
      .out0_V_TVALID(result_TVALID),
      .out0_V_TREADY(result_TREADY)
  );

  assign led[0] = core_rst_n;
  assign wifi_gpio0 = 1'b1;  // low would restart the board's ESP32, which then takes the FPGA

endmodule

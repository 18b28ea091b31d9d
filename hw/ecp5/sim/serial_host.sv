// Simulation only: the host at the other end of the serial line, driven by hw/sim's stream driver.
//
// Each input word is one thing to do on the line: bits 7:0 a byte to send; bit 8: wait first until
// the device has answered, as long as its first byte says; bit 9: a break of 30 bit times instead
// of the byte. The output stream is what the device sent. Written without the RTL's own
// sender and receiver, so that a bit order or a timing wrong in both would show.

module serial_host #(
    parameter int unsigned CLOCKS_PER_BIT = 25,
    parameter int unsigned IN_WIDTH = 8,
    parameter int unsigned IN_BEATS = 1,
    parameter int unsigned OUT_WIDTH = 8,
    parameter int unsigned OUT_BEATS = 1,
    parameter int unsigned IDENTITY_HIGH = 0,
    parameter int unsigned IDENTITY_LOW = 0
) (
    input  logic        ap_clk,
    input  logic        ap_rst_n,
    input  logic [15:0] in0_V_TDATA,
    input  logic        in0_V_TVALID,
    output logic        in0_V_TREADY,
    output logic [7:0]  out0_V_TDATA,
    output logic        out0_V_TVALID,
    input  logic        out0_V_TREADY
);

  localparam int unsigned QUIET = 30;
  localparam int unsigned RESULT_BYTES = OUT_WIDTH / 8 * OUT_BEATS;

  logic to_device, from_device, device_led, device_wifi, device_busy;
  logic unused;
  assign unused = &{1'b0, in0_V_TDATA[15:10], out0_V_TREADY, device_led, device_wifi, device_busy};

  adq_ulx3s_top #(
      .CLOCKS_PER_BIT(CLOCKS_PER_BIT), .IN_WIDTH(IN_WIDTH), .IN_BEATS(IN_BEATS),
      .OUT_WIDTH(OUT_WIDTH), .OUT_BEATS(OUT_BEATS), .IDENTITY_HIGH(IDENTITY_HIGH),
      .IDENTITY_LOW(IDENTITY_LOW)
  ) board (
      .clk_25mhz(ap_clk), .reset_n(ap_rst_n), .ftdi_txd(to_device), .ftdi_rxd(from_device),
      .wifi_gpio0(device_wifi), .led({device_busy, device_led})
  );

  // ---- sending: the line's level is a function of the clocks since the byte began
  int unsigned since;      // clocks since the present thing began
  int unsigned bits;       // bit times it takes
  int unsigned settled;    // clocks since reset
  int unsigned place;
  logic sending, breaking;
  logic [7:0] value;
  assign place = since / CLOCKS_PER_BIT;
  always_comb begin
    to_device = 1'b1;
    if (sending && breaking) to_device = (place >= QUIET);
    else if (sending && place == 0) to_device = 1'b0;
    else if (sending && place <= 8) to_device = value[3'(place-1)];
  end

  logic wanted;  // the device owes an answer
  int unsigned rest;  // bytes that are still to come of it
  // The board top holds its own reset for a while.
  assign in0_V_TREADY = !sending && settled > 400
      && (!in0_V_TDATA[8] || (!wanted && rest == 0));

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      sending <= 1'b0;
      settled <= 0;
      wanted <= 1'b0;
      rest <= 0;
    end else begin
      settled <= settled + 1;
      if (out0_V_TVALID && rest != 0) rest <= rest - 1;
      else if (out0_V_TVALID) begin
        wanted <= 1'b0;
        if (out0_V_TDATA == "A") rest <= 16;
        else if (out0_V_TDATA == "R") rest <= RESULT_BYTES + 1;
        else rest <= 1;
      end
      if (sending) begin
        since <= since + 1;
        if (since + 1 == bits * CLOCKS_PER_BIT) sending <= 1'b0;
      end else if (in0_V_TVALID && in0_V_TREADY) begin
        sending <= 1'b1;
        since <= 0;
        value <= in0_V_TDATA[7:0];
        breaking <= in0_V_TDATA[9];
        bits <= in0_V_TDATA[9] ? 2 * QUIET : 10;
        wanted <= !in0_V_TDATA[9];
      end
    end
  end

  // ---- receiving: look at the middle of each bit
  int unsigned age;
  logic receiving;
  logic [7:0] got;
  always_ff @(posedge ap_clk) begin
    out0_V_TVALID <= 1'b0;
    if (!ap_rst_n || settled < 400) begin
      receiving <= 1'b0;
    end else if (!receiving) begin
      age <= 1;
      receiving <= !from_device;
    end else begin
      age <= age + 1;
      for (int i = 0; i < 8; i++)
        if (age == (i + 1) * CLOCKS_PER_BIT + CLOCKS_PER_BIT / 2) got[i] <= from_device;
      if (age == 9 * CLOCKS_PER_BIT + CLOCKS_PER_BIT / 2) begin
        receiving <= 1'b0;
        out0_V_TVALID <= 1'b1;
        out0_V_TDATA <= from_device ? got : 8'hff;  // a missing stop bit must not pass
      end
    end
  end

endmodule

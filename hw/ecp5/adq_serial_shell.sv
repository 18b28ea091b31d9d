// Serial line around an accelerator: whole frames in, whole results out. README.md holds the
// protocol.
//
// A frame is kept until its check byte has come and only then played into the accelerator, so a
// damaged line never leaves half a frame in it. One frame at a time.

module adq_serial_shell #(
    parameter int unsigned CLOCKS_PER_BIT = 25,
    parameter int unsigned IN_WIDTH = 8,    // bits of a beat, whole bytes
    parameter int unsigned IN_BEATS = 1,    // beats of a frame
    parameter int unsigned OUT_WIDTH = 8,
    parameter int unsigned OUT_BEATS = 1,
    parameter int unsigned IDENTITY_HIGH = 0,  // 24 bits each
    parameter int unsigned IDENTITY_LOW = 0
) (
    input  logic                 ap_clk,
    input  logic                 ap_rst_n,
    input  logic                 rx,
    output logic                 tx,
    output logic                 busy,
    // to and from the accelerator
    output logic                 core_rst_n,
    output logic [IN_WIDTH-1:0]  out0_V_TDATA,
    output logic                 out0_V_TVALID,
    input  logic                 out0_V_TREADY,
    input  logic [OUT_WIDTH-1:0] in0_V_TDATA,
    input  logic                 in0_V_TVALID,
    output logic                 in0_V_TREADY
);

  localparam int unsigned BEAT_BYTES = IN_WIDTH / 8;
  localparam int unsigned WORD_BYTES = OUT_WIDTH / 8;
  localparam int unsigned FRAME_BYTES = BEAT_BYTES * IN_BEATS;
  localparam int unsigned RESULT_BYTES = WORD_BYTES * OUT_BEATS;
  localparam int unsigned FRAME_BITS = $clog2(FRAME_BYTES + 1);
  localparam int unsigned RESULT_BITS = $clog2(RESULT_BYTES + 1);
  localparam int unsigned BEAT_BITS = $clog2(BEAT_BYTES + 1);
  localparam int unsigned WORD_BITS = $clog2(WORD_BYTES + 1);

  localparam int unsigned IDENTITY_BYTES = 15;
  // Lowest byte first: version, 6 bytes of identity (highest first), the two sizes.
  localparam logic [8*IDENTITY_BYTES-1:0] IDENTITY = {
    RESULT_BYTES, FRAME_BYTES,
    IDENTITY_LOW[7:0], IDENTITY_LOW[15:8], IDENTITY_LOW[23:16],
    IDENTITY_HIGH[7:0], IDENTITY_HIGH[15:8], IDENTITY_HIGH[23:16],
    8'd1
  };

  localparam logic [7:0] ASK_FRAME = "F", ASK_IDENTITY = "I";
  localparam logic [7:0] RESULT = "R", DAMAGED = "E", SELF = "A";

  typedef enum logic [2:0] {IDLE, LOAD, CHECK, HEAD, BODY, TAIL, SETTLE} state_t;

  // CRC-8, polynomial x^8 + x^2 + x + 1, starting at 0.
  function automatic logic [7:0] crc_of(input logic [7:0] crc, input logic [7:0] value);
    logic [7:0] next;
    next = crc ^ value;
    for (int i = 0; i < 8; i++) next = next[7] ? ({next[6:0], 1'b0} ^ 8'h07) : {next[6:0], 1'b0};
    return next;
  endfunction

  state_t                 state;
  logic [7:0]             head;
  logic [7:0]             crc_in;
  logic [7:0]             crc_out;
  logic                   feeding;
  logic                   feed_done;

  logic [7:0]             rx_data;
  logic                   rx_valid;
  logic                   line_break;
  logic [7:0]             tx_data;
  logic                   tx_valid;
  logic                   tx_ready;
  logic                   sent;

  // ---- reset: a break on the line resets everything but the receiver
  logic [3:0]             hold;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n || line_break) hold <= '1;
    else if (hold != '0) hold <= hold - 1'b1;
    core_rst_n <= ap_rst_n && !line_break && (hold == '0);
  end

  adq_uart_rx #(.CLOCKS_PER_BIT(CLOCKS_PER_BIT)) receiver (
      .ap_clk, .ap_rst_n, .line(rx), .data(rx_data), .valid(rx_valid), .line_break
  );
  adq_uart_tx #(.CLOCKS_PER_BIT(CLOCKS_PER_BIT)) sender (
      .ap_clk, .ap_rst_n(core_rst_n), .in0_V_TDATA(tx_data), .in0_V_TVALID(tx_valid),
      .in0_V_TREADY(tx_ready), .line(tx)
  );

  // ---- the frame as it came, byte by byte
  logic [7:0]             frame[FRAME_BYTES];
  logic [FRAME_BITS-1:0]  count;
  logic [FRAME_BITS-1:0]  address;
  logic [7:0]             byte_out;

  always_ff @(posedge ap_clk) begin
    if (state == LOAD && rx_valid) frame[count] <= rx_data;
    byte_out <= frame[address];
  end

  // ---- from the frame to the accelerator: one byte every other cycle
  logic                   arrived;
  logic [BEAT_BITS-1:0]   filled;

  assign feed_done = (address == FRAME_BITS'(FRAME_BYTES)) && !out0_V_TVALID && filled == '0;

  always_ff @(posedge ap_clk) begin
    if (!core_rst_n || !feeding) begin
      address <= '0;
      arrived <= 1'b0;
      filled <= '0;
      out0_V_TVALID <= 1'b0;
    end else if (out0_V_TVALID) begin
      if (out0_V_TREADY) out0_V_TVALID <= 1'b0;
    end else if (!arrived) begin
      arrived <= (address != FRAME_BITS'(FRAME_BYTES));
    end else begin
      arrived <= 1'b0;
      address <= address + 1'b1;
      filled <= (filled == BEAT_BITS'(BEAT_BYTES - 1)) ? '0 : filled + 1'b1;
      out0_V_TVALID <= (filled == BEAT_BITS'(BEAT_BYTES - 1));
    end
    if (arrived) out0_V_TDATA <= IN_WIDTH'({byte_out, out0_V_TDATA} >> 8);
  end

  // ---- from the accelerator to the line
  logic [OUT_WIDTH-1:0]   word;
  logic [WORD_BITS-1:0]   stored;
  logic [RESULT_BITS-1:0] left;
  logic [3:0]             index;

  assign in0_V_TREADY = core_rst_n && state == BODY && head == RESULT && stored == '0;
  assign sent = tx_valid && tx_ready;

  always_ff @(posedge ap_clk) begin
    if (!core_rst_n) begin
      stored <= '0;
    end else if (in0_V_TVALID && in0_V_TREADY) begin
      word <= in0_V_TDATA;
      stored <= WORD_BITS'(WORD_BYTES);
    end else if (state == BODY && head == RESULT && sent) begin
      word <= word >> 8;
      stored <= stored - 1'b1;
    end
  end

  always_comb begin
    tx_valid = 1'b0;
    tx_data = crc_out;
    unique case (state)
      HEAD: begin
        tx_valid = 1'b1;
        tx_data = head;
      end
      BODY: begin
        tx_valid = (head == SELF) || stored != '0;
        tx_data = (head == SELF) ? IDENTITY[8*index+:8] : word[7:0];
      end
      TAIL: tx_valid = 1'b1;
      default: ;
    endcase
  end

  assign busy = (state != IDLE);

  always_ff @(posedge ap_clk) begin
    if (feed_done) feeding <= 1'b0;
    if (rx_valid) crc_in <= crc_of(crc_in, rx_data);
    if (sent) crc_out <= crc_of(crc_out, tx_data);
    unique case (state)
      IDLE: begin
        count <= '0;
        crc_out <= '0;
        left <= RESULT_BITS'(RESULT_BYTES);
        index <= '0;
        if (rx_valid) begin
          crc_in <= crc_of('0, rx_data);
          head <= SELF;
          if (rx_data == ASK_FRAME) state <= LOAD;
          else if (rx_data == ASK_IDENTITY) state <= HEAD;
        end
      end
      LOAD:
      if (rx_valid) begin
        count <= count + 1'b1;
        if (count == FRAME_BITS'(FRAME_BYTES - 1)) state <= CHECK;
      end
      CHECK:
      if (rx_valid) begin
        feeding <= (rx_data == crc_in);
        head <= (rx_data == crc_in) ? RESULT : DAMAGED;
        state <= HEAD;
      end
      HEAD: if (sent) state <= (head == DAMAGED) ? TAIL : BODY;
      BODY:
      if (sent) begin
        left <= left - 1'b1;
        index <= index + 1'b1;
        if (head == SELF ? index == 4'(IDENTITY_BYTES - 1) : left == RESULT_BITS'(1)) state <= TAIL;
      end
      TAIL: if (sent) state <= SETTLE;
      // The last beats of a frame may be taken after the result has gone.
      SETTLE: if (!feeding) state <= IDLE;
      default: state <= IDLE;
    endcase
    if (!core_rst_n) begin
      state <= IDLE;
      feeding <= 1'b0;
    end
  end

endmodule

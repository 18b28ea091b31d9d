// Sums every channel over PIXELS pixels: CHANNELS/PE beats of PE values per pixel, element 0
// lowest.
//
// The sums of all folds lie in a memory that is read, added to and written in one cycle; during
// the last pixel they leave instead, one fold per cycle. One beat per cycle without bubble.
// Sums wrap modulo 2**OUT_WIDTH, which is exact whenever the result fits.

module adq_global_acc_pool #(
    parameter int unsigned CHANNELS = 4,
    parameter int unsigned PE = 1,
    parameter int unsigned PIXELS = 16,
    parameter int unsigned IN_WIDTH = 4,
    parameter bit SIGNED = 1'b0,
    parameter int unsigned OUT_WIDTH = 8,
    localparam int unsigned IN_BUS = (PE * IN_WIDTH + 7) / 8 * 8,
    localparam int unsigned OUT_BUS = (PE * OUT_WIDTH + 7) / 8 * 8
) (
    input  logic               ap_clk,
    input  logic               ap_rst_n,
    input  logic [IN_BUS-1:0]  in0_V_TDATA,
    input  logic               in0_V_TVALID,
    output logic               in0_V_TREADY,
    output logic [OUT_BUS-1:0] out0_V_TDATA,
    output logic               out0_V_TVALID,
    input  logic               out0_V_TREADY
);

  localparam int unsigned FOLDS = CHANNELS / PE;
  localparam int unsigned FOLD_BITS = (FOLDS > 1) ? $clog2(FOLDS) : 1;
  localparam int unsigned PIXEL_BITS = (PIXELS > 1) ? $clog2(PIXELS) : 1;

  if (PE == 0 || CHANNELS % PE != 0) begin : gen_bad_folding
    $error("adq_global_acc_pool: PE must divide CHANNELS");
  end
  if (OUT_WIDTH < IN_WIDTH) begin : gen_bad_width
    $error("adq_global_acc_pool: OUT_WIDTH must not be below IN_WIDTH");
  end

  logic                         take;
  logic                         fold_last;
  logic                         first;
  logic                         last;
  logic [PE-1:0][IN_WIDTH-1:0]  value;
  logic [PE-1:0][OUT_WIDTH-1:0] stored;
  logic [PE-1:0][OUT_WIDTH-1:0] added;
  logic [PE-1:0][OUT_WIDTH-1:0] result;

  // Only the last pixel has to wait for room at the output.
  assign in0_V_TREADY = !last || !out0_V_TVALID || out0_V_TREADY;
  assign take = in0_V_TVALID && in0_V_TREADY;
  assign value = in0_V_TDATA[PE*IN_WIDTH-1:0];

  if (IN_BUS > PE * IN_WIDTH) begin : gen_padding
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[IN_BUS-1:PE*IN_WIDTH]};
  end

  if (FOLDS == 1) begin : gen_one_fold
    logic [PE-1:0][OUT_WIDTH-1:0] sums;
    assign fold_last = 1'b1;
    assign stored = sums;
    always_ff @(posedge ap_clk) if (take) sums <= added;
  end else begin : gen_folds
    logic [PE*OUT_WIDTH-1:0] sums[FOLDS];
    logic [FOLD_BITS-1:0]    fold;
    assign fold_last = (fold == FOLD_BITS'(FOLDS - 1));
    assign stored = sums[fold];
    always_ff @(posedge ap_clk) if (take) sums[fold] <= added;
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) fold <= '0;
      else if (take) fold <= fold_last ? '0 : fold + 1'b1;
    end
  end

  if (PIXELS == 1) begin : gen_one_pixel
    logic unused;
    assign first = 1'b1;
    assign last = 1'b1;
    assign unused = fold_last;
  end else begin : gen_pixels
    logic [PIXEL_BITS-1:0] pixel;
    assign first = (pixel == '0);
    assign last = (pixel == PIXEL_BITS'(PIXELS - 1));
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) pixel <= '0;
      else if (take && fold_last) pixel <= last ? '0 : pixel + 1'b1;
    end
  end

  for (genvar pe = 0; pe < PE; pe++) begin : gen_pe
    logic [OUT_WIDTH-1:0] wide;
    assign wide = SIGNED ? OUT_WIDTH'($signed(value[pe])) : OUT_WIDTH'(value[pe]);
    assign added[pe] = (first ? '0 : stored[pe]) + wide;
  end

  always_ff @(posedge ap_clk) if (take && last) result <= added;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) out0_V_TVALID <= 1'b0;
    else if (take && last) out0_V_TVALID <= 1'b1;
    else if (out0_V_TREADY) out0_V_TVALID <= 1'b0;
  end

  assign out0_V_TDATA = OUT_BUS'(result);

endmodule

// Index of the largest of LABELS values, PE per beat; of equal ones the lowest index wins.
//
// A tree with a register after every level finds the winner of a beat, which then meets the
// winner of the beats before. One beat per cycle without bubble; see README.md for the latency.

module adq_label_select #(
    parameter int unsigned LABELS = 10,
    parameter int unsigned PE = 1,
    parameter int unsigned WIDTH = 8,
    parameter bit SIGNED = 1'b1,
    parameter int unsigned OUT_WIDTH = 8,
    localparam int unsigned IN_BUS = (PE * WIDTH + 7) / 8 * 8,
    localparam int unsigned OUT_BUS = (OUT_WIDTH + 7) / 8 * 8
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

  localparam int unsigned FOLDS = LABELS / PE;
  localparam int unsigned INDEX_BITS = (LABELS > 1) ? $clog2(LABELS) : 1;
  localparam int unsigned LEVELS = (PE > 1) ? $clog2(PE) : 0;

  if (PE == 0 || LABELS % PE != 0) begin : gen_bad_folding
    $error("adq_label_select: PE must divide LABELS");
  end
  if (OUT_WIDTH < INDEX_BITS) begin : gen_bad_width
    $error("adq_label_select: OUT_WIDTH must hold the index of every label");
  end

  // One enable stalls everything while a result waits at the output.
  logic en;
  assign en = !out0_V_TVALID || out0_V_TREADY;
  assign in0_V_TREADY = en;

  if (IN_BUS > PE * WIDTH) begin : gen_padding
    logic unused;
    assign unused = &{1'b0, in0_V_TDATA[IN_BUS-1:PE*WIDTH]};
  end

  // ---- winner of a beat; ``lane`` counts within it
  for (genvar l = 0; l <= LEVELS; l++) begin : gen_level
    localparam int unsigned COUNT = (PE + (1 << l) - 1) >> l;
    logic                             valid;
    logic [COUNT-1:0][WIDTH-1:0]      value;
    logic [COUNT-1:0][INDEX_BITS-1:0] lane;

    if (l == 0) begin : gen_leaf
      assign valid = in0_V_TVALID;
      assign lane = '0;
      for (genvar i = 0; i < PE; i++) begin : gen_lane
        // With the sign bit turned, signed values are ordered like unsigned ones.
        assign value[i] = in0_V_TDATA[i*WIDTH+:WIDTH] ^ {SIGNED, {(WIDTH - 1) {1'b0}}};
      end
    end else begin : gen_compare
      localparam int unsigned PCOUNT = (PE + (1 << (l - 1)) - 1) >> (l - 1);
      always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) valid <= 1'b0;
        else if (en) valid <= gen_level[l-1].valid;
      end
      for (genvar i = 0; i < COUNT; i++) begin : gen_node
        if (2 * i + 1 < PCOUNT) begin : gen_pair
          logic upper;
          assign upper = gen_level[l-1].value[2*i+1] > gen_level[l-1].value[2*i];
          always_ff @(posedge ap_clk) begin
            if (en) begin
              value[i] <= gen_level[l-1].value[2*i+32'(upper)];
              lane[i]  <= upper ? (gen_level[l-1].lane[2*i+1] | INDEX_BITS'(1 << (l - 1)))
                                : gen_level[l-1].lane[2*i];
            end
          end
        end else begin : gen_odd
          always_ff @(posedge ap_clk) begin
            if (en) begin
              value[i] <= gen_level[l-1].value[2*i];
              lane[i]  <= gen_level[l-1].lane[2*i];
            end
          end
        end
      end
    end
  end

  // ---- winner of the beats so far
  logic                  step;
  logic                  first;
  logic                  last;
  logic                  wins;
  logic [INDEX_BITS-1:0] base;  // index of the beat's first label
  logic [INDEX_BITS-1:0] index;
  logic [INDEX_BITS-1:0] best_index;
  logic [WIDTH-1:0]      best_value;

  assign step = en && gen_level[LEVELS].valid;
  assign index = base + gen_level[LEVELS].lane[0];
  assign wins = first || gen_level[LEVELS].value[0] > best_value;

  if (FOLDS == 1) begin : gen_one_fold
    assign base = '0;
    assign first = 1'b1;
    assign last = 1'b1;
  end else begin : gen_folds
    assign first = (base == '0);
    assign last = (base == INDEX_BITS'(LABELS - PE));
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) base <= '0;
      else if (step) base <= last ? '0 : base + INDEX_BITS'(PE);
    end
  end

  always_ff @(posedge ap_clk) begin
    if (step && wins) begin
      best_value <= gen_level[LEVELS].value[0];
      best_index <= index;
    end
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) out0_V_TVALID <= 1'b0;
    else if (en) out0_V_TVALID <= step && last;
  end

  assign out0_V_TDATA = OUT_BUS'(best_index);

endmodule

// The accelerator's clock: the oscillator itself, or OP_DIV / OS_DIV times it by a PLL.
//
// The feedback goes over CLKOP, which runs at the oscillator's frequency; the VCO is OP_DIV times
// as fast (400 to 800 MHz) and CLKOS is the VCO through OS_DIV.

module adq_ecp5_clock #(
    parameter int unsigned OP_DIV = 0,  // 0: no PLL
    parameter int unsigned OS_DIV = 1
) (
    input  logic oscillator,
    output logic clock,
    output logic locked
);

  if (OP_DIV == 0) begin : gen_direct
    assign clock = oscillator;
    assign locked = 1'b1;
  end else begin : gen_pll
    logic feedback;
    EHXPLLL #(
        .CLKI_DIV(1), .CLKFB_DIV(1), .FEEDBK_PATH("CLKOP"),
        .CLKOP_DIV(OP_DIV), .CLKOP_CPHASE(OP_DIV - 1), .CLKOP_ENABLE("ENABLED"),
        .CLKOS_DIV(OS_DIV), .CLKOS_CPHASE(OS_DIV - 1), .CLKOS_ENABLE("ENABLED")
    ) pll (
        .CLKI(oscillator), .CLKFB(feedback), .CLKOP(feedback), .CLKOS(clock), .LOCK(locked),
        .RST(1'b0), .STDBY(1'b0), .PHASESEL0(1'b0), .PHASESEL1(1'b0), .PHASEDIR(1'b0),
        .PHASESTEP(1'b0), .PHASELOADREG(1'b0), .PLLWAKESYNC(1'b0), .ENCLKOP(1'b0), .ENCLKOS(1'b0)
    );
  end

endmodule

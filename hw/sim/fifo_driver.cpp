// One trial of FIFO depths: how fast is the accelerator, who waits for whom, is it stuck?
//
// For a Verilated top whose queues are adq_fifo_probe (macro ADQ_FIFO_PROBE), so that the depths
// are arguments and not parameters: one compiled model serves all trials. The source sends
// frames of zeros without end (control never depends on data), the sink always takes.
//
// argv: DEPTHS FRAMES WARM BEATS_IN BEATS_OUT PACE QUIET WINDOW MAX_CYCLES
//   DEPTHS      text file, one depth per queue in the order of INDEX
//   FRAMES      stop after this many frames of BEATS_OUT words
//   WARM        frames after which the counters start over and the interval begins (>= 1)
//   BEATS_IN    input words per frame
//   PACE        cycles per frame of the source, 0: as fast as the accelerator takes
//   QUIET       cycles without any beat moving that count as a deadlock
//   WINDOW      most cycles for the frames after WARM, 0: any
//   MAX_CYCLES  give up after this many
// stdout: one line of JSON; "outcome" is done, deadlock, slow (WINDOW) or timeout (MAX_CYCLES).
// Exit status: 0, or 2 for a bad call.

#include ADQ_HEADER
#include "Vdut_adq_fifo_probe_pkg.h"
#include "verilated.h"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

namespace {

constexpr int kResetCycles = 16;
constexpr int kCheck = 64;  // cycles between two looks at whether anything moved

template <class Array>
void print(const char* name, const Array& values, std::size_t count) {
    std::printf(", \"%s\": [", name);
    for (std::size_t i = 0; i < count; ++i)
        std::printf("%s%" PRIu64, i == 0 ? "" : ", ", static_cast<std::uint64_t>(values[i]));
    std::printf("]");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 10) {
        std::fprintf(stderr, "nine arguments needed, %d given\n", argc - 1);
        return 2;
    }
    VerilatedContext context;
    const auto top = std::make_unique<ADQ_TOP>(&context);
    auto& probe = *top->__PVT__adq_fifo_probe_pkg;
    constexpr std::size_t kQueues = sizeof(probe.limit) / sizeof(probe.limit[0]);

    std::FILE* file = std::fopen(argv[1], "r");
    std::vector<std::uint32_t> depths;
    for (std::uint32_t depth = 0; file != nullptr && std::fscanf(file, "%" SCNu32, &depth) == 1;)
        depths.push_back(depth);
    if (file != nullptr) std::fclose(file);
    if (depths.size() != kQueues) {
        std::fprintf(stderr, "%zu depths in %s, %zu queues\n", depths.size(), argv[1], kQueues);
        return 2;
    }
    std::uint64_t number[7];
    for (int i = 0; i < 7; ++i) number[i] = std::strtoull(argv[3 + i], nullptr, 10);
    const std::uint64_t frames = std::strtoull(argv[2], nullptr, 10);
    const auto [warm, beats_in, beats_out, pace, quiet, window, max_cycles] = number;

    top->ap_rst_n = 0;
    top->in0_V_TVALID = 0;
    top->out0_V_TREADY = 1;
    // Initial values of the model come with the first eval, so the depths are set after it.
    for (int i = 0; i < kResetCycles; ++i) {
        top->ap_clk = 0;
        top->eval();
        top->ap_clk = 1;
        top->eval();
    }
    for (std::size_t i = 0; i < kQueues; ++i) probe.limit[i] = depths[i];
    top->ap_rst_n = 1;

    std::uint64_t cycle = 0, sent = 0, received = 0, last_move = 0, stop = max_cycles;
    std::vector<std::uint64_t> ends;
    const char* outcome = "timeout";
    while (cycle < stop) {
        top->ap_clk = 0;
        top->in0_V_TVALID = pace == 0 || cycle * beats_in >= sent * pace;
        top->eval();
        if (top->in0_V_TVALID && top->in0_V_TREADY) {
            ++sent;
            probe.moved = 1;
        }
        const bool valid = top->out0_V_TVALID;
        top->ap_clk = 1;
        top->eval();
        ++cycle;
        if (valid) {
            probe.moved = 1;
            if (++received % beats_out == 0) {
                ends.push_back(cycle);
                if (ends.size() == frames) {
                    outcome = "done";
                    break;
                }
                if (ends.size() == warm) {
                    if (window != 0 && cycle + window < stop) {
                        stop = cycle + window;
                        outcome = "slow";
                    }
                    for (std::size_t i = 0; i < kQueues; ++i) {
                        probe.most[i] = probe.held[i];
                        probe.blocked[i] = 0;
                        probe.starved[i] = 0;
                    }
                }
            }
        }
        if (cycle % kCheck == 0) {
            if (probe.moved != 0) last_move = cycle;
            probe.moved = 0;
            if (cycle - last_move > quiet) {
                outcome = "deadlock";
                break;
            }
        }
    }
    std::printf("{\"outcome\": \"%s\", \"cycles\": %" PRIu64 ", \"last_move\": %" PRIu64, outcome,
                cycle, last_move);
    print("ends", ends, ends.size());
    print("most", probe.most, kQueues);
    print("blocked", probe.blocked, kQueues);
    print("starved", probe.starved, kQueues);
    print("held", probe.held, kQueues);
    print("waits", probe.waits, kQueues);
    std::printf("}\n");
    top->final();
    return 0;
}

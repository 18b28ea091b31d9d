// Generic AXI-stream driver for a Verilated top with one input and one output stream.
//
// Compile with -DADQ_TOP=<class> -DADQ_HEADER="<class>.h" -DADQ_IN_WIDTH=<bits>
// -DADQ_OUT_WIDTH=<bits>. Ports: ap_clk, ap_rst_n, in0_V_T{DATA,VALID,READY},
// out0_V_T{DATA,VALID,READY}.
//
// argv: IN OUT EXPECTED MAX_CYCLES DRAIN SEED IN_STALL OUT_STALL INIT_SEED
//   IN         words to send, each ceil(ADQ_IN_WIDTH/32) little-endian 32-bit units
//   OUT        written: per received word its cycle (64 bit) and its 32-bit units
//   EXPECTED   stop after this many words; MAX_CYCLES: give up after this many cycles
//   DRAIN      cycles to go on after the last word, in which no other may come
//   *_STALL    probability, as a 32-bit fraction, that an idle stream stays idle one cycle
//   INIT_SEED  0: registers without an initial value start at 0, else at random
// stdout: one line of JSON. Exit status: 0 done, 3 too few words, 4 protocol violated,
// 5 too many words, 2 bad call.
//
// Keeps the AXI-stream rules itself (TVALID and TDATA stay until TREADY) and checks that the
// device keeps them.

#include ADQ_HEADER
#include "verilated.h"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace {

constexpr std::size_t kInUnits = (ADQ_IN_WIDTH + 31) / 32;
constexpr std::size_t kOutUnits = (ADQ_OUT_WIDTH + 31) / 32;
constexpr int kResetCycles = 16;

template <class T>
void put(T& port, const std::uint32_t* units) {
    std::uint64_t value = units[0];
    if constexpr (kInUnits > 1) value |= std::uint64_t{units[1]} << 32;
    port = static_cast<T>(value);
}
template <std::size_t N>
void put(VlWide<N>& port, const std::uint32_t* units) {
    for (std::size_t i = 0; i < N; ++i) port[i] = units[i];
}
template <class T>
void get(const T& port, std::uint32_t* units) {
    const std::uint64_t value = port;
    units[0] = static_cast<std::uint32_t>(value);
    if constexpr (kOutUnits > 1) units[1] = static_cast<std::uint32_t>(value >> 32);
}
template <std::size_t N>
void get(const VlWide<N>& port, std::uint32_t* units) {
    for (std::size_t i = 0; i < N; ++i) units[i] = port[i];
}

// SplitMix64: small, seedable, the same on every machine.
struct Random {
    std::uint64_t state;
    bool below(std::uint64_t threshold) {
        if (threshold == 0) return false;
        state += 0x9E3779B97F4A7C15ULL;
        std::uint64_t z = state;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        return ((z ^ (z >> 31)) >> 32) < threshold;
    }
};

bool read_words(const char* path, std::vector<std::uint32_t>& units) {
    std::FILE* file = std::fopen(path, "rb");
    if (file == nullptr) return false;
    std::fseek(file, 0, SEEK_END);
    units.resize(static_cast<std::size_t>(std::ftell(file)) / 4);
    std::rewind(file);
    const std::size_t got = std::fread(units.data(), 4, units.size(), file);
    std::fclose(file);
    return got == units.size();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 10) {
        std::fprintf(stderr, "nine arguments needed, %d given\n", argc - 1);
        return 2;
    }
    std::vector<std::uint32_t> in;
    if (!read_words(argv[1], in)) {
        std::fprintf(stderr, "cannot read %s\n", argv[1]);
        return 2;
    }
    std::FILE* out = std::fopen(argv[2], "wb");
    if (out == nullptr) {
        std::fprintf(stderr, "cannot write %s\n", argv[2]);
        return 2;
    }
    const std::uint64_t expected = std::strtoull(argv[3], nullptr, 10);
    const std::uint64_t max_cycles = std::strtoull(argv[4], nullptr, 10);
    const std::uint64_t drain = std::strtoull(argv[5], nullptr, 10);
    const std::uint64_t seed = std::strtoull(argv[6], nullptr, 10);
    const std::uint64_t in_stall = std::strtoull(argv[7], nullptr, 10);
    const std::uint64_t out_stall = std::strtoull(argv[8], nullptr, 10);
    const int init_seed = std::atoi(argv[9]);
    const std::uint64_t words = in.size() / kInUnits;

    VerilatedContext context;
    if (init_seed != 0) {
        context.randReset(2);
        context.randSeed(init_seed);
    }
    const auto top = std::make_unique<ADQ_TOP>(&context);
    Random in_random{seed * 2 + 1};
    Random out_random{~seed * 2};

    top->ap_rst_n = 0;
    top->in0_V_TVALID = 0;
    top->out0_V_TREADY = 0;
    for (int i = 0; i < kResetCycles; ++i) {
        top->ap_clk = 0;
        top->eval();
        top->ap_clk = 1;
        top->eval();
    }
    top->ap_rst_n = 1;

    std::uint64_t cycle = 0, sent = 0, received = 0;
    std::int64_t first_accepted = -1;
    bool offering = false;  // TVALID is up and must stay
    bool waiting = false;   // the device's TVALID was up without TREADY
    std::uint32_t held[kOutUnits] = {}, data[kOutUnits] = {};
    int status = 0;
    const char* violation = "";
    std::uint64_t stop = max_cycles;

    while (cycle < stop && !context.gotFinish()) {
        if (!offering && sent < words && !in_random.below(in_stall)) {
            offering = true;
            put(top->in0_V_TDATA, &in[sent * kInUnits]);
        }
        const bool ready = !out_random.below(out_stall);
        top->ap_clk = 0;
        top->in0_V_TVALID = offering;
        top->out0_V_TREADY = ready;
        top->eval();

        const bool accepted = offering && top->in0_V_TREADY;
        const bool valid = top->out0_V_TVALID;
        if (valid) get(top->out0_V_TDATA, data);
        if (waiting && !valid) {
            status = 4;
            violation = "TVALID fell before TREADY";
        } else if (waiting && std::memcmp(held, data, sizeof data) != 0) {
            status = 4;
            violation = "TDATA changed while TVALID waited for TREADY";
        }
        if (status != 0) break;
        waiting = valid && !ready;
        std::memcpy(held, data, sizeof data);
        if (valid && ready) {
            if (received == expected) {
                status = 5;
                break;
            }
            std::fwrite(&cycle, sizeof cycle, 1, out);
            std::fwrite(data, sizeof data, 1, out);
            ++received;
        }

        top->ap_clk = 1;
        top->eval();
        if (accepted) {
            if (first_accepted < 0) first_accepted = static_cast<std::int64_t>(cycle);
            ++sent;
            offering = false;
        }
        ++cycle;
        if (received == expected && stop == max_cycles) stop = cycle + drain;
    }
    if (status == 0 && received < expected) status = 3;
    if (std::fclose(out) != 0) {
        std::fprintf(stderr, "cannot write %s\n", argv[2]);
        return 2;
    }
    top->final();
    std::printf("{\"cycles\": %" PRIu64 ", \"accepted\": %" PRIu64 ", \"received\": %" PRIu64
                ", \"first_accepted\": %" PRId64 ", \"violation\": \"%s\"}\n",
                cycle, sent, received, first_accepted, violation);
    return status;
}

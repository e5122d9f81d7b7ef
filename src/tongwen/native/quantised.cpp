// Weights of 4 bits back to numbers.

#include "simd.h"

namespace tongwen {
namespace {

constexpr int64_t BLOCK = 64;

// Two weights a byte, the first one in the upper half; one scale for every 64 weights.
template <class T>
void restore(int64_t blocks, const uint8_t* codes, const float* scale, const float* values, T* to) {
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; ++b) {
        float level[16];
        for (int i = 0; i < 16; ++i) level[i] = values[i] * scale[b];
        const uint8_t* from = codes + b * BLOCK / 2;
        T* out = to + b * BLOCK;
#pragma omp simd
        for (int64_t i = 0; i < BLOCK / 2; ++i) {
            out[2 * i] = narrow<T>(level[from[i] >> 4]);
            out[2 * i + 1] = narrow<T>(level[from[i] & 15]);
        }
    }
}

}  // namespace
}  // namespace tongwen

using namespace tongwen;

extern "C" void dequantize_4bit(int is_bf16, int64_t blocks, const uint8_t* codes,
                                const float* scale, const float* values, void* to) {
    if (is_bf16)
        restore(blocks, codes, scale, values, (bf16*)to);
    else
        restore(blocks, codes, scale, values, (float*)to);
}

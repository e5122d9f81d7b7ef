// Weights of 4 bits back to numbers.

#include "simd.h"

namespace tongwen {
namespace {

constexpr int64_t BLOCK = 64;

using Codes = uint8_t __attribute__((vector_size(16), aligned(1), may_alias));
using Bits = uint32_t __attribute__((vector_size(64), aligned(4), may_alias));

// The 16 numbers that a code stands for in a block, as bits; in bf16 rounded to nearest.
template <class T> Bits levels(const float* values, float scale) {
    const Bits bits = (Bits)(*(const Vector*)values * scale);
    return sizeof(T) == 4 ? bits : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// 16 pairs of neighbours to where they belong.
inline void put(Bits first, Bits second, bf16* to) { *(Bits*)to = first | (second << 16); }
inline void put(Bits first, Bits second, float* to) {
    for (int i = 0; i < LANES; ++i) {
        to[2 * i] = std::bit_cast<float>(static_cast<uint32_t>(first[i]));
        to[2 * i + 1] = std::bit_cast<float>(static_cast<uint32_t>(second[i]));
    }
}

// Two weights a byte, the first one in the upper half; one scale for every 64 weights.
template <class T>
void restore(int64_t blocks, const uint8_t* codes, const float* scale, const float* values, T* to) {
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; ++b) {
        const Bits table = levels<T>(values, scale[b]);
        for (int64_t i = 0; i < BLOCK / 2; i += LANES) {
            const Codes pairs = *(const Codes*)(codes + b * BLOCK / 2 + i);
            const Bits wide = __builtin_convertvector(pairs, Bits);
            put(__builtin_shuffle(table, wide >> 4), __builtin_shuffle(table, wide & 15u),
                to + b * BLOCK + 2 * i);
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

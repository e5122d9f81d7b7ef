// Dropout whose masks follow from (token, column) alone; models/draws.py says how.

#include "simd.h"

#include <algorithm>

namespace tongwen {
namespace {

constexpr int WORDS = 8;
constexpr int64_t BLOCK = 64;

using Words = uint64_t __attribute__((vector_size(64), aligned(8), may_alias));
using Signed = int64_t __attribute__((vector_size(64)));
using Halves = int32_t __attribute__((vector_size(32), aligned(4), may_alias));

// A number for each column of each token, as int64; those below `least` drop what stands there.
struct Mask {
    const uint64_t *factor, *summand;  // of tokens
    const uint64_t* column;
    int64_t least;
    float scale;

    // What some columns of a token are multiplied by. Spelled out in vectors: compilers do not
    // bring numbers of 64 and of 16 bits together.
    void factors(int64_t token, int64_t begin, int64_t end, float* to) const {
        const uint64_t a = factor[token], c = summand[token];
        int64_t i = begin;
        for (; i + WORDS <= end; i += WORDS, to += WORDS) {
            const Signed number = (Signed)(*(const Words*)(column + i) * a + c);
            const Halves keep = __builtin_convertvector(number >= least, Halves);
            *(Halves*)to = keep & std::bit_cast<int32_t>(scale);
        }
        for (; i < end; ++i, ++to)
            *to = static_cast<int64_t>(column[i] * a + c) >= least ? scale : 0.0f;
    }
};

// y = x times the mask, or y += x times the mask.
template <bool ADD, class T>
void masked(int64_t tokens, int64_t width, const Mask& mask, const T* x, T* y) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t begin = 0; begin < width; begin += BLOCK) {
            const int64_t count = std::min(BLOCK, width - begin);
            float factor[BLOCK];
            mask.factors(t, begin, begin + count, factor);
            const T* from = x + t * width + begin;
            T* to = y + t * width + begin;
#pragma omp simd
            for (int64_t i = 0; i < count; ++i) {
                const float kept = widen(from[i]) * factor[i];
                to[i] = narrow<T>(ADD ? widen(to[i]) + kept : kept);
            }
        }
}

}  // namespace
}  // namespace tongwen

using namespace tongwen;

extern "C" void drop(int is_bf16, int add, int64_t tokens, int64_t width, const void* factor,
                     const void* summand, const void* column, int64_t least, float scale,
                     const void* x, void* y) {
    const Mask mask{(const uint64_t*)factor, (const uint64_t*)summand, (const uint64_t*)column,
                    least, scale};
    if (is_bf16 && add)
        masked<true>(tokens, width, mask, (const bf16*)x, (bf16*)y);
    else if (is_bf16)
        masked<false>(tokens, width, mask, (const bf16*)x, (bf16*)y);
    else if (add)
        masked<true>(tokens, width, mask, (const float*)x, (float*)y);
    else
        masked<false>(tokens, width, mask, (const float*)x, (float*)y);
}

// Numbers, vectors and a small matrix product that the kernels share.
//
// Everything is written so that a compiler vectorises it for whatever processor it runs on; only
// the bf16 dot product is spelled out, where the processor has one. Nothing here depends on the
// number of threads: the same input gives the same bytes.

#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace tongwen {

using bf16 = uint16_t;

// ---- numbers ----------------------------------------------------------------------------------

inline float widen(float x) { return x; }
inline float widen(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

// Round to nearest, ties to even; a NaN stays one.
inline uint32_t rounded(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint32_t nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
    return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : nearest;
}

template <class T> T narrow(float x);
template <> inline float narrow<float>(float x) { return x; }
template <> inline bf16 narrow<bf16>(float x) { return static_cast<bf16>(rounded(x) >> 16); }

// e^x to about one unit in the last place (polynomial of the Cephes library); 0 below -87.
inline float exponential(float x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const float bounded = x > 88.0f ? 88.0f : (x < -87.0f ? -87.0f : x);
    const float shifted = bounded * 1.44269504088896341f + magic;
    const float n = shifted - magic;
    float r = bounded - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const float e = p * (r * r) + r + 1.0f;
    const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) - 0x4b400000u + 127u) << 23;
    return x < -87.0f ? 0.0f : e * std::bit_cast<float>(exponent);
}

// ---- memory -----------------------------------------------------------------------------------

template <class T> using Buffer = std::unique_ptr<T[], decltype(&std::free)>;

template <class T> Buffer<T> buffer(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 127) / 64 * 64;
    return Buffer<T>(static_cast<T*>(std::aligned_alloc(64, bytes)), &std::free);
}

// ---- matrix product ---------------------------------------------------------------------------

using Vector = float __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int LANES = 16;

// How a product takes its factors: `DEPTH` neighbours along the summed dimension make one unit.
struct Single {
    using Element = float;
    using Unit = float;
    using Units = Vector;
    static constexpr int DEPTH = 1;
    static Vector dot(Vector sum, Unit a, Units b) { return sum + a * b; }
};

#if defined(__AVX512BF16__)
struct Pair {
    using Element = bf16;
    using Unit = uint32_t;
    using Units = int32_t __attribute__((vector_size(64), aligned(4), may_alias));
    static constexpr int DEPTH = 2;
    static Vector dot(Vector sum, Unit a, Units b) {
        return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a),
                                        (__m512bh)(__m512i)b);
    }
};
using Native = Pair;
#else
using Native = Single;
#endif

template <class M, int ROWS, int VECTORS>
inline void tile(int64_t depth, const typename M::Unit* a, int64_t lda, const typename M::Unit* b,
                 int64_t ldb, float* c, int64_t ldc, bool add) {
    Vector sum[ROWS][VECTORS];
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < VECTORS; ++j)
            sum[i][j] = add ? *(const Vector*)(c + i * ldc + j * LANES) : Vector{};
    for (int64_t k = 0; k < depth; ++k) {
        typename M::Units right[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j)
            right[j] = *(const typename M::Units*)(b + k * ldb + j * LANES);
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j)
                sum[i][j] = M::dot(sum[i][j], a[i * lda + k], right[j]);
    }
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < VECTORS; ++j) *(Vector*)(c + i * ldc + j * LANES) = sum[i][j];
}

template <class M, int VECTORS>
inline void columns(int64_t rows, int64_t depth, const typename M::Unit* a, int64_t lda,
                    const typename M::Unit* b, int64_t ldb, float* c, int64_t ldc, bool add) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
        tile<M, 4, VECTORS>(depth, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add);
    for (; i < rows; ++i)
        tile<M, 1, VECTORS>(depth, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add);
}

// C[rows, width] (+)= A[rows, depth] B[depth, width] in units; width is a multiple of 16.
template <class M>
void product(int64_t rows, int64_t width, int64_t depth, const typename M::Unit* a, int64_t lda,
             const typename M::Unit* b, int64_t ldb, float* c, int64_t ldc, bool add) {
    int64_t j = 0;
    for (; j + 4 * LANES <= width; j += 4 * LANES)
        columns<M, 4>(rows, depth, a, lda, b + j, ldb, c + j, ldc, add);
    for (; j < width; j += LANES)
        columns<M, 1>(rows, depth, a, lda, b + j, ldb, c + j, ldc, add);
}

}  // namespace tongwen

// Causal attention inside documents that lie side by side in a row (no padding, no mask), in
// blocks that stay in the cache (FlashAttention, Dao et al., arXiv:2205.14135), forward and
// backward, with grouped heads.
//
// Names: L tokens of a document, D width of a head; `stride` elements between two tokens of a row.

#include "simd.h"

#include <algorithm>
#include <limits>
#include <type_traits>

namespace tongwen {
namespace {

constexpr int64_t BLOCK = 64;
constexpr int64_t AHEAD = 12;  // rows to ask memory for in advance

int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// A head of a document as rows of units, [L, D / DEPTH]; rows up to `padded` are zero.
template <class M, class T>
void pack_rows(const T* from, int64_t stride, int64_t length, int64_t padded, int64_t width,
               typename M::Unit* to) {
    using Element = typename M::Element;
    auto* out = reinterpret_cast<Element*>(to);
    for (int64_t i = 0; i < length; ++i) {
        const T* row = from + i * stride;
        // The rows lie a token apart, which the processor does not foresee.
        for (int64_t d = 0; d < width; d += 64 / sizeof(T))
            __builtin_prefetch(row + AHEAD * stride + d);
        if constexpr (std::is_same_v<T, Element>)
            std::memcpy(out + i * width, row, width * sizeof(T));
        else
#pragma omp simd
            for (int64_t d = 0; d < width; ++d) out[i * width + d] = narrow<Element>(widen(row[d]));
    }
    std::memset(out + length * width, 0, (padded - length) * width * sizeof(*out));
}

// The same with the units along the document instead of along the head, [L / DEPTH, D].
template <class M>
void pack_along(const typename M::Unit* rows, int64_t padded, int64_t width,
                typename M::Unit* to) {
    const auto* in = reinterpret_cast<const typename M::Element*>(rows);
    auto* out = reinterpret_cast<typename M::Element*>(to);
    for (int64_t i = 0; i < padded; i += M::DEPTH)
        for (int64_t d = 0; d < width; ++d)
            for (int64_t k = 0; k < M::DEPTH; ++k)
                out[i * width + d * M::DEPTH + k] = in[(i + k) * width + d];
}

template <class U> void transpose(const U* from, int64_t rows, int64_t width, U* to) {
    for (int64_t i0 = 0; i0 < rows; i0 += LANES)
        for (int64_t j = 0; j < width; ++j)
            for (int64_t i = i0; i < std::min(rows, i0 + LANES); ++i)
                to[j * rows + i] = from[i * width + j];
}

struct Shape {
    int64_t documents, heads, groups, width, stride_q, stride_kv, stride_o;
    const int64_t* begin;  // first token of each document, and the end of the last
    float scale;
    int64_t longest() const {
        int64_t most = 0;
        for (int64_t m = 0; m < documents; ++m) most = std::max(most, begin[m + 1] - begin[m]);
        return round_up(most, LANES);
    }
};

template <class M> struct Forward {
    using Unit = typename M::Unit;
    using Element = typename M::Element;
    int64_t longest, width;
    Buffer<Unit> rows = buffer<Unit>(longest * width / M::DEPTH);
    Buffer<Unit> key_t = buffer<Unit>(longest * width / M::DEPTH);
    Buffer<Unit> value = buffer<Unit>(longest * width / M::DEPTH);
    Buffer<Unit> query = buffer<Unit>(BLOCK * width / M::DEPTH);
    Buffer<float> score = buffer<float>(BLOCK * BLOCK);
    Buffer<Element> share = buffer<Element>(BLOCK * BLOCK);
    Buffer<float> sum = buffer<float>(BLOCK * width);
    float highest[BLOCK], total[BLOCK];

    template <class T> void take(const T* k, const T* v, int64_t stride, int64_t length) {
        const int64_t padded = round_up(length, LANES);
        pack_rows<M>(k, stride, length, padded, width, rows.get());
        transpose(rows.get(), padded, width / M::DEPTH, key_t.get());
        pack_rows<M>(v, stride, length, padded, width, rows.get());
        pack_along<M>(rows.get(), padded, width, value.get());
    }

    // One more block of scores: shares relative to the highest score so far, and what that
    // changes in the sums so far.
    void soften(int64_t row, int64_t seen, int64_t wide, float scale) {
        float* s = score.get() + row * BLOCK;
        float top = highest[row];
#pragma omp simd reduction(max : top)
        for (int64_t j = 0; j < wide; ++j) {
            s[j] = j < seen ? s[j] * scale : -std::numeric_limits<float>::infinity();
            top = std::max(top, s[j]);
        }
        Element* p = share.get() + row * BLOCK;
        float add = 0.0f;
#pragma omp simd reduction(+ : add)
        for (int64_t j = 0; j < wide; ++j) {
            const float e = exponential(s[j] - top);
            add += e;
            p[j] = narrow<Element>(e);
        }
        const float fade = exponential(highest[row] - top);
        total[row] = total[row] * fade + add;
        highest[row] = top;
        if (fade != 1.0f) {
            float* o = sum.get() + row * width;
#pragma omp simd
            for (int64_t d = 0; d < width; ++d) o[d] *= fade;
        }
    }

    template <class T>
    void run(const T* q, int64_t stride, int64_t length, float scale, T* out, int64_t stride_o,
             float* log_total) {
        const int64_t padded = round_up(length, LANES), units = width / M::DEPTH;
        for (int64_t first = 0; first < length; first += BLOCK) {
            const int64_t tall = std::min(BLOCK, length - first);
            pack_rows<M>(q + first * stride, stride, tall, tall, width, query.get());
            std::memset(sum.get(), 0, BLOCK * width * sizeof(float));
            std::fill(highest, highest + BLOCK, -1e30f);
            std::fill(total, total + BLOCK, 0.0f);
            for (int64_t key = 0; key <= first; key += BLOCK) {
                const int64_t wide = std::min(BLOCK, padded - key);
                product<M>(tall, wide, units, query.get(), units, key_t.get() + key, padded,
                           score.get(), BLOCK, false);
                for (int64_t i = 0; i < tall; ++i)
                    soften(i, first + i - key + 1, wide, scale);
                product<M>(tall, width, wide / M::DEPTH,
                           reinterpret_cast<const Unit*>(share.get()), BLOCK / M::DEPTH,
                           value.get() + key / M::DEPTH * width, width, sum.get(), width, true);
            }
            for (int64_t i = 0; i < tall; ++i) {
                const float inverse = 1.0f / total[i];
                const float* o = sum.get() + i * width;
                T* to = out + (first + i) * stride_o;
#pragma omp simd
                for (int64_t d = 0; d < width; ++d) to[d] = narrow<T>(o[d] * inverse);
                log_total[first + i] = highest[i] + std::log(total[i]);
            }
        }
    }
};

template <class M> struct Backward {
    using Unit = typename M::Unit;
    using Element = typename M::Element;
    int64_t longest, width, size = longest * width / M::DEPTH;
    Buffer<Unit> key = buffer<Unit>(size), value = buffer<Unit>(size), key_t = buffer<Unit>(size);
    Buffer<Unit> query = buffer<Unit>(size), query_t = buffer<Unit>(size);
    Buffer<Unit> grad = buffer<Unit>(size), grad_t = buffer<Unit>(size);
    Buffer<Unit> rows = buffer<Unit>(size);
    Buffer<float> dq_t = buffer<float>(longest * width), dk = buffer<float>(longest * width),
                  dv = buffer<float>(longest * width), delta = buffer<float>(longest);
    Buffer<float> score = buffer<float>(BLOCK * BLOCK), inner = buffer<float>(BLOCK * BLOCK);
    Buffer<Element> share = buffer<Element>(BLOCK * BLOCK), slope = buffer<Element>(BLOCK * BLOCK);
    Buffer<Unit> slope_along = buffer<Unit>(BLOCK * BLOCK / M::DEPTH);

    template <class T> void take(const T* k, const T* v, int64_t stride, int64_t length) {
        const int64_t padded = round_up(length, LANES);
        pack_rows<M>(k, stride, length, padded, width, key.get());
        pack_along<M>(key.get(), padded, width, rows.get());
        transpose(rows.get(), padded / M::DEPTH, width, key_t.get());
        pack_rows<M>(v, stride, length, padded, width, value.get());
        std::memset(dk.get(), 0, padded * width * sizeof(float));
        std::memset(dv.get(), 0, padded * width * sizeof(float));
    }

    template <class T>
    void take_head(const T* q, int64_t stride_q, const T* out, const T* dout, int64_t stride_o,
                   int64_t length) {
        const int64_t padded = round_up(length, LANES), units = width / M::DEPTH;
        pack_rows<M>(q, stride_q, length, padded, width, rows.get());
        transpose(rows.get(), padded, units, query_t.get());
        pack_along<M>(rows.get(), padded, width, query.get());
        pack_rows<M>(dout, stride_o, length, padded, width, rows.get());
        transpose(rows.get(), padded, units, grad_t.get());
        pack_along<M>(rows.get(), padded, width, grad.get());
        for (int64_t i = 0; i < length; ++i) {
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int64_t d = 0; d < width; ++d)
                sum += widen(out[i * stride_o + d]) * widen(dout[i * stride_o + d]);
            delta[i] = sum;
        }
        std::memset(dq_t.get(), 0, padded * width * sizeof(float));
    }

    // Shares and their slopes of one key row against a block of queries.
    void slopes(int64_t row, int64_t from, int64_t to, int64_t wide, const float* log_total,
                const float* deltas, float scale) {
        const float *s = score.get() + row * BLOCK, *g = inner.get() + row * BLOCK;
        Element *p = share.get() + row * BLOCK, *ds = slope.get() + row * BLOCK;
#pragma omp simd
        for (int64_t j = 0; j < wide; ++j) {
            const bool seen = j >= from && j < to;
            const float e = seen ? exponential(s[j] * scale - log_total[j]) : 0.0f;
            p[j] = narrow<Element>(e);
            ds[j] = narrow<Element>(seen ? e * (g[j] - deltas[j]) * scale : 0.0f);
        }
    }

    void run(int64_t length, float scale, const float* log_total) {
        const int64_t padded = round_up(length, LANES), units = width / M::DEPTH;
        for (int64_t k = 0; k < length; k += BLOCK) {
            const int64_t tall = std::min(BLOCK, padded - k);
            for (int64_t q = k; q < length; q += BLOCK) {
                const int64_t wide = std::min(BLOCK, padded - q);
                product<M>(tall, wide, units, key.get() + k * units, units, query_t.get() + q,
                           padded, score.get(), BLOCK, false);
                product<M>(tall, wide, units, value.get() + k * units, units, grad_t.get() + q,
                           padded, inner.get(), BLOCK, false);
                for (int64_t i = 0; i < tall; ++i)
                    slopes(i, k + i - q, length - q, wide, log_total + q, delta.get() + q, scale);
                const auto* p = reinterpret_cast<const Unit*>(share.get());
                const auto* ds = reinterpret_cast<const Unit*>(slope.get());
                const int64_t deep = wide / M::DEPTH;
                product<M>(tall, width, deep, p, BLOCK / M::DEPTH,
                           grad.get() + q / M::DEPTH * width, width, dv.get() + k * width, width,
                           true);
                product<M>(tall, width, deep, ds, BLOCK / M::DEPTH,
                           query.get() + q / M::DEPTH * width, width, dk.get() + k * width, width,
                           true);
                pack_along<M>(ds, tall, BLOCK, slope_along.get());
                product<M>(width, wide, tall / M::DEPTH, key_t.get() + k / M::DEPTH,
                           padded / M::DEPTH, slope_along.get(), BLOCK, dq_t.get() + q, padded,
                           true);
            }
        }
    }

    template <class T> void give_query(T* dq, int64_t stride, int64_t length) const {
        const int64_t padded = round_up(length, LANES);
        for (int64_t i0 = 0; i0 < length; i0 += LANES)
            for (int64_t d = 0; d < width; ++d)
                for (int64_t i = i0; i < std::min(length, i0 + LANES); ++i)
                    dq[i * stride + d] = narrow<T>(dq_t[d * padded + i]);
    }

    template <class T> void give(T* to, int64_t stride, int64_t length, const float* from) const {
        for (int64_t i = 0; i < length; ++i)
#pragma omp simd
            for (int64_t d = 0; d < width; ++d) to[i * stride + d] = narrow<T>(from[i * width + d]);
    }
};

template <class M, class T>
void forward(const Shape& shape, const T* q, const T* k, const T* v, T* out, float* log_total) {
    const int64_t tokens = shape.begin[shape.documents], share = shape.heads / shape.groups;
    const int64_t longest = shape.longest(), D = shape.width;
#pragma omp parallel
    {
        Forward<M> work{longest, D};
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < shape.documents * shape.groups; ++task) {
            const int64_t m = task / shape.groups, g = task % shape.groups;
            const int64_t first = shape.begin[m], length = shape.begin[m + 1] - first;
            work.take(k + first * shape.stride_kv + g * D, v + first * shape.stride_kv + g * D,
                      shape.stride_kv, length);
            for (int64_t h = g * share; h < (g + 1) * share; ++h)
                work.run(q + first * shape.stride_q + h * D, shape.stride_q, length, shape.scale,
                         out + first * shape.stride_o + h * D, shape.stride_o,
                         log_total + h * tokens + first);
        }
    }
}

// The gradients may stand where q, k and v stood: each task has read its own before it writes.
template <class M, class T>
void backward(const Shape& shape, const T* q, const T* k, const T* v, const T* out, const T* dout,
              const float* log_total, T* dq, T* dk, T* dv) {
    const int64_t tokens = shape.begin[shape.documents], share = shape.heads / shape.groups;
    const int64_t longest = shape.longest(), D = shape.width;
#pragma omp parallel
    {
        Backward<M> work{longest, D};
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < shape.documents * shape.groups; ++task) {
            const int64_t m = task / shape.groups, g = task % shape.groups;
            const int64_t first = shape.begin[m], length = shape.begin[m + 1] - first;
            const int64_t at_kv = first * shape.stride_kv + g * D;
            work.take(k + at_kv, v + at_kv, shape.stride_kv, length);
            for (int64_t h = g * share; h < (g + 1) * share; ++h) {
                const int64_t at_q = first * shape.stride_q + h * D;
                const int64_t at_o = first * shape.stride_o + h * D;
                work.take_head(q + at_q, shape.stride_q, out + at_o, dout + at_o, shape.stride_o,
                               length);
                work.run(length, shape.scale, log_total + h * tokens + first);
                work.give_query(dq + at_q, shape.stride_q, length);
            }
            work.give(dk + at_kv, shape.stride_kv, length, work.dk.get());
            work.give(dv + at_kv, shape.stride_kv, length, work.dv.get());
        }
    }
}

}  // namespace
}  // namespace tongwen

using namespace tongwen;

extern "C" void attention_forward(int is_bf16, int64_t documents, const int64_t* begin,
                                  int64_t heads, int64_t groups, int64_t width, int64_t stride_q,
                                  int64_t stride_kv, int64_t stride_o, float scale, const void* q,
                                  const void* k, const void* v, void* out, float* log_total) {
    const Shape shape{documents, heads, groups, width, stride_q, stride_kv, stride_o, begin, scale};
    if (is_bf16)
        forward<Native>(shape, (const bf16*)q, (const bf16*)k, (const bf16*)v, (bf16*)out,
                        log_total);
    else
        forward<Single>(shape, (const float*)q, (const float*)k, (const float*)v, (float*)out,
                        log_total);
}

extern "C" void attention_backward(int is_bf16, int64_t documents, const int64_t* begin,
                                   int64_t heads, int64_t groups, int64_t width, int64_t stride_q,
                                   int64_t stride_kv, int64_t stride_o, float scale, const void* q,
                                   const void* k, const void* v, const void* out, const void* dout,
                                   const float* log_total, void* dq, void* dk, void* dv) {
    const Shape shape{documents, heads, groups, width, stride_q, stride_kv, stride_o, begin, scale};
    if (is_bf16)
        backward<Native>(shape, (const bf16*)q, (const bf16*)k, (const bf16*)v, (const bf16*)out,
                         (const bf16*)dout, log_total, (bf16*)dq, (bf16*)dk, (bf16*)dv);
    else
        backward<Single>(shape, (const float*)q, (const float*)k, (const float*)v,
                         (const float*)out, (const float*)dout, log_total, (float*)dq, (float*)dk,
                         (float*)dv);
}

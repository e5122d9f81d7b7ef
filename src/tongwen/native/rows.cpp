// What stands between the matrix products of a decoder layer: normalisation, rotation, gating.
// Each reads and writes a row of tokens once. Sums are in fp32.

#include "simd.h"

#include <algorithm>

namespace tongwen {
namespace {

// Gradients of weights are summed over a fixed number of slabs of the row, then over the slabs,
// so that the bytes do not depend on the number of threads.
constexpr int64_t SLABS = 32;

template <class T> float inverse_norm(const T* x, int64_t width, float eps) {
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; ++i) squares += widen(x[i]) * widen(x[i]);
    return 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
}

// x += residual (where there is one); y = x / rms(x) * weight.
template <class T>
void norm(int64_t tokens, int64_t width, T* x, const T* residual, const T* weight, float eps,
          T* y) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t) {
        T *row = x + t * width, *to = y + t * width;
        if (residual) {
            const T* add = residual + t * width;
#pragma omp simd
            for (int64_t i = 0; i < width; ++i) row[i] = narrow<T>(widen(row[i]) + widen(add[i]));
        }
        const float inverse = inverse_norm(row, width, eps);
#pragma omp simd
        for (int64_t i = 0; i < width; ++i)
            to[i] = narrow<T>(widen(weight[i]) * (widen(row[i]) * inverse));
    }
}

// dx = gradient of the norm + residual gradient (where there is one); dy is replaced by y; dweight where asked for.
template <class T>
void norm_backward(int64_t tokens, int64_t width, const T* x, const T* weight, float eps, T* dy,
                   const T* residual, T* dx, float* dweight) {
    auto slabs = buffer<float>(dweight ? SLABS * width : 1);
#pragma omp parallel for schedule(static)
    for (int64_t slab = 0; slab < SLABS; ++slab) {
        float* dw = slabs.get() + (dweight ? slab * width : 0);
        if (dweight) std::fill(dw, dw + width, 0.0f);
        for (int64_t t = tokens * slab / SLABS; t < tokens * (slab + 1) / SLABS; ++t) {
            const T* row = x + t * width;
            T *grad = dy + t * width, *to = dx + t * width;
            const float inverse = inverse_norm(row, width, eps);
            float along = 0.0f;
#pragma omp simd reduction(+ : along)
            for (int64_t i = 0; i < width; ++i)
                along += widen(grad[i]) * widen(weight[i]) * widen(row[i]);
            along *= inverse * inverse / static_cast<float>(width);
            if (dweight)
#pragma omp simd
                for (int64_t i = 0; i < width; ++i)
                    dw[i] += widen(grad[i]) * (widen(row[i]) * inverse);
#pragma omp simd
            for (int64_t i = 0; i < width; ++i) {
                const float g = widen(grad[i]), w = widen(weight[i]), r = widen(row[i]);
                const float around = residual ? widen(residual[t * width + i]) : 0.0f;
                to[i] = narrow<T>(around + inverse * (g * w - r * along));
                grad[i] = narrow<T>(w * (r * inverse));
            }
        }
    }
    if (!dweight) return;
    for (int64_t i = 0; i < width; ++i) {
        float sum = 0.0f;
        for (int64_t slab = 0; slab < SLABS; ++slab) sum += slabs[slab * width + i];
        dweight[i] = sum;
    }
}

// Rotary positions (Su et al., arXiv:2104.09864), in place; `direction` -1 turns back.
template <class T>
void rotate(int64_t tokens, int64_t heads, int64_t width, int64_t stride, T* x, const float* cos,
            const float* sin, float direction) {
    const int64_t half = width / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t h = 0; h < heads; ++h) {
            T *a = x + t * stride + h * width, *b = a + half;
            const float *c = cos + t * half, *s = sin + t * half;
#pragma omp simd
            for (int64_t i = 0; i < half; ++i) {
                const float u = widen(a[i]), v = widen(b[i]), turn = direction * s[i];
                a[i] = narrow<T>(u * c[i] - v * turn);
                b[i] = narrow<T>(v * c[i] + u * turn);
            }
        }
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// act = silu(gate) * up (SwiGLU, Shazeer, arXiv:2002.05202); gate and up side by side in a row.
template <class T> void gate(int64_t tokens, int64_t width, const T* gate_up, T* act) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t) {
        const T *g = gate_up + t * 2 * width, *u = g + width;
        T* to = act + t * width;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
            const float x = widen(g[i]);
            to[i] = narrow<T>(x * sigmoid(x) * widen(u[i]));
        }
    }
}

// In place: gate and up are replaced by their gradients, the gradient of act by act.
template <class T> void gate_backward(int64_t tokens, int64_t width, T* gate_up, T* act) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t) {
        T *g = gate_up + t * 2 * width, *u = g + width, *a = act + t * width;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
            const float x = widen(g[i]), y = widen(u[i]), grad = widen(a[i]), s = sigmoid(x);
            a[i] = narrow<T>(x * s * y);
            g[i] = narrow<T>(grad * y * s * (1.0f + x * (1.0f - s)));
            u[i] = narrow<T>(grad * x * s);
        }
    }
}

// total += part. torch would first widen all of `part` into memory of its own.
template <class T> void accumulate(int64_t count, float* total, const T* part) {
    constexpr int64_t BLOCK = 4096;
#pragma omp parallel for schedule(static)
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const int64_t end = std::min(count, begin + BLOCK);
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) total[i] += widen(part[i]);
    }
}

}  // namespace
}  // namespace tongwen

using namespace tongwen;

extern "C" void rms_norm(int is_bf16, int64_t tokens, int64_t width, void* x, const void* residual,
                         const void* weight, float eps, void* y) {
    if (is_bf16)
        norm(tokens, width, (bf16*)x, (const bf16*)residual, (const bf16*)weight, eps, (bf16*)y);
    else
        norm(tokens, width, (float*)x, (const float*)residual, (const float*)weight, eps,
             (float*)y);
}

extern "C" void rms_norm_backward(int is_bf16, int64_t tokens, int64_t width, const void* x,
                                  const void* weight, float eps, void* dy, const void* residual,
                                  void* dx, float* dweight) {
    if (is_bf16)
        norm_backward(tokens, width, (const bf16*)x, (const bf16*)weight, eps, (bf16*)dy,
                      (const bf16*)residual, (bf16*)dx, dweight);
    else
        norm_backward(tokens, width, (const float*)x, (const float*)weight, eps, (float*)dy,
                      (const float*)residual, (float*)dx, dweight);
}

extern "C" void rotary(int is_bf16, int64_t tokens, int64_t heads, int64_t width, int64_t stride,
                       void* x, const float* cos, const float* sin, float direction) {
    if (is_bf16)
        rotate(tokens, heads, width, stride, (bf16*)x, cos, sin, direction);
    else
        rotate(tokens, heads, width, stride, (float*)x, cos, sin, direction);
}

extern "C" void swiglu(int is_bf16, int64_t tokens, int64_t width, const void* gate_up, void* act) {
    if (is_bf16)
        gate(tokens, width, (const bf16*)gate_up, (bf16*)act);
    else
        gate(tokens, width, (const float*)gate_up, (float*)act);
}

extern "C" void swiglu_backward(int is_bf16, int64_t tokens, int64_t width, void* gate_up,
                                void* act) {
    if (is_bf16)
        gate_backward(tokens, width, (bf16*)gate_up, (bf16*)act);
    else
        gate_backward(tokens, width, (float*)gate_up, (float*)act);
}

extern "C" void add(int is_bf16, int64_t count, float* total, const void* part) {
    if (is_bf16)
        accumulate(count, total, (const bf16*)part);
    else
        accumulate(count, total, (const float*)part);
}

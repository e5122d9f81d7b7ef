// Cross entropy over a chunk of logits, and its gradient in their place.

#include "simd.h"

#include <algorithm>
#include <limits>

namespace tongwen {
namespace {

// loss = -log softmax(row)[target]; with `weight` the row becomes weight * (softmax - one-hot).
template <class T>
float row_loss(int64_t vocabulary, T* row, int64_t target, const float* weight) {
    float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < vocabulary; ++i) top = std::max(top, widen(row[i]));
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < vocabulary; ++i) total += exponential(widen(row[i]) - top);
    const float at = widen(row[target]), log_total = top + std::log(total);
    if (weight) {
        const float factor = *weight / total;
#pragma omp simd
        for (int64_t i = 0; i < vocabulary; ++i)
            row[i] = narrow<T>(exponential(widen(row[i]) - top) * factor);
        row[target] = narrow<T>((std::exp(at - log_total) - 1.0f) * *weight);
    }
    return log_total - at;
}

template <class T>
void losses(int64_t count, int64_t vocabulary, T* logits, const int64_t* target,
            const float* weight, float* loss) {
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < count; ++c)
        loss[c] = row_loss(vocabulary, logits + c * vocabulary, target[c],
                           weight ? weight + c : nullptr);
}

}  // namespace
}  // namespace tongwen

using namespace tongwen;

extern "C" void cross_entropy(int is_bf16, int64_t count, int64_t vocabulary, void* logits,
                              const int64_t* target, const float* weight, float* loss) {
    if (is_bf16)
        losses(count, vocabulary, (bf16*)logits, target, weight, loss);
    else
        losses(count, vocabulary, (float*)logits, target, weight, loss);
}

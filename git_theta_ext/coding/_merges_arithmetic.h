/* The loops of merge methods, each over a block of elements in the cache, and the election of signs.

   _merges_blocks.h and _merges_counts.h include it. */

#pragma once

#include "_merges_elements.h"

#include <math.h>

#define BLOCK 512 /* elements of each input that are in the cache at a time */

KERNEL void subtract(float *restrict values, const float *base, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] -= base[i];
}

KERNEL void trim(float *values, Py_ssize_t count, float least) {
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] *= fabsf(values[i]) >= least ? 1.0f : 0.0f;
}

KERNEL void multiply(float *values, Py_ssize_t count, float factor) {
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] *= factor;
}

/* Clear the elements whose random number is not below kept, and divide the others by it. The numbers are SplitMix64's. */
KERNEL void drop(float *values, Py_ssize_t count, uint64_t key, uint64_t first, float kept) {
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t mixed = (first + 1 + (uint64_t)i) * 0x9E3779B97F4A7C15u + key;
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
        mixed ^= mixed >> 31;
        float number = (float)(int32_t)(mixed >> 40) * 0x1p-24f;
        values[i] = (number >= kept ? 0.0f : values[i]) / kept;
    }
}

KERNEL void weigh(const float *values, Py_ssize_t count, double weight, double *restrict out) {
    for (Py_ssize_t i = 0; i < count; i++)
        out[i] = (double)values[i] * weight;
}

KERNEL void in_order(double *restrict low, double *restrict high, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        double one = low[i], other = high[i];
        low[i] = one < other ? one : other;
        high[i] = one < other ? other : one;
    }
}

/* Batcher's odd-even merge sort of the terms of each element. */
static void sort_terms(double *terms, int number, Py_ssize_t count) {
    for (int size = 1; size < number; size *= 2)
        for (int step = size; step; step /= 2)
            for (int start = step % size; start < number - step; start += 2 * step)
                for (int low = start; low < start + step && low < number - step; low++)
                    if (low / (2 * size) == (low + step) / (2 * size))
                        in_order(terms + low * BLOCK, terms + (low + step) * BLOCK, count);
}

KERNEL void add_up(double *restrict total, const double *term, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        total[i] += term[i];
}

KERNEL void divided(const double *total, Py_ssize_t count, double divisor, float *restrict out) {
    int exponent;
    if (frexp(divisor, &exponent) == 0.5) { /* a power of two, whose reciprocal gives the same and takes less time */
        double factor = 1 / divisor;
        for (Py_ssize_t i = 0; i < count; i++)
            out[i] = (float)(total[i] * factor);
        return;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        out[i] = (float)(total[i] / divisor);
}

KERNEL void add(float *restrict values, const float *others, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] += others[i];
}

typedef struct {
    float total[BLOCK], above[BLOCK], below[BLOCK], plus[BLOCK], minus[BLOCK];
} election;

static inline float sign(float value) { return (float)((value > 0) - (value < 0)); }

KERNEL void vote(election *restrict sums, const float *values, Py_ssize_t count, float weight, int by_mass) {
    for (Py_ssize_t i = 0; i < count; i++) {
        float value = values[i], signed_one = sign(value);
        sums->total[i] += by_mass ? value : signed_one;
        sums->above[i] += value > 0 ? value : 0;
        sums->below[i] += value < 0 ? value : 0;
        sums->plus[i] += (signed_one > 0 ? 1.0f : 0.0f) * weight;
        sums->minus[i] += (signed_one < 0 ? 1.0f : 0.0f) * weight;
    }
}

KERNEL void elect(election *restrict sums, Py_ssize_t count, float half, float *restrict out, int64_t *votes, int64_t *ties) {
    int all = 0, undecided = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        float elected = sign(sums->total[i]);
        all += (int)elected;
        undecided += (int)sign(sums->plus[i] + sums->minus[i]) - (elected != 0);
        float positive = elected + half > 0 ? 1.0f : 0.0f;
        float above = sums->above[i] / (sums->plus[i] > 1e-30f ? sums->plus[i] : 1e-30f) * positive;
        float below = sums->below[i] / (sums->minus[i] > 1e-30f ? sums->minus[i] : 1e-30f) * (1.0f - positive);
        out[i] = above + below;
    }
    *votes += all;
    *ties += undecided;
}

/* The steps of the search for thin factors: the narrowest intervals that have enough values, and solutions for a row.

   _factors.c includes it. */

#pragma once

#include "_exact_floats.h"
#include "_extension.h"

/* Vector instructions of newer processors are used if the processor has them; none that fuses a product and a sum. */
#define KERNEL ALSO_WITH("avx2") OPTIMIZED static
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

#define MOST_RANKS 16    /* matrix products of numpy are as fast for higher ranks */
#define MOST_COUNT 4096  /* intervals of a row */

typedef double four __attribute__((vector_size(32)));

/* The bits of positive float32 are in the order of the numbers. */
static uint32_t kth(uint32_t *values, Py_ssize_t count, Py_ssize_t k) {
    Py_ssize_t low = 0, high = count - 1;
    while (low < high) {
        uint32_t pivot = values[low + (high - low) / 2];
        Py_ssize_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (values[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t swapped = values[i];
                values[i++] = values[j];
                values[j--] = swapped;
            }
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            break;
    }
    return values[k];
}

#define BINS 4096 /* by the exponent and the upper bits of the mantissa */
#define BIN(bits) ((bits) >> 19 & (BINS - 1))

/* Values below zero may hide others; there are none. */
static Py_ssize_t select_row(const uint32_t *half, Py_ssize_t columns, Py_ssize_t count, uint32_t *room, int32_t *chosen) {
    int32_t counts[BINS] = {0};
    for (Py_ssize_t i = 0; i < columns; i++)
        counts[BIN(half[i])]++;
    uint32_t bin = 0;
    Py_ssize_t below = 0, inside = 0;
    while (below + counts[bin] < count)
        below += counts[bin++];
    for (Py_ssize_t i = 0; i < columns; i++) {
        room[inside] = half[i];
        inside += BIN(half[i]) == bin;
    }
    uint32_t last = kth(room, inside, count - below - 1);
    for (Py_ssize_t i = 0; i < inside; i++)
        below += room[i] < last;
    Py_ssize_t equal = count - below, found = 0;
    for (Py_ssize_t i = 0; i < columns && found < count; i++) {
        int is_equal = half[i] == last && equal > 0;
        chosen[found] = (int32_t)i;
        found += half[i] < last || is_equal;
        equal -= is_equal;
    }
    return found;
}

/* See misses of _intervals.py. Also multiply the distances by their weights. */
INLINE Py_ssize_t weigh_misses(const float *centre, const float *half, Py_ssize_t count, float aim, float unit, float inside,
                               double *restrict products, double *restrict weights) {
    Py_ssize_t missing = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        float off = (float)((double)centre[i] - products[i]), inner = half[i] * aim;
        float nearest = off > -inner ? off : -inner;
        nearest = nearest < inner ? nearest : inner;
        float missed = off - nearest, weight = unit / half[i];
        weight *= weight;
        weight = missed != 0 ? weight : weight * inside;
        missing += missed != 0;
        weights[i] = (double)weight;
        products[i] = (double)weight * (double)missed;
    }
    return missing;
}

/* Solve normal * step = towards for a symmetric positive definite matrix; return 0 if it is not. */
INLINE int solve(double *restrict normal, double *restrict towards, int rank, int width) {
    double mean = 0;
    for (int i = 0; i < rank; i++)
        mean += normal[i * width + i] / rank;
    for (int i = 0; i < rank; i++)
        normal[i * width + i] = normal[i * width + i] * (1 + 1e-12) + 1e-12 * mean + 1e-300;
    /* The upper triangle becomes that of R, with normal = R^T R; the diagonal, its inverse. */
    for (int i = 0; i < rank; i++) {
        double pivot = normal[i * width + i];
        if (!(pivot > 0))
            return 0;
        double root = __builtin_sqrt(pivot), inverse = 1 / root;
        for (int j = i; j < rank; j++)
            normal[i * width + j] *= inverse;
        towards[i] *= inverse;
        for (int k = i + 1; k < rank; k++) {
            double factor = normal[i * width + k];
            for (int j = k; j < rank; j++)
                normal[k * width + j] -= factor * normal[i * width + j];
            towards[k] -= factor * towards[i];
        }
    }
    for (int i = rank - 1; i >= 0; i--) {
        for (int j = i + 1; j < rank; j++)
            towards[i] -= normal[i * width + j] * towards[j];
        towards[i] /= normal[i * width + i];
    }
    return 1;
}

INLINE Py_ssize_t improve_row(const float *centre, const float *half, const int32_t *columns, Py_ssize_t count,
                              const double *vectors, int rank, int width, double *row, float aim, float unit, float inside,
                              double *restrict products, double *restrict weights) {
    double normal[MOST_RANKS * MOST_RANKS], towards[MOST_RANKS], own[MOST_RANKS] = {0};
    memcpy(own, row, (size_t)rank * sizeof *own);
    for (Py_ssize_t i = 0; i < count; i++) {
        const double *vector = vectors + (Py_ssize_t)columns[i] * width;
        four sum = {0};
        for (int j = 0; j < width; j += 4) {
            four one, other;
            memcpy(&one, own + j, sizeof one);
            memcpy(&other, vector + j, sizeof other);
            sum += one * other;
        }
        products[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
    Py_ssize_t missing = weigh_misses(centre, half, count, aim, unit, inside, products, weights);
    /* The sums of a block of 4 x 4 stay in registers. Those below the diagonal are not needed. */
    for (int k = 0; k < width; k += 4) {
        for (int j = 0; j <= k; j += 4) {
            four first = {0}, second = {0}, third = {0}, fourth = {0}, pulled = {0};
            for (Py_ssize_t i = 0; i < count; i++) {
                const double *from = vectors + (Py_ssize_t)columns[i] * width;
                four vector;
                memcpy(&vector, from + k, sizeof vector);
                if (j == k)
                    pulled += products[i] * vector;
                vector *= weights[i];
                first += from[j] * vector;
                second += from[j + 1] * vector;
                third += from[j + 2] * vector;
                fourth += from[j + 3] * vector;
            }
            if (j == k)
                memcpy(towards + k, &pulled, sizeof pulled);
            memcpy(normal + j * width + k, &first, sizeof first);
            memcpy(normal + (j + 1) * width + k, &second, sizeof second);
            memcpy(normal + (j + 2) * width + k, &third, sizeof third);
            memcpy(normal + (j + 3) * width + k, &fourth, sizeof fourth);
        }
    }
    if (solve(normal, towards, rank, width))
        for (int j = 0; j < rank; j++)
            row[j] += towards[j];
    return missing;
}

#define OF_WIDTH(N) \
    KERNEL Py_ssize_t improve_##N(const float *centre, const float *half, const int32_t *columns, Py_ssize_t rows, \
                                  Py_ssize_t count, const double *vectors, int rank, double *left, float aim, float unit, \
                                  float inside) { \
        double products[MOST_COUNT], weights[MOST_COUNT]; \
        Py_ssize_t missing = 0; \
        for (Py_ssize_t i = 0; i < rows; i++) \
            missing += improve_row(centre + i * count, half + i * count, columns + i * count, count, vectors, rank, N, \
                                   left + i * rank, aim, unit, inside, products, weights); \
        return missing; \
    }

OF_WIDTH(4)
OF_WIDTH(8)
OF_WIDTH(12)
OF_WIDTH(16)

static Py_ssize_t (*const improvers[])(const float *, const float *, const int32_t *, Py_ssize_t, Py_ssize_t,
                                       const double *, int, double *, float, float, float) = {improve_4, improve_8,
                                                                                               improve_12, improve_16};

/* The choice of stripes by estimates of what they take once compressed, as in stripe_plan.py, with the same results.

   _residuals_chunk.h includes it. */

#pragma once

#include "_exact_floats.h"
#include "_residuals_widths.h"

#include <stdlib.h>

static const int SYMBOL_BITS[SIZES] = {1, 2, 4, 8};
static const int TOPS[SIZES] = {1, 3, 15, 255};

/* Add numbers in the order in which numpy does. */
static double sum(const double *values, Py_ssize_t count) {
    double parts[8], total = 0;
    Py_ssize_t at = 8, half = count / 2 - count / 2 % 8;
    if (count > 128)
        return sum(values, half) + sum(values + half, count - half);
    if (count < 8) {
        for (at = 0; at < count; at++)
            total += values[at];
        return total;
    }
    memcpy(parts, values, sizeof parts);
    for (; at < count - count % 8; at += 8) {
        for (int i = 0; i < 8; i++)
            parts[i] += values[at + i];
    }
    total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
    for (; at < count; at++)
        total += values[at];
    return total;
}

static double loss(double share) { return 0.03 + 1.4 * (share - 0.4 > 0 ? share - 0.4 : 0); }

/* See _costs of stripe_plan.py. */
static void estimate(const int32_t *counts, int width, int low, const double *logs, double costs[SIZES]) {
    double terms[VALUES], shares[SIZES];
    int64_t excesses[SIZES + 1] = {0}, total = 0;
    for (int value = 0; value < VALUES; value++)
        terms[value] = logs[counts[value]];
    for (int size = SIZES - 1, value = VALUES; size >= 0; size--) {
        excesses[size] = excesses[size + 1];
        while (value > TOPS[size])
            excesses[size] += counts[--value];
    }
    total = counts[0] + excesses[0];
    double ideal = logs[total] - sum(terms, VALUES) + (double)(counts[VALUES - 1] * (int64_t)8 * (width - 1)) +
                   (double)(8 * low * total);
    shares[3] = (double)counts[0] / (double)(total ? total : 1);
    for (int size = SIZES - 2; size >= 0; size--)
        shares[size] = shares[size + 1] * shares[size + 1];
    for (int size = 0; size < SIZES; size++) {
        double often = (double)counts[TOPS[size]] / (double)(excesses[size] ? excesses[size] : 1);
        costs[size] = ideal + (double)(total * SYMBOL_BITS[size]) / 8 * loss(shares[size]);
        costs[size] += (double)excesses[size] * loss(often);
    }
}

/* Find the ends of stripes as in _bounds of stripe_plan.py, and return their number. */
static int bound(const double *bits, int groups, double least, double most, int *bounds) {
    double filled = 0, share = sum(bits, groups) / most;
    int count = 0;
    least = least > share ? least : share;
    for (int at = 0; at < groups; at++) {
        filled += bits[at];
        if (filled >= least) {
            bounds[count++] = at + 1;
            filled = 0;
        }
    }
    if (!count || bounds[count - 1] < groups)
        bounds[count++] = groups;
    return count;
}

/* Choose the stripes, given the counts by number of low bytes, rank of the key and value; return their number. */
static int choose(int32_t *counts, int lows, int groups, int width, Py_ssize_t step, const double *logs, double least,
                  double most, const uint8_t *used, stripe *chosen) {
    double bits[VALUES], costs[SIZES];
    int bounds[VALUES], count;
    for (int at = 0; at < groups; at++) {
        double best = 0;
        for (int low = 0; low < lows; low++) {
            estimate(counts + (low * groups + at) * VALUES, width, low, logs, costs);
            for (int size = 0; size < SIZES; size++)
                best = (low || size) && best <= costs[size] ? best : costs[size];
        }
        bits[at] = best * (double)step;
    }
    count = bound(bits, groups, least, most, bounds);
    for (int at = 0, start = 0; at < count; start = bounds[at++]) {
        double best = 0;
        for (int low = 0; low < lows; low++) {
            int32_t *table = counts + (low * groups + start) * VALUES;
            for (int other = 1; other < bounds[at] - start; other++) {
                for (int value = 0; value < VALUES; value++)
                    table[value] += table[other * VALUES + value];
            }
            estimate(table, width, low, logs, costs);
            for (int size = 0; size < SIZES; size++) {
                if ((low || size) && best <= costs[size])
                    continue;
                best = costs[size];
                chosen[at].low = low;
                chosen[at].bits = SYMBOL_BITS[size];
            }
        }
        chosen[at].last = at + 1 < count ? used[bounds[at] - 1] : VALUES - 1;
    }
    return count;
}

/* See stripe_plan.py. Return the number of stripes; 0 if there is no memory.

   A difference takes as many bytes as held says, fewer than the width of an element if all that do not fit are the largest
   byte: these count alike. */
static int plan(const char *missed, const uint8_t *keys, Py_ssize_t count, int width, int held, Py_ssize_t sample,
                const double *logs, double least, double most, stripe *chosen) {
    static void (*const functions[SIZES])(const void *, const uint8_t *, Py_ssize_t, Py_ssize_t, int, const uint8_t *, int,
                                          int32_t *) = BY_WIDTH(histogram);
    uint8_t seen[VALUES] = {0}, ranks[VALUES] = {0}, used[VALUES];
    Py_ssize_t step = count / sample | 1;
    int groups = 0, lows = width > 2 ? width - 1 : 1;
    for (Py_ssize_t i = 0; i < count; i += step)
        seen[keys[i]] = 1;
    for (int value = 0; value < VALUES; value++) {
        if (seen[value]) {
            ranks[value] = (uint8_t)groups;
            used[groups++] = (uint8_t)value;
        }
    }
    int32_t *counts = calloc((size_t)(lows * groups) * VALUES, sizeof *counts);
    if (counts == NULL)
        return 0;
    functions[place(held)](missed, keys, count, step, lows, ranks, groups, counts);
    int number = choose(counts, lows, groups, width, step, logs, least, most, used, chosen);
    free(counts);
    return number;
}

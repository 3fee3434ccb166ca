/* Stripes of a residual, and the sizes of their planes. A stripe has the elements whose keys are near each other; it is stored
   as planes of low bytes, one of symbols of a few bits, and planes of what exceeds the symbols.

   Every header of _residuals.c that works with stripes includes it. */

#pragma once

#include "_extension.h"

#define SIZES 4    /* numbers of bits of a symbol; also of the widths of elements */
#define VALUES 256 /* values of a byte, such as a key */
#define STREAMS 4  /* parts of the elements that are grouped at the same time: each addition waits for the one before */

typedef struct {
    int last, low, bits, wide;
    Py_ssize_t start, end, excesses;
    Py_ssize_t larges; /* differences that are apart, in this stripe and those before it */
} stripe;

static Py_ssize_t planes_of(const stripe *one, Py_ssize_t sizes[]) {
    Py_ssize_t count = one->end - one->start, number = 0;
    for (int low = 0; low < one->low; low++)
        sizes[number++] = count;
    sizes[number++] = (count * one->bits + 7) / 8;
    for (int at = 0; at < one->wide; at++)
        sizes[number++] = one->excesses;
    return number;
}

static Py_ssize_t planes_bytes(const stripe *stripes, int number) {
    Py_ssize_t sizes[2 * 8 + 1], total = 0;
    for (int at = 0; at < number; at++) {
        for (Py_ssize_t plane = planes_of(stripes + at, sizes); plane > 0; plane--)
            total += sizes[plane - 1];
    }
    return total;
}

/* Join bf16 values from their exponents and the rest. _kernels.c and _literals.c include it. */

#pragma once

#include "_extension.h"

ALSO_WITH("avx2") OPTIMIZED static void join_two(const uint8_t *exponent, const uint8_t *top, Py_ssize_t count,
                                                 char *restrict out) {
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t value = (uint16_t)(exponent[i] << 7 | top[i] >> 1 | top[i] << 15);
        STORE(out, i, value);
    }
}

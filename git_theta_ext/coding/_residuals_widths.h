/* The loops over elements of 8, 16, 32 and 64 bits, for every processor.

   _residuals_stripe_plan.h and _residuals_chunk.h include it. */

#pragma once

#include "_residuals_stripes.h"
#include "_residuals_symbols.h"

/* Vector instructions of newer processors are used if the processor has them. */
#define KERNEL ALSO_WITH("avx2") OPTIMIZED static

#define BLOCK 128 /* elements that are counted in a byte */

/* How the key of an element follows from its prediction: bits of it, or its position in a block of so many bytes. */
typedef struct {
    int width, mantissa, mask, block;
} kind;

/* Functions for integers of 8, 16, 32 and 64 bits. */
#define OF_WIDTH(N) \
    KERNEL int differences_##N(const void *values, const void *guesses, Py_ssize_t count, char *out) { \
        uint##N##_t any = 0; \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, value, values, i); \
            LOAD(uint##N##_t, guess, guesses, i); \
            uint##N##_t missed = (uint##N##_t)(value - guess); \
            uint##N##_t sign = (uint##N##_t)(0 - (missed >> (N - 1))); \
            missed = (uint##N##_t)((uint##N##_t)(missed << 1) ^ sign); \
            any |= missed; \
            STORE(out, i, missed); \
        } \
        return any != 0; \
    } \
    KERNEL void add_differences_##N(const void *missed, const void *guesses, Py_ssize_t count, char *out) { \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, zigzag, missed, i); \
            LOAD(uint##N##_t, guess, guesses, i); \
            uint##N##_t sign = (uint##N##_t)(0 - (zigzag & 1)); \
            uint##N##_t value = (uint##N##_t)(((uint##N##_t)(zigzag >> 1) ^ sign) + guess); \
            STORE(out, i, value); \
        } \
    } \
    KERNEL void keys_##N(const void *guesses, Py_ssize_t count, int mantissa, int mask, uint8_t *out) { \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, guess, guesses, i); \
            out[i] = (uint8_t)((guess >> mantissa) & mask); \
        } \
    } \
    static void histogram_##N(const void *missed, const uint8_t *keys, Py_ssize_t count, Py_ssize_t step, int lows, \
                                 const uint8_t *ranks, int groups, int32_t *counts) { \
        for (Py_ssize_t i = 0; i < count; i += step) { \
            LOAD(uint##N##_t, value, missed, i); \
            int32_t *table = counts + ranks[keys[i]] * VALUES; \
            for (int low = 0; low < lows; low++, table += groups * VALUES) { \
                uint##N##_t rest = (uint##N##_t)(value >> 8 * low); \
                table[rest < VALUES ? rest : VALUES - 1]++; \
            } \
        } \
    } \
    KERNEL void measure_##N(const void *missed, stripe *one) { \
        const uint##N##_t top = (uint##N##_t)((1 << one->bits) - 1); \
        const int shift = 8 * one->low; \
        uint##N##_t largest = 0; \
        Py_ssize_t excesses = 0; \
        for (Py_ssize_t i = one->start; i < one->end;) { \
            Py_ssize_t end = one->end - i < BLOCK ? one->end : i + BLOCK; \
            uint##N##_t some = 0; /* as wide as the elements, so that one instruction adds to several */ \
            for (; i < end; i++) { \
                LOAD(uint##N##_t, value, missed, i); \
                value = (uint##N##_t)(value >> shift); \
                some = (uint##N##_t)(some + (value >= top)); \
                largest = value > largest ? value : largest; \
            } \
            excesses += (Py_ssize_t)some; \
        } \
        one->excesses = excesses; \
        largest = (uint##N##_t)(excesses ? largest - top : 0); \
        for (one->wide = 0; largest; one->wide++) \
            largest = (uint##N##_t)((uint64_t)largest >> 8); \
    } \
    /* Write the planes of a stripe. There is a byte for each of its symbols, and seven more. */ \
    KERNEL void write_##N(const char *restrict missed, const stripe *one, uint8_t *restrict symbols, \
                          uint8_t *restrict out) { \
        const Py_ssize_t count = one->end - one->start, excesses = one->excesses; \
        const int shift = 8 * one->low, wide = one->wide; \
        Py_ssize_t beyond = 0; \
        missed += one->start * (N / 8); \
        const uint##N##_t top = (uint##N##_t)((1 << one->bits) - 1); \
        for (int low = 0; low < one->low; low++, out += count) { \
            for (Py_ssize_t i = 0; i < count; i++) { \
                LOAD(uint##N##_t, value, missed, i); \
                out[i] = (uint8_t)(value >> 8 * low); \
            } \
        } \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, value, missed, i); \
            value = (uint##N##_t)(value >> shift); \
            symbols[i] = (uint8_t)(value < top ? value : top); \
        } \
        out += pack_symbols(symbols, count, one->bits, out); \
        for (Py_ssize_t i = 0; wide && i < count; i += 64) { \
            uint64_t equal = equal_bytes(symbols + i, count - i, (uint8_t)top); \
            for (; equal && beyond < excesses; equal &= equal - 1, beyond++) { \
                LOAD(uint##N##_t, value, missed, i + lowest(equal)); \
                value = (uint##N##_t)(value >> shift); \
                uint64_t excess = (uint64_t)(uint##N##_t)(value - top); \
                for (int at = 0; at < wide; at++) \
                    out[at * excesses + beyond] = (uint8_t)(excess >> 8 * (wide - 1 - at)); \
            } \
        } \
    } \
    /* Read the planes of a stripe, and return whether their number of excesses is as stated; symbols as for write. */ \
    KERNEL int read_##N(const uint8_t *const *planes, const stripe *one, uint8_t *restrict symbols, \
                        char *restrict missed) { \
        const Py_ssize_t count = one->end - one->start, number = one->excesses; \
        const int wide = one->wide; \
        Py_ssize_t beyond = 0; \
        const uint8_t top = (uint8_t)((1 << one->bits) - 1); \
        const uint8_t *const *excesses = planes + one->low + 1; \
        missed += one->start * (N / 8); \
        unpack_symbols(planes[one->low], count, one->bits, symbols); \
        for (Py_ssize_t i = 0; i < count;) { \
            Py_ssize_t end = count - i < BLOCK ? count : i + BLOCK; \
            uint8_t some = 0; \
            for (; i < end; i++) { \
                uint##N##_t symbol = symbols[i]; \
                STORE(missed, i, symbol); \
                some = (uint8_t)(some + (symbols[i] == top)); \
            } \
            beyond += some; \
        } \
        if (beyond != number) \
            return 0; \
        beyond = 0; \
        for (Py_ssize_t i = 0; wide && i < count; i += 64) { \
            uint64_t equal = equal_bytes(symbols + i, count - i, top); \
            for (; equal && beyond < number; equal &= equal - 1, beyond++) { \
                uint64_t excess = 0; \
                for (int at = 0; at < wide; at++) \
                    excess = excess << 8 | excesses[at][beyond]; \
                uint##N##_t value = (uint##N##_t)(top + excess); \
                STORE(missed, i + lowest(equal), value); \
            } \
        } \
        for (int low = one->low - 1; low >= 0; low--) { \
            const uint8_t *rest = planes[low]; \
            for (Py_ssize_t i = 0; i < count; i++) { \
                LOAD(uint##N##_t, value, missed, i); \
                value = (uint##N##_t)((uint64_t)value << 8 | rest[i]); \
                STORE(missed, i, value); \
            } \
        } \
        return 1; \
    } \
    static void group_##N(const void *values, const uint8_t *keys, Py_ssize_t count, Py_ssize_t next[STREAMS][VALUES], \
                          char *out) { \
        Py_ssize_t part = count / STREAMS; \
        for (Py_ssize_t i = 0; i < part; i++) { \
            for (int stream = 0; stream < STREAMS; stream++) { \
                LOAD(uint##N##_t, value, values, stream * part + i); \
                STORE(out, next[stream][keys[stream * part + i]]++, value); \
            } \
        } \
        for (Py_ssize_t i = STREAMS * part; i < count; i++) { \
            LOAD(uint##N##_t, value, values, i); \
            STORE(out, next[STREAMS - 1][keys[i]]++, value); \
        } \
    } \
    static void ungroup_##N(const void *values, const uint8_t *keys, Py_ssize_t count, Py_ssize_t next[STREAMS][VALUES], \
                            char *out) { \
        Py_ssize_t part = count / STREAMS; \
        for (Py_ssize_t i = 0; i < part; i++) { \
            for (int stream = 0; stream < STREAMS; stream++) { \
                LOAD(uint##N##_t, value, values, next[stream][keys[stream * part + i]]++); \
                STORE(out, stream * part + i, value); \
            } \
        } \
        for (Py_ssize_t i = STREAMS * part; i < count; i++) { \
            LOAD(uint##N##_t, value, values, next[STREAMS - 1][keys[i]]++); \
            STORE(out, i, value); \
        } \
    }

OF_WIDTH(8)
OF_WIDTH(16)
OF_WIDTH(32)
OF_WIDTH(64)

#define BY_WIDTH(name) {name##_8, name##_16, name##_32, name##_64}

/* The place of a width in bytes in tables of functions; -1 for what is no width. */
static int place(int width) {
    return width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : width == 8 ? 3 : -1;
}

static int differ(int width, const void *values, const void *guesses, Py_ssize_t count, char *out) {
    static int (*const functions[SIZES])(const void *, const void *, Py_ssize_t, char *) = BY_WIDTH(differences);
    return functions[place(width)](values, guesses, count, out);
}

static void add_differences(int width, const void *missed, const void *guesses, Py_ssize_t count, char *out) {
    static void (*const functions[SIZES])(const void *, const void *, Py_ssize_t, char *) = BY_WIDTH(add_differences);
    functions[place(width)](missed, guesses, count, out);
}

static void make_keys(const kind *how, const void *guesses, Py_ssize_t count, uint8_t *keys) {
    static void (*const functions[SIZES])(const void *, Py_ssize_t, int, int, uint8_t *) = BY_WIDTH(keys);
    if (how->block) {
        for (Py_ssize_t i = 0, position = 0; i < count; i++) {
            keys[i] = (uint8_t)position;
            position = position + 1 < how->block ? position + 1 : 0;
        }
    } else if (how->mask) {
        functions[place(how->width)](guesses, count, how->mantissa, how->mask, keys);
    } else {
        memset(keys, 0, (size_t)count);
    }
}

static int is_kind(const kind *how) {
    return place(how->width) >= 0 && how->mantissa >= 0 && how->mantissa < 8 * how->width && how->mask >= 0 &&
           how->mask < VALUES && how->block >= 0 && how->block < VALUES;
}

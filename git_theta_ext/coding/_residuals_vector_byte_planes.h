/* The planes of stripes whose differences are bytes, but for those that no byte holds; see _residuals_vector_bytes.h.

   That header includes it. These functions are only called if has_vectors says so. */

#pragma once

#include "_residuals_stripes.h"
#include "_residuals_vector_planes.h"

#define LARGE 255 /* the least difference that is apart */

/* The differences that no byte holds, and their keys. */
typedef struct {
    uint16_t *values;
    uint8_t *keys;
    Py_ssize_t number, most;
} larges;

#if COMPRESSES

static inline uint64_t first_bits(Py_ssize_t count) {
    return count < 64 ? ((uint64_t)1 << count) - 1 : ~(uint64_t)0;
}

/* Count the bytes that are at least so large, and find the largest byte. */
VECTORS Py_ssize_t count_beyond(const uint8_t *bytes, Py_ssize_t count, int top, int *largest) {
    Py_ssize_t beyond = 0;
    uint8_t found[64];
    __m512i most = _mm512_setzero_si512();
    for (Py_ssize_t i = 0; i < count; i += 64) {
        __m512i here = _mm512_maskz_loadu_epi8(first_bits(count - i), bytes + i);
        beyond += __builtin_popcountll(_mm512_cmpge_epu8_mask(here, _mm512_set1_epi8((char)top)));
        most = _mm512_max_epu8(most, here);
    }
    _mm512_storeu_si512(found, most);
    for (int at = 0; at < 64; at++)
        *largest = found[at] > *largest ? found[at] : *largest;
    return beyond;
}

/* As measure of _residuals_widths.h, given the large differences of the stripe. */
static void measure_bytes(const uint8_t *missed, stripe *one, const uint16_t *large, Py_ssize_t number) {
    const int top = (1 << one->bits) - 1;
    int largest = 0;
    one->excesses = count_beyond(missed + one->start, one->end - one->start, top, &largest);
    for (Py_ssize_t at = 0; at < number; at++)
        largest = large[at] > largest ? large[at] : largest;
    largest = one->excesses ? largest - top : 0;
    for (one->wide = 0; largest; one->wide++)
        largest >>= 8;
}

/* Pack the symbols of 64 elements, and write their excesses, of which at precede them. Return the number of these. */
INLINE Py_ssize_t write_bytes_block(const int bits, __m512i missed, const stripe *one, Py_ssize_t at, const uint16_t **large,
                                    uint8_t *packed, uint8_t *high, uint8_t *low) {
    const int top = (1 << bits) - 1;
    const __m512i tops = _mm512_set1_epi8((char)top);
    uint64_t beyond = _mm512_cmpge_epu8_mask(missed, tops);
    Py_ssize_t count = __builtin_popcountll(beyond);
    pack_block(bits, _mm512_min_epu8(missed, tops), packed);
    if (!one->wide || !beyond)
        return at + count;
    __m512i some = _mm512_maskz_compress_epi8(beyond, missed), excesses = _mm512_sub_epi8(some, tops);
    if (at + 64 <= one->excesses)
        _mm512_storeu_si512(low + at, excesses);
    else
        _mm512_mask_storeu_epi8(low + at, first_bits(count), excesses);
    for (uint64_t left = _mm512_cmpeq_epi8_mask(some, _mm512_set1_epi8((char)LARGE)); left; left &= left - 1) {
        Py_ssize_t place = at + __builtin_ctzll(left);
        int excess = *(*large)++ - top;
        low[place] = (uint8_t)excess;
        if (one->wide > 1)
            high[place] = (uint8_t)(excess >> 8);
    }
    return at + count;
}

INLINE void write_bytes_for(const int bits, const uint8_t *missed, const stripe *one, const uint16_t *large, uint8_t *out) {
    Py_ssize_t count = one->end - one->start, i = 0, at = 0;
    uint8_t *high = out + (count * bits + 7) / 8, *low = one->wide > 1 ? high + one->excesses : high, packed[64];
    if (one->wide > 1)
        memset(high, 0, (size_t)one->excesses);
    for (; i + 64 <= count; i += 64)
        at = write_bytes_block(bits, _mm512_loadu_si512(missed + i), one, at, &large, out + i / 8 * bits, high, low);
    if (i < count) {
        __m512i last = _mm512_maskz_loadu_epi8(first_bits(count - i), missed + i);
        write_bytes_block(bits, last, one, at, &large, packed, high, low);
        memcpy(out + i / 8 * bits, packed, (size_t)(((count - i) * bits + 7) / 8));
    }
}

/* As write_vectors, given the large differences of the stripe. */
VECTORS void write_bytes(const uint8_t *missed, const stripe *one, const uint16_t *large, uint8_t *out) {
    const uint8_t *first = missed + one->start;
    switch (one->bits) {
    case 1: write_bytes_for(1, first, one, large, out); break;
    case 2: write_bytes_for(2, first, one, large, out); break;
    case 4: write_bytes_for(4, first, one, large, out); break;
    default: write_bytes_for(8, first, one, large, out);
    }
}

/* Undo write_bytes_block for those of 64 elements that are there. Return -1 if there are more excesses than stated, and -2 if
   too many differences are large. */
INLINE Py_ssize_t read_bytes_block(const int bits, const uint8_t *packed, const uint8_t *const *excesses, const stripe *one,
                                   Py_ssize_t at, uint64_t there, larges *apart, __m512i *missed) {
    const int top = (1 << bits) - 1;
    const __m512i tops = _mm512_set1_epi8((char)top);
    __m512i symbols = unpack_block(bits, packed);
    uint64_t beyond = _mm512_cmpeq_epi8_mask(symbols, tops) & there, left = 0;
    Py_ssize_t count = __builtin_popcountll(beyond);
    *missed = symbols;
    if (count > one->excesses - at)
        return -1;
    if (!beyond || (!one->wide && bits < 8))
        return at + count;
    const uint8_t *low = one->wide ? excesses[one->wide - 1] + at : NULL, *high = one->wide > 1 ? excesses[0] + at : NULL;
    uint64_t readable = first_bits(count);
    __m512i some = tops;
    if (low != NULL)
        some = _mm512_adds_epu8(some, _mm512_maskz_loadu_epi8(readable, low));
    if (high != NULL)
        left = _mm512_test_epi8_mask(_mm512_maskz_loadu_epi8(readable, high), _mm512_set1_epi8(-1));
    some = _mm512_mask_mov_epi8(some, left, _mm512_set1_epi8((char)LARGE));
    left |= _mm512_mask_cmpeq_epi8_mask(readable, some, _mm512_set1_epi8((char)LARGE));
    if (apart->number + __builtin_popcountll(left) > apart->most)
        return -2;
    for (; left; left &= left - 1) {
        int place = __builtin_ctzll(left), value = top;
        value += low == NULL ? 0 : low[place];
        value += high == NULL ? 0 : high[place] << 8;
        apart->values[apart->number++] = (uint16_t)value;
    }
    *missed = _mm512_mask_expand_epi8(symbols, beyond, some);
    return at + count;
}

INLINE int read_bytes_for(const int bits, const uint8_t *const *planes, const stripe *one, larges *apart, uint8_t *missed) {
    Py_ssize_t count = one->end - one->start, i = 0, at = 0;
    __m512i some;
    for (; i + 64 <= count; i += 64) {
        at = read_bytes_block(bits, planes[0] + i / 8 * bits, planes + 1, one, at, ~(uint64_t)0, apart, &some);
        if (at < 0)
            return at == -1 ? 0 : -1;
        _mm512_storeu_si512(missed + i, some);
    }
    if (i < count) {
        uint8_t packed[64] = {0};
        memcpy(packed, planes[0] + i / 8 * bits, (size_t)(((count - i) * bits + 7) / 8));
        at = read_bytes_block(bits, packed, planes + 1, one, at, first_bits(count - i), apart, &some);
        if (at < 0)
            return at == -1 ? 0 : -1;
        _mm512_mask_storeu_epi8(missed + i, first_bits(count - i), some);
    }
    return at == one->excesses;
}

/* As read_vectors; return -1 if too many differences are large. */
VECTORS int read_bytes(const uint8_t *const *planes, const stripe *one, larges *apart, uint8_t *missed) {
    switch (one->bits) {
    case 1: return read_bytes_for(1, planes, one, apart, missed + one->start);
    case 2: return read_bytes_for(2, planes, one, apart, missed + one->start);
    case 4: return read_bytes_for(4, planes, one, apart, missed + one->start);
    default: return read_bytes_for(8, planes, one, apart, missed + one->start);
    }
}

#else

static void measure_bytes(const uint8_t *missed, stripe *one, const uint16_t *large, Py_ssize_t number) {}
static void write_bytes(const uint8_t *missed, const stripe *one, const uint16_t *large, uint8_t *out) {}
static int read_bytes(const uint8_t *const *planes, const stripe *one, larges *apart, uint8_t *missed) { return -1; }

#endif

/* Group the large differences as their bytes are, and measure all stripes. */
static void measure_all_bytes(const uint8_t *missed, stripe *stripes, int number, const larges *apart, uint16_t *ordered) {
    Py_ssize_t next[VALUES + 1] = {0}, before = 0;
    for (Py_ssize_t at = 0; at < apart->number; at++)
        next[apart->keys[at] + 1]++;
    for (int key = 0; key < VALUES; key++)
        next[key + 1] += next[key];
    for (stripe *one = stripes; one < stripes + number; one++)
        one->larges = next[one->last + 1];
    for (Py_ssize_t at = 0; at < apart->number; at++)
        ordered[number > 1 ? next[apart->keys[at]]++ : at] = apart->values[at];
    for (stripe *one = stripes; one < stripes + number; before = one->larges, one++)
        measure_bytes(missed, one, ordered + before, one->larges - before);
}

/* The planes of a stripe of 16-bit elements, written and read with vectors of 64 elements.

   _residuals_chunk.h includes it, and calls these functions only if has_vectors says so. */

#pragma once

#include "_residuals_stripes.h"
#include "_residuals_vectors.h"

#if COMPRESSES

/* Write excesses, of so many bytes each, to their planes. A whole vector is written unless it would be too long. */
INLINE void write_excesses(__m512i some, Py_ssize_t count, Py_ssize_t at, const stripe *one, uint8_t *out) {
    for (int plane = 0; plane < one->wide; plane++, out += one->excesses) {
        __m256i bytes = _mm512_cvtepi16_epi8(plane + 1 < one->wide ? _mm512_srli_epi16(some, 8) : some);
        if (at + 32 <= one->excesses)
            _mm256_storeu_si256((__m256i *)(out + at), bytes);
        else
            _mm256_mask_storeu_epi8(out + at, (uint32_t)(((uint64_t)1 << count) - 1), bytes);
    }
}

/* Pack 64 symbols. */
INLINE void pack_block(const int bits, __m512i symbols, uint8_t *packed) {
    if (bits == 1) {
        uint64_t word = _mm512_test_epi8_mask(symbols, symbols);
        memcpy(packed, &word, sizeof word);
    } else if (bits == 2) { /* twos, then fours of symbols are added to each other */
        __m512i twos = _mm512_maddubs_epi16(symbols, _mm512_set1_epi16(0x0401));
        _mm_storeu_si128((__m128i *)packed, _mm512_cvtepi32_epi8(_mm512_madd_epi16(twos, _mm512_set1_epi32(0x00100001))));
    } else if (bits == 4) {
        __m512i twos = _mm512_maddubs_epi16(symbols, _mm512_set1_epi16(0x1001));
        _mm256_storeu_si256((__m256i *)packed, _mm512_cvtepi16_epi8(twos));
    } else {
        _mm512_storeu_si512(packed, symbols);
    }
}

/* Undo pack_block. */
INLINE __m512i unpack_block(const int bits, const uint8_t *packed) {
    if (bits == 1) {
        uint64_t word;
        memcpy(&word, packed, sizeof word);
        return _mm512_maskz_set1_epi8(word, 1);
    }
    if (bits == 2) {
        __m512i fours = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)packed));
        fours = _mm512_or_si512(fours, _mm512_slli_epi32(fours, 12));
        fours = _mm512_and_si512(fours, _mm512_set1_epi32(0x000F000F));
        return _mm512_and_si512(_mm512_or_si512(fours, _mm512_slli_epi32(fours, 6)), _mm512_set1_epi8(3));
    }
    if (bits == 4) {
        __m512i twos = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)packed));
        return _mm512_and_si512(_mm512_or_si512(twos, _mm512_slli_epi16(twos, 4)), _mm512_set1_epi8(15));
    }
    return _mm512_loadu_si512(packed);
}

/* Pack the symbols of 64 elements, and write their excesses, of which at precede them. Return the number of these. */
INLINE Py_ssize_t write_block(const int bits, const uint16_t *missed, const stripe *one, Py_ssize_t at, uint8_t *packed,
                              uint8_t *excesses) {
    const __m512i top = _mm512_set1_epi16((short)((1 << bits) - 1));
    __m512i values[2] = {_mm512_loadu_si512(missed), _mm512_loadu_si512(missed + 32)};
    __m256i symbols[2];
    uint32_t beyond[2];
    for (int half = 0; half < 2; half++) {
        beyond[half] = _mm512_cmpge_epu16_mask(values[half], top);
        symbols[half] = _mm512_cvtepi16_epi8(_mm512_min_epu16(values[half], top));
    }
    pack_block(bits, _mm512_inserti64x4(_mm512_castsi256_si512(symbols[0]), symbols[1], 1), packed);
    for (int half = 0; half < 2; half++) {
        Py_ssize_t count = __builtin_popcount(beyond[half]);
        __m512i some = _mm512_maskz_compress_epi16(beyond[half], _mm512_sub_epi16(values[half], top));
        write_excesses(some, count, at, one, excesses);
        at += count;
    }
    return at;
}

INLINE void write_for(const int bits, const uint16_t *missed, const stripe *one, uint8_t *out) {
    Py_ssize_t count = one->end - one->start, i = 0, at = 0;
    uint8_t *excesses = out + (count * bits + 7) / 8;
    for (; i + 64 <= count; i += 64)
        at = write_block(bits, missed + i, one, at, out + i / 8 * bits, excesses);
    if (i < count) {
        uint16_t last[64] = {0};
        uint8_t packed[64];
        memcpy(last, missed + i, (size_t)(count - i) * sizeof *last);
        write_block(bits, last, one, at, packed, excesses);
        memcpy(out + i / 8 * bits, packed, (size_t)(((count - i) * bits + 7) / 8));
    }
}

/* Do as write_16 for a stripe of which no low bytes are split off. */
VECTORS void write_vectors(const void *missed, const stripe *one, uint8_t *out) {
    const uint16_t *first = (const uint16_t *)missed + one->start;
    switch (one->bits) {
    case 1: write_for(1, first, one, out); break;
    case 2: write_for(2, first, one, out); break;
    case 4: write_for(4, first, one, out); break;
    default: write_for(8, first, one, out);
    }
}

INLINE __m512i read_excesses(const uint8_t *const *planes, const stripe *one, Py_ssize_t at) {
    __m512i some = _mm512_setzero_si512();
    for (int plane = 0; plane < one->wide; plane++) {
        uint8_t last[32] = {0};
        const uint8_t *from = planes[plane] + at;
        if (at + 32 > one->excesses) {
            memcpy(last, from, (size_t)(one->excesses - at));
            from = last;
        }
        __m512i bytes = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)from));
        some = _mm512_or_si512(_mm512_slli_epi16(some, 8), bytes);
    }
    return some;
}

/* Undo write_block for those of 64 elements that are there; return -1 if there are more excesses than stated. */
INLINE Py_ssize_t read_block(const int bits, const uint8_t *packed, const uint8_t *const *planes, const stripe *one,
                             Py_ssize_t at, uint64_t there, uint16_t *missed) {
    const __m512i top = _mm512_set1_epi16((short)((1 << bits) - 1));
    __m512i both = unpack_block(bits, packed);
    for (int half = 0; half < 2; half++) {
        __m512i some = _mm512_cvtepu8_epi16(half ? _mm512_extracti64x4_epi64(both, 1) : _mm512_castsi512_si256(both));
        uint32_t beyond = _mm512_cmpeq_epi16_mask(some, top) & (uint32_t)(there >> 32 * half);
        Py_ssize_t count = __builtin_popcount(beyond);
        if (count > one->excesses - at)
            return -1;
        if (one->wide)
            some = _mm512_mask_expand_epi16(some, beyond, _mm512_add_epi16(top, read_excesses(planes, one, at)));
        _mm512_storeu_si512(missed + 32 * half, some);
        at += count;
    }
    return at;
}

INLINE int read_for(const int bits, const uint8_t *const *planes, const stripe *one, uint16_t *missed) {
    Py_ssize_t count = one->end - one->start, i = 0, at = 0;
    for (; i + 64 <= count && at >= 0; i += 64)
        at = read_block(bits, planes[0] + i / 8 * bits, planes + 1, one, at, ~(uint64_t)0, missed + i);
    if (i < count && at >= 0) {
        uint8_t packed[64] = {0};
        uint16_t last[64];
        memcpy(packed, planes[0] + i / 8 * bits, (size_t)(((count - i) * bits + 7) / 8));
        at = read_block(bits, packed, planes + 1, one, at, ((uint64_t)1 << (count - i)) - 1, last);
        memcpy(missed + i, last, (size_t)(count - i) * sizeof *last);
    }
    return at == one->excesses;
}

/* Do as read_16 for a stripe of which no low bytes are split off. */
VECTORS int read_vectors(const uint8_t *const *planes, const stripe *one, void *missed) {
    uint16_t *first = (uint16_t *)missed + one->start;
    switch (one->bits) {
    case 1: return read_for(1, planes, one, first);
    case 2: return read_for(2, planes, one, first);
    case 4: return read_for(4, planes, one, first);
    default: return read_for(8, planes, one, first);
    }
}

#else

static void write_vectors(const void *missed, const stripe *one, uint8_t *out) {}
static int read_vectors(const uint8_t *const *planes, const stripe *one, void *missed) { return 0; }

#endif

/* Symbols of 1, 2, 4 or 8 bits, packed into bytes and unpacked, eight at a time in an integer of 64 bits.

   _residuals_widths.h includes it. */

#pragma once

#include "_extension.h"

#define EACH_BYTE 0x0101010101010101u

#define LOW_BITS (0x7F * EACH_BYTE)

/* Pack eight symbols, one in a byte, into so many bytes as a symbol has bits. */
static inline uint64_t packed_word(uint64_t word, const int bits) {
    if (bits == 1) /* bit 8 i moves to 56 + i, and no other two meet */
        return word * 0x0102040810204080u >> 56;
    /* Bytes halve their distance to the lowest byte, then bits do. */
    if (bits == 2) {
        word = (word | word >> 6) & 0x000F000F000F000Fu;
        word = (word | word >> 12) & 0x000000FF000000FFu;
        return (word | word >> 24) & 0xFFFF;
    }
    word = (word | word >> 4) & 0x00FF00FF00FF00FFu;
    word = (word | word >> 8) & 0x0000FFFF0000FFFFu;
    return (word | word >> 16) & 0xFFFFFFFF;
}

/* Undo packed_word. */
static inline uint64_t unpacked_word(uint64_t word, const int bits) {
    if (bits == 1)
        return ((word * EACH_BYTE & 0x8040201008040201u) + 0x7F * EACH_BYTE) >> 7 & EACH_BYTE;
    if (bits == 2) {
        word = (word | word << 24) & 0x000000FF000000FFu;
        word = (word | word << 12) & 0x000F000F000F000Fu;
        return (word | word << 6) & 0x03 * EACH_BYTE;
    }
    word = (word | word << 16) & 0x0000FFFF0000FFFFu;
    word = (word | word << 8) & 0x00FF00FF00FF00FFu;
    return (word | word << 4) & 0x0F * EACH_BYTE;
}

/* Return a bit for each of up to 64 bytes that has a value, the first one in the lowest bit. */
static inline uint64_t equal_bytes(const uint8_t *bytes, Py_ssize_t count, uint8_t value) {
    uint64_t equal = 0;
    if (count < 64) {
        for (Py_ssize_t i = 0; i < count; i++)
            equal |= (uint64_t)(bytes[i] == value) << i;
        return equal;
    }
    for (int at = 0; at < 8; at++) {
        LOAD(uint64_t, word, bytes, at);
        word ^= EACH_BYTE * value;
        word = ~(((word & LOW_BITS) + LOW_BITS) | word | LOW_BITS) >> 7; /* a one for each byte that is zero */
        equal |= packed_word(word, 1) << 8 * at;
    }
    return equal;
}

/* Return the place of the lowest bit. */
static inline int lowest(uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int at = 0;
    for (; !(bits & 1); bits >>= 1)
        at++;
    return at;
#endif
}

static inline void pack_bits(uint8_t *restrict symbols, Py_ssize_t count, const int bits, uint8_t *restrict out) {
    Py_ssize_t words = count / 8, size = (count * bits + 7) / 8;
    for (Py_ssize_t at = 0; at < words; at++) {
        LOAD(uint64_t, word, symbols, at);
        word = packed_word(word, bits);
        memcpy(out + at * bits, &word, (size_t)bits); /* the lower bytes come first */
    }
    if (words * bits < size) {
        memset(symbols + count, 0, 7);
        LOAD(uint64_t, word, symbols, words);
        word = packed_word(word, bits);
        memcpy(out + words * bits, &word, (size_t)(size - words * bits));
    }
}

static inline void unpack_bits(const uint8_t *restrict packed, Py_ssize_t count, const int bits, uint8_t *restrict symbols) {
    Py_ssize_t words = count / 8, size = (count * bits + 7) / 8;
    for (Py_ssize_t at = 0; at < words; at++) {
        uint64_t word = 0;
        memcpy(&word, packed + at * bits, (size_t)bits);
        word = unpacked_word(word, bits);
        STORE(symbols, at, word);
    }
    if (words * bits < size) {
        uint64_t word = 0;
        memcpy(&word, packed + words * bits, (size_t)(size - words * bits));
        word = unpacked_word(word, bits);
        STORE(symbols, words, word);
    }
}

/* Pack symbols, one in a byte, and return the number of bytes. The seven bytes after the symbols are overwritten. */
static Py_ssize_t pack_symbols(uint8_t *symbols, Py_ssize_t count, int bits, uint8_t *out) {
    switch (bits) {
    case 1: pack_bits(symbols, count, 1, out); break;
    case 2: pack_bits(symbols, count, 2, out); break;
    case 4: pack_bits(symbols, count, 4, out); break;
    default: memcpy(out, symbols, (size_t)count);
    }
    return (count * bits + 7) / 8;
}

/* Undo pack_symbols. */
static void unpack_symbols(const uint8_t *packed, Py_ssize_t count, int bits, uint8_t *symbols) {
    switch (bits) {
    case 1: unpack_bits(packed, count, 1, symbols); break;
    case 2: unpack_bits(packed, count, 2, symbols); break;
    case 4: unpack_bits(packed, count, 4, symbols); break;
    default: memcpy(symbols, packed, (size_t)count);
    }
}

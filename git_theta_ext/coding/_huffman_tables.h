/* Codes for the symbols of a plane, as Huffman's algorithm finds them, of up to 11 bits.

   _huffman.c and its other headers include it. */

#pragma once

#include "_extension.h"

#define BLOCK 131072      /* the most bytes of a block */
#define SYMBOLS 256
#define PLAIN 129         /* symbols of a table that is not compressed itself: it has up to 128 and implies the last */
#define LONGEST 11        /* bits of a code, as decoders require */
#define LINE 64           /* bytes that are counted of every four times as many */
#define NARROW 40

typedef struct table {
    int last;                      /* the largest symbol */
    uint8_t bits[SYMBOLS];         /* of the code of each symbol, 0 for a symbol without one */
    uint16_t codes[SYMBOLS];
    /* By the second and the first symbol, or by a symbol if the table is wide: codes in the highest bits, their size in the
       lowest. */
    uint64_t entries[PLAIN * 256];
} table;

/* Count bytes in rows in turn, so that equal neighbours do not wait for each other. The size is a multiple of eight. */
static inline void count_some(const uint8_t *data, Py_ssize_t size, uint32_t (*counts)[256]) {
    for (Py_ssize_t at = 0; at < size; at += 8) {
        uint64_t some;
        memcpy(&some, data + at, 8);
        counts[0][some & 255]++;
        counts[1][some >> 8 & 255]++;
        counts[2][some >> 16 & 255]++;
        counts[3][some >> 24 & 255]++;
        counts[0][some >> 32 & 255]++;
        counts[1][some >> 40 & 255]++;
        counts[2][some >> 48 & 255]++;
        counts[3][some >> 56]++;
    }
}

/* Count the bytes of a block in the first row. A sample is enough for a whole block; return whether it may lack some. If the
   bytes are within a narrow range, every byte of it counts at least once, so that none is missing. */
static int count(const uint8_t *data, Py_ssize_t size, uint32_t (*counts)[256]) {
    uint8_t least = 255, most = 0;
    for (Py_ssize_t at = 0; at < size; at++) {
        least = data[at] < least ? data[at] : least;
        most = data[at] > most ? data[at] : most;
    }
    memset(counts, 0, 4 * sizeof counts[0]);
    int sampled = size == BLOCK, narrow = most - least <= NARROW;
    if (sampled) {
        for (Py_ssize_t at = 0; at < size; at += 4 * LINE)
            count_some(data + at, LINE, counts);
    } else {
        count_some(data, size & ~(Py_ssize_t)7, counts);
        for (Py_ssize_t at = size & ~(Py_ssize_t)7; at < size; at++)
            counts[0][data[at]]++;
    }
    for (int key = 0; key < 256; key++)
        counts[0][key] += counts[1][key] + counts[2][key] + counts[3][key];
    for (int key = least; sampled && key <= most; key++)
        counts[0][key] = counts[0][key] ? 4 * counts[0][key] : (uint32_t)narrow;
    return sampled && !narrow;
}

/* Sort the symbols that occur into an order, the rarest first, and return their number. */
static int sort_symbols(const uint32_t *counts, int last, int *order) {
    uint64_t sorted[SYMBOLS];
    int number = 0;
    for (int key = 0; key <= last; key++)
        if (counts[key])
            sorted[number++] = (uint64_t)counts[key] << 8 | (uint64_t)key;
    for (int gap = number > 100 ? 57 : number > 30 ? 13 : 4; gap; gap = gap > 4 ? gap / 4 : gap / 2) /* Shell's sort */
        for (int key = gap; key < number; key++) {
            uint64_t entry = sorted[key];
            int at = key;
            for (; at >= gap && sorted[at - gap] > entry; at -= gap)
                sorted[at] = sorted[at - gap];
            sorted[at] = entry;
        }
    for (int at = 0; at < number; at++)
        order[at] = (int)(sorted[at] & 255);
    return number;
}

/* Find the lengths of the codes of minimal size of up to LONGEST bits: Larmore and Hirschberg's package-merge. Of each level,
   packages of two of the level before are merged with all symbols; a symbol's code is as long as it is often among the first. */
static void measure_limited(const uint32_t *weights, int number, int *depths) {
    uint32_t lists[2][2 * SYMBOLS];
    uint8_t are_symbols[LONGEST][2 * SYMBOLS];
    int size = 0;
    for (int level = 0; level < LONGEST; level++) {
        const uint32_t *before = lists[~level & 1];
        int packages = size / 2, symbol = 0, package = 0;
        for (size = 0; symbol < number || package < packages; size++) {
            uint32_t both = package < packages ? before[2 * package] + before[2 * package + 1] : UINT32_MAX;
            int is_symbol = symbol < number && weights[symbol] <= both;
            lists[level & 1][size] = is_symbol ? weights[symbol] : both;
            are_symbols[level][size] = (uint8_t)is_symbol;
            symbol += is_symbol;
            package += !is_symbol;
        }
    }
    memset(depths, 0, (size_t)number * sizeof *depths);
    for (int level = LONGEST - 1, first = 2 * number - 2; level >= 0; level--) {
        int symbols = 0;
        for (int at = 0; at < first; at++)
            symbols += are_symbols[level][at];
        for (int at = 0; at < symbols; at++)
            depths[at]++;
        first = 2 * (first - symbols);
    }
}

/* Find the lengths of a code without redundancy of minimal size, of at most LONGEST bits. Return the number of symbols. */
static int measure(const uint32_t *counts, table *table) {
    int order[SYMBOLS], number = sort_symbols(counts, table->last, order);
    if (number < 2)
        return number;
    /* Leaves and inner nodes are both sorted, so that the rarest two are at the front of either. */
    uint32_t weights[2 * SYMBOLS];
    int parents[2 * SYMBOLS], leaf = 0, inner = number, made = number;
    for (int at = 0; at < number; at++)
        weights[at] = counts[order[at]];
    for (; made < 2 * number - 1; made++) {
        weights[made] = 0;
        for (int child = 0; child < 2; child++) {
            int rarest = leaf < number && (inner == made || weights[leaf] <= weights[inner]) ? leaf++ : inner++;
            weights[made] += weights[rarest];
            parents[rarest] = made;
        }
    }
    int depths[2 * SYMBOLS];
    depths[2 * number - 2] = 0;
    for (int at = 2 * number - 3; at >= 0; at--)
        depths[at] = depths[parents[at]] + 1;
    if (depths[0] > LONGEST)
        measure_limited(weights, number, depths);
    memset(table->bits, 0, sizeof table->bits);
    for (int at = 0; at < number; at++)
        table->bits[order[at]] = (uint8_t)depths[at];
    return number;
}

/* Assign codes as RFC 8878, 4.2.1.3: the longest first, and among codes of equal length by symbol. */
static void assign(table *table) {
    uint16_t next[LONGEST + 1] = {0};
    for (int key = 0; key <= table->last; key++)
        next[table->bits[key]]++;
    uint32_t code = 0;
    for (int length = LONGEST; length > 0; length--) {
        uint32_t first = code;
        code = (code + next[length]) >> 1;
        next[length] = (uint16_t)first;
    }
    for (int key = 0; key <= table->last; key++)
        table->codes[key] = next[table->bits[key]]++;
}

static int is_wide(const table *table) { return table->last >= PLAIN; }

/* Make the entries by which symbols are written without vectors. */
static void enter(table *table) {
    for (int second = 0; second <= table->last; second++) {
        if (is_wide(table) && table->bits[second])
            table->entries[second] = (uint64_t)table->codes[second] << (64 - table->bits[second]) | table->bits[second];
        for (int first = 0; !is_wide(table) && table->bits[second] && first <= table->last; first++)
            if (table->bits[first]) {
                int bits = table->bits[first] + table->bits[second];
                uint64_t both = (uint64_t)table->codes[first] << table->bits[second] | table->codes[second];
                table->entries[second << 8 | first] = both << (64 - bits) | (uint64_t)bits;
            }
    }
}

/* Return the bits that a block takes with a table; a large number if the table lacks a symbol. */
static uint64_t cost(const uint32_t *counts, const table *table) {
    uint64_t bits = 0;
    for (int key = 0; key < 256; key++) {
        if (counts[key] && (key > table->last || !table->bits[key]))
            return UINT64_MAX;
        bits += counts[key] ? (uint64_t)counts[key] * table->bits[key] : 0;
    }
    return bits;
}

/* The description of a table: the weights of its symbols, compressed by finite-state entropy (RFC 8878, section 4.2.1).

   _huffman.c includes it. */

#pragma once

#include "_huffman_tables.h"

#define WEIGHTS 12        /* different weights of symbols: a table has codes of up to 11 bits */
#define WEIGHT_LOG 6      /* of the size of the tables of finite-state entropy by which weights are compressed */
#define WEIGHT_STATES (1 << WEIGHT_LOG)

/* Return the largest power of two that a number is not below, as its exponent. */
static int highest_bit(unsigned number) {
    int bit = 0;
    while (number >>= 1)
        bit++;
    return bit;
}

/* Bits from the lowest to the highest, whatever is above them being 0. */
typedef struct {
    uint64_t bits;
    int size;
    uint8_t *at;
} bit_writer;

static void put_bits(bit_writer *to, unsigned bits, int size) {
    to->bits |= (uint64_t)bits << to->size;
    to->size += size;
    for (; to->size >= 8; to->size -= 8, to->bits >>= 8)
        *to->at++ = (uint8_t)to->bits;
}

/* Distribute the states among weights by how often they occur. Each that occurs gets one at least, and the most frequent
   one what is left; return whether there is more than one weight, as finite-state entropy needs. */
static int share_states(const int *counts, int total, int *shares) {
    int most = 0, left = WEIGHT_STATES;
    for (int weight = 0; weight < WEIGHTS; weight++) {
        shares[weight] = counts[weight] * WEIGHT_STATES / total;
        shares[weight] += counts[weight] && !shares[weight];
        left -= shares[weight];
        most = counts[weight] > counts[most] ? weight : most;
    }
    shares[most] += left;
    return counts[most] < total && shares[most] > 0;
}

/* Write how many states weights have as RFC 8878, 4.1.1. */
static void put_shares(bit_writer *to, const int *shares) {
    int left = WEIGHT_STATES + 1, limit = WEIGHT_STATES, size = WEIGHT_LOG + 1;
    put_bits(to, WEIGHT_LOG - 5, 4);
    for (int weight = 0; left > 1; weight++) {
        int most = 2 * limit - 1 - left, value = shares[weight] + 1;
        left -= shares[weight];
        value += value >= limit ? most : 0;
        put_bits(to, (unsigned)value, size - (value < most));
        if (shares[weight] == 0) {
            int zeros = 0;
            while (shares[weight + 1 + zeros] == 0)
                zeros++;
            weight += zeros;
            for (; zeros >= 3; zeros -= 3)
                put_bits(to, 3, 2);
            put_bits(to, (unsigned)zeros, 2);
        }
        for (; left < limit; limit >>= 1)
            size--;
    }
}

typedef struct {
    uint16_t states[WEIGHT_STATES];
    int added_bits[WEIGHTS], first[WEIGHTS];
} weight_states;

/* Find which states weights have, as RFC 8878, 4.1.1, and what zstd's encoder computes from that. */
static void find_states(const int *shares, weight_states *found) {
    uint8_t weights[WEIGHT_STATES];
    int starts[WEIGHTS], position = 0, total = 0;
    for (int weight = 0; weight < WEIGHTS; weight++)
        for (int n = 0; n < shares[weight]; n++, position = (position + WEIGHT_STATES / 2 + WEIGHT_STATES / 8 + 3) % WEIGHT_STATES)
            weights[position] = (uint8_t)weight;
    for (int weight = 0; weight < WEIGHTS; weight++) {
        starts[weight] = total;
        if (!shares[weight])
            continue;
        int bits = WEIGHT_LOG - (shares[weight] > 1 ? highest_bit((unsigned)shares[weight] - 1) : 0);
        found->added_bits[weight] = (bits << 16) - (shares[weight] << bits);
        found->first[weight] = total - shares[weight];
        total += shares[weight];
    }
    for (int state = 0; state < WEIGHT_STATES; state++)
        found->states[starts[weights[state]]++] = (uint16_t)(WEIGHT_STATES + state);
}

/* Compress weights by finite-state entropy with two states in turn, and return the number of bytes; 0 if they are too many. */
static Py_ssize_t compress_weights(const uint8_t *weights, int number, uint8_t *out) {
    int counts[WEIGHTS] = {0}, shares[WEIGHTS];
    weight_states found;
    for (int at = 0; at < number; at++)
        counts[weights[at]]++;
    if (!share_states(counts, number, shares))
        return 0;
    find_states(shares, &found);
    bit_writer to = {0, 0, out};
    put_shares(&to, shares);
    put_bits(&to, 0, -to.size & 7);
    unsigned states[2];
    for (int at = number - 1; at >= 0; at--) {
        unsigned *state = &states[at & 1];
        int weight = weights[at], added = found.added_bits[weight];
        int bits = at >= number - 2 ? (added + (1 << 15)) >> 16 : ((int)*state + added) >> 16;
        unsigned before = at >= number - 2 ? (unsigned)((bits << 16) - added) : *state;
        if (at < number - 2)
            put_bits(&to, before & ((1u << bits) - 1), bits);
        *state = found.states[(int)(before >> bits) + found.first[weight]];
    }
    put_bits(&to, states[1] % WEIGHT_STATES, WEIGHT_LOG);
    put_bits(&to, states[0] % WEIGHT_STATES, WEIGHT_LOG);
    put_bits(&to, 1, 1);
    put_bits(&to, 0, -to.size & 7);
    return to.at - out < 128 ? to.at - out : 0;
}

/* Write the weights of all symbols but the last, which they imply, and return the number of bytes; 0 if they are too many. */
static Py_ssize_t describe(const table *table, uint8_t *out) {
    int longest = 0;
    uint8_t weights[SYMBOLS + 1] = {0};
    for (int key = 0; key <= table->last; key++)
        longest = table->bits[key] > longest ? table->bits[key] : longest;
    for (int key = 0; key < table->last; key++)
        weights[key] = table->bits[key] ? (uint8_t)(longest + 1 - table->bits[key]) : 0;
    if (is_wide(table)) {
        Py_ssize_t size = compress_weights(weights, table->last, out + 1);
        out[0] = (uint8_t)size;
        return size ? 1 + size : 0;
    }
    out[0] = (uint8_t)(127 + table->last);
    for (int key = 0; key < table->last; key += 2)
        out[1 + key / 2] = (uint8_t)(weights[key] << 4 | weights[key + 1]);
    return 1 + (table->last + 1) / 2;
}

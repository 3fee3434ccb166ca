/* A tensor merged block by block: a mean, or a base plus combined task vectors.

   _merges.c includes it. */

#pragma once

#include "_merges_arithmetic.h"
#include "_merges_elements.h"

#define MOST 65 /* inputs, with the base */

enum { MEAN, SUM, MASS, COUNT, COMBINATIONS };

typedef struct {
    int number, has_base, combine, kinds[MOST + 1];
    const char *inputs[MOST], *base;
    char *out;
    double weights[MOST], divisor;
    float trims[MOST], kept, scale, half;
    uint64_t keys[MOST], start;
    int trimming, dropping;
} job;

typedef struct {
    double terms[MOST][BLOCK];
    float base[BLOCK], values[BLOCK], result[BLOCK];
    election sums;
} room;

/* Compute a block of the mean, in ascending order of the terms if there are more than two. */
static uint32_t mean(const job *job, room *room, Py_ssize_t at, Py_ssize_t count) {
    uint32_t bad = 0;
    for (int n = 0; n < job->number; n++) {
        bad |= load(job->kinds[n], job->inputs[n] + at * widths[job->kinds[n]], count, room->values);
        weigh(room->values, count, job->weights[n], room->terms[n]);
    }
    if (job->number > 2)
        sort_terms(room->terms[0], job->number, count);
    for (int n = 1; n < job->number; n++)
        add_up(room->terms[0], room->terms[n], count);
    divided(room->terms[0], count, job->divisor, room->result);
    return bad;
}

/* Compute a block of the base plus combined task vectors. */
static uint32_t change(const job *job, room *room, Py_ssize_t at, Py_ssize_t count, int64_t *votes, int64_t *ties) {
    int base_kind = job->kinds[job->number];
    uint32_t bad = load(base_kind, job->base + at * widths[base_kind], count, room->base);
    if (job->combine != SUM)
        memset(&room->sums, 0, sizeof room->sums);
    for (int n = 0; n < job->number; n++) {
        float *values = job->combine == SUM && n == 0 ? room->result : room->values;
        bad |= load(job->kinds[n], job->inputs[n] + at * widths[job->kinds[n]], count, values);
        subtract(values, room->base, count);
        if (job->trimming)
            trim(values, count, job->trims[n]);
        if (job->dropping)
            drop(values, count, job->keys[n], job->start + (uint64_t)at, job->kept);
        if (job->weights[n] != 1)
            multiply(values, count, (float)job->weights[n]);
        if (job->combine != SUM)
            vote(&room->sums, values, count, (float)job->weights[n], job->combine == MASS);
        else if (n)
            add(room->result, values, count);
    }
    if (job->combine != SUM)
        elect(&room->sums, count, job->half, room->result, votes, ties);
    if (job->scale != 1)
        multiply(room->result, count, job->scale);
    add(room->result, room->base, count);
    return bad;
}

/* Compute the mean of two elements of bf16 with the weight one. Halves of them are exact in float32, and their sum is rounded
   as in float64: it differs only for numbers of which one does not reach the last bit of the other. The mean always fits.
   Return something other than 0 if an element is not finite. */
KERNEL uint32_t mean_of_two_bf16(const char *one, const char *other, Py_ssize_t count, char *restrict out) {
    uint16_t worst = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t first, second;
        memcpy(&first, one + 2 * i, 2);
        memcpy(&second, other + 2 * i, 2);
        uint16_t size = first & 0x7fff, other_size = second & 0x7fff;
        size = size > other_size ? size : other_size;
        worst = worst > size ? worst : size;
        uint16_t half = rounded_to_bf16(float_of((uint32_t)first << 16) * 0.5f + float_of((uint32_t)second << 16) * 0.5f);
        memcpy(out + 2 * i, &half, 2);
    }
    return worst >= 0x7f80;
}

static int is_mean_of_two_bf16(const job *job, int kind) {
    return job->combine == MEAN && job->number == 2 && kind == BF16 && job->kinds[0] == BF16 && job->kinds[1] == BF16 &&
           job->weights[0] == 1 && job->weights[1] == 1 && job->divisor == 2;
}

/* Return 0 if a value is not finite or a result does not fit. */
static int merge_all(const job *job, room *room, Py_ssize_t elements, int kind, int64_t *votes, int64_t *ties) {
    if (is_mean_of_two_bf16(job, kind))
        return !mean_of_two_bf16(job->inputs[0], job->inputs[1], elements, job->out);
    for (Py_ssize_t at = 0; at < elements; at += BLOCK) {
        Py_ssize_t count = elements - at < BLOCK ? elements - at : BLOCK;
        uint32_t bad = job->combine == MEAN ? mean(job, room, at, count) : change(job, room, at, count, votes, ties);
        if (bad | beyond(room->result, count, largest[kind]))
            return 0;
        char *out = job->out + at * widths[kind];
        if (kind == BF16)
            store_bf16(room->result, count, out);
        else if (kind == F16)
            store_f16(room->result, count, out);
        else
            memcpy(out, room->result, (size_t)count * sizeof(float));
    }
    return 1;
}

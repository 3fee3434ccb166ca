/* The differences of branches from a base, counted by their bits, for thresholds of magnitudes.

   _merges.c includes it. */

#pragma once

#include "_merges_arithmetic.h"
#include "_merges_elements.h"

#define HALVES 65536 /* values of the upper half of a number's bits */

/* Several threads count in the same window. */
#if defined(_MSC_VER)
#include <intrin.h>
#define ADD(at, number) _InterlockedExchangeAdd64((volatile long long *)(at), number)
#else
#define ADD(at, number) __atomic_fetch_add((at), (number), __ATOMIC_RELAXED)
#endif

typedef struct {
    float base[BLOCK], values[BLOCK];
    uint32_t bits[BLOCK];
} block;

/* The differences of a branch from the base, and where they are counted. */
typedef struct {
    int kinds[2];
    const char *data[2];
    int64_t *upper, *window;
    uint32_t first, magnitudes;
} counting;

/* Return 0 if a value is not finite. */
static int all_finite(int kind, const char *data, Py_ssize_t elements, block *room) {
    uint32_t bad = 0;
    for (Py_ssize_t at = 0; at < elements && !bad; at += BLOCK) {
        Py_ssize_t count = elements - at < BLOCK ? elements - at : BLOCK;
        bad = load(kind, data + at * widths[kind], count, room->values);
    }
    return !bad;
}

/* Count differences by the upper halves of their bits, and those of some magnitudes by all bits. Neighbours often have the
   same upper half, so that two tables, if there are any, are counted in faster in turn than one. */
static void count_all(const counting *job, Py_ssize_t elements, block *room, uint32_t (*tables)[HALVES]) {
    int64_t zeros[2] = {0, 0};
    for (Py_ssize_t at = 0; at < elements; at += BLOCK) {
        Py_ssize_t count = elements - at < BLOCK ? elements - at : BLOCK;
        load(job->kinds[0], job->data[0] + at * widths[job->kinds[0]], count, room->base);
        load(job->kinds[1], job->data[1] + at * widths[job->kinds[1]], count, room->values);
        subtract(room->values, room->base, count);
        memcpy(room->bits, room->values, (size_t)count * sizeof(float));
        for (Py_ssize_t i = 0; i < count; i++) {
            uint32_t bits = room->bits[i], size = bits & 0x7fffffff;
            if (tables != NULL)
                tables[i & 1][bits >> 16]++;
            else if (job->upper != NULL)
                job->upper[bits >> 16]++;
            if (size - job->first >= job->magnitudes)
                continue;
            if (size == 0) /* threads would wait for each other to count the most frequent number */
                zeros[bits >> 31]++;
            else
                ADD(job->window + (bits >> 31) * (size_t)job->magnitudes + (size - job->first), 1);
        }
    }
    for (int n = 0; n < 2; n++) {
        if (zeros[n])
            ADD(job->window + n * (size_t)job->magnitudes, zeros[n]);
    }
}

/* Return 0 if a value of the base or of a branch is not finite. */
static int are_finite(const counting *jobs, Py_ssize_t number, Py_ssize_t elements, block *room) {
    int finite = all_finite(jobs[0].kinds[0], jobs[0].data[0], elements, room);
    for (Py_ssize_t n = 0; finite && n < number; n++)
        finite = all_finite(jobs[n].kinds[1], jobs[n].data[1], elements, room);
    return finite;
}

/* Count the differences of some branches; return 0, before anything is counted, if a value is not finite, and -1 with an
   exception. Threads share the counts by upper halves, which only change while a thread has the interpreter lock. */
static int count_branches(const counting *jobs, Py_ssize_t number, Py_ssize_t elements) {
    block room;
    if (elements <= HALVES) {
        int finite = are_finite(jobs, number, elements, &room);
        for (Py_ssize_t n = 0; finite && n < number; n++)
            count_all(&jobs[n], elements, &room, NULL);
        return finite;
    }
    uint32_t(*tables)[HALVES] = PyMem_Malloc(2 * sizeof *tables);
    if (tables == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int finite;
    Py_BEGIN_ALLOW_THREADS
    finite = are_finite(jobs, number, elements, &room);
    Py_END_ALLOW_THREADS
    for (Py_ssize_t n = 0; finite && n < number; n++) {
        Py_BEGIN_ALLOW_THREADS
        memset(tables, 0, 2 * sizeof *tables);
        count_all(&jobs[n], elements, &room, tables);
        Py_END_ALLOW_THREADS
        for (int half = 0; jobs[n].upper != NULL && half < HALVES; half++)
            jobs[n].upper[half] += (int64_t)tables[0][half] + tables[1][half];
    }
    PyMem_Free(tables);
    return finite;
}

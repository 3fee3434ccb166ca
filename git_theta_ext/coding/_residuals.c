/* The code of residuals in single passes. A tensor of a few kilobytes takes a hundred calls of numpy, each of which costs
   more than its arithmetic. residual.py, stripe_plan.py and stripes.py have the same in numpy, with the same bits.

   Integers are little-endian and may begin at any address, so they are read and written by memcpy. Every function checks
   the sizes of its buffers, and runs without the interpreter lock. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels are for little-endian machines"
#endif

#define LOAD(type, name, from, at) \
    type name; \
    memcpy(&name, (const char *)(from) + (at) * (Py_ssize_t)sizeof name, sizeof name)
#define STORE(to, at, name) memcpy((char *)(to) + (at) * (Py_ssize_t)sizeof name, &name, sizeof name)

#define RUN 64
#define SIZES 4     /* numbers of bits of a symbol */
#define VALUES 256  /* values of a byte */

static const int SYMBOL_BITS[SIZES] = {1, 2, 4, 8};
static const int TOPS[SIZES] = {1, 3, 15, 255};

typedef struct {
    int last, low, bits, wide;
    Py_ssize_t start, end, excesses;
} stripe;

/* Functions for integers of 8, 16, 32 and 64 bits. */
#define OF_WIDTH(N) \
    static int differences_##N(const void *values, const void *guesses, Py_ssize_t count, char *out) { \
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
    static void add_differences_##N(const void *missed, const void *guesses, Py_ssize_t count, char *out) { \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, zigzag, missed, i); \
            LOAD(uint##N##_t, guess, guesses, i); \
            uint##N##_t sign = (uint##N##_t)(0 - (zigzag & 1)); \
            uint##N##_t value = (uint##N##_t)(((uint##N##_t)(zigzag >> 1) ^ sign) + guess); \
            STORE(out, i, value); \
        } \
    } \
    static void keys_##N(const void *guesses, Py_ssize_t count, int mantissa, int mask, uint8_t *out) { \
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
    static void measure_##N(const void *missed, stripe *one) { \
        uint##N##_t top = (uint##N##_t)((1 << one->bits) - 1), largest = 0; \
        Py_ssize_t excesses = 0; \
        for (Py_ssize_t i = one->start; i < one->end; i++) { \
            LOAD(uint##N##_t, value, missed, i); \
            value = (uint##N##_t)(value >> 8 * one->low); \
            excesses += value >= top; \
            largest = value > largest ? value : largest; \
        } \
        one->excesses = excesses; \
        largest = (uint##N##_t)(excesses ? largest - top : 0); \
        for (one->wide = 0; largest; one->wide++) \
            largest = (uint##N##_t)((uint64_t)largest >> 8); \
    } \
    static void write_symbols_##N(const void *missed, const stripe *one, const int bits, uint8_t *out) { \
        const int each = 8 / bits; \
        const uint##N##_t top = (uint##N##_t)((1 << bits) - 1); \
        Py_ssize_t i = one->start; \
        for (; i + each <= one->end; i += each) { \
            unsigned symbols = 0; \
            for (int at = 0; at < each; at++) { \
                LOAD(uint##N##_t, value, missed, i + at); \
                value = (uint##N##_t)(value >> 8 * one->low); \
                symbols |= (unsigned)(value < top ? value : top) << at * bits; \
            } \
            *out++ = (uint8_t)symbols; \
        } \
        if (i < one->end) \
            *out = 0; \
        for (int at = 0; i < one->end; i++, at++) { \
            LOAD(uint##N##_t, value, missed, i); \
            value = (uint##N##_t)(value >> 8 * one->low); \
            *out |= (uint8_t)((value < top ? value : top) << at * bits); \
        } \
    } \
    static void write_##N(const void *missed, const stripe *one, uint8_t *out) { \
        Py_ssize_t count = one->end - one->start, beyond = 0; \
        const uint##N##_t top = (uint##N##_t)((1 << one->bits) - 1); \
        for (int low = 0; low < one->low; low++, out += count) { \
            for (Py_ssize_t i = 0; i < count; i++) { \
                LOAD(uint##N##_t, value, missed, one->start + i); \
                out[i] = (uint8_t)(value >> 8 * low); \
            } \
        } \
        switch (one->bits) { \
        case 1: write_symbols_##N(missed, one, 1, out); break; \
        case 2: write_symbols_##N(missed, one, 2, out); break; \
        case 4: write_symbols_##N(missed, one, 4, out); break; \
        default: write_symbols_##N(missed, one, 8, out); \
        } \
        out += (count * one->bits + 7) / 8; \
        for (Py_ssize_t i = one->start; one->wide && i < one->end; i++) { \
            LOAD(uint##N##_t, value, missed, i); \
            value = (uint##N##_t)(value >> 8 * one->low); \
            if (value >= top) { \
                uint64_t excess = (uint64_t)(value - top); \
                for (int at = 0; at < one->wide; at++) \
                    out[at * one->excesses + beyond] = (uint8_t)(excess >> 8 * (one->wide - 1 - at)); \
                beyond++; \
            } \
        } \
    } \
    static void read_symbols_##N(const uint8_t *from, Py_ssize_t count, const int bits, char *out) { \
        const int each = 8 / bits; \
        const unsigned top = (1u << bits) - 1; \
        Py_ssize_t i = 0; \
        for (; i + each <= count; i += each) { \
            unsigned symbols = *from++; \
            for (int at = 0; at < each; at++) { \
                uint##N##_t symbol = (uint##N##_t)(symbols >> at * bits & top); \
                STORE(out, i + at, symbol); \
            } \
        } \
        for (int at = 0; i < count; i++, at++) { \
            uint##N##_t symbol = (uint##N##_t)((unsigned)*from >> at * bits & top); \
            STORE(out, i, symbol); \
        } \
    } \
    /* Read the planes of a stripe, and return whether their number of excesses is as stated. */ \
    static int read_##N(const uint8_t *const *planes, const stripe *one, char *missed) { \
        Py_ssize_t count = one->end - one->start, beyond = 0; \
        const uint##N##_t top = (uint##N##_t)((1 << one->bits) - 1); \
        const uint8_t *const *excesses = planes + one->low + 1; \
        missed += one->start * (N / 8); \
        switch (one->bits) { \
        case 1: read_symbols_##N(planes[one->low], count, 1, missed); break; \
        case 2: read_symbols_##N(planes[one->low], count, 2, missed); break; \
        case 4: read_symbols_##N(planes[one->low], count, 4, missed); break; \
        default: read_symbols_##N(planes[one->low], count, 8, missed); \
        } \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, symbol, missed, i); \
            beyond += symbol == top; \
        } \
        if (beyond != one->excesses) \
            return 0; \
        beyond = 0; \
        for (Py_ssize_t i = 0; one->wide && i < count; i++) { \
            LOAD(uint##N##_t, value, missed, i); \
            if (value == top) { \
                uint64_t excess = 0; \
                for (int at = 0; at < one->wide; at++) \
                    excess = excess << 8 | excesses[at][beyond]; \
                value = (uint##N##_t)(value + excess); \
                STORE(missed, i, value); \
                beyond++; \
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

static void release(Py_buffer *buffers, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        if (buffers[i].obj != NULL)
            PyBuffer_Release(&buffers[i]);
    }
}

static PyObject *bad_sizes(Py_buffer *buffers, Py_ssize_t count) {
    release(buffers, count);
    PyErr_SetString(PyExc_ValueError, "the sizes of the buffers do not fit each other");
    return NULL;
}

static PyObject *differences(PyObject *module, PyObject *args) {
    static int (*const functions[SIZES])(const void *, const void *, Py_ssize_t, char *) = BY_WIDTH(differences);
    Py_buffer b[3] = {{0}};
    int width, any;
    if (!PyArg_ParseTuple(args, "y*y*iw*", &b[0], &b[1], &width, &b[2])) {
        release(b, 3);
        return NULL;
    }
    if (place(width) < 0 || b[0].len % width || b[1].len != b[0].len || b[2].len != b[0].len)
        return bad_sizes(b, 3);
    Py_BEGIN_ALLOW_THREADS
    any = functions[place(width)](b[0].buf, b[1].buf, b[0].len / width, b[2].buf);
    Py_END_ALLOW_THREADS
    release(b, 3);
    return PyBool_FromLong(any);
}

static PyObject *add_differences(PyObject *module, PyObject *args) {
    static void (*const functions[SIZES])(const void *, const void *, Py_ssize_t, char *) = BY_WIDTH(add_differences);
    Py_buffer b[3] = {{0}};
    int width;
    if (!PyArg_ParseTuple(args, "y*y*iw*", &b[0], &b[1], &width, &b[2])) {
        release(b, 3);
        return NULL;
    }
    if (place(width) < 0 || b[0].len % width || b[1].len != b[0].len || b[2].len != b[0].len)
        return bad_sizes(b, 3);
    Py_BEGIN_ALLOW_THREADS
    functions[place(width)](b[0].buf, b[1].buf, b[0].len / width, b[2].buf);
    Py_END_ALLOW_THREADS
    release(b, 3);
    Py_RETURN_NONE;
}

static PyObject *keys(PyObject *module, PyObject *args) {
    static void (*const functions[SIZES])(const void *, Py_ssize_t, int, int, uint8_t *) = BY_WIDTH(keys);
    Py_buffer b[2] = {{0}};
    int width, mantissa, mask;
    if (!PyArg_ParseTuple(args, "y*iiiw*", &b[0], &width, &mantissa, &mask, &b[1])) {
        release(b, 2);
        return NULL;
    }
    if (place(width) < 0 || b[0].len % width || b[1].len != b[0].len / width || mantissa < 0 || mantissa >= 8 * width)
        return bad_sizes(b, 2);
    Py_BEGIN_ALLOW_THREADS
    functions[place(width)](b[0].buf, b[1].len, mantissa, mask, b[1].buf);
    Py_END_ALLOW_THREADS
    release(b, 2);
    Py_RETURN_NONE;
}

/* Note for each complete run whether any of its elements is not zero, and return the number of these runs. */
static PyObject *runs(PyObject *module, PyObject *args) {
    Py_buffer b[2] = {{0}};
    int width;
    Py_ssize_t some = 0;
    if (!PyArg_ParseTuple(args, "y*iw*", &b[0], &width, &b[1])) {
        release(b, 2);
        return NULL;
    }
    if (place(width) < 0 || b[1].len != b[0].len / (RUN * width))
        return bad_sizes(b, 2);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t at = 0; at < b[1].len; at++) {
        uint64_t any = 0;
        for (int word = 0; word < RUN / 8 * width; word++) {
            LOAD(uint64_t, here, b[0].buf, at * (RUN / 8) * width + word);
            any |= here;
        }
        ((uint8_t *)b[1].buf)[at] = any != 0;
        some += any != 0;
    }
    Py_END_ALLOW_THREADS
    release(b, 2);
    return PyLong_FromSsize_t(some);
}

/* Add numbers in the order in which numpy does. */
static double sum(const double *values, Py_ssize_t count) {
    double parts[8], total = 0;
    Py_ssize_t at = 8, half = count / 2 - count / 2 % 8;
    if (count > 128)
        return sum(values, half) + sum(values + half, count - half);
    if (count < 8) {
        for (at = 0; at < count; at++)
            total += values[at];
        return total;
    }
    memcpy(parts, values, sizeof parts);
    for (; at < count - count % 8; at += 8) {
        for (int i = 0; i < 8; i++)
            parts[i] += values[at + i];
    }
    total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
    for (; at < count; at++)
        total += values[at];
    return total;
}

static double loss(double share) { return 0.03 + 1.4 * (share - 0.4 > 0 ? share - 0.4 : 0); }

/* See _costs of stripe_plan.py. */
static void estimate(const int32_t *counts, int width, int low, const double *logs, double costs[SIZES]) {
    double terms[VALUES], shares[SIZES];
    int64_t excesses[SIZES + 1] = {0}, total = 0;
    for (int value = 0; value < VALUES; value++)
        terms[value] = logs[counts[value]];
    for (int size = SIZES - 1, value = VALUES; size >= 0; size--) {
        excesses[size] = excesses[size + 1];
        while (value > TOPS[size])
            excesses[size] += counts[--value];
    }
    total = counts[0] + excesses[0];
    double ideal = logs[total] - sum(terms, VALUES) + (double)(counts[VALUES - 1] * (int64_t)8 * (width - 1)) +
                   (double)(8 * low * total);
    shares[3] = (double)counts[0] / (double)(total ? total : 1);
    for (int size = SIZES - 2; size >= 0; size--)
        shares[size] = shares[size + 1] * shares[size + 1];
    for (int size = 0; size < SIZES; size++) {
        double often = (double)counts[TOPS[size]] / (double)(excesses[size] ? excesses[size] : 1);
        costs[size] = ideal + (double)(total * SYMBOL_BITS[size]) / 8 * loss(shares[size]);
        costs[size] += (double)excesses[size] * loss(often);
    }
}

/* Find the ends of stripes as in _bounds of stripe_plan.py, and return their number. */
static int bound(const double *bits, int groups, double least, double most, int *bounds) {
    double filled = 0, share = sum(bits, groups) / most;
    int count = 0;
    least = least > share ? least : share;
    for (int at = 0; at < groups; at++) {
        filled += bits[at];
        if (filled >= least) {
            bounds[count++] = at + 1;
            filled = 0;
        }
    }
    if (!count || bounds[count - 1] < groups)
        bounds[count++] = groups;
    return count;
}

/* Choose the stripes, given the counts by number of low bytes, rank of the key and value; return their number. */
static int choose(int32_t *counts, int lows, int groups, int width, Py_ssize_t step, const double *logs, double least,
                  double most, const uint8_t *used, stripe *chosen) {
    double bits[VALUES], costs[SIZES];
    int bounds[VALUES], count;
    for (int at = 0; at < groups; at++) {
        double best = 0;
        for (int low = 0; low < lows; low++) {
            estimate(counts + (low * groups + at) * VALUES, width, low, logs, costs);
            for (int size = 0; size < SIZES; size++)
                best = (low || size) && best <= costs[size] ? best : costs[size];
        }
        bits[at] = best * (double)step;
    }
    count = bound(bits, groups, least, most, bounds);
    for (int at = 0, start = 0; at < count; start = bounds[at++]) {
        double best = 0;
        for (int low = 0; low < lows; low++) {
            int32_t *table = counts + (low * groups + start) * VALUES;
            for (int other = 1; other < bounds[at] - start; other++) {
                for (int value = 0; value < VALUES; value++)
                    table[value] += table[other * VALUES + value];
            }
            estimate(table, width, low, logs, costs);
            for (int size = 0; size < SIZES; size++) {
                if ((low || size) && best <= costs[size])
                    continue;
                best = costs[size];
                chosen[at].low = low;
                chosen[at].bits = SYMBOL_BITS[size];
            }
        }
        chosen[at].last = at + 1 < count ? used[bounds[at] - 1] : VALUES - 1;
    }
    return count;
}

/* Plan the stripes of elements, of which there is at least one, and return their number; -1 without memory. */
static int plan_stripes(const void *missed, const uint8_t *keys, Py_ssize_t elements, int width, Py_ssize_t step,
                        const double *logs, double least, double most, stripe *chosen) {
    static void (*const functions[SIZES])(const void *, const uint8_t *, Py_ssize_t, Py_ssize_t, int, const uint8_t *, int,
                                          int32_t *) = BY_WIDTH(histogram);
    uint8_t seen[VALUES] = {0}, ranks[VALUES], used[VALUES];
    int groups = 0, count, lows = width > 2 ? width - 1 : 1;
    for (Py_ssize_t i = 0; i < elements; i += step)
        seen[keys[i]] = 1;
    for (int value = 0; value < VALUES; value++) {
        ranks[value] = (uint8_t)groups; /* of keys that no other thread writes meanwhile; else a wrong table is counted */
        if (seen[value])
            used[groups++] = (uint8_t)value;
    }
    /* One table more than groups: the rank of a key beyond the last used one. */
    int32_t *counts = calloc((size_t)(lows * groups + 1) * VALUES, sizeof *counts);
    if (counts == NULL)
        return -1;
    functions[place(width)](missed, keys, elements, step, lows, ranks, groups, counts);
    count = choose(counts, lows, groups, width, step, logs, least, most, used, chosen);
    free(counts);
    return count;
}

static PyObject *plan(PyObject *module, PyObject *args) {
    Py_buffer b[3] = {{0}};
    int width, count;
    Py_ssize_t step;
    double least, most;
    stripe chosen[VALUES];
    if (!PyArg_ParseTuple(args, "y*y*iny*dd", &b[0], &b[1], &width, &step, &b[2], &least, &most)) {
        release(b, 3);
        return NULL;
    }
    Py_ssize_t elements = b[1].len;
    if (place(width) < 0 || !elements || b[0].len % width || b[0].len / width != elements || step < 1 ||
        b[2].len / (Py_ssize_t)sizeof(double) <= (elements - 1) / step + 1)
        return bad_sizes(b, 3);
    Py_BEGIN_ALLOW_THREADS
    count = plan_stripes(b[0].buf, b[1].buf, elements, width, step, b[2].buf, least, most, chosen);
    Py_END_ALLOW_THREADS
    release(b, 3);
    if (count < 0)
        return PyErr_NoMemory();
    PyObject *list = PyList_New(0);
    for (int at = 0; list != NULL && at < count; at++) {
        PyObject *item = Py_BuildValue("(iii)", chosen[at].last, chosen[at].low, chosen[at].bits);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* Read the stripes of a list of (end, low, bits, wide, excesses) of so many elements; return NULL after an error. */
static stripe *stripes_of(PyObject *list, int width, Py_ssize_t elements, Py_ssize_t *count) {
    *count = PyList_Check(list) ? PyList_Size(list) : 0;
    stripe *stripes = calloc((size_t)*count + 1, sizeof *stripes);
    Py_ssize_t start = 0;
    if (stripes == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t at = 0; at < *count; at++) {
        stripe *one = stripes + at;
        if (!PyArg_ParseTuple(PyList_GetItem(list, at), "niiin", &one->end, &one->low, &one->bits, &one->wide,
                              &one->excesses)) {
            free(stripes);
            return NULL;
        }
        one->start = start;
        start = one->end;
        int known = one->bits == 1 || one->bits == 2 || one->bits == 4 || one->bits == 8;
        if (!known || one->start > one->end || one->end > elements || one->low < 0 || one->low >= width ||
            one->wide < 0 || one->wide > width || one->excesses < 0 || one->excesses > one->end - one->start)
            start = -1;
        if (start < 0)
            break;
    }
    if (start != elements) {
        free(stripes);
        PyErr_SetString(PyExc_ValueError, "the sizes of the stripes do not fit the elements");
        return NULL;
    }
    return stripes;
}

static Py_ssize_t planes_bytes(const stripe *one) {
    Py_ssize_t count = one->end - one->start;
    return one->low * count + (count * one->bits + 7) / 8 + one->wide * one->excesses;
}

/* Return the planes of all stripes, one after another, and (wide, excesses) of each stripe. */
static PyObject *pack(PyObject *module, PyObject *args) {
    static void (*const measures[SIZES])(const void *, stripe *) = BY_WIDTH(measure);
    static void (*const functions[SIZES])(const void *, const stripe *, uint8_t *) = BY_WIDTH(write);
    Py_buffer b[1] = {{0}};
    PyObject *list, *counted = NULL, *planes = NULL;
    int width;
    Py_ssize_t count, total = 0;
    if (!PyArg_ParseTuple(args, "y*iO", &b[0], &width, &list)) {
        release(b, 1);
        return NULL;
    }
    if (place(width) < 0 || b[0].len % width)
        return bad_sizes(b, 1);
    stripe *stripes = stripes_of(list, width, b[0].len / width, &count);
    if (stripes == NULL) {
        release(b, 1);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t at = 0; at < count; at++) {
        measures[place(width)](b[0].buf, stripes + at);
        total += planes_bytes(stripes + at);
    }
    Py_END_ALLOW_THREADS
    counted = PyList_New(0);
    for (Py_ssize_t at = 0; counted != NULL && at < count; at++) {
        PyObject *item = Py_BuildValue("(in)", stripes[at].wide, stripes[at].excesses);
        if (item == NULL || PyList_Append(counted, item) < 0)
            Py_CLEAR(counted);
        Py_XDECREF(item);
    }
    if (counted != NULL)
        planes = PyBytes_FromStringAndSize(NULL, total);
    if (planes != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(planes);
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < count; at++) {
            functions[place(width)](b[0].buf, stripes + at, out);
            out += planes_bytes(stripes + at);
        }
        Py_END_ALLOW_THREADS
    }
    free(stripes);
    release(b, 1);
    if (planes == NULL) {
        Py_XDECREF(counted);
        return NULL;
    }
    return Py_BuildValue("(NN)", planes, counted);
}

/* Get the buffers of a list of planes and compare their sizes with those of the stripes; return whether they fit. */
static int planes_of(PyObject *list, const stripe *stripes, Py_ssize_t count, Py_buffer *buffers, const uint8_t **data) {
    Py_ssize_t number = 0, left = PyList_Size(list);
    for (Py_ssize_t at = 0; at < count; at++) {
        const stripe *one = stripes + at;
        Py_ssize_t elements = one->end - one->start;
        for (int plane = 0; plane < one->low + 1 + one->wide; plane++, number++) {
            Py_ssize_t size = plane < one->low ? elements
                              : plane == one->low ? (elements * one->bits + 7) / 8
                                                  : one->excesses;
            if (number >= left || PyObject_GetBuffer(PyList_GetItem(list, number), buffers + number, PyBUF_SIMPLE) < 0)
                return 0;
            if (buffers[number].len != size)
                return 0;
            data[number] = buffers[number].buf;
        }
    }
    return number == left;
}

static PyObject *unpack(PyObject *module, PyObject *args) {
    static int (*const functions[SIZES])(const uint8_t *const *, const stripe *, char *) = BY_WIDTH(read);
    Py_buffer b[1] = {{0}};
    PyObject *list, *planes;
    int width, good = 1;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "OOiw*", &planes, &list, &width, &b[0])) {
        release(b, 1);
        return NULL;
    }
    if (place(width) < 0 || b[0].len % width || !PyList_Check(planes))
        return bad_sizes(b, 1);
    stripe *stripes = stripes_of(list, width, b[0].len / width, &count);
    if (stripes == NULL) {
        release(b, 1);
        return NULL;
    }
    Py_ssize_t number = PyList_Size(planes);
    Py_buffer *buffers = calloc((size_t)number + 1, sizeof *buffers);
    const uint8_t **data = calloc((size_t)number + 1, sizeof *data);
    if (buffers == NULL || data == NULL) {
        PyErr_NoMemory();
        good = -1;
    } else if (!planes_of(planes, stripes, count, buffers, data)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the sizes of the buffers do not fit each other");
        good = -1;
    } else {
        const uint8_t **next = data;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < count && good; at++) {
            good = functions[place(width)](next, stripes + at, b[0].buf);
            next += stripes[at].low + 1 + stripes[at].wide;
        }
        Py_END_ALLOW_THREADS
    }
    if (buffers != NULL)
        release(buffers, number);
    free(buffers);
    free(data);
    free(stripes);
    release(b, 1);
    return good < 0 ? NULL : PyBool_FromLong(good);
}

/* The elements of a small tensor, for which all steps take one call. */

#define RECORD 8 /* bytes of the record of a stripe */
#define TABLE 5  /* bytes of the codec and the size of a plane */
#define GAPS 0x80

typedef struct {
    Py_ssize_t count, runs; /* of elements; of complete runs */
    int width;
    char *missed, *ordered;
    uint8_t *keys, *some; /* a flag for each run */
    Py_ssize_t ends[VALUES]; /* of keys in the order by key */
} elements;

static void free_elements(elements *all) { free(all->missed); }

/* Get memory for elements; return whether there was enough. */
static int make_elements(elements *all, Py_ssize_t nbytes, int width) {
    all->width = width;
    all->count = nbytes / width;
    all->runs = all->count / RUN;
    all->missed = malloc((size_t)(2 * nbytes + all->count + all->runs + 1));
    all->ordered = all->missed == NULL ? NULL : all->missed + nbytes;
    all->keys = (uint8_t *)all->ordered + nbytes;
    all->some = all->keys + all->count;
    return all->missed != NULL;
}

/* Move the elements of runs that are not predicted exactly together, unless these are most; return whether it did. */
static int leave_out_runs(elements *all, double worth) {
    Py_ssize_t some = 0, kept = 0, nbytes = RUN * all->width;
    for (Py_ssize_t at = 0; at < all->runs; at++) {
        uint64_t any = 0;
        for (Py_ssize_t word = 0; word < nbytes / 8; word++) {
            LOAD(uint64_t, here, all->missed, at * (nbytes / 8) + word);
            any |= here;
        }
        all->some[at] = any != 0;
        some += any != 0;
    }
    if (!((double)some < worth * (double)all->runs))
        return 0;
    for (Py_ssize_t at = 0; at <= all->runs; at++) {
        Py_ssize_t size = at < all->runs ? RUN : all->count - at * RUN; /* what follows the last run is kept */
        if (at < all->runs && !all->some[at])
            continue;
        memmove(all->missed + kept * all->width, all->missed + at * nbytes, (size_t)(size * all->width));
        memmove(all->keys + kept, all->keys + at * RUN, (size_t)size);
        kept += size;
    }
    all->count = kept;
    return 1;
}

static void find_ends(elements *all) {
    memset(all->ends, 0, sizeof all->ends);
    for (Py_ssize_t i = 0; i < all->count; i++)
        all->ends[all->keys[i]]++;
    for (int key = 1; key < VALUES; key++)
        all->ends[key] += all->ends[key - 1];
}

/* Copy elements from or to the order by key, in which elements with the same key stay in order. */
static void by_key(const elements *all, int forth) {
    Py_ssize_t next[VALUES] = {0};
    memcpy(next + 1, all->ends, sizeof next - sizeof *next);
    for (Py_ssize_t i = 0; i < all->count; i++) {
        Py_ssize_t from = forth ? i : next[all->keys[i]], to = forth ? next[all->keys[i]] : i;
        next[all->keys[i]]++;
        switch (all->width) {
        case 1: all->ordered[to] = all->missed[from]; break;
        case 2: memcpy(all->ordered + 2 * to, all->missed + 2 * from, 2); break;
        case 4: memcpy(all->ordered + 4 * to, all->missed + 4 * from, 4); break;
        default: memcpy(all->ordered + 8 * to, all->missed + 8 * from, 8);
        }
    }
    memcpy(all->missed, all->ordered, (size_t)(all->count * all->width));
}

static int add_size(PyObject *list, Py_ssize_t size) {
    PyObject *number = PyLong_FromSsize_t(size);
    int failed = number == NULL || PyList_Append(list, number) < 0;
    Py_XDECREF(number);
    return failed;
}

/* Return the records, the map of runs (nothing if none is left out), the planes, and their sizes; None if all is equal. */
static PyObject *code(PyObject *module, PyObject *args) {
    static int (*const subtract[SIZES])(const void *, const void *, Py_ssize_t, char *) = BY_WIDTH(differences);
    static void (*const find_keys[SIZES])(const void *, Py_ssize_t, int, int, uint8_t *) = BY_WIDTH(keys);
    static void (*const measures[SIZES])(const void *, stripe *) = BY_WIDTH(measure);
    static void (*const functions[SIZES])(const void *, const stripe *, uint8_t *) = BY_WIDTH(write);
    Py_buffer b[3] = {{0}};
    int width, mantissa, mask, count = 0, any = 0, gaps = 0;
    double least, most, worth;
    stripe chosen[VALUES];
    elements all;
    Py_ssize_t total = 0;
    if (!PyArg_ParseTuple(args, "y*y*iiiy*ddd", &b[0], &b[1], &width, &mantissa, &mask, &b[2], &least, &most, &worth)) {
        release(b, 3);
        return NULL;
    }
    if (place(width) < 0 || b[0].len % width || b[1].len != b[0].len || mantissa < 0 || mantissa >= 8 * width ||
        b[2].len / (Py_ssize_t)sizeof(double) <= b[0].len / width)
        return bad_sizes(b, 3);
    if (!make_elements(&all, b[0].len, width)) {
        release(b, 3);
        return PyErr_NoMemory();
    }
    int at_width = place(width);
    Py_ssize_t runs = all.runs;
    Py_BEGIN_ALLOW_THREADS
    any = subtract[at_width](b[0].buf, b[1].buf, all.count, all.missed);
    if (any) {
        find_keys[at_width](b[1].buf, all.count, mantissa, mask, all.keys);
        gaps = leave_out_runs(&all, worth);
        count = plan_stripes(all.missed, all.keys, all.count, width, 1, b[2].buf, least, most, chosen);
        find_ends(&all);
        if (count > 1)
            by_key(&all, 1);
        for (int at = 0; at < count; at++) {
            chosen[at].start = at ? chosen[at - 1].end : 0;
            chosen[at].end = all.ends[chosen[at].last];
            measures[at_width](all.missed, chosen + at);
            total += planes_bytes(chosen + at);
        }
    }
    Py_END_ALLOW_THREADS
    release(b, 3);
    if (!any || count < 0) {
        free_elements(&all);
        return any ? PyErr_NoMemory() : Py_NewRef(Py_None);
    }
    PyObject *head = PyBytes_FromStringAndSize(NULL, 1 + RECORD * count);
    PyObject *map = PyBytes_FromStringAndSize(NULL, gaps ? (runs + 7) / 8 : 0);
    PyObject *planes = PyBytes_FromStringAndSize(NULL, total), *sizes = PyList_New(0);
    int failed = head == NULL || map == NULL || planes == NULL || sizes == NULL;
    for (int at = 0; !failed && at < count; at++) {
        const stripe *one = chosen + at;
        Py_ssize_t size = one->end - one->start;
        for (int plane = 0; plane < one->low + 1 + one->wide; plane++)
            failed |= add_size(sizes, plane < one->low ? size
                                      : plane == one->low ? (size * one->bits + 7) / 8
                                                          : one->excesses);
    }
    if (!failed) {
        uint8_t *record = (uint8_t *)PyBytes_AsString(head), *bits = (uint8_t *)PyBytes_AsString(map);
        uint8_t *out = (uint8_t *)PyBytes_AsString(planes);
        Py_BEGIN_ALLOW_THREADS
        *record++ = (uint8_t)(count | (gaps ? GAPS : 0));
        memset(bits, 0, gaps ? (size_t)((runs + 7) / 8) : 0);
        for (Py_ssize_t at = 0; gaps && at < runs; at++)
            bits[at / 8] |= (uint8_t)(all.some[at] << at % 8);
        for (int at = 0; at < count; at++, record += RECORD) {
            const stripe *one = chosen + at;
            uint32_t excesses = (uint32_t)one->excesses;
            record[0] = (uint8_t)one->last;
            record[1] = (uint8_t)one->low;
            record[2] = (uint8_t)one->bits;
            record[3] = (uint8_t)one->wide;
            memcpy(record + 4, &excesses, sizeof excesses);
            functions[at_width](all.missed, one, out);
            out += planes_bytes(one);
        }
        Py_END_ALLOW_THREADS
    }
    free_elements(&all);
    if (failed) {
        Py_XDECREF(head);
        Py_XDECREF(map);
        Py_XDECREF(planes);
        Py_XDECREF(sizes);
        return NULL;
    }
    return Py_BuildValue("(NNNN)", head, map, planes, sizes);
}

/* Read the records of a payload without gaps, and the ends of stripes by the keys; return their number, 0 if it is no
   such payload. */
static int read_records(const uint8_t *payload, Py_ssize_t nbytes, elements *all, stripe *stripes) {
    int count = nbytes ? payload[0] : 0, last = -1;
    Py_ssize_t start = 0;
    if (!count || count & GAPS || nbytes < 1 + RECORD * (Py_ssize_t)count)
        return 0;
    for (int at = 0; at < count; at++) {
        const uint8_t *record = payload + 1 + RECORD * at;
        stripe *one = stripes + at;
        uint32_t excesses;
        memcpy(&excesses, record + 4, sizeof excesses);
        one->last = record[0];
        one->low = record[1];
        one->bits = record[2];
        one->wide = record[3];
        one->excesses = (Py_ssize_t)excesses;
        one->start = start;
        one->end = start = count > 1 ? all->ends[one->last] : all->count;
        int known = one->bits == 1 || one->bits == 2 || one->bits == 4 || one->bits == 8;
        if (one->last <= last || !known || one->low >= all->width || one->low + one->wide > all->width ||
            one->excesses > one->end - one->start)
            return 0;
        last = one->last;
    }
    return last == VALUES - 1 ? count : 0;
}

/* Parse the arguments payload, guesses, width, mantissa, mask and so on, and find the keys; return the number of stripes,
   0 if it is no payload without gaps, and -1 after an error. */
static int open_payload(const Py_buffer *payload, const Py_buffer *guesses, int width, int mantissa, int mask,
                        elements *all, stripe *stripes) {
    static void (*const find_keys[SIZES])(const void *, Py_ssize_t, int, int, uint8_t *) = BY_WIDTH(keys);
    int count;
    if (place(width) < 0 || guesses->len % width || mantissa < 0 || mantissa >= 8 * width) {
        PyErr_SetString(PyExc_ValueError, "the sizes of the buffers do not fit each other");
        return -1;
    }
    if (!make_elements(all, guesses->len, width)) {
        PyErr_NoMemory();
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    find_keys[place(width)](guesses->buf, all->count, mantissa, mask, all->keys);
    find_ends(all);
    count = read_records(payload->buf, payload->len, all, stripes);
    Py_END_ALLOW_THREADS
    return count;
}

/* Return the codec, the start and the end in the payload, and the size of each plane; None if it is no payload without
   gaps. */
static PyObject *layout(PyObject *module, PyObject *args) {
    Py_buffer b[2] = {{0}};
    int width, mantissa, mask;
    stripe stripes[GAPS];
    elements all = {0};
    if (!PyArg_ParseTuple(args, "y*y*iii", &b[0], &b[1], &width, &mantissa, &mask)) {
        release(b, 2);
        return NULL;
    }
    int count = open_payload(b, b + 1, width, mantissa, mask, &all, stripes);
    free_elements(&all);
    PyObject *list = count > 0 ? PyList_New(0) : NULL;
    const uint8_t *payload = b[0].buf;
    Py_ssize_t table = 1 + RECORD * (Py_ssize_t)count, number = 0, planes = 0, at = 0;
    for (int i = 0; i < count; i++)
        planes += stripes[i].low + 1 + stripes[i].wide;
    at = table + TABLE * planes;
    int good = count > 0 && at <= b[0].len;
    for (int i = 0; good && list != NULL && i < count; i++) {
        const stripe *one = stripes + i;
        Py_ssize_t elements = one->end - one->start;
        for (int plane = 0; good && plane < one->low + 1 + one->wide; plane++, number++) {
            Py_ssize_t size = plane < one->low ? elements
                              : plane == one->low ? (elements * one->bits + 7) / 8
                                                  : one->excesses;
            uint32_t stored;
            memcpy(&stored, payload + table + TABLE * number + 1, sizeof stored);
            int codec = payload[table + TABLE * number];
            good = (Py_ssize_t)stored <= b[0].len - at && (codec == 1 || (codec == 0 && (Py_ssize_t)stored == size));
            if (!good)
                break;
            PyObject *item = Py_BuildValue("(innn)", codec, at, at + (Py_ssize_t)stored, size);
            if (item == NULL || PyList_Append(list, item) < 0)
                Py_CLEAR(list);
            Py_XDECREF(item);
            at += (Py_ssize_t)stored;
            if (list == NULL)
                break;
        }
    }
    good = good && at == b[0].len;
    release(b, 2);
    if (count < 0 || (count > 0 && list == NULL))
        return NULL;
    if (good)
        return list;
    Py_XDECREF(list);
    return Py_NewRef(Py_None);
}

/* Decode a payload, given its planes; return whether the numbers of excesses are as stated. */
static PyObject *fill(PyObject *module, PyObject *args) {
    static int (*const functions[SIZES])(const uint8_t *const *, const stripe *, char *) = BY_WIDTH(read);
    static void (*const add[SIZES])(const void *, const void *, Py_ssize_t, char *) = BY_WIDTH(add_differences);
    Py_buffer b[3] = {{0}};
    int width, mantissa, mask, good = 1;
    stripe stripes[GAPS];
    elements all = {0};
    PyObject *planes;
    if (!PyArg_ParseTuple(args, "y*Oy*iiiw*", &b[0], &planes, &b[1], &width, &mantissa, &mask, &b[2])) {
        release(b, 3);
        return NULL;
    }
    if (!PyList_Check(planes) || b[1].len != b[2].len)
        return bad_sizes(b, 3);
    int count = open_payload(b, b + 1, width, mantissa, mask, &all, stripes);
    Py_ssize_t number = PyList_Size(planes);
    Py_buffer *buffers = calloc((size_t)number + 1, sizeof *buffers);
    const uint8_t **data = calloc((size_t)number + 1, sizeof *data);
    if (count < 0) {
        good = -1;
    } else if (buffers == NULL || data == NULL) {
        PyErr_NoMemory();
        good = -1;
    } else if (!count || !planes_of(planes, stripes, count, buffers, data)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the sizes of the buffers do not fit each other");
        good = -1;
    } else {
        const uint8_t **next = data;
        Py_BEGIN_ALLOW_THREADS
        for (int at = 0; at < count && good; at++) {
            good = functions[place(width)](next, stripes + at, all.missed);
            next += stripes[at].low + 1 + stripes[at].wide;
        }
        if (good && count > 1)
            by_key(&all, 0);
        if (good)
            add[place(width)](all.missed, b[1].buf, all.count, b[2].buf);
        Py_END_ALLOW_THREADS
    }
    if (buffers != NULL)
        release(buffers, number);
    free(buffers);
    free(data);
    free_elements(&all);
    release(b, 3);
    return good < 0 ? NULL : PyBool_FromLong(good);
}

static PyMethodDef methods[] = {
    {"differences", differences, METH_VARARGS, "differences(values, guesses, width, out) -> bool"},
    {"add_differences", add_differences, METH_VARARGS, "add_differences(missed, guesses, width, out)"},
    {"keys", keys, METH_VARARGS, "keys(guesses, width, mantissa, mask, out)"},
    {"runs", runs, METH_VARARGS, "runs(missed, width, out) -> int"},
    {"plan", plan, METH_VARARGS, "plan(missed, keys, width, step, logs, least, most) -> list"},
    {"pack", pack, METH_VARARGS, "pack(missed, width, stripes) -> (bytes, list)"},
    {"unpack", unpack, METH_VARARGS, "unpack(planes, stripes, width, out) -> bool"},
    {"code", code, METH_VARARGS, "code(values, guesses, width, mantissa, mask, logs, least, most, worth) -> tuple"},
    {"layout", layout, METH_VARARGS, "layout(payload, guesses, width, mantissa, mask) -> list"},
    {"fill", fill, METH_VARARGS, "fill(payload, planes, guesses, width, mantissa, mask, out) -> bool"},
    {NULL, NULL, 0, NULL},
};

/* Of the functions in this file. kernels.py does without the module if it was built from another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 2); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_version}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_residuals", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__residuals(void) { return PyModuleDef_Init(&definition); }

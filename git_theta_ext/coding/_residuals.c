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

static PyObject *plan(PyObject *module, PyObject *args) {
    static void (*const functions[SIZES])(const void *, const uint8_t *, Py_ssize_t, Py_ssize_t, int, const uint8_t *, int,
                                          int32_t *) = BY_WIDTH(histogram);
    Py_buffer b[3] = {{0}};
    int width, groups = 0, count = 0;
    Py_ssize_t step;
    double least, most;
    uint8_t seen[VALUES] = {0}, ranks[VALUES], used[VALUES];
    stripe chosen[VALUES];
    if (!PyArg_ParseTuple(args, "y*y*iny*dd", &b[0], &b[1], &width, &step, &b[2], &least, &most)) {
        release(b, 3);
        return NULL;
    }
    Py_ssize_t elements = b[1].len;
    if (place(width) < 0 || !elements || b[0].len % width || b[0].len / width != elements || step < 1 ||
        b[2].len / (Py_ssize_t)sizeof(double) <= (elements - 1) / step + 1)
        return bad_sizes(b, 3);
    int lows = width > 2 ? width - 1 : 1;
    const uint8_t *key = b[1].buf;
    for (Py_ssize_t i = 0; i < elements; i += step)
        seen[key[i]] = 1;
    for (int value = 0; value < VALUES; value++) {
        ranks[value] = (uint8_t)groups; /* of keys that no other thread writes meanwhile; else a wrong table is counted */
        if (seen[value])
            used[groups++] = (uint8_t)value;
    }
    /* One table more than groups: the rank of a key beyond the last used one. */
    int32_t *counts = calloc((size_t)(lows * groups + 1) * VALUES, sizeof *counts);
    if (counts == NULL) {
        release(b, 3);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    functions[place(width)](b[0].buf, key, elements, step, lows, ranks, groups, counts);
    count = choose(counts, lows, groups, width, step, b[2].buf, least, most, used, chosen);
    Py_END_ALLOW_THREADS
    free(counts);
    release(b, 3);
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

static PyMethodDef methods[] = {
    {"differences", differences, METH_VARARGS, "differences(values, guesses, width, out) -> bool"},
    {"add_differences", add_differences, METH_VARARGS, "add_differences(missed, guesses, width, out)"},
    {"keys", keys, METH_VARARGS, "keys(guesses, width, mantissa, mask, out)"},
    {"runs", runs, METH_VARARGS, "runs(missed, width, out) -> int"},
    {"plan", plan, METH_VARARGS, "plan(missed, keys, width, step, logs, least, most) -> list"},
    {"pack", pack, METH_VARARGS, "pack(missed, width, stripes) -> (bytes, list)"},
    {"unpack", unpack, METH_VARARGS, "unpack(planes, stripes, width, out) -> bool"},
    {NULL, NULL, 0, NULL},
};

/* Of the functions in this file. kernels.py does without the module if it was built from another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 1); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_version}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_residuals", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__residuals(void) { return PyModuleDef_Init(&definition); }

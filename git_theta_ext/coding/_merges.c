/* Elementwise merges in one pass: read stored elements, compute, check, round and write, block by block in the cache.

   Every step does what the arrays of merge_kernels.py's callers do, in the same order and with the same roundings, so that
   the bits are the same. Where values are not finite, or a result does not fit its type, the functions decline: the caller
   then does the piece with arrays, which also say what is wrong with it. */

#define EXACT_FLOATS
#include "_extension.h"

#include <math.h>

/* Vector instructions of newer processors are used if the processor has them; none that fuses a product and a sum. */
#define KERNEL ALSO_WITH("avx2") static

#define BLOCK 512
#define MOST 65
#define HALVES 65536
#define INFINITE 0x7f800000u

enum { BF16, F16, F32, KINDS };
enum { MEAN, SUM, MASS, COUNT, COMBINATIONS };

static const Py_ssize_t widths[KINDS] = {2, 2, 4};
static const float largest[KINDS] = {3.3895313892515355e38f, 65504.0f, FLT_MAX};

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Read elements as float32; return something other than 0 if one is not finite. */
KERNEL uint32_t load_bf16(const char *data, Py_ssize_t count, float *restrict out) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, data + 2 * i, 2);
        uint32_t bits = (uint32_t)half << 16;
        bad |= (bits & INFINITE) == INFINITE;
        memcpy(out + i, &bits, 4);
    }
    return bad;
}

KERNEL uint32_t load_f16(const char *data, Py_ssize_t count, float *restrict out) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, data + 2 * i, 2);
        /* The product is exact; it makes subnormal numbers normal. */
        float size = float_of((uint32_t)(half & 0x7fff) << 13) * 0x1p112f;
        bad |= (half & 0x7c00) == 0x7c00;
        out[i] = float_of(bits_of(size) | (uint32_t)(half & 0x8000) << 16);
    }
    return bad;
}

KERNEL uint32_t load_f32(const char *data, Py_ssize_t count, float *restrict out) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, data + 4 * i, 4);
        bad |= (bits & INFINITE) == INFINITE;
        memcpy(out + i, &bits, 4);
    }
    return bad;
}

static uint32_t load(int kind, const char *data, Py_ssize_t count, float *out) {
    return kind == BF16 ? load_bf16(data, count, out) : kind == F16 ? load_f16(data, count, out) : load_f32(data, count, out);
}

/* Round to nearest, ties to even; the values are within the range of the type. */
static inline uint16_t rounded_to_bf16(float value) {
    uint32_t bits = bits_of(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

KERNEL void store_bf16(const float *values, Py_ssize_t count, char *restrict out) {
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t half = rounded_to_bf16(values[i]);
        memcpy(out + 2 * i, &half, 2);
    }
}

KERNEL void store_f16(const float *values, Py_ssize_t count, char *restrict out) {
    for (Py_ssize_t i = 0; i < count; i++) {
        uint32_t bits = bits_of(values[i]), size = bits & 0x7fffffff;
        uint32_t normal = (size + 0xfff + (size >> 13 & 1) - (112u << 23)) >> 13;
        /* The last bit of a number from 0.5 on is worth as much as that of a subnormal half. */
        uint32_t subnormal = bits_of(float_of(size) + 0.5f) - 0x3f000000;
        uint16_t half = (uint16_t)((size < 0x38800000 ? subnormal : normal) | (bits >> 16 & 0x8000));
        memcpy(out + 2 * i, &half, 2);
    }
}

/* Return something other than 0 if a number is NaN or too large. */
KERNEL uint32_t beyond(const float *values, Py_ssize_t count, float most) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        bad |= !(values[i] <= most) | !(values[i] >= -most);
    return bad;
}

KERNEL void subtract(float *restrict values, const float *base, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] -= base[i];
}

KERNEL void trim(float *values, Py_ssize_t count, float least) {
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] *= fabsf(values[i]) >= least ? 1.0f : 0.0f;
}

KERNEL void multiply(float *values, Py_ssize_t count, float factor) {
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] *= factor;
}

/* Clear the elements whose random number is not below kept, and divide the others by it. The numbers are SplitMix64's. */
KERNEL void drop(float *values, Py_ssize_t count, uint64_t key, uint64_t first, float kept) {
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t mixed = (first + 1 + (uint64_t)i) * 0x9E3779B97F4A7C15u + key;
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
        mixed ^= mixed >> 31;
        float number = (float)(int32_t)(mixed >> 40) * 0x1p-24f;
        values[i] = (number >= kept ? 0.0f : values[i]) / kept;
    }
}

KERNEL void weigh(const float *values, Py_ssize_t count, double weight, double *restrict out) {
    for (Py_ssize_t i = 0; i < count; i++)
        out[i] = (double)values[i] * weight;
}

KERNEL void in_order(double *restrict low, double *restrict high, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        double one = low[i], other = high[i];
        low[i] = one < other ? one : other;
        high[i] = one < other ? other : one;
    }
}

/* Batcher's odd-even merge sort of the terms of each element. */
static void sort_terms(double *terms, int number, Py_ssize_t count) {
    for (int size = 1; size < number; size *= 2)
        for (int step = size; step; step /= 2)
            for (int start = step % size; start < number - step; start += 2 * step)
                for (int low = start; low < start + step && low < number - step; low++)
                    if (low / (2 * size) == (low + step) / (2 * size))
                        in_order(terms + low * BLOCK, terms + (low + step) * BLOCK, count);
}

KERNEL void add_up(double *restrict total, const double *term, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        total[i] += term[i];
}

KERNEL void divided(const double *total, Py_ssize_t count, double divisor, float *restrict out) {
    int exponent;
    if (frexp(divisor, &exponent) == 0.5) { /* a power of two, whose reciprocal gives the same and takes less time */
        double factor = 1 / divisor;
        for (Py_ssize_t i = 0; i < count; i++)
            out[i] = (float)(total[i] * factor);
        return;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        out[i] = (float)(total[i] / divisor);
}

KERNEL void add(float *restrict values, const float *others, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] += others[i];
}

typedef struct {
    float total[BLOCK], above[BLOCK], below[BLOCK], plus[BLOCK], minus[BLOCK];
} election;

static inline float sign(float value) { return (float)((value > 0) - (value < 0)); }

KERNEL void vote(election *restrict sums, const float *values, Py_ssize_t count, float weight, int by_mass) {
    for (Py_ssize_t i = 0; i < count; i++) {
        float value = values[i], signed_one = sign(value);
        sums->total[i] += by_mass ? value : signed_one;
        sums->above[i] += value > 0 ? value : 0;
        sums->below[i] += value < 0 ? value : 0;
        sums->plus[i] += (signed_one > 0 ? 1.0f : 0.0f) * weight;
        sums->minus[i] += (signed_one < 0 ? 1.0f : 0.0f) * weight;
    }
}

KERNEL void elect(election *restrict sums, Py_ssize_t count, float half, float *restrict out, int64_t *votes, int64_t *ties) {
    int all = 0, undecided = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        float elected = sign(sums->total[i]);
        all += (int)elected;
        undecided += (int)sign(sums->plus[i] + sums->minus[i]) - (elected != 0);
        float positive = elected + half > 0 ? 1.0f : 0.0f;
        float above = sums->above[i] / (sums->plus[i] > 1e-30f ? sums->plus[i] : 1e-30f) * positive;
        float below = sums->below[i] / (sums->minus[i] > 1e-30f ? sums->minus[i] : 1e-30f) * (1.0f - positive);
        out[i] = above + below;
    }
    *votes += all;
    *ties += undecided;
}

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

static void release(Py_buffer *buffers, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        PyBuffer_Release(&buffers[i]);
}

static PyObject *bad_arguments(void) {
    PyErr_SetString(PyExc_ValueError, "the sizes of the buffers do not fit each other");
    return NULL;
}

/* Get the buffers of a tensor, as many as there are kinds, from a tuple with those of all tensors; return their number, or
   -1 with an exception. */
static int buffers_of(PyObject *inputs, Py_ssize_t tensor, const char *kinds, Py_ssize_t number, Py_buffer *buffers,
                      Py_ssize_t elements) {
    int got = 0;
    for (; got < number; got++) {
        if (PyObject_GetBuffer(PyTuple_GetItem(inputs, tensor * number + got), &buffers[got], PyBUF_SIMPLE))
            break;
        if ((uint8_t)kinds[got] >= KINDS || buffers[got].len != elements * widths[(uint8_t)kinds[got]]) {
            got++;
            bad_arguments();
            break;
        }
    }
    if (PyErr_Occurred()) {
        release(buffers, got);
        return -1;
    }
    return got;
}

/* Return whether tuples have the buffers of a number of tensors, each of as many kinds; set an exception if not. */
static int are_of_tensors(PyObject *inputs, Py_ssize_t tensors, Py_ssize_t number) {
    if (number >= 1 && number <= MOST && PyTuple_Check(inputs) && PyTuple_Size(inputs) / number == tensors &&
        PyTuple_Size(inputs) % number == 0)
        return 1;
    bad_arguments();
    return 0;
}

/* Merge a tensor; return its votes and ties, None if it is declined, or NULL with an exception. */
static PyObject *merge_tensor(job *job, room *space, PyObject *inputs, Py_ssize_t tensor, const uint8_t *kinds, PyObject *outs,
                              int kind) {
    Py_buffer b[MOST], out = {0};
    PyObject *result = NULL;
    int number = job->number + job->has_base;
    if (PyObject_GetBuffer(PyTuple_GetItem(outs, tensor), &out, PyBUF_WRITABLE))
        return NULL;
    Py_ssize_t elements = out.len / widths[kind];
    int got = out.len % widths[kind] ? -1 : buffers_of(inputs, tensor, (const char *)kinds, number, b, elements);
    if (got >= 0) {
        int64_t votes = 0, ties = 0;
        int done;
        for (int n = 0; n < job->number; n++)
            job->inputs[n] = b[n].buf;
        job->base = job->has_base ? b[job->number].buf : NULL;
        job->out = out.buf;
        Py_BEGIN_ALLOW_THREADS
        done = merge_all(job, space, elements, kind, &votes, &ties);
        Py_END_ALLOW_THREADS
        result = done ? Py_BuildValue("(LL)", (long long)votes, (long long)ties) : Py_NewRef(Py_None);
        release(b, got);
    } else if (!PyErr_Occurred()) {
        bad_arguments();
    }
    PyBuffer_Release(&out);
    return result;
}

/* merge(inputs, kinds, outs, out_kind, combine, weights, trims, keys, start, kept, divisor, scale, majority) */
static PyObject *merge(PyObject *module, PyObject *args) {
    PyObject *inputs, *outs, *results = NULL;
    Py_buffer kinds = {0}, weights = {0}, trims = {0}, keys = {0};
    int kind, combine, majority;
    double kept, divisor, scale;
    unsigned long long start;
    job job = {0};
    if (!PyArg_ParseTuple(args, "Oy*Oiiy*y*y*Kdddi", &inputs, &kinds, &outs, &kind, &combine, &weights, &trims, &keys, &start,
                          &kept, &divisor, &scale, &majority))
        goto end;
    job.number = (int)(weights.len / 8);
    job.has_base = combine != MEAN;
    Py_ssize_t tensors = PyTuple_Check(outs) ? PyTuple_Size(outs) : 0;
    if (kind < 0 || kind >= KINDS || combine < 0 || combine >= COMBINATIONS || weights.len % 8 ||
        kinds.len != job.number + job.has_base || (trims.len && trims.len != job.number * 4) ||
        (keys.len && keys.len != tensors * job.number * 8)) {
        bad_arguments();
        goto end;
    }
    if (!are_of_tensors(inputs, tensors, kinds.len))
        goto end;
    for (Py_ssize_t n = 0; n < kinds.len; n++)
        job.kinds[n] = ((uint8_t *)kinds.buf)[n];
    memcpy(job.weights, weights.buf, weights.len);
    memcpy(job.trims, trims.buf, trims.len);
    job.trimming = trims.len > 0;
    job.dropping = keys.len > 0 && kept < 1;
    job.combine = combine;
    job.divisor = divisor;
    job.start = start;
    job.kept = (float)kept;
    job.scale = (float)scale;
    job.half = (float)majority / 2;
    room *space = PyMem_Malloc(sizeof *space);
    if (space == NULL)
        PyErr_NoMemory();
    else if ((results = PyList_New(tensors)) != NULL) {
        for (Py_ssize_t n = 0; n < tensors; n++) {
            if (keys.len)
                memcpy(job.keys, (const char *)keys.buf + n * job.number * 8, (size_t)job.number * 8);
            PyObject *result = merge_tensor(&job, space, inputs, n, kinds.buf, outs, kind);
            if (result == NULL || PyList_SetItem(results, n, result)) {
                Py_CLEAR(results);
                break;
            }
        }
    }
    PyMem_Free(space);
end:
    if (kinds.obj)
        PyBuffer_Release(&kinds);
    if (weights.obj)
        PyBuffer_Release(&weights);
    if (trims.obj)
        PyBuffer_Release(&trims);
    if (keys.obj)
        PyBuffer_Release(&keys);
    return results;
}

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

/* Get writable buffers of a tuple; return their number, which is another one than asked for with an exception. */
static Py_ssize_t rooms_of(PyObject *rooms, Py_ssize_t number, Py_buffer *buffers) {
    Py_ssize_t got = 0;
    if (!PyTuple_Check(rooms) || PyTuple_Size(rooms) != number)
        bad_arguments();
    else
        while (got < number && !PyObject_GetBuffer(PyTuple_GetItem(rooms, got), &buffers[got], PyBUF_WRITABLE))
            got++;
    return got;
}

/* Count the differences of a tensor; return whether it was counted, or NULL with an exception. */
static PyObject *count_tensor(counting *jobs, PyObject *inputs, Py_ssize_t tensor, const Py_buffer *kinds) {
    const uint8_t *names = kinds->buf;
    Py_buffer b[MOST];
    if (PyObject_GetBuffer(PyTuple_GetItem(inputs, tensor * kinds->len), &b[0], PyBUF_SIMPLE))
        return NULL;
    Py_ssize_t elements = b[0].len / widths[names[0]];
    PyBuffer_Release(&b[0]);
    int got = buffers_of(inputs, tensor, kinds->buf, kinds->len, b, elements);
    if (got < 0)
        return NULL;
    int done = -1;
    if (elements > 0x7fffffff) {
        bad_arguments();
    } else {
        for (int n = 0; n < got - 1; n++) {
            jobs[n].data[0] = b[0].buf;
            jobs[n].data[1] = b[n + 1].buf;
        }
        done = count_branches(jobs, got - 1, elements);
    }
    release(b, got);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

/* count(inputs, kinds, uppers, windows, firsts) */
static PyObject *count(PyObject *module, PyObject *args) {
    PyObject *inputs, *uppers, *windows, *results = NULL;
    Py_buffer tops[MOST], rooms[MOST], kinds = {0}, firsts = {0};
    Py_ssize_t counted = 0, near = 0;
    counting jobs[MOST];
    if (!PyArg_ParseTuple(args, "Oy*OOy*", &inputs, &kinds, &uppers, &windows, &firsts))
        goto end;
    const uint8_t *names = kinds.buf;
    Py_ssize_t number = kinds.len - 1;
    Py_ssize_t tensors = PyTuple_Check(inputs) && kinds.len ? PyTuple_Size(inputs) / kinds.len : 0;
    if (number < 1 || names[0] >= KINDS || firsts.len != number * 4) {
        bad_arguments();
        goto end;
    }
    if (!are_of_tensors(inputs, tensors, kinds.len) || (counted = rooms_of(uppers, number, tops)) != number ||
        (near = rooms_of(windows, number, rooms)) != number)
        goto end;
    for (Py_ssize_t n = 0; n < number; n++) {
        if (rooms[n].len % 16 || rooms[n].len / 16 > 0x7fffffff || (tops[n].len && tops[n].len != HALVES * 8)) {
            bad_arguments();
            goto end;
        }
        counting *job = &jobs[n];
        job->kinds[0] = names[0];
        job->kinds[1] = names[n + 1];
        job->upper = tops[n].len ? tops[n].buf : NULL;
        job->window = rooms[n].buf;
        job->magnitudes = (uint32_t)(rooms[n].len / 16);
        memcpy(&job->first, (const char *)firsts.buf + 4 * n, 4);
    }
    if ((results = PyList_New(tensors)) == NULL)
        goto end;
    for (Py_ssize_t n = 0; n < tensors; n++) {
        PyObject *result = count_tensor(jobs, inputs, n, &kinds);
        if (result == NULL || PyList_SetItem(results, n, result)) {
            Py_CLEAR(results);
            break;
        }
    }
end:
    release(tops, counted);
    release(rooms, near);
    if (kinds.obj)
        PyBuffer_Release(&kinds);
    if (firsts.obj)
        PyBuffer_Release(&firsts);
    return results;
}

static PyMethodDef methods[] = {
    {"count", count, METH_VARARGS, "count(inputs, kinds, uppers, windows, firsts)"},
    {"merge", merge, METH_VARARGS,
     "merge(inputs, kinds, outs, out_kind, combine, weights, trims, keys, start, kept, divisor, scale, majority)"},
    {NULL, NULL, 0, NULL},
};

/* Raised with every change of the functions above; kernels.py uses no module of another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 5); }

EXTENSION(_merges, add_version)

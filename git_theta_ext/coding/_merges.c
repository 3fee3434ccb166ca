/* Elementwise merges in one pass: read stored elements, compute, check, round and write, block by block in the cache.

   Every step does what the arrays of merge_kernels.py's callers do, in the same order and with the same roundings, so that
   the bits are the same. Where values are not finite, or a result does not fit its type, the functions decline: the caller
   then does the piece with arrays, which also say what is wrong with it.

   This file has what Python calls. _merges_blocks.h merges a tensor, _merges_counts.h counts its differences. */

#include "_merges_blocks.h"
#include "_merges_counts.h"
#include "_merges_elements.h"

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
            bad_sizes(NULL, 0);
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
    bad_sizes(NULL, 0);
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
        bad_sizes(NULL, 0);
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
        bad_sizes(NULL, 0);
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

/* Get writable buffers of a tuple; return their number, which is another one than asked for with an exception. */
static Py_ssize_t rooms_of(PyObject *rooms, Py_ssize_t number, Py_buffer *buffers) {
    Py_ssize_t got = 0;
    if (!PyTuple_Check(rooms) || PyTuple_Size(rooms) != number)
        bad_sizes(NULL, 0);
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
        bad_sizes(NULL, 0);
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
        bad_sizes(NULL, 0);
        goto end;
    }
    if (!are_of_tensors(inputs, tensors, kinds.len) || (counted = rooms_of(uppers, number, tops)) != number ||
        (near = rooms_of(windows, number, rooms)) != number)
        goto end;
    for (Py_ssize_t n = 0; n < number; n++) {
        if (rooms[n].len % 16 || rooms[n].len / 16 > 0x7fffffff || (tops[n].len && tops[n].len != HALVES * 8)) {
            bad_sizes(NULL, 0);
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

/* Raised with every change of the functions above and in the headers; kernels.py uses no module of another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 5); }

EXTENSION(_merges, add_version)

/* BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) of many short messages of one length, 16 at the same time.

   A message of a few kilobytes is a few chunks, so that what hashes one at a time leaves most of a vector idle. Without a
   compiler, or on another processor, tensor_digests.py calls the blake3 package for each message. */

#include "_extension.h"

#include <stdlib.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#include <immintrin.h>
#define INSTRUCTIONS 1
#else
#define INSTRUCTIONS 0
#endif

#define LANES 16
#define BLOCK 64   /* bytes */
#define CHUNK 1024 /* bytes */
#define DIGEST 32  /* bytes */
#define LONGEST (1 << 20)
#define DEEPEST 12 /* subtrees of a message of 2 * LONGEST bytes */

#if INSTRUCTIONS

#define VECTORS __attribute__((target("avx512f"))) static
#define INLINE VECTORS inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")

enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };

static const uint32_t START[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

/* The words of a block in the order in which each round takes them. */
static const uint8_t ORDER[7][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

static int has_instructions(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f");
}

INLINE void mix(__m512i *v, int a, int b, int c, int d, __m512i first, __m512i second) {
    v[a] = _mm512_add_epi32(_mm512_add_epi32(v[a], v[b]), first);
    v[d] = _mm512_ror_epi32(_mm512_xor_si512(v[d], v[a]), 16);
    v[c] = _mm512_add_epi32(v[c], v[d]);
    v[b] = _mm512_ror_epi32(_mm512_xor_si512(v[b], v[c]), 12);
    v[a] = _mm512_add_epi32(_mm512_add_epi32(v[a], v[b]), second);
    v[d] = _mm512_ror_epi32(_mm512_xor_si512(v[d], v[a]), 8);
    v[c] = _mm512_add_epi32(v[c], v[d]);
    v[b] = _mm512_ror_epi32(_mm512_xor_si512(v[b], v[c]), 7);
}

/* Add a block of each message to its chaining value. A vector has one word of all messages. */
INLINE void compress(__m512i *value, const __m512i *words, uint32_t counter, uint32_t nbytes, uint32_t flags) {
    const uint32_t last[4] = {counter, 0, nbytes, flags};
    __m512i v[16];
    UNROLLED for (int i = 0; i < 8; i++) v[i] = value[i];
    UNROLLED for (int i = 0; i < 4; i++) {
        v[8 + i] = _mm512_set1_epi32((int)START[i]);
        v[12 + i] = _mm512_set1_epi32((int)last[i]);
    }
    UNROLLED for (int round = 0; round < 7; round++) {
        const uint8_t *order = ORDER[round];
        UNROLLED for (int i = 0; i < 4; i++) mix(v, i, 4 + i, 8 + i, 12 + i, words[order[2 * i]], words[order[2 * i + 1]]);
        UNROLLED for (int i = 0; i < 4; i++)
            mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, words[order[8 + 2 * i]], words[order[9 + 2 * i]]);
    }
    UNROLLED for (int i = 0; i < 8; i++) value[i] = _mm512_xor_si512(v[i], v[8 + i]);
}

/* Read a block of each message, and let each vector have one word of all. */
INLINE void load(__m512i *words, const uint8_t *from, Py_ssize_t stride) {
    __m512i r[16], t[16];
    UNROLLED for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from + i * stride);
    UNROLLED for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLLED for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLLED for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    UNROLLED for (int i = 0; i < 4; i++) {
        words[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        words[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        words[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        words[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

INLINE void start(__m512i *value) {
    UNROLLED for (int i = 0; i < 8; i++) value[i] = _mm512_set1_epi32((int)START[i]);
}

/* Let the value of the right one of two subtrees become that of both. */
VECTORS void join(const __m512i *left, __m512i *right, uint32_t flags) {
    __m512i words[16];
    memcpy(words, left, 8 * sizeof *words);
    memcpy(words + 8, right, 8 * sizeof *words);
    start(right);
    compress(right, words, 0, BLOCK, flags);
}

VECTORS void chunk(__m512i *value, const uint8_t *from, Py_ssize_t stride, Py_ssize_t nbytes, uint32_t counter,
                   uint32_t flags) {
    start(value);
    for (Py_ssize_t at = 0; at < nbytes; at += BLOCK) {
        __m512i words[16];
        load(words, from + at, stride);
        int last = nbytes - at <= BLOCK;
        compress(value, words, counter, (uint32_t)(last ? nbytes - at : BLOCK),
                 (at ? 0 : CHUNK_START) | (last ? CHUNK_END | flags : 0));
    }
}

/* Write the digests of 16 messages, each of which is followed by zeros up to the end of its last block. */
VECTORS void hash(const uint8_t *messages, Py_ssize_t stride, Py_ssize_t nbytes, uint8_t *out, Py_ssize_t count) {
    __m512i left[DEEPEST][8], value[8];
    uint32_t words[8][LANES];
    uint32_t chunks = (uint32_t)((nbytes + CHUNK - 1) / CHUNK);
    int waiting = 0;
    for (uint32_t i = 0; i + 1 < chunks; i++) {
        chunk(value, messages + (Py_ssize_t)i * CHUNK, stride, CHUNK, i, 0);
        for (uint32_t done = i + 1; !(done & 1); done >>= 1) join(left[--waiting], value, PARENT);
        memcpy(left[waiting++], value, sizeof value);
    }
    Py_ssize_t before = (Py_ssize_t)(chunks - 1) * CHUNK;
    chunk(value, messages + before, stride, nbytes - before, chunks - 1, waiting ? 0 : ROOT);
    while (waiting) {
        waiting--;
        join(left[waiting], value, PARENT | (waiting ? 0 : ROOT));
    }
    for (int i = 0; i < 8; i++) _mm512_storeu_si512(words[i], value[i]);
    for (Py_ssize_t lane = 0; lane < count; lane++)
        for (int i = 0; i < 8; i++) memcpy(out + DIGEST * lane + 4 * i, &words[i][lane], 4);
}

#else

static int has_instructions(void) { return 0; }
static void hash(const uint8_t *messages, Py_ssize_t stride, Py_ssize_t nbytes, uint8_t *out, Py_ssize_t count) {}

#endif

static PyObject *digests(PyObject *module, PyObject *args) {
    Py_buffer head = {0}, data = {0};
    Py_ssize_t nbytes;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "y*y*n", &head, &data, &nbytes))
        goto end;
    if (nbytes < 1 || nbytes > LONGEST || head.len > LONGEST || data.len % nbytes) {
        bad_sizes(NULL, 0);
        goto end;
    }
    Py_ssize_t count = data.len / nbytes, whole = head.len + nbytes, stride = (whole + BLOCK - 1) / BLOCK * BLOCK;
    uint8_t *messages = calloc(LANES, (size_t)stride);
    result = messages ? PyBytes_FromStringAndSize(NULL, DIGEST * count) : PyErr_NoMemory();
    if (result != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(result);
        Py_BEGIN_ALLOW_THREADS
        for (int lane = 0; lane < LANES; lane++)
            memcpy(messages + stride * lane, head.buf, (size_t)head.len);
        for (Py_ssize_t first = 0; first < count; first += LANES) {
            Py_ssize_t some = count - first < LANES ? count - first : LANES;
            for (Py_ssize_t lane = 0; lane < some; lane++)
                memcpy(messages + stride * lane + head.len, (const uint8_t *)data.buf + nbytes * (first + lane), (size_t)nbytes);
            hash(messages, stride, whole, out + DIGEST * first, some);
        }
        Py_END_ALLOW_THREADS
    }
    free(messages);
end:
    if (head.obj != NULL)
        PyBuffer_Release(&head);
    if (data.obj != NULL)
        PyBuffer_Release(&data);
    return result;
}

static PyMethodDef methods[] = {
    {"digests", digests, METH_VARARGS, "digests(head, data, nbytes)"},
    {NULL, NULL, 0, NULL},
};

/* VERSION is raised with every change of the functions above; kernels.py uses no module of another version. */
static int begin(PyObject *module) {
    if (!has_instructions()) {
        PyErr_SetString(PyExc_ImportError, "the processor has no vectors of 16 words");
        return -1;
    }
    return PyModule_AddIntConstant(module, "VERSION", 1);
}

EXTENSION(_blake3, begin)

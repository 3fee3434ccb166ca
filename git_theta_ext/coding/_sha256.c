/* SHA-256 (FIPS 180-4) of two messages at the same time, with the processor's instructions for it.

   Each round waits for the one before it, so that one message leaves these instructions idle half of the time. Without a
   compiler, or on another processor, store/packs/file_names.py lets hashlib hash one message after the other. */

#include "_extension.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define INSTRUCTIONS 1
#else
#define INSTRUCTIONS 0
#endif

#define LANES 2
#define BLOCK 64 /* bytes */
#define STATE 32 /* bytes */

#if INSTRUCTIONS

#define SHA __attribute__((target("sha,sse4.1"))) static
#define EACH _Pragma("GCC unroll 2") for (int lane = 0; lane < lanes; lane++)

static const uint32_t ROUNDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static int has_instructions(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_SSE4_1 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA;
}

/* Words are big-endian in messages and states. */
SHA inline __m128i load(const uint8_t *from) {
    const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)from), swap);
}

SHA inline void store(uint8_t *to, __m128i words) {
    const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    _mm_storeu_si128((__m128i *)to, _mm_shuffle_epi8(words, swap));
}

/* Add so many blocks of each message to its state. The instructions take the words A to H of a state as FEBA and HGDC. */
SHA inline __attribute__((always_inline)) void add(uint8_t *states, const uint8_t *const *data, Py_ssize_t blocks,
                                                    const int lanes) {
    __m128i abef[LANES], cdgh[LANES], words[LANES][4];
    EACH {
        __m128i abcd = load(states + STATE * lane), efgh = load(states + STATE * lane + 16);
        abef[lane] = _mm_shuffle_epi32(_mm_unpacklo_epi64(efgh, abcd), 0xb1);
        cdgh[lane] = _mm_shuffle_epi32(_mm_unpackhi_epi64(efgh, abcd), 0xb1);
    }
    for (Py_ssize_t block = 0; block < blocks; block++) {
        __m128i abef_before[LANES], cdgh_before[LANES];
        EACH {
            abef_before[lane] = abef[lane];
            cdgh_before[lane] = cdgh[lane];
        }
        _Pragma("GCC unroll 16") for (int four = 0; four < 16; four++) {
            EACH {
                __m128i *known = words[lane], now;
                if (four < 4) {
                    now = load(data[lane] + BLOCK * block + 16 * four);
                } else {
                    __m128i last = known[(four + 3) & 3], middle = _mm_alignr_epi8(last, known[(four + 2) & 3], 4);
                    now = _mm_add_epi32(_mm_sha256msg1_epu32(known[four & 3], known[(four + 1) & 3]), middle);
                    now = _mm_sha256msg2_epu32(now, last);
                }
                known[four & 3] = now;
                now = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)(ROUNDS + 4 * four)));
                cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], now);
                abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], _mm_shuffle_epi32(now, 0x0e));
            }
        }
        EACH {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }
    EACH {
        __m128i feba = _mm_shuffle_epi32(abef[lane], 0x1b), dchg = _mm_shuffle_epi32(cdgh[lane], 0xb1);
        store(states + STATE * lane, _mm_blend_epi16(feba, dchg, 0xf0));
        store(states + STATE * lane + 16, _mm_alignr_epi8(dchg, feba, 8));
    }
}

SHA void add_both(uint8_t *states, const uint8_t *const *data, Py_ssize_t blocks) { add(states, data, blocks, 2); }

SHA void add_one(uint8_t *state, const uint8_t *data, Py_ssize_t blocks) { add(state, &data, blocks, 1); }

#else

static int has_instructions(void) { return 0; }
static void add_both(uint8_t *states, const uint8_t *const *data, Py_ssize_t blocks) {}
static void add_one(uint8_t *state, const uint8_t *data, Py_ssize_t blocks) {}

#endif

static PyObject *update(PyObject *module, PyObject *args) {
    Py_buffer b[3] = {{0}};
    int fits = PyArg_ParseTuple(args, "w*y*y*", &b[0], &b[1], &b[2]);
    if (fits && (b[0].len != LANES * STATE || b[1].len % BLOCK || b[2].len % BLOCK)) {
        bad_sizes(NULL, 0);
        fits = 0;
    }
    if (fits) {
        const uint8_t *data[LANES] = {b[1].buf, b[2].buf};
        Py_ssize_t blocks[LANES] = {b[1].len / BLOCK, b[2].len / BLOCK};
        Py_ssize_t common = blocks[0] < blocks[1] ? blocks[0] : blocks[1];
        Py_BEGIN_ALLOW_THREADS
        add_both(b[0].buf, data, common);
        for (int lane = 0; lane < LANES; lane++)
            add_one((uint8_t *)b[0].buf + STATE * lane, data[lane] + BLOCK * common, blocks[lane] - common);
        Py_END_ALLOW_THREADS
    }
    for (int i = 0; i < 3; i++)
        if (b[i].obj != NULL)
            PyBuffer_Release(&b[i]);
    if (!fits)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"update", update, METH_VARARGS, "update(states, first, second)"},
    {NULL, NULL, 0, NULL},
};

/* VERSION is raised with every change of the functions above; kernels.py uses no module of another version. */
static int begin(PyObject *module) {
    if (!has_instructions()) {
        PyErr_SetString(PyExc_ImportError, "the processor has no instructions for SHA-256");
        return -1;
    }
    return PyModule_AddIntConstant(module, "VERSION", 1);
}

EXTENSION(_sha256, begin)

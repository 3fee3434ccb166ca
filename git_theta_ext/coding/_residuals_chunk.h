/* A chunk of a tensor on its way to planes, and back: its differences from the prediction, without runs that have none, are
   grouped into stripes.

   _residuals.c includes it. */

#pragma once

#include "_residuals_stripe_plan.h"
#include "_residuals_stripes.h"
#include "_residuals_vector_bytes.h"
#include "_residuals_vector_groups.h"
#include "_residuals_vector_planes.h"
#include "_residuals_vectors.h"
#include "_residuals_widths.h"

#include <stdlib.h>

#define RUN 64    /* elements that are left out together if none differs */
#define GAPS 0x80 /* the flag of a head that there are such runs */

/* The elements of a chunk that differ from the prediction, grouped. */
typedef struct {
    char *missed, *grouped;
    uint8_t *keys, *map;
    Py_ssize_t all, count; /* elements of the chunk, and those that are coded */
    int width, gaps, number, done;
    int held; /* bytes of a difference in memory: one if few take more, which are apart then */
    larges apart;
    uint16_t *ordered; /* what is apart, grouped */
    frequent often;
    Py_ssize_t next[STREAMS][VALUES];
    stripe stripes[VALUES];
} residual;

static void discard(residual *made) {
    if (made != NULL)
        free(made->missed);
    free(made);
}

static int reserve(residual *made, Py_ssize_t count, int width) {
    made->all = made->count = count;
    made->width = made->held = width;
    Py_ssize_t most = width == 2 && count >= SAMPLE && has_vectors() ? count / APART : 0, room = most ? most + SPARE : 0;
    made->missed = malloc((size_t)(count * (2 * width + 1) + count / RUN / 8 + 1 + 3 * 8 + room * (2 * 2 + 1)));
    if (made->missed == NULL)
        return 0;
    made->grouped = made->missed + count * width + 8; /* symbols are written eight at a time */
    made->keys = (uint8_t *)made->grouped + count * width;
    made->map = made->keys + count + 8;
    uint8_t *rest = made->map + count / RUN / 8 + 1;
    rest += -(uintptr_t)rest & 7;
    made->apart = (larges){(uint16_t *)rest, rest + 2 * 2 * room, 0, most};
    made->ordered = (uint16_t *)rest + room;
    return 1;
}

static int in_map(const uint8_t *map, Py_ssize_t run) { return map[run / 8] >> run % 8 & 1; }

/* Note for each complete run in a map of bits whether any of its elements is not zero, and return the number of these. */
static Py_ssize_t map_runs(const char *missed, int width, Py_ssize_t runs, uint8_t *map) {
    Py_ssize_t some = 0;
    memset(map, 0, (size_t)(runs + 7) / 8);
    for (Py_ssize_t run = 0; run < runs; run++) {
        uint64_t any = 0;
        for (int word = 0; word < RUN / 8 * width; word++) {
            LOAD(uint64_t, here, missed, run * (RUN / 8) * width + word);
            any |= here;
        }
        map[run / 8] |= (uint8_t)((any != 0) << run % 8);
        some += any != 0;
    }
    return some;
}

/* Move the elements of the runs in a map, and those after the last complete run, together; return their number. */
static Py_ssize_t select_runs(char *values, int width, Py_ssize_t count, const uint8_t *map) {
    Py_ssize_t kept = 0;
    for (Py_ssize_t run = 0; run < count / RUN; run++) {
        if (in_map(map, run)) {
            memmove(values + kept * width, values + run * RUN * width, (size_t)(RUN * width));
            kept += RUN;
        }
    }
    memmove(values + kept * width, values + count / RUN * RUN * width, (size_t)(count % RUN * width));
    return kept + count % RUN;
}

/* Count the elements of each key in each part. */
static void count_keys(residual *made) {
    Py_ssize_t count = made->count, part = count / STREAMS, (*next)[VALUES] = made->next;
    const uint8_t *keys = made->keys;
    memset(made->next, 0, sizeof made->next);
    find_frequent(keys, count, made->held < made->width ? RARE_BYTE : RARE, &made->often);
    if (made->often.number) {
        for (int stream = 0; stream + 1 < STREAMS; stream++, count -= part)
            count_vectors(keys + stream * part, part, &made->often, next[stream]);
        count_vectors(keys + (STREAMS - 1) * part, count, &made->often, next[STREAMS - 1]);
        return;
    }
    for (Py_ssize_t i = 0; i < part; i++) {
        for (int stream = 0; stream < STREAMS; stream++)
            next[stream][keys[stream * part + i]]++;
    }
    for (Py_ssize_t i = STREAMS * part; i < count; i++)
        next[STREAMS - 1][keys[i]]++;
}

/* Find out where the elements of each key go when they are grouped, and the end of each stripe. */
static void place_keys(residual *made) {
    Py_ssize_t ends[VALUES], end = 0, (*next)[VALUES] = made->next;
    stripe *stripes = made->stripes;
    count_keys(made);
    for (int key = 0; key < VALUES; key++) {
        for (int stream = 0; stream < STREAMS; stream++) {
            Py_ssize_t here = next[stream][key];
            next[stream][key] = end;
            end += here;
        }
        ends[key] = end;
    }
    for (int at = 0; at < made->number; at++) {
        stripes[at].start = at ? stripes[at - 1].end : 0;
        stripes[at].end = ends[stripes[at].last];
    }
}

/* Find the differences, and as bytes if few are large, the keys, and the runs that have differences. Return the number of
   these; -1 if no element differs. */
static Py_ssize_t find_differences(residual *made, const char *values, const char *guesses, const kind *how) {
    if (made->apart.most && !how->block) {
        Py_ssize_t some = differ_as_bytes(values, guesses, made->count, how, (uint8_t *)made->missed, made->keys, made->map,
                                          &made->apart);
        if (some >= 0) {
            made->held = 1;
            return some ? some : -1;
        }
    }
    if (!differ(how->width, values, guesses, made->count, made->missed))
        return -1;
    make_keys(how, guesses, made->count, made->keys);
    return map_runs(made->missed, how->width, made->count / RUN, made->map);
}

/* Fill in what is planned, and return whether any element differs; -1 if there is no memory. */
static int fill(residual *made, const char *values, const char *guesses, const kind *how, Py_ssize_t sample,
                const double *logs, double least, double most, double worth) {
    static void (*const groups[SIZES])(const void *, const uint8_t *, Py_ssize_t, Py_ssize_t[STREAMS][VALUES], char *) =
        BY_WIDTH(group);
    static void (*const measures[SIZES])(const void *, stripe *) = BY_WIDTH(measure);
    Py_ssize_t runs = made->count / RUN, some = find_differences(made, values, guesses, how);
    const int held = made->held, as_bytes = held < made->width;
    if (some < 0)
        return 0;
    if ((double)some < worth * (double)runs) {
        made->gaps = GAPS;
        select_runs((char *)made->keys, 1, made->count, made->map);
        made->count = select_runs(made->missed, held, made->count, made->map);
    }
    made->number = plan(made->missed, made->keys, made->count, how->width, held, sample, logs, least, most, made->stripes);
    if (made->number > 1) {
        place_keys(made);
        if (as_bytes && made->often.number)
            group_bytes((uint8_t *)made->missed, made->keys, made->count, &made->often, made->next, (uint8_t *)made->grouped);
        else if (held == 2 && made->often.number)
            group_vectors(made->missed, made->keys, made->count, &made->often, made->next, made->grouped);
        else
            groups[place(held)](made->missed, made->keys, made->count, made->next, made->grouped);
    } else {
        made->grouped = made->missed;
        made->stripes[0].start = 0;
        made->stripes[0].end = made->count;
    }
    if (as_bytes)
        measure_all_bytes((uint8_t *)made->grouped, made->stripes, made->number, &made->apart, made->ordered);
    for (int at = 0; !as_bytes && at < made->number; at++)
        measures[place(held)](made->grouped, made->stripes + at);
    return made->number ? 1 : -1;
}

/* Write the planes of all stripes one after another. The keys, which are not needed any more, give way to symbols. */
static void write_planes(const residual *made, uint8_t *out) {
    static void (*const writes[SIZES])(const char *, const stripe *, uint8_t *, uint8_t *) = BY_WIDTH(write);
    const int vectors = has_vectors();
    const uint16_t *large = made->ordered;
    for (const stripe *one = made->stripes; one < made->stripes + made->number; one++) {
        if (made->held < made->width)
            write_bytes((uint8_t *)made->grouped, one, large, out);
        else if (made->width == 2 && !one->low && vectors)
            write_vectors(made->grouped, one, out);
        else
            writes[place(made->width)](made->grouped, one, made->keys, out);
        large = made->ordered + one->larges;
        out += planes_bytes(one, 1);
    }
}

/* Choose whether differences are read as bytes: if not more than a few have to be large. */
static int can_be_bytes(const residual *made) {
    Py_ssize_t large = 0;
    for (const stripe *one = made->stripes; one < made->stripes + made->number; one++) {
        large += one->bits == 8 ? one->excesses : 0;
        if (one->low)
            return 0;
    }
    return made->number > 1 && !made->gaps && large < made->apart.most;
}

/* Find the elements of each stripe; return what is wrong with the stripes, or NULL. */
static const char *find_elements(residual *made, const kind *how, const char *guesses) {
    if (how->width == 2 && !how->block && has_vectors())
        make_keys_by_vectors(how, guesses, made->count, made->keys);
    else
        make_keys(how, guesses, made->count, made->keys);
    if (made->gaps)
        made->count = select_runs((char *)made->keys, 1, made->count, made->map);
    made->held = can_be_bytes(made) ? 1 : made->width;
    if (made->number > 1) {
        place_keys(made);
    } else {
        made->stripes[0].start = 0;
        made->stripes[0].end = made->count;
    }
    for (int at = 0; at < made->number; at++) {
        if (made->stripes[at].excesses > made->stripes[at].end - made->stripes[at].start)
            return "a residual has more elements than its tensor";
    }
    return NULL;
}

/* Do so by way of bytes. Return -1 if it takes more than bytes after all. */
static int write_from_bytes(residual *made, const uint8_t *const *planes, const char *guesses, char *out) {
    for (const stripe *one = made->stripes; one < made->stripes + made->number; planes += 1 + one->wide, one++) {
        int good = read_bytes(planes, one, &made->apart, (uint8_t *)made->grouped);
        if (good <= 0)
            return good;
    }
    ungroup_bytes((uint8_t *)made->grouped, made->keys, made->count, &made->often, made->next, &made->apart, guesses, out);
    return 1;
}

/* Write the values of a chunk, given its planes; return whether the number of excesses is as stated. */
static int write_values(residual *made, const uint8_t *const *planes, const char *guesses, char *out) {
    static int (*const reads[SIZES])(const uint8_t *const *, const stripe *, uint8_t *, char *) = BY_WIDTH(read);
    static void (*const ungroups[SIZES])(const void *, const uint8_t *, Py_ssize_t, Py_ssize_t[STREAMS][VALUES], char *) =
        BY_WIDTH(ungroup);
    Py_ssize_t runs = made->all / RUN, rest = made->all % RUN;
    int width = made->width, vectors = has_vectors();
    const char *missed = made->grouped;
    if (made->held < width && made->often.number) {
        int good = write_from_bytes(made, planes, guesses, out);
        if (good >= 0)
            return good;
    }
    for (int at = 0; at < made->number; at++) {
        const stripe *one = made->stripes + at;
        int good = width == 2 && !one->low && vectors
                       ? read_vectors(planes, one, made->grouped)
                       : reads[place(width)](planes, one, (uint8_t *)made->missed, made->grouped);
        if (!good)
            return 0;
        planes += made->stripes[at].low + 1 + made->stripes[at].wide;
    }
    if (made->number > 1) {
        if (width == 2 && made->often.number && !made->gaps) {
            /* The keys come after the values, and are more than 64 bytes. */
            ungroup_vectors(made->grouped, made->keys, made->count, &made->often, made->next, guesses, out);
            return 1;
        }
        ungroups[place(width)](made->grouped, made->keys, made->count, made->next, made->missed);
        missed = made->missed;
    }
    if (!made->gaps) {
        add_differences(width, missed, guesses, made->all, out);
        return 1;
    }
    for (Py_ssize_t run = 0; run < runs; run++, guesses += RUN * width, out += RUN * width) {
        if (in_map(made->map, run)) {
            add_differences(width, missed, guesses, RUN, out);
            missed += RUN * width;
        } else {
            memcpy(out, guesses, (size_t)(RUN * width));
        }
    }
    add_differences(width, missed, guesses, rest, out);
    return 1;
}

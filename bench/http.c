// HTTP/1.1 responses: the head, and the body without its transfer coding.
#define _GNU_SOURCE
#include "load.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAX 8192

static const char *header(const char *head, const char *name) {
    size_t len = strlen(name);
    for (const char *line = strchr(head, '\n'); line; line = strchr(line, '\n'))
        if (!strncasecmp(++line, name, len) && line[len] == ':') return line + len + 1 + strspn(line + len + 1, " \t");
    return NULL;
}

static bool header_says(const char *head, const char *name, const char *word) {
    const char *value = header(head, name), *found = value ? strcasestr(value, word) : NULL;
    return found && found < value + strcspn(value, "\r\n");
}

static void read_head(struct reply *r) {
    if (sscanf(r->head, "HTTP/%*d.%*d %d", &r->status) != 1) r->status = 0;
    if (r->status >= 100 && r->status < 200) return; // the real one follows
    const char *length = header(r->head, "content-length");
    r->chunked = header_says(r->head, "transfer-encoding", "chunked");
    r->until_eof = !r->chunked && !length && r->status != 204 && r->status != 304;
    r->closes = r->until_eof || header_says(r->head, "connection", "close");
    r->left = r->until_eof ? INT64_MAX : length && !r->chunked ? atoll(length) : 0;
    r->state = r->chunked ? SIZE : r->left > 0 ? DATA : DONE;
}

const char *take_head(struct reply *r, const char *p, const char *end) {
    while (r->state == HEAD && p < end) {
        if (!r->head && !(r->head = malloc(HEAD_MAX + 1))) die("out of memory");
        size_t had = r->head_len, take = MIN((size_t)(end - p), HEAD_MAX - had);
        memcpy(r->head + had, p, take);
        r->head_len += take;
        char *stop = memmem(r->head, r->head_len, "\r\n\r\n", 4);
        if (!stop && r->head_len < HEAD_MAX) return end;
        size_t used = stop ? (size_t)(stop - r->head) + 4 : HEAD_MAX;
        r->head[used] = 0;
        p += used - had;
        read_head(r); // one that is too long has no status that anyone accepts, or is cut: it is read all the same
        r->head_len = 0;
    }
    if (r->state != HEAD) free(r->head), r->head = NULL;
    return p;
}

static void chunk_byte(struct reply *r, char byte) {
    if (byte == '\n') {
        if (r->state == AFTER_DATA) r->state = SIZE, r->left = 0;
        else if (r->state == TRAILER) r->state = r->left ? TRAILER : DONE, r->left = 0;
        else r->state = r->left ? DATA : TRAILER;
    } else if (r->state == TRAILER) {
        r->left += byte != '\r';
    } else if (r->state == SIZE) {
        if (isxdigit((unsigned char)byte)) r->left = r->left * 16 + (byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10);
        else r->state = EXTENSION;
    }
}

size_t next_run(struct reply *r, const char **p, const char *end, const char **run) {
    for (; *p < end && r->state != DONE; (*p)++) {
        if (r->state != DATA) {
            chunk_byte(r, **p);
            continue;
        }
        size_t take = (size_t)MIN(r->left, end - *p);
        *run = *p;
        *p += take;
        r->left -= (int64_t)take;
        if (!r->left) r->state = r->chunked ? AFTER_DATA : DONE;
        return take;
    }
    return 0;
}

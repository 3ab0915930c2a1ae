// What the files of the load generator share: the command line, the clock, the histogram, stdin and sockets, responses.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define STDIN_ID UINT32_MAX
#define EVENTS 512
#define MIN(a, b) ((a) < (b) ? (a) : (b))

struct options {
    const char *host, *path, *body;
    int port, rcvbuf, clients, batch, events;
    bool ready, no_order, has_type;
    double open_timeout;
    uint64_t count_from;
    char headers[16384];
};

// --- load.c ---

extern struct options opt;
extern int epoll_fd;
extern char input[1 << 18]; // shared by all sockets: what is read is used up before the next read

_Noreturn void die(const char *format, ...);
uint64_t now_ns(void);
double cpu_s(void);

// 64 buckets to a power of two, so a percentile is right to 1 %.
struct histogram {
    uint64_t count, max, buckets[58 * 64 + 64];
};

static inline void record(struct histogram *h, uint64_t v) {
    int shift = v < 64 ? 0 : 57 - __builtin_clzll(v);
    h->buckets[(unsigned)shift * 64 + (v >> shift)]++;
    h->count++;
    if (v > h->max) h->max = v;
}

void print_histogram(const char *name, const struct histogram *h);

void read_stdin(void);
bool take_line(char *line, size_t size);
void answer_line(void);

void watch(int operation, int fd, uint32_t id, uint32_t events);
int new_socket(uint32_t index, int flags);
int connect_to(int fd);
void close_abruptly(int fd);

// --- http.c ---

struct reply {
    enum { HEAD, SIZE, EXTENSION, DATA, AFTER_DATA, TRAILER, DONE } state;
    int status;
    bool chunked, closes, until_eof;
    char *head;
    size_t head_len;
    int64_t left; // of the chunk or the body; in a trailer, the length of the line so far
};

// Takes the head's bytes off the input; the state stays HEAD while the head is not complete.
const char *take_head(struct reply *r, const char *p, const char *end);

// The next piece of the body without its transfer coding; 0 when the input is used up or the body is complete.
size_t next_run(struct reply *r, const char **p, const char *end, const char **run);

// --- the subcommands: neither comes back ---

void subscribe(void);
void publish(void);

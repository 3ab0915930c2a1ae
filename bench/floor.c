// What a fan-out costs in system calls alone: one send() per connection and nothing else. A server on the same machine
// cannot be cheaper, so the benchmark states its cost as a multiple of this one.
// Commands are lines on stdin, answers are JSON lines on stdout; bench/load.py is the caller.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LISTENER UINT32_MAX
#define STDIN_ID (UINT32_MAX - 1)
#define EVENTS 512
#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
#define READY "event: $ready\ndata: {}\n\n"
#define DATA "{\"n\":\"%010lu\",\"t\":\"%020lu\",\"pad\":\""
#define BARE 54 // DATA with its numbers and its end, without padding

struct conn {
    int fd; // -1: closed
    bool greeted;
    size_t sent; // of the bulk
};

static int epoll_fd, listener;
static struct conn *conns;
static uint32_t conn_count, conn_room;
static uint64_t next_n = 1;
static char *bulk;
static size_t bulk_len, bulk_slice;

static void fail(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void watch(int operation, int fd, uint32_t id, uint32_t events) {
    struct epoll_event e = {.events = events, .data.u32 = id};
    if (epoll_ctl(epoll_fd, operation, fd, &e)) fail("epoll_ctl");
}

static void drop(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static size_t make_frame(char *to, size_t room, size_t bytes) {
    size_t pad = bytes > BARE ? bytes - BARE : 0;
    uint64_t n = next_n++;
    int len = snprintf(to, room, "id: %lu\nevent: bench\ndata: " DATA, n, n, now_ns());
    memset(to + len, 'x', pad);
    memcpy(to + (size_t)len + pad, "\"}\n\n", 4);
    return (size_t)len + pad + 4;
}

// Sends all of it, however slow the reader is.
static bool send_all(struct conn *c, const char *p, size_t len) {
    while (len) {
        ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return false;
        if (n > 0) p += n, len -= (size_t)n;
        struct pollfd wait = {.fd = c->fd, .events = POLLOUT};
        if (len) poll(&wait, 1, -1);
    }
    return true;
}

// --- connections ---

static void accept_all(void) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        int on = 1, size = 256 * 1024;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (bulk) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        if (conn_count == conn_room) {
            conn_room = conn_room ? conn_room * 2 : 1024;
            if (!(conns = realloc(conns, conn_room * sizeof *conns))) fail("realloc");
        }
        conns[conn_count] = (struct conn){.fd = fd};
        watch(EPOLL_CTL_ADD, fd, conn_count++, EPOLLIN);
    }
}

static void send_bulk(uint32_t id) {
    struct conn *c = &conns[id];
    while (c->sent < bulk_len) {
        size_t left = bulk_len - c->sent;
        ssize_t n = send(c->fd, bulk + c->sent, left < bulk_slice ? left : bulk_slice, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return watch(EPOLL_CTL_MOD, c->fd, id, EPOLLIN | EPOLLOUT);
        if (n < 0) return drop(c);
        c->sent += (size_t)n;
    }
    watch(EPOLL_CTL_MOD, c->fd, id, EPOLLIN);
}

static void on_conn(uint32_t id, uint32_t events) {
    char request[16384];
    struct conn *c = &conns[id];
    if (c->fd < 0) return;
    if (events & EPOLLOUT) send_bulk(id);
    if (c->fd < 0 || !(events & ~(uint32_t)EPOLLOUT)) return;
    ssize_t n = recv(c->fd, request, sizeof request, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return drop(c);
    if (c->greeted) return;
    c->greeted = true;
    if (!send_all(c, HEAD, sizeof HEAD - 1)) return drop(c);
    if (bulk) send_bulk(id);
}

// --- commands ---

static void send_rounds(uint64_t count, uint64_t gap_us, size_t bytes) {
    size_t room = bytes + 256;
    char *frame = malloc(room);
    if (!frame) fail("malloc");
    uint64_t sends = 0, start = now_ns();
    double cpu = cpu_s();
    for (uint64_t round = 0; round < count; round++) {
        size_t len = make_frame(frame, room, bytes);
        for (struct conn *c = conns; c < conns + conn_count; c++) {
            if (c->fd < 0 || !c->greeted) continue;
            if (!send_all(c, frame, len)) drop(c);
            sends++;
        }
        struct timespec gap = {(time_t)(gap_us / 1000000), (long)(gap_us % 1000000 * 1000)};
        if (gap_us) nanosleep(&gap, NULL);
    }
    free(frame);
    printf("{\"sends\":%lu,\"cpu_s\":%.6f,\"wall_s\":%.6f}\n", sends, cpu_s() - cpu, 1e-9 * (double)(now_ns() - start));
}

// The frames' own size is fixed: only the number of bytes and of system calls matters here.
static void prepare_bulk(size_t bytes, size_t slice) {
    free(bulk);
    bulk = NULL;
    bulk_len = 0;
    bulk_slice = slice ? slice : bytes;
    if (bytes) {
        if (!(bulk = malloc(bytes + 1024))) fail("malloc");
        while (bulk_len < bytes) bulk_len += make_frame(bulk + bulk_len, 512, 200);
        memcpy(bulk + bulk_len, READY, sizeof READY - 1);
        bulk_len += sizeof READY - 1;
    }
    printf("{\"bytes\":%zu}\n", bulk_len);
}

static void command(const char *line) {
    unsigned long count, gap;
    size_t bytes, slice;
    if (sscanf(line, "send %lu %lu %zu", &count, &gap, &bytes) == 3) {
        send_rounds(count, gap, bytes);
    } else if (sscanf(line, "bulk %zu %zu", &bytes, &slice) == 2) {
        prepare_bulk(bytes, slice);
    } else if (!strcmp(line, "cpu")) {
        printf("{\"cpu_s\":%.6f}\n", cpu_s());
    } else if (!strcmp(line, "quit")) {
        exit(0);
    } else {
        fprintf(stderr, "floor: unknown command: %s\n", line);
        exit(1);
    }
    fflush(stdout);
}

static void read_commands(void) {
    static char text[4096];
    static size_t len;
    ssize_t n = read(0, text + len, sizeof text - len);
    if (n <= 0) exit(0); // the caller has gone
    len += (size_t)n;
    for (char *end; (end = memchr(text, '\n', len));) {
        *end++ = 0;
        command(text);
        len -= (size_t)(end - text);
        memmove(text, end, len);
    }
}

static void listen_on(int port) {
    int on = 1;
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
    socklen_t size = sizeof at;
    getsockname(listener, (struct sockaddr *)&at, &size);
    printf("{\"listening\":true,\"port\":%d}\n", ntohs(at.sin_port));
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    listen_on(argc > 1 ? atoi(argv[1]) : 0);
    watch(EPOLL_CTL_ADD, listener, LISTENER, EPOLLIN);
    watch(EPOLL_CTL_ADD, 0, STDIN_ID, EPOLLIN);
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            uint32_t id = events[i].data.u32;
            if (id == LISTENER) accept_all();
            else if (id == STDIN_ID) read_commands();
            else on_conn(id, events[i].events);
        }
    }
}

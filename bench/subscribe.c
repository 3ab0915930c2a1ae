// `load subscribe`: reads event streams and counts the payloads in them.
#define _GNU_SOURCE
#include "load.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define KEY "{\"n\":\""
#define MIDDLE "\",\"t\":\""
#define FRAME 43 // KEY, 10 digits, MIDDLE, 20 digits

struct conn {
    int fd;
    enum { CONNECTING, WAITING, OPEN, CLOSED } phase;
    int64_t last_n;
    uint64_t frames, start;
    uint32_t carried, matched;
    char carry[FRAME - 1]; // the end of the body so far that may be the beginning of a payload
    struct reply reply;
};

static struct conn *conns;
static uint32_t conn_count;
static struct {
    enum { NONE, OPENING, WAITING_FOR, RUNNING } command;
    uint64_t deadline, target; // of the command
    int64_t behind;            // connections with fewer frames than target
    uint32_t to_open, in_flight, in_flight_max, live;
    uint64_t mark, first, last, opened_at, opened_ns;
    double cpu;
    uint64_t closed, refused, frames, bytes, gaps, repeats;
    struct histogram latency, ready;
    char path[4096], error[128];
} sub;

static inline uint64_t eight_digits(const char *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    v -= 0x3030303030303030u;
    v = v * 10 + (v >> 8);
    return ((v & 0xff000000ff) * 0xf424000000064 + ((v >> 16) & 0xff000000ff) * 0x271000000001) >> 32;
}

static inline uint64_t few_digits(const char *p, int count) {
    uint64_t v = 0;
    for (int i = 0; i < count; i++) v = v * 10 + (uint64_t)(p[i] - '0');
    return v;
}

static inline void count_frame(struct conn *c, const char *p, uint64_t now) {
    const char *t = p + FRAME - 20;
    int64_t n = (int64_t)(few_digits(p + 6, 2) * 100000000 + eight_digits(p + 8));
    uint64_t sent = few_digits(t, 4) * 10000000000000000u + eight_digits(t + 4) * 100000000 + eight_digits(t + 12);
    record(&sub.latency, now > sent ? now - sent : 0);
    if (c->last_n >= 0 && !opt.no_order) {
        if (n <= c->last_n) sub.repeats++;
        else sub.gaps += (uint64_t)(n - c->last_n - 1);
    }
    c->last_n = n;
    sub.frames++;
    if (++c->frames == sub.target) sub.behind--;
}

// Counts the payloads. Gives the place of one that is not complete, or end. memchr and not memmem: it is several times
// faster, and there are few braces.
static const char *scan(struct conn *c, const char *p, const char *end, uint64_t now) {
    while ((p = memchr(p, '{', (size_t)(end - p)))) {
        if (end - p < FRAME) return p;
        if (memcmp(p, KEY, 6) || memcmp(p + 16, MIDDLE, 7)) {
            p++;
        } else {
            count_frame(c, p, now);
            p += FRAME;
        }
    }
    return end;
}

static void scan_run(struct conn *c, const char *run, size_t len, uint64_t now) {
    const char *p = run, *end = run + len;
    if (c->carried) {
        char joint[2 * FRAME];
        size_t more = MIN(len, (size_t)FRAME - 1), carried = c->carried;
        memcpy(joint, c->carry, carried);
        memcpy(joint + carried, run, more);
        size_t at = (size_t)(scan(c, joint, joint + carried + more, now) - joint);
        if (at < carried) { // the run is too short to complete it
            c->carried = (uint32_t)(carried + more - at);
            memcpy(c->carry, joint + at, c->carried);
            return;
        }
        p += at - carried;
    }
    p = scan(c, p, end, now);
    c->carried = (uint32_t)(end - p);
    memcpy(c->carry, p, c->carried);
}

// Only the line "event: $ready" has a line break there: within JSON there is none.
static bool find_ready(struct conn *c, const char *p, const char *end) {
    for (; p < end; p++) {
        if (!c->matched && !(p = memchr(p, '$', (size_t)(end - p)))) return false;
        c->matched = *p == "$ready\n"[c->matched] ? c->matched + 1 : *p == '$';
        if (c->matched == 7) return true;
    }
    return false;
}

static void drop(struct conn *c) {
    if (c->phase == CLOSED) return;
    sub.in_flight -= c->phase != OPEN;
    sub.live--;
    sub.behind -= c->frames < sub.target;
    c->phase = CLOSED;
    close_abruptly(c->fd);
    free(c->reply.head);
    c->reply.head = NULL;
}

static void lose(struct conn *c, const char *why) {
    if (!*sub.error) snprintf(sub.error, sizeof sub.error, "%s", why);
    if (c->phase == CONNECTING || c->reply.state == HEAD || c->reply.status != 200) sub.refused++;
    else sub.closed++;
    drop(c);
}

static void become_ready(struct conn *c, uint64_t now) {
    c->phase = OPEN;
    sub.in_flight--;
    record(&sub.ready, now - c->start);
    sub.opened_ns = now - sub.opened_at;
}

static void consume(struct conn *c, const char *p, const char *end) {
    uint64_t now = now_ns();
    const char *run;
    if (c->reply.state == HEAD) {
        p = take_head(&c->reply, p, end);
        if (c->reply.state == HEAD) return;
        if (c->reply.status != 200) return lose(c, "status is not 200");
        if (!opt.ready) become_ready(c, now);
    }
    uint64_t before = sub.frames;
    for (size_t len; (len = next_run(&c->reply, &p, end, &run));) {
        if (c->phase == WAITING && find_ready(c, run, run + len)) become_ready(c, now);
        scan_run(c, run, len, now);
    }
    if (sub.frames != before) {
        if (!sub.first) sub.first = now;
        sub.last = now;
    }
    if (c->reply.state == DONE) lose(c, "response ended");
}

static void send_request(struct conn *c, uint32_t id) {
    char path[4200], text[21000];
    char *index = strstr(sub.path, "%d");
    if (index) snprintf(path, sizeof path, "%.*s%u%s", (int)(index - sub.path), sub.path, id, index + 2);
    int len = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n%s\r\n",
                       index ? path : sub.path, opt.host, opt.port, opt.headers);
    if (send(c->fd, text, (size_t)len, MSG_NOSIGNAL) != len) return lose(c, strerror(errno));
    c->phase = WAITING;
    watch(EPOLL_CTL_MOD, c->fd, id, EPOLLIN);
}

static void on_conn(uint32_t id) {
    struct conn *c = &conns[id];
    if (c->phase == CLOSED) return;
    if (c->phase == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        return error ? lose(c, strerror(error)) : send_request(c, id);
    }
    ssize_t n = recv(c->fd, input, sizeof input, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return lose(c, n ? strerror(errno) : "closed by the server");
    sub.bytes += (uint64_t)n;
    consume(c, input, input + n);
}

static void start_conn(void) {
    uint32_t id = conn_count++;
    struct conn *c = &conns[id];
    *c = (struct conn){.fd = new_socket(id, SOCK_NONBLOCK), .last_n = -1, .start = now_ns()};
    if (c->fd < 0) die("socket: %s", strerror(errno));
    sub.to_open--, sub.in_flight++, sub.live++, sub.behind++;
    if (connect_to(c->fd) && errno != EINPROGRESS) return lose(c, strerror(errno));
    watch(EPOLL_CTL_ADD, c->fd, id, EPOLLOUT);
}

static void mark(void) {
    for (uint32_t i = 0; i < conn_count; i++) conns[i].frames = 0;
    sub.first = sub.last = sub.closed = sub.refused = sub.frames = sub.bytes = sub.gaps = sub.repeats = 0;
    memset(&sub.latency, 0, sizeof sub.latency);
    *sub.error = 0;
    sub.mark = now_ns();
    sub.cpu = cpu_s();
}

static void report(bool timeout) {
    uint64_t least = UINT64_MAX, most = 0;
    for (struct conn *c = conns; c < conns + conn_count; c++) {
        if (c->phase == CLOSED) continue;
        least = MIN(least, c->frames);
        most = c->frames > most ? c->frames : most;
    }
    printf("{\"connections\":%u,\"closed\":%lu,\"refused\":%lu,\"frames\":%lu,\"frames_min\":%lu,\"frames_max\":%lu,"
           "\"bytes\":%lu,\"gaps\":%lu,\"repeats\":%lu,\"cpu_s\":%.6f,\"wall_s\":%.6f,\"first_to_last_s\":%.6f,"
           "\"open_s\":%.6f,\"timeout\":%s,\"error\":\"%s\",",
           sub.live, sub.closed, sub.refused, sub.frames, sub.live ? least : 0, most, sub.bytes, sub.gaps, sub.repeats,
           cpu_s() - sub.cpu, 1e-9 * (double)(now_ns() - sub.mark), 1e-9 * (double)(sub.last - sub.first),
           1e-9 * (double)sub.opened_ns, timeout ? "true" : "false", sub.error);
    print_histogram("latency_us", &sub.latency);
    putchar(',');
    print_histogram("ready_us", &sub.ready);
    answer_line();
}

static void begin(int command, double seconds) {
    sub.command = command;
    sub.deadline = now_ns() + (uint64_t)(seconds * 1e9);
}

static void begin_open(uint32_t count, bool storm) {
    for (uint32_t i = 0; storm && i < conn_count; i++) drop(&conns[i]);
    if (storm) conn_count = 0;
    if (!(conns = realloc(conns, (conn_count + count + 1) * sizeof *conns))) die("out of memory");
    memset(&sub.ready, 0, sizeof sub.ready);
    sub.to_open = count;
    sub.in_flight_max = storm ? UINT32_MAX : 256;
    sub.opened_at = now_ns();
    sub.opened_ns = 0;
    begin(OPENING, opt.open_timeout);
}

static void subscribe_command(const char *line) {
    unsigned count;
    unsigned long target;
    double seconds;
    if (sscanf(line, "open %u %4095s", &count, sub.path) == 2) {
        begin_open(count, false);
    } else if (sscanf(line, "storm %u %4095s", &count, sub.path) == 2) {
        begin_open(count, true);
    } else if (sscanf(line, "wait %lu %lf", &target, &seconds) == 2) {
        sub.target = target;
        sub.behind = 0;
        for (struct conn *c = conns; c < conns + conn_count; c++) sub.behind += c->phase != CLOSED && c->frames < target;
        begin(WAITING_FOR, seconds);
    } else if (sscanf(line, "run %lf", &seconds) == 1) {
        begin(RUNNING, seconds);
    } else if (!strcmp(line, "mark")) {
        mark();
        printf("{\"ok\":true");
        answer_line();
    } else if (!strcmp(line, "report")) {
        report(false);
    } else if (!strcmp(line, "quit")) {
        exit(0);
    } else {
        die("unknown command: %s", line);
    }
}

static int step_command(void) { // gives how long to wait for sockets, in milliseconds
    char line[8192];
    while (sub.command == NONE)
        if (take_line(line, sizeof line)) subscribe_command(line);
        else return -1;
    for (int i = 0; i < 32 && sub.to_open && sub.in_flight < sub.in_flight_max; i++) start_conn();
    bool opened = sub.command == OPENING && !sub.to_open && !sub.in_flight;
    uint64_t now = now_ns();
    if (opened || (sub.command == WAITING_FOR && sub.behind <= 0) || now >= sub.deadline) {
        report(sub.command == OPENING ? !opened : sub.command == WAITING_FOR && sub.behind > 0);
        sub.command = NONE;
        sub.to_open = 0;
        sub.target = UINT64_MAX;
        return 0;
    }
    if (sub.to_open && sub.in_flight < sub.in_flight_max) return 0;
    return (int)MIN((sub.deadline - now) / 1000000 + 1, 1000000u);
}

void subscribe(void) {
    sub.target = UINT64_MAX;
    struct epoll_event events[EVENTS];
    mark();
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, step_command());
        bool typed = false; // a command may renumber the connections, so it comes after the batch
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == STDIN_ID) typed = true;
            else on_conn(events[i].data.u32);
        }
        if (typed) read_stdin();
    }
}

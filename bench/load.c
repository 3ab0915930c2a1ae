// Load for the benchmark: `load subscribe` reads event streams, `load publish` posts events.
// C and one thread, because the generator must stay far cheaper than the server it measures.
// Commands are lines on stdin, answers are JSON lines on stdout; bench/load.py is the caller and says what they mean.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define STDIN_ID UINT32_MAX
#define TIMER_ID (UINT32_MAX - 1)
#define HEAD_MAX 8192
#define EVENTS 512
#define PER_SOURCE 25000  // a source address has about 28,000 ports
#define SPIN_NS 60000     // a timer wakes this much early; the rest is spun, for a send on time
#define RETRY_NS 10000000 // a refused connect is tried again after this
#define MIN(a, b) ((a) < (b) ? (a) : (b))

static struct {
    const char *host, *path, *body;
    int port, rcvbuf, clients, batch, events;
    bool ready, no_order, has_type;
    double open_timeout;
    uint64_t count_from;
    char headers[16384];
} opt = {.host = "127.0.0.1", .path = "/", .body = "", .clients = 1, .batch = 1, .events = 1, .open_timeout = 120,
         .count_from = 1};
static int epoll_fd;
static char input[1 << 18]; // shared by all sockets: what is read is used up before the next read

static _Noreturn void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
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

// --- histogram: 64 buckets to a power of two, so a percentile is right to 1 % ---

struct histogram {
    uint64_t count, max, buckets[58 * 64 + 64];
};

static inline void record(struct histogram *h, uint64_t v) {
    int shift = v < 64 ? 0 : 57 - __builtin_clzll(v);
    h->buckets[(unsigned)shift * 64 + (v >> shift)]++;
    h->count++;
    if (v > h->max) h->max = v;
}

static double percentile_us(const struct histogram *h, double share) {
    uint64_t rank = (uint64_t)(share * (double)h->count), seen = 0;
    for (unsigned i = 0; i < sizeof h->buckets / sizeof *h->buckets; i++) {
        if ((seen += h->buckets[i]) <= rank) continue;
        unsigned shift = i < 128 ? 0 : i / 64 - 1;
        uint64_t middle = ((uint64_t)(i - shift * 64) << shift) + ((1ull << shift) >> 1);
        return 1e-3 * (double)MIN(middle, h->max);
    }
    return 1e-3 * (double)h->max;
}

static void print_histogram(const char *name, const struct histogram *h) {
    printf("\"%s\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"count\":%lu}", name,
           percentile_us(h, .5), percentile_us(h, .9), percentile_us(h, .99), percentile_us(h, .999),
           1e-3 * (double)h->max, h->count);
}

// --- stdin, epoll, sockets ---

static char lines[65536];
static size_t lines_len;

static void read_stdin(void) {
    ssize_t n = read(0, lines + lines_len, sizeof lines - lines_len);
    if (n <= 0) exit(0); // the caller has gone, or has sent a line that does not fit
    lines_len += (size_t)n;
}

static bool take_line(char *line, size_t size) {
    char *end = memchr(lines, '\n', lines_len);
    if (!end) return false;
    size_t len = (size_t)(end - lines);
    if (len >= size) die("line too long");
    memcpy(line, lines, len);
    line[len] = 0;
    lines_len -= len + 1;
    memmove(lines, end + 1, lines_len);
    return true;
}

static void answer_line(void) {
    puts("}");
    fflush(stdout);
}

static void watch(int operation, int fd, uint32_t id, uint32_t events) {
    struct epoll_event e = {.events = events, .data.u32 = id};
    if (epoll_ctl(epoll_fd, operation, fd, &e)) die("epoll_ctl: %s", strerror(errno));
}

static int new_socket(uint32_t index, int flags) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), on = 1;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (opt.rcvbuf) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &opt.rcvbuf, sizeof opt.rcvbuf);
    if (index < PER_SOURCE) return fd;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + index / PER_SOURCE)};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind: %s", strerror(errno));
    return fd;
}

static int connect_to(int fd) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    if (inet_pton(AF_INET, opt.host, &to.sin_addr) != 1) die("--host must be an IPv4 address: %s", opt.host);
    return connect(fd, (struct sockaddr *)&to, sizeof to);
}

static void close_abruptly(int fd) {
    struct linger reset = {1, 0}; // and no port is left in TIME_WAIT
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

// --- HTTP/1.1 responses ---

struct reply {
    enum { HEAD, SIZE, EXTENSION, DATA, AFTER_DATA, TRAILER, DONE } state;
    int status;
    bool chunked, closes, until_eof;
    char *head;
    size_t head_len;
    int64_t left; // of the chunk or the body; in a trailer, the length of the line so far
};

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

// Takes the head's bytes off the input; the state stays HEAD while the head is not complete.
static const char *take_head(struct reply *r, const char *p, const char *end) {
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

// The next piece of the body without its transfer coding; 0 when the input is used up or the body is complete.
static size_t next_run(struct reply *r, const char **p, const char *end, const char **run) {
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

// --- subscribe ---

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
    if (!(conns = realloc(conns, (conn_count + count) * sizeof *conns))) die("out of memory");
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

static void subscribe(void) {
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

// --- publish ---

struct client {
    int fd; // -1: not connected
    bool busy, was_connected;
    uint64_t due, free_at; // of the request in flight; after a refused connect
    char *out;
    size_t out_len, out_off;
    struct reply reply;
};

static struct client *clients;
static struct {
    enum { IDLE, CLOSED_LOOP, RATE, BURST } mode;
    uint64_t start, end, wanted, issued; // of the command
    double interval, cpu;
    uint32_t *queue, first, free; // ring of the clients that are not busy: each gets its turn
    uint64_t next_n, ok, failed, reconnects, late, statuses[600];
    struct histogram latency;
    char sample[201], *bodies;
    size_t sample_len, body_max, head_max;
    int timer;
} pub;

static char *put_number(char *to, uint64_t value, int digits) {
    for (int i = digits; i--; value /= 10) to[i] = (char)('0' + value % 10);
    return to + digits;
}

static char *expand(char *to, uint32_t id, uint64_t t) {
    uint64_t n = pub.next_n++;
    for (const char *p = opt.body, *at; *p; p = at) {
        at = strchrnul(p, '@');
        to = mempcpy(to, p, (size_t)(at - p));
        if (!*at) break;
        char what = at[1] && at[2] == '@' ? at[1] : 0;
        if (what == 'N') to = put_number(to, n, 10);
        else if (what == 'T') to = put_number(to, t, 20);
        else if (what == 'U') to += sprintf(to, "%u", id);
        else if (what == 'E') to += sprintf(to, "%lu", n % (uint64_t)opt.events);
        else *to++ = '@';
        at += what && strchr("NTUE", what) ? 3 : 1;
    }
    return to;
}

static void build_request(struct client *c, uint32_t id, uint64_t t) {
    char *to = pub.bodies;
    if (opt.batch > 1) *to++ = '[';
    for (int i = 0; i < opt.batch; i++) {
        if (i) *to++ = ',';
        to = expand(to, id, t);
    }
    if (opt.batch > 1) *to++ = ']';
    size_t len = (size_t)(to - pub.bodies);
    int head = snprintf(c->out, pub.head_max, "POST %s HTTP/1.1\r\nHost: %s:%d\r\n%s%sContent-Length: %zu\r\n\r\n", opt.path,
                        opt.host, opt.port, opt.has_type ? "" : "Content-Type: application/json\r\n", opt.headers, len);
    memcpy(c->out + head, pub.bodies, len);
    c->out_len = (size_t)head + len;
    c->out_off = 0;
}

static void hang_up(struct client *c) {
    if (c->fd >= 0) close_abruptly(c->fd);
    c->fd = -1;
    free(c->reply.head);
    memset(&c->reply, 0, sizeof c->reply);
}

// The connect blocks: on loopback that takes microseconds.
static bool connect_client(struct client *c, uint32_t id) {
    c->fd = new_socket(id, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    if (connect_to(c->fd)) {
        hang_up(c);
        c->free_at = now_ns() + RETRY_NS;
        return false;
    }
    pub.reconnects += c->was_connected;
    c->was_connected = true;
    watch(EPOLL_CTL_ADD, c->fd, id, EPOLLIN);
    return true;
}

// Status 0: there was no complete response.
static void finish(uint32_t id, int status) {
    struct client *c = &clients[id];
    bool ok = status >= 200 && status < 300;
    pub.statuses[status > 0 && status < 600 ? status : 0]++;
    if (ok) pub.ok++;
    else pub.failed++;
    if (ok) record(&pub.latency, now_ns() - c->due);
    c->busy = false;
    pub.queue[(pub.first + pub.free++) % (uint32_t)opt.clients] = id;
    if (!status || c->reply.closes) hang_up(c);
}

static void send_rest(uint32_t id) {
    struct client *c = &clients[id];
    ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) return finish(id, 0);
    bool had_waited = c->out_off > 0 || n <= 0;
    c->out_off += n > 0 ? (size_t)n : 0;
    bool waits = c->out_off < c->out_len;
    if (waits || had_waited) watch(EPOLL_CTL_MOD, c->fd, id, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void start_request(uint64_t due) {
    uint32_t id = pub.queue[pub.first];
    struct client *c = &clients[id];
    pub.first = (pub.first + 1) % (uint32_t)opt.clients;
    pub.free--;
    pub.issued++;
    c->busy = true;
    if (c->fd < 0 && !connect_client(c, id)) return finish(id, 0);
    uint64_t now = now_ns();
    if (pub.mode == RATE && now > due + 1000000) pub.late++;
    c->due = pub.mode == RATE ? due : now;
    memset(&c->reply, 0, sizeof c->reply);
    build_request(c, id, c->due);
    send_rest(id);
}

static void keep_sample(const struct client *c, const char *run, size_t len) {
    if (pub.failed || (c->reply.status >= 200 && c->reply.status < 300)) return;
    size_t take = MIN(len, sizeof pub.sample - 1 - pub.sample_len);
    memcpy(pub.sample + pub.sample_len, run, take);
    pub.sample_len += take;
}

static void on_client(uint32_t id, uint32_t events) {
    struct client *c = &clients[id];
    if (c->fd < 0) return;
    if (c->busy && events & EPOLLOUT) send_rest(id);
    if (c->fd < 0 || !(events & ~(uint32_t)EPOLLOUT)) return;
    ssize_t n = recv(c->fd, input, sizeof input, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (!c->busy) return hang_up(c); // closed while idle, or bytes that nobody asked for
    if (n <= 0) return finish(id, !n && c->reply.state == DATA && c->reply.until_eof ? c->reply.status : 0);
    const char *end = input + n, *run, *p = take_head(&c->reply, input, end);
    if (c->reply.state == HEAD) return;
    for (size_t len; (len = next_run(&c->reply, &p, end, &run));) keep_sample(c, run, len);
    if (c->reply.state == DONE) finish(id, c->reply.status);
}

static void print_sample(void) {
    printf(",\"sample\":\"");
    for (size_t i = 0; i < pub.sample_len; i++) {
        unsigned char byte = (unsigned char)pub.sample[i];
        if (byte < 32 || byte > 126 || byte == '"' || byte == '\\') printf("\\u%04x", byte);
        else putchar(byte);
    }
    putchar('"');
}

static void publish_report(void) {
    printf("{\"requests\":%lu,\"ok\":%lu,\"failed\":%lu,\"statuses\":{", pub.issued, pub.ok, pub.failed);
    const char *comma = "";
    for (int i = 0; i < 600; i++) {
        if (!pub.statuses[i]) continue;
        printf("%s\"%d\":%lu", comma, i, pub.statuses[i]);
        comma = ",";
    }
    printf("},\"cpu_s\":%.6f,\"wall_s\":%.6f,\"reconnects\":%lu,\"late\":%lu,\"last_n\":%lu,", cpu_s() - pub.cpu,
           1e-9 * (double)(now_ns() - pub.start), pub.reconnects, pub.late, pub.next_n - 1);
    print_histogram("latency_us", &pub.latency);
    print_sample();
    answer_line();
    pub.mode = IDLE;
}

static void begin_publish(int mode, double seconds, uint64_t wanted) {
    pub.mode = mode;
    pub.wanted = wanted;
    pub.issued = pub.ok = pub.failed = pub.reconnects = pub.late = pub.sample_len = 0;
    memset(pub.statuses, 0, sizeof pub.statuses);
    memset(&pub.latency, 0, sizeof pub.latency);
    pub.cpu = cpu_s();
    pub.start = now_ns();
    pub.end = pub.start + (uint64_t)(seconds * 1e9);
}

static void publish_command(const char *line) {
    double rate, seconds;
    unsigned long count;
    if (sscanf(line, "closed %lf", &seconds) == 1) {
        begin_publish(CLOSED_LOOP, seconds, UINT64_MAX);
    } else if (sscanf(line, "rate %lf %lf", &rate, &seconds) == 2) {
        begin_publish(RATE, seconds, (uint64_t)(rate * seconds + .5));
        pub.interval = 1e9 / rate;
    } else if (sscanf(line, "burst %lu", &count) == 1) {
        begin_publish(BURST, 0, count);
    } else if (!strcmp(line, "quit")) {
        exit(0);
    } else {
        die("unknown command: %s", line);
    }
}

// Sends what is due. Gives the moment at which the next is due (UINT64_MAX: only after an event on a socket).
static uint64_t issue(void) {
    for (;;) {
        uint64_t now = now_ns(), due = now;
        if (pub.mode == RATE) due = pub.start + (uint64_t)((double)pub.issued * pub.interval);
        if (pub.issued >= pub.wanted || (pub.mode == CLOSED_LOOP && now >= pub.end)) {
            if ((int)pub.free == opt.clients) publish_report();
            return UINT64_MAX;
        }
        if (!pub.free) return UINT64_MAX;
        uint64_t free_at = clients[pub.queue[pub.first]].free_at;
        if (now < due || now < free_at) return due > free_at ? due : free_at;
        start_request(due);
    }
}

static int step_publish(void) { // gives epoll's timeout; the timer is set for a wait that must be precise
    char line[8192];
    for (;;) {
        while (pub.mode == IDLE)
            if (take_line(line, sizeof line)) publish_command(line);
            else return -1;
        uint64_t next = issue();
        if (pub.mode == IDLE) continue;
        if (next == UINT64_MAX) return -1;
        uint64_t wake = next - SPIN_NS;
        if (now_ns() >= wake) return 0;
        struct itimerspec at = {.it_value = {(time_t)(wake / 1000000000), (long)(wake % 1000000000)}};
        timerfd_settime(pub.timer, TFD_TIMER_ABSTIME, &at, NULL);
        return -1;
    }
}

static void prepare_publish(void) {
    uint32_t count = (uint32_t)opt.clients;
    size_t tokens = 0;
    for (const char *p = opt.body; *p; p++) tokens += *p == '@';
    pub.body_max = (size_t)opt.batch * (strlen(opt.body) + 20 * tokens + 1) + 3;
    pub.head_max = strlen(opt.headers) + strlen(opt.path) + strlen(opt.host) + 200;
    pub.bodies = malloc(pub.body_max);
    pub.queue = calloc(count, sizeof *pub.queue);
    clients = calloc(count, sizeof *clients);
    pub.next_n = opt.count_from;
    pub.free = count;
    for (uint32_t i = 0; i < count; i++) {
        pub.queue[i] = i;
        clients[i].out = malloc(pub.head_max + pub.body_max);
        if (!connect_client(&clients[i], i)) die("cannot connect to %s:%d", opt.host, opt.port);
    }
    pub.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watch(EPOLL_CTL_ADD, pub.timer, TIMER_ID, EPOLLIN);
}

static void publish(void) {
    struct epoll_event events[EVENTS];
    uint64_t expired;
    prepare_publish();
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, step_publish());
        for (int i = 0; i < n; i++) {
            uint32_t id = events[i].data.u32;
            if (id == STDIN_ID) read_stdin();
            else if (id != TIMER_ID) on_client(id, events[i].events);
            else if (read(pub.timer, &expired, sizeof expired) < 0) continue;
        }
    }
}

// --- main ---

static const struct option OPTIONS[] = {
    {"host", 1, 0, 'h'},      {"port", 1, 0, 'p'},     {"header", 1, 0, 'H'}, {"rcvbuf", 1, 0, 'r'},
    {"ready", 0, 0, 'R'},     {"no-order", 0, 0, 'o'}, {"path", 1, 0, 'P'},   {"body", 1, 0, 'b'},
    {"clients", 1, 0, 'c'},   {"batch", 1, 0, 'k'},    {"events", 1, 0, 'e'}, {"count-from", 1, 0, 'n'},
    {"open-timeout", 1, 0, 't'}, {0},
};

static void add_header(const char *text) {
    size_t had = strlen(opt.headers), room = sizeof opt.headers - had;
    if ((size_t)snprintf(opt.headers + had, room, "%s\r\n", text) >= room) die("headers are too long");
    opt.has_type |= !strncasecmp(text, "content-type:", 13);
}

static int number(const char *text, int least) {
    char *end;
    long value = strtol(text, &end, 10);
    if (!*text || *end || value < least || value > INT32_MAX) die("not a number from %d on: %s", least, text);
    return (int)value;
}

static void parse_options(int argc, char **argv) {
    for (int o; (o = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        if (o == 'h') opt.host = optarg;
        else if (o == 'p') opt.port = number(optarg, 1);
        else if (o == 'H') add_header(optarg);
        else if (o == 'r') opt.rcvbuf = number(optarg, 1);
        else if (o == 'R') opt.ready = true;
        else if (o == 'o') opt.no_order = true;
        else if (o == 'P') opt.path = optarg;
        else if (o == 'b') opt.body = optarg;
        else if (o == 'c') opt.clients = number(optarg, 1);
        else if (o == 'k') opt.batch = number(optarg, 1);
        else if (o == 'e') opt.events = number(optarg, 1);
        else if (o == 'n') opt.count_from = (uint64_t)number(optarg, 0);
        else if (o == 't') opt.open_timeout = atof(optarg);
        else exit(2);
    }
    if (optind < argc) die("unknown argument: %s", argv[optind]);
    if (!opt.port) die("--port is missing");
}

int main(int argc, char **argv) {
    if (argc < 2 || (strcmp(argv[1], "subscribe") && strcmp(argv[1], "publish"))) die("say subscribe or publish");
    parse_options(argc - 1, argv + 1);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, 0, STDIN_ID, EPOLLIN);
    if (strcmp(argv[1], "publish")) subscribe();
    else publish();
}

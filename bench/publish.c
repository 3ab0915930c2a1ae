// `load publish`: posts events, as fast as they are answered or at a steady rate.
#define _GNU_SOURCE
#include "load.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define TIMER_ID (UINT32_MAX - 1)
#define SPIN_NS 60000     // a timer wakes this much early; the rest is spun, for a send on time
#define RETRY_NS 10000000 // a refused connect is tried again after this

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

void publish(void) {
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

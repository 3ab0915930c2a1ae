// Load for the benchmark: `load subscribe` reads event streams, `load publish` posts events.
// C and one thread, because the generator must stay far cheaper than the server it measures.
// Commands are lines on stdin, answers are JSON lines on stdout; bench/load.py is the caller and says what they mean.
#define _GNU_SOURCE
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PER_SOURCE 25000 // a source address has about 28,000 ports

struct options opt = {.host = "127.0.0.1", .path = "/", .body = "", .clients = 1, .batch = 1, .events = 1,
                      .open_timeout = 120, .count_from = 1};
int epoll_fd;
char input[1 << 18];

_Noreturn void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

// --- histogram ---

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

void print_histogram(const char *name, const struct histogram *h) {
    printf("\"%s\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"count\":%lu}", name,
           percentile_us(h, .5), percentile_us(h, .9), percentile_us(h, .99), percentile_us(h, .999),
           1e-3 * (double)h->max, h->count);
}

// --- stdin, epoll, sockets ---

static char lines[65536];
static size_t lines_len;

void read_stdin(void) {
    ssize_t n = read(0, lines + lines_len, sizeof lines - lines_len);
    if (n <= 0) exit(0); // the caller has gone, or has sent a line that does not fit
    lines_len += (size_t)n;
}

bool take_line(char *line, size_t size) {
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

void answer_line(void) {
    puts("}");
    fflush(stdout);
}

void watch(int operation, int fd, uint32_t id, uint32_t events) {
    struct epoll_event e = {.events = events, .data.u32 = id};
    if (epoll_ctl(epoll_fd, operation, fd, &e)) die("epoll_ctl: %s", strerror(errno));
}

int new_socket(uint32_t index, int flags) {
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

int connect_to(int fd) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    if (inet_pton(AF_INET, opt.host, &to.sin_addr) != 1) die("--host must be an IPv4 address: %s", opt.host);
    return connect(fd, (struct sockaddr *)&to, sizeof to);
}

void close_abruptly(int fd) {
    struct linger reset = {1, 0}; // and no port is left in TIME_WAIT
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
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

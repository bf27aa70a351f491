/*
 * The faulty disk: an LD_PRELOAD shim between the server and the C library. It records what reaches the disk and the
 * sockets, in true order, and it makes the n-th write or sync fail or be the last thing the process does.
 *
 *   FAULT_ROOT      the data folder; files outside of it are never touched
 *   FAULT_TRACE     record: append every operation to this file (layout: support/fault/trace.rs)
 *   FAULT_FIRST_ID  record: first id to give out, so that several processes can share one trace
 *   FAULT_CONTROL   inject: a file of one page, mapped, that the tests write to while the server runs (support/fault.rs)
 *
 * Every call goes to the kernel by syscall(), so the shim neither records itself nor depends on who loaded first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define FD_MAX 65536
#define SECTOR_BYTES 512

enum { OPEN = 1, WRITE, SIZE, AT_LEAST, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, LINK, SEND, SENT, RECEIVED, UNSEEN };
enum { CREATED = 1, TRUNCATED = 2, FOLDER = 4, FAILED = 8 };
enum { CLASS_WRITE = 1, CLASS_SYNC = 2, CLASS_META = 4 };
enum { GO, KILL_BEFORE, KILL_TORN, KILL_AFTER, ERROR };

/* Shared with the tests; every field is 8 bytes, the filter is at 128. */
struct control {
    _Atomic uint64_t mode, error, classes, sticky;
    _Atomic int64_t countdown;
    _Atomic uint64_t fired, sync_delay_us, free_bytes, torn, spare[7];
    char filter[256];
};

/* One file or folder of the data folder; they are never freed, there are few. */
struct node {
    struct node *next;
    dev_t dev;
    ino_t ino;
    uint32_t id;
    int folder;
    char *path;
};

/* What is known of a descriptor. */
struct slot {
    _Atomic int kind;
    int flags; /* of open(): O_DSYNC and O_APPEND matter */
    uint32_t id;
    struct node *node;
};
enum { UNKNOWN, OTHER, SOCKET, TRACKED };

static char root[PATH_MAX];
static size_t root_len;
static int trace_fd = -1;
static struct control *control;
static struct slot slots[FD_MAX];
static struct node *nodes;
static uint32_t next_id = 1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void enter(void) { pthread_mutex_lock(&lock); }
static void leave(void) {
    int e = errno;
    pthread_mutex_unlock(&lock);
    errno = e;
}

__attribute__((constructor)) static void start(void) {
    const char *folder = getenv("FAULT_ROOT"), *trace = getenv("FAULT_TRACE"), *page = getenv("FAULT_CONTROL");
    if (!folder || strlen(folder) + 2 > sizeof root) return;
    if (getenv("FAULT_FIRST_ID")) next_id = (uint32_t)strtoul(getenv("FAULT_FIRST_ID"), NULL, 10);
    if (trace) trace_fd = syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (page) {
        int fd = syscall(SYS_openat, AT_FDCWD, page, O_RDWR | O_CLOEXEC, 0);
        void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd < 0 || at == MAP_FAILED) abort();
        syscall(SYS_close, fd);
        control = at;
    }
    strcpy(root, folder);
    root_len = strlen(root);
}

/* ---- what to do with an operation */

static void die(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

static int verdict(const char *path, unsigned class) {
    unsigned mode = control ? (unsigned)atomic_load(&control->mode) : GO;
    if (mode == GO || !(atomic_load(&control->classes) & class)) return GO;
    if (control->filter[0] && !strstr(path, control->filter)) return GO;
    int64_t left = atomic_fetch_sub(&control->countdown, 1);
    if (left > 1 || (left < 1 && !atomic_load(&control->sticky))) return GO;
    atomic_fetch_add(&control->fired, 1);
    if (mode == KILL_BEFORE) die();
    return mode;
}

static long refuse(void) {
    errno = (int)atomic_load(&control->error);
    return -1;
}

/* ---- the trace */

static void put(struct iovec *parts, int count) {
    while (count > 0) {
        ssize_t n = syscall(SYS_writev, trace_fd, parts, count);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) abort();
        while (count > 0 && (size_t)n >= parts->iov_len) n -= parts->iov_len, parts++, count--;
        if (count > 0) parts->iov_base = (char *)parts->iov_base + n, parts->iov_len -= n;
    }
}

/* Appends one record; the caller holds the lock. */
static void note(int kind, int flags, uint32_t id, uint64_t at, const char *path, const struct iovec *data, int count,
                 size_t bytes) {
    if (trace_fd < 0) return;
    int e = errno;
    struct __attribute__((packed)) {
        uint8_t kind, flags;
        uint16_t path_len;
        uint32_t id;
        uint64_t at;
        uint32_t data_len;
    } head = {kind, flags, path ? strlen(path) : 0, id, at, bytes};
    struct iovec parts[64] = {{&head, sizeof head}, {(void *)path, head.path_len}};
    int used = 2;
    for (int i = 0; i < count && bytes > 0 && used < 64; i++, used++) {
        size_t take = data[i].iov_len < bytes ? data[i].iov_len : bytes;
        parts[used] = (struct iovec){data[i].iov_base, take};
        bytes -= take;
    }
    if (bytes > 0) abort();
    put(parts, used);
    errno = e;
}

/* ---- names and descriptors */

/* The part of `path` below the data folder ("." for itself), or NULL. */
static const char *inside(int dir, const char *path, char *full) {
    if (!root_len || !path) return NULL;
    size_t used = 0;
    if (path[0] != '/') {
        char link[64];
        if (dir == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, full, PATH_MAX - 2);
        if (n < 0) return NULL;
        used = n;
    }
    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");
        if (len > 0 && !(len == 1 && *p == '.')) {
            if (used + len + 2 > PATH_MAX) return NULL;
            full[used++] = '/';
            memcpy(full + used, p, len);
            used += len;
        }
        p += len + (p[len] == '/');
    }
    full[used] = 0;
    if (strncmp(full, root, root_len) != 0) return NULL;
    if (full[root_len] == 0) return ".";
    return full[root_len] == '/' ? full + root_len + 1 : NULL;
}

static struct node *node_by_path(const char *path) {
    for (struct node *n = nodes; n; n = n->next)
        if (strcmp(n->path, path) == 0) return n;
    return NULL;
}

/* The node of an open file; a new one if it was just created or never seen. The caller holds the lock. */
static struct node *node_of(const struct stat *st, const char *path, int created) {
    struct node *n = nodes;
    while (n && !(n->dev == st->st_dev && n->ino == st->st_ino)) n = n->next;
    if (n && !created) return n;
    if (n) n->ino = 0, n->path = strdup("(gone)");
    n = calloc(1, sizeof *n);
    *n = (struct node){nodes, st->st_dev, st->st_ino, next_id++, S_ISDIR(st->st_mode), strdup(path)};
    nodes = n;
    return n;
}

static void bind_fd(int fd, struct node *n, int flags) {
    if (fd >= FD_MAX) abort();
    slots[fd].node = n;
    slots[fd].id = n->id;
    slots[fd].flags = flags;
    atomic_store(&slots[fd].kind, TRACKED);
}

/* What `fd` is; finds out at first sight (descriptors also come by dup, accept and inheritance). */
static struct slot *look(int fd) {
    static struct slot other = {.kind = OTHER};
    if (!root_len || fd < 0 || fd >= FD_MAX || fd == trace_fd) return &other;
    struct slot *s = &slots[fd];
    if (atomic_load(&s->kind) != UNKNOWN) return s;
    int e = errno;
    struct stat st;
    char link[64], path[PATH_MAX], full[PATH_MAX];
    const char *rel = NULL;
    enter();
    if (atomic_load(&s->kind) == UNKNOWN && fstat(fd, &st) == 0) {
        if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
            if (n > 0) path[n] = 0, rel = inside(AT_FDCWD, path, full);
        }
        if (rel) {
            struct node *n = node_of(&st, rel, 0);
            bind_fd(fd, n, (int)syscall(SYS_fcntl, fd, F_GETFL));
            if (!n->folder) note(OPEN, 0, n->id, 0, n->path, NULL, 0, 0);
        } else if (S_ISSOCK(st.st_mode)) {
            s->id = (uint32_t)st.st_ino; /* the same for its duplicates */
            atomic_store(&s->kind, SOCKET);
        } else {
            atomic_store(&s->kind, OTHER);
        }
    }
    leave();
    errno = e;
    return s;
}

static struct node *tracked(int fd) {
    struct slot *s = look(fd);
    return atomic_load(&s->kind) == TRACKED ? s->node : NULL;
}

static int is_socket(int fd) { return trace_fd >= 0 && atomic_load(&look(fd)->kind) == SOCKET; }

#include "fault/calls.c"

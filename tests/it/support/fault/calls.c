/*
 * The calls that the shim stands in front of. Included by fault.c, which holds what they share: the verdict, the trace
 * and what is known of each descriptor.
 */

API int close(int fd) {
    if (fd >= 0 && fd < FD_MAX) atomic_store(&slots[fd].kind, UNKNOWN);
    return syscall(SYS_close, fd);
}

/* ---- open */

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    const char *rel = inside(dir, path, full);
    if (!rel) {
        int fd = syscall(SYS_openat, dir, path, flags, mode);
        if (fd >= 0 && fd < FD_MAX) atomic_store(&slots[fd].kind, UNKNOWN);
        return fd;
    }
    struct stat st;
    enter();
    int created = (flags & O_CREAT) && syscall(SYS_faccessat, dir, path, F_OK) != 0;
    int what = created ? verdict(rel, CLASS_META) : GO;
    int fd = what == ERROR ? (int)refuse() : (int)syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
        struct node *n = node_of(&st, rel, created);
        bind_fd(fd, n, flags);
        int truncated = (flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY;
        if (!n->folder)
            note(OPEN, (created ? CREATED : 0) | (truncated ? TRUNCATED : 0), n->id, 0, rel, NULL, 0, 0);
    }
    if (what >= KILL_BEFORE && what <= KILL_AFTER) die();
    leave();
    return fd;
}

#define MODE_ARGUMENT                                          \
    mode_t mode = 0;                                           \
    if (flags & (O_CREAT | __O_TMPFILE)) {                     \
        va_list rest;                                          \
        va_start(rest, flags);                                 \
        mode = va_arg(rest, mode_t);                           \
        va_end(rest);                                          \
    }
API int open(const char *path, int flags, ...) { MODE_ARGUMENT return open_at(AT_FDCWD, path, flags, mode); }
API int open64(const char *path, int flags, ...) { MODE_ARGUMENT return open_at(AT_FDCWD, path, flags, mode); }
API int openat(int dir, const char *path, int flags, ...) { MODE_ARGUMENT return open_at(dir, path, flags, mode); }
API int openat64(int dir, const char *path, int flags, ...) { MODE_ARGUMENT return open_at(dir, path, flags, mode); }
API int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

/* ---- data */

static long raw_writev(int fd, const struct iovec *parts, int count, off_t at) {
    if (at < 0) return syscall(SYS_writev, fd, parts, count);
    return syscall(SYS_pwritev, fd, parts, count, (unsigned long)at, 0UL);
}

static size_t length(const struct iovec *parts, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
    return bytes;
}

static void note_dsync(struct slot *s) {
    if (!(s->flags & O_DSYNC)) return;
    uint32_t token = next_id++;
    note(SYNC_BEGIN, 0, s->id, token, NULL, NULL, 0, 0);
    note(SYNC_END, 0, s->id, token, NULL, NULL, 0, 0);
}

/* Writes, and notes where to; the caller holds the lock if there is a trace. */
static long noted_writev(int fd, struct node *n, const struct iovec *parts, int count, off_t at) {
    long done = raw_writev(fd, parts, count, at);
    if (trace_fd < 0 || done <= 0) return done;
    int append = slots[fd].flags & O_APPEND; /* pwrite() appends, too, then */
    off_t from = append ? syscall(SYS_lseek, fd, 0, SEEK_END) - done
                 : at >= 0 ? at : syscall(SYS_lseek, fd, 0, SEEK_CUR) - done;
    note(WRITE, 0, n->id, from, NULL, parts, count, done);
    note_dsync(&slots[fd]);
    return done;
}

/*
 * Writes the first half of what was asked for, to the end of a sector of the file. Smaller pieces of a write do not
 * happen: Linux copies by the page, disks write by the sector.
 */
static void tear(int fd, struct node *n, const struct iovec *parts, int count, off_t at) {
    off_t from = at >= 0 ? at : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    off_t end = (from + (off_t)length(parts, count) / 2) / SECTOR_BYTES * SECTOR_BYTES;
    size_t left = end > from ? end - from : 0;
    for (int i = 0; i < count && left > 0; i++) {
        struct iovec part = {parts[i].iov_base, parts[i].iov_len < left ? parts[i].iov_len : left};
        long done = noted_writev(fd, n, &part, 1, at);
        if (done < (long)part.iov_len) return;
        left -= done;
        at = at < 0 ? at : at + done;
    }
}

static long file_write(int fd, struct node *n, const struct iovec *parts, int count, off_t at) {
    int what = verdict(n->path, CLASS_WRITE);
    int torn = what == KILL_TORN || (what == ERROR && atomic_load(&control->torn));
    if (what == ERROR && !torn) return refuse();
    if (trace_fd >= 0) enter();
    long done = 0;
    if (torn) tear(fd, n, parts, count, at);
    else done = noted_writev(fd, n, parts, count, at);
    if (what == KILL_TORN || what == KILL_AFTER) die();
    if (trace_fd >= 0) leave();
    return torn ? refuse() : done;
}

static uint32_t note_send(int fd, const struct iovec *parts, int count) {
    enter();
    uint32_t id = slots[fd].id;
    note(SEND, 0, id, 0, NULL, parts, count, length(parts, count));
    leave();
    return id;
}

static long note_sent(uint32_t id, long done) {
    enter();
    note(SENT, done < 0 ? FAILED : 0, id, done < 0 ? 0 : done, NULL, NULL, 0, 0);
    leave();
    return done;
}

static long any_writev(int fd, const struct iovec *parts, int count, off_t at) {
    struct node *n = tracked(fd);
    if (n) return file_write(fd, n, parts, count, at);
    if (at >= 0 || !is_socket(fd)) return raw_writev(fd, parts, count, at);
    uint32_t id = note_send(fd, parts, count);
    return note_sent(id, raw_writev(fd, parts, count, at));
}

#define ONE(buf, len) &(struct iovec){(void *)(buf), (len)}, 1
API ssize_t write(int fd, const void *buf, size_t len) { return any_writev(fd, ONE(buf, len), -1); }
API ssize_t writev(int fd, const struct iovec *p, int n) { return any_writev(fd, p, n, -1); }
API ssize_t pwrite(int fd, const void *buf, size_t len, off_t at) { return any_writev(fd, ONE(buf, len), at); }
API ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at) { return any_writev(fd, ONE(buf, len), at); }
API ssize_t pwritev(int fd, const struct iovec *p, int n, off_t at) { return any_writev(fd, p, n, at); }
API ssize_t pwritev64(int fd, const struct iovec *p, int n, off64_t at) { return any_writev(fd, p, n, at); }
API ssize_t pwritev2(int fd, const struct iovec *p, int n, off_t at, int flags) {
    if (flags != 0) return errno = EOPNOTSUPP, -1;
    return any_writev(fd, p, n, at);
}
API ssize_t pwritev64v2(int fd, const struct iovec *p, int n, off64_t at, int flags) { return pwritev2(fd, p, n, at, flags); }

/* ---- copies inside the kernel: done, then read back for the trace */

static void note_copied(int fd, struct node *n, off_t at, size_t bytes) {
    char link[64], *copy = malloc(bytes);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int from = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    if (from < 0 || syscall(SYS_pread64, from, copy, bytes, at) != (long)bytes) abort();
    syscall(SYS_close, from);
    note(WRITE, 0, n->id, at, NULL, ONE(copy, bytes), bytes);
    free(copy);
}

static long copied(int out, off64_t *to, long (*call)(void *), void *arguments) {
    struct node *n = tracked(out);
    int what = n ? verdict(n->path, CLASS_WRITE) : GO;
    if (what == ERROR) return refuse();
    if (what == KILL_TORN) die();
    if (n && trace_fd >= 0) enter();
    off_t at = to ? *to : syscall(SYS_lseek, out, 0, SEEK_CUR);
    long done = call(arguments);
    if (n && trace_fd >= 0) {
        if (done > 0) note_copied(out, n, at, done);
        leave();
    }
    if (what == KILL_AFTER) die();
    return done;
}

static long call_copy(void *a) {
    long *v = a;
    return syscall(SYS_copy_file_range, v[0], v[1], v[2], v[3], v[4], v[5]);
}
API ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags) {
    long v[6] = {in, (long)from, out, (long)to, len, flags};
    return copied(out, to, call_copy, v);
}
static long call_sendfile(void *a) {
    long *v = a;
    return syscall(SYS_sendfile, v[0], v[1], v[2], v[3]);
}
API ssize_t sendfile(int out, int in, off_t *from, size_t len) {
    long v[4] = {out, in, (long)from, len};
    return copied(out, NULL, call_sendfile, v);
}
API ssize_t sendfile64(int out, int in, off64_t *from, size_t len) { return sendfile(out, in, from, len); }

/* ---- size */

static int resize(int fd, int kind, off_t size, long (*call)(int, int, off_t, off_t), int mode, off_t from) {
    struct node *n = tracked(fd);
    int what = n ? verdict(n->path, CLASS_META) : GO;
    if (what == ERROR) return (int)refuse();
    if (n && trace_fd >= 0) enter();
    int done = (int)call(fd, mode, from, size);
    if (n && trace_fd >= 0) {
        if (done == 0) note(kind, 0, n->id, from + size, NULL, NULL, 0, 0);
        leave();
    }
    if (what != GO) die();
    return done;
}

static long call_truncate(int fd, int mode, off_t from, off_t size) {
    (void)mode, (void)from;
    return syscall(SYS_ftruncate, fd, size);
}
static long call_allocate(int fd, int mode, off_t from, off_t size) { return syscall(SYS_fallocate, fd, mode, from, size); }

API int ftruncate(int fd, off_t size) { return resize(fd, SIZE, size, call_truncate, 0, 0); }
API int ftruncate64(int fd, off64_t size) { return resize(fd, SIZE, size, call_truncate, 0, 0); }
API int fallocate(int fd, int mode, off_t from, off_t size) {
    if ((mode & ~FALLOC_FL_KEEP_SIZE) && tracked(fd)) return errno = EOPNOTSUPP, -1;
    if (mode & FALLOC_FL_KEEP_SIZE) return (int)call_allocate(fd, mode, from, size);
    return resize(fd, AT_LEAST, size, call_allocate, mode, from);
}
API int fallocate64(int fd, int mode, off64_t from, off64_t size) { return fallocate(fd, mode, from, size); }
API int posix_fallocate(int fd, off_t from, off_t size) { return fallocate(fd, 0, from, size) == 0 ? 0 : errno; }
API int posix_fallocate64(int fd, off64_t from, off64_t size) { return posix_fallocate(fd, from, size); }

/* ---- sync */

/* What was written before SYNC_BEGIN is durable at SYNC_END; the lock is not held between, so others go on. */
static int sync_file(int fd, long number) {
    struct node *n = tracked(fd);
    int what = n ? verdict(n->path, CLASS_SYNC) : GO;
    if (what == KILL_TORN) die();
    uint32_t id = n && number != SYS_syncfs ? n->id : 0, token = 0;
    if (n && trace_fd >= 0) {
        enter();
        token = next_id++;
        note(SYNC_BEGIN, n->folder ? FOLDER : 0, id, token, n->path, NULL, 0, 0);
        leave();
    }
    int done = what == ERROR ? (int)refuse() : (int)syscall(number, fd);
    int e = errno;
    uint64_t us = n && control ? atomic_load(&control->sync_delay_us) : 0;
    if (us > 0) nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
    if (n && trace_fd >= 0) {
        enter();
        note(SYNC_END, done == 0 ? 0 : FAILED, id, token, NULL, NULL, 0, 0);
        leave();
    }
    if (what == KILL_AFTER) die();
    errno = e;
    return done;
}
API int fsync(int fd) { return sync_file(fd, SYS_fsync); }
API int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }
API int syncfs(int fd) { return sync_file(fd, SYS_syncfs); }

/* A write-back hint. It promises nothing after a power loss, so the trace does not see it. */
API int sync_file_range(int fd, off64_t from, off64_t bytes, unsigned flags) {
    struct node *n = tracked(fd);
    int what = n ? verdict(n->path, CLASS_SYNC) : GO;
    if (what == ERROR) return (int)refuse();
    int done = (int)syscall(SYS_sync_file_range, fd, from, bytes, flags);
    if (what != GO) die();
    return done;
}

/* ---- names */

struct move {
    int from_dir, to_dir;
    const char *from, *to;
    unsigned flags;
};

static int move(int kind, struct move m) {
    char from_full[PATH_MAX], to_full[PATH_MAX], both[2 * PATH_MAX];
    const char *from = inside(m.from_dir, m.from, from_full), *to = inside(m.to_dir, m.to, to_full);
    long number = kind == LINK ? SYS_linkat : SYS_renameat2;
    if (!from && !to) return (int)syscall(number, m.from_dir, m.from, m.to_dir, m.to, m.flags);
    if (!from || !to || (kind == RENAME && (m.flags & RENAME_EXCHANGE))) return errno = EXDEV, -1;
    enter();
    int what = verdict(to, CLASS_META);
    int done = what == ERROR ? (int)refuse() : (int)syscall(number, m.from_dir, m.from, m.to_dir, m.to, m.flags);
    if (done == 0) {
        struct node *n = node_by_path(from), *old = node_by_path(to);
        if (old && kind == RENAME) old->path = strdup("(gone)");
        if (n && kind == RENAME) n->path = strdup(to);
        snprintf(both, sizeof both, "%s\n%s", from, to);
        note(kind, 0, 0, 0, both, NULL, 0, 0);
    }
    if (what != GO && what != ERROR) die();
    leave();
    return done;
}
API int rename(const char *a, const char *b) { return move(RENAME, (struct move){AT_FDCWD, AT_FDCWD, a, b, 0}); }
API int renameat(int da, const char *a, int db, const char *b) { return move(RENAME, (struct move){da, db, a, b, 0}); }
API int renameat2(int da, const char *a, int db, const char *b, unsigned f) { return move(RENAME, (struct move){da, db, a, b, f}); }
API int link(const char *a, const char *b) { return move(LINK, (struct move){AT_FDCWD, AT_FDCWD, a, b, 0}); }
API int linkat(int da, const char *a, int db, const char *b, int f) { return move(LINK, (struct move){da, db, a, b, f}); }

static int name_op(int kind, int dir, const char *path, int argument) {
    char full[PATH_MAX];
    const char *rel = inside(dir, path, full);
    long number = kind == MKDIR ? SYS_mkdirat : SYS_unlinkat;
    if (!rel) return (int)syscall(number, dir, path, argument);
    enter();
    int what = verdict(rel, CLASS_META);
    int done = what == ERROR ? (int)refuse() : (int)syscall(number, dir, path, argument);
    if (done == 0) note(kind, 0, 0, 0, rel, NULL, 0, 0);
    if (what != GO && what != ERROR) die();
    leave();
    return done;
}
API int mkdir(const char *path, mode_t mode) { return name_op(MKDIR, AT_FDCWD, path, mode); }
API int mkdirat(int dir, const char *path, mode_t mode) { return name_op(MKDIR, dir, path, mode); }
API int unlink(const char *path) { return name_op(UNLINK, AT_FDCWD, path, 0); }
API int rmdir(const char *path) { return name_op(UNLINK, AT_FDCWD, path, AT_REMOVEDIR); }
API int unlinkat(int dir, const char *path, int flags) { return name_op(UNLINK, dir, path, flags); }

/* Shared writable maps escape the trace; only SQLite's -shm index, which recovery rebuilds, may be one. */
API void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t from) {
    struct node *n = trace_fd >= 0 && fd >= 0 && (flags & MAP_SHARED) && (prot & PROT_WRITE) ? tracked(fd) : NULL;
    if (n && !strstr(n->path, "-shm")) {
        enter();
        note(UNSEEN, 0, n->id, 0, n->path, NULL, 0, 0);
        leave();
    }
    return (void *)syscall(SYS_mmap, at, len, prot, flags, fd, from);
}
API void *mmap64(void *at, size_t len, int prot, int flags, int fd, off64_t from) { return mmap(at, len, prot, flags, fd, from); }

/* ---- sockets */

API ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to, socklen_t to_len) {
    if (!is_socket(fd)) return syscall(SYS_sendto, fd, buf, len, flags, to, to_len);
    uint32_t id = note_send(fd, ONE(buf, len));
    return note_sent(id, syscall(SYS_sendto, fd, buf, len, flags, to, to_len));
}
API ssize_t send(int fd, const void *buf, size_t len, int flags) { return sendto(fd, buf, len, flags, NULL, 0); }
API ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
    if (!is_socket(fd)) return syscall(SYS_sendmsg, fd, m, flags);
    uint32_t id = note_send(fd, m->msg_iov, (int)m->msg_iovlen);
    return note_sent(id, syscall(SYS_sendmsg, fd, m, flags));
}

static long received(int fd, const struct iovec *parts, int count, long done) {
    if (done <= 0 || !is_socket(fd)) return done;
    enter();
    note(RECEIVED, 0, slots[fd].id, 0, NULL, parts, count, done);
    leave();
    return done;
}
API ssize_t read(int fd, void *buf, size_t len) { return received(fd, ONE(buf, len), syscall(SYS_read, fd, buf, len)); }
API ssize_t readv(int fd, const struct iovec *p, int n) { return received(fd, p, n, syscall(SYS_readv, fd, p, n)); }
API ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from, socklen_t *from_len) {
    return received(fd, ONE(buf, len), syscall(SYS_recvfrom, fd, buf, len, flags, from, from_len));
}
API ssize_t recv(int fd, void *buf, size_t len, int flags) { return recvfrom(fd, buf, len, flags, NULL, NULL); }

/* ---- free space */

#define FREE_SPACE(name, type, argument)                                                   \
    API int name(argument where, struct type *out) {                                       \
        static int (*next)(argument, struct type *);                                       \
        if (!next) next = (int (*)(argument, struct type *))dlsym(RTLD_NEXT, #name);       \
        int done = next(where, out);                                                       \
        uint64_t bytes = control ? atomic_load(&control->free_bytes) : 0;                  \
        if (done == 0 && bytes > 0) out->f_bavail = out->f_bfree = bytes / out->f_bsize;   \
        return done;                                                                       \
    }
FREE_SPACE(statvfs, statvfs, const char *)
FREE_SPACE(statvfs64, statvfs64, const char *)
FREE_SPACE(fstatvfs, statvfs, int)
FREE_SPACE(fstatvfs64, statvfs64, int)
FREE_SPACE(statfs, statfs, const char *)
FREE_SPACE(statfs64, statfs64, const char *)
FREE_SPACE(fstatfs, statfs, int)
FREE_SPACE(fstatfs64, statfs64, int)

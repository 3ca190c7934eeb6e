/* Preloaded into a broker: what it writes or flushes of its store fails at times, as the file FAULTS_IO says:
   "fsync" or "write", a space, and in how many of 100 cases. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd, const char *kind) {
    char link[64], path[4096], said[32], order[32];
    const char *control = getenv("FAULTS_IO");
    int percent, file, saved = errno;
    ssize_t length;
    if (control == NULL || (file = open(control, O_RDONLY | O_CLOEXEC)) < 0) {
        errno = saved;
        return 0;
    }
    length = read(file, said, sizeof said - 1);
    close(file);
    errno = saved;
    if (length <= 0) return 0;
    said[length] = 0;
    if (sscanf(said, "%15s %d", order, &percent) != 2 || strcmp(order, kind) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0) return 0;
    path[length] = 0;
    if (strstr(path, ".sqlite3") == NULL || random() % 100 >= percent) return 0;
    errno = EIO;
    return 1;
}

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { return fails(fd, "fsync") ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails(fd, "fsync") ? -1 : NEXT(fdatasync)(fd); }
ssize_t write(int fd, const void *data, size_t size) { return fails(fd, "write") ? -1 : NEXT(write)(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return fails(fd, "write") ? -1 : NEXT(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return fails(fd, "write") ? -1 : NEXT(pwrite64)(fd, data, size, at);
}

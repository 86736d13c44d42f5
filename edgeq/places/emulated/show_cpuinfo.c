/* A preloaded library: whoever opens /proc/cpuinfo gets the file that EDGEQ_CPUINFO names. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *shown(const char *path)
{
    const char *other = getenv("EDGEQ_CPUINFO");
    return other && path && strcmp(path, "/proc/cpuinfo") == 0 ? other : path;
}

static int opened(int directory, const char *path, int flags, va_list more)
{
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    return (int)syscall(SYS_openat, directory, shown(path), flags, mode);
}

#define OPENS(name)                                        \
    int name(const char *path, int flags, ...)             \
    {                                                      \
        va_list more;                                      \
        int file;                                          \
        va_start(more, flags);                             \
        file = opened(AT_FDCWD, path, flags, more);        \
        va_end(more);                                      \
        return file;                                       \
    }

OPENS(open)
OPENS(open64)

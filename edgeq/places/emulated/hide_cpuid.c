/* An audit library of the dynamic linker: programs that ask the CPU what it can do hear less.
 *
 * Where a kernel cannot make CPUID fault (it needs hardware support that virtual machines rarely
 * pass on), the instruction itself has to go. The linker calls la_objopen for every object it has
 * mapped, before a line of the object's code runs: there each CPUID (0F A2), whose places a table
 * names, becomes UD2 (0F 0B), as long and always invalid. The handler of the signal it raises
 * executes CPUID, clears the bits of what shall be hidden, and goes on behind it. Only memory is
 * changed, no file is.
 *
 * The table is a file that EDGEQ_HIDE_CPUID names: struct header, then masks, known files and
 * places. An object that is not among the known files is appended to <table>.unknown, one that
 * cannot be changed to <table>.refused, and whoever started the program looks there.
 *
 * No C library is used: this runs before one is ready, in a namespace without it.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <stdint.h>

#define PAGE 4096UL
#define MOST_PLACES 4096

struct header { uint64_t magic, masks, files, places; };
struct mask { uint32_t leaf, subleaf, reg, clear; };   /* reg: 0 eax, 1 ebx, 2 ecx, 3 edx */
struct file { uint64_t device, inode, bytes, changed; }; /* changed: nanoseconds since 1970 */
struct place { uint64_t file, address; };              /* address: as in the object's file */
static const uint64_t MAGIC = 0x3149555043514745ULL;   /* "EGQCPUI1" */

static const struct header *table;
static const struct mask *masks;
static const struct file *files;
static const struct place *places;
static char unknown_path[4096], refused_path[4096];
static uint64_t changed_code[MOST_PLACES];
static volatile uint64_t changed_count;

/* The kernel's own layouts, as <asm/signal.h>, <asm/stat.h> and <asm/sigcontext.h> have them. */
struct kernel_action { void *handler; uint64_t flags; void *restorer; uint64_t mask; };
struct kernel_stat {
    uint64_t dev, ino, nlink; uint32_t mode, uid, gid, pad; uint64_t rdev; int64_t size, blksize,
    blocks; uint64_t atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns; int64_t unused[3];
};
enum { R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP };
struct kernel_context {
    uint64_t flags, link, stack[3]; uint64_t registers[23];
};

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
enum { OPEN = 2, WRITE = 1, CLOSE = 3, STAT = 4, FSTAT = 5, MMAP = 9, MPROTECT = 10,
       SIGACTION = 13, READLINK = 89 };

static unsigned long length(const char *text)
{
    unsigned long n = 0;
    while (text[n]) n++;
    return n;
}

static void append(const char *path, const char *line)
{
    long file = call(OPEN, (long)path, 02001 | 0100 | 02000000, 0600, 0, 0, 0);
    if (file < 0) return;
    call(WRITE, file, (long)line, (long)length(line), 0, 0, 0);
    call(WRITE, file, (long)"\n", 1, 0, 0, 0);
    call(CLOSE, file, 0, 0, 0, 0, 0);
}

static void set_action(long number, void *handler, uint64_t flags);

static void on_invalid(int number, void *info, void *context)
{
    uint64_t *registers = ((struct kernel_context *)context)->registers;
    uint32_t leaf = (uint32_t)registers[RAX], subleaf = (uint32_t)registers[RCX], out[4];
    uint64_t i;
    (void)info;
    for (i = 0; i < changed_count && changed_code[i] != registers[RIP]; i++) {}
    if (i == changed_count) {          /* another invalid instruction: let it end the process */
        set_action(number, 0, 0);
        return;
    }
    __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(subleaf));
    for (i = 0; i < table->masks; i++)
        if (masks[i].leaf == leaf && masks[i].subleaf == subleaf) out[masks[i].reg] &= ~masks[i].clear;
    registers[RAX] = out[0];
    registers[RBX] = out[1];
    registers[RCX] = out[2];
    registers[RDX] = out[3];
    registers[RIP] += 2;
}

__asm__(".text\n.type back_from_signal,@function\nback_from_signal:\n mov $15,%eax\n syscall\n");
extern char back_from_signal[] __attribute__((visibility("hidden")));

static void set_action(long number, void *handler, uint64_t flags)
{
    struct kernel_action action;
    action.handler = handler;
    action.flags = flags | 0x04000000; /* SA_RESTORER */
    action.restorer = back_from_signal;
    action.mask = 0;
    call(SIGACTION, number, (long)&action, 0, 8, 0, 0);
}

static void join(char *to, const char *path, const char *end)
{
    unsigned long n = 0, i;
    for (i = 0; path[i] && n < 4000; i++) to[n++] = path[i];
    for (i = 0; end[i]; i++) to[n++] = end[i];
    to[n] = 0;
}

static void read_table(const char *path)
{
    struct kernel_stat about;
    long file = call(OPEN, (long)path, 02000000, 0, 0, 0, 0), start;
    if (file < 0) return;
    if (call(FSTAT, file, (long)&about, 0, 0, 0, 0) == 0) {
        start = call(MMAP, 0, about.size, 1, 2, file, 0);
        if (start > 0 && ((struct header *)start)->magic == MAGIC) {
            table = (struct header *)start;
            masks = (const struct mask *)(table + 1);
            files = (const struct file *)(masks + table->masks);
            places = (const struct place *)(files + table->files);
            join(unknown_path, path, ".unknown");
            join(refused_path, path, ".refused");
        }
    }
    call(CLOSE, file, 0, 0, 0, 0, 0);
}

__attribute__((constructor)) static void start(int argc, char **argv, char **environment)
{
    static const char name[] = "EDGEQ_HIDE_CPUID=";
    (void)argc, (void)argv;
    for (; *environment; environment++) {
        unsigned long i = 0;
        while (name[i] && (*environment)[i] == name[i]) i++;
        if (!name[i]) read_table(*environment + i);
    }
    if (table) set_action(4, (void *)on_invalid, 4 | 0x40000000); /* SA_SIGINFO | SA_NODEFER */
}

static int hide(uint64_t at)
{
    volatile unsigned char *code = (unsigned char *)at;
    uint64_t page = at & ~(PAGE - 1), bytes = at + 2 - page > PAGE ? 2 * PAGE : PAGE;
    if (code[0] != 0x0f || code[1] != 0xa2 || changed_count == MOST_PLACES) return 0;
    if (call(MPROTECT, (long)page, (long)bytes, 7, 0, 0, 0) != 0) return 0;
    changed_code[changed_count] = at;
    changed_count = changed_count + 1;
    code[1] = 0x0b;
    call(MPROTECT, (long)page, (long)bytes, 5, 0, 0, 0);
    return 1;
}

unsigned int la_version(unsigned int version) { return version < LAV_CURRENT ? version : LAV_CURRENT; }

unsigned int la_objopen(struct link_map *object, Lmid_t namespace, uintptr_t *cookie)
{
    struct kernel_stat about;
    static char program[4096];             /* which has no name in the linker's list */
    const char *path = object->l_name && *object->l_name ? object->l_name : program;
    uint64_t i, at;
    (void)namespace, (void)cookie;
    if (path == program)
        call(READLINK, (long)"/proc/self/exe", (long)program, sizeof program - 1, 0, 0, 0);
    if (!table || call(STAT, (long)path, (long)&about, 0, 0, 0, 0) != 0) return 0;
    for (i = 0; i < table->files; i++)
        if (files[i].inode == about.ino && files[i].device == about.dev &&
            files[i].bytes == (uint64_t)about.size &&
            files[i].changed == about.mtime * 1000000000ULL + about.mtime_ns)
            break;
    if (i == table->files) {
        append(unknown_path, path);
        return 0;
    }
    for (at = 0; at < table->places; at++)
        if (places[at].file == i && !hide(object->l_addr + places[at].address)) {
            append(refused_path, path);
            return 0;
        }
    return 0;
}

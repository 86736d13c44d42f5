// For the Android build of onnxruntime's JNI library on a desktop: what it takes from Android's C
// library, by glibc's, and the C library of onnxruntime, by that of $ONNXRUNTIME.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define VERSIONED(name, library) __asm__(".symver its_" #name "," #name "@" #library)

VERSIONED(malloc, LIBC);
void* its_malloc(size_t size) { return malloc(size); }
VERSIONED(realloc, LIBC);
void* its_realloc(void* memory, size_t size) { return realloc(memory, size); }
VERSIONED(free, LIBC);
void its_free(void* memory) { free(memory); }
VERSIONED(memcpy, LIBC);
void* its_memcpy(void* to, const void* from, size_t size) { return memcpy(to, from, size); }
VERSIONED(strlen, LIBC);
size_t its_strlen(const char* text) { return strlen(text); }
VERSIONED(dlclose, LIBC);
int its_dlclose(void* library) { return dlclose(library); }
VERSIONED(__stack_chk_fail, LIBC);
void its___stack_chk_fail(void) { abort(); }

// Of the end of a process, which the tests leave to the operating system.
VERSIONED(__cxa_atexit, LIBC);
int its___cxa_atexit(void) { return 0; }
VERSIONED(__cxa_finalize, LIBC);
void its___cxa_finalize(void) {}
VERSIONED(__register_atfork, LIBC);
int its___register_atfork(void) { return 0; }

VERSIONED(OrtGetApiBase, VERS_1.29.0);
const void* its_OrtGetApiBase(void) {
  const void* (*base)(void) = dlsym(dlopen(getenv("ONNXRUNTIME"), RTLD_NOW), "OrtGetApiBase");
  return base();
}
VERSIONED(OrtSessionOptionsAppendExecutionProvider_CPU, VERS_1.29.0);
void its_OrtSessionOptionsAppendExecutionProvider_CPU(void) { abort(); }
VERSIONED(OrtSessionOptionsAppendExecutionProvider_Nnapi, VERS_1.29.0);
void its_OrtSessionOptionsAppendExecutionProvider_Nnapi(void) { abort(); }

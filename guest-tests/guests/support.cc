// The two functions that the compiler may call on its own.
#include <stddef.h>

extern "C" void* memset(void* target, int value, size_t count) {
  void* result = target;
  asm volatile("rep stosb" : "+D"(target), "+c"(count) : "a"(value) : "memory");
  return result;
}

extern "C" void* memcpy(void* target, const void* source, size_t count) {
  void* result = target;
  asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
  return result;
}

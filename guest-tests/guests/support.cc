// The functions that the compiler may call on its own.
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

extern "C" int memcmp(const void* left, const void* right, size_t count) {
  const auto* a = static_cast<const unsigned char*>(left);
  const auto* b = static_cast<const unsigned char*>(right);
  for (size_t i = 0; i < count; ++i) {
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

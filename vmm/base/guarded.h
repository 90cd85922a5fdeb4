// A value that can only be reached while its mutex is held.
#pragma once

#include <mutex>
#include <utility>

namespace vmm {

template <typename T>
class Guarded {
 public:
  // Access to the value; the lock is held as long as the handle lives.
  class Handle {
   public:
    T& operator*() const { return *value_; }
    T* operator->() const { return value_; }

   private:
    friend class Guarded;
    Handle(std::mutex& mutex, T* value) : lock_(mutex), value_(value) {}
    std::unique_lock<std::mutex> lock_;
    T* value_;
  };

  Guarded() = default;
  explicit Guarded(T value) : value_(std::move(value)) {}

  Handle lock() { return Handle(mutex_, &value_); }

 private:
  std::mutex mutex_;
  T value_;
};

}  // namespace vmm

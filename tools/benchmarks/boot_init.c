// The first process of the guest that tools/bench-boot starts: says that it is there, and ends the
// machine. A reboot, because not every monitor has a way to switch the machine off.
#include <sys/reboot.h>
#include <unistd.h>

int main(void) {
  static const char kMarker[] = "userspace\n";
  if (write(STDOUT_FILENO, kMarker, sizeof kMarker - 1) < 0) return 1;
  return reboot(RB_AUTOBOOT);
}

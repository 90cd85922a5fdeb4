// Runs inside the labs of tools/bench-boot and bench-uefi:
// boot_timer SECONDS FILE MARKER COMMAND...
//
// Starts COMMAND, keeps what it prints in FILE, and says on stdout when MARKER came in it and
// when the command had ended: one line of "marker=MS exit=MS cpu=MS code=N", times from the start
// of the process; -1 is never. After SECONDS the command is killed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static double ms(struct timeval time) {
  return (double)time.tv_sec * 1e3 + (double)time.tv_usec / 1e3;
}

// All output of the command so far; a boot prints some 20 KB.
static char output[1 << 20];
static size_t output_size;

static int has_marker(const char* marker) {
  return memmem(output, output_size, marker, strlen(marker)) != NULL;
}

int main(int argc, char** argv) {
  if (argc < 5) {
    fprintf(stderr, "usage: boot_timer SECONDS FILE MARKER COMMAND...\n");
    return 64;
  }
  int ends[2];
  if (pipe(ends) != 0) {
    perror("boot_timer: pipe");
    return 71;
  }
  const double limit = atof(argv[1]) * 1e3;
  const double start = now_ms();
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    execv(argv[4], argv + 4);
    fprintf(stderr, "boot_timer: cannot start the command\n");
    _exit(127);
  }
  close(ends[1]);

  double marker = -1;
  struct pollfd pipe_end = {.fd = ends[0], .events = POLLIN};
  for (;;) {
    const double left = limit - (now_ms() - start);
    const int ready = left > 0 ? poll(&pipe_end, 1, (int)left + 1) : 0;
    if (ready < 0) break;
    if (ready == 0) {
      kill(child, SIGKILL);
      break;
    }
    char surplus[4096];
    const size_t room = sizeof output - output_size;
    const ssize_t got = room > 0 ? read(ends[0], output + output_size, room)
                                 : read(ends[0], surplus, sizeof surplus);
    if (got <= 0) break;
    if (room > 0) output_size += (size_t)got;
    if (marker < 0 && has_marker(argv[3])) marker = now_ms() - start;
  }
  int status = 0;
  struct rusage usage;
  wait4(child, &status, 0, &usage);
  const double exit_time = now_ms() - start;

  FILE* kept = fopen(argv[2], "w");
  if (kept != NULL) {
    fwrite(output, 1, output_size, kept);
    fclose(kept);
  }
  printf("marker=%.1f exit=%.1f cpu=%.1f code=%d\n", marker, exit_time,
         ms(usage.ru_utime) + ms(usage.ru_stime),
         WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  return 0;
}

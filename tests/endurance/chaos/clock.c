/* For a process whose wall clock is to be set: CLOCK_REALTIME is off by as many seconds as the file CLOCK_OFFSET says, eight
 * bytes that may change at any time. To be preloaded. (Under libfaketime 0.9.10 Envoy hangs as it starts. This looks nothing up.) */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long *offset;

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("CLOCK_OFFSET");
  int file = name ? open(name, O_RDONLY) : -1;
  void *memory = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (memory != MAP_FAILED) offset = memory;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  long failed = syscall(SYS_clock_gettime, clock, time);
  if (!failed && clock == CLOCK_REALTIME && offset) time->tv_sec += *offset;
  return (int)failed;
}

// Which of the instruction sets this processor has; empty for none.
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>

// Asks for the use of tiles, which Linux permits to a whole process.
static bool may_use_tiles() {
  constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
static bool may_use_tiles() { return false; }
#endif

extern "C" const char* unroll_instruction_set() {
  __builtin_cpu_init();
  const bool has_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_fma && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    const bool has_tiles = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8");
    return has_tiles && may_use_tiles() ? "amx" : "avx512vnni";
  }
  return has_fma ? "avx2" : "";
}

// Of the files that this was compiled from, in hex.
extern "C" const char* unroll_sources_digest() { return SOURCES_DIGEST; }

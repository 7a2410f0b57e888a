// Which of the instruction sets this processor has; empty for none.

extern "C" const char* unroll_instruction_set() {
  __builtin_cpu_init();
  const bool has_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_fma && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return "avx512vnni";
  return has_fma ? "avx2" : "";
}

// Of the files that this was compiled from, in hex.
extern "C" const char* unroll_sources_digest() { return SOURCES_DIGEST; }

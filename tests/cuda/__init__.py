"""What only a CUDA device can show. REQUIRE_CUDA=1 makes its absence a failure."""

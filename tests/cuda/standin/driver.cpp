extern "C" int cuTensorMapEncodeTiled(...) { return 1; }  // a stand-in for CUDA's driver

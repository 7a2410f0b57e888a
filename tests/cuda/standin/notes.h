// What the stand-ins tell each other and the tests.
#pragma once
#include <cstddef>

extern "C" {
// Note work that a library gives to a stream; a captured stream keeps it as a node.
void standin_note(void* stream, const char* work);

size_t standin_device_bytes();     // allocated now
long standin_violations();         // calls that ended another thread's capture, or would have
long standin_captures();           // made without a violation
long standin_launches();           // of captured graphs
const char* standin_last_capture();  // its nodes, one a line
}

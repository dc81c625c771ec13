#pragma once

// For programs that look at their own kernels, found by dlsym(RTLD_DEFAULT, ...), so that they need
// not know of softgpu. Begin waits for the device, then counts every launch until End, which waits
// again and gives the JSON; it stays valid until the next End. Both answer null or non-zero where
// the context is lost, End also without a Begin.
extern "C" int softgpuProfileBegin(void);
extern "C" const char* softgpuProfileEnd(void);

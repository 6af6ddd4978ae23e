// Stands in for the GPU, so that edgeface/cuda/crop.cu compiles as C++: one thread after another over the grid.
#include <cmath>
#include <cstring>
#define __global__
#define __device__

struct Index { unsigned x, y, z; };
static Index blockIdx, blockDim, threadIdx;

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

static inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}

#ifdef UNCHECKED  // for speed, where the caller has looked at the addresses
static inline unsigned char __ldg(const unsigned char* place) { return *place; }
#endif

// What may be read: `rows` of `length` bytes, `pitch` apart. All else is counted, and reads as 77
struct Plane {
    const unsigned char* first;
    long pitch, length, rows;
};
static Plane readable[2];
static long read_outside;

#ifndef UNCHECKED
static inline unsigned char __ldg(const unsigned char* place)
{
    for (const Plane& plane : readable) {
        const long offset = place - plane.first;
        if (offset >= 0 && offset / plane.pitch < plane.rows && offset % plane.pitch < plane.length)
            return *place;
    }
    ++read_outside;
    return 77;
}
#endif

// Crops of a frame -> the network's input tensor, and the glimpse of a frame: two kernels, `crop` and `glimpse`.
//
// The rule is the one at the top of edgeface/cpu/crop.py: centres of pixels, padding, blocks, the whole frame fitted in
// whole pixels. Nothing is rounded to 8 bits on the way, as it is there. README.md says what is shipped, and figures.
//
// Launch `crop` with one thread an output pixel: grid (ceil(width / 32), ceil(height / 8), crops), block (32, 8, 1);
// `glimpse` with one a cell: grid (ceil(width / 32), ceil(height / 8), 1), the same block. Both take one Task by value.
// No shared memory, no synchronisation. A crop of NaN is all padding; nothing outside the frame is ever read.
//
// The frame is read as it was captured; each pixel is converted before anything is interpolated:
//   gray8   a byte a pixel
//   rgb8, bgr8, rgba8, bgra8   3 or 4 bytes a pixel; alpha is not looked at
//   nv12    `plane` is Y; `chroma` holds a pair U, V for each 2 x 2 pixels, the same for all four as in OpenCV
//   yuyv    Y, U, Y, V for each 2 pixels side by side, U and V for both; rows of whole pairs
// y = max(Y - yuv[0], 0) * yuv[1]; red = y + yuv[2] * (V - 128), green = y + yuv[3] * (U - 128) + yuv[4] * (V - 128),
// blue = y + yuv[5] * (U - 128), each cut to 0..255. The caller so chooses matrix and range:
//   BT.601 limited (OpenCV's, V4L2's default)   16, 255/219, 1.596027, -0.391762, -0.812968, 2.017232
//   BT.601 full                                  0, 1,       1.402,    -0.344136, -0.714136, 1.772
//   BT.709 limited                              16, 255/219, 1.792741, -0.213249, -0.532909, 2.112402
//   BT.709 full                                  0, 1,       1.5748,   -0.187324, -0.468124, 1.8556
// Luma is 0.299 red + 0.587 green + 0.114 blue; of nv12 and yuyv it is y, cut to 255, and chroma is not read.
//
// Positions are float32: wrong by up to 0.001 pixel on frames of 8192, so a centre that lies on the frame's border to
// within that may count as inside or outside. Halves are rounded to the nearest, ties to even.
//
// Every byte of the frame is read through __ldg. With tests/host.hpp before it the same text compiles as C++: so the
// tests run it on a machine without a GPU.

enum Format { GRAY8, RGB8, BGR8, RGBA8, BGRA8, NV12, YUYV };
enum Order { RGB, BGR, LUMA, LUMA3 };  // a card's `colour`

struct Box { float x1, y1, x2, y2; };  // frame pixels, as edgeface.boxes

struct Task {                       // offset; addresses are the device's
    const unsigned char* plane;     //  0 the frame's first pixel
    const unsigned char* chroma;    //  8 nv12 only
    const Box* crops;               // 16 [n]; not for `glimpse`
    void* tensor;                   // 24 float or half [n, 3 or 1, height, width]; of `glimpse` bytes [height, width]
    int pitch, chroma_pitch;        // 32 bytes from row to row
    int frame_width, frame_height;  // 40
    int format;                     // 48 Format
    int width, height;              // 52 of the tensor
    int order;                      // 60 Order
    int half;                       // 64 1: the tensor is float16
    float padding;                  // 68 pixel value; negative: the border's pixels are repeated
    float scale, shift[3];          // 72 value * scale + shift of each channel, shift = -mean * scale
    float yuv[6];                   // 88
};
static_assert(sizeof(Task) == 112, "the caller packs it");

struct Rgb { float red, green, blue; };
static __device__ Rgb operator+(Rgb a, Rgb b) { return {a.red + b.red, a.green + b.green, a.blue + b.blue}; }
static __device__ Rgb operator*(Rgb a, float b) { return {a.red * b, a.green * b, a.blue * b}; }

static __device__ float clamped(float value, float last)  // 0 for NaN
{
    return fminf(fmaxf(value, 0.0f), last);
}

static __device__ unsigned short half_bits(float value)
{
    const unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x47800000u)  // 65536 and more, or not finite
        return sign | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u);
    if (magnitude < 0x38800000u)  // below 2^-14, the least normal half: counted in 2^-24
        return sign | (unsigned)rintf(fabsf(value) * 16777216.0f);
    return sign | (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
}

template <int layout> __device__ float y_at(const Task& task, int x, int y)
{
    const unsigned char* row = task.plane + (long long)y * task.pitch;
    return fmaxf(__ldg(row + (layout == YUYV ? 2 * x : x)) - task.yuv[0], 0.0f) * task.yuv[1];
}

// How a frame is looked at: `layout` is GRAY8, NV12, YUYV, or RGB8 for all formats of 3 or 4 bytes a pixel
template <int layout> struct Colour {
    typedef Rgb Value;
    static __device__ Rgb grey(float value) { return {value, value, value}; }
    static __device__ Rgb rgb(Rgb value) { return value; }
    static __device__ Rgb at(const Task& task, int x, int y)
    {
        const unsigned char* row = task.plane + (long long)y * task.pitch;
        if (layout == RGB8) {
            const unsigned char* pixel = row + (task.format >= RGBA8 ? 4 : 3) * x;
            const int red = task.format == BGR8 || task.format == BGRA8 ? 2 : 0;
            return {(float)__ldg(pixel + red), (float)__ldg(pixel + 1), (float)__ldg(pixel + 2 - red)};
        }
        const unsigned char* pair =
            layout == NV12 ? task.chroma + (long long)(y / 2) * task.chroma_pitch + x / 2 * 2 : row + x / 2 * 4 + 1;
        const float luma = y_at<layout>(task, x, y);
        const float u = __ldg(pair) - 128.0f, v = __ldg(pair + (layout == NV12 ? 1 : 2)) - 128.0f;
        return {clamped(luma + task.yuv[2] * v, 255.0f),
                clamped(luma + task.yuv[3] * u + task.yuv[4] * v, 255.0f),
                clamped(luma + task.yuv[5] * u, 255.0f)};
    }
};

template <int layout> struct Luma {
    typedef float Value;
    static __device__ float grey(float value) { return value; }
    static __device__ Rgb rgb(float value) { return {value, value, value}; }
    static __device__ float at(const Task& task, int x, int y)
    {
        if (layout == GRAY8)
            return __ldg(task.plane + (long long)y * task.pitch + x);
        if (layout == NV12 || layout == YUYV)
            return fminf(y_at<layout>(task, x, y), 255.0f);
        const Rgb colour = Colour<layout>::at(task, x, y);
        return 0.299f * colour.red + 0.587f * colour.green + 0.114f * colour.blue;
    }
};

// end - start >= limit, as if nothing were rounded (Knuth's TwoSum): a crop must not change its blocks for a rounding
static __device__ bool reaches(float start, float end, float limit)
{
    const float size = end - start, part = size - end;
    const float lost = (end - (size - part)) - (start + part);
    return size > limit || (size == limit && lost >= 0.0f);
}

// Does the crop show all of a frame's axis, from 0, and fit it in whole pixels of the input?
static __device__ bool fits(float start, float end, int frame_size, int size)
{
    const float product = (float)frame_size * size, whole = rintf(product / end);
    return start == 0.0f && frame_size - end <= 1e-3f && fabsf(fmaf(-whole, end, product)) < 1e-3f * end;
}

// The mean of block (x, y): four bilinear samples at the centres of its quarters, so of 4 or 16 pixels
template <class Look> __device__ typename Look::Value block_at(const Task& task, int x, int y, int block)
{
    const int quarter = block / 2, first = (quarter - 1) / 2;
    const int bits = quarter > 1 ? 2 : 1;  // 4 x 4 pixels, or 2 x 2
    typename Look::Value sum = Look::grey(0.0f);
#pragma unroll 1
    for (int k = 0; k < 1 << 2 * bits; ++k) {
        const int i = k & ((1 << bits) - 1), j = k >> bits;
        const int column = x * block + (i >> (bits - 1)) * quarter + first + (i & (bits - 1));
        const int row = y * block + (j >> (bits - 1)) * quarter + first + (j & (bits - 1));
        sum = sum + Look::at(task, min(column, task.frame_width - 1), min(row, task.frame_height - 1));
    }
    return sum * (bits == 2 ? 0.0625f : 0.25f);
}

// Where an output pixel looks: bilinear between pixels, or blocks, of `block` x `block`, with centres at whole numbers
struct Spot { float x, y; int last_x, last_y, block; };  // x of 0..last_x, y of 0..last_y

template <class Look> __device__ Rgb sampled(const Task& task, const Spot& spot)
{
    const int left = (int)spot.x, top = (int)spot.y;
    const int right = min(left + 1, spot.last_x), bottom = min(top + 1, spot.last_y);
    const float x = spot.x - left, y = spot.y - top;
    typename Look::Value sum;
    if (spot.block == 1) {
        sum = (Look::at(task, left, top) * (1.0f - x) + Look::at(task, right, top) * x) * (1.0f - y) +
              (Look::at(task, left, bottom) * (1.0f - x) + Look::at(task, right, bottom) * x) * y;
    } else {
        sum = Look::grey(0.0f);
#pragma unroll 1
        for (int k = 0; k < 4; ++k) {
            const float share = (k & 1 ? x : 1.0f - x) * (k & 2 ? y : 1.0f - y);
            sum = sum + block_at<Look>(task, k & 1 ? right : left, k & 2 ? bottom : top, spot.block) * share;
        }
    }
    return Look::rgb(sum);
}

template <int layout> __device__ Rgb looked_at(const Task& task, const Spot& spot)
{
    const bool luma = task.order == LUMA || task.order == LUMA3;
    return luma ? sampled<Luma<layout>>(task, spot) : sampled<Colour<layout>>(task, spot);
}

static __device__ void write(const Task& task, size_t place, float value)
{
    if (task.half)
        ((unsigned short*)task.tensor)[place] = half_bits(value);
    else
        ((float*)task.tensor)[place] = value;
}

extern "C" __global__ void crop(const Task task)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.z;
    if (i >= task.width || j >= task.height)
        return;
    const Box box = task.crops[n];
    const bool whole_frame = fits(box.x1, box.x2, task.frame_width, task.width) &&
                             fits(box.y1, box.y2, task.frame_height, task.height);
    int block = whole_frame ? 1 : 16;
    while (block > 1 && !(reaches(box.x1, box.x2, block * task.width) && reaches(box.y1, box.y2, block * task.height)))
        block /= 2;

    const float x = fmaf(i + 0.5f, (box.x2 - box.x1) / task.width, box.x1);
    const float y = fmaf(j + 0.5f, (box.y2 - box.y1) / task.height, box.y1);
    const bool inside = x >= 0.0f && x < task.frame_width && y >= 0.0f && y < task.frame_height;
    Rgb colour = {task.padding, task.padding, task.padding};
    if (inside || task.padding < 0.0f) {
        const int last_x = (task.frame_width + block - 1) / block - 1;
        const int last_y = (task.frame_height + block - 1) / block - 1;
        const Spot spot = {
            clamped(x / block - 0.5f, last_x), clamped(y / block - 0.5f, last_y), last_x, last_y, block};
        switch (task.format) {
            case GRAY8: colour = sampled<Luma<GRAY8>>(task, spot); break;
            case NV12: colour = looked_at<NV12>(task, spot); break;
            case YUYV: colour = looked_at<YUYV>(task, spot); break;
            default: colour = looked_at<RGB8>(task, spot);
        }
    }

    const size_t plane = (size_t)task.height * task.width;
    const size_t place = n * plane * (task.order == LUMA ? 1 : 3) + (size_t)j * task.width + i;
    const bool blue_first = task.order == BGR;
    write(task, place, fmaf(blue_first ? colour.blue : colour.red, task.scale, task.shift[0]));
    if (task.order != LUMA) {
        write(task, place + plane, fmaf(colour.green, task.scale, task.shift[1]));
        write(task, place + 2 * plane, fmaf(blue_first ? colour.red : colour.blue, task.scale, task.shift[2]));
    }
}

// The mean luma of cell (x, y) of the frame, of every step-th pixel, by the area that pixels share with the cell
template <int layout> __device__ unsigned char cell(const Task& task, int x, int y)
{
    const int step = max(min(task.frame_width / (2 * task.width), task.frame_height / (2 * task.height)), 1);
    const int columns = (task.frame_width + step - 1) / step, rows = (task.frame_height + step - 1) / step;
    const float left = (float)x * columns / task.width, right = (float)(x + 1) * columns / task.width;
    const float top = (float)y * rows / task.height, bottom = (float)(y + 1) * rows / task.height;
    float sum = 0.0f, area = 0.0f;
#pragma unroll 1
    for (int j = (int)top; j < rows && j < bottom; ++j)
#pragma unroll 1
        for (int i = (int)left; i < columns && i < right; ++i) {
            const float share = (fminf(i + 1, right) - fmaxf(i, left)) * (fminf(j + 1, bottom) - fmaxf(j, top));
            sum += share * Luma<layout>::at(task, i * step, j * step);
            area += share;
        }
    return (unsigned char)rintf(sum / area);
}

extern "C" __global__ void glimpse(const Task task)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= task.width || y >= task.height)
        return;
    unsigned char* grey = (unsigned char*)task.tensor + y * task.width + x;
    switch (task.format) {
        case GRAY8: *grey = cell<GRAY8>(task, x, y); return;
        case NV12: *grey = cell<NV12>(task, x, y); return;
        case YUYV: *grey = cell<YUYV>(task, x, y); return;
        default: *grey = cell<RGB8>(task, x, y);
    }
}

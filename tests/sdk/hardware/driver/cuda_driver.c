/* A CUDA driver whose device memory is ordinary memory: the calls of blendmask_edge/hardware/cuda.py and no others.
 *
 * It is compiled against the public header, so a signature that differs does not compile, and with AddressSanitizer,
 * which reports freeing twice, use after freeing, access out of bounds and memory that is left. Work that is given to
 * a stream is done when the stream is synchronized. `control_*` belong to the tests.
 */
#include <cuda.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST 64
#define MASK 0x5555555555555555u   /* hides pointers of the table from LeakSanitizer, so that it counts only others */
#define ON_DEVICE (1ull << 62)     /* no host code can follow an address of the device */
#define EXPORT __attribute__((visibility("default")))

enum kind { FREE, HOST, DEVICE };
static struct { uintptr_t hidden; size_t size; enum kind kind; } blocks[MOST];
static struct { void *target; const void *source; size_t size; void (*work)(void); } queue[MOST];
static unsigned queued;
static int capturing;              /* work given to the stream is then recorded, in its place in the queue */
static unsigned recorded_from;
static struct graph { unsigned count; char nodes[sizeof queue]; } *live_graph, *live_executable;
static int context, streams, retained, destroyed;
static char a_stream;
static _Thread_local CUcontext current;
static int calls, fails_at, stays_broken;
static CUresult failure;
static const char *failed = "", *misuse = "";

static void *memory_of(unsigned index) { return (void *)(blocks[index].hidden ^ MASK); }

/* Place of memory of a kind in the table; of FREE, any free place. */
static int find(const void *memory, enum kind kind)
{
    for (unsigned index = 0; index < MOST; index++)
        if (blocks[index].kind == kind && (kind == FREE || memory_of(index) == memory))
            return (int)index;
    return -1;
}

static void *host_pointer(CUdeviceptr address) { return (void *)(uintptr_t)(address ^ ON_DEVICE); }

static CUresult allocate(void **memory, size_t size, enum kind kind)
{
    int index = find(0, FREE);
    if (!size || index < 0)
        return size ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
    *memory = malloc(size);
    memset(*memory, 0xA5, size);
    blocks[index].hidden = (uintptr_t)*memory ^ MASK;
    blocks[index].size = size;
    blocks[index].kind = kind;
    return CUDA_SUCCESS;
}

static CUresult release(void *memory, enum kind kind)
{
    int index = find(memory, kind);
    for (unsigned place = 0; place < queued; place++)
        if (queue[place].target == memory || queue[place].source == memory)
            misuse = "memory was freed before the stream had done its work on it";
    free(memory); /* also where it is unknown: AddressSanitizer then says how */
    if (index >= 0) {
        blocks[index].kind = FREE;
        blocks[index].hidden = MASK;
    }
    return index < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static int live(enum kind kind)
{
    int count = 0;
    for (unsigned index = 0; index < MOST; index++)
        count += blocks[index].kind == kind;
    return count;
}

static CUresult enqueue(void *target, const void *source, size_t size, void (*work)(void), CUstream stream)
{
    if ((void *)stream != &a_stream || !streams || queued == MOST)
        return CUDA_ERROR_INVALID_HANDLE;
    queue[queued].target = target;
    queue[queued].source = source;
    queue[queued].size = size;
    queue[queued++].work = work;
    return CUDA_SUCCESS;
}

static CUresult copy(void *target, enum kind to, const void *source, enum kind from, size_t size, CUstream stream)
{
    int first = find(target, to), second = find(source, from);
    if (first < 0 || second < 0 || blocks[first].size < size || blocks[second].size < size)
        return CUDA_ERROR_INVALID_VALUE;
    return enqueue(target, source, size, 0, stream);
}

static CUresult enter(const char *name, int needs_context)
{
    calls++;
    if (fails_at && (calls == fails_at || (stays_broken && calls > fails_at))) {
        failed = *failed ? failed : name;
        return failure;
    }
    if (needs_context && destroyed)
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    return needs_context && current != (CUcontext)&context ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

#define ENTER(needs_context)                                     \
    do {                                                         \
        CUresult entered = enter(__func__, needs_context);       \
        if (entered != CUDA_SUCCESS)                             \
            return entered;                                      \
    } while (0)

EXPORT CUresult CUDAAPI cuInit(unsigned flags)
{
    ENTER(0);
    return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDriverGetVersion(int *version)
{
    ENTER(0);
    *version = 12060;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal)
{
    ENTER(0);
    *device = ordinal;
    return ordinal ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDeviceGetName(char *name, int size, CUdevice device)
{
    ENTER(0);
    memset(name, 0, (size_t)size);
    strncpy(name, "Orin NX", (size_t)size - 1);
    return device ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    ENTER(0);
    if (device)
        return CUDA_ERROR_INVALID_DEVICE;
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 8 : 7;
    return attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ||
                   attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
               ? CUDA_SUCCESS
               : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult CUDAAPI cuGetErrorString(CUresult status, const char **text)
{
    *text = status == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an error of this driver";
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *made, CUdevice device)
{
    ENTER(0);
    if (device)
        return CUDA_ERROR_INVALID_DEVICE;
    *made = (CUcontext)&context;
    retained++;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    ENTER(0);
    if (device || !retained)
        return device ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_INVALID_CONTEXT;
    if (--retained == 0 && (live(HOST) || live(DEVICE) || streams))
        misuse = "the context was released before its memory and its stream";
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuCtxSetCurrent(CUcontext made)
{
    ENTER(0);
    if (destroyed)
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    current = made;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuStreamCreate(CUstream *made, unsigned flags)
{
    ENTER(1);
    *made = (CUstream)&a_stream;
    streams++;
    return flags > CU_STREAM_NON_BLOCKING ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuStreamDestroy_v2(CUstream stream)
{
    ENTER(1);
    if ((void *)stream != &a_stream || !streams)
        return CUDA_ERROR_INVALID_HANDLE;
    if (live(DEVICE) || live(HOST))
        misuse = "the stream was destroyed before the memory that it works on was freed";
    streams--;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuStreamSynchronize(CUstream stream)
{
    ENTER(1);
    if ((void *)stream != &a_stream || !streams)
        return CUDA_ERROR_INVALID_HANDLE;
    unsigned count = queued;
    queued = 0;
    for (unsigned place = 0; place < count; place++) {
        if (queue[place].work)
            queue[place].work();
        else
            memcpy(queue[place].target, queue[place].source, queue[place].size);
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuMemHostAlloc(void **memory, size_t size, unsigned flags)
{
    ENTER(1);
    return flags ? CUDA_ERROR_INVALID_VALUE : allocate(memory, size, HOST);
}

EXPORT CUresult CUDAAPI cuMemFreeHost(void *memory)
{
    ENTER(1);
    return release(memory, HOST);
}

EXPORT CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr *address, size_t size)
{
    ENTER(1);
    void *memory = 0;
    CUresult status = allocate(&memory, size, DEVICE);
    *address = status ? 0 : (CUdeviceptr)(uintptr_t)memory | ON_DEVICE;
    return status;
}

EXPORT CUresult CUDAAPI cuMemFree_v2(CUdeviceptr address)
{
    ENTER(1);
    return release(host_pointer(address), DEVICE);
}

EXPORT CUresult CUDAAPI cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void *source, size_t size, CUstream stream)
{
    ENTER(1);
    return copy(host_pointer(target), DEVICE, source, HOST, size, stream);
}

EXPORT CUresult CUDAAPI cuMemcpyDtoHAsync_v2(void *target, CUdeviceptr source, size_t size, CUstream stream)
{
    ENTER(1);
    return copy(target, HOST, host_pointer(source), DEVICE, size, stream);
}

EXPORT CUresult CUDAAPI cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    ENTER(1);
    if ((void *)stream != &a_stream || mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL || capturing)
        return CUDA_ERROR_INVALID_VALUE;
    capturing = 1;
    recorded_from = queued;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuStreamEndCapture(CUstream stream, CUgraph *made)
{
    unsigned count = queued - recorded_from;
    int was_capturing = capturing;
    capturing = 0;
    if (was_capturing)
        queued = recorded_from;
    *made = 0;
    ENTER(1);
    if ((void *)stream != &a_stream || !was_capturing || live_graph)
        return CUDA_ERROR_INVALID_VALUE;
    live_graph = malloc(sizeof *live_graph);
    live_graph->count = count;
    memcpy(live_graph->nodes, &queue[recorded_from], count * sizeof queue[0]);
    *made = (CUgraph)live_graph;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long flags)
{
    ENTER(1);
    if ((struct graph *)graph != live_graph || flags || live_executable)
        return CUDA_ERROR_INVALID_VALUE;
    live_executable = malloc(sizeof *live_executable);
    memcpy(live_executable, live_graph, sizeof *live_graph);
    *made = (CUgraphExec)live_executable;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuGraphDestroy(CUgraph graph)
{
    ENTER(1);
    free(graph); /* also where it is unknown: AddressSanitizer then says how */
    live_graph = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec executable)
{
    ENTER(1);
    if (!streams)
        misuse = "the stream was destroyed before the graph that runs on it";
    free(executable);
    live_executable = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult CUDAAPI cuGraphLaunch(CUgraphExec executable, CUstream stream)
{
    ENTER(1);
    struct graph *run = (struct graph *)executable;
    if (run != live_executable || (void *)stream != &a_stream || queued + run->count > MOST)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&queue[queued], run->nodes, run->count * sizeof queue[0]);
    queued += run->count;
    return CUDA_SUCCESS;
}

/* Start over: let the call with this number, counted from here, return a status, and if asked for each later one, as
 * after an illegal access; 0 lets all succeed. */
EXPORT void control_start(int number, int status, int stays)
{
    calls = 0;
    fails_at = number;
    stays_broken = stays;
    failure = (CUresult)status;
    failed = misuse = "";
}

/* The first call that failed as planned, or "". */
EXPORT const char *control_failed(void) { return failed; }

/* What was done out of order, or "". */
EXPORT const char *control_misuse(void) { return misuse; }

/* Blocks on the host and on the device, streams, graphs and references to the context that were not given back. */
EXPORT int control_live(void) 
{
    return live(HOST) + live(DEVICE) + streams + retained + !!live_graph + !!live_executable;
}

/* Reset the device, as other code of the process may: its memory and streams are gone. */
EXPORT void control_destroy_context(void)
{
    for (unsigned index = 0; index < MOST; index++)
        if (blocks[index].kind != FREE) {
            free(memory_of(index));
            blocks[index].kind = FREE;
            blocks[index].hidden = MASK;
        }
    free(live_graph);
    free(live_executable);
    live_graph = live_executable = 0;
    streams = capturing = 0;
    queued = 0;
    destroyed = 1;
}

/* Let the device be usable again after a reset, with nothing allocated; what could not be given back is forgotten. */
EXPORT void control_recover(void)
{
    control_destroy_context();
    retained = destroyed = 0;
}

/* Host address of memory of the device with this size, for a kernel of a test; null where there is none. */
EXPORT void *control_memory(CUdeviceptr address, size_t size)
{
    int index = find(host_pointer(address), DEVICE);
    return index < 0 || blocks[index].size != size ? 0 : host_pointer(address);
}

/* Give a kernel to the stream, as an engine does. */
EXPORT int control_enqueue(CUstream stream, void (*kernel)(void)) { return enqueue(0, 0, 0, kernel, stream); }

/* The part of the CUDA runtime that torch's host code calls, for a machine without a GPU.

   Loaded before torch's own (LD_PRELOAD), it offers one device whose memory is host memory.
   Kernels are launched and do nothing: `gpu.py` computes what they would have. */

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY (8ull << 30)
#define DOES_NOTHING(name, ...) \
    cudaError_t name(__VA_ARGS__) { return cudaSuccess; }

static long waits;
static int busy;

/* How often the host has waited for the device so far. */
long num_waits(void) { return waits; }

/* Whether events, from now on, have not come about yet. */
void set_busy(int is) { busy = is; }

/* ---- the device */

cudaError_t cudaGetDeviceCount(int *count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDeviceSynchronize(void) { return waits++, cudaSuccess; }
DOES_NOTHING(cudaSetDevice, int device)
DOES_NOTHING(cudaGetLastError, void)
DOES_NOTHING(cudaPeekAtLastError, void)

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
    memset(found, 0, sizeof *found);
    strcpy(found->name, "host memory");
    found->major = 9;
    found->totalGlobalMem = MEMORY;
    found->multiProcessorCount = 132;
    found->warpSize = 32;
    found->maxThreadsPerBlock = 1024;
    found->maxThreadsPerMultiProcessor = 2048;
    found->sharedMemPerBlock = 49152;
    found->sharedMemPerBlockOptin = 232448;
    found->maxGridSize[0] = found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->textureAlignment = 512;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr name, int device) {
    return *value = 0, cudaSuccess;
}

/* Of the driver: whether the device is in use. */
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    return *active = 1, *flags = 0;
}

cudaError_t cudaDeviceGetPCIBusId(char *name, int length, int device) {
    return snprintf(name, length, "0000:00:00.0"), cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    return *least = *greatest = 0, cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(
    const char *name, void **found, unsigned version, unsigned long long flags,
    enum cudaDriverEntryPointQueryResult *result) {
    *found = NULL;
    if (result) *result = cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

/* ---- memory */

static cudaError_t allocate(void **place, size_t bytes) {
    *place = aligned_alloc(512, (bytes + 511) / 512 * 512);
    return *place ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaMalloc(void **place, size_t bytes) { return allocate(place, bytes); }
cudaError_t cudaFree(void *place) { return free(place), cudaSuccess; }

/* The host's memory that the device may read by itself. */
static struct { char *start; size_t bytes; } pinned[4096];

static int pinned_at(const char *place) {
    for (int i = 0; i < 4096; i++)
        if (pinned[i].start <= place && place < pinned[i].start + pinned[i].bytes) return i;
    return -1;
}
cudaError_t cudaFreeHost(void *place) {
    int i = pinned_at(place);
    if (i >= 0) pinned[i].start = NULL, pinned[i].bytes = 0;
    return free(place), cudaSuccess;
}
cudaError_t cudaHostAlloc(void **place, size_t bytes, unsigned flags) {
    cudaError_t made = allocate(place, bytes);
    for (int i = 0; made == cudaSuccess && i < 4096; i++)
        if (!pinned[i].bytes) {
            pinned[i].start = *place, pinned[i].bytes = bytes;
            break;
        }
    return made;
}
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
    return *unused = *total = MEMORY, cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *place) {
    memset(found, 0, sizeof *found);
    found->type = pinned_at(place) < 0 ? cudaMemoryTypeUnregistered : cudaMemoryTypeHost;
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    return memmove(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *place, int value, size_t bytes, cudaStream_t stream) {
    return memset(place, value, bytes), cudaSuccess;
}

/* ---- graphs: `gpu.py` records what is asked between begin and end, and does it at a launch */

static cudaStream_t capturing;
static long captures;
static void (*launched)(long);

/* Which graph is being captured, counted from 1; none if it is 0. */
long captured_now(void) { return capturing ? captures : 0; }

/* What is called when a graph is launched. */
void on_launch(void (*function)(long)) { launched = function; }

static enum cudaStreamCaptureStatus status_of(cudaStream_t stream) {
    return capturing && stream == capturing ? cudaStreamCaptureStatusActive
                                            : cudaStreamCaptureStatusNone;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    return *status = status_of(stream), cudaSuccess;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaStreamGetCaptureInfo(
    cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
    cudaGraph_t *graph, const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges,
    size_t *count) {
#else
cudaError_t cudaStreamGetCaptureInfo(
    cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
    cudaGraph_t *graph, const cudaGraphNode_t **nodes, size_t *count) {
#endif
    *status = status_of(stream);
    if (id) *id = captures;
    if (graph) *graph = (cudaGraph_t)captures;
    if (count) *count = 0;
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    return capturing = stream, captures++, cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    return capturing = NULL, *graph = (cudaGraph_t)captures, cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    return *count = 1, cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(
    cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags) {
    return *made = (cudaGraphExec_t)graph, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    return launched((long)graph), cudaSuccess;
}
DOES_NOTHING(cudaGraphDestroy, cudaGraph_t graph)
DOES_NOTHING(cudaGraphExecDestroy, cudaGraphExec_t graph)

/* ---- streams and events: everything is done as soon as it is asked for */

static long handle = 1 << 20;

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *made, unsigned flags, int priority) {
    return *made = (cudaStream_t)(handle += 8), cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *made, unsigned flags) {
    return *made = (cudaEvent_t)(handle += 8), cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return busy ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    waits++;
    return stream && stream == capturing ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return waits++, cudaSuccess; }
DOES_NOTHING(cudaStreamQuery, cudaStream_t stream)
DOES_NOTHING(cudaStreamWaitEvent, cudaStream_t stream, cudaEvent_t event, unsigned flags)
DOES_NOTHING(cudaEventDestroy, cudaEvent_t event)
DOES_NOTHING(cudaEventRecord, cudaEvent_t event, cudaStream_t stream)
DOES_NOTHING(cudaEventRecordWithFlags, cudaEvent_t event, cudaStream_t stream, unsigned flags)
DOES_NOTHING(cudaThreadExchangeStreamCaptureMode, enum cudaStreamCaptureMode *mode)

/* ---- kernels */

cudaError_t __cudaGetKernel(void **kernel, const void *function) {
    return *kernel = (void *)function, cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *function) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024;
    found->binaryVersion = found->ptxVersion = 90;
    return cudaSuccess;
}
DOES_NOTHING(cudaFuncSetAttribute, const void *f, enum cudaFuncAttribute name, int value)
DOES_NOTHING(cudaLaunchKernel, const void *f, dim3 grid, dim3 block, void **a, size_t s, cudaStream_t q)
DOES_NOTHING(__cudaLaunchKernel, void *f, dim3 grid, dim3 block, void **a, size_t s, cudaStream_t q)
DOES_NOTHING(cudaLaunchKernelExC, const cudaLaunchConfig_t *how, const void *f, void **a)

/* What earshot.c uses of onnxruntime's C interface, for machines that have the library and not its
 * header: onnxruntime/capi/libonnxruntime.so.* of the Python package is one. The functions of the
 * interface stand in a table whose order never changes; the numbers are the places in it of what is
 * not used here. With the header at hand, compile with -DEARSHOT_ORT_HEADER in place of this.
 */
#ifndef EARSHOT_ORT_ABI_H
#define EARSHOT_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 12

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtModelMetadata OrtModelMetadata;

enum { ORT_LOGGING_LEVEL_FATAL = 4 };
enum { OrtArenaAllocator = 1 };
enum { OrtMemTypeDefault = 0 };
enum { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1 };

typedef struct OrtApi {
    void *from_0[2];
    const char *(*GetErrorMessage)(const OrtStatus *);
    OrtStatus *(*CreateEnv)(int level, const char *name, OrtEnv **out);
    void *from_4[3];
    OrtStatus *(*CreateSession)(const OrtEnv *, const char *path, const OrtSessionOptions *,
                                OrtSession **out);
    void *from_8;
    OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *input_names,
                      const OrtValue *const *inputs, size_t input_count,
                      const char *const *output_names, size_t output_count, OrtValue **outputs);
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **out);
    void *from_11[11];
    OrtStatus *(*SetSessionLogSeverityLevel)(OrtSessionOptions *, int level);
    void *from_23;
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int count);
    OrtStatus *(*SetInterOpNumThreads)(OrtSessionOptions *, int count);
    void *from_26[4];
    OrtStatus *(*SessionGetInputCount)(const OrtSession *, size_t *out);
    void *from_31[2];
    OrtStatus *(*SessionGetInputTypeInfo)(const OrtSession *, size_t index, OrtTypeInfo **out);
    void *from_34[2];
    OrtStatus *(*SessionGetInputName)(const OrtSession *, size_t index, OrtAllocator *, char **out);
    void *from_37[12];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *data, size_t bytes,
                                                 const int64_t *shape, size_t rank, int type,
                                                 OrtValue **out);
    void *from_50[5];
    OrtStatus *(*CastTypeInfoToTensorInfo)(const OrtTypeInfo *,
                                           const OrtTensorTypeAndShapeInfo **out);
    void *from_56[5];
    OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *, size_t *out);
    OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *, int64_t *out, size_t rank);
    void *from_63[6];
    OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **out);
    void *from_70[6];
    OrtStatus *(*AllocatorFree)(OrtAllocator *, void *);
    void *from_77;
    OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **out);
    void *from_79[13];
    void (*ReleaseEnv)(OrtEnv *);
    void (*ReleaseStatus)(OrtStatus *);
    void (*ReleaseMemoryInfo)(OrtMemoryInfo *);
    void (*ReleaseSession)(OrtSession *);
    void (*ReleaseValue)(OrtValue *);
    void *from_97;
    void (*ReleaseTypeInfo)(OrtTypeInfo *);
    void *from_99;
    void (*ReleaseSessionOptions)(OrtSessionOptions *);
    void *from_101[10];
    OrtStatus *(*SessionGetModelMetadata)(const OrtSession *, OrtModelMetadata **out);
    void *from_112[4];
    OrtStatus *(*ModelMetadataLookupCustomMetadataMap)(const OrtModelMetadata *, OrtAllocator *,
                                                       const char *key, char **out);
    void *from_117;
    void (*ReleaseModelMetadata)(OrtModelMetadata *);
} OrtApi;

typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase *OrtGetApiBase(void);

#endif

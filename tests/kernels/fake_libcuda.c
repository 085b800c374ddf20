/* A stand-in for the CUDA driver: copies at once with memcpy and keeps a record of what it was asked for.
 * It shows that calls are made rightly, nothing about speed or about what CUDA's streams do. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct { int type, id; } location;
typedef struct { int source_order; location source, destination; unsigned flags; } attributes;

/* The record. */
int fake_calls, fake_entries, fake_source_order, fake_flags, fake_location_types, fake_version_asked;
size_t fake_attributes, fake_first_index, fake_sizes[4096];
void *fake_stream;
/* What is refused: the entry at which a call fails; -1: none. The version from which on the batch call is there. */
int fake_fail_at = -1, fake_has_batch = 1;

static int copy_one(uint64_t to, uint64_t from, size_t num_bytes)
{
    if (fake_entries == fake_fail_at)
        return 1;
    memcpy((void *)to, (const void *)from, num_bytes);
    fake_sizes[fake_entries++] = num_bytes;
    return 0;
}

int cuMemcpyAsync(uint64_t to, uint64_t from, size_t num_bytes, void *stream)
{
    fake_calls++;
    fake_stream = stream;
    return copy_one(to, from, num_bytes);
}

static int cuMemcpyBatchAsync(uint64_t *to, uint64_t *from, size_t *num_bytes, size_t count, attributes *given,
                              size_t *indices, size_t num_given, size_t *failed, void *stream)
{
    size_t i;
    fake_calls++;
    fake_stream = stream;
    fake_attributes = num_given;
    fake_first_index = indices[0];
    fake_source_order = given[0].source_order;
    fake_flags = (int)given[0].flags;
    fake_location_types = given[0].source.type | given[0].destination.type;
    for (i = 0; i < count; i++)
        if (copy_one(to[i], from[i], num_bytes[i])) {
            *failed = i;
            return 1;
        }
    return 0;
}

int cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags, int *found)
{
    (void)flags;
    *address = NULL;
    if (!strcmp(name, "cuMemcpyBatchAsync") && fake_has_batch && version >= 12080) {
        fake_version_asked = version;
        *address = (void *)cuMemcpyBatchAsync;
    }
    if (!strcmp(name, "cuGetProcAddress"))
        *address = (void *)cuGetProcAddress_v2;
    if (found)
        *found = *address ? 0 : 1;
    return 0;
}

int cuInit(unsigned flags) { return (void)flags, 0; }
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }

/* Issues many asynchronous copies in one call from Python, as an engine written in C++ does.
 *
 * Through the interpreter each copy would cost the engine's thread about a microsecond more, and the lock that lets only
 * one thread run Python. Compiled on the machine by _memcpy.py; needs no header of CUDA: the copy function is handed in,
 * cuMemcpyAsync on a GPU, the C library's memcpy in a stand-in for tests.
 */
#include <stddef.h>
#include <stdint.h>

typedef int (*copy_function)(uint64_t destination, uint64_t source, size_t num_bytes, void *stream);

/* Copies i = 0 .. count - 1 in order; stops at the first that fails. Returns how many were issued; *code is the
 * failure's, 0 if there was none. */
size_t fastswitch_copy_each(copy_function copy, const uint64_t *destinations, const uint64_t *sources,
                            const size_t *num_bytes, size_t count, void *stream, int *code)
{
    size_t i;
    *code = 0;
    for (i = 0; i < count; i++) {
        *code = copy(destinations[i], sources[i], num_bytes[i], stream);
        if (*code != 0)
            break;
    }
    return i;
}

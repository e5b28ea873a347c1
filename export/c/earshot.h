/* Keywords and words from sound, with a model of Earshot and onnxruntime's C library.
 *
 *     earshot *recogniser = earshot_open("commands.onnx", on_event, NULL, error, sizeof error);
 *     while (there_is_sound) earshot_push_int16(recogniser, samples, count);
 *     earshot_finish(recogniser);
 *     earshot_close(recogniser);
 *
 * Sound is mono at earshot_sample_rate(), in pieces of any length: however it is cut, the events are
 * the same. All memory is taken by earshot_open; onnxruntime keeps an arena of its own. Not for
 * several threads at once. C99 and POSIX.
 */
#ifndef EARSHOT_H
#define EARSHOT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct earshot earshot;

typedef enum { EARSHOT_DETECTION, EARSHOT_UTTERANCE } earshot_kind;

typedef struct {
    const char *text; /* UTF-8 */
    double start, end;
    float confidence; /* the probability that it is right */
} earshot_word;

typedef struct {
    earshot_kind kind;
    const char *text; /* UTF-8: the keyword, or what was said; valid during the call only */
    double time;      /* seconds into the sound: of a detection, when it was certain */
    double start;     /* of an utterance or a typed keyword, where it begins and ends; else 0 */
    double end;
    float score; /* of a detection, its probability */
    const earshot_word *words; /* of an utterance; valid during the call only */
    size_t word_count;
} earshot_event;

typedef void (*earshot_callback)(const earshot_event *event, void *user);

/* Open a streaming model. Returns NULL, and the reason in `error`, if that cannot be done. */
earshot *earshot_open(const char *path, earshot_callback callback, void *user, char *error,
                      size_t error_size);

/* As earshot_open, and spot these keywords: "operator, wild fire=0.8", each with the score from which
 * it is reported if that of the card will not do. A model that transcribes spots whatever it can
 * spell, and writes down no words then; another one spots only these of its own. Letters beyond ASCII
 * in lower case. "lumos (L UW M OW S)=0.6": how it is said, in the phonemes of CMUdict, in several
 * brackets if in several ways; a model that reads phonemes then finds it by both. NULL: as
 * earshot_open. */
earshot *earshot_open_keywords(const char *path, const char *keywords, earshot_callback callback,
                               void *user, char *error, size_t error_size);

int earshot_sample_rate(const earshot *recogniser);

/* Take samples in -1..1, or 16-bit ones; events come through the callback before it returns.
 * Returns 0, or -1 if the model cannot be run: see earshot_error(). */
int earshot_push(earshot *recogniser, const float *samples, size_t count);
int earshot_push_int16(earshot *recogniser, const int16_t *samples, size_t count);

/* End the sound: what look-ahead held back comes out. Only earshot_reset() or _close() may follow. */
int earshot_finish(earshot *recogniser);

/* Go back to the initial state, to the bit. */
void earshot_reset(earshot *recogniser);

const char *earshot_error(const earshot *recogniser);
void earshot_close(earshot *recogniser);

#ifdef __cplusplus
}
#endif
#endif
